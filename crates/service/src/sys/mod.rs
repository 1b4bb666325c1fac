//! `sys/…` for callers with a token: mounts, audit devices, members, sealing. What works while sealed is not here.

mod audit;
mod capabilities;
mod check;
mod cors;
mod explain;
mod join;
pub(crate) mod keys;
mod leases;
mod mounts;
pub(crate) mod namespaces;
mod node;
mod policies;
mod raft;
mod remount;
mod tools;
mod transaction;
pub(crate) mod transfer;
mod ui_headers;
mod upgrade;
pub(crate) mod versions;
pub(crate) mod wrapping;

use std::sync::LazyLock;

use engine::AskError;
use engine::route::{Access, Method, Route};
use types::Path;
use types::capability::Verb;

pub use cors::Cors;
pub use keys::is_share_refused;
pub use ui_headers::UiHeaders;

use crate::auth::locked_users;
use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, PlanError, Scope};

/// What may be asked below `sys/`: the tables of all files.
pub(crate) static ROUTES: LazyLock<Vec<Route<Handler>>> = LazyLock::new(|| [TABLES, keys::TABLES].concat().concat());

const TABLES: &[&[Route<Handler>]] = &[
    CLUSTER,
    mounts::ROUTES,
    remount::ROUTES,
    namespaces::ROUTES,
    wrapping::ROUTES,
    audit::ROUTES,
    policies::ROUTES,
    raft::ROUTES,
    crate::snapshots::ROUTES,
    crate::snapshots::schedule::ROUTES,
    capabilities::ROUTES,
    cors::ROUTES,
    explain::ROUTES,
    join::ROUTES,
    leases::ROUTES,
    locked_users::ROUTES,
    node::ROUTES,
    tools::ROUTES,
    transaction::ROUTES,
    transfer::ROUTES,
    ui_headers::ROUTES,
    upgrade::ROUTES,
    check::ROUTES,
    versions::ROUTES,
];

/// What is of the whole cluster, and so only in the root namespace: by how its paths begin, segment by segment.
const ROOT_ONLY: &[&str] = &[
    "audit",
    "audit-hash",
    "config",
    "generate-root",
    "generate-root-token",
    "ha-status",
    "health",
    "host-info",
    "in-flight-req",
    "init",
    "internal/inspect",
    "key-status",
    "loggers",
    "metrics",
    "monitor",
    "pprof",
    "quotas",
    "raw",
    "rekey",
    "rekey-recovery-key",
    "replication",
    "rotate",
    "seal",
    "seals",
    "step-down",
    "storage",
    "unseal",
    "verify-share",
];

/// Whether a path of `sys/` is not there in the namespaces below the root.
pub(crate) fn is_root_only(rest: &Path) -> bool {
    ROOT_ONLY.iter().any(|known| rest.starts_with(known.split('/')))
}

/// Whether a `DELETE` there may bring a share in its body, in place of a token.
pub fn takes_share_in_delete(path: &Path) -> bool {
    let sys = Path::parse("sys").expect("a plain segment is a path");
    let route = path.strip_prefix(&sys).and_then(|rest| engine::route::find(&ROUTES, &rest).map(|(route, _)| route.access));
    route == Some(Access::SudoOrShare)
}

/// The cluster itself.
const CLUSTER: &[Route<Handler>] = &[Route {
    pattern: "ha-status",
    about: "The members of the cluster.",
    parameters: &[],
    methods: &[Method { verb: Verb::Read, summary: "Shows what each member tells of itself.", fields: &[], query: &[], handler: members }],
    access: Access::Token,
}];

struct Members;

#[async_trait::async_trait]
impl Operation for Members {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        Ok(Outcome::data(&scope.store.members(scope.now).await))
    }
}

fn members(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Members))
}

#[cfg(test)]
mod tests {
    use engine::Ask;
    use types::Path;

    use super::*;
    use crate::backend::Backend;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(&ROUTES), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_mounted_or_recorded_at_no_path() {
        let bodies = [("mounts", r#"{"type":"kv-v2"}"#), ("audit", r#"{"type":"file","options":{"file_path":"/var/log/audit.log"}}"#)];
        for (area, body) in bodies {
            let parsed = |path: String| {
                let body = crypto::SecretBytes::from(body.as_bytes().to_vec());
                let ask = Ask { verb: Verb::Write, path: Path::parse(&path).unwrap(), body, query: Vec::new() };
                Backend::Own(&ROUTES).parse(ask, &crypto::SeededRng::dangerous_from_seed(1))
            };
            assert!(parsed(format!("{area}/some")).is_ok(), "{area}");
            for path in [area.to_owned(), format!("{area}/")] {
                assert!(matches!(parsed(path), Err(AskError::UnsupportedOperation)), "{area}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_of_the_cluster_is_there_in_the_root_namespace_only() {
        use serde_json::Value;

        use crate::testing::World;
        let world = World::new(1);
        world.ask(Verb::Write, "sys/namespaces/team", Value::Null).await.unwrap();
        for (verb, path) in [(Verb::Read, "sys/ha-status"), (Verb::Read, "sys/key-status"), (Verb::Write, "sys/seal")] {
            let asked = world.ask_in("team", &world.root_token, verb, path, Value::Null).await;
            assert_eq!(asked, Err(crate::request::Refusal::Refused("operation unavailable in namespaces".into())), "{path}");
        }
        assert_eq!(world.ask(Verb::Read, "sys/key-status", Value::Null).await.unwrap()["term"], 1);
        assert!(world.ask(Verb::Read, "sys/ha-status", Value::Null).await.is_ok());
    }
}
