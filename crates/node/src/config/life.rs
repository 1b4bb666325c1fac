//! The shape of what governs a running cluster: how reads are made certain, when the feature level rises by itself, and how a
//! node takes its leave.

use std::time::Duration;

use raft::ReadConsistency;

use super::section::Section;

/// `feature_level_raise_after` where none is given: long enough to see a new release fail and to go back.
pub const FEATURE_LEVEL_RAISE_AFTER_DEFAULT: Duration = Duration::from_secs(3600);
/// The longest `feature_level_raise_after`: a year.
const FEATURE_LEVEL_RAISE_AFTER_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The longest `shutdown_delay`.
const SHUTDOWN_DELAY_MAX: Duration = Duration::from_secs(600);
/// `stale_reads_max` where none is given.
pub const STALE_READS_MAX_DEFAULT: Duration = Duration::from_secs(10);
/// The longest `stale_reads_max`.
const STALE_READS_MAX_MAX: Duration = Duration::from_secs(300);
const NEVER: &str = "never";

/// `read_consistency`.
pub(super) fn read_consistency(root: &Section<'_>) -> Option<ReadConsistency> {
    root.choice("read_consistency", &[("lease", ReadConsistency::Lease), ("quorum", ReadConsistency::Quorum)])
}

/// `feature_level_raise_after`: a duration, or `"never"`.
pub(super) fn raise_after(root: &Section<'_>) -> Option<Option<Duration>> {
    const KEY: &str = "feature_level_raise_after";
    if root.is_text(KEY, NEVER) {
        return Some(None);
    }
    root.duration(KEY, FEATURE_LEVEL_RAISE_AFTER_DEFAULT, Duration::ZERO..=FEATURE_LEVEL_RAISE_AFTER_MAX).map(Some)
}

/// `shutdown_delay`.
pub(super) fn shutdown_delay(root: &Section<'_>) -> Option<Duration> {
    root.duration("shutdown_delay", Duration::ZERO, Duration::ZERO..=SHUTDOWN_DELAY_MAX)
}

/// `stale_reads_max`; zero: none are given.
pub(super) fn stale_reads_max(root: &Section<'_>) -> Option<Duration> {
    root.duration("stale_reads_max", STALE_READS_MAX_DEFAULT, Duration::ZERO..=STALE_READS_MAX_MAX)
}
