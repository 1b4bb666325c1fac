//! Who has entered wrong shares lately: so that nobody can keep a node busy with checking them.
//!
//! Always: kept in memory, for [`ADDRESSES_MAX`] addresses at most; a share is 256 random bits, so this is not what keeps it from being
//! guessed. An address is that of a host (IPv4) or of a network (IPv6, the first 64 bits).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use types::Timestamp;

/// Wrong shares from one address within [`WINDOW_MS`], at most.
pub const REFUSED_SHARES_MAX: u32 = 60;
/// For how long they count, in milliseconds.
pub const WINDOW_MS: u64 = 60_000;
/// Addresses that are remembered, at most: the one whose window ends first makes room.
const ADDRESSES_MAX: usize = 4_096;

/// From this address came too many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong shares came from this address: try again in {seconds} s, or at another node")]
pub struct TooManyShares {
    /// How long to wait.
    pub seconds: u64,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    refused: u32,
    ends: Timestamp,
}

/// The addresses that wrong shares came from.
#[derive(Default)]
pub struct RefusedShares {
    addresses: Mutex<HashMap<IpAddr, Count>>,
}

impl RefusedShares {
    /// Whether a share from there may be looked at.
    pub fn check(&self, from: Option<IpAddr>, now: Timestamp) -> Result<(), TooManyShares> {
        match self.addresses().get(&place(from)) {
            Some(count) if count.refused >= REFUSED_SHARES_MAX && now < count.ends => {
                Err(TooManyShares { seconds: (count.ends.0 - now.0).div_ceil(1000) })
            }
            _ => Ok(()),
        }
    }

    /// Counts a share that was refused.
    pub fn count(&self, from: Option<IpAddr>, now: Timestamp) {
        let mut addresses = self.addresses();
        let place = place(from);
        if !addresses.contains_key(&place) && addresses.len() >= ADDRESSES_MAX {
            addresses.retain(|_, count| now < count.ends);
            if addresses.len() >= ADDRESSES_MAX
                && let Some(first) = addresses.iter().min_by_key(|(_, count)| count.ends).map(|(address, _)| *address)
            {
                addresses.remove(&first);
            }
        }
        let count = addresses.entry(place).or_insert(Count { refused: 0, ends: Timestamp(0) });
        if now >= count.ends {
            *count = Count { refused: 0, ends: Timestamp(now.0.saturating_add(WINDOW_MS)) };
        }
        count.refused = count.refused.saturating_add(1);
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Count>> {
        // No code in here panics half-way.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(from: Option<IpAddr>) -> IpAddr {
    match from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_waits_after_too_many_and_no_other_does() {
        let refused = RefusedShares::default();
        let now = Timestamp(1_000);
        for _ in 0..REFUSED_SHARES_MAX {
            assert_eq!(refused.check(address("10.0.0.1"), now), Ok(()));
            refused.count(address("10.0.0.1"), now);
        }
        assert_eq!(refused.check(address("10.0.0.1"), now), Err(TooManyShares { seconds: 60 }));
        assert_eq!(refused.check(address("::ffff:10.0.0.1"), Timestamp(31_000)), Err(TooManyShares { seconds: 30 }), "the same host");
        assert_eq!(refused.check(address("10.0.0.2"), now), Ok(()));
        assert_eq!(refused.check(address("10.0.0.1"), Timestamp(61_000)), Ok(()));
        refused.count(address("10.0.0.1"), Timestamp(61_000));
        assert_eq!(refused.check(address("10.0.0.1"), Timestamp(61_000)), Ok(()), "the count begins anew");
        for _ in 0..REFUSED_SHARES_MAX {
            refused.count(address("2001:db8::1"), now);
        }
        assert!(refused.check(address("2001:db8::2"), now).is_err(), "the same network");
        assert!(refused.check(address("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn no_more_addresses_are_kept_than_there_is_room_for() {
        let refused = RefusedShares::default();
        for number in 0..2 * ADDRESSES_MAX {
            refused.count(Some(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))), Timestamp(1));
        }
        assert_eq!(refused.addresses().len(), ADDRESSES_MAX);
    }
}
