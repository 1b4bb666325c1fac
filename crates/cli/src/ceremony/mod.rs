//! `conclave operator share-sheet`: one share on a sheet that says what to do with it, for paper.
//!
//! Always: the share is typed unseen or comes on stdin, never on the command line; it is checked before anything is shown; it goes to stdout, or
//! into a file that only its owner may read, and nowhere else; no file is overwritten. Talks to a node about the cluster only, never about the
//! share.

mod html;
mod qr;
mod sheet;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Method};
use crypto::{Share, ShareTag, Zeroizing};
use serde_json::{Map, Value, json};
use types::{Clock as _, SystemClock, Timestamp};
use uuid::Uuid;

use crate::args::ShareSheet;
use crate::commands::Answer;
use crate::fault::Fault;
use crate::files;
use crate::input;
use crate::output::{self, Printer, shown};
use qr::Code;
pub(crate) use sheet::Cluster;
use sheet::{Body, Sheet};

/// The longest holder's name, in characters.
const HOLDER_CHARS_MAX: usize = 60;
/// The longest encrypted share, in characters: one for an RSA key of 8192 bits has 1560.
const MESSAGE_CHARS_MAX: usize = 2048;
/// Who may read a sheet.
const SHEET_MODE: u32 = 0o600;
/// Columns of a sheet: more are hard to read, and fewer have no room for a command.
const COLUMNS_MIN: usize = 34;
const COLUMNS_MAX: usize = 80;

/// Asks a node about the cluster, then the holder for the share, and makes the sheet.
pub(crate) async fn run(client: &Client, printer: &Printer, args: &ShareSheet) -> Result<(), Fault> {
    if args.html.is_none() && (!printer.is_for_people() || printer.wants_field()) {
        return Err(Fault::local("a sheet is for people").cure("leave -format and -field out, or write it with -html"));
    }
    let holder = args.holder.as_deref().map(holder).transpose()?;
    let cluster = if args.offline { None } else { Some(ask(client).await?) };
    let body = body(input::secret("Share (not shown): ")?.expose(), cluster.as_ref())?;
    let sheet = Sheet { cluster, holder, body, made: date(SystemClock.now()) };
    match &args.html {
        Some(file) => {
            let code =
                Code::fitting(sheet.body.text(), qr::MODULES_MAX).ok_or_else(|| Fault::local("the share is too long for a QR code"))?;
            files::create(file, html::page(&sheet, &code).as_bytes(), SHEET_MODE)?;
            let shown = file.display().to_string();
            let whole = json!({ "file": shown });
            printer.answer(&whole.as_object().cloned().unwrap_or_default(), &whole, || {
                format!("Success! The sheet is in {shown}, which only you may read.\nPrint it, look at the print, then destroy the file: shred -u {shown}\n")
            })
        }
        None => show(&sheet, args.qr),
    }
}

/// On stdout, as wide as the terminal.
fn show(sheet: &Sheet, with_code: bool) -> Result<(), Fault> {
    let columns = output::terminal_columns().unwrap_or(COLUMNS_MAX);
    let code = if with_code {
        let code = Code::fitting(sheet.body.text(), columns);
        Some(code.ok_or_else(|| {
            Fault::local(format!("the QR code of this share does not fit into {columns} columns"))
                .cure("widen the terminal, or write the sheet with -html")
        })?)
    } else {
        None
    };
    let is_terminal = io::stdout().is_terminal();
    let code = code.map(|code| code.to_text(is_terminal));
    output::emit(&sheet.to_text(columns.clamp(COLUMNS_MIN, COLUMNS_MAX), code.as_deref().map(String::as_str)))?;
    if is_terminal {
        eprintln!("Note: the share is on this screen. When you have it on paper, clear the screen and what can be scrolled back to.");
    }
    Ok(())
}

/// Where the sheets of new shares go, one file for each; holders without a name have a number. The folder is made; a file that is there
/// already is a fault, before there is anything that could be lost.
pub(crate) fn sheet_files(folder: &Path, holders: &[String], shares: usize) -> Result<Vec<PathBuf>, Fault> {
    files::create_folder(folder)?;
    let name = |at: usize| {
        let holder = holders.get(at).map(|holder| in_a_file_name(holder)).filter(|holder| !holder.is_empty());
        holder.map_or_else(|| format!("share-{}.html", at + 1), |holder| format!("share-{}-{holder}.html", at + 1))
    };
    let sheets: Vec<PathBuf> = (0..shares).map(|at| folder.join(name(at))).collect();
    match sheets.iter().find(|file| file.symlink_metadata().is_ok()) {
        Some(file) => Err(Fault::local(format!("{} is there already", file.display()))
            .cure("nothing is overwritten: give another folder, or destroy the old sheets (shred -u)")),
        None => Ok(sheets),
    }
}

/// Letters and digits, in lower case; what is between them is a dash.
fn in_a_file_name(holder: &str) -> String {
    let mut name = String::new();
    for character in holder.chars().take(HOLDER_CHARS_MAX) {
        if character.is_alphanumeric() {
            name.extend(character.to_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

/// Writes the sheet of one new share, plain or encrypted.
pub(crate) fn write_sheet(file: &Path, share: &str, name: &str, cluster: Cluster) -> Result<(), Fault> {
    let holder = if name.is_empty() { None } else { Some(holder(name)?) };
    let body = body(share, Some(&cluster))?;
    let code = Code::fitting(body.text(), qr::MODULES_MAX).ok_or_else(|| Fault::local("the share is too long for a QR code"))?;
    let sheet = Sheet { cluster: Some(cluster), holder, body, made: date(SystemClock.now()) };
    files::create(file, html::page(&sheet, &code).as_bytes(), SHEET_MODE)
}

/// What the sheet says of the cluster.
pub(crate) async fn ask(client: &Client) -> Result<Cluster, Fault> {
    let cure = "with -offline nothing is asked, and the cluster is left blank on the sheet";
    let response = client.request(Method::Get, "sys/seal-status").send().await.map_err(|error| Fault::from(error).cure(cure))?;
    cluster(&Answer::required(&response)?.data).map_err(|fault| fault.cure(cure))
}

fn cluster(status: &Map<String, Value>) -> Result<Cluster, Fault> {
    let text = |name: &str| status.get(name).map(shown).filter(|text| text != "n/a" && text != "<nil>").map(|text| clean(&text));
    let number = |name: &str| status.get(name).and_then(Value::as_u64).filter(|number| *number > 0);
    match (number("n"), number("t")) {
        (Some(shares), Some(threshold)) => {
            let name = text("cluster_name").unwrap_or_else(|| "this cluster".to_owned());
            Ok(Cluster { name, id: text("cluster_id"), shares, threshold })
        }
        _ => Err(Fault::server("that node has no keys yet, so that it has no shares")),
    }
}

/// A share as it is given to people, or one that is encrypted to its holder. A share that `cluster` cannot have is refused. Errors hold nothing
/// of it.
fn body(text: &str, cluster: Option<&Cluster>) -> Result<Body, Fault> {
    if let Some(body) = message(text)? {
        return Ok(body);
    }
    let share = Share::parse_text(text).map_err(|error| Fault::local(error.to_string()))?;
    let number = share.number();
    if let Some(Cluster { name, id, shares, .. }) = cluster {
        let id = id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        if id.is_some_and(|id| share.tag() != ShareTag::of(id.as_bytes())) {
            return Err(Fault::local(format!("this share is of another cluster than {name}"))
                .cure("ask a node of its own cluster (-address), or nobody (-offline)"));
        }
        if u64::from(number) > *shares {
            return Err(Fault::local(format!("this is share {number}, and {name} has {shares}")).cure("is it from before the last rekey?"));
        }
    }
    Ok(Body::Share { number, text: share.to_base64() })
}

/// A text that is no message is none; one that is too long for a sheet is a fault.
fn message(text: &str) -> Result<Option<Body>, Fault> {
    let Ok(bytes) = STANDARD.decode(text) else { return Ok(None) };
    // A public-key encrypted session key, in the old format (with one or two bytes of length) or in the new.
    let is_openpgp = bytes.len() > 64 && matches!(bytes[0], 0x84 | 0x85 | 0xc1);
    let is_age = bytes.starts_with(b"age-encryption.org/");
    if !is_openpgp && !is_age {
        return Ok(None);
    }
    if text.len() > MESSAGE_CHARS_MAX {
        return Err(Fault::local(format!("the encrypted share has {} characters, more than {MESSAGE_CHARS_MAX}", text.len()))
            .cure("hand it over as a file: it needs no sheet, since only its holder can read it"));
    }
    Ok(Some(Body::Message { is_age, text: Zeroizing::new(text.to_owned()) }))
}

/// What people are called, in one line.
fn holder(name: &str) -> Result<String, Fault> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > HOLDER_CHARS_MAX || clean(name) != name {
        return Err(
            Fault::local("-holder: that is no name").cure(format!("use 1 to {HOLDER_CHARS_MAX} characters, none of them invisible"))
        );
    }
    Ok(name.to_owned())
}

/// Without characters that drive a terminal or turn the direction of what follows.
fn clean(text: &str) -> String {
    let is_invisible =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars().filter(|c| !is_invisible(*c)).collect()
}

/// The day, in UTC.
fn date(now: Timestamp) -> String {
    let time = i64::try_from(now.seconds()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.to_string().chars().take(10).collect())
}

#[cfg(test)]
mod tests {
    use crypto::{Quorum, SealKey, SeededRng};

    use super::*;

    pub(super) const CLUSTER: &str = "5c3f0d9e-4a52-4a77-9f3c-0f8e6f3d2b1a";

    /// One of the shares of a key that counts up; the same in each run.
    pub(super) fn share(number: usize) -> Share {
        let key = SealKey::with_bytes(|bytes| *bytes = std::array::from_fn(|at| at as u8));
        let tag = ShareTag::of(Uuid::try_parse(CLUSTER).unwrap().as_bytes());
        crypto::shamir::split(&key, Quorum::new(5, 3).unwrap(), tag, &SeededRng::dangerous_from_seed(1)).swap_remove(number - 1)
    }

    fn cluster_with(id: &str, shares: u64) -> Cluster {
        Cluster { name: "production".to_owned(), id: Some(id.to_owned()), shares, threshold: 2 }
    }

    #[test]
    fn a_share_is_read_in_either_spelling_and_shown_in_one() {
        for text in [share(2).to_base64(), share(2).to_hex()] {
            let Body::Share { number, text } = body(&text, Some(&cluster_with(CLUSTER, 5))).unwrap() else { panic!("a share") };
            assert_eq!((number, text.as_str()), (2, share(2).to_base64().as_str()));
        }
    }

    #[test]
    fn an_encrypted_share_is_told_from_a_plain_one() {
        let openpgp = STANDARD.encode([&[0xc1, 0x5e, 3][..], &[7; 90]].concat());
        let age = STANDARD.encode(b"age-encryption.org/v1\n-> X25519 ");
        for (text, want) in [(&openpgp, false), (&age, true)] {
            assert!(matches!(body(text, None), Ok(Body::Message { is_age, .. }) if is_age == want), "{text}");
        }
        let long = STANDARD.encode([&[0xc1][..], &[7; 3000]].concat());
        assert!(body(&long, None).err().unwrap().to_string().contains("4004 characters"));
    }

    #[test]
    fn a_fault_holds_nothing_of_the_share() {
        let good = share(2).to_base64();
        for text in [&good[..51], &format!("{}-{}", &good[..10], &good[11..]), "something else that is secret"] {
            let fault = body(text, None).err().unwrap().to_string();
            assert!(!text.as_bytes().windows(8).any(|part| fault.as_bytes().windows(8).any(|said| said == part)), "{fault}");
        }
    }

    #[test]
    fn a_share_that_the_cluster_cannot_have_is_refused() {
        let refused = |number: usize, cluster| body(&share(number).to_base64(), Some(&cluster)).err().map(|fault| fault.to_string());
        assert!(refused(3, cluster_with(CLUSTER, 2)).unwrap().contains("this is share 3, and production has 2"));
        assert!(refused(1, cluster_with("00000000-4a52-4a77-9f3c-0f8e6f3d2b1a", 5)).unwrap().contains("of another cluster"));
        // What cannot be compared is not.
        assert_eq!(refused(1, cluster_with("vault-cluster-1", 5)), None);
    }

    #[test]
    fn what_a_node_says_of_its_cluster_is_taken_or_left_blank() {
        let status = |value: Value| value.as_object().cloned().unwrap();
        let whole = cluster(&status(json!({"cluster_name": "prod\u{1b}[2J", "cluster_id": "5c3f", "n": 5, "t": 3}))).unwrap();
        assert_eq!((whole.name.as_str(), whole.id.as_deref(), whole.shares, whole.threshold), ("prod[2J", Some("5c3f"), 5, 3));
        let bare = cluster(&status(json!({"cluster_name": "", "n": 1, "t": 1}))).unwrap();
        assert_eq!((bare.name.as_str(), bare.id), ("this cluster", None));
        assert!(cluster(&status(json!({"n": 0, "t": 0}))).is_err());
    }

    #[test]
    fn names_are_one_visible_line() {
        assert_eq!(holder(" Ada <Lovelace> & Co ").unwrap(), "Ada <Lovelace> & Co");
        for name in ["", " ", "Ada\nRoot", "a\u{202e}da", &"a".repeat(HOLDER_CHARS_MAX + 1)] {
            assert!(holder(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn new_shares_have_files_of_their_own_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("sheets");
        let holders = ["Ada Lovelace".to_owned(), "../../etc/Grace".to_owned(), "…".to_owned()];
        let sheets = sheet_files(&folder, &holders, 4).unwrap();
        let names: Vec<&str> = sheets.iter().map(|file| file.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["share-1-ada-lovelace.html", "share-2-etc-grace.html", "share-3.html", "share-4.html"]);
        write_sheet(&sheets[1], &share(2).to_base64(), "Grace", cluster_with(CLUSTER, 5)).unwrap();
        assert!(sheet_files(&folder, &holders, 4).unwrap_err().to_string().contains("there already"));
        assert!(write_sheet(&sheets[1], &share(2).to_base64(), "Grace", cluster_with(CLUSTER, 5)).is_err());
    }

    #[test]
    fn a_day_is_that_of_utc() {
        assert_eq!(date(Timestamp(1_795_564_799_000)), "2026-11-24");
    }
}
