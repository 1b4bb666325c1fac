//! Canaries: secrets of the workload that can be recognised wherever they turn up, in any usual spelling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::memmem::Finder;

/// Patterns that must not be found. Holds secrets, so no `Debug`.
#[derive(Clone, Default)]
pub struct Canaries {
    patterns: Vec<(&'static str, Finder<'static>)>,
}

impl Canaries {
    /// Also looks for `secret`: as it is, in hexadecimal, and in base64 wherever it may begin.
    ///
    /// # Panics
    /// When it is too short to be told from chance.
    pub fn add(&mut self, name: &'static str, secret: &[u8]) {
        assert!(secret.len() >= 12, "{name}: a canary of {} bytes may turn up by chance", secret.len());
        let mut pattern = |bytes: &[u8]| self.patterns.push((name, Finder::new(bytes).into_owned()));
        pattern(secret);
        pattern(hex::encode(secret).as_bytes());
        pattern(hex::encode_upper(secret).as_bytes());
        for skipped in 0..3 {
            // Behind 0 to 2 other bytes; the characters at either end depend on the neighbours and are left out.
            let mut padded = vec![0; skipped];
            padded.extend_from_slice(secret);
            let text = STANDARD_NO_PAD.encode(&padded);
            pattern(&text.as_bytes()[(skipped * 8).div_ceil(6)..text.len() - 1]);
        }
    }

    /// The name of a secret that `bytes` hold, if they hold any.
    pub fn find_in(&self, bytes: &[u8]) -> Option<&'static str> {
        self.patterns.iter().find(|(_, finder)| finder.find(bytes).is_some()).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_found_in_every_spelling() {
        let secret = b"a canary that sings";
        let mut canaries = Canaries::default();
        canaries.add("song", secret);
        let mut texts = vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
        for before in 0..7 {
            let mut bytes = vec![0xa7; before];
            bytes.extend_from_slice(secret);
            bytes.extend_from_slice(&[0x5b; 5]);
            texts.push(base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes());
        }
        for text in texts {
            let mut hidden = vec![1, 2, 3];
            hidden.extend_from_slice(&text);
            hidden.push(4);
            assert_eq!(canaries.find_in(&hidden), Some("song"), "{}", String::from_utf8_lossy(&text));
        }
        assert_eq!(canaries.find_in(b"a canary that sing"), None);
    }
}
