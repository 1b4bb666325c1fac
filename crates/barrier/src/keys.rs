//! Whether the barrier is open, and the keyring while it is. The one place that holds the keys.
//!
//! Always: keys that were handed out before the newest seal that this node has applied do not open it.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use raft::watch;

use crate::keyring::Keyring;

struct Opened {
    keyring: Keyring,
    epoch: u64,
}

struct State {
    opened: Option<Opened>,
    /// The newest seal epoch that was applied since the start. Whoever read an older one read it before that seal.
    newest_epoch: u64,
}

/// Holds the keyring while the barrier is open. Everybody else borrows it for one call.
pub(crate) struct Keys {
    state: RwLock<State>,
    is_open: watch::Sender<bool>,
}

impl Keys {
    pub(crate) fn sealed() -> Keys {
        Keys { state: RwLock::new(State { opened: None, newest_epoch: 0 }), is_open: watch::Sender::new(false) }
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

    /// Opens the barrier. `epoch` is the seal epoch at which the keys were handed out; false, and nothing is opened, when the
    /// cluster has been sealed since.
    #[must_use]
    pub(crate) fn open(&self, keyring: Keyring, epoch: u64) -> bool {
        let mut state = self.write();
        if epoch < state.newest_epoch {
            return false;
        }
        state.opened = Some(Opened { keyring, epoch });
        self.is_open.send_replace(true);
        true
    }

    /// Wipes the keys if they were handed out before `epoch`, and refuses such keys from now on.
    pub(crate) fn seal_before(&self, epoch: u64) {
        let mut state = self.write();
        state.newest_epoch = state.newest_epoch.max(epoch);
        if state.opened.as_ref().is_some_and(|opened| opened.epoch < epoch) {
            state.opened = None;
            self.is_open.send_replace(false);
        }
    }

    /// Wipes the keys, whenever they were handed out.
    pub(crate) fn seal(&self) {
        let mut state = self.write();
        if state.opened.take().is_some() {
            self.is_open.send_replace(false);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    /// The epoch at which the barrier was opened; `None` when sealed.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.read().opened.as_ref().map(|opened| opened.epoch)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use crypto::{RootKey, SeededRng};
    use types::{ClusterId, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn keyring() -> Keyring {
        let rng = SeededRng::dangerous_from_seed(1);
        Keyring::generate(&RootKey::generate(&rng), ClusterId(Uuid::nil()), Timestamp(0), &rng).0
    }

    #[test]
    fn keys_from_before_a_seal_do_not_open_what_it_sealed() {
        let keys = Keys::sealed();
        // A ceremony read epoch 1; the seal of epoch 2 is applied before its keys arrive.
        keys.seal_before(2);
        assert!(!keys.open(keyring(), 1), "the seal would be undone");
        assert!(!keys.is_open() && keys.epoch().is_none());
        assert!(keys.open(keyring(), 2), "a ceremony after the seal opens");
        assert!(keys.is_open());
    }

    #[test]
    fn a_seal_wipes_keys_of_any_epoch() {
        let keys = Keys::sealed();
        for epoch in [1, u64::MAX] {
            assert!(keys.open(keyring(), epoch));
            keys.seal();
            assert!(keys.with(|_| ()).is_none() && !keys.is_open(), "epoch {epoch}");
        }
    }
}
