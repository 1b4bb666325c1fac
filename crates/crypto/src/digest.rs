//! SHA-256 (FIPS 180-4), by ring; and, for callers who name one, SHA-2 (FIPS 180-4) and SHA-3 (FIPS 202) of every size, by RustCrypto.

use ring::digest::{Context, SHA256, digest};
use sha2::Digest as _;

/// A digest by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// `sha2-224`.
    Sha2_224,
    /// `sha2-256`.
    Sha2_256,
    /// `sha2-384`.
    Sha2_384,
    /// `sha2-512`.
    Sha2_512,
    /// `sha3-224`.
    Sha3_224,
    /// `sha3-256`.
    Sha3_256,
    /// `sha3-384`.
    Sha3_384,
    /// `sha3-512`.
    Sha3_512,
}

impl Digest {
    /// The digest that Vault's API calls by this name.
    pub fn by_name(name: &str) -> Option<Digest> {
        Some(match name {
            "sha2-224" => Digest::Sha2_224,
            "sha2-256" => Digest::Sha2_256,
            "sha2-384" => Digest::Sha2_384,
            "sha2-512" => Digest::Sha2_512,
            "sha3-224" => Digest::Sha3_224,
            "sha3-256" => Digest::Sha3_256,
            "sha3-384" => Digest::Sha3_384,
            "sha3-512" => Digest::Sha3_512,
            _ => return None,
        })
    }

    /// The digest of `bytes`: 28 to 64 bytes.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Digest::Sha2_224 => sha2::Sha224::digest(bytes).to_vec(),
            Digest::Sha2_256 => sha256(bytes).to_vec(),
            Digest::Sha2_384 => sha2::Sha384::digest(bytes).to_vec(),
            Digest::Sha2_512 => sha2::Sha512::digest(bytes).to_vec(),
            Digest::Sha3_224 => sha3::Sha3_224::digest(bytes).to_vec(),
            Digest::Sha3_256 => sha3::Sha3_256::digest(bytes).to_vec(),
            Digest::Sha3_384 => sha3::Sha3_384::digest(bytes).to_vec(),
            Digest::Sha3_512 => sha3::Sha3_512::digest(bytes).to_vec(),
        }
    }
}

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

    /// NIST's examples for the message "abc" (FIPS 180-4 and FIPS 202).
    #[test]
    fn published_vectors_by_name() {
        for (name, want) in [
            ("sha2-224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            ("sha2-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("sha2-384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"),
            (
                "sha2-512",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            ("sha3-224", "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"),
            ("sha3-256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
            ("sha3-384", "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25"),
            (
                "sha3-512",
                "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
            ),
        ] {
            assert_eq!(hex::encode(Digest::by_name(name).unwrap().of(b"abc")), want, "{name}");
        }
        assert_eq!(Digest::by_name("sha1"), None);
    }

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
