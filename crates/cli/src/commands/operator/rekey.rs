//! `conclave operator rekey`: new shares of a new key, by Vault's verbs or step by step.
//!
//! Always: the old shares open the cluster until a quorum of the new ones has come back; whatever ends this command half-way, the attempt
//! goes on or is cancelled by whoever has the right to, and says so.

use client::{Client, Method, Response, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::people::{self, People, Secrets, Way};
use super::{init, shares};
use crate::args::Rekey;
use crate::ceremony::{self, Cluster};
use crate::commands::Answer;
use crate::fault::Fault;
use crate::input;
use crate::output::{self, Printer, field_rows, key_values, printable};

/// Vault's numbers, where the cluster does not tell its own.
const SHARES_DEFAULT: u32 = 5;
const THRESHOLD_DEFAULT: u32 = 3;

const OLD_SHARE: &str = "Old share (not shown): ";
const NEW_SHARE: &str = "New share (not shown): ";

/// Runs what the flags say.
pub(super) async fn run(client: &Client, printer: &Printer, args: Rekey) -> Result<(), Fault> {
    if args.target != "barrier" {
        return Err(Fault::local(format!("-target={}: there are no recovery keys here", args.target))
            .cure("leave -target out: the cluster is opened by its shares"));
    }
    if args.init {
        let started = start(client, &args).await?;
        people::show(printer, &started.data, || progress(&started.data))?;
        return printer.say(
            "\nNext, each holder of an old share does this, at any node:\n  conclave operator rekey\nThe new shares are told to who gives the last one.\n",
        );
    }
    if args.cancel {
        return cancel(client, printer, &args).await;
    }
    if args.status {
        let answer = if args.verify { ask(client, "sys/rekey/verify").await? } else { ask(client, "sys/rekey/init").await? };
        people::show(printer, &answer.data, || progress(&answer.data))?;
        return printer.say(&next(&answer.data, args.verify));
    }
    if args.backup_retrieve {
        let answer = ask(client, "sys/rekey/backup").await?;
        return people::show(printer, &answer.data, || key_values(&field_rows(&answer.data)));
    }
    if args.backup_delete {
        let request = client.request(Method::Delete, "sys/rekey/backup").idempotent();
        request.send().await.map_err(|error| Fault::from(error).during("delete the kept shares"))?;
        return printer.done("Success! The encrypted shares that were kept are deleted, if there were any.");
    }
    let is_guided =
        args.share.is_none() && args.nonce.is_none() && people::is_at_terminal() && printer.is_for_people() && !printer.wants_field();
    match (args.verify, is_guided) {
        (false, true) => walk(client, printer, &args).await,
        (true, true) => walk_verification(client, printer).await,
        (false, false) => give_one(client, printer, args).await,
        (true, false) => verify_one(client, printer, args).await,
    }
}

async fn ask(client: &Client, path: &str) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, path).send().await.map_err(|error| Fault::from(error).during("rekey"))?;
    Answer::required(&response)
}

/// What proves that the caller may, and which attempt is meant; lent.
#[derive(Serialize)]
struct Proof<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

async fn cancel(client: &Client, printer: &Printer, args: &Rekey) -> Result<(), Fault> {
    let share = people::proof(&args.proof)?;
    // EXPOSE: the share goes to the server, as proof.
    let body = Proof { share: share.as_ref().map(SecretString::expose), nonce: args.nonce.as_deref() };
    let path = if args.verify { "sys/rekey/verify" } else { "sys/rekey/init" };
    let request = client.request(Method::Delete, path).body(&body).idempotent();
    request.send().await.map_err(|error| Fault::from(error).during("cancel the rekey"))?;
    printer.done(if args.verify {
        "Success! The new shares have to come back from the beginning. Until they have, the old ones open the cluster."
    } else {
        "Success! There is no rekey under way. The old shares are in force; new ones that were told open nothing."
    })
}

/// What a rekey is started with.
#[derive(Serialize)]
struct Order<'a> {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<&'a str>,
}

/// Who is to have shares of what: from the flags and, where they leave it open, as it is now.
struct Wanted {
    shares: u32,
    threshold: u32,
    people: People,
}

impl Wanted {
    /// `now`: what `sys/seals` tells; `None` when the caller may not read it.
    fn of(args: &Rekey, now: Option<&Map<String, Value>>) -> Result<Wanted, Fault> {
        let number = |name: &str| now.and_then(|now| u32::try_from(people::number(now, name)).ok()).filter(|number| *number > 0);
        let mut names = now.map(names).unwrap_or_default();
        let mut shares = args.key_shares.or(number("shares")).unwrap_or(SHARES_DEFAULT);
        if !args.add_holder.is_empty() || !args.remove_holder.is_empty() {
            names = changed(names, &args.add_holder, &args.remove_holder)?;
            shares = u32::try_from(names.len()).unwrap_or(u32::MAX);
        }
        let threshold = args.key_threshold.or(number("threshold")).unwrap_or(THRESHOLD_DEFAULT);
        init::check_quorum(shares, threshold)?;
        let mut people = People::read(&args.holders, shares)?;
        // The same people, as long as there is one for each share.
        if people.names.is_empty() && names.len() == shares as usize {
            people.names = names;
        }
        Ok(Wanted { shares, threshold, people })
    }

    fn body(&self, backup: bool) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("secret_shares".to_owned(), json!(self.shares));
        fields.insert("secret_threshold".to_owned(), json!(self.threshold));
        fields.insert("backup".to_owned(), json!(backup));
        fields.insert("require_verification".to_owned(), json!(true));
        self.people.add_to(&mut fields);
        fields
    }
}

/// The holders' names, when all of them have one.
fn names(split: &Map<String, Value>) -> Vec<String> {
    let holders = split.get("holders").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<String> = holders.filter_map(|holder| holder.get("name").and_then(Value::as_str)).map(str::to_owned).collect();
    if names.iter().any(String::is_empty) { Vec::new() } else { names }
}

/// The holders with those who join, without those who leave.
fn changed(mut names: Vec<String>, add: &[String], remove: &[String]) -> Result<Vec<String>, Fault> {
    if names.is_empty() {
        return Err(Fault::local(
            "the holders of now have no names that this token may read, so that nobody can be added or removed by name",
        )
        .cure("name all of them: -holders=Ada,Grace,… (and log in: who holds what is read with a token)"));
    }
    for name in remove {
        let at = names.iter().position(|known| known == name);
        let at = at.ok_or_else(|| Fault::local(format!("no holder is called {name:?}")).cure(format!("they are {}", names.join(", "))))?;
        names.remove(at);
    }
    for name in add {
        if names.contains(name) {
            return Err(Fault::local(format!("{name} has a share already")).cure("nobody should have two: name somebody else"));
        }
        names.push(name.clone());
    }
    Ok(names)
}

/// What is known of the shares of now; nothing without a token that may read it.
async fn now(client: &Client) -> Option<Map<String, Value>> {
    let answer = shares::seals(client).await.ok()?;
    answer.data.get("shamir").and_then(Value::as_object).cloned()
}

async fn start(client: &Client, args: &Rekey) -> Result<Answer, Fault> {
    let wanted = Wanted::of(args, now(client).await.as_ref())?;
    let share = people::proof(&args.proof)?;
    start_with(client, &wanted, args.backup, share.as_ref()).await
}

async fn start_with(client: &Client, wanted: &Wanted, backup: bool, share: Option<&SecretString>) -> Result<Answer, Fault> {
    // EXPOSE: the share goes to the server, as proof.
    let body = Order { fields: wanted.body(backup), share: share.map(SecretString::expose) };
    let response = client.request(Method::Put, "sys/rekey/init").body(&body).send().await;
    Answer::required(&response.map_err(|error| Fault::from(error).during("start the rekey"))?)
}

/// `PUT sys/rekey/update` and `sys/rekey/verify`, lending the share.
#[derive(Serialize)]
struct ShareBody<'a> {
    key: &'a str,
    nonce: &'a str,
}

async fn enter(client: &Client, path: &str, nonce: &str, share: &SecretString) -> Result<Response, client::Error> {
    // EXPOSE: the share goes to the server, without a copy that would stay behind.
    client.request(Method::Put, path).body(&ShareBody { key: share.expose(), nonce }).send().await
}

/// The new shares, told once; all empty while more old ones are needed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    complete: bool,
    nonce: String,
    keys: Secrets,
    keys_base64: Secrets,
    pgp_fingerprints: Option<Vec<String>>,
    holders: Option<Vec<String>>,
    backup: bool,
    verification_required: bool,
    verification_nonce: String,
}

/// As Vault's API answers it.
#[derive(Serialize)]
struct Shown<'a> {
    nonce: &'a str,
    complete: bool,
    keys: Vec<&'a str>,
    keys_base64: Vec<&'a str>,
    pgp_fingerprints: &'a Option<Vec<String>>,
    holders: &'a Option<Vec<String>>,
    backup: bool,
    verification_required: bool,
    verification_nonce: &'a str,
}

impl Made {
    fn of(response: &Response) -> Result<Option<Made>, Fault> {
        let made: Made = response.data()?;
        Ok(Some(made).filter(|made| made.complete))
    }

    fn names(&self) -> &[String] {
        self.holders.as_deref().unwrap_or_default()
    }

    fn is_encrypted(&self) -> bool {
        self.pgp_fingerprints.is_some()
    }

    /// For programs, one field, or people.
    fn show(&self, printer: &Printer, way: &Way, cluster: &Cluster) -> Result<(), Fault> {
        let whole = Shown {
            nonce: &self.nonce,
            complete: true,
            keys: self.keys.lent(),
            keys_base64: self.keys_base64.lent(),
            pgp_fingerprints: &self.pgp_fingerprints,
            holders: &self.holders,
            backup: self.backup,
            verification_required: self.verification_required,
            verification_nonce: &self.verification_nonce,
        };
        let field = |name: &str| match name {
            "keys" => Some(self.keys.listed()),
            "keys_base64" => Some(self.keys_base64.listed()),
            "nonce" => Some(Zeroizing::new(self.nonce.clone())),
            "verification_nonce" => Some(Zeroizing::new(self.verification_nonce.clone())),
            _ => None,
        };
        printer.secret_answer(&whole, field, || way.hand_out(&self.keys_base64, self.names(), cluster))
    }
}

/// What sheets say: the new numbers.
async fn cluster(client: &Client, shares: u64, threshold: u64) -> Cluster {
    let known = ceremony::ask(client).await.ok();
    let name = known.as_ref().map_or_else(|| "this cluster".to_owned(), |known| known.name.clone());
    Cluster { name, id: known.and_then(|known| known.id), shares, threshold }
}

/// The nonce that was given, or that of the attempt that is under way.
async fn nonce(client: &Client, given: Option<String>) -> Result<(String, Map<String, Value>), Fault> {
    let status = ask(client, "sys/rekey/init").await?.data;
    if !people::is(&status, "started") {
        return Err(Fault::local("no rekey is under way").cure("start it: conclave operator rekey -init"));
    }
    Ok((given.unwrap_or_else(|| people::text(&status, "nonce").to_owned()), status))
}

/// One old share, as scripts and Vault's users give it.
async fn give_one(client: &Client, printer: &Printer, args: Rekey) -> Result<(), Fault> {
    let (nonce, status) = nonce(client, args.nonce).await?;
    // Whose the new shares are, and whether they are encrypted, is told with them; what cannot be done at all is better known before.
    let shares = u32::try_from(people::number(&status, "n")).unwrap_or_default();
    Way::choose(&args.hand_out, printer, &[], shares, true)?;
    let response =
        people::give(args.share, OLD_SHARE, "rekey", async |share| enter(client, "sys/rekey/update", &nonce, share).await).await?;
    match Made::of(&response)? {
        Some(made) => {
            drop(response);
            let way = Way::choose(&args.hand_out, printer, made.names(), shares, made.is_encrypted()).unwrap_or_else(|fault| {
                // They are in no other place.
                fault.report();
                Way::Listed
            });
            let cluster = cluster(client, shares.into(), people::number(&status, "t")).await;
            made.show(printer, &way, &cluster)?;
            printer.say(&format!(
                "\nThe new shares are NOT in force yet: the old ones open the cluster. They are when {} of the new ones have come back; each holder does this, at any node:\n  conclave operator rekey -verify\n",
                people::number(&status, "t")
            ))
        }
        None => {
            let answer = Answer::required(&response)?;
            people::show(printer, &answer.data, || progress(&answer.data))?;
            printer.say(&next(&answer.data, false))
        }
    }
}

/// One new share.
async fn verify_one(client: &Client, printer: &Printer, args: Rekey) -> Result<(), Fault> {
    let nonce = match args.nonce {
        Some(nonce) => nonce,
        None => verification_nonce(client).await?,
    };
    let response =
        people::give(args.share, NEW_SHARE, "verify", async |share| enter(client, "sys/rekey/verify", &nonce, share).await).await?;
    let answer = Answer::required(&response)?;
    people::show(printer, &answer.data, || progress(&answer.data))?;
    printer.say(&if people::is(&answer.data, "complete") { in_force() } else { next(&answer.data, true) })
}

async fn verification_nonce(client: &Client) -> Result<String, Fault> {
    let status = ask(client, "sys/rekey/init").await?.data;
    match people::text(&status, "verification_nonce") {
        "" => Err(Fault::local("no rekey waits for its new shares").cure("look: conclave operator rekey -status")),
        nonce => Ok(nonce.to_owned()),
    }
}

fn in_force() -> String {
    "\nThe new shares are in force. The old ones open nothing any more: shred their sheets.\nCheck:\n  conclave operator shares\n"
        .to_owned()
}

/// For people, in the order in which they ask.
fn progress(fields: &Map<String, Value>) -> String {
    let titles = [
        ("Started", "started"),
        ("Complete", "complete"),
        ("Progress", "progress"),
        ("Required", "required"),
        ("New Shares", "n"),
        ("New Threshold", "t"),
        ("PGP Fingerprints", "pgp_fingerprints"),
        ("Backup", "backup"),
        ("Nonce", "nonce"),
        ("Verification Nonce", "verification_nonce"),
        ("Started By", "started_by"),
        ("Started At", "started_time"),
        ("Have Come", "holders_present"),
        ("Can Still Come", "holders_missing"),
    ];
    key_values(&people::rows(fields, &titles))
}

/// What happens next.
fn next(fields: &Map<String, Value>, is_verification: bool) -> String {
    if !people::is(fields, "started") {
        return "\nNo rekey is under way. Start one:\n  conclave operator rekey -init\n".to_owned();
    }
    if is_verification || !people::text(fields, "verification_nonce").is_empty() {
        return "\nThe new shares are told, and have to come back before they are in force; until then the old ones open the cluster. Each holder, at any node:\n  conclave operator rekey -verify\n".to_owned();
    }
    "\nNext, another holder of an old share does this, at any node:\n  conclave operator rekey\n".to_owned()
}

/// The whole way at one terminal: start, old shares, new shares, verification. Goes on where an attempt that is under way stands.
async fn walk(client: &Client, printer: &Printer, args: &Rekey) -> Result<(), Fault> {
    let status = ask(client, "sys/rekey/init").await?.data;
    let status = if people::is(&status, "started") {
        let by = match people::text(&status, "started_by") {
            "" => String::new(),
            by => format!(", started by {}", printable(by)),
        };
        printer.say(&format!("A rekey is under way{by}. This goes on where it stands; it can be left at each question.\n"))?;
        status
    } else {
        match begin(client, printer, args).await? {
            Some(status) => status,
            None => return Ok(()),
        }
    };
    if people::text(&status, "verification_nonce").is_empty() {
        let Some(made) = old_shares(client, printer, &status).await? else { return Ok(()) };
        let cluster = cluster(client, people::number(&status, "n"), people::number(&status, "t")).await;
        give_out(printer, args, &made, &cluster)?;
    }
    walk_verification(client, printer).await
}

/// Says what will happen, and starts it. `None`: the person would rather not.
async fn begin(client: &Client, printer: &Printer, args: &Rekey) -> Result<Option<Map<String, Value>>, Fault> {
    let wanted = Wanted::of(args, now(client).await.as_ref())?;
    // A folder that cannot be made, or is full of old sheets, is better known now.
    if let Some(folder) = &args.hand_out.share_sheets {
        ceremony::sheet_files(folder, &wanted.people.names, wanted.shares as usize)?;
    }
    let who = if wanted.people.names.is_empty() { String::new() } else { format!(", for {}", wanted.people.names.join(", ")) };
    printer.say(&format!(
        "REKEY: new shares of a new key. Nothing is closed meanwhile, and no secret is lost.\n\
         1. Holders of the old shares give them, unseen, as many as an unseal takes.\n\
         2. {} new shares are made{who}; any {} of them will open the cluster.\n\
         3. Each is handed to its holder.\n\
         4. {} of them are typed in again. Only then are they in force; until then the old ones are.\n",
        wanted.shares, wanted.threshold, wanted.threshold
    ))?;
    if !people::agrees("Start?")? {
        printer.say("Nothing was started.\n")?;
        return Ok(None);
    }
    let mut share = people::proof(&args.proof)?;
    if share.is_none() && !client.has_token() {
        printer
            .say("There is no token here: one of the shares is the proof that you may. It is asked for again below, where it counts.\n")?;
        share = Some(input::typed("A share, as proof (not shown): ")?);
    }
    start_with(client, &wanted, args.backup, share.as_ref()).await.map(|started| Some(started.data))
}

/// Asks for old shares until there are enough. `None`: the person leaves, and others go on elsewhere.
async fn old_shares(client: &Client, printer: &Printer, status: &Map<String, Value>) -> Result<Option<Made>, Fault> {
    let mut status = status.clone();
    let nonce = people::text(&status, "nonce").to_owned();
    loop {
        let (given, needed) = (people::number(&status, "progress"), people::number(&status, "required"));
        printer.say(&format!("\n{given} of {needed} old shares have come.\n{}", people::who(&status)))?;
        let Some(share) = input::typed_or_nothing("Next old share (not shown; nothing: leave): ")? else {
            printer.say(
                "\nThe rekey waits for the shares that are missing. Their holders do this, at any node:\n  conclave operator rekey\nTo cancel it:\n  conclave operator rekey -cancel\n",
            )?;
            return Ok(None);
        };
        let enter = async |share: &SecretString| enter(client, "sys/rekey/update", &nonce, share).await;
        let response = people::give_typed(share, OLD_SHARE, "rekey", true, enter).await?;
        if let Some(made) = Made::of(&response)? {
            return Ok(Some(made));
        }
        let now = Answer::required(&response)?.data;
        people::say_when_lost(printer, &status, &now)?;
        status = now;
    }
}

/// One holder after the other, unless the shares are encrypted or sheets are wanted.
fn give_out(printer: &Printer, args: &Rekey, made: &Made, cluster: &Cluster) -> Result<(), Fault> {
    let names = made.names();
    let count = made.keys_base64.0.len();
    let way = match &args.hand_out.share_sheets {
        Some(folder) => ceremony::sheet_files(folder, names, count).map(Way::Sheets),
        None if made.is_encrypted() || output::terminal_columns().is_none() => Ok(Way::Listed),
        None => Ok(Way::HandedOut),
    };
    let (way, fault) = match way {
        Ok(way) => (way, None),
        // They are in no other place.
        Err(fault) => (Way::HandedOut, Some(fault)),
    };
    if let Some(fault) = fault {
        fault.report();
    }
    printer.say(&format!("\nThe {count} new shares are made. They are handed out now; this is the only time.\n"))?;
    made.show(printer, &way, cluster)
}

/// Asks for new shares until enough have come back.
async fn walk_verification(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let nonce = verification_nonce(client).await?;
    let mut status = ask(client, "sys/rekey/verify").await?.data;
    printer.say(
        "\nThe new shares are not in force yet. Their holders type them in now, from the paper or the file where they will stay: so it is known that each was taken down rightly.\n",
    )?;
    loop {
        let (given, needed) = (people::number(&status, "progress"), people::number(&status, "t"));
        printer.say(&format!("\n{given} of {needed} new shares have come back.\n{}", people::who(&status)))?;
        let Some(share) = input::typed_or_nothing("Next new share (not shown; nothing: leave): ")? else {
            return printer.say(
                "\nUntil enough of the new shares have come back, the old ones open the cluster. To go on, or to cancel:\n  conclave operator rekey -verify\n  conclave operator rekey -cancel\n",
            );
        };
        let enter = async |share: &SecretString| enter(client, "sys/rekey/verify", &nonce, share).await;
        let response = people::give_typed(share, NEW_SHARE, "verify", true, enter).await?;
        let now = Answer::required(&response)?.data;
        if people::is(&now, "complete") {
            return printer.say(&in_force());
        }
        people::say_when_lost(printer, &status, &now)?;
        status = now;
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::args::{Arguments, Command, Operator};

    fn args(line: &str) -> Rekey {
        let argv = crate::argv::normalise(format!("conclave operator rekey {line}").split_whitespace().map(std::ffi::OsString::from));
        let matches = Arguments::command().try_get_matches_from(argv).unwrap();
        match Arguments::from_arg_matches(&matches).unwrap().command {
            Command::Operator(Operator::Rekey(args)) => args,
            _ => unreachable!("the line is a rekey"),
        }
    }

    fn now() -> Map<String, Value> {
        let holders = json!([{"number": 1, "name": "Ada"}, {"number": 2, "name": "Grace"}, {"number": 3, "name": "Alan"}]);
        json!({"shares": 3, "threshold": 2, "holders": holders}).as_object().cloned().unwrap()
    }

    #[test]
    fn what_the_flags_leave_open_stays_as_it_is() {
        for (line, known, shares, threshold, names) in [
            ("-init", true, 3, 2, vec!["Ada", "Grace", "Alan"]),
            ("-init", false, 5, 3, vec![]),
            ("-init -key-shares=5 -key-threshold=3", true, 5, 3, vec![]),
            ("-init -n=2 -t=2 -holders=Kurt,Emmy", true, 2, 2, vec!["Kurt", "Emmy"]),
            ("-add-holder=Emmy", true, 4, 2, vec!["Ada", "Grace", "Alan", "Emmy"]),
            ("-remove-holder=Grace", true, 2, 2, vec!["Ada", "Alan"]),
            ("-remove-holder=Grace -add-holder=Emmy -key-threshold=3", true, 3, 3, vec!["Ada", "Alan", "Emmy"]),
        ] {
            let wanted = Wanted::of(&args(line), Some(now()).filter(|_| known).as_ref()).unwrap();
            assert_eq!(
                (wanted.shares, wanted.threshold, wanted.people.names),
                (shares, threshold, names.iter().map(|&n| n.to_owned()).collect()),
                "{line}"
            );
        }
    }

    #[test]
    fn changes_that_cannot_be_meant_are_named() {
        for (line, known, says) in [
            ("-remove-holder=Emmy", true, "no holder is called"),
            ("-add-holder=Ada", true, "Ada has a share already"),
            ("-add-holder=Emmy", false, "no names"),
            ("-remove-holder=Ada -remove-holder=Grace", true, "open nothing"),
            ("-key-threshold=9", true, "open nothing"),
            ("-holders=Ada -n=2 -t=2", true, "-holders names 1"),
        ] {
            let fault = Wanted::of(&args(line), Some(now()).filter(|_| known).as_ref()).err().unwrap();
            assert!(fault.to_string().contains(says), "{line}: {fault}");
        }
    }

    #[test]
    fn progress_leaves_out_what_is_not_known() {
        let fields = json!({"started": true, "progress": 1, "required": 3, "n": 5, "t": 3, "nonce": "x", "verification_nonce": "",
            "pgp_fingerprints": null, "holders_present": ["Ada"]});
        let text = progress(fields.as_object().unwrap());
        assert!(text.contains("Have Come") && text.contains("Ada"), "{text}");
        assert!(!text.contains("Verification") && !text.contains("PGP"), "{text}");
    }
}
