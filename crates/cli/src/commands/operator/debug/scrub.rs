//! Scrubbing: whatever looks like a secret is taken out of a text, whoever let it in.
//!
//! Always: rather too much than too little. What the nodes tell holds no secret by itself; this is the second lock.

use zeroize::Zeroizing;

/// Stands in the place of what was taken out.
pub(crate) const REDACTED: &str = "[redacted]";
/// A run of letters and digits that is as long, and mixed, is a key, a share or a token.
const RUN_CHARS_MIN: usize = 40;
/// What stands behind the prefix of a token has at least so many characters.
const TOKEN_CHARS_MIN: usize = 16;
/// Shorter ones would be found in innocent words.
const KNOWN_CHARS_MIN: usize = 8;
/// How tokens begin, here and at Vault and OpenBao.
const TOKEN_PREFIXES: [&str; 6] = ["hvs.", "hvb.", "hvr.", "s.", "b.", "r."];
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// Takes secrets out of texts.
pub(crate) struct Scrubber {
    /// Taken out wherever they stand.
    known: Vec<Zeroizing<String>>,
}

impl Scrubber {
    /// One that knows these secrets besides what secrets look like.
    pub(crate) fn new(known: Vec<Zeroizing<String>>) -> Scrubber {
        Scrubber { known: known.into_iter().filter(|known| known.len() >= KNOWN_CHARS_MIN).collect() }
    }

    /// The text without what looks like a secret, and how often something was taken out.
    pub(crate) fn scrub(&self, text: &str) -> (String, usize) {
        let mut count = 0;
        let mut text = text.to_owned();
        for known in &self.known {
            count += text.matches(known.as_str()).count();
            text = text.replace(known.as_str(), REDACTED);
        }
        let (text, keys) = without_private_keys(&text);
        let (text, runs) = without_runs(&text);
        (text, count + keys + runs)
    }
}

/// PEM blocks of private keys.
fn without_private_keys(text: &str) -> (String, usize) {
    let (mut out, mut rest, mut count) = (String::with_capacity(text.len()), text, 0);
    while let Some(at) = rest.find(PEM_BEGIN) {
        let block = &rest[at..];
        let label_end = block[PEM_BEGIN.len()..].find("-----").map(|end| PEM_BEGIN.len() + end);
        let is_private = label_end.is_some_and(|end| block[..end].contains("PRIVATE KEY"));
        if !is_private {
            out.push_str(&rest[..at + PEM_BEGIN.len()]);
            rest = &rest[at + PEM_BEGIN.len()..];
            continue;
        }
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        count += 1;
        // Without its end, all that follows may be the key.
        let after =
            block.find(PEM_END).and_then(|end| block[end + PEM_END.len()..].find("-----").map(|tail| end + PEM_END.len() + tail + 5));
        rest = after.map_or("", |after| &block[after..]);
    }
    out.push_str(rest);
    (out, count)
}

fn is_run(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '=' | '_' | '-' | '.')
}

/// Tokens, and long mixed runs of letters and digits.
fn without_runs(text: &str) -> (String, usize) {
    let (mut out, mut count) = (String::with_capacity(text.len()), 0);
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|character| !is_run(character)).unwrap_or(rest.len());
        if end == 0 {
            let next = rest.find(is_run).unwrap_or(rest.len());
            out.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        }
        let run = &rest[..end];
        if is_secret(run) {
            out.push_str(REDACTED);
            count += 1;
        } else {
            out.push_str(run);
        }
        rest = &rest[end..];
    }
    (out, count)
}

fn is_secret(run: &str) -> bool {
    let is_token = |run: &str| {
        TOKEN_PREFIXES.iter().any(|prefix| {
            run.strip_prefix(prefix).is_some_and(|rest| rest.len() >= TOKEN_CHARS_MIN && !rest.contains('.') && is_mixed(rest))
        })
    };
    // A path or an assignment may stand before it: every part is looked at by itself too.
    run.split(['/', '=', '+']).chain([run]).any(is_token)
        || run.split(['.', '/']).any(|part| part.len() >= RUN_CHARS_MIN && is_mixed(part))
        || (run.len() >= RUN_CHARS_MIN && !run.contains('.') && run.matches('/').count() < 3 && is_mixed(run))
}

/// Random text has both cases and digits; words, numbers, UUIDs and hashes in lower case have not.
fn is_mixed(text: &str) -> bool {
    let has = |wanted: fn(&u8) -> bool| text.as_bytes().iter().any(wanted);
    has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_all_else_stays() {
        let scrubber = Scrubber::new(vec![Zeroizing::new("swordfish-2026".to_owned()), Zeroizing::new("x".to_owned())]);
        for (text, want, count) in [
            ("{\"a\":\"hvs.CAESIJ1234567890abcdEFGH\"}", "{\"a\":\"[redacted]\"}", 1),
            ("token s.4jf9RkV0sZq81LmTcB7dXy2W!", "token [redacted]!", 1),
            ("/v1/auth/token/lookup/hvb.AAAAAQJ1234567890abcdEFGH", "[redacted]", 1),
            ("my swordfish-2026 and swordfish-2026", "my [redacted] and [redacted]", 2),
            ("key: 2Ue7pTq4mXc9LrVb8KzWn5YsHd3JfGa6Ro1EiQ0=", "key: [redacted]", 1),
            ("x=2Ue7pTq4mXc9LrVb8KzWn5YsHd3JfGa6Ro1EiQ0abcd", "[redacted]", 1),
            ("-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nrest", "[redacted]\nrest", 1),
            ("-----BEGIN PRIVATE KEY-----\nMHcCAQ", "[redacted]", 1),
            (
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                0,
            ),
            (
                "conclave_raft_member_silence_seconds{member=\"n2\"} 0.000123456",
                "conclave_raft_member_silence_seconds{member=\"n2\"} 0.000123456",
                0,
            ),
            (
                "17a53262-9df9-44e3-bb91-d7709fbfd822 2026-11-24T15:47:36.154548Z",
                "17a53262-9df9-44e3-bb91-d7709fbfd822 2026-11-24T15:47:36.154548Z",
                0,
            ),
            (
                "https://n1.example:8200/v1/sys/health is.fine Linux 6.1.0-18-amd64",
                "https://n1.example:8200/v1/sys/health is.fine Linux 6.1.0-18-amd64",
                0,
            ),
            ("é hvs.short ü", "é hvs.short ü", 0),
        ] {
            assert_eq!(scrubber.scrub(text), (want.to_owned(), count), "{text}");
        }
    }
}
