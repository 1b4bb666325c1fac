//! `conclave operator generate-root`: a new root token with a quorum of shares, by Vault's verbs or step by step.
//!
//! Always: the token comes hidden by a one-time password, or encrypted; only who has the password or the key sees it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use client::{Client, Method, Response, SecretString};
use crypto::{OsRng, Rng};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::people;
use crate::args::GenerateRoot;
use crate::commands::Answer;
use crate::fault::Fault;
use crate::input;
use crate::output::{self, Printer, key_values, printable};

const ATTEMPT: &str = "sys/generate-root/attempt";
const UPDATE: &str = "sys/generate-root/update";
const SHARE: &str = "Unseal key (not shown): ";
/// What passwords are made of. A power of two, so that each is as likely as any other.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The longest token that a server hides, so that a wrong answer cannot ask for more.
const OTP_CHARS_MAX: u64 = 256;

/// Runs what the flags say.
pub(super) async fn run(client: &Client, printer: &Printer, args: GenerateRoot) -> Result<(), Fault> {
    if let Some(encoded) = &args.decode {
        return decode_and_show(printer, encoded, args.otp.as_deref().unwrap_or_default());
    }
    if args.generate_otp {
        let otp = generate_otp(client).await?;
        let field = |name: &str| (name == "otp").then(|| otp.clone());
        return printer.secret_answer(&json_of("otp", &otp), field, || output::emit(&line("", &otp, "\n")));
    }
    if args.cancel {
        return cancel(client, printer, &args).await;
    }
    if args.status {
        let answer = status(client).await?;
        people::show(printer, &answer.data, || progress(&answer.data))?;
        return printer.say(&next(&answer.data));
    }
    if args.init {
        return init(client, printer, &args).await;
    }
    let is_guided =
        args.share.is_none() && args.nonce.is_none() && people::is_at_terminal() && printer.is_for_people() && !printer.wants_field();
    if is_guided { walk(client, printer, &args).await } else { give_one(client, printer, args).await }
}

#[derive(Serialize)]
struct One<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    otp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

fn json_of<'a>(name: &str, value: &'a str) -> One<'a> {
    One { otp: (name == "otp").then_some(value), token: (name == "token").then_some(value) }
}

/// A line with a secret, of its final size at once.
fn line(before: &str, secret: &str, after: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(before.len() + secret.len() + after.len()));
    line.push_str(before);
    line.push_str(secret);
    line.push_str(after);
    line
}

async fn status(client: &Client) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, ATTEMPT).send().await.map_err(|error| Fault::from(error).during("generate-root"))?;
    Answer::required(&response)
}

/// As long as a token of that server is.
async fn generate_otp(client: &Client) -> Result<Zeroizing<String>, Fault> {
    let length = people::number(&status(client).await?.data, "otp_length");
    if length == 0 || length > OTP_CHARS_MAX {
        return Err(Fault::server(format!("the server asks for a one-time password of {length} characters"))
            .cure("start without one, and the server draws it: conclave operator generate-root -init"));
    }
    Ok(draw(length as usize, &OsRng::new()))
}

fn draw(length: usize, rng: &dyn Rng) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    rng.fill(&mut bytes);
    let mut otp = Zeroizing::new(String::with_capacity(length));
    otp.extend(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])));
    otp
}

/// What it is started or ended with; lent.
#[derive(Serialize)]
struct Order<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    otp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgp_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

async fn cancel(client: &Client, printer: &Printer, args: &GenerateRoot) -> Result<(), Fault> {
    let share = people::proof(&args.proof)?;
    // EXPOSE: the share goes to the server, as proof.
    let share = share.as_ref().map(SecretString::expose);
    let body = Order { otp: None, pgp_key: None, recipient: None, share, nonce: args.nonce.as_deref() };
    let request = client.request(Method::Delete, ATTEMPT).body(&body).idempotent();
    request.send().await.map_err(|error| Fault::from(error).during("cancel generate-root"))?;
    printer.done("Success! No root token is being generated; the shares that came for it are forgotten.")
}

/// The password that `-otp` stands for.
fn given_otp(otp: Option<&str>) -> Result<Option<SecretString>, Fault> {
    match otp {
        None | Some("") => Ok(None),
        Some("-") => input::secret("One-time password (not shown): ").map(Some),
        Some(otp) => Ok(Some(otp.to_owned().into())),
    }
}

async fn start(client: &Client, args: &GenerateRoot, otp: Option<&SecretString>, share: Option<&SecretString>) -> Result<Response, Fault> {
    let key = args.pgp_key.as_deref().map(people::recipient).transpose()?;
    // An age recipient is told by its beginning; Vault knows the other only.
    let is_age = key.as_deref().is_some_and(|key| key.starts_with("age1"));
    let body = Order {
        otp: otp.map(SecretString::expose),
        pgp_key: key.as_deref().filter(|_| !is_age),
        recipient: key.as_deref().filter(|_| is_age),
        // EXPOSE: the share goes to the server, as proof.
        share: share.map(SecretString::expose),
        nonce: None,
    };
    client.request(Method::Put, ATTEMPT).body(&body).send().await.map_err(|error| Fault::from(error).during("start generate-root"))
}

async fn init(client: &Client, printer: &Printer, args: &GenerateRoot) -> Result<(), Fault> {
    let share = people::proof(&args.proof)?;
    let otp = given_otp(args.otp.as_deref())?;
    let response = start(client, args, otp.as_ref(), share.as_ref()).await?;
    let answer = Answer::required(&response)?;
    people::show(printer, &answer.data, || progress(&answer.data))?;
    if people::text(&answer.data, "otp").is_empty() {
        return printer.say(&next(&answer.data));
    }
    printer.say(
        "\nKeep the one-time password (OTP) to yourself: it is shown only here, and decodes the token that the last holder is told.\nNext, each holder does this, at any node:\n  conclave operator generate-root\nWhoever gives the last share sends you the encoded token, and you decode it:\n  conclave operator generate-root -otp=- -decode=ENCODED\n",
    )
}

/// `PUT sys/generate-root/update`, lending the share.
#[derive(Serialize)]
struct ShareBody<'a> {
    key: &'a str,
    nonce: &'a str,
}

async fn enter(client: &Client, nonce: &str, share: &SecretString) -> Result<Response, client::Error> {
    // EXPOSE: the share goes to the server, without a copy that would stay behind.
    client.request(Method::Put, UPDATE).body(&ShareBody { key: share.expose(), nonce }).send().await
}

/// One share, as scripts and Vault's users give it.
async fn give_one(client: &Client, printer: &Printer, args: GenerateRoot) -> Result<(), Fault> {
    let nonce = match args.nonce {
        Some(nonce) => nonce,
        None => {
            let status = status(client).await?.data;
            if !people::is(&status, "started") {
                return Err(Fault::local("no root token is being generated").cure("start it: conclave operator generate-root -init"));
            }
            people::text(&status, "nonce").to_owned()
        }
    };
    let response = people::give(args.share, SHARE, "generate-root", async |share| enter(client, &nonce, share).await).await?;
    let answer = Answer::required(&response)?;
    people::show(printer, &answer.data, || progress(&answer.data))?;
    printer.say(&next(&answer.data))
}

/// For people, by the names that Vault's command line gives.
fn progress(fields: &Map<String, Value>) -> String {
    let titles = [
        ("Nonce", "nonce"),
        ("Started", "started"),
        ("Progress", "progress"),
        ("Complete", "complete"),
        ("PGP Fingerprint", "pgp_fingerprint"),
        ("OTP", "otp"),
        ("OTP Length", "otp_length"),
        ("Encoded Token", "encoded_token"),
        ("Started By", "started_by"),
        ("Have Come", "holders_present"),
        ("Can Still Come", "holders_missing"),
    ];
    let mut rows = people::rows(fields, &titles);
    for [title, value] in &mut rows {
        if title == "Progress" {
            *value = format!("{value}/{}", people::number(fields, "required"));
        }
    }
    key_values(&rows)
}

fn next(fields: &Map<String, Value>) -> String {
    if people::is(fields, "complete") {
        return "\nThe token is made. Who started this decodes it with the one-time password, or decrypts it:\n  conclave operator generate-root -otp=- -decode=ENCODED\n".to_owned();
    }
    if people::is(fields, "started") {
        return "\nNext, another holder does this, at any node:\n  conclave operator generate-root\n".to_owned();
    }
    "\nNo root token is being generated. Start it:\n  conclave operator generate-root -init\n".to_owned()
}

/// `-decode`: what was hidden, or a fault that holds nothing of it.
fn decode_and_show(printer: &Printer, encoded: &str, otp: &str) -> Result<(), Fault> {
    let encoded = if encoded == "-" { input::line()? } else { encoded.trim().to_owned().into() };
    let otp = given_otp(Some(otp))?.ok_or_else(|| Fault::local("-otp is empty"))?;
    // EXPOSE: to decode; the token is what was asked for.
    let token = decode(encoded.expose(), otp.expose())?;
    let field = |name: &str| (name == "token").then(|| token.clone());
    printer.secret_answer(&json_of("token", &token), field, || output::emit(&line("", &token, "\n")))
}

/// Exclusive or of a token and a one-time password, in base64 with or without padding, as Vault hides it.
fn decode(encoded: &str, otp: &str) -> Result<Zeroizing<String>, Fault> {
    let bytes = STANDARD_NO_PAD.decode(encoded).or_else(|_| STANDARD.decode(encoded));
    let mut bytes = Zeroizing::new(bytes.map_err(|_| Fault::local("the encoded token is no base64").cure("copy it whole"))?);
    if bytes.len() != otp.len() {
        return Err(Fault::local(format!("the encoded token has {} bytes, and the one-time password {}", bytes.len(), otp.len()))
            .cure("both belong to one attempt, and are equally long"));
    }
    bytes.iter_mut().zip(otp.bytes()).for_each(|(byte, mask)| *byte ^= mask);
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.into()),
        Ok(other) => {
            drop(Zeroizing::new(other));
            Err(wrong_otp())
        }
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(wrong_otp())
        }
    }
}

fn wrong_otp() -> Fault {
    Fault::local("what comes out is no token").cure("the one-time password is that of another attempt")
}

/// The password that the server has drawn.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Drawn {
    otp: String,
}

/// What the last share gives.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    complete: bool,
    encoded_token: String,
    encoded_root_token: String,
}

/// The whole way at one terminal. Goes on where an attempt that is under way stands; only who started it can decode the token.
async fn walk(client: &Client, printer: &Printer, args: &GenerateRoot) -> Result<(), Fault> {
    let mut status = status(client).await?.data;
    let otp = if people::is(&status, "started") {
        let by = match people::text(&status, "started_by") {
            "" => String::new(),
            by => format!(", started by {}", printable(by)),
        };
        printer.say(&format!("A root token is being generated{by}. Who started it can decode it; you can give your share.\n"))?;
        given_otp(args.otp.as_deref())?
    } else {
        let Some((started, given)) = begin(client, printer, args).await? else { return Ok(()) };
        let drawn: Drawn = started.data()?;
        status = Answer::required(&started)?.data;
        if drawn.otp.is_empty() { given } else { Some(drawn.otp.into()) }
    };
    let nonce = people::text(&status, "nonce").to_owned();
    loop {
        let (given, needed) = (people::number(&status, "progress"), people::number(&status, "required"));
        printer.say(&format!("\n{given} of {needed} shares have come.\n{}", people::who(&status)))?;
        let Some(share) = input::typed_or_nothing("Next share (not shown; nothing: leave): ")? else {
            return leave(printer, otp.as_ref());
        };
        let response = people::give_typed(share, SHARE, "generate-root", true, async |share| enter(client, &nonce, share).await).await?;
        let made: Made = response.data()?;
        if made.complete {
            return finish(printer, &made, otp.as_ref());
        }
        let now = Answer::required(&response)?.data;
        people::say_when_lost(printer, &status, &now)?;
        status = now;
    }
}

/// Says what will happen, and starts it, with the password that was given. `None`: the person would rather not.
async fn begin(client: &Client, printer: &Printer, args: &GenerateRoot) -> Result<Option<(Response, Option<SecretString>)>, Fault> {
    printer.say(
        "A NEW ROOT TOKEN, which may do everything. Each use of it is in the audit log; end it when its work is done.\n\
         1. Holders give their shares, unseen, as many as an unseal takes.\n\
         2. The token is made, hidden by a one-time password that only this terminal has, or encrypted to -pgp-key.\n",
    )?;
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
    let otp = given_otp(args.otp.as_deref())?;
    let started = start(client, args, otp.as_ref(), share.as_ref()).await?;
    Ok(Some((started, otp)))
}

/// Others go on elsewhere; the password is in no other place.
fn leave(printer: &Printer, otp: Option<&SecretString>) -> Result<(), Fault> {
    if let Some(otp) = otp {
        // EXPOSE: to the person who started it, at the terminal.
        output::emit(&line("\nYour one-time password: ", otp.expose(), "\n"))?;
    }
    printer.say(
        "\nIt waits for the shares that are missing. Their holders do this, at any node:\n  conclave operator generate-root\nWhoever gives the last one is told the encoded token; it is decoded with the one-time password:\n  conclave operator generate-root -otp=- -decode=ENCODED\nTo cancel it:\n  conclave operator generate-root -cancel\n",
    )
}

fn finish(printer: &Printer, made: &Made, otp: Option<&SecretString>) -> Result<(), Fault> {
    let encoded = if made.encoded_token.is_empty() { &made.encoded_root_token } else { &made.encoded_token };
    match otp {
        Some(otp) => {
            // EXPOSE: the token is what was asked for, at the terminal of who asked.
            let token = decode(encoded, otp.expose())?;
            output::emit(&line("\nRoot Token: ", &token, "\n\n"))?;
            printer.say("Use it for what it was made for, and end it:\n  conclave token revoke -self\n")
        }
        None => {
            output::emit(&line("\nEncoded Token: ", encoded, "\n\n"))?;
            printer.say("Send it to who started this: only they have the one-time password, or the key, that shows the token.\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// From OpenBao 2.7.2.
    #[test]
    fn a_token_is_decoded_as_vaults_command_line_does() {
        let (token, otp) = ("s.vfJSOUiQq8AyUwH18VKJLTow", "OZc7ob3tmXs2hes0uWkYTqDvLG");
        let mixed: Vec<u8> = token.bytes().zip(otp.bytes()).map(|(a, b)| a ^ b).collect();
        for encoded in [STANDARD_NO_PAD.encode(&mixed), STANDARD.encode(&mixed)] {
            assert_eq!(*decode(&encoded, otp).unwrap(), token);
        }
        for (encoded, otp, says) in [
            ("!", otp, "no base64"),
            (&STANDARD_NO_PAD.encode(&mixed), "short", "equally long"),
            (&STANDARD_NO_PAD.encode(&mixed), &"\u{7f}".repeat(26), "no token"),
        ] {
            let fault = decode(encoded, otp).unwrap_err().to_string();
            assert!(fault.contains(says) && !fault.contains(token), "{fault}");
        }
    }

    #[test]
    fn passwords_are_as_long_as_asked_and_differ() {
        let (first, second) = (draw(28, &OsRng::new()), draw(28, &OsRng::new()));
        assert!(first.len() == 28 && *first != *second && first.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn progress_is_told_with_what_is_needed() {
        let fields =
            json!({"nonce": "x", "started": true, "progress": 1, "required": 3, "complete": false, "otp": "", "encoded_token": ""});
        let text = progress(fields.as_object().unwrap());
        assert!(text.contains("1/3") && !text.contains("OTP ") && !text.contains("Encoded"), "{text}");
    }
}
