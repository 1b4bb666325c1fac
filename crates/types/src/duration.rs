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
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = trimmed.parse().map_err(|_| too_long())?;
        return within_limit(u128::from(seconds) * u128::from(NANOS_PER_SECOND)).ok_or_else(too_long);
    }
    let mut rest = trimmed;
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
