//! `conclave status`: exit 0 open, 2 sealed, 1 no answer; with `-live` 0 for every answer.

use client::{Client, Method};
use serde_json::{Map, Value};

use super::Answer;
use crate::args::{Global, Status};
use crate::connect;
use crate::fault::Fault;
use crate::output::{Printer, key_values, shown};

/// Exit code of a node that is sealed or not initialised.
const SEALED: u8 = 2;
/// Exit code of no answer: as 2 means "sealed" here, all else is 1.
const NO_ANSWER: u8 = 1;

/// Shows the seal of the node that answers, and who leads.
pub(crate) async fn run(global: &Global, printer: &Printer, args: &Status) -> Result<(), Fault> {
    let client = connect::client(global)?;
    let fields = read(&client).await.map_err(|fault| fault.with_code(NO_ANSWER))?;
    show(printer, &fields)?;
    match fields.get("sealed") {
        Some(Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) if args.live => Ok(()),
        _ => Err(Fault::code(SEALED)),
    }
}

/// The seal's fields, and the leader's when the node tells them.
async fn read(client: &Client) -> Result<Map<String, Value>, Fault> {
    let response = client.request(Method::Get, "sys/seal-status").send().await?;
    let mut fields = Answer::required(&response)?.data;
    if fields.get("sealed") != Some(&Value::Bool(false)) {
        return Ok(fields);
    }
    // The same node, so that both answers fit together.
    let leader = client.at(response.address())?.request(Method::Get, "sys/leader").send().await;
    if let Ok(response) = leader {
        fields.extend(Answer::required(&response)?.data);
    }
    Ok(fields)
}

/// Shows the fields of `sys/seal-status`, and of `sys/leader` when they are there.
pub(crate) fn show(printer: &Printer, fields: &Map<String, Value>) -> Result<(), Fault> {
    printer.answer(fields, &Value::Object(fields.clone()), || key_values(&rows(fields)))
}

fn rows(fields: &Map<String, Value>) -> Vec<[String; 2]> {
    let text = |name: &str| fields.get(name).map(shown);
    let is = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut add = |title: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| value != "n/a") {
            rows.push([title.to_owned(), value]);
        }
    };
    add("Seal Type", text("type"));
    add("Initialized", text("initialized"));
    add("Sealed", text("sealed"));
    add("Total Shares", text("n"));
    add("Threshold", text("t"));
    if is("sealed") && is("initialized") {
        add("Unseal Progress", text("progress").map(|progress| format!("{progress}/{}", text("t").unwrap_or_default())));
        add("Unseal Nonce", text("nonce"));
    }
    add("Version", text("version"));
    add("Build Date", text("commit_date").filter(|date| date != "n/a").or_else(|| text("build_date")));
    add("Storage Type", text("storage_type"));
    add("Cluster Name", text("cluster_name"));
    add("Cluster ID", text("cluster_id"));
    add("HA Enabled", text("ha_enabled"));
    if is("ha_enabled") {
        add("HA Cluster", text("leader_cluster_address"));
        add("HA Mode", Some(if is("is_self") { "active" } else { "standby" }.to_owned()));
        add("Active Since", text("active_time").filter(|time| !time.starts_with("0001-")));
        add("Active Node Address", text("leader_address"));
        add("Raft Committed Index", text("raft_committed_index"));
        add("Raft Applied Index", text("raft_applied_index"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_shown_while_sealed_only() {
        let status = |sealed: bool| {
            let fields = json!({"type": "shamir", "initialized": true, "sealed": sealed, "t": 3, "n": 5, "progress": 1, "nonce": "x",
                "cluster_name": ""});
            rows(fields.as_object().unwrap())
        };
        assert!(status(true).contains(&["Unseal Progress".to_owned(), "1/3".to_owned()]));
        assert!(!status(false).iter().any(|[title, _]| title.starts_with("Unseal")));
        assert!(!status(false).iter().any(|[title, _]| title == "Cluster Name"), "what is empty is left out");
    }
}
