//! Randomness, as a thing that can be handed in: [`Rng`], the operating system's, and a seeded one for simulation.
//!
//! Always: [`OsRng`] either fills the whole buffer from the kernel's generator or ends the process; there is no weaker fallback.
//! Knows nothing of what the bytes are for.

use std::sync::Mutex;

use ring::rand::{SecureRandom, SystemRandom};

use crate::digest::Sha256;

/// Draws random bytes. Cannot fail: who holds an `Rng` may rely on it.
pub trait Rng: Send + Sync + 'static {
    /// Overwrites all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Draws `N` bytes. For public values (nonces, salts, ids); a key is drawn in place by its own `generate`.
pub fn generate_bytes<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill(&mut bytes);
    bytes
}

/// The operating system's generator (`getrandom` on Linux), by ring's [`SystemRandom`].
///
/// If the system cannot give randomness, the process ends at once: a server that went on would make keys that can be guessed.
#[derive(Debug, Clone)]
pub struct OsRng(SystemRandom);

impl OsRng {
    /// Opens the generator.
    pub fn new() -> OsRng {
        OsRng(SystemRandom::new())
    }
}

impl Default for OsRng {
    fn default() -> OsRng {
        OsRng::new()
    }
}

impl Rng for OsRng {
    fn fill(&self, bytes: &mut [u8]) {
        if self.0.fill(bytes).is_err() {
            eprintln!(
                "conclave: the operating system gives no randomness (getrandom failed); stopped, since keys made without it could be guessed"
            );
            std::process::abort();
        }
    }
}

/// **Dangerous**: the same seed gives the same bytes, on every machine. For tests and simulation only.
///
/// Block `i` is SHA-256 of a label, the seed and `i`; a request takes the next bytes of that stream, so the bytes do not depend on how they
/// are asked for: `fill` of 3 and then 5 bytes draws the same as one `fill` of 8. Callers on several threads share one stream, in the order
/// they come.
pub struct SeededRng(Mutex<Stream>);

struct Stream {
    seed: u64,
    next_block: u64,
    block: [u8; 32],
    used: usize,
}

impl SeededRng {
    /// Starts the stream of `seed`. The name is the warning: whoever knows the seed knows every key drawn.
    pub fn dangerous_from_seed(seed: u64) -> SeededRng {
        SeededRng(Mutex::new(Stream { seed, next_block: 0, block: [0; 32], used: 32 }))
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        let mut stream = self.0.lock().expect("nothing panics while it holds this lock");
        for byte in bytes {
            if stream.used == stream.block.len() {
                stream.refill();
            }
            *byte = stream.block[stream.used];
            stream.used += 1;
        }
    }
}

impl Stream {
    fn refill(&mut self) {
        let mut hash = Sha256::new();
        hash.update(b"conclave seeded rng v1");
        hash.update(&self.seed.to_be_bytes());
        hash.update(&self.next_block.to_be_bytes());
        self.block = hash.finish();
        self.next_block += 1;
        self.used = 0;
    }
}

/// Lends an [`Rng`] to crates that ask for `rand_core`'s traits.
#[cfg(test)]
pub(crate) struct CoreRng<'a>(pub(crate) &'a dyn Rng);

#[cfg(test)]
impl rand_core::TryRng for CoreRng<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(generate_bytes(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(generate_bytes(self.0)))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
impl rand_core::TryCryptoRng for CoreRng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_fills_every_byte_anew() {
        let rng = OsRng::new();
        let (first, second) = (generate_bytes::<64>(&rng), generate_bytes::<64>(&rng));
        assert_ne!(first, second);
        assert!(first.chunks(16).all(|chunk| chunk != [0; 16]));
    }

    #[test]
    fn a_seed_gives_one_stream_however_it_is_asked_for() {
        let whole = generate_bytes::<100>(&SeededRng::dangerous_from_seed(7));
        let parts = SeededRng::dangerous_from_seed(7);
        let mut bytes = [0; 100];
        for part in bytes.chunks_mut(7) {
            parts.fill(part);
        }
        assert_eq!(whole, bytes);
        assert_ne!(whole, generate_bytes::<100>(&SeededRng::dangerous_from_seed(8)));
    }
}
