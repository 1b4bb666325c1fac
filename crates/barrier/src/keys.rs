//! Whether the barrier is open, and the keyring while it is. The one place that holds the keys.

use std::sync::{PoisonError, RwLock};

use raft::watch;

use crate::keyring::Keyring;

struct Opened {
    keyring: Keyring,
    epoch: u64,
}

/// Holds the keyring while the barrier is open. Everybody else borrows it for one call.
pub(crate) struct Keys {
    opened: RwLock<Option<Opened>>,
    is_open: watch::Sender<bool>,
}

impl Keys {
    pub(crate) fn sealed() -> Keys {
        Keys { opened: RwLock::new(None), is_open: watch::Sender::new(false) }
    }

    /// Lends the keyring; `None` when sealed.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&Keyring) -> T) -> Option<T> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(|opened| act(&opened.keyring))
    }

    /// Opens the barrier. `epoch` is the seal epoch at which the keys were handed out.
    pub(crate) fn open(&self, keyring: Keyring, epoch: u64) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        *opened = Some(Opened { keyring, epoch });
        self.is_open.send_replace(true);
    }

    /// Wipes the keys if they were handed out before `epoch`.
    pub(crate) fn seal_before(&self, epoch: u64) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        if opened.as_ref().is_some_and(|opened| opened.epoch < epoch) {
            *opened = None;
            self.is_open.send_replace(false);
        }
    }

    /// Wipes the keys.
    pub(crate) fn seal(&self) {
        self.seal_before(u64::MAX);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    /// The epoch at which the barrier was opened; `None` when sealed.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|opened| opened.epoch)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.is_open.subscribe()
    }
}
