//! `conclave operator rotate`, `key-status`, `rotation`: the key that encrypts what is written.

use client::{Client, Method};
use serde_json::{Map, Value, json};

use super::people;
use crate::args::Rotation;
use crate::commands::Answer;
use crate::fault::Fault;
use crate::output::{Printer, key_values};

/// A new key.
pub(super) async fn rotate(client: &Client, printer: &Printer) -> Result<(), Fault> {
    client.request(Method::Put, "sys/rotate").send().await.map_err(|error| Fault::from(error).during("rotate"))?;
    printer.done("Success! A new key encrypts what is written from now on; what older ones have encrypted they still open.")?;
    printer.say("\n")?;
    key_status(client, printer).await
}

/// The key of now.
pub(super) async fn key_status(client: &Client, printer: &Printer) -> Result<(), Fault> {
    show(client, printer, "sys/key-status", &[("Key Term", "term"), ("Install Time", "install_time"), ("Encryption Count", "encryptions")])
        .await
}

/// When it is renewed by itself: changes what is given, and shows it.
pub(super) async fn rotation(client: &Client, printer: &Printer, args: &Rotation) -> Result<(), Fault> {
    let mut body = Map::new();
    let mut give = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    give("max_operations", args.max_operations.map(|number| json!(number)));
    give("interval", args.interval.as_ref().map(|text| json!(text)));
    give("enabled", args.enabled.map(|enabled| json!(enabled)));
    if !body.is_empty() {
        let request = client.request(Method::Put, "sys/rotate/config").body(&body).idempotent();
        request.send().await.map_err(|error| Fault::from(error).during("change the rotation"))?;
    }
    show(
        client,
        printer,
        "sys/rotate/config",
        &[("Enabled", "enabled"), ("Rotate After Encryptions", "max_operations"), ("Rotate After", "interval")],
    )
    .await
}

async fn show(client: &Client, printer: &Printer, path: &str, titles: &[(&str, &str)]) -> Result<(), Fault> {
    let response = client.request(Method::Get, path).send().await.map_err(|error| Fault::from(error).during("the key"))?;
    let answer = Answer::required(&response)?;
    people::show(printer, &answer.data, || {
        let mut rows = people::rows(&answer.data, titles);
        for [title, value] in &mut rows {
            if title == "Rotate After" && value == "0" {
                "– (not by time)".clone_into(value);
            }
        }
        key_values(&rows)
    })
}
