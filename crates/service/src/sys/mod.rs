//! `sys/…` for callers with a token: mounts, audit devices, members, sealing. What works while sealed is not here.

mod audit;
mod capabilities;
mod explain;
mod mounts;
mod policies;
mod tools;

use std::sync::LazyLock;

use barrier::Barrier;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::http::{HaNode, HaStatus};
use types::Timestamp;
use types::capability::Verb;

use crate::auth::locked_users;
use crate::backend::{Asked, Handler};
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Acts on the cluster rather than on records.
#[async_trait::async_trait]
pub(crate) trait Cluster: Send + Sync {
    /// Seals every node. An error text for the caller.
    async fn seal(&self) -> Result<(), String>;

    /// What every member tells of itself.
    async fn members(&self, now: Timestamp) -> HaStatus;
}

/// What may be asked below `sys/`: the tables of all files.
pub(crate) static ROUTES: LazyLock<Vec<Route<Handler>>> = LazyLock::new(|| {
    [CLUSTER, mounts::ROUTES, AUDIT, policies::ROUTES, capabilities::ROUTES, explain::ROUTES, locked_users::ROUTES, tools::ROUTES].concat()
});

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
];

struct Seal;

#[async_trait::async_trait]
impl Operation for Seal {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        scope.cluster.seal().await.map_err(PlanError::Refused)?;
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
        Ok(Outcome::data(&scope.cluster.members(scope.now).await))
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
        Ok(crate::pipeline::from_engine(outcome, &barrier::Name::root()))
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

#[async_trait::async_trait]
impl Cluster for Barrier {
    async fn seal(&self) -> Result<(), String> {
        Barrier::seal(self).await.map_err(|error| format!("{error}; seal the other nodes once there is a quorum, or stop them"))
    }

    async fn members(&self, now: Timestamp) -> HaStatus {
        let members = Barrier::members(self).await;
        let heard = i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default().to_string();
        let leader = members.iter().filter_map(|(_, status)| status.as_ref()).max_by_key(|status| status.term);
        let leader = leader.map(|status| status.leader.clone()).unwrap_or_default();
        let nodes = members.into_iter().map(|(info, status)| HaNode {
            hostname: info.id.to_string(),
            api_address: info.member.api_address,
            cluster_address: info.member.cluster_address,
            active_node: info.id.as_str() == leader,
            last_echo: status.as_ref().map(|_| heard.clone()),
            version: status.as_ref().map(|status| status.version.clone()).unwrap_or_default(),
            node_id: info.id.to_string(),
            role: if info.voter { "voter" } else { "learner" }.into(),
            sealed: status.as_ref().map(|status| status.sealed),
            applied_index: status.as_ref().and_then(|status| status.applied).map(|position| position.index),
            term: status.as_ref().map(|status| status.term),
        });
        HaStatus { nodes: nodes.collect() }
    }
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
