//! `conclave token` and `conclave login`.

use client::{Client, Method};
use zeroize::Zeroizing;

use super::Answer;
use crate::args::{Login, Token};
use crate::fault::Fault;
use crate::output::{Printer, field_rows, key_values};
use crate::{connect, files, input};

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Token) -> Result<(), Fault> {
    match command {
        Token::Lookup => {
            if !client.has_token() {
                return Err(Fault::local("there is no token to look up").cure("set CONCLAVE_TOKEN or VAULT_TOKEN, or use `conclave login`"));
            }
            let answer = lookup(client).await?;
            printer.answer(&answer.data, &answer.whole, || key_values(&field_rows(&answer.data)))
        }
    }
}

async fn lookup(client: &Client) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, "auth/token/lookup-self").send().await;
    Answer::required(&response.map_err(|error| Fault::from(error).during("look the token up"))?)
}

/// Checks the token that is typed or comes by stdin, and keeps it in `~/.vault-token`, readable by its owner only.
pub(crate) async fn login(client: &Client, printer: &Printer, args: Login) -> Result<(), Fault> {
    let token = match args.source.map(Zeroizing::new) {
        None => input::secret("Token (not shown): ")?,
        Some(source) if *source == "-" => input::line()?,
        Some(_) => {
            return Err(Fault::local("a token on the command line stays in the shell's history and the process list")
                .cure("leave it out to type it unseen, or give it as one line on stdin: `conclave login -`"));
        }
    };
    // EXPOSE: kept twice, for the check and for the file; both copies are wiped.
    let kept = Zeroizing::new(token.expose().to_owned());
    let mut answer = lookup(&client.with_token(Some(token))).await?;
    // Who typed it knows it; the answer may be shown around.
    answer.data.shift_remove("id");
    if let Some(data) = answer.whole.get_mut("data").and_then(serde_json::Value::as_object_mut) {
        data.shift_remove("id");
    }
    let file = if args.no_store { None } else { Some(connect::token_file().ok_or_else(no_home)?) };
    if let Some(file) = &file {
        files::replace(file, kept.as_bytes())?;
        if connect::variable("TOKEN").is_some() {
            eprintln!("Warning: CONCLAVE_TOKEN, BAO_TOKEN or VAULT_TOKEN is set, and goes before the token that was just kept.");
        }
    }
    printer.answer(&answer.data, &answer.whole, || {
        let kept = file.as_ref().map_or_else(String::new, |file| format!(" It is kept in {}.", file.display()));
        format!("Success! The token is good.{kept}\n\n{}", key_values(&field_rows(&answer.data)))
    })
}

fn no_home() -> Fault {
    Fault::local("there is no home folder to keep the token in").cure("set HOME or CONCLAVE_TOKEN_PATH, or use -no-store")
}
