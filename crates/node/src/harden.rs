//! Keeps the process's memory to itself: no core dumps, no other process of the same user looks in, no swap.
//!
//! Always: memory is locked whole or not at all. Under a limit that is merely high, the lock would succeed, and later fail an allocation.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// The bit of CAP_IPC_LOCK, with which no limit holds (capabilities(7)).
const CAP_IPC_LOCK: u32 = 14;

/// Why memory cannot be locked, and what helps.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockObstacle {
    /// Locking ends at a limit, and with it every allocation above.
    #[error(
        "this user may lock {bytes} bytes only, so memory is not locked: keys may be swapped out (set LimitMEMLOCK=infinity or \
         AmbientCapabilities=CAP_IPC_LOCK in the service's unit, `ulimit -l unlimited` in a shell, --cap-add IPC_LOCK and --ulimit memlock=-1 \
         in a container; or turn swap off and set disable_mlock = true)"
    )]
    Limit {
        /// RLIMIT_MEMLOCK.
        bytes: u64,
    },
    /// The system refuses all the same.
    #[error("memory cannot be locked: keys may be swapped out (turn swap off, and set disable_mlock = true)")]
    Refused(#[source] Errno),
}

/// What would keep this process from locking its memory; nothing is locked.
pub fn lock_obstacle() -> Option<LockObstacle> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_lock_all(&status) {
        return None;
    }
    // What the hard limit allows is ours to take.
    let limit = getrlimit(Resource::Memlock);
    limit.maximum.map(|bytes| LockObstacle::Limit { bytes })
}

/// Whether the process has CAP_IPC_LOCK, as `/proc/self/status` tells.
fn may_lock_all(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|word| u64::from_str_radix(word.trim(), 16).ok());
    effective.is_some_and(|capabilities| capabilities >> CAP_IPC_LOCK & 1 == 1)
}

/// Does what the system allows, and warns loudly of the rest. `lock_memory`: whether pages are to stay in memory. Answers whether they do.
pub(crate) fn process(lock_memory: bool) -> bool {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "THIS PROCESS CAN BE DUMPED: a core file or a debugger of the same user could read keys");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "CORE FILES ARE NOT OFF: one could hold keys");
    }
    if !lock_memory {
        // The configuration's own warning says so.
        return false;
    }
    match lock() {
        Ok(()) => true,
        Err(obstacle) => {
            let error = std::error::Error::source(&obstacle).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(error, "MEMORY IS NOT LOCKED: {obstacle}");
            false
        }
    }
}

fn lock() -> Result<(), LockObstacle> {
    if let Some(obstacle) = lock_obstacle() {
        return Err(obstacle);
    }
    // Allowed up to the hard limit, which is infinite, or does not matter.
    let limit = getrlimit(Resource::Memlock);
    let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum });
    // Pages are locked as they are first touched, so that unused address space costs nothing.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(LockObstacle::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_what_the_system_tells() {
        for (status, want) in [
            ("Name:\tconclave\nCapInh:\t0000000000000000\nCapEff:\t0000000000004000\n", true),
            ("CapEff:\t000001ffffffffff\n", true),
            ("CapEff:\t0000000000000000\n", false),
            ("CapEff:\t0000000000003fff\nCapBnd:\t000001ffffffffff\n", false),
            ("CapEff:\tnone\n", false),
            ("", false),
        ] {
            assert_eq!(may_lock_all(status), want, "{status}");
        }
    }

    #[test]
    fn an_obstacle_names_its_cure() {
        let told = LockObstacle::Limit { bytes: 8 << 20 }.to_string();
        assert!(told.contains("8388608") && told.contains("LimitMEMLOCK=infinity") && told.contains("disable_mlock"), "{told}");
    }
}
