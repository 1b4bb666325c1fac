//! [`SimClock`]: a node's wall clock, driven by tokio's paused time. It is off by as much as the simulation says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;
use types::{Clock, Timestamp};

/// The simulated world begins at 2026-01-01T00:00:00Z.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// A wall clock. Clones show the same time.
#[derive(Clone)]
pub struct SimClock {
    started: Instant,
    error_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is `error_ms` milliseconds fast.
    pub fn new(started: Instant, error_ms: i64) -> SimClock {
        SimClock { started, error_ms: Arc::new(AtomicI64::new(error_ms)) }
    }

    /// Makes the clock jump: from now on it is `error_ms` milliseconds fast.
    pub fn jump(&self, error_ms: i64) {
        self.error_ms.store(error_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(EPOCH_MS.saturating_add(elapsed).saturating_add_signed(self.error_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_with_simulated_time_and_jumps_when_told() {
        let clock = SimClock::new(Instant::now(), 0);
        let start = clock.now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(start), Duration::from_secs(3600));
        clock.jump(-5_000);
        assert_eq!(clock.now().since(start), Duration::from_secs(3595));
    }
}
