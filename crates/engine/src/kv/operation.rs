//! What may be asked of KV: the routes, parsed once into one typed operation each.
//!
//! Always: a secret's path is not empty and does not end in a slash. Errors hold nothing of the body.

use barrier::View;
use types::capability::Verb;
use types::{Path, Timestamp};

use super::json::{Object, integer_in_text};
use super::{config, data, metadata, metadata_name, versions};
use crate::{Ask, AskError, Operation, Outcome, PlanError, Reply};

/// A parsed ask. No `Debug`: it holds secrets.
pub(super) enum KvOperation {
    ReadData(data::Read),
    WriteData(data::Write),
    PatchData(data::Patch),
    DeleteNewest(versions::DeleteNewest),
    ChangeVersions(versions::Change),
    ReadMetadata(metadata::Read),
    WriteMetadata(metadata::Write),
    DeleteMetadata(metadata::Delete),
    List(metadata::List),
    ReadConfig(config::Read),
    WriteConfig(config::Write),
    /// There is no such path: nothing is there, and this is where to look.
    Nowhere(&'static str),
}

impl Operation for KvOperation {
    fn is_create(&self, view: &View) -> Result<Option<bool>, PlanError> {
        let path = match self {
            KvOperation::WriteData(write) => write.path(),
            KvOperation::WriteMetadata(write) if !write.is_patch() => write.path(),
            _ => return Ok(None),
        };
        Ok(Some(!view.contains(&metadata_name(path))?))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        match self {
            KvOperation::ReadData(read) => read.plan(view, now),
            KvOperation::WriteData(write) => write.plan(view, now),
            KvOperation::PatchData(patch) => patch.plan(view, now),
            KvOperation::DeleteNewest(delete) => delete.plan(view, now),
            KvOperation::ChangeVersions(change) => change.plan(view, now),
            KvOperation::ReadMetadata(read) => read.plan(view),
            KvOperation::WriteMetadata(write) => write.plan(view, now),
            KvOperation::DeleteMetadata(delete) => delete.plan(view),
            KvOperation::List(list) => list.plan(view),
            KvOperation::ReadConfig(read) => read.plan(view),
            KvOperation::WriteConfig(write) => write.plan(view),
            KvOperation::Nowhere(advice) => Ok(Outcome { warnings: vec![(*advice).to_owned()], ..Outcome::answer(Reply::NotFound) }),
        }
    }
}

/// The first segment of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Area {
    Data,
    Delete,
    Undelete,
    Destroy,
    Metadata,
}

const ADVICE_AREA: &str = "KV version 2 has no such path: secrets are below data/ and metadata/, versions below delete/, undelete/ and destroy/, \
                           and settings at config";
const ADVICE_ROOT: &str = "this path names no secret: write its name after the slash (LIST metadata/ shows the names)";

/// Finds the operation that is asked for.
pub(super) fn parse(ask: &Ask) -> Result<KvOperation, AskError> {
    // EXPOSE: the body is parsed.
    let body = || Object::parse_body(ask.body.expose());
    let is_folder = ask.path.is_folder();
    if is_folder && matches!(ask.verb, Verb::Write | Verb::Patch) {
        return Err(AskError::Invalid("cannot write to a path ending in '/'".to_owned()));
    }
    if ask.path.as_str() == "config" && !matches!(ask.verb, Verb::List | Verb::Scan) {
        return match ask.verb {
            Verb::Read => Ok(KvOperation::ReadConfig(config::Read)),
            Verb::Write => Ok(KvOperation::WriteConfig(config::Write::parse(&body()?)?)),
            _ => Err(AskError::UnsupportedOperation),
        };
    }
    let Some((area, rest)) = split(&ask.path) else { return Ok(KvOperation::Nowhere(ADVICE_AREA)) };
    if area == Area::Metadata && ask.verb == Verb::List {
        return Ok(KvOperation::List(metadata::List::parse(rest.without_folder(), ask)?));
    }
    if !supports(area, ask.verb) {
        return Err(AskError::UnsupportedOperation);
    }
    if is_folder && ask.verb == Verb::Delete {
        return Err(AskError::Invalid("cannot delete a path ending in '/' (leave the slash out)".to_owned()));
    }
    if rest.is_folder() {
        // A folder holds no data of its own. Without a slash it is the area itself, which is no path at all.
        return if is_folder {
            Ok(KvOperation::Nowhere("a path ending in '/' names no secret"))
        } else {
            Ok(KvOperation::Nowhere(ADVICE_ROOT))
        };
    }
    let path = rest;
    Ok(match (area, ask.verb) {
        (Area::Data, Verb::Read) => KvOperation::ReadData(data::Read { version: version(ask)?, path }),
        (Area::Data, Verb::Write) => KvOperation::WriteData(data::Write::parse(path, &body()?)?),
        (Area::Data, Verb::Patch) => KvOperation::PatchData(data::Patch::parse(path, &body()?)?),
        (Area::Data, _) => KvOperation::DeleteNewest(versions::DeleteNewest { path }),
        (Area::Delete, _) => KvOperation::ChangeVersions(versions::Change::parse(versions::Kind::Delete, path, &body()?)?),
        (Area::Undelete, _) => KvOperation::ChangeVersions(versions::Change::parse(versions::Kind::Undelete, path, &body()?)?),
        (Area::Destroy, _) => KvOperation::ChangeVersions(versions::Change::parse(versions::Kind::Destroy, path, &body()?)?),
        (Area::Metadata, Verb::Read) => KvOperation::ReadMetadata(metadata::Read { path }),
        (Area::Metadata, Verb::Write) => KvOperation::WriteMetadata(metadata::Write::parse(path, &body()?)?),
        (Area::Metadata, Verb::Patch) => KvOperation::WriteMetadata(metadata::Write::parse_patch(path, &body()?)?),
        (Area::Metadata, _) => KvOperation::DeleteMetadata(metadata::Delete { path }),
    })
}

/// What may be asked of an area, but for listing.
fn supports(area: Area, verb: Verb) -> bool {
    match area {
        Area::Data | Area::Metadata => matches!(verb, Verb::Read | Verb::Write | Verb::Patch | Verb::Delete),
        Area::Delete | Area::Undelete | Area::Destroy => verb == Verb::Write,
    }
}

/// The area, and what follows; `None` if there is no such area.
fn split(path: &Path) -> Option<(Area, Path)> {
    let name = path.segments().next()?;
    let area = match name {
        "data" => Area::Data,
        "delete" => Area::Delete,
        "undelete" => Area::Undelete,
        "destroy" => Area::Destroy,
        "metadata" => Area::Metadata,
        _ => return None,
    };
    let prefix = Path::parse(name).expect("a segment of a path is a path");
    let rest = path.strip_prefix(&prefix).expect("the path begins with its first segment");
    Some((area, rest))
}

/// Which version a read asks for; `None`: the newest.
fn version(ask: &Ask) -> Result<Option<u64>, AskError> {
    let number = integer_parameter(ask, "version")?;
    Ok(u64::try_from(number).ok().filter(|&number| number > 0))
}

/// A query parameter that is a whole number; 0 if it is absent.
pub(super) fn integer_parameter(ask: &Ask, name: &str) -> Result<i64, AskError> {
    integer_in_text(ask.query(name).unwrap_or_default()).ok_or_else(|| {
        AskError::Invalid(format!("Field validation failed: error converting input for field {name:?}: expected a whole number"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Mount, START_TEXT, parse, version};

    #[test]
    fn paths_and_verbs_that_are_not_there() {
        let mount = Mount::new();
        let slash = "cannot write to a path ending in '/'";
        for (line, status, want) in [
            ("GET foo", 404, ""),
            ("GET foo/bar", 404, ""),
            ("POST foo/bar", 404, ""),
            ("LIST foo", 404, ""),
            ("GET ", 404, ""),
            ("LIST ", 404, ""),
            ("GET data", 404, ""),
            ("GET data/", 404, ""),
            ("GET data/a/", 404, ""),
            ("GET metadata", 404, ""),
            ("GET metadata/", 404, ""),
            ("POST data", 404, ""),
            ("POST delete", 404, ""),
            ("DELETE metadata", 404, ""),
            ("LIST config", 404, ""),
            ("GET config/", 404, ""),
            ("GET config/x", 404, ""),
            ("GET dataa/x", 404, ""),
            ("LIST data", 405, "unsupported operation"),
            ("LIST data/a", 405, "unsupported operation"),
            ("SCAN metadata", 405, "unsupported operation"),
            ("GET delete/a", 405, "unsupported operation"),
            ("GET undelete/a", 405, "unsupported operation"),
            ("DELETE destroy/a", 405, "unsupported operation"),
            ("DELETE config", 405, "unsupported operation"),
            ("PATCH config", 405, "unsupported operation"),
            ("POST data/", 400, slash),
            ("POST data/a/", 400, slash),
            ("PATCH data/a/", 400, slash),
            ("POST metadata/", 400, slash),
            ("POST destroy/a/", 400, slash),
            ("POST config/", 400, slash),
            ("DELETE data/a/", 400, "cannot delete a path ending in '/' (leave the slash out)"),
            ("DELETE metadata/a/", 400, "cannot delete a path ending in '/' (leave the slash out)"),
        ] {
            mount.check(line, "", status, want);
        }
        assert_eq!(mount.ask("GET foo", "").warnings, [super::ADVICE_AREA]);
        assert_eq!(mount.ask("GET data", "").warnings, [super::ADVICE_ROOT]);
        assert!(mount.ask("GET data/a", "").warnings.is_empty());
    }

    #[test]
    fn a_write_creates_while_there_is_no_metadata() {
        let mount = Mount::new();
        let is_create = |line: &str, body: &str| parse(line, body).ok().unwrap().is_create(&mount.view()).unwrap();
        let (data, metadata) = (r#"{"data":{}}"#, r#"{"max_versions":5}"#);
        assert_eq!(is_create("POST data/a", data), Some(true));
        assert_eq!(is_create("POST metadata/a", metadata), Some(true));
        for (line, body) in [("POST data/a", data), ("DELETE data/a", ""), ("POST destroy/a", r#"{"versions":[1]}"#)] {
            mount.ask(line, body);
            assert_eq!(is_create("POST data/a", data), Some(false), "after {line}");
            assert_eq!(is_create("POST metadata/a", metadata), Some(false), "after {line}");
            assert_eq!(is_create("POST data/a/b", data), Some(true));
        }
        for (line, body) in [
            ("POST config", "{}"),
            ("POST delete/b", r#"{"versions":[1]}"#),
            ("POST undelete/b", r#"{"versions":[1]}"#),
            ("POST destroy/b", r#"{"versions":[1]}"#),
            ("PATCH data/b", data),
            ("PATCH metadata/b", "{}"),
            ("GET data/b", ""),
            ("GET foo", ""),
        ] {
            assert_eq!(is_create(line, body), None, "{line}");
        }
    }

    #[test]
    fn no_answer_holds_what_is_elsewhere() {
        let mount = Mount::new();
        for path in ["canary-name", "b/canary-name", "b/c/canary-name", "d"] {
            mount.ask(&format!("POST data/{path}"), r#"{"data":{"canary-key":"canary-value"}}"#);
            mount.ask(&format!("POST metadata/{path}"), r#"{"custom_metadata":{"canary-key":"canary-value"}}"#);
        }
        mount.check("POST data/b", r#"{"data":{}}"#, 200, &version(1, START_TEXT, "", false));
        for line in [
            "GET data/b",
            "GET data/b?version=2",
            "GET data/b/c",
            "GET data/x",
            "PATCH data/b",
            "POST data/b",
            "POST metadata/b",
            "GET metadata/b",
            "GET config",
            "LIST metadata/x",
            "DELETE data/b",
            "GET data/b",
            "POST undelete/b",
            "POST destroy/b",
            "GET data/b",
            "DELETE metadata/b",
            "GET b",
        ] {
            let answer = mount.ask(line, r#"{"data":{"k":1},"max_versions":3,"versions":[1]}"#);
            assert!(!answer.body.contains("canary"), "{line}: {answer:?}");
        }
    }

    #[test]
    fn no_error_holds_what_was_sent() {
        let mount = Mount::new();
        mount.ask("POST data/a", r#"{"data":{"n":1}}"#);
        let canary = "\"canary\"";
        for (line, body) in [
            ("POST data/a", format!(r#"{{"data":{canary}}}"#)),
            ("POST data/a", format!(r#"{{"data":[{canary}]}}"#)),
            ("POST data/a", format!(r#"{{"data":{{{canary}:1}},"options":{{"cas":{canary}}}}}"#)),
            ("POST data/a", format!(r#"{{"data":{{{canary}:1}},"options":{{"cas":7}}}}"#)),
            ("POST data/a", format!(r#"{{"data":{{{canary}}}}}"#)),
            ("POST data/a", "canary".to_owned()),
            ("POST data/a", canary.to_owned()),
            ("PATCH data/a", format!(r#"{{"data":{{{canary}:{{"\ud800":1}}}}}}"#)),
            ("POST delete/a", format!(r#"{{"versions":[{canary}]}}"#)),
            ("POST config", format!(r#"{{"max_versions":{canary}}}"#)),
            ("POST config", format!(r#"{{"delete_version_after":{canary}}}"#)),
            ("POST config", format!(r#"{{"cas_required":{canary}}}"#)),
            ("POST metadata/a", format!(r#"{{"custom_metadata":{canary}}}"#)),
            ("POST metadata/a", format!(r#"{{"custom_metadata":{{{canary}:""}}}}"#)),
            ("POST metadata/a", r#"{"custom_metadata":{"canary\n":"canary\n"}}"#.to_owned()),
            ("GET data/a?version=canary", String::new()),
            ("LIST metadata?limit=canary", String::new()),
        ] {
            let answer = mount.ask(line, &body);
            assert_eq!(answer.status, 400, "{line} {body}");
            assert!(!answer.body.contains("canary"), "{line}: {}", answer.body);
        }
    }
}
