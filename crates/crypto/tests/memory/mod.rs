//! Looks for bytes in this process's own memory, through `/proc/self/mem`.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Hides the sought bytes from the search itself.
const MASK: u8 = 0x5a;
/// The allocator writes its own links into the start of what is freed, so that much is no proof.
const SKIPPED: usize = 16;

/// Bytes to look for, masked.
pub(crate) struct Needle(Vec<u8>);

impl Needle {
    /// The second 16 bytes of `secret`, masked one by one.
    pub(crate) fn of(secret: &[u8]) -> Needle {
        let mut masked = Vec::with_capacity(16);
        for byte in &secret[SKIPPED..SKIPPED + 16] {
            masked.push(std::hint::black_box(byte ^ MASK));
        }
        Needle(masked)
    }

    /// How often the bytes are in writable memory: heap, stack and statics.
    pub(crate) fn count(&self) -> usize {
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
                let found = |offset: &usize| !own.contains(&(at + offset)) && self.matches(&buffer[*offset..offset + self.0.len()]);
                count += (0..(read + 1).saturating_sub(self.0.len())).filter(found).count();
                buffer[..read].fill(0);
                // Overlap, lest a needle on the border be missed.
                at += if read == wanted && at + read < end { read - self.0.len() + 1 } else { wanted };
            }
        }
        count
    }

    fn matches(&self, window: &[u8]) -> bool {
        window.iter().zip(&self.0).all(|(byte, masked)| byte ^ MASK == *masked)
    }
}

/// Forty letters that were written to their place one by one.
#[allow(dead_code, reason = "one of two tests uses it")]
pub(crate) fn random_text(rng: &dyn crypto::Rng) -> String {
    let mut letters = vec![0; 40];
    rng.fill(&mut letters);
    letters.iter_mut().for_each(|letter| *letter = b'a' + *letter % 26);
    String::from_utf8(letters).unwrap()
}
