//! What may be asked of KV: the routes, and each ask parsed once into a typed operation.
//!
//! Always: a secret's path is not empty and does not end in a slash. Errors hold nothing of the body.

use barrier::View;
use types::capability::Verb;
use types::{Path, Timestamp};

use super::{config, data, metadata, metadata_name, subkeys, versions};
use crate::body::{Object, query_integer};
use crate::listing::PAGE_FIELDS;
use crate::route::{Access, Captures, Field, FieldKind, Method, Route, find};
use crate::{Ask, AskError, Operation, Outcome, PlanError, Reply};

/// A parsed ask. No `Debug`: it holds secrets.
pub(super) enum KvOperation {
    ReadData(data::Read),
    WriteData(data::Write),
    PatchData(data::Patch),
    ReadSubkeys(subkeys::Read),
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
            KvOperation::ReadSubkeys(read) => read.plan(view, now),
            KvOperation::DeleteNewest(delete) => delete.plan(view, now),
            KvOperation::ChangeVersions(change) => change.plan(view, now),
            KvOperation::ReadMetadata(read) => read.plan(view),
            KvOperation::WriteMetadata(write) => write.plan(view, now),
            KvOperation::DeleteMetadata(delete) => delete.plan(view),
            KvOperation::List(list) => list.plan(view),
            KvOperation::ReadConfig(read) => read.plan(view),
            KvOperation::WriteConfig(write) => write.plan(view),
            KvOperation::Nowhere(advice) => Ok(Outcome::answer(Reply::NotFound).with_warnings(vec![(*advice).to_owned()])),
        }
    }
}

/// Makes an operation of an ask whose route is known.
pub(super) type Parse = fn(&Ask, &Captures) -> Result<KvOperation, AskError>;

const PATH: Field = Field::required("path", FieldKind::Text, "Where the secret is.");
const FOLDER: Field = Field::required("path", FieldKind::Text, "Where the secret is; for lists: the folder.");
const VERSION: Field = Field::optional("version", FieldKind::Integer, "The version's number. Without it, or with 0: the newest.");
const DEPTH: Field =
    Field::optional("depth", FieldKind::Integer, "Names of so many levels are shown. Without it, or with 0: of all levels.");
const DATA: Field = Field::required("data", FieldKind::Map, "The secret: an object of any content, kept as it is written, or null.");
const OPTIONS: Field = Field::optional(
    "options",
    FieldKind::Map,
    "With \"cas\", the write is done only if the newest version has this number; 0: only if there is no version.",
);
const VERSIONS: Field =
    Field::required("versions", FieldKind::Integers, "The versions' numbers. Those that are not there are passed over.");
const MAX_VERSIONS: Field = Field::optional(
    "max_versions",
    FieldKind::Integer,
    "How many versions a secret keeps: the larger of what mount and secret say, and 10 if both say 0.",
);
const CAS_REQUIRED: Field = Field::optional("cas_required", FieldKind::Boolean, "Each write of data must come with the option \"cas\".");
const METADATA_CAS_REQUIRED: Field =
    Field::optional("metadata_cas_required", FieldKind::Boolean, "Each write of metadata must come with \"metadata_cas\".");
const METADATA_FIELDS: &[Field] = &[
    MAX_VERSIONS,
    CAS_REQUIRED,
    METADATA_CAS_REQUIRED,
    Field::optional(
        "delete_version_after",
        FieldKind::Duration,
        "A new version is deleted this long after it was written: the sooner of what mount and secret say. 0: never.",
    ),
    Field::optional("custom_metadata", FieldKind::Map, "Notes on the secret: texts by name. They are not part of its data."),
    Field::optional(
        "metadata_cas",
        FieldKind::Integer,
        "The write is done only if the metadata was written so many times; 0: only if there is none.",
    ),
];

/// Everything that may be asked.
pub(super) static ROUTES: &[Route<Parse>] = &[
    Route {
        pattern: "config",
        about: "The settings of the whole mount.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::Read, summary: "Reads the mount's settings.", fields: &[], query: &[], handler: read_config },
            Method {
                verb: Verb::Write,
                summary: "Changes the mount's settings; what is not given stays as it is.",
                fields: &[
                    MAX_VERSIONS,
                    CAS_REQUIRED,
                    METADATA_CAS_REQUIRED,
                    Field::optional(
                        "delete_version_after",
                        FieldKind::Duration,
                        "A new version is deleted this long after it was written. 0: never, unless its secret says so; negative: never at all.",
                    ),
                ],
                query: &[],
                handler: write_config,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "data/{path...}",
        about: "A secret's data. Each write makes a new version and keeps the older ones, up to a number that mount and secret set.",
        parameters: &[PATH],
        methods: &[
            Method { verb: Verb::Read, summary: "Reads a version's data.", fields: &[], query: &[VERSION], handler: read_data },
            Method { verb: Verb::Write, summary: "Writes a new version.", fields: &[DATA, OPTIONS], query: &[], handler: write_data },
            Method {
                verb: Verb::Patch,
                summary: "Writes a new version that is the newest one, changed by a merge patch (RFC 7396).",
                fields: &[DATA, OPTIONS],
                query: &[],
                handler: patch_data,
            },
            Method {
                verb: Verb::Delete,
                summary: "Deletes the newest version; it can be undeleted.",
                fields: &[],
                query: &[],
                handler: delete_newest,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "delete/{path...}",
        about: "Deletion of chosen versions.",
        parameters: &[PATH],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Deletes versions; they can be undeleted.",
            fields: &[VERSIONS],
            query: &[],
            handler: |ask, captures| change_versions(versions::Kind::Delete, ask, captures),
        }],
        access: Access::Token,
    },
    Route {
        pattern: "undelete/{path...}",
        about: "What brings deleted versions back.",
        parameters: &[PATH],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Brings deleted versions back.",
            fields: &[VERSIONS],
            query: &[],
            handler: |ask, captures| change_versions(versions::Kind::Undelete, ask, captures),
        }],
        access: Access::Token,
    },
    Route {
        pattern: "destroy/{path...}",
        about: "Destruction of chosen versions.",
        parameters: &[PATH],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Erases the data of versions for good.",
            fields: &[VERSIONS],
            query: &[],
            handler: |ask, captures| change_versions(versions::Kind::Destroy, ask, captures),
        }],
        access: Access::Token,
    },
    Route {
        pattern: "subkeys/{path...}",
        about: "The names in a secret's data, without its values.",
        parameters: &[PATH],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Reads the names in a version's data.",
            fields: &[],
            query: &[VERSION, DEPTH],
            handler: read_subkeys,
        }],
        access: Access::Token,
    },
    Route { pattern: "metadata", about: "The names of all secrets.", parameters: &[], methods: &[LIST, SCAN], access: Access::Token },
    Route {
        pattern: "metadata/{path...}",
        about: "All of a secret but its data: its versions, its settings and notes on it.",
        parameters: &[FOLDER],
        methods: &[
            Method { verb: Verb::Read, summary: "Reads a secret's metadata.", fields: &[], query: &[], handler: read_metadata },
            Method {
                verb: Verb::Write,
                summary: "Changes a secret's metadata; what is not given stays as it is.",
                fields: METADATA_FIELDS,
                query: &[],
                handler: write_metadata,
            },
            Method {
                verb: Verb::Patch,
                summary: "Changes the metadata of a secret that is there; custom metadata is merged (RFC 7396).",
                fields: METADATA_FIELDS,
                query: &[],
                handler: patch_metadata,
            },
            Method {
                verb: Verb::Delete,
                summary: "Erases a secret with all its versions, for good.",
                fields: &[],
                query: &[],
                handler: delete_metadata,
            },
            LIST,
            SCAN,
        ],
        access: Access::Token,
    },
    Route {
        pattern: "detailed-metadata",
        about: "The names of all secrets, with the metadata of each.",
        parameters: &[],
        methods: &[LIST_DETAILED, SCAN_DETAILED],
        access: Access::Token,
    },
    Route {
        pattern: "detailed-metadata/{path...}",
        about: "The names of a folder's secrets, with the metadata of each.",
        parameters: &[Field::required("path", FieldKind::Text, "The folder.")],
        methods: &[LIST_DETAILED, SCAN_DETAILED],
        access: Access::Token,
    },
];

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
const LIST_DETAILED: Method<Parse> = Method {
    verb: Verb::List,
    summary: "Lists the names in a folder, with the metadata of each secret.",
    fields: &[],
    query: PAGE_FIELDS,
    handler: list_detailed,
};
const SCAN_DETAILED: Method<Parse> = Method {
    verb: Verb::Scan,
    summary: "Lists the names of all secrets in a folder and below, with the metadata of each.",
    fields: &[],
    query: PAGE_FIELDS,
    handler: list_detailed,
};

const ADVICE_AREA: &str = "KV version 2 has no such path: secrets are below data/, subkeys/, metadata/ and detailed-metadata/, versions below \
                           delete/, undelete/ and destroy/, and settings at config";
const ADVICE_ROOT: &str = "this path names no secret: write its name after the slash (LIST metadata/ shows the names)";
const ADVICE_FOLDER: &str = "a path ending in '/' names no secret";

/// Finds the operation that is asked for.
pub(super) fn parse(ask: &Ask) -> Result<KvOperation, AskError> {
    let is_folder = ask.path.is_folder() && !ask.path.is_root();
    if is_folder && matches!(ask.verb, Verb::Write | Verb::Patch) {
        return Err(AskError::Invalid("cannot write to a path ending in '/'".to_owned()));
    }
    let is_list = matches!(ask.verb, Verb::List | Verb::Scan);
    let Some((route, captures)) = find(ROUTES, &ask.path) else {
        return match is_area(&ask.path) {
            true if is_list => Err(AskError::UnsupportedOperation),
            true => Ok(KvOperation::Nowhere(ADVICE_ROOT)),
            false => Ok(KvOperation::Nowhere(ADVICE_AREA)),
        };
    };
    match route.method(ask.verb) {
        Some(_) if is_folder && ask.verb == Verb::Delete => {
            Err(AskError::Invalid("cannot delete a path ending in '/' (leave the slash out)".to_owned()))
        }
        // A folder holds no data of its own.
        Some(_) if is_folder && !is_list => Ok(KvOperation::Nowhere(ADVICE_FOLDER)),
        Some(method) => (method.handler)(ask, &captures),
        // What is at the path itself is all that there is: nothing to list, and nothing but a list.
        None if route.parameters.is_empty() && is_list => Ok(KvOperation::Nowhere(ADVICE_AREA)),
        None if route.parameters.is_empty() && route.method(Verb::List).is_some() => Ok(KvOperation::Nowhere(ADVICE_ROOT)),
        None => Err(AskError::UnsupportedOperation),
    }
}

/// Whether secrets lie below this path.
fn is_area(path: &Path) -> bool {
    let path = path.as_str().trim_end_matches('/');
    ROUTES.iter().any(|route| route.pattern.strip_prefix(path).is_some_and(|rest| rest.starts_with("/{")))
}

fn body(ask: &Ask) -> Result<Object<'_>, AskError> {
    // EXPOSE: the body is parsed.
    Object::parse_body(ask.body.expose())
}

fn read_config(_: &Ask, _: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::ReadConfig(config::Read))
}

fn write_config(ask: &Ask, _: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::WriteConfig(config::Write::parse(&body(ask)?)?))
}

fn read_data(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::ReadData(data::Read { version: version(ask)?, path: captures.path("path") }))
}

fn write_data(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::WriteData(data::Write::parse(captures.path("path"), &body(ask)?)?))
}

fn patch_data(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::PatchData(data::Patch::parse(captures.path("path"), &body(ask)?)?))
}

fn delete_newest(_: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::DeleteNewest(versions::DeleteNewest { path: captures.path("path") }))
}

fn change_versions(kind: versions::Kind, ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::ChangeVersions(versions::Change::parse(kind, captures.path("path"), &body(ask)?)?))
}

fn read_subkeys(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    // Below zero is the least that can be shown, as in OpenBao.
    let depth = match query_integer(ask, "depth")? {
        0 => None,
        depth => Some(usize::try_from(depth).unwrap_or(1)),
    };
    Ok(KvOperation::ReadSubkeys(subkeys::Read { version: version(ask)?, depth, path: captures.path("path") }))
}

fn read_metadata(_: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::ReadMetadata(metadata::Read { path: captures.path("path") }))
}

fn write_metadata(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::WriteMetadata(metadata::Write::parse(captures.path("path"), &body(ask)?)?))
}

fn patch_metadata(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::WriteMetadata(metadata::Write::parse_patch(captures.path("path"), &body(ask)?)?))
}

fn delete_metadata(_: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::DeleteMetadata(metadata::Delete { path: captures.path("path") }))
}

fn list(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::List(metadata::List::parse(folder(captures), ask, false)?))
}

fn list_detailed(ask: &Ask, captures: &Captures) -> Result<KvOperation, AskError> {
    Ok(KvOperation::List(metadata::List::parse(folder(captures), ask, true)?))
}

/// The folder to list: the root when the route names none.
fn folder(captures: &Captures) -> Path {
    captures.get("path").map_or_else(Path::root, |_| captures.path("path"))
}

/// Which version a read asks for; `None`: the newest.
fn version(ask: &Ask) -> Result<Option<u64>, AskError> {
    let number = query_integer(ask, "version")?;
    Ok(u64::try_from(number).ok().filter(|&number| number > 0))
}

#[cfg(test)]
mod tests {
    use super::ROUTES;
    use crate::testing::{Mount, START_TEXT, parse, version};

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(crate::route::check(ROUTES), Vec::<String>::new());
    }

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
            ("SCAN data", 405, "unsupported operation"),
            ("SCAN ", 404, ""),
            ("SCAN config", 404, ""),
            ("SCAN metadata", 404, ""),
            ("GET detailed-metadata", 404, ""),
            ("GET detailed-metadata/a", 405, "unsupported operation"),
            ("GET subkeys", 404, ""),
            ("GET subkeys/a/", 404, ""),
            ("LIST subkeys", 405, "unsupported operation"),
            ("LIST subkeys/a", 405, "unsupported operation"),
            ("POST subkeys/a", 405, "unsupported operation"),
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
