//! The commands that talk to a server, one file for each noun.

mod audit;
mod certs;
pub(crate) mod completion;
mod journal;
mod kv;
mod login;
mod operator;
mod policy;
mod raw;
mod secrets;
mod status;
mod token;
mod transaction;

use client::Response;
pub(crate) use operator::people::{await_return, is_at_terminal};
use serde_json::{Map, Value};

use client::Reading;

use crate::args::{Command, Consistency, Global, Kv, KvMetadata, Operator, Token};
use crate::connect;
use crate::dev;
use crate::fault::Fault;
use crate::output::Printer;

/// Runs one of them.
pub(crate) async fn run(global: &Global, printer: &Printer, command: Command) -> Result<(), Fault> {
    match command {
        Command::Operator(Operator::Certs(args)) => return certs::run(printer, &args),
        Command::Operator(Operator::Top(args)) => return operator::top::run(global, printer, &args).await,
        Command::Operator(Operator::Debug(args)) => return operator::debug::run(global, printer, &args).await,
        Command::Operator(Operator::Journal(command)) => return journal::run(printer, &command),
        Command::Operator(Operator::Rehearse(args)) => return dev::rehearse::run(&args).await,
        Command::Status(args) => return status::run(global, printer, &args).await,
        _ => {}
    }
    let client = connect::client(global)?;
    let client = client.wrapping(wrap_ttl(global, &command)?.as_deref()).reading(reading(global)?);
    match command {
        Command::Operator(command) => operator::run(&client, printer, command).await,
        Command::Kv(command) => kv::run(&client, printer, command).await,
        Command::Secrets(command) => secrets::run(&client, printer, command).await,
        Command::Audit(command) => audit::run(&client, printer, command).await,
        Command::Token(command) => token::run(&client, printer, command).await,
        Command::Login(args) => login::run(&client, printer, args).await,
        Command::Unwrap(args) => token::unwrap(&client, printer, args).await,
        Command::Policy(command) => policy::run(&client, printer, command).await,
        Command::Transaction(args) => transaction::run(&client, printer, &args).await,
        Command::Read(args) => raw::read(&client, printer, &args).await,
        Command::Write(args) => raw::write(&client, printer, &args).await,
        Command::List(args) => raw::list(&client, printer, &args.path).await,
        Command::Delete(args) => raw::delete(&client, printer, &args.path).await,
        Command::Server(_) | Command::Dev(_) | Command::Status(_) | Command::Completion(_) | Command::Version => {
            unreachable!("these need no client, and are run elsewhere")
        }
    }
}

/// How fresh the state must be that reads are answered from.
fn reading(global: &Global) -> Result<Reading, Fault> {
    let parse = |text: &str| {
        let parsed = client::parse_duration(text);
        parsed.map(Reading::Stale).map_err(|error| Fault::local(format!("-max-staleness: {error}")).cure("write 500ms or 5s"))
    };
    match (&global.max_staleness, global.read_consistency) {
        (Some(text), _) => return parse(text),
        (None, Some(Consistency::Quorum)) => return Ok(Reading::Quorum),
        (None, Some(Consistency::Lease)) => return Ok(Reading::Configured),
        (None, None) => {}
    }
    let own = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    match (own("CONCLAVE_MAX_STALENESS"), own("CONCLAVE_READ_CONSISTENCY").as_deref()) {
        (Some(text), None) => parse(&text),
        (None, Some("quorum")) => Ok(Reading::Quorum),
        (None, None | Some("lease")) => Ok(Reading::Configured),
        (Some(_), Some(_)) => {
            Err(Fault::local("CONCLAVE_MAX_STALENESS and CONCLAVE_READ_CONSISTENCY contradict each other").cure("unset one"))
        }
        (None, Some(_)) => Err(Fault::local("CONCLAVE_READ_CONSISTENCY is neither lease nor quorum").cure("unset it, or set one of them")),
    }
}

/// For how long the answer of `command` is wrapped. One that works with its answer cannot have it wrapped.
fn wrap_ttl(global: &Global, command: &Command) -> Result<Option<String>, Fault> {
    let shows_its_answer = matches!(
        command,
        Command::Read(_)
            | Command::Write(_)
            | Command::List(_)
            | Command::Delete(_)
            | Command::Transaction(_)
            | Command::Kv(Kv::Get { .. } | Kv::Put { .. } | Kv::List { .. } | Kv::Metadata(KvMetadata::Get { .. }))
            | Command::Token(Token::Create(_) | Token::Lookup(_))
    );
    match &global.wrap_ttl {
        Some(ttl) if shows_its_answer => Ok(Some(ttl.clone())),
        Some(_) => Err(Fault::local("the answer of this command cannot be wrapped")
            .cure("leave -wrap-ttl out; read, write, list, delete, transaction, kv and token create take it")),
        None => Ok(connect::variable("WRAP_TTL").filter(|_| shows_its_answer)),
    }
}

/// An answer with its envelope, or the bare object of the paths that have none.
pub(crate) struct Answer {
    /// All of it.
    pub(crate) whole: Value,
    /// `data`, when it is an object; empty otherwise. Of a wrapped answer, what is told of the wrapping token.
    pub(crate) data: Map<String, Value>,
    /// Whether the answer itself is behind a wrapping token.
    pub(crate) is_wrapped: bool,
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
        let wrapping = if enveloped { whole.get("wrap_info").and_then(Value::as_object).map(wrapping_fields) } else { None };
        let is_wrapped = wrapping.is_some();
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
        Ok(Some(Answer { whole, data: wrapping.unwrap_or(data), is_wrapped }))
    }

    /// One that must be there.
    pub(crate) fn required(response: &Response) -> Result<Answer, Fault> {
        let empty = || Fault::server("the server's answer is empty").cure("is that a Conclave, Vault or OpenBao server?");
        Answer::of(response)?.ok_or_else(empty)
    }
}

/// By the names that Vault's CLI gives them.
fn wrapping_fields(info: &Map<String, Value>) -> Map<String, Value> {
    let names = [
        ("token", "wrapping_token"),
        ("accessor", "wrapping_accessor"),
        ("ttl", "wrapping_token_ttl"),
        ("creation_time", "wrapping_token_creation_time"),
        ("creation_path", "wrapping_token_creation_path"),
    ];
    names.iter().filter_map(|(from, to)| Some(((*to).to_owned(), info.get(*from)?.clone()))).collect()
}

/// `name` as one segment of a path, which has no slash.
fn one_segment<'a>(name: &'a str, what: &str) -> Result<&'a str, Fault> {
    if name.is_empty() || name.contains('/') {
        return Err(Fault::local(format!("{name:?} is no {what}")).cure("it is one word, without a slash"));
    }
    Ok(name)
}
