//! `conclave token`: make tokens, look at them, make them live longer, end them; and `conclave unwrap`.
//!
//! Always: a token is named by its accessor, or comes by stdin, or is the one in use; never an argument.

use client::{Client, Method, SecretString};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Answer, one_segment, raw};
use crate::args::{Token, TokenChoice, TokenCreate, Unwrap};
use crate::data;
use crate::fault::Fault;
use crate::input;
use crate::output::Printer;

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Token) -> Result<(), Fault> {
    match command {
        Token::Create(args) => create(client, printer, args).await,
        Token::Lookup(choice) => {
            let answer = match Which::of(choice)? {
                Which::Own => lookup_own(client).await?,
                which => Answer::required(&which.ask(client, "lookup", None, "look the token up").await?)?,
            };
            raw::show(printer, &answer)
        }
        Token::Renew { increment, token } => {
            let response = Which::of(token)?.ask(client, "renew", increment.as_deref(), "renew the token").await?;
            raw::show(printer, &Answer::required(&response)?)
        }
        Token::Revoke { own, token } => {
            let which = Which::of(token)?;
            if own != matches!(which, Which::Own) {
                return Err(Fault::local("which token is to end is not said").cure("add -accessor=…, or - to read it from stdin, or -self"));
            }
            which.ask(client, "revoke", None, "revoke the token").await?;
            printer.done("Success! Revoked the token (if it existed), and those made with it")
        }
    }
}

/// Which token a command is about.
enum Which {
    Own,
    Accessor(String),
    Given(SecretString),
}

/// The body that names the token.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accessor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    increment: Option<&'a str>,
}

impl Which {
    fn of(choice: TokenChoice) -> Result<Which, Fault> {
        match (choice.accessor, choice.source.map(Zeroizing::new)) {
            (Some(accessor), _) => Ok(Which::Accessor(accessor)),
            (None, None) => Ok(Which::Own),
            (None, Some(source)) if *source == "-" => Ok(Which::Given(input::line()?)),
            (None, Some(_)) => Err(no_argument()),
        }
    }

    /// `auth/token/ACT`, `-self` or `-accessor`. Sent again when it is unknown whether it was done: renewing and revoking twice is the same.
    async fn ask(&self, client: &Client, act: &str, increment: Option<&str>, words: &str) -> Result<client::Response, Fault> {
        let (path, token, accessor) = match self {
            Which::Own => {
                must_have_token(client)?;
                (format!("auth/token/{act}-self"), None, None)
            }
            Which::Accessor(accessor) => (format!("auth/token/{act}-accessor"), None, Some(accessor.as_str())),
            // EXPOSE: it goes to the server, in the body.
            Which::Given(token) => (format!("auth/token/{act}"), Some(token.expose().trim()), None),
        };
        let response = client.request(Method::Post, &path).body(&Named { token, accessor, increment }).idempotent().send().await;
        response.map_err(|error| Fault::from(error).during(words))
    }
}

fn no_argument() -> Fault {
    Fault::local("a token on the command line stays in the shell's history and the process list")
        .cure("name it by -accessor=…, or give it as one line on stdin, with - in its place")
}

fn must_have_token(client: &Client) -> Result<(), Fault> {
    if client.has_token() {
        return Ok(());
    }
    Err(Fault::local("no token is in use").cure("set CONCLAVE_TOKEN or VAULT_TOKEN, or use `conclave login`"))
}

/// What the token in use is.
pub(crate) async fn lookup_own(client: &Client) -> Result<Answer, Fault> {
    must_have_token(client)?;
    let response = client.request(Method::Get, "auth/token/lookup-self").send().await;
    Answer::required(&response.map_err(|error| Fault::from(error).during("look the token up"))?)
}

async fn create(client: &Client, printer: &Printer, args: TokenCreate) -> Result<(), Fault> {
    let path = match &args.role {
        Some(role) => format!("auth/token/create/{}", one_segment(role, "role's name")?),
        None if args.orphan => "auth/token/create-orphan".to_owned(),
        None => "auth/token/create".to_owned(),
    };
    let response = client.request(Method::Post, &path).body(&body(args)?).send().await;
    let response = response.map_err(|error| Fault::from(error).during("make a token"))?;
    raw::show(printer, &Answer::required(&response)?)
}

/// Only what was said: the rest is for the server, or the role, to decide.
fn body(args: TokenCreate) -> Result<Map<String, Value>, Fault> {
    let mut body = Map::new();
    let texts = [
        ("ttl", args.ttl),
        ("explicit_max_ttl", args.explicit_max_ttl),
        ("period", args.period),
        ("display_name", args.display_name),
        ("type", args.kind),
    ];
    body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::String(text?)))));
    if !args.policy.is_empty() {
        body.insert("policies".to_owned(), json!(args.policy));
    }
    if let Some(uses) = args.use_limit {
        body.insert("num_uses".to_owned(), json!(uses));
    }
    if let Some(renewable) = args.renewable {
        body.insert("renewable".to_owned(), json!(renewable));
    }
    if args.orphan && args.role.is_some() {
        body.insert("no_parent".to_owned(), json!(true));
    }
    if args.no_default_policy {
        body.insert("no_default_policy".to_owned(), json!(true));
    }
    if !args.metadata.is_empty() {
        body.insert("meta".to_owned(), Value::Object(data::parse(&args.metadata, std::io::stdin())?));
    }
    Ok(body)
}

/// Gives what is behind a wrapping token, once.
pub(crate) async fn unwrap(client: &Client, printer: &Printer, args: Unwrap) -> Result<(), Fault> {
    let token = match args.source.map(Zeroizing::new) {
        None => input::secret("Wrapping token (not shown): ")?,
        Some(source) if *source == "-" => input::line()?,
        Some(_) => {
            return Err(Fault::local("a token on the command line stays in the shell's history and the process list")
                .cure("leave it out to type it unseen, or give it as one line on stdin: `conclave unwrap -`"));
        }
    };
    let client = client.with_token(Some(token));
    let response = client.request(Method::Post, "sys/wrapping/unwrap").send().await;
    let response = response.map_err(|error| Fault::from(error).during("unwrap"))?;
    match Answer::of(&response)? {
        Some(answer) => raw::show(printer, &answer),
        None => printer.done("Success! What was wrapped is empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gets_what_was_said_and_nothing_else() {
        let none = TokenCreate {
            policy: Vec::new(),
            ttl: None,
            explicit_max_ttl: None,
            period: None,
            display_name: None,
            use_limit: None,
            renewable: None,
            orphan: false,
            no_default_policy: false,
            kind: None,
            role: None,
            metadata: Vec::new(),
        };
        let some = TokenCreate {
            policy: vec!["a".to_owned(), "b".to_owned()],
            ttl: Some("1h".to_owned()),
            use_limit: Some(3),
            renewable: Some(false),
            metadata: vec!["team=x".to_owned()],
            ..none
        };
        let want = json!({"ttl": "1h", "policies": ["a", "b"], "num_uses": 3, "renewable": false, "meta": {"team": "x"}});
        assert_eq!(Value::Object(body(some).unwrap()), want);
    }
}
