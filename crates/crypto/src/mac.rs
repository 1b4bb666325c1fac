//! HMAC-SHA256 (RFC 2104, FIPS 198-1), by ring.
//!
//! Always: tags are compared in constant time; the prepared key is wiped on drop.

use ring::hmac;
use zeroize::optimization_barrier;

use crate::secret::wipe_stack;

/// A key that tags bytes, prepared once. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail,E0277
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::MacKey::new(&[0; 32]));
/// ```
/// ```compile_fail,E0599
/// let key = crypto::MacKey::new(&[0; 32]);
/// let copy: crypto::MacKey = key.clone();
/// ```
pub struct MacKey(Box<hmac::Key>);

impl MacKey {
    /// Prepares `key`, which must be uniformly random (drawn, or from [`crate::kdf`]).
    pub fn new(key: &[u8; 32]) -> MacKey {
        let prepared = prepare(key);
        wipe_stack();
        MacKey(prepared)
    }

    /// The tag of `bytes`.
    pub fn tag(&self, bytes: &[u8]) -> [u8; 32] {
        hmac::sign(&self.0, bytes).as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    /// Whether `tag` is the whole tag of `bytes`; a shortened one is not. Takes the same time wherever they differ.
    #[must_use]
    pub fn verify(&self, bytes: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, tag).is_ok()
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        // ring does not wipe its keys: write that of zeros over this one.
        *self.0 = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
        optimization_barrier(&*self.0);
    }
}

#[inline(never)]
fn prepare(key: &[u8; 32]) -> Box<hmac::Key> {
    Box::new(hmac::Key::new(hmac::HMAC_SHA256, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::cases;

    /// RFC 4231, sections 4.2 to 4.8. Its keys have other lengths than [`MacKey`] takes: HMAC pads the short ones with zeros and hashes the
    /// long ones.
    #[test]
    fn vectors_of_rfc_4231() {
        let padded = |key: &[u8]| {
            let mut whole = [0; 32];
            whole[..key.len()].copy_from_slice(key);
            whole
        };
        let long = crate::digest::sha256(&[0xaa; 131]);
        for (key, message, want) in [
            (padded(&[0x0b; 20]), b"Hi There".as_slice(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (padded(b"Jefe"), b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (padded(&[0xaa; 20]), &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (padded(&(1..=25).collect::<Vec<u8>>()), &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                long,
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                long,
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ] {
            assert_eq!(hex::encode(MacKey::new(&key).tag(message)), want);
        }
    }

    #[test]
    fn vectors_of_wycheproof() {
        let cases = cases::<3>(include_str!("../vectors/hmac_sha256.txt"));
        assert_eq!((cases.len(), cases.iter().filter(|case| !case.valid).count()), (81, 54));
        for case in cases {
            let [key, message, tag] = case.fields;
            let key = MacKey::new(key.as_slice().try_into().unwrap());
            assert_eq!(key.verify(&message, &tag), case.valid, "case {}", case.number);
            assert_eq!(key.tag(&message).as_slice() == tag, case.valid, "case {}", case.number);
        }
    }

    #[test]
    fn a_shortened_tag_is_refused() {
        let key = MacKey::new(&[7; 32]);
        let tag = key.tag(b"message");
        assert!(key.verify(b"message", &tag));
        for len in 0..tag.len() {
            assert!(!key.verify(b"message", &tag[..len]), "cut to {len}");
        }
        assert!(!key.verify(b"message", &[&tag[..], &[0]].concat()));
    }

    /// A prepared key holds the hash's state after the key, which is as good as the key. Looks at the words by which two keys differ.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_dropped_key_is_overwritten() {
        use std::os::unix::fs::FileExt;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let words_at = |address: usize| {
            let mut bytes = [0; size_of::<hmac::Key>()];
            memory.read_exact_at(&mut bytes, address as u64).unwrap();
            bytes.as_chunks::<8>().0.to_vec()
        };
        let address_of = |key: &MacKey| std::ptr::from_ref(&*key.0).addr();
        let (key, same, other) = (MacKey::new(&[7; 32]), MacKey::new(&[7; 32]), MacKey::new(&[8; 32]));
        let address = address_of(&key);
        let [before, same, other] = [address, address_of(&same), address_of(&other)].map(words_at);
        drop(key);
        let after = words_at(address);
        // What differs between two equal keys is padding.
        let secret: Vec<usize> = (0..before.len()).filter(|&word| before[word] == same[word] && before[word] != other[word]).collect();
        assert!(secret.len() >= 8, "two states of 32 bytes, and what of the key ring left in the room it does not use");
        assert!(secret.iter().all(|&word| after[word] != before[word]));
    }
}
