//! AES-256-SIV (RFC 5297): deterministic authenticated encryption, for names.
//!
//! Always: the same key, associated data and plaintext give the same bytes, and that equality is all that they show beside the length.
//! A sealed name is the synthetic IV (16 bytes) ‖ ciphertext (as long as the plaintext).
//!
//! # Cost
//! About 0.8 µs for a segment of 16 bytes under 16 bytes of associated data, sealed or opened, on a core that needs 63 ns for one AES-256 block: eleven
//! block operations and two key schedules (50 ns each), which the library makes anew for each call. Measure with
//! `cargo test --release -p crypto siv::tests::speed -- --ignored --nocapture`.

use aes_siv::KeyInit;
use aes_siv::aead::Error;
use aes_siv::siv::Aes256Siv;
use zeroize::{Zeroizing, zeroize_stack};

use crate::aead::OpenError;
use crate::secret::{NameKey, SecretBytes};

/// How much longer a sealed name is than the name.
pub const OVERHEAD_BYTES: usize = 16;

/// Stack that the library may have used for key schedules, with room to spare. Wiped after each call.
const STACK_WIPED_BYTES: usize = 4096;

/// Seals and opens names. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::NameCipher::new(&crypto::NameKey::generate(&crypto::OsRng::new())));
/// ```
pub struct NameCipher(Box<Zeroizing<[u8; NameKey::LEN]>>);

impl NameCipher {
    /// Takes `key`: its first half authenticates, its second half encrypts (RFC 5297, section 2.2).
    pub fn new(key: &NameKey) -> NameCipher {
        let mut own = Box::new(Zeroizing::new([0; NameKey::LEN]));
        // EXPOSE: the cipher keeps the key as long as it lives.
        own.copy_from_slice(key.expose());
        NameCipher(own)
    }

    /// Seals `plaintext`, bound to `aad` (always one associated string, even if it is empty).
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.encrypt(aad, plaintext).expect("one associated string is within RFC 5297's limit of 126");
        zeroize_stack::<STACK_WIPED_BYTES>();
        sealed
    }

    /// Opens what [`NameCipher::seal`] made with the same key and `aad`. A buffer that held unauthentic plaintext is wiped.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let (siv, ciphertext) = sealed.split_first_chunk::<OVERHEAD_BYTES>().ok_or(OpenError::NotAuthentic)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec().into_boxed_slice());
        let opened = self.decrypt_in_place(aad, siv, &mut buffer);
        zeroize_stack::<STACK_WIPED_BYTES>();
        opened.map_err(|_| OpenError::NotAuthentic)?;
        Ok(SecretBytes::from_boxed(buffer))
    }

    #[inline(never)]
    fn encrypt(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        Aes256Siv::new((&**self.0).into()).encrypt([aad], plaintext)
    }

    #[inline(never)]
    fn decrypt_in_place(&self, aad: &[u8], siv: &[u8; OVERHEAD_BYTES], buffer: &mut [u8]) -> Result<(), Error> {
        Aes256Siv::new((&**self.0).into()).decrypt_inout_detached([aad], buffer.into(), siv.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::cases;

    fn cipher(key: &[u8]) -> NameCipher {
        NameCipher::new(&NameKey::from_slice(key).unwrap())
    }

    /// RFC 5297's own vectors have 256-bit keys; Wycheproof's 512-bit ones stand in.
    #[test]
    fn vectors_of_wycheproof() {
        let cases = cases::<4>(include_str!("../vectors/aes_256_siv.txt"));
        assert_eq!((cases.len(), cases.iter().filter(|case| !case.valid).count()), (147, 108));
        for case in cases {
            let [key, aad, plaintext, sealed] = case.fields;
            let cipher = cipher(&key);
            if case.valid {
                assert_eq!(cipher.seal(&aad, &plaintext), sealed, "case {}", case.number);
                assert_eq!(cipher.open(&aad, &sealed).unwrap().expose(), plaintext, "case {}", case.number);
            } else {
                assert_eq!(cipher.open(&aad, &sealed).err(), Some(OpenError::NotAuthentic), "case {}", case.number);
            }
        }
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let cipher = cipher(&[7; 64]);
        for name in ["", "app", "sixteen letters.", "a name that is longer than one block"] {
            let sealed = cipher.seal(b"parent", name.as_bytes());
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(cipher.open(b"parent", &changed).is_err(), "bit {bit} of {name:?}");
            }
            for len in 0..sealed.len() {
                assert!(cipher.open(b"parent", &sealed[..len]).is_err(), "{name:?} cut to {len}");
            }
        }
    }

    #[test]
    fn equal_names_look_equal_in_one_folder_only() {
        let cipher = cipher(&[7; 64]);
        assert_eq!(cipher.seal(b"parent", b"app"), cipher.seal(b"parent", b"app"));
        assert_ne!(cipher.seal(b"parent", b"app"), cipher.seal(b"another", b"app"));
        assert_ne!(cipher.seal(b"parent", b"app"), cipher.seal(b"", b"app"));
        assert!(cipher.open(b"another", &cipher.seal(b"parent", b"app")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            key in proptest::collection::vec(any::<u8>(), 64),
            aad in proptest::collection::vec(any::<u8>(), 0..100),
            name in proptest::collection::vec(any::<u8>(), 0..1100),
        ) {
            let cipher = cipher(&key);
            let sealed = cipher.seal(&aad, &name);
            prop_assert_eq!(sealed.len(), name.len() + OVERHEAD_BYTES);
            let opened = cipher.open(&aad, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &name);
        }

        #[test]
        fn no_bytes_make_it_panic(aad in proptest::collection::vec(any::<u8>(), 0..40), sealed in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(cipher(&[7; 64]).open(&aad, &sealed).is_err());
        }
    }

    #[test]
    #[ignore = "measures; see the top of this file"]
    fn speed() {
        const ROUNDS: u32 = 200_000;
        let (cipher, parent, name) = (cipher(&[7; 64]), [1; 16], [2; 16]);
        let sealed = cipher.seal(&parent, &name);
        let started = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(cipher.seal(std::hint::black_box(&parent), &name));
        }
        let seal = started.elapsed() / ROUNDS;
        let started = std::time::Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(cipher.open(std::hint::black_box(&parent), &sealed)).unwrap();
        }
        println!("a 16-byte segment: {seal:?} to seal, {:?} to open", started.elapsed() / ROUNDS);
    }
}
