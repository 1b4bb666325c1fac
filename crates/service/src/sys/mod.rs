//! `sys/…` for callers with a token: mounts, audit devices, members, sealing. What works while sealed is not here.

mod audit;
mod mounts;

use barrier::Barrier;
use crypto::Rng;
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use proto::http::{HaNode, HaStatus};
use types::Timestamp;
use types::capability::Verb;

use crate::policy::Permit;

/// What a `sys` path asks for.
pub(crate) enum Prepared {
    /// Reads and plans, as an engine's does.
    Operation(Box<dyn Operation>),
    /// As above; but first something on this node must hold.
    Checked { check: Check, operation: Box<dyn Operation> },
    /// An act on the cluster.
    Act(Act),
}

/// Looks whether this node can do what is asked; an error text for the caller.
pub(crate) type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is done to the cluster rather than to records.
pub(crate) enum Act {
    /// Seal every node.
    Seal,
    /// Tell of every member.
    Members,
}

/// Parses an ask below `sys/`.
pub(crate) fn parse(ask: Ask, rng: &dyn Rng) -> Result<Prepared, AskError> {
    let segments: Vec<&str> = ask.path.segments().collect();
    let operation = |operation: Box<dyn Operation>| Ok(Prepared::Operation(operation));
    match (segments.as_slice(), ask.verb) {
        (["seal"], Verb::Write) => Ok(Prepared::Act(Act::Seal)),
        (["ha-status"], Verb::Read) => Ok(Prepared::Act(Act::Members)),
        (["mounts"], Verb::Read) => operation(Box::new(mounts::List { auth: false })),
        (["auth"], Verb::Read) => operation(Box::new(mounts::List { auth: true })),
        (["mounts", _, ..], Verb::Read) => operation(Box::new(mounts::Show::parse(&segments[1..]))),
        (["mounts", _, ..], Verb::Write) => operation(mounts::parse_enable(&segments[1..], &ask, rng)?),
        (["internal", "ui", "mounts"], Verb::Read) => operation(Box::new(mounts::Overview)),
        (["internal", "ui", "mounts", _, ..], Verb::Read) => operation(Box::new(mounts::Holding::parse(&segments[3..])?)),
        (["audit"], Verb::Read) => operation(Box::new(audit::List)),
        (["audit", _, ..], Verb::Write) => audit::parse_enable(&segments[1..], &ask, rng),
        (["audit", _, ..], Verb::Delete) => operation(Box::new(audit::Disable::parse(&segments[1..]))),
        (["audit-hash", _, ..], Verb::Write) => operation(Box::new(audit::Hash::parse(&segments[1..], &ask)?)),
        (["config", "auditing", "request-headers"], Verb::Read) => operation(Box::new(audit::Headers)),
        (["config", "auditing", "request-headers", name], Verb::Read) => operation(Box::new(audit::ShowHeader::parse(name))),
        (["config", "auditing", "request-headers", name], Verb::Write) => operation(Box::new(audit::SetHeader::parse(name, &ask)?)),
        (["config", "auditing", "request-headers", name], Verb::Delete) => operation(Box::new(audit::RemoveHeader::parse(name))),
        (
            ["seal" | "ha-status" | "auth"]
            | ["mounts" | "audit" | "audit-hash", ..]
            | ["internal", "ui", "mounts", ..]
            | ["config", "auditing", "request-headers"]
            | ["config", "auditing", "request-headers", _],
            _,
        ) => Err(AskError::UnsupportedOperation),
        _ => Err(AskError::UnsupportedPath),
    }
}

/// Carries an act out. Takes the permit as proof that the caller may.
pub(crate) async fn act(act: &Act, barrier: &Barrier, now: Timestamp, _permit: &Permit) -> Result<Outcome, PlanError> {
    match act {
        Act::Seal => match barrier.seal().await {
            Ok(()) => Ok(Outcome::answer(Reply::Done)),
            Err(error) => Err(PlanError::Refused(format!("{error}; seal the other nodes once there is a quorum, or stop them"))),
        },
        Act::Members => Ok(Outcome::answer(Reply::Data(engine::json(&members(barrier, now).await)))),
    }
}

async fn members(barrier: &Barrier, now: Timestamp) -> HaStatus {
    let members = barrier.members().await;
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

#[cfg(test)]
mod tests {
    use types::Path;

    use super::*;

    #[test]
    fn nothing_is_mounted_or_recorded_at_no_path() {
        let bodies = [("mounts", r#"{"type":"kv-v2"}"#), ("audit", r#"{"type":"file","options":{"file_path":"/var/log/audit.log"}}"#)];
        for (area, body) in bodies {
            let parsed = |path: String| {
                let body = crypto::SecretBytes::from(body.as_bytes().to_vec());
                let ask = Ask { verb: Verb::Write, path: Path::parse(&path).unwrap(), body, query: Vec::new() };
                parse(ask, &crypto::SeededRng::dangerous_from_seed(1))
            };
            assert!(parsed(format!("{area}/some")).is_ok(), "{area}");
            for path in [area.to_owned(), format!("{area}/")] {
                assert!(matches!(parsed(path), Err(AskError::UnsupportedOperation)), "{area}");
            }
        }
    }
}
