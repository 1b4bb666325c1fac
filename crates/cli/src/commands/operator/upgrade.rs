//! `conclave operator upgrade`: how far the cluster has been upgraded, and the step after which nobody can go back.

use client::{Client, Method};
use serde_json::{Map, Value, json};

use crate::args::{Raise, Upgrade};
use crate::commands::Answer;
use crate::fault::Fault;
use crate::output::{Printer, key_values, shown, table, titled};

const PATH: &str = "sys/storage/raft/feature-level";

/// Runs one of them.
pub(super) async fn run(client: &Client, printer: &Printer, command: Upgrade) -> Result<(), Fault> {
    match command {
        Upgrade::Status => status(client, printer).await,
        Upgrade::Raise(args) => raise(client, printer, &args).await,
    }
}

async fn status(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::Get, PATH).send().await.map_err(|error| Fault::from(error).during("upgrade status"))?;
    let data = Answer::required(&response)?.data;
    printer.answer(&data, &Value::Object(data.clone()), || told(&data))
}

async fn raise(client: &Client, printer: &Printer, args: &Raise) -> Result<(), Fault> {
    let mut body = Map::new();
    if let Some(level) = args.level {
        body.insert("level".to_owned(), json!(level));
    }
    // Once raised it stays raised, so that asking again does no harm.
    let request = client.request(Method::Put, PATH).body(&body).idempotent();
    let response = request.send().await.map_err(|error| Fault::from(error).during("upgrade raise"))?;
    let data = Answer::required(&response)?.data;
    printer.answer(&data, &Value::Object(data.clone()), || told(&data))
}

fn told(data: &Map<String, Value>) -> String {
    let of = |name: &str| data.get(name).filter(|value| !value.is_null()).map_or_else(|| "n/a".to_owned(), shown);
    let level = data.get("level").and_then(Value::as_u64);
    let next = match data.get("level_common").and_then(Value::as_u64) {
        None => "no: a member does not answer, or knows too little".to_owned(),
        Some(common) if Some(common) > level => format!("to {common}: `conclave operator upgrade raise`"),
        Some(_) => "no: every member is at its highest, or waits for the others".to_owned(),
    };
    let rows = [("Feature Level", of("level")), ("Raised By Version", of("raised_by_version")), ("Can Be Raised", next)];
    let rows = rows.map(|(title, value)| [title.to_owned(), if value.is_empty() { "n/a".to_owned() } else { value }]);
    let members = data.get("members").and_then(Value::as_array);
    let member = |member: &Value| {
        ["node_id", "voter", "version", "level_min", "level_max"].map(|name| match member.get(name) {
            None | Some(Value::Null) => "n/a".to_owned(),
            Some(Value::String(text)) if text.is_empty() => "n/a".to_owned(),
            Some(value) => shown(value),
        })
    };
    let members: Vec<_> = members.into_iter().flatten().map(member).collect();
    let members = table(["Node", "Voter", "Version", "Level From", "Level To"], &members);
    format!("{}\n{}", key_values(&rows), titled("Members", &members))
}
