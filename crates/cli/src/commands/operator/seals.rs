//! `conclave operator seals`: static keys beside the shares, added and removed with a quorum of shares.

use client::{Client, Method, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{people, shares};
use crate::args::{SealChange, Seals};
use crate::commands::Answer;
use crate::fault::Fault;
use crate::input;
use crate::output::{Printer, key_values, printable, table};

const ATTEMPT: &str = "sys/seals/attempt";
const UPDATE: &str = "sys/seals/update";
const SHARE: &str = "Unseal key (not shown): ";

/// Runs one of them.
pub(super) async fn run(client: &Client, printer: &Printer, command: Seals) -> Result<(), Fault> {
    match command {
        Seals::List => list(client, printer).await,
        Seals::Add(args) => change(client, printer, "add", &args).await,
        Seals::Remove(args) => change(client, printer, "remove", &args).await,
        Seals::Status => {
            let answer = status(client).await?;
            people::show(printer, &answer.data, || progress(&answer.data))
        }
        Seals::Cancel { nonce, proof } => {
            let share = people::proof(&proof)?;
            // EXPOSE: the share goes to the server, as proof.
            let share = share.as_ref().map(SecretString::expose);
            let body = Order { change: None, key_id: None, share, nonce: nonce.as_deref() };
            let request = client.request(Method::Delete, ATTEMPT).body(&body).idempotent();
            request.send().await.map_err(|error| Fault::from(error).during("cancel the change"))?;
            printer.done("Success! The seals stay as they are; the shares that came for a change are forgotten.")
        }
    }
}

async fn list(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let answer = shares::seals(client).await?;
    people::show(printer, &answer.data, || table(["Seal", "Opens With", "Since"], &rows(&answer.data)))
}

fn rows(seals: &Map<String, Value>) -> Vec<[String; 3]> {
    let created = |fields: &Map<String, Value>| printable(people::text(fields, "created_time"));
    let quorum =
        |fields: &Map<String, Value>| format!("any {} of {} shares", people::number(fields, "threshold"), people::number(fields, "shares"));
    let mut rows = Vec::new();
    if let Some(split) = seals.get("shamir").and_then(Value::as_object) {
        rows.push(["shamir".to_owned(), quorum(split), created(split)]);
    }
    if let Some(split) = seals.get("next").and_then(Value::as_object) {
        rows.push(["shamir (of a rekey, not in force yet)".to_owned(), quorum(split), created(split)]);
    }
    for seal in seals.get("static").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        rows.push(["static".to_owned(), format!("key {}", printable(people::text(seal, "key_id"))), created(seal)]);
    }
    rows
}

async fn status(client: &Client) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, ATTEMPT).send().await.map_err(|error| Fault::from(error).during("the seals"))?;
    Answer::required(&response)
}

/// What a change is started or ended with; lent.
#[derive(Serialize)]
struct Order<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// `PUT sys/seals/update`, lending the share.
#[derive(Serialize)]
struct ShareBody<'a> {
    key: &'a str,
    nonce: &'a str,
}

/// Starts a change, or goes on with the same one, and gives shares: all at a terminal, else one.
async fn change(client: &Client, printer: &Printer, change: &str, args: &SealChange) -> Result<(), Fault> {
    let known = status(client).await?.data;
    let mut status = if people::is(&known, "started") {
        if people::text(&known, "change") != change || ![args.key_id.as_str(), ""].contains(&people::text(&known, "key_id")) {
            return Err(Fault::local("another change of the seals is under way")
                .cure("see which, and finish or cancel it: conclave operator seals status, conclave operator seals cancel"));
        }
        known
    } else {
        let share = people::proof(&args.proof)?;
        // EXPOSE: the share goes to the server, as proof.
        let share = share.as_ref().map(SecretString::expose);
        let body = Order { change: Some(change), key_id: Some(&args.key_id), share, nonce: None };
        let response = client.request(Method::Put, ATTEMPT).body(&body).send().await;
        Answer::required(&response.map_err(|error| Fault::from(error).during("start the change"))?)?.data
    };
    // A node passes the share on, but the one that is asked last needs the static key: so it is one node that is asked.
    let nonce = people::text(&status, "nonce").to_owned();
    loop {
        let (given, needed) = (people::number(&status, "progress"), people::number(&status, "required"));
        let at_terminal = people::is_at_terminal();
        let share = if at_terminal {
            printer.say(&format!("\n{given} of {needed} shares have come.\n{}", people::who(&status)))?;
            match input::typed_or_nothing("Next share (not shown; nothing: leave): ")? {
                Some(share) => share,
                None => return printer.say(&format!("\nIt waits for more shares. Their holders do this, at a node whose configuration has the key:\n  conclave operator seals {change} {}\nTo cancel it:\n  conclave operator seals cancel\n", args.key_id)),
            }
        } else {
            input::line()?
        };
        let enter = async |share: &SecretString| {
            // EXPOSE: the share goes to the server, without a copy that would stay behind.
            client.request(Method::Put, UPDATE).body(&ShareBody { key: share.expose(), nonce: &nonce }).send().await
        };
        let answer = Answer::required(&people::give_typed(share, SHARE, "the seals", at_terminal, enter).await?)?;
        let is_complete = people::is(&answer.data, "complete");
        if !at_terminal || is_complete {
            people::show(printer, &answer.data, || progress(&answer.data))?;
            let done = match change {
                "add" => "\nSuccess! A node whose configuration has this key opens by itself from now on.\n",
                _ => "\nSuccess! This key opens nothing any more. Take it out of the configurations.\n",
            };
            return printer.say(if is_complete {
                done
            } else {
                "\nMore shares are needed: the same command again, with another holder's.\n"
            });
        }
        people::say_when_lost(printer, &status, &answer.data)?;
        status = answer.data;
    }
}

fn progress(fields: &Map<String, Value>) -> String {
    let titles = [
        ("Change", "change"),
        ("Key ID", "key_id"),
        ("Started", "started"),
        ("Complete", "complete"),
        ("Progress", "progress"),
        ("Required", "required"),
        ("Nonce", "nonce"),
        ("Started By", "started_by"),
        ("Have Come", "holders_present"),
        ("Can Still Come", "holders_missing"),
    ];
    key_values(&people::rows(fields, &titles))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_seal_has_its_row() {
        let seals = json!({
            "shamir": {"threshold": 3, "shares": 5, "created_time": "2026-11-24T12:00:00Z"},
            "next": {"threshold": 2, "shares": 3, "created_time": "2026-11-25T12:00:00Z"},
            "static": [{"key_id": "2026", "created_time": "2026-11-24T13:00:00Z"}],
        });
        let rows = rows(seals.as_object().unwrap());
        assert_eq!(rows[0], ["shamir", "any 3 of 5 shares", "2026-11-24T12:00:00Z"]);
        assert!(rows[1][0].contains("not in force") && rows[1][1] == "any 2 of 3 shares");
        assert_eq!(rows[2], ["static", "key 2026", "2026-11-24T13:00:00Z"]);
    }
}
