//! Keeps the process's memory to itself: no core dumps, no other process of the same user looks in, no swap.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Does what the system allows, and warns loudly of the rest. `lock_memory`: whether pages are to stay in memory.
pub(crate) fn process(lock_memory: bool) {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process can be dumped: a core file or a debugger of the same user could read keys");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core files are not off: one could hold keys");
    }
    if !lock_memory {
        return;
    }
    // Pages are locked as they are first touched, so that unused address space costs nothing.
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        tracing::warn!(%error, "memory is not locked: keys could be swapped out (turn swap off, or raise the limit of locked memory)");
    }
}
