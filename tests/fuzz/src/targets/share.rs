//! Texts that claim to be shares: what is taken is written back alike, and nothing that is refused is repeated.

use crypto::Share;

use crate::driver::Subject;

/// Well-formed, of no cluster.
const SHARE: &str = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";
/// An error names lengths, positions and the first byte; so long a part of the input is none of these.
const REPEATED_BYTES: usize = 8;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let whole = Share::parse_text(SHARE).expect("a share of ours");
    // Of another version, with the number 0, of Vault's length, and cut off.
    let version = format!("01{}", &whole.to_hex()[2..]);
    let zero = format!("0200{}", &whole.to_hex()[4..]);
    let (vault, half) = ("mCTTHnlRvqDvVrrTWHqDwTRkUbZyg9Vl8hCy0m2V3rUB", &SHARE[..26]);
    let texts = [SHARE, &whole.to_hex(), &format!(" {SHARE}\n"), &version, &zero, vault, half].map(|text| text.as_bytes().to_vec());
    // EXPOSE: it opens nothing.
    texts.into_iter().chain([whole.expose().to_vec()]).collect()
}

pub(super) fn subject() -> Box<Subject> {
    Box::new(|input| {
        let bytes = Share::from_bytes(input);
        if let Ok(share) = &bytes {
            assert_eq!(share.expose(), input, "taken as it came");
        }
        let Some(text) = super::text(input) else { return outcome(bytes.map(|_| ())) };
        match Share::parse_text(text) {
            Ok(share) => {
                for again in [share.to_base64(), share.to_hex()] {
                    assert_eq!(Share::parse_text(&again).expect("written by us").expose(), share.expose());
                }
                "a share".to_owned()
            }
            Err(error) => {
                let said = error.to_string();
                let repeats = input.windows(REPEATED_BYTES).any(|part| {
                    part.iter().all(u8::is_ascii_alphanumeric) && said.as_bytes().windows(REPEATED_BYTES).any(|words| words == part)
                });
                assert!(!repeats || SHARE_WORDS.iter().any(|word| text.contains(word)), "an error repeats what it refuses: {said}");
                outcome(Err(error))
            }
        }
    })
}

/// Words of our own errors, which an input may hold by chance.
const SHARE_WORDS: &[&str] = &["characters", "character", "checksum", "Conclave", "mistyped", "somewhere"];

fn outcome(done: Result<(), crypto::ShareParseError>) -> String {
    done.map_or_else(|error| error.to_string().chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect(), |()| "bytes".into())
}
