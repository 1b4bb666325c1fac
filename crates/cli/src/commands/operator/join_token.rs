//! `conclave operator join-token`: tokens by which new nodes join.

use client::{Client, Method};
use serde_json::{Map, Value, json};

use super::people;
use crate::args::JoinToken;
use crate::commands::{Answer, one_segment};
use crate::fault::Fault;
use crate::output::{Printer, key_values, printable, shown, table};

const TOKENS: &str = "sys/storage/raft/join-token";

/// Makes one, lists them, or ends one.
pub(super) async fn run(client: &Client, printer: &Printer, args: &JoinToken) -> Result<(), Fault> {
    if args.list {
        return list(client, printer).await;
    }
    if let Some(id) = &args.revoke {
        let path = format!("{TOKENS}/{}", one_segment(id, "id of a join token")?);
        client.request(Method::Delete, &path).send().await.map_err(|error| Fault::from(error).during("end the join token"))?;
        return printer.done("Success! The join token is ended. A node that it has brought in stays (`conclave operator members`).");
    }
    let body = json!({ "node_id": args.node_id, "ttl": args.ttl, "non_voter": args.non_voter });
    let response = client.request(Method::Post, TOKENS).body(&body).send().await;
    let data = Answer::required(&response.map_err(|error| Fault::from(error).during("make a join token"))?)?.data;
    people::show(printer, &data, || {
        let rows: Vec<[String; 2]> = data.iter().map(|(name, value)| [name.clone(), shown(value)]).collect();
        let mut text = key_values(&rows);
        text.push_str(
            "\nIt is shown this once. On the new node, with a cluster block without certificates in its configuration, put it into a file\n\
             that only its user can read, then: conclave server -config=FILE -join=API_ADDRESS -join-token-file=FILE\n",
        );
        text
    })
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::List, TOKENS).send().await;
    let data = match response {
        Ok(response) => Answer::required(&response)?.data,
        Err(error) if error.status() == Some(404) => Map::new(),
        Err(error) => return Err(Fault::from(error).during("list the join tokens")),
    };
    people::show(printer, &data, || {
        let tokens = data.get("key_info").and_then(Value::as_object);
        let rows: Vec<[String; 6]> = tokens.into_iter().flatten().filter_map(|(id, token)| Some(row(id, token.as_object()?))).collect();
        if rows.is_empty() { "No join tokens\n".to_owned() } else { table(["Id", "For", "Non-Voter", "Made By", "Ends", "Used By"], &rows) }
    })
}

fn row(id: &str, token: &Map<String, Value>) -> [String; 6] {
    let text = |name: &str, none: &str| {
        let text = people::text(token, name);
        if text.is_empty() { none.to_owned() } else { printable(text) }
    };
    let non_voter = if people::is(token, "non_voter") { "true" } else { "false" };
    [printable(id), text("node_id", "any"), non_voter.to_owned(), text("created_by", ""), text("expire_time", ""), text("used_by", "-")]
}
