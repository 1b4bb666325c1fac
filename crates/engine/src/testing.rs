//! A mount in memory, asked as a client would: the whole way from ask to answer, each plan committed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use barrier::testing::MemoryBarrier;
use barrier::{Name, Plan, View};
use crypto::SecretBytes;
use types::capability::Verb;
use types::{Path, Timestamp};

use crate::kv::Kv;
use crate::{Ask, AskError, Engine, Operation, Outcome, PlanError, Reply};

/// 2026-11-24T05:35:18.123Z, at which a mount's clock begins.
pub(crate) const START: Timestamp = Timestamp(1_795_498_518_123);
/// [`START`], as answers have it.
pub(crate) const START_TEXT: &str = "2026-11-24T05:35:18.123Z";

/// What a client would see: a status, and JSON or the text of an error. Empty when there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) warnings: Vec<String>,
}

/// One mount, and the clock of who asks.
pub(crate) struct Mount {
    barrier: Rc<MemoryBarrier>,
    root: Name,
    engine: &'static dyn Engine,
    now: Cell<Timestamp>,
}

impl Mount {
    /// KV, version 2.
    pub(crate) fn new() -> Mount {
        Mount::of(&Kv)
    }

    pub(crate) fn of(engine: &'static dyn Engine) -> Mount {
        Mount { barrier: Rc::new(MemoryBarrier::new(7)), root: Name::new("mounts/1"), engine, now: Cell::new(START) }
    }

    /// Another mount beside this one.
    pub(crate) fn beside(&self, engine: &'static dyn Engine) -> Mount {
        Mount { barrier: Rc::clone(&self.barrier), root: Name::new("mounts/2"), engine, now: self.now.clone() }
    }

    /// The same mount, served by another engine.
    pub(crate) fn served_by(&self, engine: &'static dyn Engine) -> Mount {
        Mount { barrier: Rc::clone(&self.barrier), root: self.root.clone(), engine, now: self.now.clone() }
    }

    pub(crate) fn root(&self) -> &Name {
        &self.root
    }

    /// Everything, of all mounts.
    pub(crate) fn whole_view(&self) -> View {
        self.barrier.view()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, milliseconds: u64) {
        self.now.set(Timestamp(self.now().0 + milliseconds));
    }

    pub(crate) fn view(&self) -> View {
        self.barrier.view().below(&self.root)
    }

    /// Commits a plan that was made from `view`; false: something it expects does not hold any more.
    pub(crate) fn commit(&self, view: &View, outcome: &Outcome) -> bool {
        self.commit_plan(view, &outcome.plan)
    }

    pub(crate) fn commit_plan(&self, view: &View, plan: &Plan) -> bool {
        self.barrier.commit(view, plan)
    }

    /// Parses `VERB path?query` and a body.
    pub(crate) fn parse(&self, line: &str, body: &str) -> Result<Box<dyn Operation>, AskError> {
        self.engine.parse(ask(line, body))
    }

    pub(crate) fn plan(&self, view: &View, operation: &dyn Operation) -> Result<Outcome, PlanError> {
        operation.plan(view, self.now())
    }

    /// Asks `VERB path?query`, with a body or an empty one.
    pub(crate) fn ask(&self, line: &str, body: &str) -> Answer {
        let operation = match self.parse(line, body) {
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
    pub(crate) fn check(&self, line: &str, body: &str, status: u16, want: &str) {
        let answer = self.ask(line, body);
        assert_eq!((answer.status, &*answer.body), (status, want), "{line} {body}");
    }

    /// Names and values of all records below the mount.
    pub(crate) fn records(&self) -> BTreeMap<String, Vec<u8>> {
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

/// Parses `VERB path?query` and a body, for KV, version 2.
pub(crate) fn parse(line: &str, body: &str) -> Result<Box<dyn Operation>, AskError> {
    Kv.parse(ask(line, body))
}

/// What `VERB path?query` and a body ask.
pub(crate) fn ask(line: &str, body: &str) -> Ask {
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
    Ask { verb, path: Path::parse(path).unwrap(), body, query: query.collect() }
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
        Reply::Details(entries) => (200, text(crate::details(&entries))),
    };
    Answer { status, body, warnings: outcome.warnings }
}

/// What an answer says of a version.
pub(crate) fn version(number: u64, created: &str, deleted: &str, destroyed: bool) -> String {
    format!(
        r#"{{"created_time":"{created}","custom_metadata":null,"deletion_time":"{deleted}","destroyed":{destroyed},"version":{number}}}"#
    )
}

/// An answer with data.
pub(crate) fn data(data: &str, version: &str) -> String {
    format!(r#"{{"data":{data},"metadata":{version}}}"#)
}
