//! AES-256-SIV (RFC 5297): deterministic authenticated encryption, for names.
//!
//! Always: the same key, associated data and plaintext give the same bytes, and that equality is all that they show beside the length.
//! A sealed name is the synthetic IV (16 bytes) ‖ ciphertext (as long as the plaintext). Both key schedules are made once, live in one
//! place, and are wiped with the cipher; no call copies a key.
//!
//! The block cipher is the crate `aes` (0.8: the VAES code of 0.9 copies every round key to the stack for each block); the mode is composed
//! here, in the RFC's own steps. The crate `aes-siv` has the mode, but takes `&mut self` and makes a key schedule on the stack in each
//! call, where copies of the key stay behind (four after one call, found as `tests/wiped.rs` looks for them), and takes 2.5 times as long.
//! It is the reference in the tests below.
//!
//! # Cost
//! About 0.2 µs for a segment of 16 bytes under 16 bytes of associated data, sealed or opened (`aes-siv` 0.7: 0.5 µs), on a core that needs
//! 18 ns for one AES-256 block. Measure with `cargo test --release -p crypto siv::tests::speed -- --ignored --nocapture`.

use aes::Aes256;
use aes::cipher::{BlockEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::aead::OpenError;
use crate::secret::{NameKey, SecretBytes, constant_time_eq, wipe_stack};

/// How much longer a sealed name is than the name.
pub const OVERHEAD_BYTES: usize = BLOCK_BYTES;
/// The longest name, in bytes: far above what a path may hold.
pub const PLAINTEXT_BYTES_MAX: usize = 1 << 20;

const BLOCK_BYTES: usize = 16;
/// Seals and opens names. Wiped on drop; cannot be printed, cloned, compared or serialised.
///
/// ```compile_fail,E0277
/// fn printable(_: impl std::fmt::Debug) {}
/// printable(crypto::NameCipher::new(&crypto::NameKey::generate(&crypto::OsRng::new())));
/// ```
/// ```compile_fail,E0599
/// let cipher = crypto::NameCipher::new(&crypto::NameKey::generate(&crypto::OsRng::new()));
/// let copy: crypto::NameCipher = cipher.clone();
/// ```
pub struct NameCipher(Box<Prepared>);

/// All that depends on the key alone.
struct Prepared {
    mac: Mac,
    encryption: Aes256,
    /// CMAC of a block of zeros, doubled: where S2V begins (RFC 5297, section 2.4).
    start: Zeroizing<u128>,
}

impl NameCipher {
    /// Takes `key`: its first half authenticates, its second half encrypts (RFC 5297, section 2.2).
    pub fn new(key: &NameKey) -> NameCipher {
        // EXPOSE: the cipher keeps the schedules of both halves as long as it lives.
        let prepared = prepare(key.expose());
        wipe_stack();
        NameCipher(prepared)
    }

    /// Seals `plaintext`, bound to `aad` (always one associated string, even if it is empty).
    ///
    /// # Panics
    /// If `plaintext` is longer than [`PLAINTEXT_BYTES_MAX`]; a path's limit is far lower.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        assert!(plaintext.len() <= PLAINTEXT_BYTES_MAX, "a name of {} bytes, more than {PLAINTEXT_BYTES_MAX}", plaintext.len());
        let mut sealed = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
        sealed.extend_from_slice(&[0; OVERHEAD_BYTES]);
        sealed.extend_from_slice(plaintext);
        let (front, text) = sealed.split_at_mut(OVERHEAD_BYTES);
        let siv = self.synthetic_iv(aad, text);
        front.copy_from_slice(&siv.to_be_bytes());
        self.apply_keystream(siv, text);
        sealed
    }

    /// Opens what [`NameCipher::seal`] made with the same key and `aad`. A buffer that held unauthentic plaintext is wiped.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
        let (siv, ciphertext) = sealed.split_first_chunk::<OVERHEAD_BYTES>().ok_or(OpenError::NotAuthentic)?;
        let mut text = Zeroizing::new(ciphertext.to_vec().into_boxed_slice());
        self.apply_keystream(u128::from_be_bytes(*siv), &mut text);
        if constant_time_eq(&self.synthetic_iv(aad, &mut text).to_be_bytes(), siv) {
            Ok(SecretBytes::from_boxed(text))
        } else {
            Err(OpenError::NotAuthentic)
        }
    }

    /// S2V of one associated string and `text` (RFC 5297, section 2.4). `text` is changed while it runs, and as it was after.
    fn synthetic_iv(&self, aad: &[u8], text: &mut [u8]) -> u128 {
        let sum = *self.0.start ^ self.0.mac.tag(aad);
        match text.len().checked_sub(BLOCK_BYTES) {
            Some(end) => {
                xor(&mut text[end..], sum);
                let siv = self.0.mac.tag(text);
                xor(&mut text[end..], sum);
                siv
            }
            None => self.0.mac.tag(&(double(sum) ^ padded(text)).to_be_bytes()),
        }
    }

    /// Counter mode from `siv`, with the top bits of its last two 32-bit words cleared (RFC 5297, section 2.5).
    fn apply_keystream(&self, siv: u128, text: &mut [u8]) {
        let mut counter = siv & !(1 << 63 | 1 << 31);
        for block in text.chunks_mut(BLOCK_BYTES) {
            xor(block, encrypt(&self.0.encryption, counter));
            counter = counter.wrapping_add(1);
        }
    }
}

/// AES-256-CMAC (NIST SP 800-38B, RFC 4493).
struct Mac {
    cipher: Aes256,
    /// K1, for a whole last block.
    whole: Zeroizing<u128>,
    /// K2, for a padded one.
    part: Zeroizing<u128>,
}

impl Mac {
    fn new(key: &[u8; 32]) -> Mac {
        let cipher = Aes256::new(key.into());
        let whole = double(encrypt(&cipher, 0));
        Mac { cipher, whole: Zeroizing::new(whole), part: Zeroizing::new(double(whole)) }
    }

    fn tag(&self, message: &[u8]) -> u128 {
        let (front, last) = message.split_at(message.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES);
        let (blocks, _) = front.as_chunks::<BLOCK_BYTES>();
        let state = blocks.iter().fold(0, |state, block| encrypt(&self.cipher, state ^ u128::from_be_bytes(*block)));
        let last = match last.first_chunk() {
            Some(block) => u128::from_be_bytes(*block) ^ *self.whole,
            None => padded(last) ^ *self.part,
        };
        encrypt(&self.cipher, state ^ last)
    }
}

#[inline(never)]
fn prepare(key: &[u8; NameKey::LEN]) -> Box<Prepared> {
    let (mac_key, encryption_key) = (key.first_chunk().expect("64 bytes"), key.last_chunk::<32>().expect("64 bytes"));
    let mac = Mac::new(mac_key);
    let start = Zeroizing::new(double(mac.tag(&[0; BLOCK_BYTES])));
    Box::new(Prepared { mac, encryption: Aes256::new(encryption_key.into()), start })
}

fn encrypt(cipher: &Aes256, block: u128) -> u128 {
    let mut block = aes::Block::from(block.to_be_bytes());
    cipher.encrypt_block(&mut block);
    u128::from_be_bytes(block.into())
}

/// Doubling in GF(2^128), without a branch on the top bit (RFC 5297, section 2.3).
fn double(block: u128) -> u128 {
    (block << 1) ^ ((block >> 127) * 0x87)
}

/// Up to 15 bytes, then a one bit, then zeros.
fn padded(bytes: &[u8]) -> u128 {
    let mut block = [0; BLOCK_BYTES];
    block[..bytes.len()].copy_from_slice(bytes);
    block[bytes.len()] = 0x80;
    u128::from_be_bytes(block)
}

/// Adds the first bytes of `block` to `bytes`, at most 16.
fn xor(bytes: &mut [u8], block: u128) {
    for (byte, other) in bytes.iter_mut().zip(block.to_be_bytes()) {
        *byte ^= other;
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

    /// RFC 4493's appendix on subkeys has a 128-bit key; NIST SP 800-38B, appendix D.3 (AES-256), has these.
    #[test]
    fn cmac_vectors_of_sp_800_38b() {
        let key = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").unwrap();
        let message = hex::decode("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710").unwrap();
        let mac = Mac::new(key.as_slice().try_into().unwrap());
        for (len, tag) in [
            (0, 0x028962f61b7bf89efc6b551f4667d983),
            (16, 0x28a7023f452e8f82bd4bf28d8c37c35c),
            (40, 0xaaf3d8f1de5640c232f5b169b9c911e6),
            (64, 0xe1992190549f6ed5696a2c056c315410),
        ] {
            assert_eq!(mac.tag(&message[..len]), tag, "{len} bytes");
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
        fn agrees_with_an_independent_implementation(
            key in proptest::collection::vec(any::<u8>(), 64),
            aad in proptest::collection::vec(any::<u8>(), 0..100),
            name in proptest::collection::vec(any::<u8>(), 0..1100),
        ) {
            let cipher = cipher(&key);
            let sealed = cipher.seal(&aad, &name);
            let reference = aes_siv::siv::Aes256Siv::new(key.as_slice().into()).encrypt([&aad], &name).unwrap();
            prop_assert_eq!(&sealed, &reference);
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
