//! `conclave login`: a token, typed or given for a user's password or a role's secret, kept in `~/.vault-token`.
//!
//! Always: passwords, secret ids and tokens are typed unseen or come by stdin; the file is readable by its owner only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use client::{Client, Method, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Answer, one_segment, token};
use crate::args::Login;
use crate::fault::Fault;
use crate::output::{Printer, field_rows, key_values};
use crate::{connect, files, input};

/// A way to log in with a name and a secret.
struct Way {
    method: &'static str,
    /// The parameter that says who.
    name: &'static str,
    /// Whether the name is part of the path; else it is in the body.
    name_in_path: bool,
    /// The parameter that proves it.
    secret: &'static str,
    prompt: &'static str,
}

const WAYS: [Way; 2] = [
    Way { method: "userpass", name: "username", name_in_path: true, secret: "password", prompt: "Password (not shown): " },
    Way { method: "approle", name: "role_id", name_in_path: false, secret: "secret_id", prompt: "Secret id (not shown): " },
];

/// Runs it.
pub(crate) async fn run(client: &Client, printer: &Printer, args: Login) -> Result<(), Fault> {
    if args.method == "token" {
        return with_token(client, printer, args).await;
    }
    let way = WAYS.iter().find(|way| way.method == args.method).ok_or_else(|| {
        Fault::local(format!("the method {:?} is not known to login", args.method))
            .cure("use token, userpass or approle; every other: `conclave write auth/PATH/login …`")
    })?;
    by(client, printer, way, &args).await
}

/// Checks the token that is typed or comes by stdin, and keeps it.
async fn with_token(client: &Client, printer: &Printer, args: Login) -> Result<(), Fault> {
    if let Some(path) = &args.path {
        return Err(
            Fault::local(format!("-path={path} says where a method is mounted, and there is none")).cure("add -method=userpass or approle")
        );
    }
    let given = match args.parameters.as_slice() {
        [] => input::secret("Token (not shown): ")?,
        [source] if source == "-" => input::line()?,
        _ => {
            // What was given may be a token: wiped.
            args.parameters.into_iter().map(Zeroizing::new).for_each(drop);
            return Err(Fault::local("a token on the command line stays in the shell's history and the process list")
                .cure("leave it out to type it unseen, or give it as one line on stdin: `conclave login -`"));
        }
    };
    // EXPOSE: kept twice, for the check and for the file; both copies are wiped.
    let kept = SecretString::from(given.expose().to_owned());
    let mut answer = token::lookup_own(&client.with_token(Some(given))).await?;
    // Who typed it knows it; the answer may be shown around.
    answer.data.shift_remove("id");
    if let Some(data) = answer.whole.get_mut("data").and_then(Value::as_object_mut) {
        data.shift_remove("id");
    }
    let file = keep(&kept, args.no_store)?;
    printer.answer(&answer.data, &answer.whole, || told("The token is good.", file.as_ref(), &answer.data))
}

/// Where a name goes, and what is sent beside the secret.
fn parameters(way: &Way, given: &[String]) -> Result<(String, bool), Fault> {
    let (mut name, mut from_stdin) = (None, false);
    for parameter in given {
        match parameter.split_once('=') {
            None if parameter == "-" => from_stdin = true,
            Some((key, "-")) if key == way.secret => from_stdin = true,
            Some((key, _)) if key == way.secret => {
                return Err(Fault::local(format!("a {key} on the command line stays in the shell's history and the process list"))
                    .cure(format!("leave it out to type it unseen, or give it as one line on stdin: {key}=-")));
            }
            Some((key, value)) if key == way.name => name = Some(value.to_owned()),
            Some((key, _)) => return Err(Fault::local(format!("{} takes no {key:?}", way.method)).cure(format!("it takes {}=…", way.name))),
            None => return Err(Fault::local("an argument is neither key=value nor -").cure(format!("write {}=…", way.name))),
        }
    }
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::local("who logs in is not said").cure(format!("add {}=…", way.name)))?;
    Ok((name, from_stdin))
}

async fn by(client: &Client, printer: &Printer, way: &Way, args: &Login) -> Result<(), Fault> {
    let (name, from_stdin) = parameters(way, &args.parameters)?;
    let mount = args.path.as_deref().unwrap_or(way.method).trim_matches('/');
    let mount = mount.strip_prefix("auth/").unwrap_or(mount);
    let path =
        if way.name_in_path { format!("auth/{mount}/login/{}", one_segment(&name, way.name)?) } else { format!("auth/{mount}/login") };
    let secret = if from_stdin { input::line()? } else { input::secret(way.prompt)? };
    // EXPOSE: it goes to the server.
    let mut body = BTreeMap::from([(way.secret, secret.expose())]);
    if !way.name_in_path {
        body.insert(way.name, &name);
    }
    // A token that is kept from before is not needed, and perhaps not good any more.
    let response = client.with_token(None).request(Method::Post, &path).body(&body).send().await;
    let response = response.map_err(|error| Fault::from(error).during(&format!("log in as {name} at auth/{mount}/")))?;
    let answer = Answer::required(&response)?;
    let mut fields: Map<String, Value> = answer.whole.get("auth").and_then(Value::as_object).cloned().unwrap_or_default();
    let Some(Value::String(given)) = fields.shift_remove("client_token") else {
        return Err(Fault::server("the server let us in, but gave no token").cure("is that a Conclave, Vault or OpenBao server?"));
    };
    let given = SecretString::from(given);
    let file = keep(&given, args.no_store)?;
    // For -field and for programs it is there, as from Vault's CLI; people see it only where it is not kept.
    let mut named = fields.clone();
    // EXPOSE: the caller asked for a token.
    named.insert("token".to_owned(), Value::String(given.expose().to_owned()));
    named.insert("client_token".to_owned(), Value::String(given.expose().to_owned()));
    printer.answer(&named, &answer.whole, || {
        if args.no_store {
            // EXPOSE: it is kept nowhere else.
            fields.insert("token".to_owned(), Value::String(given.expose().to_owned()));
        }
        told("You are logged in.", file.as_ref(), &fields)
    })
}

/// Puts the token where later commands find it; gives the file.
fn keep(token: &SecretString, no_store: bool) -> Result<Option<PathBuf>, Fault> {
    if no_store {
        return Ok(None);
    }
    let file = connect::token_file().ok_or_else(|| {
        Fault::local("there is no home folder to keep the token in").cure("set HOME or CONCLAVE_TOKEN_PATH, or use -no-store")
    })?;
    // EXPOSE: the file is its owner's alone.
    files::replace(&file, token.expose().as_bytes())?;
    if connect::variable("TOKEN").is_some() {
        eprintln!("Warning: CONCLAVE_TOKEN, BAO_TOKEN or VAULT_TOKEN is set, and goes before the token that was just kept.");
    }
    Ok(Some(file))
}

fn told(what: &str, file: Option<&PathBuf>, fields: &Map<String, Value>) -> String {
    let kept = file.map_or_else(String::new, |file| format!(" The token is kept in {}.", file.display()));
    format!("Success! {what}{kept}\n\n{}", key_values(&field_rows(fields)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(way: &Way, given: &[&str]) -> Result<(String, bool), String> {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        parameters(way, &given).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_secret_is_never_an_argument() {
        let [userpass, approle] = &WAYS;
        assert_eq!(parsed(userpass, &["username=ann"]), Ok(("ann".to_owned(), false)));
        assert_eq!(parsed(userpass, &["username=ann", "password=-"]), Ok(("ann".to_owned(), true)));
        assert_eq!(parsed(approle, &["-", "role_id=r"]), Ok(("r".to_owned(), true)));
        for (way, given, want) in [
            (userpass, vec!["username=ann", "password=canary"], "stays in the shell's history"),
            (approle, vec!["role_id=r", "secret_id=canary"], "stays in the shell's history"),
            (userpass, vec![], "add username="),
            (userpass, vec!["username="], "add username="),
            (userpass, vec!["role_id=canary"], "takes no \"role_id\""),
            (userpass, vec!["canary"], "write username="),
        ] {
            let message = parsed(way, &given).unwrap_err();
            assert!(message.contains(want) && !message.contains("canary"), "{given:?}: {message}");
        }
    }
}
