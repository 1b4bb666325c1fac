//! Durations as Vault's clients write them: `"60"` (seconds), `"1m30s"`, `"500ms"`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration (use whole seconds, or numbers with ms, s, m or h, as in \"1m30s\")")]
pub struct DurationError {
    text: String,
}

/// Parses whole seconds, or a sequence of whole numbers with a unit (`ms`, `s`, `m`, `h`).
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refused = || DurationError { text: text.chars().take(40).collect() };
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().map_err(|_| refused())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let milliseconds: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refused()),
        };
        rest = &rest[letters..];
        total += Duration::from_millis(u64::from(number) * milliseconds);
    }
    if text.is_empty() { Err(refused()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_vault_writes_them() {
        for (text, want) in [
            ("60", Some(60_000)),
            ("0", Some(0)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("2h", Some(7_200_000)),
            ("", None),
            ("-1", None),
            ("5x", None),
            ("s", None),
            ("1.5s", None),
            ("é", None),
            ("99999999999s", None),
        ] {
            assert_eq!(parse_duration(text).ok(), want.map(Duration::from_millis), "{text}");
        }
    }
}
