//! `conclave operator shares` and `verify-share`: who holds what, whether it is still right, and whether enough of it is left.

use std::time::Duration;

use client::{Client, Method};
use serde::Serialize;
use serde_json::{Map, Value};
use types::{Clock as _, SystemClock};

use super::people;
use crate::args::{Shares, VerifyShare};
use crate::commands::Answer;
use crate::fault::Fault;
use crate::output::{self, Printer, printable, table};

/// Exit code of the warning, with `-strict`.
const BELOW_MARGIN: u8 = 2;

/// Reads what `sys/seals` tells.
pub(super) async fn seals(client: &Client) -> Result<Answer, Fault> {
    let response = client.request(Method::Get, "sys/seals").send().await.map_err(|error| Fault::from(error).during("the seals"))?;
    Answer::required(&response)
}

/// Shows the holders, and warns when too few of them have shown their share lately.
pub(super) async fn run(client: &Client, printer: &Printer, args: &Shares) -> Result<(), Fault> {
    let within = duration(&args.within)?;
    let answer = seals(client).await?;
    let split = answer.data.get("shamir").and_then(Value::as_object).cloned().unwrap_or_default();
    let holders: Vec<Holder> = holders(&split);
    let now = SystemClock.now().0;
    people::show(printer, &answer.data, || {
        let rows: Vec<[String; 4]> = holders.iter().map(|holder| holder.row(now)).collect();
        let quorum =
            format!("{} of {} shares open the cluster.\n\n", people::number(&split, "threshold"), people::number(&split, "shares"));
        quorum + &table(["Share", "Holder", "Encrypted To", "Last Verified"], &rows)
    })?;
    if answer.data.get("next").is_some_and(|next| !next.is_null()) {
        printer.say("\nA rekey is under way: new shares are made, and not in force yet. See:\n  conclave operator rekey -status\n")?;
    }
    match warning(&holders, people::number(&split, "threshold"), now, within, args) {
        None => Ok(()),
        Some(warning) => {
            output::warn(&format!("{warning}. Ask the holders to check theirs:\n  conclave operator verify-share"));
            if args.strict { Err(Fault::code(BELOW_MARGIN)) } else { Ok(()) }
        }
    }
}

/// One share, and what is known of it.
struct Holder {
    number: u64,
    name: String,
    recipient: String,
    /// Milliseconds since 1970.
    verified: Option<u64>,
}

fn holders(split: &Map<String, Value>) -> Vec<Holder> {
    let one = |holder: &Value| {
        let fields = holder.as_object().cloned().unwrap_or_default();
        Holder {
            number: people::number(&fields, "number"),
            name: printable(people::text(&fields, "name")),
            recipient: printable(people::text(&fields, "recipient")),
            verified: millis(people::text(&fields, "last_verified_time")),
        }
    };
    split.get("holders").and_then(Value::as_array).into_iter().flatten().map(one).collect()
}

fn millis(text: &str) -> Option<u64> {
    text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok())
}

impl Holder {
    fn row(&self, now: u64) -> [String; 4] {
        let known = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        [
            self.number.to_string(),
            known(&self.name),
            known(&self.recipient),
            self.verified.map_or_else(|| "never".to_owned(), |at| ago(at, now)),
        ]
    }

    fn was_verified(&self, now: u64, within: Duration) -> bool {
        self.verified.is_some_and(|at| u128::from(now.saturating_sub(at)) <= within.as_millis())
    }
}

/// A day, and how long ago that is.
fn ago(at: u64, now: u64) -> String {
    let day = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let day = day.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    let ago = match now.saturating_sub(at) / 86_400_000 {
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    };
    format!("{day} ({ago})")
}

fn warning(holders: &[Holder], threshold: u64, now: u64, within: Duration, args: &Shares) -> Option<String> {
    let verified = holders.iter().filter(|holder| holder.was_verified(now, within)).count() as u64;
    if verified >= threshold.saturating_add(args.margin.into()) {
        return None;
    }
    let without: Vec<String> = holders
        .iter()
        .filter(|holder| !holder.was_verified(now, within))
        .map(|holder| if holder.name.is_empty() { format!("share {}", holder.number) } else { holder.name.clone() })
        .collect();
    Some(format!(
        "of {} shares {verified} were seen to be right within {}; {threshold} are needed, and {} to spare are wanted. Not seen: {}",
        holders.len(),
        args.within,
        args.margin,
        without.join(", "),
    ))
}

/// `90d`, `24h`, `30m`, or seconds.
fn duration(text: &str) -> Result<Duration, Fault> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    if let Some(days) = days {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    client::parse_duration(text).map_err(|error| Fault::local(format!("-within={text}: {error}")).cure("write 90d, 24h or 30m"))
}

/// `PUT sys/verify-share`, lending the share.
#[derive(Serialize)]
struct Body<'a> {
    key: &'a str,
}

/// Checks one share; nothing is opened or counted by that.
pub(super) async fn verify(client: &Client, printer: &Printer, args: VerifyShare) -> Result<(), Fault> {
    if args.source.as_deref().is_some_and(|source| source != "-") {
        return Err(Fault::local("a share on the command line stays in the shell's history")
            .cure("leave it out to type it unseen, or write - for stdin"));
    }
    let response = people::give(args.source, "Share (not shown): ", "verify-share", async |share| {
        // EXPOSE: the share goes to the server, without a copy that would stay behind.
        client.request(Method::Put, "sys/verify-share").body(&Body { key: share.expose() }).idempotent().send().await
    });
    let answer = Answer::required(&response.await?)?;
    people::show(printer, &answer.data, || output::lines(&verified(&answer.data), output::columns()))
}

fn verified(fields: &Map<String, Value>) -> String {
    let name = printable(people::text(fields, "holder"));
    let whose = if name.is_empty() { String::new() } else { format!(" ({name}'s)") };
    let which = if people::is(fields, "is_next") {
        "one of the new shares, which are not in force yet: a rekey waits for its verification"
    } else {
        "one of the shares that open the cluster"
    };
    format!("Share {}{whose} is right: it is {which}.\n", people::number(fields, "number"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: u64 = 86_400_000;
    const NOW: u64 = 20_000 * DAY;

    fn args(margin: u32) -> Shares {
        Shares { within: "90d".to_owned(), margin, strict: false }
    }

    fn holder(number: u64, days_ago: Option<u64>) -> Holder {
        let name = ["", "Ada", "Grace", "Alan"][number as usize].to_owned();
        Holder { number, name, recipient: String::new(), verified: days_ago.map(|days| NOW - days * DAY) }
    }

    #[test]
    fn too_few_holders_who_showed_their_share_are_a_warning() {
        let within = duration("90d").unwrap();
        let holders = [holder(1, Some(1)), holder(2, Some(90)), holder(3, Some(91))];
        for (threshold, margin, warns) in [(1, 1, false), (2, 0, false), (2, 1, true), (3, 0, true)] {
            assert_eq!(warning(&holders, threshold, NOW, within, &args(margin)).is_some(), warns, "{threshold} {margin}");
        }
        let text = warning(&[holder(1, Some(0)), holder(2, None)], 2, NOW, within, &args(1)).unwrap();
        assert!(text.contains("of 2 shares 1 were seen") && text.ends_with("Not seen: Grace"), "{text}");
    }

    #[test]
    fn holders_are_read_as_the_server_tells_them() {
        let split = json!({"holders": [
            {"number": 1, "name": "Ada", "recipient": "age1x", "last_verified_time": "2026-11-24T12:00:00.5Z"},
            {"number": 2, "name": "", "recipient": "", "last_verified_time": null},
        ]});
        let holders = holders(split.as_object().unwrap());
        let now = millis("2026-11-26T12:00:01Z").unwrap();
        assert_eq!(holders[0].row(now), ["1", "Ada", "age1x", "2026-11-24 (2 days ago)"]);
        assert_eq!(holders[1].row(now), ["2", "–", "–", "never"]);
    }

    #[test]
    fn a_verified_share_is_told_with_its_holder_and_its_split() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        assert_eq!(
            verified(&fields(json!({"number": 2, "holder": "Grace", "is_next": false}))),
            "Share 2 (Grace's) is right: it is one of the shares that open the cluster.\n"
        );
        assert!(verified(&fields(json!({"number": 1, "holder": "", "is_next": true}))).contains("not in force yet"));
    }
}
