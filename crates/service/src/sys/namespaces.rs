//! `sys/namespaces`, `sys/internal/ui/namespaces`: tenants, as their parent sees them.
//!
//! Always: a new namespace has its mounts from the first moment on; one that is being deleted is unusable from the first moment on, and
//! has no namespace inside it. A namespace and a mount of one parent never share a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use barrier::Plan;
use engine::kv::{CUSTOM_KEY_BYTES_MAX, CUSTOM_KEYS_MAX, CUSTOM_VALUE_BYTES_MAX};
use engine::route::{Access, Field, FieldKind, Method, Route};
use engine::{Ask, AskError};
use proto::stored::chore::Task;
use serde_json::{Map, Value, json};
use types::Path;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::due;
use crate::mount::MountTable;
use crate::namespace::{DEPTH_MAX, Namespace, check_name};
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Namespaces that one scan shows, at most.
const SCAN_MAX: usize = 10_000;

const NAME: &[Field] = &[Field::required("name", FieldKind::Text, "The namespace's name: one segment, without spaces, + or *.")];
const METADATA: &[Field] = &[Field::optional("custom_metadata", FieldKind::Map, "Names with texts, for people. Replaces what was there.")];
const METADATA_PATCH: &[Field] =
    &[Field::optional("custom_metadata", FieldKind::Map, "Names with texts to set, or with null to remove; what is not named stays.")];
const PAGE: &[Field] = &[
    Field::optional("after", FieldKind::Text, "Shows only names after this one."),
    Field::optional("limit", FieldKind::Integer, "How many names, at most; 0: all."),
];

/// What may be asked of namespaces.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "namespaces",
        about: "The namespaces inside this one.",
        parameters: &[],
        methods: &[
            Method { verb: Verb::List, summary: "Shows the namespaces right inside this one.", fields: &[], query: PAGE, handler: list },
            Method {
                verb: Verb::Scan,
                summary: "Shows every namespace inside this one, at any depth.",
                fields: &[],
                query: PAGE,
                handler: scan,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "namespaces/{name...}",
        about: "A namespace right inside this one. Those further inside are asked for in their parent.",
        parameters: NAME,
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the namespace.", fields: &[], query: &[], handler: show },
            Method {
                verb: Verb::Write,
                summary: "Makes the namespace, or sets its metadata.",
                fields: METADATA,
                query: &[],
                handler: write,
            },
            Method { verb: Verb::Patch, summary: "Changes the namespace's metadata.", fields: METADATA_PATCH, query: &[], handler: patch },
            Method {
                verb: Verb::Delete,
                summary: "Deletes the namespace and all that is in it. It must have no namespace inside it.",
                fields: &[],
                query: &[],
                handler: delete,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "internal/ui/namespaces",
        about: "The namespaces right inside this one in which the token may do anything.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows their names.", fields: &[], query: &[], handler: visible }],
        // Whoever has a token may ask, whatever its policies; they decide what is shown.
        access: Access::Anyone,
    },
];

fn shown(namespace: &Namespace) -> Value {
    json!({
        "custom_metadata": namespace.custom_metadata,
        "id": namespace.id,
        "locked": false,
        "path": namespace.shown_path(),
        "tainted": namespace.tainted,
        "uuid": namespace.uuid,
    })
}

/// The part of a list that was asked for.
struct Page {
    after: String,
    /// 0: all.
    limit: usize,
}

impl Page {
    fn of(ask: &Ask) -> Result<Page, AskError> {
        let limit = match ask.query("limit") {
            None | Some("") => 0,
            Some(text) => text.parse().map_err(|_| AskError::Invalid("limit must be a whole number, not negative".into()))?,
        };
        Ok(Page { after: ask.query("after").unwrap_or_default().to_owned(), limit })
    }

    fn take<T>(&self, mut names: BTreeMap<String, T>) -> BTreeMap<String, T> {
        let after = self.after.trim_end_matches('/');
        names.retain(|name, _| after.is_empty() || name.trim_end_matches('/') > after);
        if self.limit != 0
            && let Some(first_left_out) = names.keys().nth(self.limit).cloned()
        {
            names.split_off(&first_left_out);
        }
        names
    }
}

/// The namespaces of these paths, by their names from `scope`'s namespace on.
fn listing(scope: &Scope<'_>, names: impl IntoIterator<Item = String>, page: &Page) -> Result<Outcome, PlanError> {
    let names: BTreeMap<String, ()> = names.into_iter().map(|name| (format!("{name}/"), ())).collect();
    let mut key_info = Map::new();
    for (name, ()) in page.take(names) {
        let path =
            Path::parse(&name).and_then(|name| scope.namespace.path.join(&name.without_folder())).map_err(|_| PlanError::Malformed)?;
        if let Some(namespace) = scope.records.namespace(&path)? {
            key_info.insert(name, shown(&namespace));
        }
    }
    if key_info.is_empty() {
        return Ok(Outcome::answer(Answer::NotFound));
    }
    let keys: Vec<&String> = key_info.keys().collect();
    Ok(Outcome::data(&json!({ "keys": keys, "key_info": key_info })))
}

/// Names of the namespaces right inside `scope`'s.
fn children(scope: &Scope<'_>) -> Result<Vec<String>, PlanError> {
    let children = scope.records.view.children(&Namespace::name(&scope.namespace.path))?;
    Ok(children.iter().filter(|child| !child.is_folder()).map(|child| child.as_str().to_owned()).collect())
}

fn list(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let page = Page::of(asked.ask)?;
    Ok(planned(move |scope| listing(scope, children(scope)?, &page)))
}

fn scan(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let page = Page::of(asked.ask)?;
    Ok(planned(move |scope| {
        let names = scope.records.view.names_below(&Namespace::name(&scope.namespace.path), SCAN_MAX + 1)?;
        if names.len() > SCAN_MAX {
            return Err(PlanError::Refused(format!("more than {SCAN_MAX} namespaces (list them one by one)")));
        }
        listing(scope, names.iter().map(|name| name.as_str().to_owned()), &page)
    }))
}

fn visible(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let authority = scope.caller_authority()?.ok_or(PlanError::Denied)?;
        let mut keys = Vec::new();
        for name in children(scope)? {
            let path = Path::parse(&name).and_then(|name| scope.namespace.path.join(&name)).map_err(|_| PlanError::Malformed)?;
            let is_usable = scope.records.namespace(&path)?.is_some_and(|namespace| !namespace.tainted);
            if is_usable && authority.acl().grants_below(&path) {
                keys.push(format!("{name}/"));
            }
        }
        Ok(Outcome::data(&json!({ "keys": keys })))
    }))
}

/// The name in the path: right inside the request's namespace.
fn name(asked: &Asked<'_>) -> Result<Path, AskError> {
    let name = asked.captures.text("name");
    if name.contains('/') {
        return Err(AskError::Invalid("namespace name cannot contain / (ask in the namespace that it lies in)".into()));
    }
    Ok(asked.captures.path("name"))
}

/// Where the namespace of this name lies.
fn place(scope: &Scope<'_>, name: &Path) -> Result<Path, PlanError> {
    scope.namespace.path.join(name).map_err(|error| PlanError::Refused(error.to_string()))
}

fn show(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked)?;
    Ok(planned(move |scope| match scope.records.namespace(&place(scope, &name)?)? {
        Some(namespace) => Ok(Outcome::data(&shown(&namespace))),
        None => Ok(Outcome::answer(Answer::NotFound)),
    }))
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    if metadata.len() > CUSTOM_KEYS_MAX {
        return Err(format!("custom_metadata has more than {CUSTOM_KEYS_MAX} members"));
    }
    for (key, value) in metadata {
        if key.is_empty() || key.len() > CUSTOM_KEY_BYTES_MAX || value.len() > CUSTOM_VALUE_BYTES_MAX {
            return Err(format!(
                "a name in custom_metadata has 1 to {CUSTOM_KEY_BYTES_MAX} bytes, and a text at most {CUSTOM_VALUE_BYTES_MAX}"
            ));
        }
    }
    Ok(())
}

/// What `custom_metadata` says: names with texts, or with null.
fn metadata(fields: &Fields, null_is_fine: bool) -> Result<Option<BTreeMap<String, Option<String>>>, AskError> {
    let members = match fields.value("custom_metadata") {
        None => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(AskError::Invalid("custom_metadata must be an object whose members are texts".into())),
    };
    let text = |value: &Value| match value {
        Value::String(text) => Some(Some(text.clone())),
        Value::Null if null_is_fine => Some(None),
        _ => None,
    };
    let read = members.iter().map(|(name, value)| Some((name.clone(), text(value)?))).collect::<Option<_>>();
    read.map(Some).ok_or_else(|| AskError::Invalid("custom_metadata values must be strings".into()))
}

fn ignored(fields: &Fields) -> Vec<String> {
    let mut names: Vec<&str> = fields.names().filter(|name| *name != "custom_metadata").collect();
    names.sort_unstable();
    if names.is_empty() { Vec::new() } else { vec![format!("Endpoint ignored these unrecognized parameters: [{}]", names.join(" "))] }
}

fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked)?;
    check_name(name.as_str()).map_err(AskError::Invalid)?;
    let fields = Fields::of(asked.ask)?;
    let metadata = metadata(&fields, false)?.map(|members| members.into_iter().filter_map(|(name, text)| Some((name, text?))).collect());
    if let Some(metadata) = &metadata {
        check_metadata(metadata).map_err(AskError::Invalid)?;
    }
    let warnings = ignored(&fields);
    Ok(planned(move |scope| {
        let path = place(scope, &name)?;
        let mut plan = Plan::new();
        let namespace = match Namespace::load(&scope.records.view, &path)? {
            Some((namespace, _)) if namespace.tainted => {
                return Err(PlanError::Refused("the namespace of this name is being deleted (try again later)".into()));
            }
            Some((mut namespace, revision)) => {
                if let Some(metadata) = &metadata {
                    namespace.custom_metadata = metadata.clone();
                    namespace.store(revision, &mut plan);
                }
                namespace
            }
            None => make(scope, &path, metadata.clone().unwrap_or_default(), &mut plan)?,
        };
        let outcome = Outcome::written(plan, Answer::Data(engine::json(&shown(&namespace))));
        Ok(Outcome { warnings: warnings.clone(), ..outcome })
    }))
}

/// Plans a new namespace.
fn make(scope: &Scope<'_>, path: &Path, metadata: BTreeMap<String, String>, plan: &mut Plan) -> Result<Namespace, PlanError> {
    if path.segments().count() > DEPTH_MAX {
        return Err(PlanError::Refused(format!("a namespace lies in at most {} others", DEPTH_MAX - 1)));
    }
    let name = path.segments().next_back().unwrap_or_default();
    // The pipeline sees to it that no mount comes meanwhile.
    if let Some(mount) = scope.records.mounts(&scope.namespace)?.conflict(&format!("{name}/")) {
        return Err(PlanError::Refused(format!("new namespace conflicts with existing mount: {}", mount.path)));
    }
    // The parent's record changes, so that it is not deleted meanwhile.
    if let Some((parent, revision)) = Namespace::load(&scope.records.view, &scope.namespace.path)? {
        if parent.tainted {
            return Err(PlanError::Refused("the namespace is being deleted".into()));
        }
        parent.store(revision, plan);
    }
    let namespace = Namespace { custom_metadata: metadata, ..Namespace::make(path.clone(), &scope.records.view, scope.rng)? };
    namespace.store(types::Revision::ABSENT, plan);
    namespace.store_id(plan);
    MountTable::found(scope.rng).store(&namespace.id, plan);
    Ok(namespace)
}

fn patch(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked)?;
    let fields = Fields::of(asked.ask)?;
    let changes = metadata(&fields, true)?.unwrap_or_default();
    let warnings = ignored(&fields);
    Ok(planned(move |scope| {
        let found = Namespace::load(&scope.records.view, &place(scope, &name)?)?;
        let Some((mut namespace, revision)) = found.filter(|(namespace, _)| !namespace.tainted) else {
            return Err(PlanError::Refused("namespace not found".into()));
        };
        let mut plan = Plan::new();
        for (key, change) in &changes {
            match change {
                Some(text) => drop(namespace.custom_metadata.insert(key.clone(), text.clone())),
                None => drop(namespace.custom_metadata.remove(key)),
            }
        }
        check_metadata(&namespace.custom_metadata).map_err(PlanError::Refused)?;
        if !changes.is_empty() {
            namespace.store(revision, &mut plan);
        }
        let outcome = Outcome::written(plan, Answer::Data(engine::json(&shown(&namespace))));
        Ok(Outcome { warnings: warnings.clone(), ..outcome })
    }))
}

fn delete(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name(asked)?;
    Ok(planned(move |scope| {
        let path = place(scope, &name)?;
        let Some((namespace, revision)) = Namespace::load(&scope.records.view, &path)? else {
            let warnings = vec!["requested namespace does not exist".to_owned()];
            return Ok(Outcome { warnings, ..Outcome::answer(Answer::Done) });
        };
        let mut plan = Plan::new();
        if !namespace.tainted {
            if !scope.records.view.children(&Namespace::name(&path))?.is_empty() {
                return Err(PlanError::Refused("unable to delete namespace containing child namespaces".into()));
            }
            taint(scope, namespace, revision, &mut plan)?;
        }
        Ok(Outcome::written(plan, Answer::Data(engine::json(&json!({ "status": "in-progress" })))))
    }))
}

/// Plans that a namespace is unusable from now on, and that what is in it is erased.
fn taint(scope: &Scope<'_>, namespace: Namespace, revision: types::Revision, plan: &mut Plan) -> Result<(), PlanError> {
    // Whoever is about to write in it depends on its mounts: their record is written anew, so that nothing comes after this.
    MountTable::load(&scope.records.view, &namespace.id)?.store(&namespace.id, plan);
    due::put(plan, scope.now, &format!("namespace-{}", namespace.id), Task::PurgeNamespace(namespace.id.clone()));
    Namespace { tainted: true, ..namespace }.store(revision, plan);
    Ok(())
}

/// The namespace that a path of `scope`'s namespace leads into, and the rest of the path.
pub(super) fn descend(scope: &Scope<'_>, path: &Path) -> Result<(Arc<Namespace>, Path), PlanError> {
    let mut namespace = Arc::clone(&scope.namespace);
    let mut rest = path.clone();
    loop {
        let Some(first) = rest.segments().next() else { break };
        let first = Path::parse(first).and_then(|first| namespace.path.join(&first)).map_err(|_| PlanError::Malformed)?;
        let Some(inner) = scope.records.namespace(&first)?.filter(|inner| !inner.tainted) else { break };
        let after = rest.as_str().split_once('/').map_or("", |(_, after)| after);
        rest = Path::parse(after).map_err(|_| PlanError::Malformed)?;
        namespace = inner;
    }
    Ok((namespace, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_after_a_name_and_has_its_limit() {
        let names = || ["a/", "b/", "b/c/", "d/"].map(|name| (name.to_owned(), ())).into_iter().collect::<BTreeMap<_, _>>();
        for (after, limit, want) in
            [("", 0, &["a/", "b/", "b/c/", "d/"][..]), ("", 2, &["a/", "b/"]), ("a", 1, &["b/"]), ("b/", 9, &["b/c/", "d/"]), ("d", 1, &[])]
        {
            let page = Page { after: after.into(), limit };
            assert_eq!(page.take(names()).into_keys().collect::<Vec<_>>(), want, "{after} {limit}");
        }
    }
}
