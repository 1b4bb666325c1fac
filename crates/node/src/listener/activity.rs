//! What happens on one connection: how many requests run, and since when none does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One connection's requests. Clones share them.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    running: usize,
    /// Whether a request began since it was last asked for.
    began: bool,
    rests_since: Instant,
    idle_max: Duration,
}

/// A request that runs, until it is dropped.
pub(super) struct Running(Activity);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running -= 1;
        state.rests_since = Instant::now();
    }
}

impl Activity {
    /// Nothing has happened yet. The first request has `header_max` to come, which is watched elsewhere.
    pub(super) fn new(header_max: Duration, idle_max: Duration) -> Activity {
        let rests_since = Instant::now() + header_max;
        Activity(Arc::new(Mutex::new(State { running: 0, began: false, rests_since, idle_max })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub(super) fn begin(&self) -> Running {
        let mut state = self.state();
        state.running += 1;
        state.began = true;
        Running(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().running > 0
    }

    /// Whether a request began since this was last asked.
    pub(super) fn take_began(&self) -> bool {
        std::mem::take(&mut self.state().began)
    }

    /// Waits until no request has run for too long.
    pub(super) async fn idle(&self) {
        loop {
            let now = Instant::now();
            let next = {
                let state = self.state();
                match (state.running, state.rests_since + state.idle_max) {
                    (0, end) if end <= now => return,
                    (0, end) => end,
                    // It ends later than now.
                    (_, _) => now + state.idle_max,
                }
            };
            tokio::time::sleep_until(next).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_when_no_request_has_run_for_long() {
        let idle_max = Duration::from_millis(30);
        let activity = Activity::new(Duration::ZERO, idle_max);
        let running = activity.begin();
        assert!(tokio::time::timeout(idle_max * 4, activity.idle()).await.is_err(), "a request runs");
        assert!(activity.is_busy() && activity.take_began() && !activity.take_began());
        drop(running);
        let rests = Instant::now();
        tokio::time::timeout(idle_max * 100, activity.idle()).await.expect("no request runs");
        assert!(rests.elapsed() >= idle_max, "{:?}", rests.elapsed());
    }
}
