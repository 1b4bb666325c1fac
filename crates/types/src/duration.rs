//! Durations as Vault writes them: `768h`, `1h30m`, `1.5s`, `7d`, or plain seconds, as text or number.
//!
//! Always: whole nanoseconds, never negative, at most [`DURATION_MAX`] (Go's own limit, so that what we print, clients can read).

use std::fmt;
use std::time::Duration;

use serde::de;

/// The longest duration: what Go's 64-bit nanoseconds hold, some 292 years.
pub const DURATION_MAX: Duration = Duration::from_nanos(i64::MAX as u64);
/// How much of a wrong text an error repeats, in characters.
const TEXT_CHARS_SHOWN: usize = 40;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// The units, longest first. `d` is Vault's, the others are Go's.
const UNITS: [(&str, u64); 9] = [
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ns", 1),
    ("us", 1_000),
    // U+00B5, the micro sign, and U+03BC, the Greek mu.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
];

/// Why a text or number is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationParseError {
    /// Not of the form that is understood.
    #[error("{text:?} is no duration (write for example \"30s\", \"1h30m\", \"7d\", or seconds as in \"900\")")]
    Form {
        /// The text, shortened.
        text: String,
    },
    /// A number without a unit among numbers with one.
    #[error("{text:?} has a number without a unit (the units are d, h, m, s, ms, us and ns)")]
    Unit {
        /// The text, shortened.
        text: String,
    },
    /// Below zero.
    #[error("{text:?} is negative (a duration is zero or more)")]
    Negative {
        /// The text, shortened.
        text: String,
    },
    /// Above [`DURATION_MAX`].
    #[error("{text:?} is too long (at most 2562047h, some 292 years)")]
    TooLong {
        /// The text, shortened.
        text: String,
    },
}

/// Reads a duration: seconds (`900`), or numbers with units in any order (`1h30m`, `1.5h`, `7d`). The empty text is zero, as in Vault.
pub fn parse(text: &str) -> Result<Duration, DurationParseError> {
    let shown = || text.chars().take(TEXT_CHARS_SHOWN).collect::<String>();
    let form = || DurationParseError::Form { text: shown() };
    let too_long = || DurationParseError::TooLong { text: shown() };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(Duration::ZERO);
    }
    if trimmed.starts_with('-') {
        return Err(DurationParseError::Negative { text: shown() });
    }
    let unsigned = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if unsigned.is_empty() {
        return Err(form());
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = unsigned.parse().map_err(|_| too_long())?;
        return within_limit(u128::from(seconds) * u128::from(NANOS_PER_SECOND)).ok_or_else(too_long);
    }
    let mut rest = unsigned;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(form());
        }
        let Some((unit, unit_nanos)) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit)) else {
            let unit_is_missing = after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit());
            return Err(if unit_is_missing { DurationParseError::Unit { text: shown() } } else { form() });
        };
        let part = in_nanos(whole, fraction, unit_nanos).ok_or_else(too_long)?;
        nanos += part;
        within_limit(nanos).ok_or_else(too_long)?;
        rest = &after[unit.len()..];
    }
    within_limit(nanos).ok_or_else(too_long)
}

/// A number of seconds, as JSON has it.
pub fn from_seconds(seconds: i64) -> Result<Duration, DurationParseError> {
    match u64::try_from(seconds) {
        Err(_) => Err(DurationParseError::Negative { text: seconds.to_string() }),
        Ok(seconds) => within_limit(u128::from(seconds) * u128::from(NANOS_PER_SECOND))
            .ok_or_else(|| DurationParseError::TooLong { text: seconds.to_string() }),
    }
}

/// The short form, for people: `768h`, `1h30m`, `1m30.5s`, `250ms`, `0s`. [`parse`] reads it back exactly.
pub fn print(duration: Duration) -> String {
    print_parts(duration, false)
}

/// The form of Go's `Duration.String`, for the fields in which Vault answers so: `768h0m0s`, `1m30.5s`, `250ms`, `0s`.
pub fn print_go(duration: Duration) -> String {
    print_parts(duration, true)
}

/// For `#[serde(deserialize_with)]`: takes a number of seconds, or a text for [`parse`].
pub fn deserialize<'de, D: de::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration: seconds as a number, or a text such as \"1h30m\"")
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
            from_seconds(seconds).map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX)).map_err(E::custom)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Visitor)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` units in nanoseconds, what is below one dropped; `None` if far too long.
fn in_nanos(whole: &str, fraction: &str, unit_nanos: u64) -> Option<u128> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond these are below a nanosecond, even of a day.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(u128::from(whole) * u128::from(unit_nanos) + fraction * u128::from(unit_nanos) / scale)
}

fn within_limit(nanos: u128) -> Option<Duration> {
    (nanos <= DURATION_MAX.as_nanos()).then(|| Duration::from_nanos(nanos as u64))
}

fn print_parts(duration: Duration, zeros: bool) -> String {
    let nanos = duration.subsec_nanos();
    let (hours, minutes, seconds) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60, duration.as_secs() % 60);
    if duration.as_secs() == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}\u{b5}s", decimal(u64::from(nanos / 1_000), nanos % 1_000, 3)),
            _ => format!("{}ms", decimal(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)),
        };
    }
    let mut text = String::new();
    if hours > 0 {
        text += &format!("{hours}h");
    }
    if minutes > 0 || (zeros && hours > 0) {
        text += &format!("{minutes}m");
    }
    if zeros || seconds > 0 || nanos > 0 {
        text += &format!("{}s", decimal(seconds, nanos, 9));
    }
    text
}

/// `whole.fraction`, the fraction of `digits` digits less its trailing zeros.
fn decimal(whole: u64, fraction: u32, digits: usize) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_vault_reads_is_read() {
        for (text, want) in [
            ("", Duration::ZERO),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("15", Duration::from_secs(15)),
            ("30s", Duration::from_secs(30)),
            ("768h", Duration::from_secs(2_764_800)),
            ("1h30m", Duration::from_secs(5_400)),
            ("768h0m0s", Duration::from_secs(2_764_800)),
            ("7d", Duration::from_secs(604_800)),
            ("1d12h", Duration::from_secs(129_600)),
            ("1.5h", Duration::from_secs(5_400)),
            (".5s", Duration::from_millis(500)),
            ("2.s", Duration::from_secs(2)),
            ("250ms", Duration::from_millis(250)),
            ("1m1ms", Duration::from_millis(60_001)),
            ("10us", Duration::from_micros(10)),
            ("10\u{b5}s", Duration::from_micros(10)),
            ("10\u{3bc}s", Duration::from_micros(10)),
            ("7ns", Duration::from_nanos(7)),
            ("1.0000000019s", Duration::from_nanos(1_000_000_001)),
            (" 90 ", Duration::from_secs(90)),
            ("+5s", Duration::from_secs(5)),
            ("2562047h47m16.854775807s", DURATION_MAX),
            ("9223372036", Duration::from_secs(9_223_372_036)),
        ] {
            assert_eq!(parse(text), Ok(want), "{text:?}");
        }
    }

    #[test]
    fn the_rest_is_refused_with_a_reason() {
        use DurationParseError::*;
        let same = |text: &str| text.chars().take(TEXT_CHARS_SHOWN).collect::<String>();
        for text in ["h", "1x", "1h 30m", "soon", "1,5h", "1h-5m", "0x10", "1e3", "\u{661}s", ".s", "1hh", "s1", "+", "++1s", "1.5.5s"] {
            assert_eq!(parse(text), Err(Form { text: same(text) }), "{text:?}");
        }
        for text in ["1h30", "1.5", "3.", "1m.5"] {
            assert_eq!(parse(text), Err(Unit { text: same(text) }), "{text:?}");
        }
        for text in ["-1", "-5s", "-0.5h"] {
            assert_eq!(parse(text), Err(Negative { text: same(text) }), "{text:?}");
        }
        let digits = "9".repeat(10_000);
        for text in ["9223372037", "2562048h", "106752d", &digits, &format!("{digits}h"), "2562047h1000000000000000000h"] {
            assert_eq!(parse(text), Err(TooLong { text: same(text) }), "{text:?}");
        }
        assert_eq!(from_seconds(-1), Err(Negative { text: "-1".to_owned() }));
        assert_eq!(from_seconds(i64::MAX), Err(TooLong { text: i64::MAX.to_string() }));
        assert_eq!(from_seconds(900), Ok(Duration::from_secs(900)));
    }

    #[test]
    fn both_forms_of_print() {
        for (duration, short, go) in [
            (Duration::ZERO, "0s", "0s"),
            (Duration::from_secs(2_764_800), "768h", "768h0m0s"),
            (Duration::from_secs(5_400), "1h30m", "1h30m0s"),
            (Duration::from_secs(3_601), "1h1s", "1h0m1s"),
            (Duration::from_secs(60), "1m", "1m0s"),
            (Duration::from_millis(90_500), "1m30.5s", "1m30.5s"),
            (Duration::from_millis(250), "250ms", "250ms"),
            (Duration::from_micros(1_500), "1.5ms", "1.5ms"),
            (Duration::from_nanos(1_500), "1.5\u{b5}s", "1.5\u{b5}s"),
            (Duration::from_nanos(7), "7ns", "7ns"),
            (Duration::from_nanos(1_000_000_001), "1.000000001s", "1.000000001s"),
            (DURATION_MAX, "2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!((print(duration).as_str(), print_go(duration).as_str()), (short, go));
        }
    }

    #[test]
    fn json_may_hold_a_number_or_a_text() {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(deserialize_with = "deserialize")]
            ttl: Duration,
        }
        let read = |json: &str| serde_json::from_str::<Body>(json).map(|body| body.ttl.as_secs()).map_err(|error| error.to_string());
        for (json, want) in [(r#"{"ttl":900}"#, 900), (r#"{"ttl":"900"}"#, 900), (r#"{"ttl":"15m"}"#, 900), (r#"{"ttl":""}"#, 0)] {
            assert_eq!(read(json), Ok(want), "{json}");
        }
        for (json, reason) in [
            (r#"{"ttl":-1}"#, "is negative"),
            (r#"{"ttl":18446744073709551615}"#, "is too long"),
            (r#"{"ttl":1.5}"#, "a duration: seconds as a number"),
            (r#"{"ttl":"soon"}"#, "is no duration"),
            (r#"{"ttl":null}"#, "a duration: seconds as a number"),
            (r#"{"ttl":["1h"]}"#, "a duration: seconds as a number"),
        ] {
            assert!(read(json).unwrap_err().contains(reason), "{json}: {:?}", read(json));
        }
    }

    proptest! {
        #[test]
        fn both_forms_are_read_back(nanos in 0..=i64::MAX as u64, shift in 0..60_u32) {
            let duration = Duration::from_nanos(nanos >> shift);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
            prop_assert_eq!(parse(&print_go(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", near in "[0-9dhmsun.\u{b5}+-]{0,30}") {
            for text in [&text, &near] {
                if let Ok(duration) = parse(text) {
                    prop_assert!(duration <= DURATION_MAX);
                } else if let Err(error) = parse(text) {
                    prop_assert!(error.to_string().chars().count() < 500);
                }
            }
        }
    }
}
