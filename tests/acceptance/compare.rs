//! Two answers side by side: the same but for ids, times and addresses?
//!
//! A *place* is where something differs: `exit`, `stderr`, `stdout`; a JSON pointer (RFC 6901) where both stdouts are JSON; and
//! `stdout/KEY` where both are tables of keys and values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bao::Output;

/// Time that may pass between the two servers' answers: what runs down (a TTL) may differ by it. In seconds.
const DRIFT_MAX: u64 = 5;

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) place: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

/// All places where two answers differ.
pub(crate) fn compare(ours: &Output, theirs: &Output) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |place: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(Difference { place: place.to_owned(), ours, theirs });
        }
    };
    let exit = |output: &Output| output.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    note("exit", exit(ours), exit(theirs));
    note("stderr", neutral(&ours.stderr), neutral(&theirs.stderr));
    let json = |output: &Output| serde_json::from_str::<Value>(&output.stdout).ok().map(neutral_value);
    match (json(ours), json(theirs)) {
        (Some(ours), Some(theirs)) => compare_values("", &ours, &theirs, &mut note),
        _ => {
            let (ours, theirs) = (neutral(&ours.stdout), neutral(&theirs.stdout));
            match (table(&ours), table(&theirs)) {
                (Some(ours), Some(theirs)) => {
                    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                        let text = |table: &BTreeMap<&str, &str>| table.get(key).map_or("absent", |value| value).to_owned();
                        note(&format!("stdout/{key}"), text(&ours), text(&theirs));
                    }
                }
                _ => note("stdout", ours, theirs),
            }
        }
    }
    found.retain(|difference| !ran_down(difference));
    found
}

/// Whether it is but two lifetimes that were looked at a moment apart.
fn ran_down(Difference { place, ours, theirs }: &Difference) -> bool {
    let seconds = |text: &str| text.parse().ok().or_else(|| lifetime(text));
    let is_lifetime = ["ttl", "lease_duration", "token_duration"].iter().any(|name| place.ends_with(name));
    is_lifetime && matches!((seconds(ours), seconds(theirs)), (Some(ours @ 1..), Some(theirs @ 1..)) if ours.abs_diff(theirs) <= DRIFT_MAX)
}

fn compare_values(place: &str, ours: &Value, theirs: &Value, note: &mut impl FnMut(&str, String, String)) {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(other)) => {
            let names = own.keys().chain(other.keys().filter(|name| !own.contains_key(*name)));
            for name in names {
                let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (own.get(name), other.get(name)) {
                    (Some(ours), Some(theirs)) => compare_values(&place, ours, theirs, note),
                    (ours, theirs) => note(&place, text(ours), text(theirs)),
                }
            }
        }
        _ => note(place, ours.to_string(), theirs.to_string()),
    }
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

/// A table of keys and values, as `bao` prints it; each key once.
fn table(text: &str) -> Option<BTreeMap<&str, &str>> {
    let lines = text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let rows = lines.strip_prefix(&["Key Value", "--- -----"])?;
    let table: BTreeMap<&str, &str> = rows.iter().map(|row| row.split_once(' ').unwrap_or((row, ""))).collect();
    (table.len() == rows.len()).then_some(table)
}

fn neutral_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(neutral_words(&text)),
        Value::Number(number) => number.as_u64().map_or_else(|| Value::Number(number), neutral_number),
        Value::Array(list) => {
            let mut list: Vec<Value> = list.into_iter().map(neutral_value).collect();
            // Ids come in an order of their own.
            if list.iter().all(|value| value.as_str().is_some_and(|text| ["ID", "UUID", "TOKEN"].contains(&text) || text.starts_with('{')))
            {
                list.sort_by_key(Value::to_string);
            }
            Value::Array(list)
        }
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (neutral_words(&name), neutral_value(value))).collect())
        }
        other => other,
    }
}

/// Whether two numbers are the same, or what is left of the same lifetime.
pub(crate) fn same_number(ours: &Value, theirs: &Value) -> bool {
    matches!((ours.as_u64(), theirs.as_u64()), (Some(ours), Some(theirs)) if started_from(ours) == started_from(theirs))
}

/// The kind of a time; of what runs down, the value it started from.
fn neutral_number(number: u64) -> Value {
    match number {
        // From 2017 to 2065, in seconds.
        1_500_000_000..3_000_000_000 => Value::from("EPOCH"),
        number => Value::from(started_from(number)),
    }
}

/// A lifetime in whole minutes that has just begun to run down, as it was.
fn started_from(seconds: u64) -> u64 {
    let to_minute = (60 - seconds % 60) % 60;
    if to_minute <= DRIFT_MAX && seconds > DRIFT_MAX { seconds + to_minute } else { seconds }
}

/// As `text`, without what differs between two servers by nature: times, ids, and how wide columns are.
pub(crate) fn neutral(text: &str) -> String {
    let lines = text.lines().map(|line| neutral_words(&line.split_whitespace().collect::<Vec<_>>().join(" ")));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Words are divided by blanks and what encloses: quotes, brackets, commas.
fn neutral_words(text: &str) -> String {
    text.split_inclusive(|c: char| c.is_whitespace() || "\"'`,;[](){}<>".contains(c))
        .map(|piece| {
            let end = piece.trim_end_matches(|c: char| c.is_whitespace() || "\"'`,;[](){}<>".contains(c)).len();
            format!("{}{}", neutral_word(&piece[..end]), &piece[end..])
        })
        .collect()
}

fn neutral_word(word: &str) -> String {
    if let Some(kind) = kind_of(word) {
        return kind;
    }
    if let Some(bare) = word.strip_suffix(['.', ':']) {
        return format!("{}{}", neutral_word(bare), &word[bare.len()..]);
    }
    for divider in ['/', '=', ':'] {
        if let Some((head, rest)) = word.split_once(divider) {
            return format!("{}{divider}{}", neutral_word(head), neutral_word(rest));
        }
    }
    word.to_owned()
}

/// `TIME`, `UUID`, `TOKEN`, `ID`, `EPOCH`, or a lifetime as it was when it began; `None` for any other word.
fn kind_of(word: &str) -> Option<String> {
    let bytes = word.as_bytes();
    let all = |text: &str, allowed: fn(u8) -> bool| text.bytes().all(allowed);
    let dashes = |at: &[usize]| at.iter().all(|&at| bytes.get(at) == Some(&b'-'));
    let is_hex = |text: &str| all(text, |byte| byte.is_ascii_hexdigit());
    if word.len() == 36 && dashes(&[8, 13, 18, 23]) && is_hex(&word.replace('-', "")) {
        return Some("UUID".to_owned());
    }
    if word.len() >= 20 && dashes(&[4, 7]) && bytes[10] == b'T' && bytes[13] == b':' && bytes[0].is_ascii_digit() {
        return Some("TIME".to_owned());
    }
    // Go's own form of a time: `2026-11-24 09:17:24.6 +0000 UTC`.
    if word.len() == 10 && dashes(&[4, 7]) && is_hex(&word.replace('-', "")) {
        return Some("DATE".to_owned());
    }
    if word.len() >= 8 && bytes[2] == b':' && bytes[5] == b':' && all(word, |byte| byte.is_ascii_digit() || b":.".contains(&byte)) {
        return Some("CLOCK".to_owned());
    }
    let secret = ["hvs.", "hvb.", "s.", "b."].iter().find_map(|prefix| word.strip_prefix(prefix));
    if secret.is_some_and(|rest| rest.len() >= 20 && all(rest, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))) {
        return Some("TOKEN".to_owned());
    }
    let (random, namespace) = word.split_once('.').unwrap_or((word, ""));
    let mixed = random.bytes().any(|byte| byte.is_ascii_lowercase()) && random.bytes().any(|byte| byte.is_ascii_uppercase());
    if random.len() == 24 && mixed && all(random, |byte| byte.is_ascii_alphanumeric()) && [0, 6].contains(&namespace.len()) {
        return Some("ID".to_owned());
    }
    let hash = word.strip_prefix('h').unwrap_or(word);
    let (hash, _) = hash.split_once('.').unwrap_or((hash, ""));
    if hash.len() == 64 && is_hex(hash) {
        return Some("ID".to_owned());
    }
    // A mount's accessor: `kv_1b2c3d4e`.
    if let Some((kind, number)) = word.rsplit_once('_')
        && number.len() == 8
        && is_hex(number)
        && !kind.is_empty()
    {
        return Some(format!("{kind}_ID"));
    }
    if word.len() <= 19 && !word.is_empty() && all(word, |byte| byte.is_ascii_digit()) && !word.starts_with('0') {
        let number = neutral_number(word.parse().ok()?);
        return Some(number.as_str().map_or_else(|| number.to_string(), str::to_owned));
    }
    lifetime(word).map(|seconds| format!("{}s", started_from(seconds)))
}

/// Go's form of a duration, in whole seconds: `767h59m59s`.
fn lifetime(word: &str) -> Option<u64> {
    let mut rest = word;
    let mut seconds = 0;
    for (unit, length) in [("h", 3600), ("m", 60), ("s", 1)] {
        if let Some((number, after)) = rest.split_once(unit)
            && let Ok(number) = number.parse::<u64>()
        {
            seconds += number.checked_mul(length)?;
            rest = after;
        }
    }
    (rest.is_empty() && !word.is_empty()).then_some(seconds)
}

#[test]
fn times_and_ids_are_neutral() {
    for (text, want) in [
        (r#""created_time": "2026-11-24T06:33:30.99Z","#, r#""created_time": "TIME","#),
        ("issue_time   2026-11-24T06:33:30.99+00:00", "issue_time TIME"),
        ("map[created_time:2026-11-24T06:33:30.99Z custom_metadata:<nil>]", "map[created_time:TIME custom_metadata:<nil>]"),
        ("request_id: 57ff4b2d-0ee7-4cc4-b6af-29e8cb7fcc1c\n", "request_id: UUID"),
        ("token      s.nqfMrO5Ox6ZHtTkT06bdq8Wm", "token TOKEN"),
        ("token      hvs.nqfMrO5Ox6ZHtTkT06bdq8Wm.a1B2c3", "token TOKEN"),
        ("accessor   Lqgn9HPivZqVuJyx58iCXFo0", "accessor ID"),
        ("auth/token/create/h0123456789012345678901234567890123456789012345678901234567abcdef", "auth/token/create/ID"),
        ("kv/    kv_33057275    n/a", "kv/ kv_ID n/a"),
        ("ttl 767h59m59s, or 768h", "ttl 2764800s, or 2764800s"),
        ("ttl 59m58s; 90m", "ttl 3600s; 5400s"),
        ("ttl 2764797 of 2764800", "ttl 2764800 of 2764800"),
        ("version 2 of 2.7.2", "version 2 of 2.7.2"),
        ("last_renewal 1785000000", "last_renewal EPOCH"),
        ("x      2\n", "x 2"),
        ("created 2026-11-24 09:17:24.600733851 +0000 UTC", "created DATE CLOCK +0000 UTC"),
        ("policies [\"default\"] {child}", "policies [\"default\"] {child}"),
    ] {
        assert_eq!(neutral(text), want, "{text}");
    }
}

#[test]
fn differences_are_found_field_by_field() {
    let answer = |stdout: &str, code| Output {
        line: String::new(),
        address: "http://a:1".into(),
        code: Some(code),
        stdout: stdout.to_owned(),
        stderr: String::new(),
    };
    let places = |ours: &str, theirs: &str| {
        let found = compare(&answer(ours, 0), &answer(theirs, 2));
        found.iter().map(|found| format!("{}: {}, {}", found.place, found.ours, found.theirs)).collect::<Vec<_>>()
    };
    assert_eq!(
        places(
            r#"{"a": {"b": 1, "c/d": 2}, "d": [1], "e": null, "ttl": 3599}"#,
            r#"{"a": {"b": 1, "c/d": 3}, "d": [1, 2], "f": null, "ttl": 3600}"#
        ),
        ["exit: 0, 2", "/a/c~1d: 2, 3", "/d: [1], [1,2]", "/e: null, absent", "/f: absent, null"]
    );
    let table = |value: &str| format!("Key      Value\n---      -----\na        1\nb c      {value}\n");
    assert_eq!(places(&table("2"), &table("3")), ["exit: 0, 2", "stdout/b: c 2, c 3"]);
    assert_eq!(places("one", "two"), ["exit: 0, 2", "stdout: one, two"]);
    assert_eq!(places(r#"{"ttl": 3592, "creation_ttl": 3600}"#, r#"{"ttl": 3590, "creation_ttl": 3600}"#), ["exit: 0, 2"]);
    assert_eq!(places(r#"{"ttl": 3592}"#, r#"{"ttl": 3580}"#), ["exit: 0, 2", "/ttl: 3592, 3580"]);
}
