//! `conclave read|write|list|delete`: any path of the API.

use client::{Client, Method};
use serde_json::{Map, Value, json};

use super::Answer;
use crate::args::{Read, Write};
use crate::data;
use crate::fault::Fault;
use crate::output::{Printer, field_rows, key_values, shown, table};

/// Shows what is at a path.
pub(crate) async fn read(client: &Client, printer: &Printer, args: &Read) -> Result<(), Fault> {
    let path = args.path.as_str();
    let mut request = client.request(Method::Get, path).accept(&[404]);
    for (name, value) in data::parse(&args.parameters, std::io::stdin())? {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        request = request.query(name, value);
    }
    let response = request.send().await.map_err(|error| Fault::from(error).during(&format!("read {path}")))?;
    if response.status() != 404 {
        return show(printer, &Answer::required(&response)?);
    }
    // A deleted version of a secret is a 404 that has data.
    match Answer::of(&response)? {
        Some(answer) if answer.whole.get("data").is_some_and(Value::is_object) => show(printer, &answer),
        _ => Err(match response.refusal() {
            client::Error::Refused(refusal) if !refusal.errors.is_empty() => {
                Fault::server(format!("no value at {path}: {}", refusal.errors.join("; ")))
            }
            _ => Fault::server(format!("no value at {path}")),
        }),
    }
}

/// Writes to a path.
pub(crate) async fn write(client: &Client, printer: &Printer, args: &Write) -> Result<(), Fault> {
    let path = args.path.as_str();
    let fields = data::parse(&args.data, std::io::stdin())?;
    let response = client.request(Method::Put, path).body(&fields).send().await;
    let response = response.map_err(|error| Fault::from(error).during(&format!("write {path}")))?;
    match Answer::of(&response)? {
        Some(answer) => show(printer, &answer),
        None => printer.done(&format!("Success! Data written to: {path}")),
    }
}

/// Lists the names below a path.
pub(crate) async fn list(client: &Client, printer: &Printer, path: &str) -> Result<(), Fault> {
    let path = path.trim_end_matches('/');
    match client.request(Method::List, path).send().await {
        Ok(response) => {
            let answer = Answer::required(&response)?;
            if answer.is_wrapped {
                return show(printer, &answer);
            }
            let keys = answer.data.get("keys").cloned().unwrap_or_else(|| json!([]));
            printer.answer(&answer.data, &keys, || {
                let rows: Vec<[String; 1]> = keys.as_array().into_iter().flatten().map(|key| [shown(key)]).collect();
                table(["Keys"], &rows)
            })
        }
        Err(error) if error.is_not_found() => {
            printer.nothing(&json!([]), format!("no value at {path}"))?;
            Err(Fault::code(2))
        }
        Err(error) => Err(Fault::from(error).during(&format!("list {path}"))),
    }
}

/// Deletes what is at a path.
pub(crate) async fn delete(client: &Client, printer: &Printer, path: &str) -> Result<(), Fault> {
    let response = client.request(Method::Delete, path).send().await;
    let response = response.map_err(|error| Fault::from(error).during(&format!("delete {path}")))?;
    match Answer::of(&response)? {
        Some(answer) if !answer.data.is_empty() => show(printer, &answer),
        _ => printer.done(&format!("Success! Data deleted (if it existed) at: {path}")),
    }
}

/// The answer's fields, whatever they are.
pub(crate) fn show(printer: &Printer, answer: &Answer) -> Result<(), Fault> {
    // A login's answer has its fields in `auth`.
    let auth: Option<&Map<String, Value>> = answer.whole.get("auth").and_then(Value::as_object);
    let fields = if answer.data.is_empty() { auth.unwrap_or(&answer.data) } else { &answer.data };
    printer.answer(fields, &answer.whole, || key_values(&field_rows(fields)))
}
