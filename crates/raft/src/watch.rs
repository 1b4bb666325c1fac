//! A value that tasks watch: [`Receiver::changed`] waits for the next one.
//!
//! Always: those who wait wake in the order in which they came. tokio's own `watch`, which this wraps, wakes them in a random
//! order (it spreads them over several lists), and a simulation could not be repeated.

use std::sync::Arc;

use openraft::async_runtime::watch as openraft_watch;
use openraft::{OptionalSend, OptionalSync};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

pub use tokio::sync::watch::Ref;

/// A channel that holds `value` at first.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Sets the value. Clones set the same one.
pub struct Sender<T> {
    // Dropped first, so that those who are woken see that it is gone.
    value: watch::Sender<T>,
    waiters: WakeOnDrop,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { value: self.value.clone(), waiters: self.waiters.clone() }
    }
}

#[derive(Clone)]
struct WakeOnDrop(Arc<Notify>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl<T> Sender<T> {
    /// Holds `value` at first, and is watched by nobody.
    pub fn new(value: T) -> Sender<T> {
        Sender { value: watch::Sender::new(value), waiters: WakeOnDrop(Arc::new(Notify::new())) }
    }

    /// Watches from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), waiters: Arc::clone(&self.waiters.0) }
    }

    /// Sets the value and wakes all who wait.
    pub fn send_replace(&self, value: T) -> T {
        let old = self.value.send_replace(value);
        self.waiters.0.notify_waiters();
        old
    }

    /// The value. Nobody can set it while the answer is held.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }
}

/// Watches the value. A clone has seen what this one has seen.
pub struct Receiver<T> {
    value: watch::Receiver<T>,
    waiters: Arc<Notify>,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { value: self.value.clone(), waiters: Arc::clone(&self.waiters) }
    }
}

/// All senders are gone, and the last value was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody is left who could change the value")]
pub struct Closed;

impl<T> Receiver<T> {
    /// The value. Nobody can set it while the answer is held.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// The value, which counts as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Waits for a value that was not seen yet, which then counts as seen. Nothing is missed when the call is dropped.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before the look, so that no change falls between the two.
            let woken: Notified<'_> = self.waiters.notified();
            match self.value.has_changed() {
                Ok(true) => {
                    self.value.mark_unchanged();
                    return Ok(());
                }
                Ok(false) => woken.await,
                // Answers at once: a last value may still be unseen.
                Err(_) => return self.value.changed().await.map_err(|_| Closed),
            }
        }
    }

    /// Waits until `condition` holds of the value.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        while !condition(&self.borrow_and_update()) {
            self.changed().await?;
        }
        Ok(())
    }
}

/// Openraft's watches.
pub(crate) struct OrderedWatch;

impl openraft_watch::Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        channel(init)
    }
}

impl<T: OptionalSend + OptionalSync> openraft_watch::WatchSender<OrderedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), openraft_watch::SendError<T>> {
        let sent = self.value.send(value).map_err(|error| openraft_watch::SendError(error.0));
        self.waiters.0.notify_waiters();
        sent
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let is_modified = self.value.send_if_modified(modify);
        if is_modified {
            self.waiters.0.notify_waiters();
        }
        is_modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Sender::subscribe(self)
    }
}

impl<T: OptionalSend + OptionalSync> openraft_watch::WatchReceiver<OrderedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), openraft_watch::RecvError> {
        Receiver::changed(self).await.map_err(|Closed| openraft_watch::RecvError(()))
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.value.borrow_and_update()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_wake_in_the_order_in_which_they_came() {
        const WAITERS: usize = 100;
        let (sender, receiver) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for number in 0..WAITERS {
            let (mut receiver, woken) = (receiver.clone(), Arc::clone(&woken));
            tasks.spawn(async move {
                receiver.changed().await.unwrap();
                woken.lock().unwrap().push(number);
            });
        }
        // One turn of this task lets some of the others run, not all.
        for _ in 0..WAITERS {
            tokio::task::yield_now().await;
        }
        sender.send_replace(1);
        while tasks.join_next().await.is_some() {}
        assert_eq!(*woken.lock().unwrap(), (0..WAITERS).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_last_value_is_seen_even_when_nobody_is_left_to_change_it() {
        let (sender, mut receiver) = channel(0);
        let other = sender.clone();
        sender.send_replace(1);
        drop(sender);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 1);
        other.send_replace(2);
        drop(other);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(receiver.changed().await, Err(Closed));
        assert_eq!(receiver.wait_for(|value| *value == 2).await, Ok(()));
        assert_eq!(receiver.wait_for(|value| *value == 3).await, Err(Closed));
    }

    #[tokio::test]
    async fn who_waits_hears_that_nobody_is_left() {
        let (sender, mut receiver) = channel(0);
        let waiting = async { receiver.changed().await };
        let ((), closed) = tokio::join!(async { drop(sender) }, waiting);
        assert_eq!(closed, Err(Closed));
    }
}
