//! Durations as text: `1h30m`, `90s`, `250ms`.

use std::time::Duration;

/// Unit and its milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// `text` as a sum of whole numbers with units; a bare number is seconds. `None` if it is no such sum, or overflows.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = &after[unit.len()..];
    }
    Some(Duration::from_millis(total))
}

/// The shortest text of `duration` with one unit.
pub(super) fn display(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = [("h", 3_600_000), ("m", 60_000), ("s", 1000)].into_iter().find(|(_, scale)| ms.is_multiple_of(*scale));
    match whole {
        Some((unit, scale)) => format!("{}{unit}", ms / scale),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_whole_units() {
        for (text, ms) in [
            ("90s", Some(90_000)),
            ("90", Some(90_000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("250ms", Some(250)),
            ("1s5ms", Some(1005)),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("+1", None),
            ("1 s", None),
            ("1x", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_displayed_parses() {
        for ms in [1, 100, 1000, 90_000, 60_000, 3_600_000, 5_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(&display(duration)), Some(duration), "{ms}");
        }
    }
}
