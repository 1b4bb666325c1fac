//! Whether the barrier is open, and the keys while it is. The one place that holds them.
//!
//! Always: keys that were handed out before the newest seal that this node has applied do not open it; the keyring is the newest that was
//! applied, or `behind` says that its key is still to be got.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crypto::KeyringKey;
use raft::watch;
use types::ClusterId;

use crate::keyring::Keyring;

struct Opened {
    keyring: Keyring,
    keyring_key: KeyringKey,
    /// What a rekey that this node is about to propose makes of the above.
    next_keyring_key: Option<KeyringKey>,
    cluster: ClusterId,
    epoch: u64,
}

struct State {
    opened: Option<Opened>,
    /// The newest seal epoch that was applied since the start. Whoever read an older one read it before that seal.
    newest_epoch: u64,
    /// A restore has put another cluster's records here, and its keys must look at them first: keys that are there do not make the node open.
    unfinished: bool,
}

/// What an open node holds, for a moment.
pub(crate) struct Held<'a> {
    pub(crate) keyring: &'a Keyring,
    pub(crate) keyring_key: &'a KeyringKey,
    pub(crate) epoch: u64,
}

/// Holds the keys while the barrier is open. Everybody else borrows them for one call.
pub(crate) struct Keys {
    state: RwLock<State>,
    is_open: watch::Sender<bool>,
    /// The keyring that was applied last is under a key that this node has not got.
    behind: watch::Sender<bool>,
    /// Keys are there, and a restore is to be finished by them.
    finishing: watch::Sender<bool>,
}

impl Keys {
    pub(crate) fn sealed() -> Keys {
        let state = RwLock::new(State { opened: None, newest_epoch: 0, unfinished: false });
        let closed = || watch::Sender::new(false);
        Keys { state, is_open: closed(), behind: closed(), finishing: closed() }
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the keyring; `None` when sealed.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&Keyring) -> T) -> Option<T> {
        self.read().opened.as_ref().map(|opened| act(&opened.keyring))
    }

    /// Lends all keys; `None` when sealed.
    pub(crate) fn with_all<T>(&self, act: impl FnOnce(Held<'_>) -> T) -> Option<T> {
        let state = self.read();
        let opened = state.opened.as_ref()?;
        Some(act(Held { keyring: &opened.keyring, keyring_key: &opened.keyring_key, epoch: opened.epoch }))
    }

    /// Opens the barrier, or gives an open one a newer keyring. `epoch` is the seal epoch at which the keys were handed out; false, and
    /// nothing is opened, when the cluster has been sealed since.
    #[must_use]
    pub(crate) fn open(&self, keyring: Keyring, keyring_key: KeyringKey, cluster: ClusterId, epoch: u64) -> bool {
        let mut state = self.write();
        if epoch < state.newest_epoch {
            return false;
        }
        let keyring = match &state.opened {
            Some(opened) => keyring.follow(&opened.keyring),
            None => keyring,
        };
        state.opened = Some(Opened { keyring, keyring_key, next_keyring_key: None, cluster, epoch });
        self.behind.send_replace(false);
        self.announce(&state);
        true
    }

    /// Tells whether the node is open, or has to finish a restore first.
    fn announce(&self, state: &State) {
        self.finishing.send_replace(state.opened.is_some() && state.unfinished);
        self.is_open.send_replace(state.opened.is_some() && !state.unfinished);
    }

    /// Whether a restore is to be finished before a node is open.
    pub(crate) fn set_unfinished(&self, unfinished: bool) {
        let mut state = self.write();
        if state.unfinished != unfinished {
            state.unfinished = unfinished;
            self.announce(&state);
        }
    }

    /// Whether keys are there that a restore is to be finished by.
    pub(crate) fn watch_finishing(&self) -> watch::Receiver<bool> {
        self.finishing.subscribe()
    }

    /// Announces the key of a keyring that this node is about to propose, so that it is at hand when that is applied.
    pub(crate) fn expect_key(&self, next: KeyringKey) {
        if let Some(opened) = &mut self.write().opened {
            opened.next_keyring_key = Some(next);
        }
    }

    /// Takes a keyring that was applied; when its key is not at hand, the one before stays in use and `behind` says so.
    pub(crate) fn renew(&self, sealed: &[u8]) {
        let mut state = self.write();
        let Some(opened) = &mut state.opened else { return };
        if let Ok(keyring) = Keyring::open(&opened.keyring_key, opened.cluster, sealed) {
            opened.keyring = keyring.follow(&opened.keyring);
            self.behind.send_replace(false);
            return;
        }
        if let Some(next) = opened.next_keyring_key.take()
            && let Ok(keyring) = Keyring::open(&next, opened.cluster, sealed)
        {
            (opened.keyring, opened.keyring_key) = (keyring.follow(&opened.keyring), next);
            self.behind.send_replace(false);
            return;
        }
        self.behind.send_replace(true);
    }

    /// Wipes the keys if they were handed out before `epoch`, and refuses such keys from now on. True if `epoch` is a new one.
    pub(crate) fn seal_before(&self, epoch: u64) -> bool {
        let mut state = self.write();
        let is_new = epoch > state.newest_epoch;
        state.newest_epoch = state.newest_epoch.max(epoch);
        if state.opened.as_ref().is_some_and(|opened| opened.epoch < epoch) {
            state.opened = None;
            self.announce(&state);
        }
        is_new
    }

    /// Wipes the keys, whenever they were handed out.
    pub(crate) fn seal(&self) {
        let mut state = self.write();
        if state.opened.take().is_some() {
            self.announce(&state);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }

    /// Whether the keyring that was applied last is under a key that is still to be got.
    pub(crate) fn watch_behind(&self) -> watch::Receiver<bool> {
        self.behind.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use crypto::{Rng, SeededRng};
    use types::Timestamp;
    use uuid::Uuid;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(Uuid::nil());

    fn rng() -> SeededRng {
        SeededRng::dangerous_from_seed(1)
    }

    fn key(byte: u8) -> KeyringKey {
        KeyringKey::from_slice(&[byte; 32]).unwrap()
    }

    fn opened(keys: &Keys, rng: &dyn Rng, epoch: u64) -> (bool, Vec<u8>) {
        let (keyring, sealed) = Keyring::generate(&key(1), CLUSTER, Timestamp(0), rng);
        (keys.open(keyring, key(1), CLUSTER, epoch), sealed)
    }

    #[test]
    fn keys_from_before_a_seal_do_not_open_what_it_sealed() {
        let keys = Keys::sealed();
        // A ceremony read epoch 1; the seal of epoch 2 is applied before its keys arrive.
        assert!(keys.seal_before(2));
        assert!(!opened(&keys, &rng(), 1).0, "the seal would be undone");
        assert!(!keys.is_open() && keys.with(|_| ()).is_none());
        assert!(opened(&keys, &rng(), 2).0, "a ceremony after the seal opens");
        assert!(keys.is_open());
        assert!(!keys.seal_before(2), "applied before");
        assert!(keys.is_open());
    }

    #[test]
    fn a_seal_wipes_keys_of_any_epoch() {
        let keys = Keys::sealed();
        for epoch in [1, u64::MAX] {
            assert!(opened(&keys, &rng(), epoch).0);
            keys.seal();
            assert!(keys.with(|_| ()).is_none() && !keys.is_open(), "epoch {epoch}");
        }
    }

    #[test]
    fn a_node_with_keys_is_not_open_before_a_restore_is_finished() {
        let keys = Keys::sealed();
        let finishing = keys.watch_finishing();
        keys.set_unfinished(true);
        assert!(!*finishing.borrow(), "there are no keys to finish it by");
        assert!(opened(&keys, &rng(), 1).0);
        assert_eq!((keys.is_open(), *finishing.borrow(), keys.with(|_| ()).is_some()), (false, true, true));
        keys.set_unfinished(false);
        assert_eq!((keys.is_open(), *finishing.borrow()), (true, false));
        keys.set_unfinished(true);
        keys.seal();
        assert_eq!((keys.is_open(), *finishing.borrow()), (false, false));
    }

    #[test]
    fn a_newer_keyring_is_taken_where_its_key_is_at_hand() {
        let (keys, rng) = (Keys::sealed(), rng());
        let (_, sealed) = opened(&keys, &rng, 1);
        let version = || keys.with(|keyring| keyring.newest().version).unwrap();
        let behind = keys.watch_behind();
        let rotated = Keyring::rotated(&key(1), CLUSTER, &sealed, Timestamp(1), &rng).unwrap();
        keys.renew(&rotated);
        assert_eq!((version(), *behind.borrow()), (2, false));

        // A rekey that another node has proposed: the old keyring stays in use until the key has been got.
        let rekeyed = Keyring::resealed(&key(1), &key(2), CLUSTER, &rotated, &rng).unwrap();
        keys.renew(&rekeyed);
        assert_eq!((version(), *behind.borrow()), (2, true));
        assert!(keys.open(Keyring::open(&key(2), CLUSTER, &rekeyed).unwrap(), key(2), CLUSTER, 1));
        assert!(!*behind.borrow());

        // One that this node has proposed.
        keys.expect_key(key(3));
        keys.renew(&Keyring::resealed(&key(2), &key(3), CLUSTER, &rekeyed, &rng).unwrap());
        assert!(!*behind.borrow());
        assert_eq!(keys.with_all(|held| *held.keyring_key.expose()), Some([3; 32]));
    }
}
