//! `sys/storage/raft/…` and `sys/step-down`: who the members are, who votes, who leads. Snapshots and joining are elsewhere.
//!
//! Always: what is asked here works at every node, since Raft passes it on to the leader. A change is made before it is answered.

use barrier::{Barrier, Plan};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Route};
use raft::{ChangeError, Member, MemberChange, MemberFacts, MembersView, RefusalKind};
use serde_json::{Map, Value, json};
use types::capability::Verb;
use types::{NodeId, duration};

use super::keys::{acting, method, route};
use crate::autopilot::{Config, DEAD_MIN, MIN_QUORUM_MIN};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::{Answer, shown_time};

const SERVER_ID: Field = Field::required("server_id", FieldKind::Text, "The member's node id.");
const FORCE: Field = Field::optional(
    "force",
    FieldKind::Boolean,
    "Even if too few voters that can be reached would be left, or the member has not caught up.",
);
const CLUSTER_ADDRESS: Field = Field::required("cluster_address", FieldKind::Text, "Where its peers reach it: https://host:port.");
const API_ADDRESS: Field = Field::required("api_address", FieldKind::Text, "Where clients reach it: a URL.");

/// What may be asked. Vault's own paths ask for what Vault asks for; those that Vault has not ask for sudo.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route(
        "storage/raft/configuration",
        "The members of the cluster.",
        &[method(Verb::Read, "Shows where each is, who leads and who votes.", &[], configuration)],
        Access::Token,
    ),
    route(
        "storage/raft/remove-peer",
        "Members that go.",
        &[method(Verb::Write, "Removes a member; a leader hands over first.", &[SERVER_ID, FORCE], remove)],
        Access::Token,
    ),
    route(
        "storage/raft/promote",
        "Members that are to vote.",
        &[method(Verb::Write, "Gives a member a vote, once it has caught up.", &[SERVER_ID, FORCE], promote)],
        Access::Token,
    ),
    route(
        "storage/raft/demote",
        "Members that are not to vote.",
        &[method(Verb::Write, "Takes a member's vote for good; it replicates on.", &[SERVER_ID, FORCE], demote)],
        Access::Token,
    ),
    route(
        "storage/raft/add-peer",
        "Members whose certificates the operator brings.",
        &[method(
            Verb::Write,
            "Adds a node; it votes once it has caught up and been stable, unless it is a non-voter.",
            &[
                SERVER_ID,
                CLUSTER_ADDRESS,
                API_ADDRESS,
                Field::optional("non_voter", FieldKind::Boolean, "Whether it replicates without a vote for good."),
            ],
            add,
        )],
        Access::Sudo,
    ),
    route(
        "storage/raft/update-peer",
        "Members that have moved.",
        &[method(Verb::Write, "Tells the cluster where a member is now.", &[SERVER_ID, CLUSTER_ADDRESS, API_ADDRESS], update)],
        Access::Sudo,
    ),
    route(
        "storage/raft/replace-peer",
        "Members that take another's place.",
        &[method(
            Verb::Write,
            "Gives one member a vote, and then removes another.",
            &[SERVER_ID, Field::required("replacement_id", FieldKind::Text, "The node id of the member that takes its place."), FORCE],
            replace,
        )],
        Access::Sudo,
    ),
    route(
        "storage/raft/transfer-leadership",
        "Who leads.",
        &[method(
            Verb::Write,
            "Has another voter lead.",
            &[Field::optional("server_id", FieldKind::Text, "Its node id; without one, an open voter that has come furthest."), FORCE],
            transfer,
        )],
        Access::Sudo,
    ),
    route(
        "step-down",
        "Who leads.",
        &[method(Verb::Write, "Has another voter lead: an open one that has come furthest.", &[], step_down)],
        Access::Sudo,
    ),
    route(
        "storage/raft/autopilot/state",
        "How the members are.",
        &[method(Verb::Read, "Shows their health, and how many may fail.", &[], state)],
        Access::Token,
    ),
    route(
        "storage/raft/autopilot/configuration",
        "How the leader looks after the members by itself.",
        &[
            method(Verb::Read, "Shows the settings.", &[], read_config),
            method(
                Verb::Write,
                "Changes the settings; what is left out stays.",
                &[
                    Field::optional("cleanup_dead_servers", FieldKind::Boolean, "Whether dead members are removed."),
                    Field::optional("last_contact_threshold", FieldKind::Duration, "Silent for so long, a member is not healthy."),
                    Field::optional(
                        "dead_server_last_contact_threshold",
                        FieldKind::Duration,
                        "Silent for so long, a member is dead; at least 1m.",
                    ),
                    Field::optional("max_trailing_logs", FieldKind::Integer, "Lacking more entries, a member is not healthy."),
                    Field::optional(
                        "min_quorum",
                        FieldKind::Integer,
                        "Dead members are removed only while so many voters are left; at least 3.",
                    ),
                    Field::optional("server_stabilization_time", FieldKind::Duration, "Healthy for so long, a learner gets a vote."),
                ],
                write_config,
            ),
            method(Verb::Delete, "Makes the defaults the settings.", &[], reset_config),
        ],
        Access::Token,
    ),
];

fn barrier<'a>(scope: &'a Scope<'_>) -> Result<&'a Barrier, PlanError> {
    scope.store.keys().ok_or_else(|| PlanError::Refused("raft storage is not in use".into()))
}

/// A change of the members, as it was asked for.
struct Ask {
    change: MemberChange,
    force: bool,
    /// A cluster in which nobody else could lead is left as it is.
    may_be_alone: bool,
}

fn ask(change: MemberChange, fields: &Fields) -> Result<Box<dyn Operation>, AskError> {
    let force = fields.boolean("force")?.unwrap_or(false);
    acting(Ask { change, force, may_be_alone: false }, |ask, scope| Box::pin(carry_out(ask, scope)))
}

fn id(fields: &Fields, name: &str) -> Result<NodeId, AskError> {
    let text = match fields.text(name)? {
        // Vault's own words.
        None | Some("") if name == "server_id" => return Err(AskError::Invalid("no server id provided".into())),
        None | Some("") => return Err(AskError::Invalid(format!("{name} is missing"))),
        Some(text) => text,
    };
    NodeId::parse(text).map_err(|error| AskError::Invalid(format!("{name}: {error}")))
}

fn member(fields: &Fields) -> Result<Member, AskError> {
    let cluster_address = fields.required_text("cluster_address")?.trim_end_matches('/').to_owned();
    let api_address = fields.required_text("api_address")?.trim_end_matches('/').to_owned();
    let is_address = |text: &str, schemes: &[&str]| {
        let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
        let port = rest.and_then(|rest| rest.rsplit_once(':')).filter(|(host, _)| !host.is_empty());
        port.is_some_and(|(host, port)| port.parse::<u16>().is_ok_and(|port| port > 0) && !host.contains(['/', '@', '?', '#']))
    };
    if !is_address(&cluster_address, &["https://"]) {
        return Err(AskError::Invalid("cluster_address must be https://host:port".into()));
    }
    if !is_address(&api_address, &["https://", "http://"]) {
        return Err(AskError::Invalid("api_address must be https://host:port or http://host:port".into()));
    }
    Ok(Member { cluster_address, api_address, non_voter: fields.boolean("non_voter")?.unwrap_or(false), ..Member::default() })
}

fn remove(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    ask(MemberChange::Remove { id: id(&fields, "server_id")? }, &fields)
}

fn promote(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    ask(MemberChange::Promote { id: id(&fields, "server_id")? }, &fields)
}

fn demote(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    ask(MemberChange::Demote { id: id(&fields, "server_id")? }, &fields)
}

fn add(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    ask(MemberChange::Add { id: id(&fields, "server_id")?, member: member(&fields)? }, &fields)
}

fn update(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    struct Moved {
        id: NodeId,
        member: Member,
    }
    let fields = Fields::of(asked.ask)?;
    acting(Moved { id: id(&fields, "server_id")?, member: member(&fields)? }, |moved, scope| {
        Box::pin(async move {
            // Its key stays what it was: only the node itself can show another.
            let view = barrier(scope)?.members_view().await.map_err(refused)?;
            let key = view.member(&moved.id).and_then(|facts| facts.info.member.key);
            let change = MemberChange::Update { id: moved.id.clone(), member: Member { key, ..moved.member.clone() } };
            carry_out(&Ask { change, force: false, may_be_alone: false }, scope).await
        })
    })
}

fn replace(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    ask(MemberChange::Replace { old: id(&fields, "server_id")?, new: id(&fields, "replacement_id")? }, &fields)
}

fn transfer(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let to = fields.text("server_id")?.filter(|text| !text.is_empty()).map(|_| id(&fields, "server_id")).transpose()?;
    ask(MemberChange::Transfer { to }, &fields)
}

fn step_down(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let ask = Ask { change: MemberChange::Transfer { to: None }, force: false, may_be_alone: true };
    acting(ask, |ask, scope| Box::pin(carry_out(ask, scope)))
}

async fn carry_out(ask: &Ask, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let made = barrier(scope)?.change_members(ask.change.clone(), ask.force).await;
    match made {
        Ok(_) => {
            tracing::info!(change = ?ask.change, "the members were changed on request");
            Ok(Outcome::answer(Answer::Done))
        }
        // As Vault: it would lead again at once.
        Err(ChangeError::Refused(refusal)) if ask.may_be_alone && refusal.kind == RefusalKind::LastVoter => {
            Ok(Outcome::answer(Answer::Done))
        }
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: ChangeError) -> PlanError {
    match error {
        ChangeError::Refused(refusal) if refusal.kind == RefusalKind::Busy => PlanError::Unavailable(refusal.text),
        ChangeError::Refused(refusal) => PlanError::Refused(refusal.text),
        ChangeError::NoLeader => PlanError::Commit(barrier::CommitError::NoLeader),
        ChangeError::Stopped => PlanError::Commit(barrier::CommitError::Stopped),
        ChangeError::Unfinished(_) => PlanError::Unavailable(error.to_string()),
    }
}

/// `host:port`, as Vault shows it.
fn address(facts: &MemberFacts) -> &str {
    let address = &facts.info.member.cluster_address;
    address.strip_prefix("https://").unwrap_or(address)
}

fn configuration(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let view = barrier(scope)?.members_view().await.map_err(refused)?;
            Ok(Outcome::data(&shown_configuration(&view)))
        })
    })
}

fn shown_configuration(view: &MembersView) -> Value {
    let server = |facts: &MemberFacts| {
        json!({
            "node_id": facts.info.id.as_str(),
            "address": address(facts),
            "leader": facts.info.id == view.leader,
            // What clients expect of Vault's Raft.
            "protocol_version": "3",
            "voter": facts.info.voter,
        })
    };
    let servers: Vec<Value> = view.members.iter().map(server).collect();
    json!({ "config": { "servers": servers, "index": view.configured.map_or(0, |position| position.index.0) } })
}

fn state(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            let config = Config::read(&scope.records.view)?;
            let (view, told) = tokio::join!(barrier.members_view(), barrier.members());
            let view = view.map_err(refused)?;
            let version = |id: &NodeId| {
                let of = told.iter().find(|(info, _)| info.id == *id).and_then(|(_, status)| status.as_ref());
                of.map(|status| status.version.clone()).unwrap_or_default()
            };
            Ok(Outcome::data(&shown_state(&view, &config, scope.now, &version)))
        })
    })
}

fn shown_state(view: &MembersView, config: &Config, now: types::Timestamp, version: &dyn Fn(&NodeId) -> String) -> Value {
    let is_voter = |facts: &&MemberFacts| facts.info.voter;
    let ids = |of: &dyn Fn(&&MemberFacts) -> bool| -> Vec<&str> {
        view.members.iter().filter(|facts| of(facts)).map(|facts| facts.info.id.as_str()).collect()
    };
    let (voters, well) = (ids(&is_voter), ids(&|facts| facts.info.voter && facts.health.healthy));
    let mut servers = Map::new();
    for facts in &view.members {
        let status = match (facts.info.id == view.leader, facts.info.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "non-voter",
        };
        let shown = json!({
            "id": facts.info.id.as_str(),
            "name": facts.info.id.as_str(),
            "address": address(facts),
            "node_status": if config.is_dead(facts, now) { "failed" } else { "alive" },
            "last_contact": facts.last_contact.map_or_else(|| "never".to_owned(), duration::print_go),
            "last_term": facts.matched.map_or(0, |matched| matched.term.0),
            "last_index": facts.matched.map_or(0, |matched| matched.index.0),
            "lag": facts.lag,
            "healthy": facts.health.healthy,
            "stable_since": shown_time(facts.health.since),
            "status": status,
            "version": version(&facts.info.id),
            "node_type": if facts.info.member.non_voter { "non-voter" } else { "voter" },
        });
        servers.insert(facts.info.id.to_string(), shown);
    }
    let mut shown = json!({
        "healthy": view.members.iter().all(|facts| facts.health.healthy),
        "failure_tolerance": well.len().saturating_sub(voters.len() / 2 + 1),
        "leader": view.leader.as_str(),
        "voters": voters,
        "servers": servers,
    });
    let non_voters = ids(&|facts| !facts.info.voter && facts.info.member.non_voter);
    if !non_voters.is_empty() {
        shown["non_voters"] = json!(non_voters);
    }
    shown
}

fn read_config(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let config = Config::read(&scope.records.view)?;
        Ok(Outcome::data(&json!({
            "cleanup_dead_servers": config.cleanup_dead_servers,
            "last_contact_threshold": duration::print_go(config.last_contact_threshold),
            "dead_server_last_contact_threshold": duration::print_go(config.dead_server_last_contact_threshold),
            "max_trailing_logs": config.max_trailing_logs,
            "min_quorum": config.min_quorum,
            "server_stabilization_time": duration::print_go(config.server_stabilization_time),
        })))
    }))
}

fn write_config(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    // As Vault: zero says nothing.
    let time = |name: &str| Ok::<_, AskError>(fields.duration(name)?.filter(|time| !time.is_zero()));
    let count = |name: &str| Ok::<_, AskError>(fields.integer(name)?.filter(|count| *count > 0));
    let (cleanup, dead) = (fields.boolean("cleanup_dead_servers")?, time("dead_server_last_contact_threshold")?);
    let (contact, stabilization) = (time("last_contact_threshold")?, time("server_stabilization_time")?);
    let (trailing, min_quorum) = (count("max_trailing_logs")?, count("min_quorum")?);
    if let Some(dead) = dead.filter(|dead| *dead < DEAD_MIN) {
        let text = format!("dead_server_last_contact_threshold should not be set to less than 1m; received: {}", dead.as_secs());
        return Err(AskError::Invalid(text));
    }
    Ok(planned(move |scope| {
        let known = Config::read(&scope.records.view)?;
        let config = Config {
            cleanup_dead_servers: cleanup.unwrap_or(known.cleanup_dead_servers),
            last_contact_threshold: contact.unwrap_or(known.last_contact_threshold),
            dead_server_last_contact_threshold: dead.unwrap_or(known.dead_server_last_contact_threshold),
            max_trailing_logs: trailing.unwrap_or(known.max_trailing_logs),
            min_quorum: min_quorum.unwrap_or(known.min_quorum),
            server_stabilization_time: stabilization.unwrap_or(known.server_stabilization_time),
        };
        check(&config)?;
        let mut plan = Plan::new();
        config.write(&scope.records.view, &mut plan)?;
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn check(config: &Config) -> Result<(), PlanError> {
    if config.cleanup_dead_servers && config.min_quorum < MIN_QUORUM_MIN {
        let text = format!(
            "min_quorum must be set when cleanup_dead_servers is set and it should at least be {MIN_QUORUM_MIN}; cleanup_dead_servers: true, \
             min_quorum: {}",
            config.min_quorum
        );
        return Err(PlanError::Refused(text));
    }
    if config.dead_server_last_contact_threshold < config.last_contact_threshold {
        let shown = [config.dead_server_last_contact_threshold, config.last_contact_threshold].map(duration::print);
        let text = format!(
            "dead_server_last_contact_threshold ({}) must not be less than last_contact_threshold ({}): a member is unhealthy before it is dead",
            shown[0], shown[1]
        );
        return Err(PlanError::Refused(text));
    }
    Ok(())
}

fn reset_config(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let mut plan = Plan::new();
        Config::reset(&scope.records.view, &mut plan)?;
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft::{Health, MemberInfo};
    use types::{Index, Position, Term, Timestamp};

    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    fn view() -> MembersView {
        let facts = |id: &str, voter: bool, non_voter: bool, last_contact| MemberFacts {
            info: MemberInfo {
                id: NodeId::parse(id).unwrap(),
                member: Member { cluster_address: format!("https://{id}:8201"), non_voter, ..Member::default() },
                voter,
            },
            last_contact,
            matched: Some(Position { term: Term(3), index: Index(40) }),
            lag: 2,
            health: Health { healthy: last_contact.is_some_and(|contact| contact < Duration::from_secs(10)), since: Timestamp(0) },
        };
        MembersView {
            leader: NodeId::parse("a").unwrap(),
            term: Term(3),
            last: Some(Position { term: Term(3), index: Index(42) }),
            configured: Some(Position { term: Term(2), index: Index(7) }),
            members: vec![
                facts("a", true, false, Some(Duration::ZERO)),
                facts("b", true, false, Some(Duration::from_millis(12))),
                facts("c", true, false, Some(Duration::from_secs(90_000))),
                facts("d", false, false, Some(Duration::ZERO)),
                facts("e", false, true, None),
            ],
        }
    }

    #[test]
    fn members_are_shown_as_vault_shows_them() {
        let shown = shown_configuration(&view());
        assert_eq!(shown["config"]["index"], 7);
        let first = json!({ "node_id": "a", "address": "a:8201", "leader": true, "protocol_version": "3", "voter": true });
        assert_eq!(shown["config"]["servers"][0], first);
        assert_eq!(shown["config"]["servers"][4]["voter"], false);

        let shown = shown_state(&view(), &Config::default(), Timestamp(1_000), &|id| format!("1.{id}"));
        assert_eq!(shown["healthy"], false);
        assert_eq!(shown["failure_tolerance"], 0);
        assert_eq!((&shown["voters"], &shown["non_voters"]), (&json!(["a", "b", "c"]), &json!(["e"])));
        for (id, name, value) in [
            ("a", "status", json!("leader")),
            ("b", "status", json!("voter")),
            ("b", "last_contact", json!("12ms")),
            ("b", "last_term", json!(3)),
            ("b", "last_index", json!(40)),
            ("b", "stable_since", json!("1970-01-01T00:00:00Z")),
            ("b", "version", json!("1.b")),
            ("c", "node_status", json!("failed")),
            ("d", "status", json!("non-voter")),
            ("d", "node_type", json!("voter")),
            ("e", "node_type", json!("non-voter")),
            ("e", "node_status", json!("alive")),
            ("e", "last_contact", json!("never")),
        ] {
            assert_eq!(shown["servers"][id][name], value, "{name} of {id}");
        }
    }

    #[tokio::test]
    async fn settings_of_autopilot_are_checked_and_kept() {
        let world = World::new(1);
        const PATH: &str = "sys/storage/raft/autopilot/configuration";
        let defaults = json!({
            "cleanup_dead_servers": false, "dead_server_last_contact_threshold": "24h0m0s", "last_contact_threshold": "10s",
            "max_trailing_logs": 1000, "min_quorum": 0, "server_stabilization_time": "10s",
        });
        assert_eq!(world.ask(Verb::Read, PATH, Value::Null).await, Ok(defaults.clone()));
        for (body, text) in [
            (
                json!({ "dead_server_last_contact_threshold": "10s" }),
                "dead_server_last_contact_threshold should not be set to less than 1m",
            ),
            (json!({ "cleanup_dead_servers": true }), "min_quorum must be set when cleanup_dead_servers is set"),
            (json!({ "cleanup_dead_servers": true, "min_quorum": 2 }), "min_quorum must be set when cleanup_dead_servers is set"),
            (json!({ "min_quorum": -2 }), "min_quorum must be a whole number"),
            (json!({ "max_trailing_logs": "abc" }), "max_trailing_logs must be a whole number"),
            (json!({ "last_contact_threshold": "2h", "dead_server_last_contact_threshold": "1h" }), "must not be less than"),
        ] {
            let refused = world.ask(Verb::Write, PATH, body.clone()).await;
            assert!(
                matches!(&refused, Err(Refusal::Refused(said) | Refusal::Ask(AskError::Invalid(said))) if said.contains(text)),
                "{body}: {refused:?}"
            );
        }
        assert_eq!(world.ask(Verb::Read, PATH, Value::Null).await, Ok(defaults.clone()), "nothing of it was kept");
        let body =
            json!({ "cleanup_dead_servers": true, "min_quorum": 3, "server_stabilization_time": 20, "last_contact_threshold": "0s" });
        assert_eq!(world.ask(Verb::Write, PATH, body).await, Ok(Value::Null));
        let mut changed = defaults.clone();
        changed["cleanup_dead_servers"] = json!(true);
        changed["min_quorum"] = json!(3);
        changed["server_stabilization_time"] = json!("20s");
        assert_eq!(world.ask(Verb::Read, PATH, Value::Null).await, Ok(changed));
        assert_eq!(world.ask(Verb::Delete, PATH, Value::Null).await, Ok(Value::Null));
        assert_eq!(world.ask(Verb::Read, PATH, Value::Null).await, Ok(defaults));
    }

    #[tokio::test]
    async fn changes_are_asked_for_in_full_and_by_who_may() {
        let world = World::new(2);
        let place = json!({ "server_id": "d", "cluster_address": "https://d:1", "api_address": "https://d:2" });
        let with = |name: &str, value: &str| {
            let mut body = place.clone();
            body[name] = json!(value);
            body
        };
        for (path, body, text) in [
            ("remove-peer", json!({}), "no server id provided"),
            ("promote", json!({ "server_id": "" }), "no server id provided"),
            ("demote", json!({ "server_id": "Upper Case" }), "is no node id"),
            ("replace-peer", json!({ "server_id": "a" }), "replacement_id is missing"),
            ("add-peer", with("cluster_address", "http://d:1"), "cluster_address must be https://host:port"),
            ("add-peer", with("cluster_address", "https://d"), "cluster_address must be https://host:port"),
            ("add-peer", with("api_address", "https://u@d:1"), "api_address must be"),
            ("update-peer", with("api_address", "d:1"), "api_address must be"),
            ("add-peer", place.clone(), "raft storage is not in use"),
        ] {
            let refused = world.ask(Verb::Write, &format!("sys/storage/raft/{path}"), body).await;
            assert!(
                matches!(&refused, Err(Refusal::Refused(said) | Refusal::Ask(AskError::Invalid(said))) if said.contains(text)),
                "{path}: {refused:?}"
            );
        }
        let policy =
            r#"path "sys/storage/raft/*" { capabilities = ["create", "update"] } path "sys/step-down" { capabilities = ["update"] }"#;
        world.ask(Verb::Write, "sys/policies/acl/p", json!({ "policy": policy })).await.unwrap();
        let made = world.ask(Verb::Write, "auth/token/create", json!({ "policies": ["p"] })).await.unwrap();
        let token = made["auth"]["client_token"].as_str().unwrap();
        for (path, is_allowed) in [
            ("storage/raft/remove-peer", true),
            ("storage/raft/add-peer", false),
            ("storage/raft/replace-peer", false),
            ("storage/raft/transfer-leadership", false),
            ("step-down", false),
        ] {
            let asked = world.ask_as(token, Verb::Write, &format!("sys/{path}"), place.clone()).await;
            assert_eq!(asked != Err(Refusal::Denied), is_allowed, "{path}: {asked:?}");
        }
        let asked = world.ask_in("team", &world.root_token, Verb::Read, "sys/storage/raft/configuration", Value::Null).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}
