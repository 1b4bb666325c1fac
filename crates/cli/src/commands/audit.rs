//! `conclave audit`: the devices that record who asked for what.

use client::{Client, Method};
use serde_json::{Map, Value, json};

use super::Answer;
use crate::args::Audit;
use crate::data;
use crate::fault::Fault;
use crate::output::{Printer, shown, table};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Audit) -> Result<(), Fault> {
    match command {
        Audit::List => list(client, printer).await,
        Audit::Enable { path, description, kind, options } => {
            let options = data::parse(&options, std::io::stdin())?;
            enable(client, printer, path, description, &kind, options).await
        }
        Audit::Disable { path } => {
            let path = path.trim_matches('/');
            client.sys().audit_disable(path).await.map_err(|error| Fault::from(error).during(&format!("turn off {path}/")))?;
            printer.done(&format!("Success! Disabled the audit device (if it was enabled) at: {path}/"))
        }
    }
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let response = client.request(Method::Get, "sys/audit").send().await.map_err(|error| Fault::from(error).during("list the devices"))?;
    let mut data = Answer::required(&response)?.data;
    data.retain(|_, device| device.is_object());
    if data.is_empty() {
        return printer.nothing(&json!({}), "no audit device is enabled: nobody records who asks for what".to_owned());
    }
    printer.answer(&data, &Value::Object(data.clone()), || {
        let cell = |device: &Value, name: &str| device.get(name).map_or_else(|| "n/a".to_owned(), shown);
        let row = |(path, device): (&String, &Value)| [path.clone(), cell(device, "type"), cell(device, "description"), options(device)];
        let mut rows: Vec<[String; 4]> = data.iter().map(row).collect();
        rows.sort();
        table(["Path", "Type", "Description", "Options"], &rows)
    })
}

fn options(device: &Value) -> String {
    let options = device.get("options").and_then(Value::as_object);
    let mut options: Vec<String> = options.into_iter().flatten().map(|(name, value)| format!("{name}={}", shown(value))).collect();
    options.sort();
    options.join(" ")
}

async fn enable(
    client: &Client,
    printer: &Printer,
    path: Option<String>,
    description: Option<String>,
    kind: &str,
    options: Map<String, Value>,
) -> Result<(), Fault> {
    let path = path.unwrap_or_else(|| kind.to_owned());
    let path = path.trim_matches('/');
    let body = json!({"type": kind, "description": description.unwrap_or_default(), "options": options});
    let response = client.request(Method::Put, &format!("sys/audit/{path}")).body(&body).send().await;
    response.map_err(|error| Fault::from(error).during(&format!("turn on {path}/")))?;
    printer.done(&format!("Success! Enabled the {kind} audit device at: {path}/"))
}
