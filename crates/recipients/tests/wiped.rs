//! What was encrypted is gone: looks for the plaintext and for the message's key in this process's own memory.
//!
//! One test, since a second one beside it would hold copies of the first one's secrets while it scans.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crypto::{Rng as _, SeededRng};
use recipients::Recipient;
use types::Timestamp;

/// Hides the sought bytes from the search itself.
const MASK: u8 = 0x5a;

/// Bytes to look for, masked one by one.
struct Needle(Vec<u8>);

impl Needle {
    fn of(secret: &[u8]) -> Needle {
        let mut masked = Vec::with_capacity(secret.len());
        for byte in secret {
            masked.push(std::hint::black_box(byte ^ MASK));
        }
        Needle(masked)
    }

    /// How often the bytes are in writable memory: heap, stack and statics.
    fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut buffer = vec![0; 1 << 16];
        let own = buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len();
        let mut count = 0;
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let (mut at, end) = (usize::from_str_radix(start, 16).unwrap(), usize::from_str_radix(end, 16).unwrap());
            while at < end {
                let wanted = buffer.len().min(end - at);
                let Ok(read) = memory.read_at(&mut buffer[..wanted], at as u64) else { break };
                let found = |offset: &usize| {
                    let window = buffer[..read].get(*offset..offset + self.0.len());
                    let is_it = |window: &[u8]| window.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked);
                    !own.contains(&(at + offset)) && window.is_some_and(is_it)
                };
                count += memchr::memchr_iter(self.0[0] ^ MASK, &buffer[..read]).filter(found).count();
                buffer[..read].fill(0);
                // Overlap, lest a needle on the border be missed.
                at += if read == wanted && at + read < end { read - self.0.len() + 1 } else { wanted };
            }
        }
        count
    }
}

/// A share as hex: random, and nowhere else.
fn secret(seed: u64) -> Box<[u8]> {
    let mut bytes = vec![0; 68].into_boxed_slice();
    SeededRng::dangerous_from_seed(seed).fill(&mut bytes);
    for byte in &mut bytes {
        *byte = b"0123456789abcdef"[usize::from(*byte % 16)];
    }
    bytes
}

/// The last of the first bytes that a seed draws: either format draws the message's key first.
fn first_drawn(seed: u64, length: usize) -> Needle {
    let mut bytes = crypto::Zeroizing::new(vec![0; length]);
    SeededRng::dangerous_from_seed(seed).fill(&mut bytes);
    Needle::of(&bytes[length - 16..])
}

#[test]
fn neither_the_secret_nor_the_key_of_its_message_stays_in_memory() {
    let now = Timestamp(1_782_000_000_000);
    for (at, (name, recipient, key_bytes)) in [
        ("curve", Recipient::openpgp(include_bytes!("keys/curve.asc"), now).unwrap(), 32),
        ("rsa", Recipient::openpgp(include_bytes!("keys/rsa.asc"), now).unwrap(), 32),
        ("p384", Recipient::openpgp(include_bytes!("keys/twice.asc"), now).unwrap(), 32),
        ("age", Recipient::age("age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa").unwrap(), 16),
    ]
    .into_iter()
    .enumerate()
    {
        let (at, seed) = (at as u64, 1000 + at as u64);
        let secret = secret(at);
        // The allocator writes its own links over the beginning of what is freed, so that much is no proof.
        let needle = Needle::of(&secret[16..]);
        let key = first_drawn(seed, key_bytes);
        assert_eq!(needle.count(), 1, "{name}: the secret lives once");
        let message = recipient.encrypt(&secret, &SeededRng::dangerous_from_seed(seed)).unwrap();
        assert_eq!(needle.count(), 1, "{name}: the secret, after it was encrypted");
        assert_eq!(key.count(), 0, "{name}: the message's key");
        assert!(message.len() > secret.len());
    }
}
