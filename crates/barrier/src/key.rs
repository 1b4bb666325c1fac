//! Keys below the barrier: the areas of the table, and how a [`Name`] becomes a storage key and back.
//!
//! Key = area (1 byte) ‖ for each segment: length (2 bytes, big-endian) ‖ AES-256-SIV of the segment. The associated data
//! of a segment is the key up to it, so equal segments under different parents look different, a prefix scan finds a
//! folder's records, and a record cannot be moved. What shows: the count and length of segments, and which siblings share
//! a parent (docs/threat-model.md).

use bytes::{BufMut, Bytes, BytesMut};
use crypto::{NameCipher, OpenError, SecretBytes};

use crate::name::Name;

/// The area of records in clear: how the cluster is sealed. The rest of such a key is ASCII.
pub const AREA_CLEAR: u8 = 0;
/// The area of records with encrypted names and values.
pub const AREA_SEALED: u8 = 1;
/// Bytes by which a sealed segment is longer than its text.
const SEGMENT_OVERHEAD: usize = 2 + crypto::siv::OVERHEAD_BYTES;

/// A key in the clear area.
pub(crate) fn clear(text: &'static str) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + text.len());
    key.put_u8(AREA_CLEAR);
    key.put_slice(text.as_bytes());
    key.freeze()
}

/// The storage key of `name`.
///
/// # Panics
/// When a segment is longer than 65519 bytes: paths are bounded far below that before they come here.
pub(crate) fn seal_name(cipher: &NameCipher, name: &Name) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + name.as_str().len() + SEGMENT_OVERHEAD * (1 + name.as_str().matches('/').count()));
    key.put_u8(AREA_SEALED);
    for segment in name.segments() {
        let sealed = cipher.seal(&key, segment.as_bytes());
        let length = u16::try_from(sealed.len()).expect("segments are bounded by types::Path");
        key.put_u16(length);
        key.put_slice(&sealed);
    }
    key.freeze()
}

/// The first segment after `prefix` in `key`, and whether the key ends with it.
pub(crate) struct ChildSegment {
    pub(crate) name: SecretBytes,
    /// Bytes of `key` up to the end of the segment.
    pub(crate) end: usize,
    pub(crate) is_leaf: bool,
}

/// Opens the segment that follows the first `prefix` bytes of `key`.
pub(crate) fn open_child(cipher: &NameCipher, key: &[u8], prefix: usize) -> Result<ChildSegment, OpenError> {
    let refused = OpenError::NotAuthentic;
    let length = key.get(prefix..prefix + 2).ok_or(refused)?;
    let start = prefix + 2;
    let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
    let sealed = key.get(start..end).ok_or(refused)?;
    let name = cipher.open(&key[..prefix], sealed)?;
    Ok(ChildSegment { name, end, is_leaf: end == key.len() })
}

/// The smallest key greater than every key that starts with `prefix`; `None` when there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use crypto::{NameKey, SeededRng};

    use super::*;

    #[test]
    fn names_come_back_and_equal_segments_look_different_elsewhere() {
        let cipher = NameCipher::new(&NameKey::generate(&SeededRng::dangerous_from_seed(1)));
        let key = seal_name(&cipher, &Name::new("a/b"));
        let first = open_child(&cipher, &key, 1).unwrap();
        assert_eq!((first.name.expose(), first.is_leaf), (&b"a"[..], false));
        let second = open_child(&cipher, &key, first.end).unwrap();
        assert_eq!((second.name.expose(), second.is_leaf), (&b"b"[..], true));

        let other = seal_name(&cipher, &Name::new("c/b"));
        assert_ne!(key[first.end..], other[first.end..], "the same segment under another parent");
        assert!(seal_name(&cipher, &Name::new("a/x")).starts_with(&key[..first.end]), "siblings share their parent's key");
    }

    #[test]
    fn garbage_is_refused() {
        let cipher = NameCipher::new(&NameKey::generate(&SeededRng::dangerous_from_seed(1)));
        for key in [&b""[..], b"\x01", b"\x01\x00", b"\x01\x00\x05abc", b"\x01\xff\xff"] {
            assert!(open_child(&cipher, key, 1).is_err());
        }
    }

    #[test]
    fn the_key_after_a_prefix_follows_all_of_it() {
        assert_eq!(after_prefix(b"ab").unwrap(), &b"ac"[..]);
        assert_eq!(after_prefix(b"a\xff").unwrap(), &b"b"[..]);
        assert_eq!(after_prefix(b"\xff\xff"), None);
    }
}
