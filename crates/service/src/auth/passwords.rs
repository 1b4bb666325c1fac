//! Work on passwords: off the threads that serve requests, so many at once and so many waiting, and no more.
//!
//! Always: for a user that is not there the same work is done as for one that is, against a decoy. Work goes on when its request is dropped,
//! and keeps its place until it is done.

use std::sync::Arc;

use barrier::ViewError;
use crypto::password::{self, PasswordError, Salt};
use crypto::{Rng, Zeroizing};
use tokio::sync::Semaphore;

use crate::outcome::PlanError;

/// Hashes that are computed at once, at most, on however many cores: each takes 19 MiB.
const AT_ONCE_MAX: usize = 8;
/// Hashes that wait, at most: two seconds of work, or so, on one core.
const WAITING_MAX: usize = 64;

/// A password as a request brings it.
pub(crate) type Password = Arc<Zeroizing<String>>;

/// Computes hashes.
pub(crate) struct Passwords {
    /// One permit for each that is computed or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each that is computed.
    running: Arc<Semaphore>,
    decoy: Arc<str>,
    #[cfg(test)]
    pub(crate) computed: std::sync::atomic::AtomicU64,
}

impl Passwords {
    /// Idle.
    pub(crate) fn new(rng: &dyn Rng) -> Passwords {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE_MAX);
        Passwords {
            admitted: Arc::new(Semaphore::new(at_once + WAITING_MAX)),
            running: Arc::new(Semaphore::new(at_once)),
            decoy: password::generate_decoy(rng).into(),
            #[cfg(test)]
            computed: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// Whether `password` is that of `kept`; of a user that is not there (`None`) it never is, which takes as long.
    pub(crate) async fn verify(&self, password: &Password, kept: Option<&str>) -> Result<bool, PlanError> {
        let is_there = kept.is_some();
        let kept: Arc<str> = kept.map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let password = Arc::clone(password);
        let matched = self.compute(move || password::verify(password.as_bytes(), &kept)).await?;
        Ok(matched && is_there)
    }

    /// The hash of `password`, to be kept.
    pub(crate) async fn hash(&self, password: &Password, rng: &dyn Rng) -> Result<String, PlanError> {
        let (password, salt) = (Arc::clone(password), Salt::generate(rng));
        self.compute(move || password::hash(password.as_bytes(), salt)).await
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static) -> Result<T, PlanError> {
        let too_many = || PlanError::TooMany("too many logins at once; try again in a moment".into());
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| too_many())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| too_many())?;
        #[cfg(test)]
        self.computed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((running, admitted));
            done
        });
        // Given up only when the process stops.
        let done = done.await.map_err(|_| ViewError::Sealed)?;
        done.map_err(|error| match error {
            PasswordError::TooLong => PlanError::Refused(error.to_string()),
            PasswordError::Malformed => PlanError::Malformed,
        })
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn more_than_can_wait_are_told_to_come_again() {
        let passwords = Passwords::new(&SeededRng::dangerous_from_seed(1));
        let password: Password = Arc::new(Zeroizing::new("p".into()));
        let places = passwords.admitted.available_permits();
        let held = Arc::clone(&passwords.admitted).try_acquire_many_owned(u32::try_from(places).unwrap()).unwrap();
        assert!(matches!(passwords.verify(&password, None).await, Err(PlanError::TooMany(_))));
        drop(held);
        assert!(!passwords.verify(&password, None).await.unwrap());
        assert_eq!(passwords.admitted.available_permits(), places, "the place is free again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_has_the_password_of_a_user_that_is_not_there() {
        let rng = SeededRng::dangerous_from_seed(1);
        let passwords = Passwords::new(&rng);
        let password: Password = Arc::new(Zeroizing::new("p".into()));
        let kept = passwords.hash(&password, &rng).await.unwrap();
        assert!(passwords.verify(&password, Some(&kept)).await.unwrap());
        let decoy = passwords.decoy.clone();
        assert!(!passwords.verify(&password, None).await.unwrap() && !passwords.verify(&password, Some(&decoy)).await.unwrap());
        assert!(matches!(passwords.verify(&password, Some("damaged")).await, Err(PlanError::Malformed)));
    }
}
