//! When a connection ends although its client would keep it: its buffers hold what went over it last, and are wiped when they are freed.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Ends one connection after the request that asks for it. Clones share it.
#[derive(Clone)]
pub(crate) struct Ending(CancellationToken);

/// Ends the connection when it is dropped: after the answer was made, however the request ended.
pub(crate) struct EndsConnection(Ending);

impl Ending {
    /// Of a connection that also ends when `all` is cancelled.
    pub(super) fn new(all: &CancellationToken) -> Ending {
        Ending(all.child_token())
    }

    /// For a request that carries a share: nothing of it stays behind once it is answered.
    pub(crate) fn after_answer(&self) -> EndsConnection {
        EndsConnection(self.clone())
    }

    /// Whether the connection is about to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(super) async fn asked(&self) {
        self.0.cancelled().await;
    }
}

impl Drop for EndsConnection {
    fn drop(&mut self) {
        self.0.0.cancel();
    }
}

/// Ends every connection of a listener at once.
#[derive(Default)]
pub(super) struct EndAll(Mutex<CancellationToken>);

impl EndAll {
    /// For a new connection.
    pub(super) fn ending(&self) -> Ending {
        Ending::new(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends those that are there now; later ones are not affected.
    pub(super) fn now(&self) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_asked(ending: &Ending) -> bool {
        tokio::time::timeout(Duration::from_millis(20), ending.asked()).await.is_ok()
    }

    #[tokio::test]
    async fn a_connection_ends_after_a_request_that_wants_it_and_others_go_on() {
        let all = EndAll::default();
        let (first, second) = (all.ending(), all.ending());
        let request = first.after_answer();
        assert!(!is_asked(&first).await, "the request is not answered yet");
        drop(request);
        assert!(is_asked(&first).await && !is_asked(&second).await);
    }

    #[tokio::test]
    async fn all_that_are_there_end_at_once_and_later_ones_go_on() {
        let all = EndAll::default();
        let before = [all.ending(), all.ending()];
        all.now();
        let after = all.ending();
        assert!(is_asked(&before[0]).await && is_asked(&before[1]).await && !is_asked(&after).await);
        all.now();
        assert!(is_asked(&after).await);
    }
}
