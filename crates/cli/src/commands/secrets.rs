//! `conclave secrets`: what is mounted.

use client::{Client, Method};
use serde_json::{Value, json};

use super::Answer;
use crate::args::Secrets;
use crate::fault::Fault;
use crate::output::{Printer, shown, table};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Secrets) -> Result<(), Fault> {
    match command {
        Secrets::List => list(client, printer).await,
        Secrets::Enable { path, version, description, kind } => enable(client, printer, path, version, description, &kind).await,
    }
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::Get, "sys/mounts").send().await.map_err(|error| Fault::from(error).during("list the mounts"))?;
    let data = Answer::required(&response)?.data;
    printer.answer(&data, &Value::Object(data.clone()), || {
        let cell = |mount: &Value, name: &str| mount.get(name).map_or_else(|| "n/a".to_owned(), shown);
        let row =
            |(path, mount): (&String, &Value)| [path.clone(), cell(mount, "type"), cell(mount, "accessor"), cell(mount, "description")];
        // On a few paths the data also stands beside the envelope; only objects are mounts.
        let mut rows: Vec<[String; 4]> = data.iter().filter(|(_, mount)| mount.is_object()).map(row).collect();
        rows.sort();
        table(["Path", "Type", "Accessor", "Description"], &rows)
    })
}

async fn enable(
    client: &Client,
    printer: &Printer,
    path: Option<String>,
    version: Option<u8>,
    description: Option<String>,
    kind: &str,
) -> Result<(), Fault> {
    let (engine, version) = match (kind, version) {
        ("kv-v2", None | Some(2)) => ("kv", Some(2)),
        ("kv-v2", Some(other)) => return Err(Fault::local(format!("kv-v2 is version 2, not {other}")).cure("write kv -version=N")),
        (other, version) => (other, version),
    };
    let path = path.unwrap_or_else(|| kind.to_owned());
    let path = path.trim_matches('/');
    let options = version.map_or_else(|| json!({}), |version| json!({"version": version.to_string()}));
    let body = json!({"type": engine, "description": description.unwrap_or_default(), "options": options});
    let response = client.request(Method::Post, &format!("sys/mounts/{path}")).body(&body).send().await;
    response.map_err(|error| Fault::from(error).during(&format!("mount {engine} at {path}/")))?;
    printer.done(&format!("Success! Enabled the {engine} secrets engine at: {path}/"))
}
