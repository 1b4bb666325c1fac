//! Lock-out: names whose logins failed too often are not looked at for a while.
//!
//! Always: kept by this node, in memory; unauthenticated requests write nothing to the log. A locked name is refused before any work. The
//! map never grows beyond [`NAMES_MAX`]: what has ended makes room first, then the names with the fewest failures, and a locked name never
//! does, so nobody unlocks a name by failing under others. Should all be locked, further names are refused until one of them ends.
//! What a login came to is counted after its work, and is void if the name was locked meanwhile: so however many are tried at once, no more
//! than the threshold of them tell anything.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use types::{Revision, Timestamp};

/// Names that one map keeps, at most. To drive one name's count out of a full map takes as many failures under other names as
/// the map holds: of passwords, more work than waiting for the count to be forgotten.
pub(crate) const NAMES_MAX: usize = 50_000;

/// When to lock, and for how long. The defaults are Vault's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockoutSettings {
    /// Failures that lock a name; 0: none do.
    pub(crate) threshold: u32,
    /// From the last failure on.
    pub(crate) duration: Duration,
    /// After this long without a failure the count begins anew.
    pub(crate) counter_reset: Duration,
}

impl Default for LockoutSettings {
    fn default() -> LockoutSettings {
        let quarter = Duration::from_secs(15 * 60);
        LockoutSettings { threshold: 5, duration: quarter, counter_reset: quarter }
    }
}

/// A name at a mount, in normal form.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    mount_uuid: Box<str>,
    name: Box<str>,
}

/// Where a name belongs, for those who look at what is locked.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) namespace_id: &'a str,
    pub(crate) mount_accessor: &'a str,
    pub(crate) mount_uuid: &'a str,
}

struct Failures {
    namespace_id: Box<str>,
    mount_accessor: Box<str>,
    count: u32,
    is_locked: bool,
    /// Forgotten then.
    ends: Timestamp,
    /// Of the name's record of unlocking, when it failed last: once it is another one, the name was unlocked since.
    unlock_revision: Revision,
}

/// A locked name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) namespace_id: String,
    pub(crate) mount_accessor: String,
    pub(crate) mount_uuid: String,
    pub(crate) name: String,
    pub(crate) unlock_revision: Revision,
}

/// Names and their failures.
#[derive(Default)]
pub(crate) struct Lockouts {
    names: Mutex<HashMap<Key, Failures>>,
}

/// How a name stands before a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// May try.
    Open,
    /// Locked; open again if the name's record of unlocking has another revision by now.
    Locked { unlock_revision: Revision },
    /// There is no room to count its failures.
    Full,
}

impl Lockouts {
    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Failures>> {
        // No code in here panics half-way.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a name stands.
    pub(crate) fn standing(&self, place: Place<'_>, name: &str, now: Timestamp) -> Standing {
        let mut names = self.names();
        if let Some(failures) = names.get(&key(place, name)) {
            let is_locked = failures.is_locked && now < failures.ends;
            return if is_locked { Standing::Locked { unlock_revision: failures.unlock_revision } } else { Standing::Open };
        }
        let has_room = names.len() < NAMES_MAX || make_room(&mut names, now);
        if has_room { Standing::Open } else { Standing::Full }
    }

    /// Counts a failure. `unlock_revision` is that of the name's record of unlocking now.
    pub(crate) fn failed(&self, place: Place<'_>, name: &str, settings: &LockoutSettings, unlock_revision: Revision, now: Timestamp) {
        let mut names = self.names();
        let key = key(place, name);
        if !names.contains_key(&key) && names.len() >= NAMES_MAX && !make_room(&mut names, now) {
            return;
        }
        let failures = names.entry(key).or_insert_with(|| Failures {
            namespace_id: place.namespace_id.into(),
            mount_accessor: place.mount_accessor.into(),
            count: 0,
            is_locked: false,
            ends: Timestamp(0),
            unlock_revision,
        });
        if now >= failures.ends || failures.unlock_revision != unlock_revision {
            failures.count = 0;
            failures.is_locked = false;
        }
        if failures.is_locked {
            // It was tried while it became locked: that is not held against it.
            return;
        }
        failures.count = failures.count.saturating_add(1);
        failures.is_locked = failures.count >= settings.threshold;
        let kept = if failures.is_locked { settings.duration } else { settings.counter_reset };
        failures.ends = Timestamp(now.0.saturating_add(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)));
        failures.unlock_revision = unlock_revision;
    }

    /// Forgets a name's failures.
    pub(crate) fn forget(&self, place: Place<'_>, name: &str) {
        self.names().remove(&key(place, name));
    }

    /// Names that are locked, in no order.
    pub(crate) fn locked(&self, now: Timestamp) -> Vec<Locked> {
        let names = self.names();
        let locked = names.iter().filter(|(_, failures)| failures.is_locked && now < failures.ends);
        let locked = locked.map(|(key, failures)| Locked {
            namespace_id: failures.namespace_id.to_string(),
            mount_accessor: failures.mount_accessor.to_string(),
            mount_uuid: key.mount_uuid.to_string(),
            name: key.name.to_string(),
            unlock_revision: failures.unlock_revision,
        });
        locked.collect()
    }
}

fn key(place: Place<'_>, name: &str) -> Key {
    Key { mount_uuid: place.mount_uuid.into(), name: name.into() }
}

/// Forgets what has ended; when that is nothing, a tenth of all names: those with the fewest failures, the oldest first, and none that is
/// locked. So the cost of each is spread over many. False when every name is locked.
fn make_room(names: &mut HashMap<Key, Failures>, now: Timestamp) -> bool {
    names.retain(|_, failures| now < failures.ends);
    if names.len() < NAMES_MAX {
        return true;
    }
    let mut open: Vec<(u32, Timestamp, Key)> = names
        .iter()
        .filter(|(_, failures)| !failures.is_locked)
        .map(|(key, failures)| (failures.count, failures.ends, key.clone()))
        .collect();
    let dropped = open.len().min(NAMES_MAX / 10);
    if dropped == 0 {
        return false;
    }
    open.select_nth_unstable_by_key(dropped - 1, |(count, ends, _)| (*count, *ends));
    for (.., key) in &open[..dropped] {
        names.remove(key);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { namespace_id: "root", mount_accessor: "auth_userpass_1", mount_uuid: "u" };
    const NONE: Revision = Revision::ABSENT;

    fn at(minutes: u64) -> Timestamp {
        Timestamp(minutes * 60_000)
    }

    fn is_locked(lockouts: &Lockouts, name: &str, now: Timestamp) -> bool {
        matches!(lockouts.standing(PLACE, name, now), Standing::Locked { .. })
    }

    #[test]
    fn five_failures_lock_for_a_quarter_of_an_hour() {
        let (lockouts, settings) = (Lockouts::default(), LockoutSettings::default());
        for failure in 0..5 {
            assert!(!is_locked(&lockouts, "a", at(0)), "{failure}");
            lockouts.failed(PLACE, "a", &settings, NONE, at(0));
        }
        assert!(is_locked(&lockouts, "a", at(0)) && is_locked(&lockouts, "a", at(14)));
        assert!(!is_locked(&lockouts, "b", at(0)), "another name");
        let other = Place { mount_uuid: "other", ..PLACE };
        assert_eq!(lockouts.standing(other, "a", at(0)), Standing::Open, "another mount");
        assert_eq!(lockouts.locked(at(1)).len(), 1);
        assert!(!is_locked(&lockouts, "a", at(15)) && lockouts.locked(at(15)).is_empty(), "over");
        lockouts.failed(PLACE, "a", &settings, NONE, at(15));
        assert!(!is_locked(&lockouts, "a", at(15)), "the count has begun anew");
    }

    #[test]
    fn failures_far_apart_success_and_unlocking_begin_the_count_anew() {
        let settings = LockoutSettings::default();
        let four = |lockouts: &Lockouts, now| (0..4).for_each(|_| lockouts.failed(PLACE, "a", &settings, NONE, now));
        let lockouts = Lockouts::default();
        four(&lockouts, at(0));
        lockouts.failed(PLACE, "a", &settings, NONE, at(15));
        assert!(!is_locked(&lockouts, "a", at(15)));
        four(&lockouts, at(16));
        assert!(is_locked(&lockouts, "a", at(16)), "within the quarter");

        let lockouts = Lockouts::default();
        four(&lockouts, at(0));
        lockouts.forget(PLACE, "a");
        four(&lockouts, at(0));
        assert!(!is_locked(&lockouts, "a", at(0)), "a success lay between");
        lockouts.failed(PLACE, "a", &settings, Revision(7), at(0));
        assert!(!is_locked(&lockouts, "a", at(0)), "it was unlocked meanwhile");
    }

    #[test]
    fn a_locked_name_stays_locked_however_many_others_fail_and_the_map_is_bounded() {
        let (lockouts, settings) = (Lockouts::default(), LockoutSettings::default());
        (0..5).for_each(|_| lockouts.failed(PLACE, "locked", &settings, NONE, at(0)));
        (0..4).for_each(|_| lockouts.failed(PLACE, "nearly", &settings, NONE, at(0)));
        for number in 0..NAMES_MAX * 2 {
            lockouts.failed(PLACE, &format!("other{number}"), &settings, NONE, at(1));
        }
        assert!(lockouts.names().len() <= NAMES_MAX);
        assert!(is_locked(&lockouts, "locked", at(1)));
        lockouts.failed(PLACE, "nearly", &settings, NONE, at(1));
        assert!(is_locked(&lockouts, "nearly", at(1)), "names with fewer failures made room");
    }

    #[test]
    fn when_every_name_is_locked_further_ones_are_refused_until_one_ends() {
        let (lockouts, settings) = (Lockouts::default(), LockoutSettings { threshold: 1, ..LockoutSettings::default() });
        for number in 0..NAMES_MAX {
            lockouts.failed(PLACE, &number.to_string(), &settings, NONE, at(u64::from(number != 0)));
        }
        assert_eq!(lockouts.standing(PLACE, "new", at(1)), Standing::Full);
        lockouts.failed(PLACE, "new", &settings, NONE, at(1));
        assert_eq!(lockouts.names().len(), NAMES_MAX);
        assert_eq!(lockouts.standing(PLACE, "new", at(15)), Standing::Open, "the first has ended");
    }
}
