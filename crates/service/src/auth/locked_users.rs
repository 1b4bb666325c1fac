//! `sys/locked-users`: names that this node has locked after failed logins, and their release, which holds on every node.

use std::collections::BTreeMap;

use barrier::Plan;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::stored::Unlock;
use serde_json::{Value, json};
use types::capability::Verb;

use super::lockout::Locked;
use super::login::{LoginName, unlock_name, unlock_revision};
use super::put;
use crate::backend::{Asked, Handler};
use crate::mount::Mount;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// What may be asked of locked names.
pub(crate) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "locked-users",
        about: "Names that this node does not let in for a while, after failed logins.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows them by namespace and mount.",
            fields: &[],
            query: &[Field::optional("mount_accessor", FieldKind::Text, "Only names at the mount with this accessor.")],
            handler: show,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "locked-users/{mount_accessor}/unlock/{alias_identifier...}",
        about: "A locked name.",
        parameters: &[
            Field::required("mount_accessor", FieldKind::Text, "The accessor of the auth method's mount."),
            Field::required("alias_identifier", FieldKind::Text, "The user's name, or the role id."),
        ],
        methods: &[Method { verb: Verb::Write, summary: "Unlocks the name on every node.", fields: &[], query: &[], handler: unlock }],
        access: Access::Sudo,
    },
];

/// Whether a name that was found locked was unlocked since.
fn is_unlocked(scope: &Scope<'_>, locked: &Locked) -> Result<bool, PlanError> {
    let root = barrier::Name::new("mount").join(&locked.mount_uuid);
    Ok(unlock_revision(&scope.records, &root, &locked.mount_uuid, &locked.name)? != locked.unlock_revision)
}

fn show(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let accessor = asked.ask.query("mount_accessor").filter(|accessor| !accessor.is_empty()).map(str::to_owned);
    Ok(planned(move |scope| {
        let all = [&scope.logins.password_names, &scope.logins.role_names].into_iter().flat_map(|names| names.locked(scope.now));
        // Path of the namespace, then its id; then the mount.
        let mut found: BTreeMap<(String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
        found.insert((scope.namespace.shown_path(), scope.namespace.id.clone()), BTreeMap::new());
        for locked in all.filter(|locked| accessor.as_ref().is_none_or(|accessor| *accessor == locked.mount_accessor)) {
            let Some(namespace) = scope.records.namespace_by_id(&locked.namespace_id)? else { continue };
            if scope.namespace.contains(&namespace) && !is_unlocked(scope, &locked)? {
                let mounts = found.entry((namespace.shown_path(), namespace.id.clone())).or_default();
                mounts.entry(locked.mount_accessor).or_default().push(locked.name);
            }
        }
        let mut total = 0;
        let namespaces: Vec<Value> = found
            .into_iter()
            .map(|((path, id), mounts)| {
                let counts: usize = mounts.values().map(Vec::len).sum();
                total += counts;
                let mounts = mounts.into_iter().map(|(accessor, mut names)| {
                    names.sort();
                    json!({ "mount_accessor": accessor, "counts": names.len(), "alias_identifiers": names })
                });
                let mounts: Vec<Value> = mounts.collect();
                json!({ "namespace_id": id, "namespace_path": path, "counts": counts, "mount_accessors": mounts })
            })
            .collect();
        Ok(Outcome::data(&json!({ "by_namespace": namespaces, "total": total })))
    }))
}

/// A name as its method counts it.
fn counted_name(mount: &Mount, given: &str) -> String {
    match (mount.kind.as_str(), LoginName::parse(given)) {
        ("userpass", Ok(name)) => name.as_str().to_owned(),
        _ => given.to_owned(),
    }
}

fn unlock(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let (accessor, given) = (asked.captures.text("mount_accessor").to_owned(), asked.captures.text("alias_identifier").to_owned());
    Ok(planned(move |scope| {
        let mounts = scope.records.mounts(&scope.namespace)?;
        let mount = mounts.iter().find(|mount| mount.is_auth() && mount.accessor == accessor);
        let mount = mount.ok_or_else(|| PlanError::NoSuch("there is no auth method with this accessor".into()))?;
        let name = unlock_name(&scope.records, &mount.root(), &mount.uuid, &counted_name(mount, &given))?;
        let mut plan = Plan::new();
        put(&mut plan, name, &Unlock { unlocked_ms: scope.now.0 });
        Ok(Outcome::written(plan, Answer::Done))
    }))
}
