//! What the commands about keys have in common: shares that people give, keys of people, and new shares that people get.
//!
//! Always: a share is typed unseen or comes on stdin; one that comes on the command line is warned of; errors hold nothing of a share; new
//! shares go to the terminal, to sheets, or where the caller has sent stdout with open eyes, and are wiped.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Error, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::args::{HandOut, Holders, ShareAsProof};
use crate::ceremony::{self, Cluster};
use crate::fault::Fault;
use crate::files;
use crate::input;
use crate::output::{self, Printer};

/// How often a share is asked for again at a terminal, when it was refused.
const TRIES_MAX: u32 = 3;
/// The largest file with a public key: as much as the server takes.
const KEY_FILE_BYTES_MAX: u64 = 128 * 1024;
/// A share, its number, and most names fit into so many columns.
const COLUMNS_WIDE: usize = 80;
/// Clears the screen, what can be scrolled back to, and goes to the top.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// Whether somebody sits there who can be asked and shown things.
pub(crate) fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A share for the next step.
fn share(argument: Option<&str>, prompt: &str) -> Result<SecretString, Fault> {
    match argument {
        Some("-") => input::line(),
        Some(argument) => {
            output::warn("the shell's history and the process list now hold this share; leave it out to type it unseen.");
            Ok(argument.trim().to_owned().into())
        }
        None => input::secret(prompt),
    }
}

/// Gets a share and gives it to the cluster. At a terminal a share that is refused is named and asked for again: nothing is lost by it.
pub(super) async fn give<T>(
    argument: Option<String>,
    prompt: &str,
    act: &str,
    give: impl AsyncFn(&SecretString) -> Result<T, Error>,
) -> Result<T, Fault> {
    let argument = argument.map(Zeroizing::new);
    let share = share(argument.as_deref().map(String::as_str), prompt)?;
    let may_ask_again = argument.is_none() && is_at_terminal();
    give_typed(share, prompt, act, may_ask_again, give).await
}

/// The same with a first share that is there already.
pub(super) async fn give_typed<T>(
    mut share: SecretString,
    prompt: &str,
    act: &str,
    may_ask_again: bool,
    give: impl AsyncFn(&SecretString) -> Result<T, Error>,
) -> Result<T, Fault> {
    for _ in 1..TRIES_MAX {
        match give(&share).await {
            Err(Error::Refused(refusal)) if may_ask_again && is_about_the_share(refusal.status, &refusal.errors) => {
                output::note(&format!(
                    "Not taken: {}\nNothing is lost by that, and what others gave still counts. Try again, or leave with Ctrl-C.",
                    refusal.errors.join("; ")
                ));
                share = input::typed(prompt)?;
            }
            done => return done.map_err(|error| Fault::from(error).during(act)),
        }
    }
    give(&share).await.map_err(|error| Fault::from(error).during(act))
}

/// Whether another share could do better.
fn is_about_the_share(status: u16, errors: &[String]) -> bool {
    status == 400 && errors.iter().any(|error| error.contains("share"))
}

/// The share that `-share=-` stands for.
pub(super) fn proof(args: &ShareAsProof) -> Result<Option<SecretString>, Fault> {
    match args.source.as_deref() {
        None => Ok(None),
        Some("-") => input::secret("One of the cluster's shares, as proof (not shown): ").map(Some),
        Some(_) => Err(Fault::local("a share on the command line stays in the shell's history")
            .cure("write -share=- and type it unseen, or give it as one line on stdin")),
    }
}

/// Waits for the return key, or anything else with a line end.
pub(crate) fn await_return(prompt: &str) -> Result<(), Fault> {
    answer(prompt).map(drop)
}

/// One line that may be seen.
pub(super) fn answer(prompt: &str) -> Result<String, Fault> {
    eprint!("{prompt}");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    match read.map_err(|error| Fault::local(format!("read from the terminal: {error}")))? {
        // Ctrl-D.
        0 => Err(Fault::interrupted()),
        _ => Ok(line.trim().to_owned()),
    }
}

/// Whether the person agrees; only `y` or `yes` does.
pub(super) fn agrees(question: &str) -> Result<bool, Fault> {
    let answer = answer(&format!("{question} [y/N] "))?;
    Ok(["y", "yes"].contains(&answer.to_lowercase().as_str()))
}

/// The OpenPGP key in a file, in base64, as the API takes it.
pub(super) fn pgp_key(file: &str) -> Result<String, Fault> {
    refuse_keybase(file)?;
    let bytes = files::read(Path::new(file), KEY_FILE_BYTES_MAX)?.ok_or_else(|| no_such_key(file))?;
    key_text(&bytes).map_err(|fault| fault.during(file))
}

/// An age recipient, or what is in a file.
pub(super) fn recipient(key: &str) -> Result<String, Fault> {
    refuse_keybase(key)?;
    if key.starts_with("age1") {
        return Ok(key.to_owned());
    }
    let bytes = files::read(Path::new(key), KEY_FILE_BYTES_MAX)?.ok_or_else(|| no_such_key(key))?;
    key_text(&bytes).map_err(|fault| fault.during(key))
}

fn no_such_key(file: &str) -> Fault {
    Fault::local(format!("{file}: there is no such file"))
        .cure("give a file with a public key: gpg --export ADDRESS > FILE, or age-keygen -y")
}

fn refuse_keybase(key: &str) -> Result<(), Fault> {
    if key.starts_with("keybase:") {
        return Err(Fault::local(format!("{key}: keys are not fetched from Keybase: whoever answers for it could read the share"))
            .cure("ask its owner for the public key, compare the fingerprint, and give the file"));
    }
    Ok(())
}

/// A key as text: what is text already stays, and the server checks it; what is binary becomes base64. A private key never leaves this machine.
fn key_text(bytes: &[u8]) -> Result<String, Fault> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim).filter(|text| text.chars().all(|c| !c.is_control() || c.is_whitespace()));
    let is_private = match text {
        Some(text) => text.contains("PRIVATE KEY BLOCK") || text.contains("AGE-SECRET-KEY-"),
        // A secret-key packet, in the old format or in the new.
        None => bytes.first().is_some_and(|first| matches!(first, 0x94..=0x97 | 0xc5)),
    };
    if is_private {
        return Err(
            Fault::local("this is a PRIVATE key; it was not sent anywhere").cure("give the public key: gpg --export, age-keygen -y")
        );
    }
    Ok(match text {
        // age-keygen -o writes comments before the recipient.
        Some(text) if text.lines().any(|line| line.starts_with("age1")) => {
            text.lines().find(|line| line.starts_with("age1")).unwrap_or_default().to_owned()
        }
        Some(text) => text.to_owned(),
        None => STANDARD.encode(bytes),
    })
}

/// Who is to have shares, read and counted. The server checks the keys.
pub(super) struct People {
    pub(super) names: Vec<String>,
    pub(super) pgp_keys: Vec<String>,
    pub(super) recipients: Vec<String>,
}

impl People {
    /// Reads the keys; says which list does not fit `shares`.
    pub(super) fn read(args: &Holders, shares: u32) -> Result<People, Fault> {
        let trimmed = |texts: &[String]| texts.iter().map(|text| text.trim().to_owned()).collect::<Vec<_>>();
        for (flag, list) in [("-holders", &args.holders), ("-pgp-keys", &args.pgp_keys), ("-recipients", &args.recipients)] {
            if !list.is_empty() && list.len() != shares as usize {
                return Err(Fault::local(format!("{flag} names {}, and there are {shares} shares", list.len()))
                    .cure("name one for each share, in the same order in each list"));
            }
        }
        Ok(People {
            names: trimmed(&args.holders),
            pgp_keys: trimmed(&args.pgp_keys).iter().map(|file| pgp_key(file)).collect::<Result<_, _>>()?,
            recipients: trimmed(&args.recipients).iter().map(|key| recipient(key)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether shares come encrypted, so that nobody but their holders can use them.
    pub(super) fn are_encrypted(&self) -> bool {
        !self.pgp_keys.is_empty() || !self.recipients.is_empty()
    }

    /// Adds what is there to a request's body.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) {
        for (name, list) in [("holders", &self.names), ("pgp_keys", &self.pgp_keys), ("recipients", &self.recipients)] {
            if !list.is_empty() {
                body.insert(name.to_owned(), list.clone().into());
            }
        }
    }
}

/// Texts that are wiped, as an answer brings them.
#[derive(Default, Deserialize)]
#[serde(from = "Option<Vec<String>>")]
pub(super) struct Secrets(pub(super) Vec<Zeroizing<String>>);

impl From<Option<Vec<String>>> for Secrets {
    fn from(texts: Option<Vec<String>>) -> Secrets {
        // Each text is taken over, not copied.
        Secrets(texts.unwrap_or_default().into_iter().map(Zeroizing::new).collect())
    }
}

impl Secrets {
    /// Lends the texts, to be written out.
    pub(super) fn lent(&self) -> Vec<&str> {
        self.0.iter().map(|text| text.as_str()).collect()
    }

    /// As `-field` shows a list: in JSON.
    pub(super) fn listed(&self) -> Zeroizing<String> {
        let length: usize = self.0.iter().map(|text| text.len() + 3).sum();
        let mut listed = Zeroizing::new(String::with_capacity(length + 2));
        listed.push('[');
        for (at, text) in self.0.iter().enumerate() {
            // Hex and base64 have nothing to escape.
            listed.push_str(if at == 0 { "\"" } else { ",\"" });
            listed.push_str(text);
            listed.push('"');
        }
        listed.push(']');
        listed
    }
}

/// One of them, for a field.
pub(super) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// How new shares get to people; decided, and checked as far as it can be, before there are any.
pub(super) enum Way {
    /// All at once, on stdout.
    Listed,
    /// One after the other, each to its holder alone.
    HandedOut,
    /// On sheets, in these files.
    Sheets(Vec<PathBuf>),
}

impl Way {
    /// What the flags say. Warns when shares would go into a file.
    pub(super) fn choose(args: &HandOut, printer: &Printer, names: &[String], shares: u32, are_encrypted: bool) -> Result<Way, Fault> {
        if let Some(folder) = &args.share_sheets {
            return ceremony::sheet_files(folder, names, shares as usize).map(Way::Sheets);
        }
        let is_shown = io::stdout().is_terminal();
        if args.hand_out {
            if !is_shown || !is_at_terminal() || !printer.is_for_people() {
                return Err(
                    Fault::local("-hand-out shows shares to people, and here is no terminal").cure("leave it out, or use -share-sheets")
                );
            }
            return Ok(Way::HandedOut);
        }
        if !are_encrypted {
            warn_of_a_file(printer);
        }
        Ok(Way::Listed)
    }

    /// Whether the shares are shown on the screen.
    pub(super) fn shows(&self) -> bool {
        !matches!(self, Way::Sheets(_))
    }

    /// Hands new shares out. A sheet that cannot be written is told, and its share is shown: it is in no other place.
    pub(super) fn hand_out(&self, shares: &Secrets, names: &[String], cluster: &Cluster) -> Result<(), Fault> {
        let name = |at: usize| names.get(at).map_or("", String::as_str);
        match self {
            Way::Listed => {
                let narrow = is_narrow();
                for (at, share) in shares.0.iter().enumerate() {
                    output::emit(&listed(at, name(at), share, narrow))?;
                }
                Ok(())
            }
            Way::HandedOut => {
                let count = shares.0.len();
                for (at, share) in shares.0.iter().enumerate() {
                    let whose = if name(at).is_empty() { String::new() } else { format!(", for {}", output::printable(name(at))) };
                    output::emit(&format!("{CLEAR}Share {} of {count}{whose}\n\n", at + 1))?;
                    output::emit(&output::lines(
                        "Only its holder looks at this screen now; nobody else, and no camera.",
                        output::columns(),
                    ))?;
                    await_return("Return shows the share: ")?;
                    output::emit("\n")?;
                    output::emit(share)?;
                    output::emit("\n\n")?;
                    output::emit(&output::lines("Write it down, and compare it character by character.", output::columns()))?;
                    await_return("Return clears the screen: ")?;
                }
                output::emit(CLEAR)
            }
            Way::Sheets(files) => {
                let mut fault = None;
                for (at, (file, share)) in files.iter().zip(&shares.0).enumerate() {
                    match ceremony::write_sheet(file, share, name(at), cluster.clone()) {
                        Ok(()) => output::emit(&format!("Sheet of share {}: {}\n", at + 1, file.display()))?,
                        Err(error) => {
                            error.report();
                            eprintln!("This share is in no file. It is shown here, and nowhere else:");
                            output::emit(&listed(at, name(at), share, true))?;
                            fault = Some(error);
                        }
                    }
                }
                match fault {
                    None => Ok(()),
                    Some(_) => {
                        Err(Fault::local("not every sheet was written").cure("give the shares that are shown to their holders yourself"))
                    }
                }
            }
        }
    }
}

/// Says so when shares that anybody can use go where they stay.
pub(super) fn warn_of_a_file(printer: &Printer) {
    if !io::stdout().is_terminal() && printer.is_for_people() && !printer.wants_field() {
        output::warn(
            "stdout is no terminal, so that the shares end up in a file or a pipe. Who can read that can open the cluster. \
             For a program ask for -format=json; for people use -share-sheets=FOLDER.",
        );
    }
}

/// Whether a share has no room beside its name.
pub(super) fn is_narrow() -> bool {
    output::terminal_columns().is_some_and(|columns| columns < COLUMNS_WIDE)
}

/// As Vault's command line shows it; the share below where there is no room beside.
fn listed(at: usize, name: &str, share: &str, is_narrow: bool) -> Zeroizing<String> {
    let whose = if name.is_empty() { String::new() } else { format!(" ({})", output::printable(name)) };
    let between = if is_narrow { "\n" } else { " " };
    let head = format!("Unseal Key {}{whose}:{between}", at + 1);
    let mut line = Zeroizing::new(String::with_capacity(head.len() + share.len() + 1));
    line.push_str(&head);
    line.push_str(share);
    line.push('\n');
    line
}

/// An answer, for programs without its envelope: as Vault's command line shows those of these commands.
pub(super) fn show(printer: &Printer, data: &Map<String, Value>, table: impl FnOnce() -> String) -> Result<(), Fault> {
    printer.answer(data, &Value::Object(data.clone()), table)
}

/// Who has come and who still can, as an answer tells it. Empty when it tells nothing.
pub(super) fn who(fields: &Map<String, Value>) -> String {
    let names = |field: &str| {
        let names = fields.get(field).and_then(Value::as_array);
        let names: Vec<String> = names.into_iter().flatten().filter_map(Value::as_str).map(output::printable).collect();
        names.join(", ")
    };
    let (present, missing) = (names("holders_present"), names("holders_missing"));
    let mut text = String::new();
    if !present.is_empty() {
        text.push_str(&format!("Have come: {present}.\n"));
    }
    if !missing.is_empty() {
        text.push_str(&format!("Can still come: {missing}.\n"));
    }
    text
}

/// Rows of what is known, in the order of `titles`; what is empty is left out.
pub(super) fn rows(fields: &Map<String, Value>, titles: &[(&str, &str)]) -> Vec<[String; 2]> {
    let known = |value: &&Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    let row = |(title, name): &(&str, &str)| Some([(*title).to_owned(), shown(fields.get(*name).filter(known)?)]);
    titles.iter().filter_map(row).collect()
}

/// A value in a table of people's: lists with commas.
pub(super) fn shown(value: &Value) -> String {
    match value.as_array() {
        Some(items) => items.iter().map(output::shown).collect::<Vec<_>>().join(", "),
        None => output::shown(value),
    }
}

/// Shares of an act are kept where they were collected, at the node that leads: says so when it was another one.
pub(super) fn say_when_lost(printer: &Printer, before: &Map<String, Value>, now: &Map<String, Value>) -> Result<(), Fault> {
    if number(now, "progress") > number(before, "progress") {
        return Ok(());
    }
    printer
        .say("\nAnother node leads now, and the shares that came before are forgotten: they are asked for again. Nothing else is lost.\n")
}

/// A number in an answer; 0 when it is not there.
pub(super) fn number(fields: &Map<String, Value>, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A text in an answer; empty when it is not there.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an answer says so.
pub(super) fn is(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_in_each_form_and_private_ones_stay_here() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let file = folder.path().join(name);
            files::create(&file, bytes, 0o600).unwrap();
            file.display().to_string()
        };
        let binary = [0x99, 1, 13, 4, 0xff, 0xfe];
        let armored = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBA==\n-----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(pgp_key(&write("binary", &binary)).unwrap(), STANDARD.encode(binary));
        assert_eq!(pgp_key(&write("armored", armored.as_bytes())).unwrap(), armored.trim());
        assert_eq!(pgp_key(&write("base64", b"mQENBA==\n")).unwrap(), "mQENBA==");
        assert_eq!(recipient("age1xyz").unwrap(), "age1xyz");
        assert_eq!(recipient(&write("age", b"# created: 2026\nage1abc\n")).unwrap(), "age1abc");
        for (name, bytes, says) in [
            ("private.asc", b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n".as_slice(), "PRIVATE"),
            ("private.gpg", &[0x95, 1, 0xff, 0xfe], "PRIVATE"),
            ("identity", b"AGE-SECRET-KEY-1QQQ\n", "PRIVATE"),
        ] {
            let file = write(name, bytes);
            for fault in [pgp_key(&file).unwrap_err(), recipient(&file).unwrap_err()] {
                assert!(fault.to_string().contains(says), "{fault}");
            }
        }
        assert!(pgp_key("keybase:ada").unwrap_err().to_string().contains("Keybase"));
        assert!(pgp_key("/nonexistent").unwrap_err().to_string().contains("no such file"));
    }

    #[test]
    fn lists_that_do_not_fit_the_shares_are_named() {
        let holders = |holders: &[&str], recipients: &[&str]| Holders {
            holders: holders.iter().map(|&name| name.to_owned()).collect(),
            pgp_keys: Vec::new(),
            recipients: recipients.iter().map(|&name| name.to_owned()).collect(),
        };
        assert!(People::read(&holders(&["Ada"], &[]), 2).err().unwrap().to_string().contains("-holders names 1"));
        assert!(People::read(&holders(&[], &["age1a", "age1b"]), 3).err().unwrap().to_string().contains("-recipients names 2"));
        let people = People::read(&holders(&["Ada", " Grace "], &["age1a", "age1b"]), 2).unwrap();
        let mut body = Map::new();
        people.add_to(&mut body);
        assert_eq!(Value::Object(body), json!({"holders": ["Ada", "Grace"], "recipients": ["age1a", "age1b"]}));
        assert!(people.are_encrypted());
    }

    #[test]
    fn people_are_told_by_name_where_the_answer_names_them() {
        let fields = json!({"holders_present": ["Ada"], "holders_missing": ["Grace", "Al\u{1b}an"]});
        assert_eq!(who(fields.as_object().unwrap()), "Have come: Ada.\nCan still come: Grace, Al\\u{1b}an.\n");
        assert_eq!(who(&Map::new()), "");
    }

    #[test]
    fn only_a_refusal_of_the_share_asks_again() {
        for (status, error, want) in [
            (400, "share 2 is wrong: it is a share of another cluster", true),
            (400, "'key' is no share: the share has 8 characters", true),
            (400, "the cluster is not initialized", false),
            (429, "too many wrong shares came from this address", false),
            (403, "permission denied", false),
        ] {
            assert_eq!(is_about_the_share(status, &[error.to_owned()]), want, "{error}");
        }
    }

    #[test]
    fn a_share_stands_below_its_name_where_there_is_no_room() {
        assert_eq!(*listed(0, "", "AAAA", false), "Unseal Key 1: AAAA\n");
        assert_eq!(*listed(1, "Grace", "AAAA", true), "Unseal Key 2 (Grace):\nAAAA\n");
        let secrets = Secrets::from(Some(vec!["AA".to_owned(), "BB".to_owned()]));
        assert_eq!(*secrets.listed(), r#"["AA","BB"]"#);
    }
}
