//! Armor: binary messages and keys as lines of text that survive mail and paper. Knows nothing of what is inside.
//!
//! OpenPGP: RFC 9580, section 6.2, with the checksum that older programs look for. age: RFC 7468, as age-encryption.org/v1 asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(feature = "openpgp")]
use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Characters of a line.
const LINE_CHARS: usize = 64;

/// Accepts base64 with or without padding.
#[cfg(feature = "openpgp")]
pub(crate) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The packets of an armored OpenPGP public key, which is all of `text`; its checksum, if there is one, must be right.
#[cfg(feature = "openpgp")]
pub(crate) fn public_key(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix("-----BEGIN PGP PUBLIC KEY BLOCK-----")?.strip_suffix("-----END PGP PUBLIC KEY BLOCK-----")?;
    // Headers (`Comment: …`) end with an empty line.
    let mut lines = body.lines().map(str::trim).skip(1).skip_while(|line| !line.is_empty()).filter(|line| !line.is_empty()).peekable();
    let mut dense = String::with_capacity(body.len());
    while let Some(line) = lines.next_if(|line| !line.starts_with('=')) {
        dense.push_str(line);
    }
    let bytes = BASE64.decode(dense).ok()?;
    match lines.next().map(|line| BASE64.decode(&line[1..])) {
        None => Some(bytes),
        Some(Ok(checksum)) if checksum == crc24(&bytes).to_be_bytes()[1..] && lines.next().is_none() => Some(bytes),
        Some(_) => None,
    }
}

/// An OpenPGP message.
pub(crate) fn openpgp_message(message: &[u8]) -> String {
    let checksum = STANDARD.encode(&crc24(message).to_be_bytes()[1..]);
    format!("-----BEGIN PGP MESSAGE-----\n\n{}={checksum}\n-----END PGP MESSAGE-----\n", lines(message))
}

/// An age file.
pub(crate) fn age_file(file: &[u8]) -> String {
    format!("-----BEGIN AGE ENCRYPTED FILE-----\n{}-----END AGE ENCRYPTED FILE-----\n", lines(file))
}

fn lines(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / LINE_CHARS + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

/// RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    const INITIAL: u32 = 0x00b7_04ce;
    const GENERATOR: u32 = 0x0186_4cfb;
    bytes.iter().fold(INITIAL, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x0100_0000 == 0 { shifted } else { shifted ^ GENERATOR }
        })
    }) & 0x00ff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_64_characters_and_the_last_may_be_shorter() {
        for (bytes, want) in [(0, vec![]), (1, vec![4]), (48, vec![64]), (49, vec![64, 4]), (96, vec![64, 64])] {
            let text = lines(&vec![7; bytes]);
            assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), want, "{bytes}");
        }
        assert!(age_file(b"x").ends_with("\neA==\n-----END AGE ENCRYPTED FILE-----\n"));
    }

    #[cfg(feature = "openpgp")]
    #[test]
    fn an_armored_key_is_read_with_or_without_its_checksum_and_headers() {
        let armored = |headers: &str, body: &str| {
            format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n{headers}\n{body}\n-----END PGP PUBLIC KEY BLOCK-----")
        };
        let checksum = STANDARD.encode(&crc24(b"123456").to_be_bytes()[1..]);
        let whole = format!("MTIz\nNDU2\n={checksum}");
        for text in [
            armored("", &whole),
            armored("Comment: a\nVersion: b\n", &whole),
            armored("", "MTIzNDU2"),
            armored("", &whole).replace('\n', "\r\n"),
        ] {
            assert_eq!(public_key(&text).as_deref(), Some(&b"123456"[..]), "{text}");
        }
        for text in [
            armored("", "MTIz\n=AAAA"),
            armored("", &format!("{whole}\nMTIz")),
            armored("", "M!Iz"),
            armored("", &whole).replace("PUBLIC", "PRIVATE"),
            armored("", &whole).replace("END", "FIN"),
        ] {
            assert_eq!(public_key(&text), None, "{text}");
        }
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // The catalogue of parametrised CRC algorithms, CRC-24/OPENPGP: its check value.
        assert_eq!(crc24(b"123456789"), 0x0021_cf02);
        assert_eq!(crc24(b""), 0x00b7_04ce);
    }
}
