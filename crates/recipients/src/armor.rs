//! Armor: binary messages as lines of text that survive mail and paper. Writes only; knows nothing of what is inside.
//!
//! OpenPGP: RFC 9580, section 6.2, with the checksum that older programs look for. age: RFC 7468, as age-encryption.org/v1 asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters of a line.
const LINE_CHARS: usize = 64;

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

    #[test]
    fn the_checksum_is_the_published_one() {
        // The catalogue of parametrised CRC algorithms, CRC-24/OPENPGP: its check value.
        assert_eq!(crc24(b"123456789"), 0x0021_cf02);
        assert_eq!(crc24(b""), 0x00b7_04ce);
    }
}
