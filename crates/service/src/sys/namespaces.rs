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
    due::put_now(plan, scope.now, &format!("namespace-{}", namespace.id), Task::PurgeNamespace(namespace.id.clone()));
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
    use types::Capability;

    use super::*;
    use crate::backend;
    use crate::request::Refusal;
    use crate::testing::{Asking, World, shown as shown_answer};

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

    async fn make(world: &World, namespace: &'static str, name: &str) -> Value {
        world.ask_in(namespace, &world.root_token, Verb::Write, &format!("sys/namespaces/{name}"), Value::Null).await.unwrap()
    }

    fn refused(text: &str) -> Result<Value, Refusal> {
        Err(Refusal::Refused(text.into()))
    }

    #[tokio::test]
    async fn a_client_learns_where_it_is_also_by_a_path_through_namespaces() {
        let world = World::new(1);
        make(&world, "", "a").await;
        make(&world, "a", "b").await;
        let kv = json!({ "type": "kv", "options": { "version": "2" } });
        world.ask_in("a/b", &world.root_token, Verb::Write, "sys/mounts/kv", kv).await.unwrap();
        for (namespace, path, want) in [("", "a/b/kv/x", "a/b/kv/"), ("a", "b/kv/x", "b/kv/"), ("a/b", "kv/x/y", "kv/")] {
            let asked = format!("sys/internal/ui/mounts/{path}");
            let found = world.ask_in(namespace, &world.root_token, Verb::Read, &asked, Value::Null).await.unwrap();
            assert_eq!((&found["path"], &found["options"]["version"]), (&json!(want), &json!("2")), "{namespace} {path}");
        }
        let lost = world.ask(Verb::Read, "sys/internal/ui/mounts/a/c/kv/x", Value::Null).await;
        assert!(matches!(lost, Err(Refusal::Forbidden(_))), "{lost:?}");
    }

    #[tokio::test]
    async fn namespaces_are_made_shown_changed_and_listed() {
        let world = World::new(1);
        let made = world.ask(Verb::Write, "sys/namespaces/a", json!({ "custom_metadata": { "x": "y" } })).await.unwrap();
        assert_eq!((&made["path"], &made["custom_metadata"], &made["tainted"]), (&json!("a/"), &json!({ "x": "y" }), &json!(false)));
        assert_eq!(made["id"].as_str().unwrap().len(), 6);
        assert_eq!(world.ask(Verb::Write, "sys/namespaces/a", Value::Null).await.unwrap(), made, "as it is");
        assert_eq!(world.ask(Verb::Read, "sys/namespaces/a", Value::Null).await.unwrap(), made);
        make(&world, "a", "b").await;
        assert_eq!(make(&world, "a/b", "c").await["path"], "a/b/c/");
        assert_eq!(world.ask(Verb::Write, "a/b/sys/namespaces/d", Value::Null).await.unwrap()["path"], "a/b/d/", "by the path's prefix");
        for (namespace, verb, want) in [
            ("", Verb::List, json!(["a/"])),
            ("", Verb::Scan, json!(["a/", "a/b/", "a/b/c/", "a/b/d/"])),
            ("a", Verb::List, json!(["b/"])),
            ("a", Verb::Scan, json!(["b/", "b/c/", "b/d/"])),
        ] {
            let listed = world.ask_in(namespace, &world.root_token, verb, "sys/namespaces", Value::Null).await.unwrap();
            assert_eq!(listed["keys"], want, "{namespace} {verb}");
            assert_eq!(listed["key_info"].as_object().unwrap().len(), want.as_array().unwrap().len());
        }
        assert_eq!(world.ask_in("a/b/c", &world.root_token, Verb::List, "sys/namespaces", Value::Null).await, Ok(json!("none")));
        let patch = json!({ "custom_metadata": { "k": "v", "x": null } });
        assert_eq!(world.ask(Verb::Patch, "sys/namespaces/a", patch).await.unwrap()["custom_metadata"], json!({ "k": "v" }));
        assert!(world.ask(Verb::Patch, "sys/namespaces/a", json!({ "custom_metadata": { "k": 5 } })).await.is_err());
        assert_eq!(world.ask(Verb::Patch, "sys/namespaces/none", Value::Null).await, refused("namespace not found"));
        assert_eq!(world.ask(Verb::Read, "sys/namespaces/none", Value::Null).await, Ok(json!("none")));
        for bad in ["a/b", "sys", "root", "a b", "x+"] {
            assert!(world.ask(Verb::Write, &format!("sys/namespaces/{bad}"), Value::Null).await.is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_mount_and_a_namespace_never_share_a_name() {
        let world = World::new(2);
        let kv = || json!({ "type": "kv" });
        make(&world, "", "a").await;
        world.ask(Verb::Write, "sys/mounts/m/n", kv()).await.unwrap();
        for (path, body) in
            [("sys/mounts/a", kv()), ("sys/mounts/a/kv", kv()), ("sys/namespaces/m", Value::Null), ("sys/namespaces/sys", Value::Null)]
        {
            assert!(matches!(world.ask(Verb::Write, path, body).await, Err(Refusal::Refused(_) | Refusal::Ask(_))), "{path}");
        }
        world.ask(Verb::Write, "sys/mounts/ab", kv()).await.unwrap();
        // Of two at once one comes too late.
        for round in 0..8 {
            let name = format!("both{round}");
            let (mount, namespace) = (format!("sys/mounts/{name}/x"), format!("sys/namespaces/{name}"));
            let (mount, namespace) = tokio::join!(world.ask(Verb::Write, &mount, kv()), world.ask(Verb::Write, &namespace, Value::Null));
            assert!(mount.is_ok() != namespace.is_ok(), "{mount:?} {namespace:?}");
        }
    }

    /// A token that may do everything in its namespace.
    async fn admin(world: &World, namespace: &'static str) -> Value {
        let all = Capability::ALL
            .iter()
            .filter(|capability| **capability != Capability::Deny)
            .map(|capability| format!("{:?}", capability.as_str()));
        let policy = format!("path \"*\" {{ capabilities = [{}] }} # canary-policy-{namespace}", all.collect::<Vec<_>>().join(","));
        let ask = |path: &'static str, body| world.ask_in(namespace, &world.root_token, Verb::Write, path, body);
        ask("sys/policies/acl/admin", json!({ "policy": policy })).await.unwrap();
        ask("auth/token/create", json!({ "policies": ["admin"], "no_parent": true })).await.unwrap()["auth"].clone()
    }

    #[tokio::test]
    async fn what_is_deleted_is_unusable_at_once_and_leaves_nothing() {
        let world = World::new(3);
        let before = world.records();
        make(&world, "", "a").await;
        let token = admin(&world, "a").await["client_token"].as_str().unwrap().to_owned();
        let child = world.ask_in("a", &world.root_token, Verb::Write, "auth/token/create", json!({ "policies": ["admin"] })).await.unwrap();
        let child = child["auth"]["client_token"].as_str().unwrap().to_owned();
        let ask = |verb, path: &str, body| {
            let (world, token, path) = (&world, &token, path.to_owned());
            async move { world.ask_in("a", token, verb, &path, body).await }
        };
        for kind in ["kv-v1", "kv-v2"] {
            ask(Verb::Write, &format!("sys/mounts/{kind}"), json!({ "type": kind })).await.unwrap();
        }
        for number in 0..2_500 {
            ask(Verb::Write, &format!("kv-v1/s{number}"), json!({ "x": "y" })).await.unwrap();
        }
        ask(Verb::Write, "cubbyhole/mine", json!({ "x": "y" })).await.unwrap();
        make(&world, "a", "b").await;
        let deleted = world.ask(Verb::Delete, "sys/namespaces/a", Value::Null).await;
        assert_eq!(deleted, refused("unable to delete namespace containing child namespaces"));
        world.ask_in("a", &world.root_token, Verb::Delete, "sys/namespaces/b", Value::Null).await.unwrap();
        world.do_chores().await;
        let in_progress = Ok(json!({ "status": "in-progress" }));
        assert_eq!(world.ask(Verb::Delete, "sys/namespaces/a", Value::Null).await, in_progress);
        // At once.
        assert_eq!(ask(Verb::Read, "kv-v1/s1", Value::Null).await, Err(Refusal::Denied));
        assert_eq!(world.ask_as(&child, Verb::Read, "auth/token/lookup-self", Value::Null).await, Err(Refusal::Denied));
        let lost = world.ask_in("a", &world.root_token, Verb::Read, "kv-v1/s1", Value::Null).await;
        assert_eq!(lost, Err(Refusal::NoSuch("namespace not found".into())));
        assert!(world.ask(Verb::Read, "a/kv-v1/s1", Value::Null).await.is_err());
        assert_eq!(world.ask(Verb::Read, "sys/namespaces/a", Value::Null).await.unwrap()["tainted"], json!(true));
        assert!(world.ask(Verb::Write, "sys/namespaces/a", Value::Null).await.is_err(), "its name is still in use");
        assert_eq!(world.ask(Verb::Delete, "sys/namespaces/a", Value::Null).await, in_progress, "twice does no harm");
        for _ in 0..3 {
            world.do_chores().await;
        }
        let after = world.records();
        // What was due for its tokens comes to nothing when its time comes.
        let left: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name) && !name.starts_with("core/due/")).collect();
        assert_eq!(left, Vec::<&String>::new());
        assert_eq!(world.ask(Verb::Read, "sys/namespaces/a", Value::Null).await, Ok(json!("none")));
        assert_ne!(make(&world, "", "a").await["id"], Value::Null);
        assert_eq!(
            world.ask_in("a", &token, Verb::Read, "sys/mounts", Value::Null).await,
            Err(Refusal::Denied),
            "a new one knows no old token"
        );
    }

    #[tokio::test]
    async fn what_is_the_clusters_is_only_in_the_root() {
        let world = World::new(4);
        make(&world, "", "a").await;
        for (verb, path) in
            [(Verb::Read, "sys/audit"), (Verb::Write, "sys/seal"), (Verb::Read, "sys/config/cors"), (Verb::Read, "sys/host-info")]
        {
            let unavailable = refused("operation unavailable in namespaces");
            assert_eq!(world.ask_in("a", &world.root_token, verb, path, Value::Null).await, unavailable, "{path}");
            assert_eq!(world.ask(verb, &format!("a/{path}"), Value::Null).await, unavailable, "{path}");
            let stranger = Asking { token: None, namespace: "a", ..world.asking(verb, path, Value::Null) };
            assert_eq!(world.send(stranger).await.outcome.map(|answer| shown_answer(&answer)), Err(Refusal::Denied), "{path}");
        }
    }

    #[tokio::test]
    async fn who_is_not_of_a_namespace_does_not_learn_whether_it_is_there() {
        let world = World::new(5);
        make(&world, "", "a").await;
        make(&world, "", "b").await;
        let token = admin(&world, "b").await["client_token"].as_str().unwrap().to_owned();
        for namespace in ["a", "none", "a/none", ""] {
            assert_eq!(world.ask_in(namespace, &token, Verb::Read, "sys/mounts", Value::Null).await, Err(Refusal::Denied), "{namespace}");
        }
        let lost = Err(Refusal::NoSuch("namespace not found".into()));
        assert_eq!(world.ask_in("b/none", &token, Verb::Read, "sys/mounts", Value::Null).await, lost);
    }

    /// All records of these namespaces and mounts, and of the cluster, but for those of the namespaces in `b` and of what is due.
    fn of_others(world: &World, ids: &[String], uuids: &[String]) -> BTreeMap<String, types::Revision> {
        let is_of_others = |name: &str| {
            let in_one = |rest: &str, known: &[String]| known.iter().any(|known| rest.starts_with(&format!("{known}/")));
            match (name.strip_prefix("mount/"), name.strip_prefix("ns/")) {
                (Some(rest), _) => in_one(rest, uuids),
                (_, Some(rest)) => in_one(rest, ids),
                _ => !["core/due/", "core/namespace/b", "core/namespace-id/"].iter().any(|own| name.starts_with(own)),
            }
        };
        world.records().into_iter().filter(|(name, _)| is_of_others(name)).collect()
    }

    fn mounts(world: &World, namespace: &str) -> Vec<Arc<crate::mount::Mount>> {
        let records = crate::records::Records::new(world.barrier.view(), Arc::default());
        let namespace = records.namespace(&Path::parse(namespace).unwrap()).unwrap().unwrap();
        records.mounts(&namespace).unwrap().iter().cloned().collect()
    }

    const CANARY: &str = "canary-secret-a";

    /// A tenant with engines, methods and a token that may do everything; tenant `a` also with things that nobody else may see.
    async fn tenant(world: &World, namespace: &'static str) -> (Value, Value) {
        let id = make(world, "", namespace).await["id"].clone();
        let admin = admin(world, namespace).await;
        furnish(world, namespace).await;
        let write = |path: &'static str, body: Value| world.ask_in(namespace, &world.root_token, Verb::Write, path, body);
        if namespace == "a" {
            write("kv-v1/shared", json!({ "x": CANARY })).await.unwrap();
            write("kv-v2/data/shared", json!({ "data": { "x": CANARY } })).await.unwrap();
            let token = admin["client_token"].as_str().unwrap();
            world.ask_in(namespace, token, Verb::Write, "cubbyhole/shared", json!({ "x": CANARY })).await.unwrap();
            write("sys/namespaces/inner-a", json!({ "custom_metadata": { "x": CANARY } })).await.unwrap();
        }
        (id, admin)
    }

    /// Mounts what is not mounted.
    async fn furnish(world: &World, namespace: &'static str) {
        for (area, kind) in [("mounts", "kv-v1"), ("mounts", "kv-v2"), ("auth", "userpass"), ("auth", "approle")] {
            let mounted =
                world.ask_in(namespace, &world.root_token, Verb::Write, &format!("sys/{area}/{kind}"), json!({ "type": kind })).await;
            assert!(mounted.is_ok() || format!("{mounted:?}").contains("already in use"), "{mounted:?}");
        }
    }

    /// Two tenants, each with a token that may do everything in its namespace. Whatever the second asks, of every route there is, by header and
    /// by the path's prefix, and in its own namespace with the names, tokens, accessors and leases of the first: nothing of the first changes,
    /// and nothing of it shows.
    #[tokio::test]
    async fn no_route_leads_from_one_tenant_to_another() {
        let world = World::new(6);
        let (a_id, admin_a) = tenant(&world, "a").await;
        let (_, admin_b) = tenant(&world, "b").await;
        let token = |auth: &Value| auth["client_token"].as_str().unwrap().to_owned();
        let (token_a, mut token_b) = (token(&admin_a), token(&admin_b));
        let leases = format!("ns/{}/lease/", a_id.as_str().unwrap());
        let lease = world.records().into_keys().find_map(|name| name.strip_prefix(&leases).map(str::to_owned)).expect("the admin's");
        let accessor = admin_a["accessor"].as_str().unwrap();
        let mounts_of_a = mounts(&world, "a");
        let uuids: Vec<String> =
            ["", "a", "a/inner-a"].iter().flat_map(|path| mounts(&world, path)).map(|mount| mount.uuid.clone()).collect();
        let inner = world.ask_in("a", &token_a, Verb::Read, "sys/namespaces/inner-a", Value::Null).await.unwrap();
        let ids = ["root", a_id.as_str().unwrap(), inner["id"].as_str().unwrap()].map(str::to_owned);
        let others = || of_others(&world, &ids, &uuids);
        let before = others();
        let values = [accessor, "shared", "kv-v2", "admin", token_a.as_str(), lease.as_str(), "inner-a"];
        let mut asked = 0;
        for own in [false, true] {
            for mount in &mounts_of_a {
                for route in backend::find(mount).unwrap().outlines() {
                    for method in &route.methods {
                        if own {
                            // It may have ended its own token, or taken its own rights.
                            furnish(&world, "b").await;
                            token_b = token(&admin(&world, "b").await);
                        }
                        for value in values {
                            let rest: Vec<&str> =
                                route.pattern.split('/').map(|segment| if segment.starts_with('{') { value } else { segment }).collect();
                            let path = format!("{}{}", mount.path, rest.join("/"));
                            let body = json!({
                                "token": token_a, "accessor": accessor, "lease_id": lease, "prefix": "auth/", "from": "a/kv-v2", "to": "stolen",
                                "path": "a/kv-v1/shared", "paths": ["a/kv-v1/shared"], "source": "a/kv-v1/shared", "destination": "kv-v1/x",
                                "data": {}, "namespace": "a", "policies": ["admin"],
                            });
                            let body = if matches!(method.verb, Verb::Write | Verb::Patch) { body } else { Value::Null };
                            let foreign =
                                [("a", path.clone()), ("", format!("a/{path}")), ("b", format!("a/{path}")), ("a/inner-a", path.clone())];
                            let ways = if own { vec![("b", path)] } else { foreign.to_vec() };
                            for (namespace, path) in ways {
                                let asking =
                                    Asking { token: Some(token_b.clone()), namespace, ..world.asking(method.verb, &path, body.clone()) };
                                let outcome = world.send(asking).await.outcome.map(|answer| shown_answer(&answer));
                                asked += 1;
                                let at = format!("{} {path} in {namespace:?}: {outcome:?}", method.verb);
                                assert!(!at.contains(CANARY) && !at.contains("canary-policy-a"), "{at}");
                                if namespace.starts_with('a') && !route.access.is_open(method.verb) {
                                    assert_eq!(outcome, Err(Refusal::Denied), "{at}");
                                }
                            }
                        }
                        let after = others();
                        let changed = || after.keys().filter(|name| before.get(*name) != after.get(*name)).collect::<Vec<_>>();
                        assert!(after == before, "{} {} changed {:?}", method.verb, route.pattern, changed());
                    }
                }
            }
            let still_good = world.ask_in("b", &token_b, Verb::Read, "sys/mounts", Value::Null).await;
            assert!(own || still_good.is_ok(), "tenant b asked with a token that is good");
        }
        assert!(asked > 3_000, "{asked} requests");
        assert_eq!(world.ask_in("a", &token_a, Verb::Read, "kv-v1/shared", Value::Null).await, Ok(json!({ "x": CANARY })));
    }
}
