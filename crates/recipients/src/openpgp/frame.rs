//! Packets by their headers alone (RFC 9580, section 4.2): what a key consists of, before anything is parsed; and the literal that a message holds.
//!
//! Always: an [`Outline`] accounts for every byte. Knows nothing of what is inside a packet but the first byte of a key.

use crypto::Zeroizing;

const SECRET_KEY: u8 = 5;
const PUBLIC_KEY: u8 = 6;
const SECRET_SUBKEY: u8 = 7;
const SIGNATURE: u8 = 2;
/// What may stand in an exported key besides: marker, trust, user id, subkey, user attribute, padding.
const OF_A_KEY: [u8; 6] = [10, 12, 13, 14, 17, 21];
/// Packets that a reader passes over when it does not know them: section 4.3.
const IGNORED_FROM: u8 = 40;

/// What a sequence of packets has.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Outline {
    pub(super) holds_private: bool,
    pub(super) public_keys: usize,
    pub(super) signatures: usize,
    /// Of the first public key.
    pub(super) version: Option<u8>,
}

/// Walks over all packets. `None`: these are not the packets of keys. It stops at a private key, whose rest is not looked at.
pub(super) fn outline(mut bytes: &[u8]) -> Option<Outline> {
    let mut outline = Outline::default();
    let mut is_first = true;
    while !bytes.is_empty() {
        let tag = tag(bytes[0])?;
        if tag == SECRET_KEY || tag == SECRET_SUBKEY {
            outline.holds_private = true;
            return Some(outline);
        }
        let (body, rest) = body(bytes)?;
        match tag {
            PUBLIC_KEY => {
                outline.public_keys += 1;
                outline.version = outline.version.or(body.first().copied());
            }
            // A key begins with its primary key, before which only a marker may stand.
            _ if is_first && tag != OF_A_KEY[0] => return None,
            SIGNATURE => outline.signatures += 1,
            tag if OF_A_KEY.contains(&tag) || tag >= IGNORED_FROM => {}
            _ => return None,
        }
        is_first &= tag != PUBLIC_KEY;
        bytes = rest;
    }
    (outline.public_keys > 0).then_some(outline)
}

/// The kind of packet that begins with this byte.
fn tag(byte: u8) -> Option<u8> {
    match byte {
        0..=0x7f => None,
        0x80..=0xbf => Some(byte >> 2 & 0x0f),
        0xc0..=0xff => Some(byte & 0x3f),
    }
}

/// The body of the first packet, and what follows it. Bodies of unknown or partial length are for data, not for keys.
fn body(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (header, length) = if bytes[0] & 0x40 == 0 {
        let octets = match bytes[0] & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        (1 + octets, number(bytes.get(1..1 + octets)?))
    } else {
        match *bytes.get(1)? {
            short @ 0..=191 => (2, usize::from(short)),
            first @ 192..=223 => (3, (usize::from(first - 192) << 8) + usize::from(*bytes.get(2)?) + 192),
            224..=254 => return None,
            255 => (6, number(bytes.get(2..6)?)),
        }
    };
    bytes.get(header..)?.split_at_checked(length)
}

/// A literal data packet: binary, without name and date. Wiped on drop.
pub(super) fn literal(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    const TAG: u8 = 0xc0 | 11;
    let length = 1 + 1 + 4 + secret.len();
    // The final size at once: a buffer that grew would leave copies behind.
    let mut packet = Zeroizing::new(Vec::with_capacity(1 + 5 + length));
    packet.push(TAG);
    packet.push(255);
    packet.extend_from_slice(&u32::try_from(length).expect("a secret is short").to_be_bytes());
    packet.extend_from_slice(&[b'b', 0, 0, 0, 0, 0]);
    packet.extend_from_slice(secret);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlined(public_keys: usize, signatures: usize) -> Option<Outline> {
        Some(Outline { holds_private: false, public_keys, signatures, version: Some(4) })
    }

    #[test]
    fn packets_of_both_formats_are_walked_over() {
        // A primary key, a name and a signature, as GnuPG writes them, and as RFC 9580 would have them.
        let old = [0x98, 1, 4, 0xb4, 1, b'a', 0x89, 0, 2, 4, 19];
        let new = [0xc6, 1, 4, 0xcd, 1, b'a', 0xc2, 255, 0, 0, 0, 2, 4, 19];
        assert_eq!(outline(&old), outlined(1, 1));
        assert_eq!(outline(&new), outlined(1, 1));
        assert_eq!(outline(&[old.as_slice(), &new].concat()), outlined(2, 2));
        let long = [&[0xc6, 1, 4, 0xcd, 192, 1][..], &[b'a'; 193]].concat();
        assert_eq!(outline(&long), outlined(1, 0));
    }

    #[test]
    fn a_private_key_is_seen_wherever_it_is() {
        for bytes in [&[0x95, 0xff][..], &[0xc5], &[0xc6, 1, 4, 0x9d], &[0xc6, 1, 4, 0xc7, 1]] {
            assert!(outline(bytes).unwrap().holds_private, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_key_has_no_outline() {
        for bytes in [
            &[][..],
            &[0x18, 1, 4],
            &[0xc6],
            &[0xc6, 2, 4],
            &[0xc6, 192],
            &[0xc6, 255, 0, 0, 0],
            &[0xc6, 255, 255, 255, 255, 255, 4],
            // Of partial, and of indeterminate length.
            &[0xc6, 224, 4],
            &[0x9b, 4],
            // A message; a signature alone; a key with a message behind it.
            &[0xc1, 1, 3],
            &[0xc2, 1, 4],
            &[0xc6, 1, 4, 0xd2, 1, 1],
        ] {
            assert_eq!(outline(bytes), None, "{bytes:?}");
        }
    }
}
