//! `conclave policy`: texts, who can do what, and why a request was denied.

use std::path::Path;

use client::{Client, Denial, Method};
use serde_json::{Map, Value, json};

use super::{Answer, one_segment};
use crate::args::Policy;
use crate::fault::Fault;
use crate::files;
use crate::output::{Printer, key_values, shown, table, titled};

/// The largest policy text; the server's limit.
const POLICY_BYTES_MAX: u64 = 1024 * 1024;

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Policy) -> Result<(), Fault> {
    match command {
        Policy::List => list(client, printer).await,
        Policy::Read { name } => read(client, printer, &name).await,
        Policy::Write { name, file } => write(client, printer, &name, &file).await,
        Policy::Delete { name } => {
            let path = path(&name)?;
            let deleted = client.request(Method::Delete, &path).idempotent().send().await;
            deleted.map_err(|error| Fault::from(error).during(&format!("delete the policy {name}")))?;
            printer.done(&format!("Success! Deleted the policy (if it existed): {name}"))
        }
        Policy::WhoCan { capability, path } => who_can(client, printer, &path, &capability).await,
        Policy::Explain { id } => explain(client, printer, &id).await,
    }
}

fn path(name: &str) -> Result<String, Fault> {
    Ok(format!("sys/policies/acl/{}", one_segment(name, "policy's name")?))
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::List, "sys/policies/acl").send().await;
    let answer = Answer::required(&response.map_err(|error| Fault::from(error).during("list the policies"))?)?;
    let keys = answer.data.get("keys").cloned().unwrap_or_else(|| json!([]));
    printer.answer(&answer.data, &keys, || {
        let rows: Vec<[String; 1]> = keys.as_array().into_iter().flatten().map(|key| [shown(key)]).collect();
        table(["Policy"], &rows)
    })
}

async fn read(client: &Client, printer: &Printer, name: &str) -> Result<(), Fault> {
    let answer = match client.request(Method::Get, &path(name)?).send().await {
        Ok(response) => Answer::required(&response)?,
        Err(error) if error.is_not_found() => {
            return Err(Fault::server(format!("there is no policy {name:?}")).cure("`conclave policy list` shows the names"));
        }
        Err(error) => return Err(Fault::from(error).during(&format!("read the policy {name}"))),
    };
    printer.answer(&answer.data, &answer.whole, || {
        let text = answer.data.get("policy").and_then(Value::as_str).unwrap_or_default();
        format!("{}\n", text.trim_end_matches('\n'))
    })
}

async fn write(client: &Client, printer: &Printer, name: &str, file: &str) -> Result<(), Fault> {
    let path = path(name)?;
    let text = match file {
        "-" => {
            let bytes = files::read_bounded(std::io::stdin(), POLICY_BYTES_MAX, "stdin")?;
            files::text(&bytes, "stdin")?
        }
        file => files::read_text(Path::new(file), POLICY_BYTES_MAX)?.ok_or_else(|| Fault::local(format!("there is no file {file:?}")))?,
    };
    let written = client.request(Method::Put, &path).body(&json!({ "policy": text.as_str() })).idempotent().send().await;
    let response = written.map_err(|error| Fault::from(error).during(&format!("write the policy {name}")))?;
    // Warnings go to stderr.
    Answer::of(&response)?;
    printer.done(&format!("Success! Wrote the policy: {name}"))
}

async fn who_can(client: &Client, printer: &Printer, path: &str, capability: &str) -> Result<(), Fault> {
    let path = path.trim_start_matches('/');
    let body = json!({ "path": path, "capability": capability });
    let response = client.request(Method::Post, "sys/policies/who-can").body(&body).idempotent().send().await;
    let answer = Answer::required(&response.map_err(|error| Fault::from(error).during(&format!("ask who can {capability} {path}")))?)?;
    printer.answer(&answer.data, &answer.whole, || {
        let rows = |name: &str| answer.data.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let cell = |row: &Value, name: &str| row.get(name).map_or_else(|| "n/a".to_owned(), words);
        let policies: Vec<[String; 2]> = rows("policies").iter().map(|row| [cell(row, "name"), cell(row, "rules")]).collect();
        let tokens: Vec<[String; 4]> =
            rows("tokens").iter().map(|row| ["accessor", "display_name", "path", "policies"].map(|name| cell(row, name))).collect();
        let policies = match policies.as_slice() {
            [] => "No policy of this namespace grants it.\n".to_owned(),
            rows => table(["Policy", "Rules with this capability"], rows),
        };
        let tokens = match tokens.as_slice() {
            [] => "No token of this namespace can.\n".to_owned(),
            rows => table(["Token accessor", "Name", "Made at", "Policies"], rows),
        };
        format!("Who can {capability} {path}\n\n{policies}\n{tokens}")
    })
}

/// A list without brackets.
fn words(value: &Value) -> String {
    match value.as_array() {
        Some(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        None => shown(value),
    }
}

async fn explain(client: &Client, printer: &Printer, id: &str) -> Result<(), Fault> {
    let id = one_segment(id.trim(), "request's id")?;
    let denial = match client.sys().explain(id).await {
        Ok(denial) => denial,
        Err(error) if error.is_not_found() => {
            return Err(Fault::server(format!("no node that was asked knows a denial of the request {id:?}"))
                .cure("each node keeps its newest denials only, until it restarts; -address names the node that denied it"));
        }
        Err(error) => return Err(Fault::from(error).during(&format!("explain the request {id}"))),
    };
    let whole = serde_json::to_value(&denial).map_err(|error| Fault::local(format!("write the answer: {error}")))?;
    let fields: Map<String, Value> = whole.as_object().cloned().unwrap_or_default();
    printer.answer(&fields, &whole, || explained(&denial))
}

fn explained(denial: &Denial) -> String {
    let rule = match &denial.rule {
        Some(rule) => format!("{} (in {})", rule.path, rule.policies.join(", ")),
        None => "none is about this path".to_owned(),
    };
    let or_nobody = |text: &str| if text.is_empty() { "n/a".to_owned() } else { text.to_owned() };
    let rows = [
        ["Request", denial.request_id.as_str()],
        ["Time", denial.time.as_str()],
        ["Namespace", if denial.namespace.is_empty() { "root" } else { denial.namespace.as_str() }],
        ["Path", denial.path.as_str()],
        ["Operation", denial.operation.as_str()],
    ];
    let mut rows: Vec<[String; 2]> = rows.iter().map(|row| row.map(str::to_owned)).collect();
    rows.extend([
        ["Token accessor".to_owned(), or_nobody(denial.accessor.as_deref().unwrap_or_default())],
        ["Policies".to_owned(), or_nobody(&denial.policies.join(", "))],
        ["Deciding rule".to_owned(), rule],
        ["Denied because".to_owned(), denial.reason.clone()],
        ["Allowed now".to_owned(), if denial.allowed_now { "yes" } else { "no" }.to_owned()],
    ]);
    let table = key_values(&rows);
    match denial.smallest_rule.as_deref() {
        Some(rule) => format!("{table}\n{}", titled("The smallest rule that would allow it", &format!("{}\n", rule.trim_end()))),
        None => table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial() -> Denial {
        serde_json::from_value(json!({
            "request_id": "id-1", "time": "2026-01-01T00:00:00Z", "namespace": "", "path": "secret/data/a", "operation": "read",
            "accessor": "acc", "policies": ["default", "app"], "reason": "the rule does not grant read",
            "rule": { "path": "secret/*", "policies": ["app"] }, "allowed_now": false,
            "smallest_rule": "path \"secret/data/a\" {\n  capabilities = [\"read\"]\n}"
        }))
        .unwrap()
    }

    #[test]
    fn an_explanation_names_the_rule_and_the_cure() {
        let text = explained(&denial());
        for want in ["secret/* (in app)", "Allowed now       no", "capabilities = [\"read\"]", "default, app"] {
            assert!(text.contains(want), "{want}: {text}");
        }
        let text = explained(&Denial { rule: None, smallest_rule: None, ..denial() });
        assert!(text.contains("none is about this path") && !text.contains("smallest"), "{text}");
    }
}
