//! Public keys of people: OpenPGP in its three forms, and age.
//!
//! What is accepted can be encrypted to, is named by a fingerprint, and is the same key in each form. Nothing of an input is in an error but what
//! is public of a key.

use crypto::SeededRng;
use recipients::{Kind, Recipient};
use types::Timestamp;

use crate::driver::Subject;

const NOW: Timestamp = Timestamp(1_782_000_000_000);
/// Keys of which most are refused for a reason of their own.
const ARMORED: [&str; 10] = [
    include_str!("../../../../crates/recipients/tests/keys/brainpool.asc"),
    include_str!("../../../../crates/recipients/tests/keys/curve.asc"),
    include_str!("../../../../crates/recipients/tests/keys/expired.asc"),
    include_str!("../../../../crates/recipients/tests/keys/lapsed.asc"),
    include_str!("../../../../crates/recipients/tests/keys/revoked.asc"),
    include_str!("../../../../crates/recipients/tests/keys/rsa.asc"),
    include_str!("../../../../crates/recipients/tests/keys/signs.asc"),
    include_str!("../../../../crates/recipients/tests/keys/taken.asc"),
    include_str!("../../../../crates/recipients/tests/keys/twice.asc"),
    include_str!("../../../../crates/recipients/tests/keys/weak.asc"),
];
const AGE: [&str; 3] = [
    "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
    "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
    "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33",
];

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let base64 = |armored: &str| -> String {
        let body = armored.split("\n\n").nth(1).expect("an armored key has an empty line before its body");
        body.lines().take_while(|line| !line.starts_with(['=', '-'])).collect()
    };
    let whole = ARMORED.iter().chain(&AGE).map(|text| text.as_bytes().to_vec());
    let texts = ARMORED.iter().map(|armored| base64(armored).into_bytes());
    // Most faults are below the armor, where mutations of text seldom reach.
    let packets = ARMORED.iter().map(|armored| decoded(&base64(armored)));
    whole.chain(texts).chain(packets).collect()
}

/// Base64, of which this package has no reader.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_usize, 0);
    for value in values {
        held = held << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    bytes
}

pub(super) fn subject() -> Box<Subject> {
    let rng = SeededRng::dangerous_from_seed(1);
    Box::new(move |input| match Recipient::parse(input, NOW) {
        Ok(recipient) => {
            let fingerprint = recipient.fingerprint();
            match recipient.kind() {
                Kind::OpenPgp => assert!(fingerprint.len() == 40 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit())),
                Kind::Age => assert!(Recipient::age(&fingerprint).is_ok_and(|again| again == recipient), "{fingerprint}"),
            }
            let message = recipient.encrypt(b"secret", &rng).expect("a short secret is encrypted to any key that was accepted");
            assert!(message.len() > 64 && !message.windows(6).any(|window| window == b"secret"));
            recipient.kind().to_string()
        }
        Err(error) => kind(&error.to_string()),
    })
}

/// Without fingerprints, dates and names of plugins, of which each would be a kind of outcome of its own.
fn kind(error: &str) -> String {
    const WORD_BYTES_MAX: usize = 12;
    let is_word = |word: &&str| word.len() <= WORD_BYTES_MAX && !word.bytes().any(|byte| byte.is_ascii_digit());
    let error = error.split_once("of the kind ").map_or(error, |(before, _)| before);
    error.split(' ').filter(is_word).collect::<Vec<_>>().join(" ")
}
