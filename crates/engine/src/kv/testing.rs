//! A mount in memory, asked as a client would: the whole way from ask to answer, each plan committed.

use std::cell::Cell;
use std::collections::BTreeMap;

use barrier::testing::MemoryBarrier;
use barrier::{Name, View};
use crypto::SecretBytes;
use types::capability::Verb;
use types::{Path, Timestamp};

use super::Kv;
use crate::{Ask, AskError, Engine, Operation, Outcome, PlanError, Reply};

/// 2026-11-24T05:35:18.123Z, at which a mount's clock begins.
pub(super) const START: Timestamp = Timestamp(1_795_498_518_123);
/// [`START`], as answers have it.
pub(super) const START_TEXT: &str = "2026-11-24T05:35:18.123Z";

/// What a client would see: a status, and JSON or the text of an error. Empty when there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) warnings: Vec<String>,
}

/// One mount, and the clock of who asks.
pub(super) struct Mount {
    barrier: MemoryBarrier,
    now: Cell<Timestamp>,
}

impl Mount {
    pub(super) fn new() -> Mount {
        Mount { barrier: MemoryBarrier::new(7), now: Cell::new(START) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Lets time pass.
    pub(super) fn wait(&self, milliseconds: u64) {
        self.now.set(Timestamp(self.now().0 + milliseconds));
    }

    pub(super) fn view(&self) -> View {
        self.barrier.view().below(&Name::new("mounts/1"))
    }

    /// Commits a plan that was made from `view`; false: something it expects does not hold any more.
    pub(super) fn commit(&self, view: &View, outcome: &Outcome) -> bool {
        self.barrier.commit(view, &outcome.plan)
    }

    pub(super) fn plan(&self, view: &View, operation: &dyn Operation) -> Result<Outcome, PlanError> {
        operation.plan(view, self.now())
    }

    /// Asks `VERB path?query`, with a body or an empty one.
    pub(super) fn ask(&self, line: &str, body: &str) -> Answer {
        let operation = match parse(line, body) {
            Ok(operation) => operation,
            Err(error) => return refused(&error),
        };
        let view = self.view();
        let outcome = match self.plan(&view, &*operation) {
            Ok(outcome) => outcome,
            Err(PlanError::Refused(text)) => return Answer { status: 400, body: text, warnings: vec![] },
            Err(error) => panic!("{line}: {error}"),
        };
        assert!(outcome.plan.is_empty() || self.commit(&view, &outcome), "nobody else writes");
        answer(outcome)
    }

    /// Asks, and compares status and body.
    #[track_caller]
    pub(super) fn check(&self, line: &str, body: &str, status: u16, want: &str) {
        let answer = self.ask(line, body);
        assert_eq!((answer.status, &*answer.body), (status, want), "{line} {body}");
    }

    /// Names and values of all records below the mount.
    pub(super) fn records(&self) -> BTreeMap<String, Vec<u8>> {
        let mut records = BTreeMap::new();
        collect(&self.view(), &Name::root(), &mut records);
        records
    }
}

fn collect(view: &View, folder: &Name, records: &mut BTreeMap<String, Vec<u8>>) {
    for child in view.children(folder).unwrap() {
        let name = folder.join(child.as_str());
        if child.is_folder() {
            collect(view, &name, records);
        } else {
            let value = view.read(&name).unwrap().value.unwrap();
            records.insert(name.as_str().to_owned(), value.expose().to_vec());
        }
    }
}

/// Parses `VERB path?query` and a body.
pub(super) fn parse(line: &str, body: &str) -> Result<Box<dyn Operation>, AskError> {
    let (verb, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let verb = match verb {
        "GET" => Verb::Read,
        "POST" => Verb::Write,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        "LIST" => Verb::List,
        "SCAN" => Verb::Scan,
        _ => panic!("{verb}"),
    };
    let body = SecretBytes::from(body.as_bytes().to_vec());
    Kv.parse(Ask { verb, path: Path::parse(path).unwrap(), body, query: query.collect() })
}

fn refused(error: &AskError) -> Answer {
    let status = match error {
        AskError::UnsupportedPath => 404,
        AskError::UnsupportedOperation => 405,
        AskError::Invalid(_) => 400,
        AskError::UnsupportedMediaType(_) => 415,
    };
    Answer { status, body: error.to_string(), warnings: vec![] }
}

fn answer(outcome: Outcome) -> Answer {
    let text = |json: SecretBytes| String::from_utf8(json.expose().to_vec()).unwrap();
    let (status, body) = match outcome.reply {
        Reply::Data(json) => (200, text(json)),
        Reply::Done => (204, String::new()),
        Reply::NotFound => (404, String::new()),
        Reply::Gone(json) => (404, text(json)),
        Reply::List(names) => (200, serde_json::to_string(&names).unwrap()),
    };
    Answer { status, body, warnings: outcome.warnings }
}

/// What an answer says of a version.
pub(super) fn version(number: u64, created: &str, deleted: &str, destroyed: bool) -> String {
    format!(
        r#"{{"created_time":"{created}","custom_metadata":null,"deletion_time":"{deleted}","destroyed":{destroyed},"version":{number}}}"#
    )
}

/// An answer with data.
pub(super) fn data(data: &str, version: &str) -> String {
    format!(r#"{{"data":{data},"metadata":{version}}}"#)
}
