//! The commands that talk to a server, one file for each noun.

mod audit;
mod certs;
pub(crate) mod completion;
mod kv;
mod operator;
mod raw;
mod secrets;
mod status;
mod token;

use client::Response;
use serde_json::{Map, Value};

use crate::args::{Command, Global, Operator};
use crate::connect;
use crate::fault::Fault;
use crate::output::Printer;

/// Runs one of them.
pub(crate) async fn run(global: &Global, printer: &Printer, command: Command) -> Result<(), Fault> {
    match command {
        Command::Operator(Operator::Certs(args)) => return certs::run(printer, &args),
        Command::Status => return status::run(global, printer).await,
        _ => {}
    }
    let client = connect::client(global)?;
    match command {
        Command::Operator(command) => operator::run(&client, printer, command).await,
        Command::Kv(command) => kv::run(&client, printer, command).await,
        Command::Secrets(command) => secrets::run(&client, printer, command).await,
        Command::Audit(command) => audit::run(&client, printer, command).await,
        Command::Token(command) => token::run(&client, printer, command).await,
        Command::Login(args) => token::login(&client, printer, args).await,
        Command::Read(args) => raw::read(&client, printer, &args).await,
        Command::Write(args) => raw::write(&client, printer, &args).await,
        Command::List(args) => raw::list(&client, printer, &args.path).await,
        Command::Delete(args) => raw::delete(&client, printer, &args.path).await,
        Command::Server(_) | Command::Dev(_) | Command::Status | Command::Completion(_) | Command::Version => {
            unreachable!("these need no client, and are run elsewhere")
        }
    }
}

/// An answer with its envelope, or the bare object of the paths that have none.
pub(crate) struct Answer {
    /// All of it.
    pub(crate) whole: Value,
    /// `data`, when it is an object; empty otherwise.
    pub(crate) data: Map<String, Value>,
}

impl Answer {
    /// Parses the body, and tells the server's warnings on stderr. `None`: there is no body.
    pub(crate) fn of(response: &Response) -> Result<Option<Answer>, Fault> {
        if response.body().is_empty() {
            return Ok(None);
        }
        let mut whole: Value = response.json()?;
        if let Some(warnings) = whole.get("warnings").and_then(Value::as_array) {
            warnings.iter().filter_map(Value::as_str).for_each(|warning| eprintln!("Warning: {warning}"));
        }
        let enveloped = whole.get("request_id").is_some();
        let data = match if enveloped { whole.get("data") } else { Some(&whole) } {
            Some(Value::Object(fields)) => fields.clone(),
            _ => Map::new(),
        };
        if enveloped && let Some(fields) = whole.as_object_mut() {
            // As Vault's CLI shows it: these two only when there is something in them.
            for name in ["wrap_info", "auth"] {
                if fields.get(name).is_some_and(Value::is_null) {
                    fields.shift_remove(name);
                }
            }
        }
        Ok(Some(Answer { whole, data }))
    }

    /// One that must be there.
    pub(crate) fn required(response: &Response) -> Result<Answer, Fault> {
        let empty = || Fault::server("the server's answer is empty").cure("is that a Conclave, Vault or OpenBao server?");
        Answer::of(response)?.ok_or_else(empty)
    }
}
