//! How long a token or a lease lives: the bounds that meet, and what comes of them.
//!
//! Always: what is granted lies in the future and within every bound; a bound that is used up ends the token, it never makes it
//! eternal (CVE-2021-32923), and what hangs on a batch token does not outlive it (CVE-2020-25816).

use std::time::Duration;

use types::{Timestamp, duration};

/// What was asked, and what bounds it. Zero always means: nothing said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// Asked for.
    pub(crate) asked: Duration,
    /// When nothing is asked for.
    pub(crate) default: Duration,
    /// Of the system and the mount; the least of them. Bounds periods too.
    pub(crate) mount_max: Duration,
    /// Of the role or user, from the making on. Not for periodic ones.
    pub(crate) max: Duration,
    /// From the making on, for periodic ones too.
    pub(crate) explicit_max: Duration,
    /// Each renewal gives this much.
    pub(crate) period: Duration,
}

/// A life that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    /// From now on. At least a second.
    pub(crate) ttl: Duration,
    /// When it ends.
    pub(crate) expires: Timestamp,
    /// For people, when it is less than was asked for.
    pub(crate) warning: Option<String>,
}

/// It has lived as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("past the max TTL, cannot renew")]
pub(crate) struct Over;

fn least(bounds: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    bounds.into_iter().filter(|bound| !bound.is_zero()).min()
}

/// Grants a life to what was made at `made`, from `now` on.
pub(crate) fn grant(bounds: &Bounds, made: Timestamp, now: Timestamp) -> Result<Life, Over> {
    let asked = match (bounds.period.is_zero(), bounds.asked.is_zero()) {
        (false, _) => bounds.period,
        (true, false) => bounds.asked,
        (true, true) => bounds.default,
    };
    let age = now.since(made);
    let left = |bound: Duration| bound.saturating_sub(age);
    let mut ttl = asked;
    if !bounds.mount_max.is_zero() {
        // A periodic one may live for ever, but each period is bounded.
        ttl = ttl.min(if bounds.period.is_zero() { left(bounds.mount_max) } else { bounds.mount_max });
    }
    if bounds.period.is_zero()
        && let Some(bound) = least([bounds.max])
    {
        ttl = ttl.min(left(bound));
    }
    if let Some(bound) = least([bounds.explicit_max]) {
        ttl = ttl.min(left(bound));
    }
    if ttl < Duration::from_secs(1) {
        return Err(Over);
    }
    // What clients are told is whole seconds.
    let ttl = Duration::from_secs(ttl.as_secs());
    let what = if bounds.period.is_zero() { "TTL" } else { "period" };
    let warning = (ttl < asked && !(bounds.asked.is_zero() && bounds.period.is_zero())).then(|| {
        let (asked, ttl) = (duration::print(asked), duration::print(ttl));
        format!("{what} of \"{asked}\" exceeded the effective max_ttl of \"{ttl}\"; {what} value is capped accordingly")
    });
    let expires = Timestamp(now.0.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
    Ok(Life { ttl, expires, warning })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Bounds = Bounds {
        asked: Duration::ZERO,
        default: Duration::from_secs(100),
        mount_max: Duration::from_secs(1000),
        max: Duration::ZERO,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };

    fn granted(bounds: Bounds, age_s: u64) -> Option<u64> {
        grant(&bounds, Timestamp(5_000), Timestamp(5_000 + age_s * 1000)).ok().map(|life| life.ttl.as_secs())
    }

    #[test]
    fn the_least_bound_wins_and_none_is_ever_exceeded() {
        let s = Duration::from_secs;
        for (bounds, age, want) in [
            (NONE, 0, Some(100)),
            (Bounds { asked: s(50), ..NONE }, 0, Some(50)),
            (Bounds { asked: s(5000), ..NONE }, 0, Some(1000)),
            (Bounds { asked: s(5000), ..NONE }, 400, Some(600)),
            (Bounds { asked: s(5000), max: s(300), ..NONE }, 0, Some(300)),
            (Bounds { asked: s(5000), max: s(300), explicit_max: s(200), ..NONE }, 50, Some(150)),
            (Bounds { period: s(60), ..NONE }, 1_000_000, Some(60)),
            (Bounds { period: s(5000), ..NONE }, 1_000_000, Some(1000)),
            (Bounds { period: s(60), max: s(70), ..NONE }, 1_000_000, Some(60)),
            (Bounds { period: s(60), explicit_max: s(70), ..NONE }, 50, Some(20)),
            (Bounds { asked: s(1), ..NONE }, 999, Some(1)),
        ] {
            assert_eq!(granted(bounds, age), want, "{bounds:?} at {age} s");
        }
    }

    #[test]
    fn cve_2021_32923_a_bound_that_is_used_up_ends_it_and_never_makes_it_eternal() {
        let s = Duration::from_secs;
        for (bounds, age) in [
            (NONE, 1000),
            (NONE, 5000),
            (Bounds { max: s(300), ..NONE }, 300),
            (Bounds { explicit_max: s(300), period: s(60), ..NONE }, 300),
            (Bounds { asked: s(10), explicit_max: s(300), ..NONE }, u64::MAX / 2000),
        ] {
            assert_eq!(granted(bounds, age), None, "{bounds:?} at {age} s");
        }
        // Less than a second left is nothing left: whole seconds are what clients are told.
        assert_eq!(grant(&NONE, Timestamp(0), Timestamp(999_500)), Err(Over));
    }
}
