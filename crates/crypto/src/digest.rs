//! SHA-256 (FIPS 180-4), by ring.

use ring::digest::{Context, SHA256, digest};

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(digest(&SHA256, bytes))
}

/// SHA-256 over bytes that come in parts. Not for secrets that must not outlive the call: the state is not wiped.
#[derive(Clone)]
pub struct Sha256(Context);

impl Sha256 {
    /// Starts a digest of nothing.
    pub fn new() -> Sha256 {
        Sha256(Context::new(&SHA256))
    }

    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was appended.
    pub fn finish(self) -> [u8; 32] {
        to_array(self.0.finish())
    }
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256::new()
    }
}

fn to_array(digest: ring::digest::Digest) -> [u8; 32] {
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B, and the empty message of NIST CAVP's SHA256ShortMsg.
    #[test]
    fn published_vectors() {
        let million = vec![b'a'; 1_000_000];
        for (message, want) in [
            (b"".as_slice(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            assert_eq!(hex::encode(sha256(message)), want);
            let mut parts = Sha256::new();
            for part in message.chunks(61) {
                parts.update(part);
            }
            assert_eq!(hex::encode(parts.finish()), want);
        }
    }
}
