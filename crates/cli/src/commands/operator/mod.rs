//! `conclave operator`: keys and members, one file for each act on the keys.

pub(super) mod debug;
mod generate_root;
mod init;
mod join_token;
pub(super) mod people;
mod rekey;
mod rotate;
mod seals;
mod shares;
mod snapshot;
pub(super) mod top;
mod unseal;
mod upgrade;

use client::{Client, Method};
use serde_json::Value;

use super::Answer;
use crate::args::{Operator, Raft};
use crate::ceremony;
use crate::fault::Fault;
use crate::output::{Printer, shown, table};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Operator) -> Result<(), Fault> {
    match command {
        Operator::Init(args) if args.status => init::status(client, printer).await,
        Operator::Init(args) => init::run(client, printer, &args).await,
        Operator::Unseal(args) => unseal::run(client, printer, args).await,
        Operator::Seal(args) => unseal::seal(client, printer, &args).await,
        Operator::Shares(args) => shares::run(client, printer, &args).await,
        Operator::VerifyShare(args) => shares::verify(client, printer, args).await,
        Operator::ShareSheet(args) => ceremony::run(client, printer, &args).await,
        Operator::JoinToken(args) => join_token::run(client, printer, &args).await,
        Operator::Members => members(client, printer).await,
        Operator::Snapshot(command) | Operator::Raft(Raft::Snapshot(command)) => snapshot::run(client, printer, command).await,
        Operator::Rekey(args) => rekey::run(client, printer, args).await,
        Operator::GenerateRoot(args) => generate_root::run(client, printer, args).await,
        Operator::Rotate => rotate::rotate(client, printer).await,
        Operator::KeyStatus => rotate::key_status(client, printer).await,
        Operator::Rotation(args) => rotate::rotation(client, printer, &args).await,
        Operator::Upgrade(command) => upgrade::run(client, printer, command).await,
        Operator::Seals(command) => seals::run(client, printer, command).await,
        Operator::Top(_) | Operator::Debug(_) | Operator::Rehearse(_) | Operator::Certs(_) | Operator::Journal(_) => {
            unreachable!("is run elsewhere")
        }
    }
}

async fn members(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::Get, "sys/ha-status").send().await.map_err(|error| Fault::from(error).during("members"))?;
    let data = Answer::required(&response)?.data;
    printer.answer(&data, &Value::Object(data.clone()), || {
        let nodes = data.get("nodes").and_then(Value::as_array);
        table(MEMBER_COLUMNS, &nodes.into_iter().flatten().map(member_row).collect::<Vec<_>>())
    })
}

const MEMBER_COLUMNS: [&str; 10] =
    ["Node", "API Address", "Cluster Address", "Leader", "Role", "Sealed", "Applied Index", "Term", "Version", "Last Echo"];

fn member_row(node: &Value) -> [String; 10] {
    // Vault and OpenBao tell no node id.
    let id = if node.get("node_id").is_some() { "node_id" } else { "hostname" };
    [id, "api_address", "cluster_address", "active_node", "role", "sealed", "applied_index", "term", "version", "last_echo"]
        .map(|name| node.get(name).map_or_else(|| "n/a".to_owned(), shown))
}
