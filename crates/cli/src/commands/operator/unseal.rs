//! `conclave operator unseal` and `seal`: opening the cluster share by share, and closing it.

use std::time::{Duration, Instant};

use client::{Client, Method};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::people;
use crate::args::{Seal, Unseal};
use crate::commands::{Answer, status};
use crate::fault::Fault;
use crate::output::{Printer, printable, table};

/// How long a node may take to open once enough shares have come, before a person is told to look again.
const OPEN_MAX: Duration = Duration::from_secs(5);
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// Exit code when a node has not confirmed that it is sealed.
const UNCONFIRMED: u8 = 2;

/// `PUT sys/unseal`, lending the share.
#[derive(Serialize)]
struct Body<'a> {
    key: &'a str,
    reset: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    migrate: bool,
}

/// Gives one share.
pub(super) async fn run(client: &Client, printer: &Printer, args: Unseal) -> Result<(), Fault> {
    let prompt = if args.reset { "A share, as proof (not shown): " } else { "Unseal key (not shown): " };
    let (reset, migrate) = (args.reset, args.migrate);
    let response = people::give(args.share, prompt, "unseal", async |share| {
        // EXPOSE: the share goes to the server, without a copy that would stay behind.
        let body = Body { key: share.expose(), reset, migrate };
        let request = client.request(Method::Put, "sys/unseal").body(&body);
        if reset { request.idempotent().send().await } else { request.send().await }
    });
    let response = response.await?;
    let mut fields = Answer::required(&response)?.data;
    if !reset && printer.is_for_people() && is_opening(&fields) {
        fields = await_open(&client.at(response.address())?, fields).await;
    }
    status::show(printer, &fields)?;
    printer.say(&guide(&fields, reset))
}

/// Enough shares have come, and the node that answers has no keys yet: the coordinator hands them over.
fn is_opening(fields: &Map<String, Value>) -> bool {
    people::is(fields, "sealed") && people::number(fields, "progress") == 0
}

async fn await_open(node: &Client, mut fields: Map<String, Value>) -> Map<String, Value> {
    let deadline = Instant::now() + OPEN_MAX;
    while is_opening(&fields) && Instant::now() < deadline {
        tokio::time::sleep(OPEN_PAUSE).await;
        if let Ok(response) = node.request(Method::Get, "sys/seal-status").send().await
            && let Ok(answer) = Answer::required(&response)
        {
            fields = answer.data;
        }
    }
    fields
}

/// What happens next, who has to come, and how to check.
fn guide(fields: &Map<String, Value>, was_reset: bool) -> String {
    let (given, needed) = (people::number(fields, "progress"), people::number(fields, "t"));
    if !people::is(fields, "sealed") {
        return "\nThe cluster is open. Each node that can be reached opens within moments; see which have:\n  conclave operator members\n"
            .to_owned();
    }
    if was_reset {
        return "\nThe shares that were given are thrown away. Begin anew, at any node:\n  conclave operator unseal\n".to_owned();
    }
    if given == 0 {
        return "\nEnough shares have come, and this node is not open yet. Look again; its trace says what it waits for:\n  conclave status\n".to_owned();
    }
    let left = needed.saturating_sub(given);
    format!(
        "\n{given} of {needed} shares have come; {left} more {} needed.\n{}Next, another holder does this, at any node:\n  conclave operator unseal\nCheck:\n  conclave status\n",
        if left == 1 { "is" } else { "are" },
        people::who(fields),
    )
}

/// Seals every node, or one.
pub(super) async fn seal(client: &Client, printer: &Printer, args: &Seal) -> Result<(), Fault> {
    match &args.node {
        Some(node) => seal_one(client, printer, node).await,
        None => seal_all(client, printer).await,
    }
}

async fn seal_all(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let request = client.request(Method::Put, "sys/seal").body(&json!({ "report": true })).idempotent();
    let response = request.send().await.map_err(|error| Fault::from(error).during("seal"))?;
    // Vault and OpenBao, and a node of an older version, answer nothing.
    let Some(answer) = Answer::of(&response)? else { return printer.done("Success! The cluster is sealed.") };
    let nodes = answer.data.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
    let id = |node: &Value| node.get("node_id").and_then(Value::as_str).map(printable).unwrap_or_default();
    let confirmed = |node: &Value| node.get("confirmed") == Some(&Value::Bool(true));
    people::show(printer, &answer.data, || {
        let rows: Vec<[String; 2]> =
            nodes.iter().map(|node| [id(node), if confirmed(node) { "sealed" } else { "not confirmed" }.to_owned()]).collect();
        table(["Node", "State"], &rows)
    })?;
    let silent: Vec<String> = nodes.iter().filter(|node| !confirmed(node)).map(id).collect();
    if silent.is_empty() {
        return printer.say("\nSuccess! Every node is sealed, and holds no key. A quorum opens them again:\n  conclave operator unseal\n");
    }
    Err(Fault::server(format!("the cluster is sealed, but of {} nobody has heard that it is", silent.join(", ")))
        .cure("a node that is cut off seals itself when it reaches the others again; stop its process if you must be sure now")
        .with_code(UNCONFIRMED))
}

/// A node seals itself: so it is found first, and asked itself.
async fn seal_one(client: &Client, printer: &Printer, node: &str) -> Result<(), Fault> {
    let during = |error| Fault::from(error).during("seal one node");
    let members = client.request(Method::Get, "sys/ha-status").send().await.map_err(during)?;
    let members = Answer::required(&members)?.data;
    let address = address_of(&members, node)?;
    let body = json!({ "node": node });
    client.at(&address)?.request(Method::Put, "sys/seal").body(&body).idempotent().send().await.map_err(during)?;
    printer.done(&format!("Success! {node} is sealed. The others are not; it opens again with a quorum of shares."))
}

fn address_of(members: &Map<String, Value>, node: &str) -> Result<String, Fault> {
    let nodes = members.get("nodes").and_then(Value::as_array).into_iter().flatten();
    let mut ids = Vec::new();
    for member in nodes {
        let id = member.get("node_id").and_then(Value::as_str).unwrap_or_default();
        match member.get("api_address").and_then(Value::as_str) {
            Some(address) if id == node => return Ok(address.to_owned()),
            _ => ids.push(id),
        }
    }
    Err(Fault::local(format!("no member is called {node:?}")).cure(format!("the members are {}", ids.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_holder_is_told_what_happens_next() {
        let waiting = json!({"sealed": true, "t": 3, "progress": 1, "holders_present": ["Ada"], "holders_missing": ["Grace", "Alan"]});
        for (answer, was_reset, says) in [
            (waiting, false, "1 of 3 shares have come; 2 more are needed.\nHave come: Ada.\nCan still come: Grace, Alan.\n"),
            (json!({"sealed": true, "t": 3, "progress": 2}), false, "2 of 3 shares have come; 1 more is needed."),
            (json!({"sealed": false, "t": 3, "progress": 0}), false, "The cluster is open."),
            (json!({"sealed": true, "t": 3, "progress": 0}), true, "thrown away"),
            (json!({"sealed": true, "t": 3, "progress": 0}), false, "not open yet"),
        ] {
            let text = guide(&fields(answer), was_reset);
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn a_node_is_found_by_its_id_only() {
        let members =
            fields(json!({"nodes": [{"node_id": "n1", "api_address": "http://a"}, {"node_id": "n2", "api_address": "http://b"}]}));
        assert_eq!(address_of(&members, "n2").unwrap(), "http://b");
        assert!(address_of(&members, "n3").unwrap_err().to_string().contains("n1, n2"));
    }
}
