//! Passwords: Argon2id version 1.3 (RFC 9106), by RustCrypto's `argon2`, kept as PHC strings.
//!
//! Always: a hash names its own cost, so that [`COST`] can rise: an older hash is still verified, and [`is_outdated`] says that it should be
//! made anew. The work's memory is wiped. Hashes are compared in constant time.
//!
//! The string is `$argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>` (PHC string format; base64 of RFC 4648 without padding).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroize;

use crate::rng::{Rng, generate_bytes};
use crate::secret::{constant_time_eq, wipe_stack};

/// The longest password, in bytes: longer ones are not hashed.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of the salt (RFC 9106, section 3.1: 16 is recommended).
const SALT_BYTES: usize = 16;
/// Bytes of the hash.
const HASH_BYTES: usize = 32;

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// KiB of memory.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes that could be computed at once.
    pub lanes: u32,
}

/// The cost of new hashes: OWASP Password Storage Cheat Sheet, "Argon2id", 2025 (19 MiB, 2 passes, 1 lane). RFC 9106, section 4, would
/// have 64 MiB, 3 passes and 4 lanes where memory is scarce; a server that hashes for strangers is better served by the former.
pub const COST: Cost = Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

/// The highest cost that a stored hash may ask for.
const COST_MAX: Cost = Cost { memory_kib: 256 * 1024, passes: 16, lanes: 16 };

/// Why a password was not hashed or verified. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is longer than [`PASSWORD_BYTES_MAX`].
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// What was kept is no hash that this release knows.
    #[error("a stored password hash is malformed")]
    Malformed,
}

/// A hash, read.
struct Kept {
    cost: Cost,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Kept {
    fn parse(text: &str) -> Option<Kept> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut costs = costs.split(',');
        let mut number = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let cost = Cost { memory_kib: number("m=")?, passes: number("t=")?, lanes: number("p=")? };
        if costs.next().is_some() || cost.memory_kib > COST_MAX.memory_kib || cost.passes > COST_MAX.passes || cost.lanes > COST_MAX.lanes {
            return None;
        }
        let (salt, hash) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(hash).ok()?);
        (salt.len() == SALT_BYTES && hash.len() == HASH_BYTES).then_some(Kept { cost, salt, hash })
    }

    fn text(&self) -> String {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let (salt, hash) = (STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(&self.hash));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

fn compute(password: &[u8], salt: &[u8], cost: Cost) -> Result<[u8; HASH_BYTES], PasswordError> {
    let computed = compute_on_stack(password, salt, cost);
    wipe_stack();
    computed
}

/// The first hash keeps a piece of the password in its frames: the caller wipes them.
#[inline(never)]
fn compute_on_stack(password: &[u8], salt: &[u8], cost: Cost) -> Result<[u8; HASH_BYTES], PasswordError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong);
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(HASH_BYTES)).map_err(|_| PasswordError::Malformed)?;
    let mut blocks = vec![Block::new(); params.block_count()];
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let computed = argon2.hash_password_into_with_memory(password, salt, &mut hash, &mut blocks);
    blocks.zeroize();
    computed.map_err(|_| PasswordError::Malformed)?;
    Ok(hash)
}

/// Makes equal passwords' hashes different. Not secret; used once.
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// Draws one.
    pub fn generate(rng: &dyn Rng) -> Salt {
        Salt(generate_bytes(rng))
    }
}

/// Hashes `password` at today's [`COST`]. Takes tens of milliseconds and [`Cost::memory_kib`] of memory.
pub fn hash(password: &[u8], Salt(salt): Salt) -> Result<String, PasswordError> {
    let hash = compute(password, &salt, COST)?;
    Ok(Kept { cost: COST, salt: salt.to_vec(), hash: hash.to_vec() }.text())
}

/// Whether `password` is the one that `kept` was made from. Costs what `kept` says, whatever the answer.
pub fn verify(password: &[u8], kept: &str) -> Result<bool, PasswordError> {
    let kept = Kept::parse(kept).ok_or(PasswordError::Malformed)?;
    let hash = compute(password, &kept.salt, kept.cost)?;
    Ok(constant_time_eq(&hash, &kept.hash))
}

/// Whether `kept` was made at a lower cost than today's, and should be made anew when its password is next known.
pub fn is_outdated(kept: &str) -> bool {
    Kept::parse(kept).is_none_or(|kept| kept.cost.memory_kib < COST.memory_kib || kept.cost.passes < COST.passes)
}

/// A hash that no known password has: verifying against it costs as much as against a real one of today's cost.
pub fn generate_decoy(rng: &dyn Rng) -> String {
    let (salt, hash) = (generate_bytes::<SALT_BYTES>(rng), generate_bytes::<HASH_BYTES>(rng));
    Kept { cost: COST, salt: salt.to_vec(), hash: hash.to_vec() }.text()
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;
    use crate::rng::SeededRng;

    /// RFC 9106, section 5.3: Argon2id version 1.3.
    #[test]
    fn the_vector_of_rfc_9106() {
        let mut params = ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4).output_len(32).data(AssociatedData::new(&[4; 12]).unwrap());
        let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params.build().unwrap()).unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        assert_eq!(hex::encode(tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    #[test]
    fn a_password_is_verified_by_its_hash_and_no_other_is() {
        let rng = SeededRng::dangerous_from_seed(1);
        let kept = hash(b"correct horse", Salt::generate(&rng)).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hash(b"correct horse", Salt::generate(&rng)).unwrap(), "salted");
        for (password, want) in [(&b"correct horse"[..], true), (b"correct horsf", false), (b"", false), (b"correct horse ", false)] {
            assert_eq!(verify(password, &kept), Ok(want));
        }
        assert_eq!(verify(b"correct horse", &generate_decoy(&rng)), Ok(false));
        assert_eq!(verify(&[b'x'; PASSWORD_BYTES_MAX + 1], &kept), Err(PasswordError::TooLong));
    }

    /// Made by the reference implementation (argon2-cffi 25.1): `password`, the salt `saltsaltsaltsalt`.
    #[test]
    fn an_older_cost_is_verified_and_said_to_be_outdated() {
        let kept = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$Wb9DOLKUgwlL5fjad9tfCPU0SBAo0PEY/evJRhwtUR0";
        assert_eq!(verify(b"password", kept), Ok(true));
        assert_eq!(verify(b"passwore", kept), Ok(false));
        assert!(is_outdated(kept));
        assert!(!is_outdated(&generate_decoy(&SeededRng::dangerous_from_seed(1))));
    }

    #[test]
    fn what_is_no_hash_is_an_error() {
        let good = generate_decoy(&SeededRng::dangerous_from_seed(1));
        for bad in [
            "".to_owned(),
            "$2a$10$abcdefghijklmnopqrstuv".into(),
            good.replace("v=19", "v=16"),
            good.replace("argon2id", "argon2i"),
            good.replace("m=19456", "m=4294967295"),
            good.replace("t=2", "t=4000000000"),
            good.replace(",p=1", ""),
            good.replace(",p=1", ",p=1,x=2"),
            format!("{good}$more"),
            good[..good.len() - 4].into(),
        ] {
            assert_eq!(verify(b"x", &bad), Err(PasswordError::Malformed), "{bad}");
            assert!(is_outdated(&bad));
        }
    }
}
