//! `sys/move`, `sys/copy`: secrets and folders of secrets with their history, within a KV mount or from one to another, as one.
//!
//! Always: all of it happens or nothing. Values are shown to nobody, so no right to read them is needed; but whoever may bring a secret to
//! where it can be read could read it so. Therefore the source needs `sudo`, on its `metadata/` path (version 1: its path), besides
//! `delete` for a move; the target needs the same right as a write there, secret by secret.

use engine::AskError;
use engine::kv::Version;
use engine::kv::transfer::{self, End, Existing, Source, TransferError};
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::json;
use types::Path;
use types::capability::{Capability, Verb};

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::mount::Route as MountRoute;
use crate::namespace::Namespace;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records::Records;
use crate::request::Answer;

const FROM: Field = Field::required("from", FieldKind::Text, "A secret, as mount/path; or a folder of secrets, with a slash at the end.");
const TO: Field = Field::required("to", FieldKind::Text, "Where it comes to: mount/path; with a slash at the end exactly if from has one.");
const OVERWRITE: Field = Field::optional(
    "overwrite",
    FieldKind::Boolean,
    "Whether secrets that are there already are replaced, with their history; false when nothing is said: then nothing is done.",
);
const FIELDS: &[Field] = &[FROM, TO, OVERWRITE];

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "move",
        about: "Secrets and folders of KV mounts, to another path or mount, with all versions and metadata.",
        parameters: &[],
        methods: &[Method { verb: Verb::Write, summary: "Moves them, as one.", fields: FIELDS, query: &[], handler: move_secrets }],
        access: Access::Token,
    },
    Route {
        pattern: "copy",
        about: "Secrets and folders of KV mounts, to another path or mount, with all versions and metadata.",
        parameters: &[],
        methods: &[Method { verb: Verb::Write, summary: "Copies them, as one.", fields: FIELDS, query: &[], handler: copy_secrets }],
        access: Access::Token,
    },
];

fn move_secrets(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    parse(asked, Source::Goes)
}

fn copy_secrets(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    parse(asked, Source::Stays)
}

fn parse(asked: &Asked<'_>, source: Source) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let path = |name: &str| Path::parse(fields.required_text(name)?).map_err(|error| AskError::Invalid(format!("{name}: {error}")));
    let (from, to) = (path("from")?, path("to")?);
    let existing = if fields.boolean("overwrite")?.unwrap_or(false) { Existing::IsReplaced } else { Existing::Refuses };
    Ok(planned(move |scope| transfer(scope, &from, &to, source, existing)))
}

/// The KV mount that holds one end.
pub(crate) fn kv_mount(records: &Records, namespace: &Namespace, path: &Path) -> Result<(MountRoute, Version), PlanError> {
    let route = records.mounts(namespace)?.route(path).filter(|route| route.mount.kind == "kv");
    let route = route.ok_or_else(|| PlanError::NoSuch("from and to must lie in KV mounts of this namespace".into()))?;
    let version =
        Version::parse(route.mount.options.get("version").map(String::as_str)).map_err(|error| PlanError::Refused(error.to_string()))?;
    Ok((route, version))
}

/// The path by which policies rule a secret: from the root namespace on.
pub(crate) fn ruled(scope: &Scope<'_>, mount: &MountRoute, version: Version, area: &str, secret: &Path) -> Result<Path, PlanError> {
    let path = match version {
        Version::Two => format!("{}{area}/{}", mount.mount.path, secret.as_str()),
        Version::One => format!("{}{}", mount.mount.path, secret.as_str()),
    };
    let path = Path::parse(&path).and_then(|path| if scope.namespace.is_root() { Ok(path) } else { scope.namespace.path.join(&path) });
    path.map_err(|error| PlanError::Refused(error.to_string()))
}

fn transfer(scope: &Scope<'_>, from: &Path, to: &Path, source: Source, existing: Existing) -> Result<Outcome, PlanError> {
    let ((source_mount, source_version), (target_mount, target_version)) =
        (kv_mount(&scope.records, &scope.namespace, from)?, kv_mount(&scope.records, &scope.namespace, to)?);
    let (source_root, target_root) = (source_mount.mount.root(), target_mount.mount.root());
    let ends = (
        End { root: &source_root, version: source_version, path: &source_mount.rest },
        End { root: &target_root, version: target_version, path: &target_mount.rest },
    );
    let planned = transfer::plan(&scope.records.view, ends.0, ends.1, source, existing);

    // Who may not learns nothing of what is there: the rights on the ends themselves are asked for first, whatever was planned.
    let acl = scope.authority.as_ref().ok_or(PlanError::Denied)?.acl();
    let may = |path: &Path, needed: &[Capability]| {
        let granted = acl.capabilities(path);
        granted.contains(&"root") || needed.iter().all(|capability| granted.contains(&capability.as_str()))
    };
    let of_source: &[Capability] = if source == Source::Goes { &[Capability::Sudo, Capability::Delete] } else { &[Capability::Sudo] };
    let allow = |secret: &Path, target: &Path, replaces: bool| {
        let write = if replaces { Capability::Update } else { Capability::Create };
        let may_take = may(&ruled(scope, &source_mount, source_version, "metadata", secret)?, of_source);
        let may_put = may(&ruled(scope, &target_mount, target_version, "data", target)?, &[write]);
        if may_take && may_put { Ok(()) } else { Err(PlanError::Denied) }
    };
    let transferred = match planned {
        Ok(transferred) => transferred,
        Err(error) => {
            allow(&source_mount.rest, &target_mount.rest, false)?;
            return Err(match error {
                TransferError::NotFound => PlanError::NoSuch(error.to_string()),
                TransferError::Plan(error) => error.into(),
                _ => PlanError::Refused(error.to_string()),
            });
        }
    };
    for secret in &transferred.secrets {
        allow(&secret.from, &secret.to, secret.replaces)?;
    }
    let shown = |mount: &MountRoute, path: &Path| format!("{}{}", mount.mount.path, path.as_str());
    let secrets: Vec<_> = transferred
        .secrets
        .iter()
        .map(|secret| json!({ "from": shown(&source_mount, &secret.from), "to": shown(&target_mount, &secret.to), "replaced": secret.replaces }))
        .collect();
    Ok(Outcome::written(transferred.plan, Answer::Data(engine::json(&json!({ "secrets": secrets })))))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    async fn world() -> World {
        let world = World::new(1);
        for path in ["a", "b"] {
            let body = json!({ "type": "kv", "options": { "version": "2" } });
            assert_eq!(world.ask(Verb::Write, &format!("sys/mounts/{path}"), body).await, Ok(Value::Null));
        }
        for (path, value) in [("team/x", "1"), ("team/x", "2"), ("team/y", "1"), ("other", "1")] {
            world.ask(Verb::Write, &format!("a/data/{path}"), json!({ "data": { "v": value } })).await.unwrap();
        }
        world
    }

    async fn version(world: &World, path: &str) -> Option<u64> {
        world.ask(Verb::Read, path, Value::Null).await.unwrap()["metadata"]["version"].as_u64()
    }

    #[tokio::test]
    async fn a_folder_moves_with_its_history() {
        let world = world().await;
        let moved = world.ask(Verb::Write, "sys/move", json!({ "from": "a/team/", "to": "b/new/" })).await.unwrap();
        assert_eq!(moved["secrets"].as_array().unwrap().len(), 2);
        assert_eq!(version(&world, "b/data/new/x").await, Some(2));
        assert_eq!(version(&world, "b/data/new/y").await, Some(1));
        assert_eq!(version(&world, "a/data/team/x").await, None);
        assert_eq!(version(&world, "a/data/other").await, Some(1));
        let copied = world.ask(Verb::Write, "sys/copy", json!({ "from": "b/new/x", "to": "a/other" })).await;
        assert!(matches!(&copied, Err(Refusal::Refused(text)) if text.contains("at the target already")), "{copied:?}");
        let body = json!({ "from": "b/new/x", "to": "a/other", "overwrite": true });
        assert_eq!(world.ask(Verb::Write, "sys/copy", body).await.unwrap()["secrets"][0]["replaced"], true);
        assert_eq!((version(&world, "a/data/other").await, version(&world, "b/data/new/x").await), (Some(2), Some(2)));
        let nothing = world.ask(Verb::Write, "sys/move", json!({ "from": "a/none", "to": "b/none" })).await;
        assert!(matches!(nothing, Err(Refusal::NoSuch(_))), "{nothing:?}");
    }

    #[tokio::test]
    async fn reading_is_not_needed_and_no_right_to_read_is_gained() {
        let world = world().await;
        let paths = r#"path "sys/move" { capabilities = ["update"] } path "sys/copy" { capabilities = ["update"] }"#;
        for (name, rules, may) in [
            (
                "mover",
                r#"path "a/metadata/team/*" { capabilities = ["sudo", "delete"] } path "b/data/*" { capabilities = ["create"] }"#,
                true,
            ),
            (
                "reader",
                r#"path "a/*" { capabilities = ["read", "delete", "list"] } path "b/*" { capabilities = ["create", "read"] }"#,
                false,
            ),
            ("half", r#"path "a/metadata/team/x" { capabilities = ["sudo", "delete"] } path "b/*" { capabilities = ["create"] }"#, false),
            ("nowhere", r#"path "a/metadata/*" { capabilities = ["sudo", "delete"] } path "b/data/*" { capabilities = ["read"] }"#, false),
        ] {
            world.ask(Verb::Write, &format!("sys/policies/acl/{name}"), json!({ "policy": format!("{paths} {rules}") })).await.unwrap();
            let made = world.ask(Verb::Write, "auth/token/create", json!({ "policies": [name] })).await.unwrap();
            let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
            let body = json!({ "from": "a/team/", "to": format!("b/{name}/") });
            let copied = world.ask_as(&token, Verb::Write, "sys/copy", body).await;
            assert_eq!(copied.is_ok(), may, "{name}: {copied:?}");
            assert!(may || copied == Err(Refusal::Denied));
            // That there is nothing is told only to who could have had it.
            let body = json!({ "from": "a/none", "to": "b/none" });
            assert_eq!(world.ask_as(&token, Verb::Write, "sys/move", body).await.map(drop), Err(Refusal::Denied), "{name}");
        }
    }
}
