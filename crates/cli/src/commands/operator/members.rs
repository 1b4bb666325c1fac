//! `conclave operator members`, `operator raft list-peers|…`, `operator step-down`: who is in the cluster, votes and leads.

use std::time::Duration;

use client::{Client, Method};
use serde_json::{Map, Value, json};

use super::people;
use crate::args::{Autopilot, AutopilotConfig, MembersVerb, Raft};
use crate::commands::Answer;
use crate::fault::Fault;
use crate::output::{Printer, key_values, shown, table};

/// Longer than the cluster works at one change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs one of Conclave's verbs.
pub(super) async fn run(client: &Client, printer: &Printer, verb: Option<MembersVerb>) -> Result<(), Fault> {
    match verb {
        None | Some(MembersVerb::List) => list(client, printer).await,
        Some(MembersVerb::Health) => health(client, printer).await,
        Some(MembersVerb::Add(args)) => {
            let place = &args.place;
            let body = json!({
                "server_id": place.node, "cluster_address": place.cluster_addr, "api_address": place.api_addr, "non_voter": args.non_voter,
            });
            change(client, "add-peer", &body, "add the member").await?;
            let then = if args.non_voter { "replicates without a vote" } else { "votes once it has caught up and been stable" };
            printer.done(&format!("Success! {} is a member now; it {then}.", place.node))
        }
        Some(MembersVerb::Update(place)) => {
            let body = json!({ "server_id": place.node, "cluster_address": place.cluster_addr, "api_address": place.api_addr });
            change(client, "update-peer", &body, "update the member").await?;
            printer.done(&format!("Success! The cluster knows where {} is now.", place.node))
        }
        Some(MembersVerb::Remove(args)) => remove(client, printer, &args.node, args.force).await,
        Some(MembersVerb::Promote(args)) => promote(client, printer, &args.node, args.force).await,
        Some(MembersVerb::Demote(args)) => demote(client, printer, &args.node, args.force).await,
        Some(MembersVerb::Replace(args)) => {
            let body = json!({ "server_id": args.old, "replacement_id": args.new, "force": args.force });
            change(client, "replace-peer", &body, "replace the member").await?;
            printer.done(&format!("Success! {} has taken the place of {}, which is no member any more: stop it.", args.new, args.old))
        }
        Some(MembersVerb::Transfer(args)) => {
            let body = json!({ "server_id": args.node, "force": args.force });
            change(client, "transfer-leadership", &body, "transfer the leadership").await?;
            printer.done(&format!("Success! {} leads now.", args.node.as_deref().unwrap_or("Another member")))
        }
        Some(MembersVerb::StepDown) => step_down(client, printer).await,
    }
}

/// Runs one of Vault's verbs.
pub(super) async fn raft(client: &Client, printer: &Printer, verb: Raft) -> Result<(), Fault> {
    match verb {
        Raft::Snapshot(command) => super::snapshot::run(client, printer, command).await,
        Raft::ListPeers => list_peers(client, printer).await,
        Raft::RemovePeer(peer) => remove(client, printer, &peer.server_id, false).await,
        Raft::Promote(peer) => promote(client, printer, &peer.server_id, false).await,
        Raft::Demote(peer) => demote(client, printer, &peer.server_id, false).await,
        Raft::Autopilot(Autopilot::State) => {
            let answer = state(client).await?;
            printer.answer(&answer.data, &answer.whole, || shown_state(&answer.data))
        }
        Raft::Autopilot(Autopilot::GetConfig) => show_config(client, printer).await,
        Raft::Autopilot(Autopilot::SetConfig(config)) => set_config(client, printer, &config).await,
    }
}

/// Has another node lead.
pub(super) async fn step_down(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let request = client.request(Method::Put, "sys/step-down").within(Some(CHANGE_TIMEOUT));
    request.send().await.map_err(|error| Fault::from(error).during("step down"))?;
    printer.done("Success! Another member leads, if there is one that can.")
}

/// Compares the state hashes of all members at one entry.
pub(super) async fn check(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let request = client.request(Method::Put, "sys/storage/raft/check").within(Some(CHANGE_TIMEOUT));
    let response = request.send().await.map_err(|error| Fault::from(error).during("compare the members"))?;
    let answer = Answer::required(&response)?;
    let members: Vec<&Value> = answer.data.get("members").and_then(Value::as_array).into_iter().flatten().collect();
    printer.answer(&answer.data, &answer.whole, || {
        let rows: Vec<_> = members
            .iter()
            .map(|member| ["node_id", "voter", "applied", "keys", "bytes", "hash", "equal"].map(|field| shown(&member[field])))
            .collect();
        table(["Node", "Voter", "Applied", "Keys", "Bytes", "Hash", "Equal"], &rows)
    })?;
    let others: Vec<String> =
        members.iter().filter(|member| member["equal"] != json!(true)).map(|member| shown(&member["node_id"])).collect();
    match others.as_slice() {
        [] => Ok(()),
        others => {
            let fault = Fault::server(format!("not known to hold the same as the majority: {}", others.join(", ")));
            Err(fault.cure("one that differs ends by itself and is fed again when it is started; look whether the others can be reached"))
        }
    }
}

async fn change(client: &Client, path: &str, body: &Value, what: &'static str) -> Result<(), Fault> {
    let path = format!("sys/storage/raft/{path}");
    let request = client.request(Method::Put, &path).body(body).within(Some(CHANGE_TIMEOUT));
    request.send().await.map(drop).map_err(|error| Fault::from(error).during(what))
}

async fn remove(client: &Client, printer: &Printer, node: &str, force: bool) -> Result<(), Fault> {
    change(client, "remove-peer", &json!({ "server_id": node, "force": force }), "remove the member").await?;
    printer.done(&format!("Success! {node} is no member any more: stop it, and never give its id to another node."))
}

async fn promote(client: &Client, printer: &Printer, node: &str, force: bool) -> Result<(), Fault> {
    change(client, "promote", &json!({ "server_id": node, "force": force }), "promote the member").await?;
    printer.done(&format!("Success! {node} votes."))
}

async fn demote(client: &Client, printer: &Printer, node: &str, force: bool) -> Result<(), Fault> {
    change(client, "demote", &json!({ "server_id": node, "force": force }), "demote the member").await?;
    printer.done(&format!("Success! {node} replicates without a vote, until you promote it."))
}

async fn get(client: &Client, path: &str, what: &'static str) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, path).send().await.map_err(|error| Fault::from(error).during(what))?;
    Answer::required(&response)
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let data = get(client, "sys/ha-status", "members").await?.data;
    printer.answer(&data, &Value::Object(data.clone()), || {
        let nodes = data.get("nodes").and_then(Value::as_array);
        table(COLUMNS.map(|(title, _)| title), &nodes.into_iter().flatten().map(row).collect::<Vec<_>>())
    })
}

const COLUMNS: [(&str, &str); 12] = [
    ("Node", "node_id"),
    ("API Address", "api_address"),
    ("Cluster Address", "cluster_address"),
    ("Leader", "active_node"),
    ("Role", "role"),
    ("Healthy", "healthy"),
    ("Sealed", "sealed"),
    ("Applied Index", "applied_index"),
    ("Lag", "lag"),
    ("Term", "term"),
    ("Version", "version"),
    ("Last Echo", "last_echo"),
];

fn row(node: &Value) -> [String; 12] {
    COLUMNS.map(|(_, name)| {
        // Vault and OpenBao tell no node id.
        let name = if name == "node_id" && node.get(name).is_none() { "hostname" } else { name };
        node.get(name).map_or_else(|| "n/a".to_owned(), shown)
    })
}

async fn list_peers(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let answer = get(client, "sys/storage/raft/configuration", "the members").await?;
    printer.answer(&answer.data, &answer.whole, || {
        let servers = answer.data.get("config").and_then(|config| config.get("servers")).and_then(Value::as_array);
        let row = |server: &Value| {
            let field = |name: &str| server.get(name).map_or_else(|| "n/a".to_owned(), shown);
            let state = if server.get("leader") == Some(&Value::Bool(true)) { "leader" } else { "follower" };
            [field("node_id"), field("address"), state.to_owned(), field("voter")]
        };
        table(["Node", "Address", "State", "Voter"], &servers.into_iter().flatten().map(row).collect::<Vec<_>>())
    })
}

async fn state(client: &Client) -> Result<Answer, Fault> {
    get(client, "sys/storage/raft/autopilot/state", "the members' health").await
}

/// What is shown of each member's health.
const HEALTH: [(&str, &str); 10] = [
    ("Node", "id"),
    ("Status", "status"),
    ("Healthy", "healthy"),
    ("Since", "stable_since"),
    ("Last Contact", "last_contact"),
    ("Last Index", "last_index"),
    ("Lag", "lag"),
    ("Node Status", "node_status"),
    ("Version", "version"),
    ("Address", "address"),
];

fn shown_state(data: &Map<String, Value>) -> String {
    let summary = people::rows(data, &[("Healthy", "healthy"), ("Failure Tolerance", "failure_tolerance"), ("Leader", "leader")]);
    let servers = data.get("servers").and_then(Value::as_object);
    let row = |server: &Value| HEALTH.map(|(_, name)| server.get(name).map_or_else(|| "n/a".to_owned(), shown));
    let rows: Vec<_> = servers.into_iter().flat_map(Map::values).map(row).collect();
    format!("{}\n{}", key_values(&summary), table(HEALTH.map(|(title, _)| title), &rows))
}

/// As `autopilot state`, and the exit code says whether all is well.
async fn health(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let answer = state(client).await?;
    printer.answer(&answer.data, &answer.whole, || shown_state(&answer.data))?;
    if people::is(&answer.data, "healthy") {
        return Ok(());
    }
    let servers = answer.data.get("servers").and_then(Value::as_object);
    let is_ill = |server: &&Value| server.get("healthy") != Some(&Value::Bool(true));
    let ill: Vec<&str> =
        servers.into_iter().flat_map(Map::values).filter(is_ill).filter_map(|server| server.get("id").and_then(Value::as_str)).collect();
    Err(Fault::server(format!("not healthy: {}", ill.join(", "))).cure("look at their logs; `conclave operator top` shows them live"))
}

async fn show_config(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let answer = get(client, CONFIG, "the settings").await?;
    printer.answer(&answer.data, &answer.whole, || {
        key_values(&people::rows(
            &answer.data,
            &[
                ("Cleanup Dead Servers", "cleanup_dead_servers"),
                ("Last Contact Threshold", "last_contact_threshold"),
                ("Dead Server Last Contact Threshold", "dead_server_last_contact_threshold"),
                ("Server Stabilization Time", "server_stabilization_time"),
                ("Min Quorum", "min_quorum"),
                ("Max Trailing Logs", "max_trailing_logs"),
            ],
        ))
    })
}

const CONFIG: &str = "sys/storage/raft/autopilot/configuration";

async fn set_config(client: &Client, printer: &Printer, config: &AutopilotConfig) -> Result<(), Fault> {
    let mut body = Map::new();
    let mut give = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    give("cleanup_dead_servers", config.cleanup_dead_servers.map(Value::from));
    give("last_contact_threshold", config.last_contact_threshold.clone().map(Value::from));
    give("dead_server_last_contact_threshold", config.dead_server_last_contact_threshold.clone().map(Value::from));
    give("max_trailing_logs", config.max_trailing_logs.map(Value::from));
    give("min_quorum", config.min_quorum.map(Value::from));
    give("server_stabilization_time", config.server_stabilization_time.clone().map(Value::from));
    let request = client.request(Method::Put, CONFIG).body(&body).idempotent();
    request.send().await.map_err(|error| Fault::from(error).during("change the settings"))?;
    printer.done("Success! Updated the settings of autopilot.")
}
