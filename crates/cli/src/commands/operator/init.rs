//! `conclave operator init`: the keys, and who gets which share.

use client::{Client, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::people::{self, People, Secrets, Way};
use crate::args::Init;
use crate::ceremony::{self, Cluster};
use crate::fault::Fault;
use crate::output::{self, Printer};

/// Whether there are keys: exit 0 yes, 2 no, 1 no answer.
pub(super) async fn status(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let initialized = client.sys().initialized().await.map_err(|error| Fault::from(error).with_code(1))?;
    let fields = Map::from_iter([("initialized".to_owned(), Value::Bool(initialized))]);
    printer.answer(&fields, &Value::Object(fields.clone()), || {
        if initialized { "The cluster is initialized.\n" } else { "The cluster is not initialized.\n" }.to_owned()
    })?;
    if initialized { Ok(()) } else { Err(Fault::code(2)) }
}

/// What init answers, of which this is the only copy.
#[derive(Deserialize)]
struct Made {
    keys: Secrets,
    keys_base64: Secrets,
    #[serde(deserialize_with = "people::secret")]
    root_token: Zeroizing<String>,
}

/// The shape of Vault's `operator init -format=json`, which scripts read.
#[derive(Serialize)]
struct Shown<'a> {
    unseal_keys_b64: Vec<&'a str>,
    unseal_keys_hex: Vec<&'a str>,
    unseal_shares: u32,
    unseal_threshold: u32,
    recovery_keys_b64: [&'a str; 0],
    recovery_keys_hex: [&'a str; 0],
    recovery_keys_shares: u32,
    recovery_keys_threshold: u32,
    root_token: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    holders: &'a [String],
}

/// Makes the keys, and hands the shares out.
pub(super) async fn run(client: &Client, printer: &Printer, args: &Init) -> Result<(), Fault> {
    check_quorum(args.key_shares, args.key_threshold)?;
    let people = People::read(&args.holders, args.key_shares)?;
    let root_token_key = args.root_token_pgp_key.as_deref().map(people::recipient).transpose()?;
    let way = Way::choose(&args.hand_out, printer, &people.names, args.key_shares, people.are_encrypted())?;
    let mut body = Map::new();
    body.insert("secret_shares".to_owned(), json!(args.key_shares));
    body.insert("secret_threshold".to_owned(), json!(args.key_threshold));
    people.add_to(&mut body);
    if let Some(key) = root_token_key {
        let name = if key.starts_with("age1") { "root_token_recipient" } else { "root_token_pgp_key" };
        body.insert(name.to_owned(), json!(key));
    }
    let response = client.request(Method::Put, "sys/init").body(&body).send().await.map_err(|error| Fault::from(error).during("init"))?;
    let made: Made = response.json()?;
    drop(response);
    // What sheets say of the cluster. When nobody tells, the shares are handed out all the same: they are in no other place.
    let cluster = ceremony::ask(client).await.unwrap_or_else(|_| Cluster {
        name: "this cluster".to_owned(),
        id: None,
        shares: args.key_shares.into(),
        threshold: args.key_threshold.into(),
    });
    let whole = Shown {
        unseal_keys_b64: made.keys_base64.lent(),
        unseal_keys_hex: made.keys.lent(),
        unseal_shares: args.key_shares,
        unseal_threshold: args.key_threshold,
        recovery_keys_b64: [],
        recovery_keys_hex: [],
        recovery_keys_shares: 0,
        recovery_keys_threshold: 0,
        root_token: &made.root_token,
        holders: &people.names,
    };
    let field = |name: &str| match name {
        "root_token" => Some(made.root_token.clone()),
        "unseal_keys_b64" => Some(made.keys_base64.listed()),
        "unseal_keys_hex" => Some(made.keys.listed()),
        "unseal_shares" => Some(args.key_shares.to_string().into()),
        "unseal_threshold" => Some(args.key_threshold.to_string().into()),
        _ => None,
    };
    printer.secret_answer(&whole, field, || {
        let handed_out = way.hand_out(&made.keys_base64, &people.names, &cluster);
        // Whatever became of the sheets, the token is in no other place.
        let token = token_line(&made.root_token);
        output::emit(&token)?;
        printer.say(&guide(args, &people, &way))?;
        handed_out
    })
}

/// As the server would say it, before anything is asked for.
pub(super) fn check_quorum(shares: u32, threshold: u32) -> Result<(), Fault> {
    if threshold > shares {
        return Err(Fault::local(format!("{shares} shares of which {threshold} are needed open nothing"))
            .cure("-key-threshold must be at most -key-shares"));
    }
    if threshold == 1 && shares > 1 {
        return Err(Fault::local("with a threshold of 1 each share is the whole key")
            .cure("use a -key-threshold of 2 or more, or one share in all: -key-shares=1 -key-threshold=1"));
    }
    Ok(())
}

fn token_line(token: &str) -> Zeroizing<String> {
    let head = if people::is_narrow() { "\nInitial Root Token:\n" } else { "\nInitial Root Token: " };
    let mut line = Zeroizing::new(String::with_capacity(head.len() + token.len() + 2));
    line.push_str(head);
    line.push_str(token);
    line.push_str("\n\n");
    line
}

/// What happens next, who has to come, and how to check.
fn guide(args: &Init, people: &People, way: &Way) -> String {
    let (shares, threshold) = (args.key_shares, args.key_threshold);
    let who = if people.names.is_empty() { String::new() } else { format!(" ({})", people.names.join(", ")) };
    let mut text = String::from("WHAT NOW\n");
    text.push_str(&match (people.are_encrypted(), way.shows()) {
        (true, _) => "1. Send each holder the share that is encrypted to their key: only they can read it. What comes out of it goes to:\n  base64 --decode | gpg --decrypt | conclave operator verify-share\n  base64 --decode | age --decrypt -i KEYFILE | conclave operator verify-share\n".to_owned(),
        (false, true) => "1. Give each share to another holder, and keep none of this output: it is shown only here, now. Then clear the screen and what can be scrolled back to.\n".to_owned(),
        (false, false) => "1. Print each sheet, look at the print, give it to its holder, and destroy the file:\n  shred -u FILE\n".to_owned(),
    });
    text.push_str(&format!(
        "2. Open the cluster. {} of the {shares} holders{who} {} come; each does this, at any node:\n  conclave operator unseal\n",
        if threshold == 1 { "One".to_owned() } else { format!("Any {threshold}") },
        if threshold == 1 { "has to" } else { "have to" },
    ));
    text.push_str("3. Check that it is open, and let each holder check their share; that opens nothing:\n  conclave status\n  conclave operator verify-share\n");
    text.push_str(
        "4. With the root token make other ways in (an auth method, policies, an audit device), then end it. A quorum makes another when one is needed:\n  conclave token revoke -self\n",
    );
    text.push_str(&format!(
        "After each restart {threshold} of the {shares} shares are needed again; when fewer than {threshold} are left, the data is lost.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_else_it_holds() {
        let made: Made =
            serde_json::from_str(r#"{"keys":["aa"],"keys_base64":["qg=="],"root_token":"hvs.x","recovery_keys":null}"#).unwrap();
        assert_eq!((made.keys.lent(), made.keys_base64.lent(), made.root_token.as_str()), (vec!["aa"], vec!["qg=="], "hvs.x"));
    }

    #[test]
    fn bad_numbers_are_named_before_anything_is_asked() {
        for (shares, threshold, fits) in [(5, 3, true), (1, 1, true), (3, 4, false), (3, 1, false)] {
            assert_eq!(check_quorum(shares, threshold).is_ok(), fits, "{shares} {threshold}");
        }
    }
}
