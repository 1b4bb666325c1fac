//! How many connections the listener may have open: as many as leave the rest of the node the files that it needs.
//!
//! Always: a log segment, the table or an audit device can be opened however many strangers connect. For that the soft limit of the
//! process is raised as far as the system lets it (getrlimit(2), `RLIMIT_NOFILE`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections at once, at most; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// Files that the rest of the node may have open: log, table, snapshots, audit devices, peers.
const OTHER_FILES_MAX: u64 = 1_024;

/// How many connections may be open at once. Raises the limit of open files for that.
pub(super) fn connections_max() -> usize {
    let found = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(CONNECTIONS_MAX).unwrap_or(u64::MAX) + OTHER_FILES_MAX;
    // No limit: as much as is wanted.
    let within = |limit: Option<u64>| limit.map_or(wanted, |limit| limit.min(wanted));
    let (now, most) = (within(found.current), within(found.maximum));
    let mut files = now;
    if most > now {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: found.maximum }) {
            Ok(()) => files = most,
            Err(error) => tracing::debug!(%error, "raise the limit of open files"),
        }
    }
    let connections = places(files);
    if connections < CONNECTIONS_MAX {
        tracing::warn!(connections, files, "few connections at once: the limit of open files is low (raise LimitNOFILE, or ulimit -n)");
    }
    connections
}

/// How many of so many files may be connections: half of them, where there are too few for all.
fn places(files: u64) -> usize {
    let connections = files.saturating_sub(OTHER_FILES_MAX).max(files / 2).max(1);
    usize::try_from(connections).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        for (files, want) in [(0, 1), (3, 1), (256, 128), (1_024, 512), (4_096, 3_072), (17_408, 16_384), (u64::MAX, 16_384)] {
            assert_eq!(places(files), want, "{files}");
        }
    }
}
