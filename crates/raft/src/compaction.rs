//! Keeps the disk in proportion to what is stored: a snapshot when the log has grown by count or by size, and then the log is cut
//! to its newest entries; the table is written anew when it takes much more than it holds.
//!
//! Always: one at a time; the log keeps what the newest snapshot does not hold; between two rewrites of the table lies many times
//! what the last one took, so that a busy node is not slowed down much.
//! Knows nothing of what is stored.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use storage::{Log, Table};
use tokio::time::Instant;
use types::Index;

use crate::handle::{Core, Flushing};

/// How often a node looks whether it is pressing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A log of fewer bytes than this is left alone.
pub const LOG_BYTES_MIN: u64 = 2 << 20;
/// A log of so many bytes, or of as many as the table holds, is cut at once and not only at the interval.
pub const LOG_BYTES_PRESSING: u64 = 64 << 20;
/// The log may have this part of the table's bytes before it is cut at the interval.
const LOG_SHARE: u64 = 8;
/// Of what the log may have, it keeps this part when it is cut, for followers that lag.
const KEPT_SHARE: u64 = 4;
/// The table is written anew when it takes a fifth more than it holds (or a twentieth more than the last rewrite could do, for values
/// that do not fit pages well), and this much more.
const TABLE_SLACK_BYTES: u64 = 1 << 20;
/// A rewrite takes at most this part of the time.
const REWRITE_SHARE: u32 = 20;
/// Room that a rewrite leaves on the disk.
const ROOM_BYTES: u64 = 256 << 20;

/// When a node makes snapshots and what it keeps of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// How often it is looked whether a snapshot is due: the shortest time between two that are not pressing.
    pub interval: Duration,
    /// A snapshot is due after so many entries (or bytes: an eighth of what the table holds, at least [`LOG_BYTES_MIN`]).
    pub entries: u64,
    /// So many entries are kept behind a snapshot at most.
    pub entries_kept: u64,
}

impl Default for Compaction {
    fn default() -> Compaction {
        Compaction { interval: Duration::from_secs(30), entries: 50_000, entries_kept: 10_000 }
    }
}

/// What takes the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Names and values, as ciphertext: what the rest should be in proportion to.
    pub live: u64,
    /// The log.
    pub log: u64,
    /// The table.
    pub table: u64,
    /// The kept snapshot.
    pub snapshot: u64,
}

/// What the log may have, and what it keeps when it is cut, in bytes.
fn log_bytes(live: u64) -> (u64, u64) {
    let most = (live / LOG_SHARE).max(LOG_BYTES_MIN);
    (most, most / KEPT_SHARE)
}

/// Whether a snapshot is due, by what the log has that the last one does not hold.
fn is_snapshot_due(entries: u64, log: u64, live: u64, limits: &Compaction, at_interval: bool) -> bool {
    let (most, _) = log_bytes(live);
    match at_interval {
        true => entries >= limits.entries || log >= most,
        false => log >= LOG_BYTES_PRESSING.max(live),
    }
}

/// `floor`: what the last rewrite came to, in hundredths of what the table held.
fn is_table_wasteful(sizes: &Sizes, floor: u64) -> bool {
    sizes.table > sizes.live / 100 * (floor + floor / 20).max(120) + TABLE_SLACK_BYTES
}

impl Core {
    /// What takes the disk.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            live: self.table.applied().bytes,
            log: self.log.stats().bytes,
            table: self.table.disk_bytes(),
            snapshot: self.snapshots.store().current().map_or(0, |info| info.file_bytes),
        }
    }
}

/// Runs until the node stops.
pub(crate) async fn keep_small(core: Arc<Core>, limits: Compaction, flushing: Flushing) {
    let mut looked_at = Instant::now();
    let mut rewrite_after = Instant::now();
    let mut floor = 100;
    let mut applied_before = None;
    loop {
        tokio::select! {
            biased;
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(limits.interval.min(LOOK_INTERVAL)) => {}
        }
        let at_interval = looked_at.elapsed() >= limits.interval;
        if at_interval {
            looked_at = Instant::now();
        }
        let Progress { applied, snapshot, purged } = progress(&core);
        let sizes = core.sizes();
        let entries = applied.map_or(0, |applied| applied.0 + 1).saturating_sub(snapshot.map_or(0, |snapshot| snapshot.0 + 1));
        if entries > 0 && is_snapshot_due(entries, sizes.log, sizes.live, &limits, at_interval) {
            // Raft has ended: so does the node.
            if core.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let is_quiet = at_interval && std::mem::replace(&mut applied_before, applied) == applied;
        if (at_interval || sizes.log >= LOG_BYTES_PRESSING)
            && let Some(through) = purgeable(&core.log, &limits, sizes.live, snapshot, is_quiet).filter(|through| Some(*through) > purged)
            && core.raft.trigger().purge_log(through.0).await.is_err()
        {
            return;
        }
        if at_interval
            && rewrite_after <= Instant::now()
            && is_table_wasteful(&sizes, floor)
            && core.has_room_for(sizes.live * 2 + ROOM_BYTES)
        {
            let began = Instant::now();
            rewrite(Arc::clone(&core.table), flushing, sizes.table).await;
            rewrite_after = Instant::now() + began.elapsed() * REWRITE_SHARE;
            let Sizes { live, table, .. } = core.sizes();
            floor = table.saturating_mul(100).checked_div(live).unwrap_or(100);
        }
    }
}

struct Progress {
    applied: Option<Index>,
    snapshot: Option<Index>,
    purged: Option<Index>,
}

fn progress(core: &Core) -> Progress {
    let metrics = core.raft.metrics();
    let metrics = metrics.borrow_watched();
    let index = |id: &Option<crate::config::LogId>| id.as_ref().map(|id| Index(id.index()));
    Progress { applied: index(&metrics.last_applied), snapshot: index(&metrics.snapshot), purged: index(&metrics.purged) }
}

/// Up to where the log may go now. Where nothing was applied since the last look, nobody lags: then it keeps nothing.
fn purgeable(log: &Log, limits: &Compaction, live: u64, snapshot: Option<Index>, is_quiet: bool) -> Option<Index> {
    let (_, kept) = log_bytes(live);
    let surplus = if is_quiet { log.surplus(0, 0) } else { log.surplus(limits.entries_kept, kept) };
    surplus.min(snapshot)
}

async fn rewrite(table: Arc<dyn Table>, flushing: Flushing, before: u64) {
    let watched = Arc::clone(&table);
    let result = match flushing {
        Flushing::Thread => match tokio::task::spawn_blocking(move || table.compact()).await {
            Ok(result) => result,
            Err(_) => return,
        },
        Flushing::Task { .. } => table.compact(),
    };
    match result {
        Ok(true) => tracing::info!(before_bytes = before, bytes = watched.disk_bytes(), "the table was written anew"),
        Ok(false) => tracing::debug!("the table was not written anew: too much changed meanwhile"),
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the table was not written anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_count_or_by_size() {
        let limits = Compaction::default();
        const MIB: u64 = 1 << 20;
        for (entries, log, live, at_interval, want) in [
            (49_999, MIB, 0, true, false),
            (50_000, MIB, 0, true, true),
            // Few large values.
            (100, 2 * MIB, 0, true, true),
            (100, 2 * MIB, 100 * MIB, true, false),
            (100, 13 * MIB, 100 * MIB, true, true),
            // Between the intervals only when it presses.
            (50_000, 2 * MIB, 0, false, false),
            (4_000, 64 * MIB, 0, false, true),
            (4_000, 64 * MIB, 100 * MIB, false, false),
            (4_000, 100 * MIB, 100 * MIB, false, true),
        ] {
            let due = is_snapshot_due(entries, log, live, &limits, at_interval);
            assert_eq!(due, want, "{entries} entries, {log} bytes for {live}, at the interval: {at_interval}");
        }
    }

    #[test]
    fn a_table_is_wasteful_if_a_rewrite_would_help() {
        let sizes = |live, table| Sizes { live, table, ..Sizes::default() };
        assert!(!is_table_wasteful(&sizes(0, 1 << 20), 100));
        assert!(!is_table_wasteful(&sizes(20 << 20, 24 << 20), 100));
        assert!(is_table_wasteful(&sizes(20 << 20, 26 << 20), 100));
        assert!(!is_table_wasteful(&sizes(20 << 20, 26 << 20), 130), "no rewrite could do better");
    }
}
