//! `sys/…` for callers with a token: mounts, audit devices, members, sealing. What works while sealed is not here.

mod audit;
mod capabilities;
mod cors;
mod explain;
mod leases;
mod mounts;
pub(crate) mod namespaces;
mod node;
mod policies;
mod remount;
mod tools;
pub(crate) mod wrapping;

use std::sync::LazyLock;

use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use types::Path;
use types::capability::Verb;

pub use cors::Cors;

use crate::auth::locked_users;
use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// What may be asked below `sys/`: the tables of all files.
pub(crate) static ROUTES: LazyLock<Vec<Route<Handler>>> = LazyLock::new(|| TABLES.concat());

const TABLES: &[&[Route<Handler>]] = &[
    CLUSTER,
    mounts::ROUTES,
    remount::ROUTES,
    namespaces::ROUTES,
    wrapping::ROUTES,
    AUDIT,
    policies::ROUTES,
    capabilities::ROUTES,
    cors::ROUTES,
    explain::ROUTES,
    leases::ROUTES,
    locked_users::ROUTES,
    node::ROUTES,
    tools::ROUTES,
];

/// What is of the whole cluster, and so only in the root namespace: by how its paths begin, segment by segment.
const ROOT_ONLY: &[&str] = &[
    "audit",
    "audit-hash",
    "config",
    "generate-root",
    "generate-root-token",
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
    "step-down",
    "storage",
    "unseal",
];

/// Whether a path of `sys/` is not there in the namespaces below the root.
pub(crate) fn is_root_only(rest: &Path) -> bool {
    ROOT_ONLY.iter().any(|known| rest.starts_with(known.split('/')))
}

/// The cluster itself.
const CLUSTER: &[Route<Handler>] = &[
    Route {
        pattern: "seal",
        about: "Whether the cluster is sealed.",
        parameters: &[],
        methods: &[Method { verb: Verb::Write, summary: "Seals every node.", fields: &[], query: &[], handler: seal }],
        access: Access::Sudo,
    },
    Route {
        pattern: "ha-status",
        about: "The members of the cluster.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows what each member tells of itself.",
            fields: &[],
            query: &[],
            handler: members,
        }],
        access: Access::Token,
    },
];

/// Audit devices.
const AUDIT: &[Route<Handler>] = &[
    Route {
        pattern: "audit",
        about: "Audit devices.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows every device.", fields: &[], query: &[], handler: list_audit }],
        access: Access::Sudo,
    },
    Route {
        pattern: "audit/{path...}",
        about: "One audit device.",
        parameters: &[Field::required("path", FieldKind::Text, "The device's name.")],
        methods: &[
            Method {
                verb: Verb::Write,
                summary: "Enables a device.",
                fields: &[
                    Field::required("type", FieldKind::Text, "The kind of device: file."),
                    Field::optional("description", FieldKind::Text, "For people."),
                    Field::required("options", FieldKind::Map, "The device's own options: file_path."),
                ],
                query: &[],
                handler: enable_audit,
            },
            Method { verb: Verb::Delete, summary: "Disables a device.", fields: &[], query: &[], handler: disable_audit },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "audit-hash/{path...}",
        about: "How values show in a device's records.",
        parameters: &[Field::required("path", FieldKind::Text, "The device's name.")],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Shows the HMAC of a value by the device's key.",
            fields: &[Field::required("input", FieldKind::Text, "The value.")],
            query: &[],
            handler: hash_audit,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "config/auditing/request-headers",
        about: "Request headers that audit records show.",
        parameters: &[],
        methods: &[Method { verb: Verb::Read, summary: "Shows them all.", fields: &[], query: &[], handler: audited_headers }],
        access: Access::Sudo,
    },
    Route {
        pattern: "config/auditing/request-headers/{name}",
        about: "One request header that audit records show.",
        parameters: &[Field::required("name", FieldKind::Text, "The header's name; case does not matter.")],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows it.", fields: &[], query: &[], handler: audited_header },
            Method {
                verb: Verb::Write,
                summary: "Has records show it.",
                fields: &[Field::optional("hmac", FieldKind::Boolean, "Whether its value shows as an HMAC; false when nothing is said.")],
                query: &[],
                handler: audit_header,
            },
            Method { verb: Verb::Delete, summary: "Leaves it out of records.", fields: &[], query: &[], handler: forget_header },
        ],
        access: Access::Sudo,
    },
];

struct Seal;

#[async_trait::async_trait]
impl Operation for Seal {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        scope.store.seal().await.map_err(PlanError::Refused)?;
        Ok(Outcome::answer(Answer::Done))
    }
}

fn seal(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Seal))
}

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

/// An operation on the cluster's own records, and what must hold on this node before it is planned.
pub(crate) enum Prepared {
    Operation(Box<dyn engine::Operation>),
    Checked { check: Check, operation: Box<dyn engine::Operation> },
}

/// Looks whether this node can do what is asked; an error text for the caller.
pub(crate) type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

fn prepared(prepared: Prepared) -> Box<dyn Operation> {
    let (check, operation): (Option<Check>, _) = match prepared {
        Prepared::Operation(operation) => (None, operation),
        Prepared::Checked { check, operation } => (Some(check), operation),
    };
    planned(move |scope| {
        if let Some(check) = &check {
            check().map_err(PlanError::Refused)?;
        }
        let outcome = operation.plan(&scope.records.view, scope.now)?;
        Ok(crate::pipeline::from_engine(outcome, &barrier::Name::root(), std::time::Duration::ZERO))
    })
}

fn audit_segments<'a>(asked: &'a Asked<'_>) -> Vec<&'a str> {
    asked.captures.text("path").split('/').collect()
}

fn list_audit(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(prepared(Prepared::Operation(Box::new(audit::List))))
}

fn enable_audit(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(prepared(audit::parse_enable(&audit_segments(asked), asked.ask, asked.rng)?))
}

fn disable_audit(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(prepared(Prepared::Operation(Box::new(audit::Disable::parse(&audit_segments(asked))))))
}

fn unchecked(operation: impl engine::Operation + 'static) -> Result<Box<dyn Operation>, AskError> {
    Ok(prepared(Prepared::Operation(Box::new(operation))))
}

fn hash_audit(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    unchecked(audit::Hash::parse(&audit_segments(asked), asked.ask)?)
}

fn audited_headers(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    unchecked(audit::Headers)
}

fn audited_header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    unchecked(audit::ShowHeader::parse(asked.captures.text("name")))
}

fn audit_header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    unchecked(audit::SetHeader::parse(asked.captures.text("name"), asked.ask)?)
}

fn forget_header(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    unchecked(audit::RemoveHeader::parse(asked.captures.text("name")))
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
}
