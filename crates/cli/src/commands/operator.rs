//! `conclave operator`: keys and members.

use std::fmt::Write as _;

use client::{Client, Method};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Answer, status};
use crate::args::{Init, Operator, Unseal};
use crate::ceremony;
use crate::fault::Fault;
use crate::input;
use crate::output::{Printer, shown, table};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Operator) -> Result<(), Fault> {
    match command {
        Operator::Init(args) if args.status => init_status(client, printer).await,
        Operator::Init(args) => init(client, printer, &args).await,
        Operator::Unseal(args) => unseal(client, printer, args).await,
        Operator::Seal => {
            client.sys().seal().await.map_err(|error| Fault::from(error).during("seal"))?;
            printer.done("Success! Every node is sealed.")
        }
        Operator::ShareSheet(args) => ceremony::run(client, printer, &args).await,
        Operator::Members => members(client, printer).await,
        Operator::Certs(_) | Operator::Journal(_) => unreachable!("needs no server, and is run elsewhere"),
    }
}

async fn init_status(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let initialized = client.sys().initialized().await.map_err(|error| Fault::from(error).with_code(1))?;
    let fields = Map::from_iter([("initialized".to_owned(), Value::Bool(initialized))]);
    printer.answer(&fields, &Value::Object(fields.clone()), || {
        if initialized { "The cluster is initialized.\n" } else { "The cluster is not initialized.\n" }.to_owned()
    })?;
    if initialized { Ok(()) } else { Err(Fault::code(2)) }
}

async fn init(client: &Client, printer: &Printer, args: &Init) -> Result<(), Fault> {
    if args.key_threshold > args.key_shares {
        return Err(Fault::local(format!("{} shares of which {} are needed open nothing", args.key_shares, args.key_threshold))
            .cure("-key-threshold must be at most -key-shares"));
    }
    if args.key_threshold == 1 && args.key_shares > 1 {
        return Err(Fault::local("with a threshold of 1 each share is the whole key")
            .cure("use a -key-threshold of 2 or more, or one share in all: -key-shares=1 -key-threshold=1"));
    }
    let body = json!({"secret_shares": args.key_shares, "secret_threshold": args.key_threshold});
    let response = client.request(Method::Put, "sys/init").body(&body).send().await.map_err(|error| Fault::from(error).during("init"))?;
    let answer = Answer::required(&response)?.data;
    let field = |name: &str| answer.get(name).cloned().unwrap_or(Value::Null);
    // The shape of Vault's `operator init -format=json`, which scripts read.
    let whole = json!({
        "unseal_keys_b64": field("keys_base64"),
        "unseal_keys_hex": field("keys"),
        "unseal_shares": args.key_shares,
        "unseal_threshold": args.key_threshold,
        "recovery_keys_b64": [],
        "recovery_keys_hex": [],
        "recovery_keys_shares": 0,
        "recovery_keys_threshold": 0,
        "root_token": field("root_token"),
    });
    let fields = whole.as_object().cloned().unwrap_or_default();
    printer.answer(&fields, &whole, || {
        let mut text = String::new();
        for (at, share) in field("keys_base64").as_array().into_iter().flatten().enumerate() {
            writeln!(text, "Unseal Key {}: {}", at + 1, shown(share)).expect("writing to a String cannot fail");
        }
        write!(
            text,
            "\nInitial Root Token: {}\n\nGive each share to another holder, and keep none of this output: it is shown only here, now.\n\
             Any {threshold} of the {} shares open the cluster after a restart; without them its data is lost.\n\
             Now open it: `conclave operator unseal`, {threshold} times, at any node.\n",
            shown(&field("root_token")),
            args.key_shares,
            threshold = args.key_threshold,
        )
        .expect("writing to a String cannot fail");
        text
    })
}

/// `PUT sys/unseal`, lending the share.
#[derive(Serialize)]
struct ShareBody<'a> {
    key: &'a str,
    reset: bool,
}

async fn unseal(client: &Client, printer: &Printer, args: Unseal) -> Result<(), Fault> {
    let share = match args.share.map(Zeroizing::new) {
        Some(argument) if *argument == "-" => input::line()?,
        Some(argument) => {
            eprintln!("Warning: the shell's history and the process list now hold this share; leave it out to type it unseen.");
            argument.trim().to_owned().into()
        }
        None => input::secret("Unseal key (not shown): ")?,
    };
    // EXPOSE: the share goes to the server, without a copy that would stay behind.
    let body = ShareBody { key: share.expose(), reset: args.reset };
    let request = client.request(Method::Put, "sys/unseal").body(&body);
    let response = if args.reset { request.idempotent().send().await } else { request.send().await };
    let response = response.map_err(|error| Fault::from(error).during("unseal"))?;
    status::show(printer, &Answer::required(&response)?.data)
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
