//! [`StateHash`]: what a table holds, in 32 bytes, whatever the order it was written in.

use std::fmt;

use crypto::digest::Sha256;
use types::Revision;

/// An order-independent hash of all keys, revisions and values of a table.
///
/// The sum, lane by lane and modulo 2⁶⁴, of four little-endian `u64` lanes of
/// `SHA-256(key length as u32 ‖ key ‖ revision as u64 ‖ value)` over all cells, so that one put or delete costs one or two
/// digests. It finds divergence and bit rot. It is no commitment against someone who chooses values freely: sums of
/// hashes can be made to collide with generalised-birthday effort.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateHash([u64; 4]);

impl StateHash {
    /// The hash of an empty table.
    pub const EMPTY: StateHash = StateHash([0; 4]);

    /// Counts a cell in.
    pub fn add(&mut self, key: &[u8], revision: Revision, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(lanes(key, revision, value)) {
            *lane = lane.wrapping_add(part);
        }
    }

    /// Counts a cell out that was counted in before.
    pub fn remove(&mut self, key: &[u8], revision: Revision, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(lanes(key, revision, value)) {
            *lane = lane.wrapping_sub(part);
        }
    }

    /// The stored and sent form: the four lanes, little-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// The reverse of [`StateHash::to_bytes`].
    pub fn from_bytes(bytes: [u8; 32]) -> StateHash {
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        }
        StateHash(lanes)
    }
}

fn lanes(key: &[u8], revision: Revision, value: &[u8]) -> [u64; 4] {
    let mut digest = Sha256::new();
    digest.update(&crate::codec::length_field(key.len()).to_le_bytes());
    digest.update(key);
    digest.update(&revision.0.to_le_bytes());
    digest.update(value);
    StateHash::from_bytes(digest.finish()).0
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let (mut one, mut two) = (StateHash::EMPTY, StateHash::EMPTY);
        one.add(b"a", Revision(1), b"x");
        one.add(b"b", Revision(2), b"y");
        two.add(b"b", Revision(2), b"y");
        two.add(b"a", Revision(1), b"x");
        assert_eq!(one, two);
        one.remove(b"a", Revision(1), b"x");
        assert_ne!(one, two);
        one.remove(b"b", Revision(2), b"y");
        assert_eq!(one, StateHash::EMPTY);
    }

    #[test]
    fn every_part_counts_and_borders_do_not_shift() {
        let of = |key: &[u8], revision, value: &[u8]| {
            let mut hash = StateHash::EMPTY;
            hash.add(key, Revision(revision), value);
            hash
        };
        let base = of(b"ab", 1, b"c");
        for other in [of(b"a", 1, b"bc"), of(b"ab", 2, b"c"), of(b"ab", 1, b"d"), of(b"abc", 1, b"")] {
            assert_ne!(base, other);
        }
        assert_eq!(StateHash::from_bytes(base.to_bytes()), base);
    }

    #[test]
    fn is_made_of_the_documented_bytes() {
        let mut hash = StateHash::EMPTY;
        hash.add(b"key", Revision(7), b"value");
        assert_eq!(hash.to_bytes(), crypto::digest::sha256(b"\x03\0\0\0key\x07\0\0\0\0\0\0\0value"));
    }
}
