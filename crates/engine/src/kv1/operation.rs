//! What may be asked of KV, version 1, and of a cubbyhole: the routes, and what each ask comes to.
//!
//! Always: a secret's path is not empty and does not end in a slash. Errors hold nothing of the body.

use barrier::{Plan, View};
use crypto::SecretBytes;
use types::capability::Verb;
use types::{Path, Timestamp};

use super::{secret_name, secrets_folder};
use crate::body::{Object, SignedDuration, duration};
use crate::kv::DATA_BYTES_MAX;
use crate::kv::upgrade::{check_not_begun, upgrade_name};
use crate::listing::{self, PAGE_FIELDS, Page};
use crate::route::{Access, Captures, Field, FieldKind, Method, Route, find};
use crate::{Ask, AskError, LeaseDuration, Operation, Outcome, PlanError, Reply};

/// Members of a secret that say how long it may be taken for current; the first that is there holds.
const TTL_MEMBERS: [&str; 2] = ["ttl", "lease"];

/// Which of the two that share this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A mount.
    Kv,
    /// One token's own folder.
    Cubbyhole,
}

/// A parsed ask. No `Debug`: it holds secrets.
pub(super) struct Kv1Operation {
    form: Form,
    act: Act,
}

/// What is done, by either.
pub(super) enum Act {
    Read(Path),
    Write {
        path: Path,
        secret: SecretBytes,
    },
    Delete(Path),
    List {
        folder: Path,
        page: Page,
        is_recursive: bool,
    },
    /// There cannot be anything.
    Nothing,
}

/// Makes an act of an ask whose route is known.
pub(super) type Parse = fn(&Ask, &Captures) -> Result<Act, AskError>;

const LIST: Method<Parse> = Method {
    verb: Verb::List,
    summary: "Lists the names in a folder; those of folders end in a slash.",
    fields: &[],
    query: PAGE_FIELDS,
    handler: list,
};
const SCAN: Method<Parse> = Method {
    verb: Verb::Scan,
    summary: "Lists the names of all secrets in a folder and below.",
    fields: &[],
    query: PAGE_FIELDS,
    handler: list,
};

/// Everything that may be asked.
pub(super) static ROUTES: &[Route<Parse>] = &[
    Route { pattern: "", about: "The names of all secrets.", parameters: &[], methods: &[LIST, SCAN], access: Access::Token },
    Route {
        pattern: "{path...}",
        about: "A secret: an object of any content, kept as it is written, without versions.",
        parameters: &[Field::required("path", FieldKind::Text, "Where the secret is; for lists: the folder.")],
        methods: &[
            Method {
                verb: Verb::Read,
                summary: "Reads a secret.",
                fields: &[],
                query: &[],
                handler: |_, captures| Ok(Act::Read(captures.path("path"))),
            },
            Method {
                verb: Verb::Write,
                summary: "Writes a secret: the whole body. What was there before is gone.",
                fields: &[Field::optional(
                    "ttl",
                    FieldKind::Duration,
                    "How long clients may take the secret for current. Part of the secret, as every other member of the body is.",
                )],
                query: &[],
                handler: write,
            },
            Method {
                verb: Verb::Delete,
                summary: "Erases a secret.",
                fields: &[],
                query: &[],
                handler: |_, captures| Ok(Act::Delete(captures.path("path"))),
            },
            LIST,
            SCAN,
        ],
        access: Access::Token,
    },
];

/// Finds the operation that is asked for.
pub(super) fn parse(ask: &Ask, form: Form) -> Result<Kv1Operation, AskError> {
    let invalid = |text: &str| Err(AskError::Invalid(text.to_owned()));
    let is_folder = ask.path.is_folder();
    let act = match (ask.verb, is_folder) {
        (Verb::Patch, _) => return Err(AskError::UnsupportedOperation),
        (Verb::Write | Verb::Delete, true) if ask.path.is_root() => return invalid("missing path (name the secret)"),
        (Verb::Write, true) => return invalid("cannot write to a path ending in '/'"),
        (Verb::Delete, true) => return invalid("cannot delete a path ending in '/' (leave the slash out)"),
        // A folder holds nothing of its own.
        (Verb::Read, true) => Act::Nothing,
        (verb, _) => {
            let (route, captures) = find(ROUTES, &ask.path).ok_or(AskError::UnsupportedPath)?;
            let method = route.method(verb).ok_or(AskError::UnsupportedOperation)?;
            (method.handler)(ask, &captures)?
        }
    };
    Ok(Kv1Operation { form, act })
}

fn write(ask: &Ask, captures: &Captures) -> Result<Act, AskError> {
    // EXPOSE: the body is parsed.
    let text = ask.body.expose().trim_ascii();
    if Object::parse_body(text)?.len() == 0 {
        return Err(AskError::Invalid("missing data fields".to_owned()));
    }
    if text.len() > DATA_BYTES_MAX {
        return Err(AskError::Invalid(format!("the data is {} bytes long (at most {DATA_BYTES_MAX})", text.len())));
    }
    Ok(Act::Write { path: captures.path("path"), secret: copy(text) })
}

fn list(ask: &Ask, captures: &Captures) -> Result<Act, AskError> {
    let folder = captures.get("path").map_or_else(Path::root, |_| captures.path("path"));
    Ok(Act::List { folder, page: Page::parse(ask)?, is_recursive: ask.verb == Verb::Scan })
}

impl Operation for Kv1Operation {
    fn is_create(&self, view: &View) -> Result<Option<bool>, PlanError> {
        match &self.act {
            Act::Write { path, .. } => Ok(Some(!view.contains(&secret_name(path))?)),
            _ => Ok(None),
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let mut plan = Plan::new();
        if self.form == Form::Kv {
            // Nothing of version 1 is served, and above all nothing written, once the mount is on its way to version 2.
            plan.expect(upgrade_name(), check_not_begun(view)?);
        }
        match &self.act {
            Act::Read(path) => {
                let Some(secret) = view.read(&secret_name(path))?.value else { return Ok(Outcome::answer(Reply::NotFound)) };
                let lease_duration = self.lease_duration(&secret)?;
                Ok(Outcome::answer(Reply::Data(secret)).lasting(lease_duration))
            }
            Act::Write { path, secret } => {
                let name = secret_name(path);
                plan.expect(name.clone(), view.read(&name)?.revision);
                // EXPOSE: the secret goes into its record.
                plan.put(name, copy(secret.expose()));
                Ok(Outcome::new(plan, Reply::Done))
            }
            Act::Delete(path) => {
                let name = secret_name(path);
                let found = view.read(&name)?;
                if found.value.is_some() {
                    plan.expect(name.clone(), found.revision);
                    plan.delete(name);
                }
                Ok(Outcome::new(plan, Reply::Done))
            }
            Act::List { folder, page, is_recursive } => {
                let folder = secrets_folder().join(folder.as_str());
                let names = if *is_recursive { page.descendants(view, &folder)? } else { page.children(view, &folder)? };
                Ok(Outcome::answer(listing::reply(names)))
            }
            Act::Nothing => Ok(Outcome::answer(Reply::NotFound)),
        }
    }
}

impl Kv1Operation {
    fn lease_duration(&self, secret: &SecretBytes) -> Result<LeaseDuration, PlanError> {
        if self.form == Form::Cubbyhole {
            return Ok(LeaseDuration::Unsaid);
        }
        // EXPOSE: a member of the secret is read.
        let text = std::str::from_utf8(secret.expose()).map_err(|_| PlanError::Malformed)?;
        let members = Object::parse(text).ok_or(PlanError::Malformed)?;
        let ttl = TTL_MEMBERS.iter().find_map(|name| members.member(name)).and_then(duration);
        Ok(match ttl {
            Some(SignedDuration::Positive(ttl)) => LeaseDuration::Exactly(ttl),
            Some(SignedDuration::Negative) | None => LeaseDuration::MountDefault,
        })
    }
}

fn copy(secret: &[u8]) -> SecretBytes {
    SecretBytes::with_len(secret.len(), |bytes| bytes.copy_from_slice(secret))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kv1::{Cubbyhole, Kv1};
    use crate::testing::Mount;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(crate::route::check(ROUTES), Vec::<String>::new());
    }

    #[test]
    fn secrets_are_written_read_and_erased() {
        for mount in [Mount::of(&Kv1), Mount::of(&Cubbyhole)] {
            let text = r#"{"z":1.50, "a":1e400,"a":[null] }"#;
            mount.check("GET a", "", 404, "");
            mount.check("POST a", &format!(" {text}\n"), 204, "");
            mount.check("GET a", "", 200, text);
            assert_eq!(mount.records().into_iter().collect::<Vec<_>>(), [("v1/a".to_owned(), text.as_bytes().to_vec())]);
            mount.check("POST a", r#"{"b":2}"#, 204, "");
            mount.check("GET a", "", 200, r#"{"b":2}"#);
            mount.check("POST a/b", r#"{"c":3}"#, 204, "");
            mount.check("DELETE a", "", 204, "");
            mount.check("GET a", "", 404, "");
            mount.check("DELETE a", "", 204, "");
            mount.check("GET a/b", "", 200, r#"{"c":3}"#);
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_and_changes_nothing() {
        let mount = Mount::of(&Kv1);
        mount.ask("POST a", r#"{"b":2}"#);
        let before = mount.records();
        let slash = "cannot write to a path ending in '/'";
        for (line, body, status, want) in [
            ("POST a", "", 400, "missing data fields"),
            ("POST a", "{}", 400, "missing data fields"),
            ("POST a", "null", 400, "missing data fields"),
            ("POST a", "[1]", 400, "failed to decode JSON input: the body must be an object"),
            ("POST a", "{", 400, "failed to decode JSON input: unexpected end at line 1, column 1"),
            ("POST a", r#"{"\ud800":1}"#, 400, "failed to decode JSON input: a name in the object is no valid text"),
            ("PATCH a", r#"{"b":3}"#, 405, "unsupported operation"),
            ("PATCH ", r#"{"b":3}"#, 405, "unsupported operation"),
            ("POST ", r#"{"b":3}"#, 400, "missing path (name the secret)"),
            ("DELETE ", "", 400, "missing path (name the secret)"),
            ("POST a/", r#"{"b":3}"#, 400, slash),
            ("DELETE a/", "", 400, "cannot delete a path ending in '/' (leave the slash out)"),
            ("GET ", "", 404, ""),
            ("GET a/", "", 404, ""),
            ("LIST ?limit=x", "", 400, "Field validation failed: error converting input for field \"limit\": expected a whole number"),
        ] {
            mount.check(line, body, status, want);
        }
        assert!(mount.records() == before);
    }

    #[test]
    fn the_largest_secret_and_one_byte_more() {
        let mount = Mount::of(&Kv1);
        let body = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(mount.ask("POST a", &body(DATA_BYTES_MAX)).status, 204);
        let want = format!("the data is {} bytes long (at most {DATA_BYTES_MAX})", DATA_BYTES_MAX + 1);
        mount.check("POST a", &body(DATA_BYTES_MAX + 1), 400, &want);
    }

    #[test]
    fn lists_and_scans() {
        let mount = Mount::of(&Kv1);
        mount.check("LIST ", "", 404, "");
        mount.check("SCAN ", "", 404, "");
        for path in ["f/h/i", "f/g", "f", "f.x", "a"] {
            mount.ask(&format!("POST {path}"), r#"{"x":1}"#);
        }
        for (line, want) in [
            ("LIST ", r#"["a","f","f.x","f/"]"#),
            ("LIST f", r#"["g","h/"]"#),
            ("LIST f/", r#"["g","h/"]"#),
            ("LIST ?after=f&limit=1", r#"["f.x"]"#),
            ("SCAN ", r#"["a","f","f.x","f/g","f/h/i"]"#),
            ("SCAN f/", r#"["g","h/i"]"#),
            ("SCAN ?after=f.x&limit=1", r#"["f/g"]"#),
            ("SCAN ?after=f/g", r#"["f/h/i"]"#),
        ] {
            mount.check(line, "", 200, want);
        }
        for line in ["LIST a", "SCAN a", "LIST nope", "SCAN nope/"] {
            mount.check(line, "", 404, "");
        }
    }

    #[test]
    fn a_write_creates_what_is_not_there() {
        let mount = Mount::of(&Kv1);
        let is_create = |line: &str, body: &str| mount.parse(line, body).ok().unwrap().is_create(&mount.view()).unwrap();
        assert_eq!(is_create("POST a", r#"{"x":1}"#), Some(true));
        mount.ask("POST a", r#"{"x":1}"#);
        assert_eq!(is_create("POST a", r#"{"x":1}"#), Some(false));
        assert_eq!(is_create("POST a/b", r#"{"x":1}"#), Some(true));
        assert_eq!(is_create("GET a", ""), None);
        assert_eq!(is_create("DELETE a", ""), None);
    }

    /// Else the permission to create would be enough to replace what somebody else has just written.
    #[test]
    fn of_two_racing_writes_one_is_planned_again() {
        let mount = Mount::of(&Kv1);
        let write = mount.parse("POST a", r#"{"x":1}"#).ok().unwrap();
        let view = mount.view();
        let outcome = mount.plan(&view, &*write).unwrap();
        mount.ask("POST a", r#"{"x":2}"#);
        assert!(!mount.commit(&view, &outcome));
        mount.check("GET a", "", 200, r#"{"x":2}"#);
    }

    #[test]
    fn the_secret_says_how_long_it_holds() {
        use LeaseDuration::{Exactly, MountDefault, Unsaid};
        let seconds = |seconds| Exactly(Duration::from_secs(seconds));
        for (body, want) in [
            (r#"{"x":1}"#, MountDefault),
            (r#"{"ttl":"1h"}"#, seconds(3600)),
            (r#"{"ttl":60}"#, seconds(60)),
            (r#"{"ttl":"90"}"#, seconds(90)),
            (r#"{"lease":"30m"}"#, seconds(1800)),
            (r#"{"lease":"5m","ttl":"3m"}"#, seconds(180)),
            (r#"{"lease":"5m","ttl":"bad"}"#, MountDefault),
            (r#"{"ttl":null}"#, seconds(0)),
            (r#"{"ttl":""}"#, seconds(0)),
            (r#"{"ttl":0}"#, seconds(0)),
            (r#"{"ttl":-5}"#, MountDefault),
            (r#"{"ttl":1.5}"#, MountDefault),
            (r#"{"ttl":true}"#, MountDefault),
            (r#"{"ttl":[1]}"#, MountDefault),
            (r#"{"ttl":{}}"#, MountDefault),
            (r#"{"ttl":"99999999999h"}"#, MountDefault),
        ] {
            for (mount, want) in [(Mount::of(&Kv1), want), (Mount::of(&Cubbyhole), Unsaid)] {
                mount.ask("POST a", body);
                let read = mount.parse("GET a", "").ok().unwrap();
                assert_eq!(mount.plan(&mount.view(), &*read).unwrap().lease_duration, want, "{body}");
            }
        }
    }

    #[test]
    fn nothing_is_served_while_the_mount_is_upgraded() {
        let mount = Mount::of(&Kv1);
        mount.ask("POST a", r#"{"x":1}"#);
        let write = mount.parse("POST b", r#"{"x":1}"#).ok().unwrap();
        let view = mount.view();
        let outcome = mount.plan(&view, &*write).unwrap();
        let step = crate::kv::upgrade::step(&mount.view(), mount.now()).unwrap();
        assert!(mount.commit_plan(&mount.view(), &step.plan));
        assert!(!mount.commit(&view, &outcome), "a write that was planned before does not slip in");
        for (line, body) in [("GET a", ""), ("POST a", r#"{"x":2}"#), ("DELETE a", ""), ("LIST ", ""), ("SCAN ", "")] {
            mount.check(line, body, 400, "this mount is being upgraded to version 2 (try again when that is done)");
        }
    }
}
