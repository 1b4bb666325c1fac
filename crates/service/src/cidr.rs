//! Blocks of addresses: from where a credential may be used.
//!
//! Always: a block has one normal form, which is stored and shown; an IPv4 address in IPv6 clothes is the IPv4 address, in blocks and in
//! callers; who cannot be placed is in no block.

use std::net::{IpAddr, SocketAddr};

use engine::AskError;
use ipnet::{IpNet, Ipv4Net};

/// Blocks in one list, at most.
pub(crate) const BLOCKS_MAX: usize = 256;

/// One block: an address, or an address and the length of its prefix. The address keeps its lower bits.
fn block(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let block: IpNet = text.parse().ok()?;
    // The whole of ::ffff:0:0/96 and what lies within.
    Some(match (block.addr().to_canonical(), block) {
        (IpAddr::V4(address), IpNet::V6(block)) if block.prefix_len() >= 96 => {
            IpNet::V4(Ipv4Net::new(address, block.prefix_len() - 96).expect("at most 128 - 96"))
        }
        _ => block,
    })
}

/// A single address without the length of its prefix, as Vault shows it.
fn text(block: &IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}

/// The normal form of each of `texts`, which are the values of the member `name`.
pub(crate) fn parse(name: &str, texts: &[String]) -> Result<Vec<String>, AskError> {
    parse_each(name, texts, text)
}

/// As [`parse`], but single addresses have the length of their prefix too: where Vault shows them so.
pub(crate) fn parse_with_prefix(name: &str, texts: &[String]) -> Result<Vec<String>, AskError> {
    parse_each(name, texts, IpNet::to_string)
}

/// What [`parse`] gives, of what it or [`parse_with_prefix`] gave.
pub(crate) fn normal(blocks: &[String]) -> Vec<String> {
    blocks.iter().filter_map(|one| block(one)).map(|block| text(&block)).collect()
}

fn parse_each(name: &str, texts: &[String], shown: fn(&IpNet) -> String) -> Result<Vec<String>, AskError> {
    if texts.len() > BLOCKS_MAX {
        return Err(AskError::Invalid(format!("{name} has more than {BLOCKS_MAX} blocks")));
    }
    let cure = || AskError::Invalid(format!(r#"{name} must be addresses or CIDR blocks, such as "10.1.2.3" or "10.0.0.0/8""#));
    texts.iter().map(|one| block(one).as_ref().map(shown).ok_or_else(cure)).collect()
}

/// Whether `remote` lies in one of `blocks`; no blocks are everywhere.
pub(crate) fn allows(blocks: &[String], remote: Option<SocketAddr>) -> bool {
    if blocks.is_empty() {
        return true;
    }
    let Some(address) = remote.map(|remote| remote.ip().to_canonical()) else { return false };
    blocks.iter().filter_map(|text| block(text)).any(|block| block.contains(&address))
}

/// Whether each of `inner` lies within one of `outer`; no outer blocks are everywhere.
pub(crate) fn are_within(inner: &[String], outer: &[String]) -> bool {
    let outer_blocks: Vec<IpNet> = outer.iter().filter_map(|text| block(text)).collect();
    outer.is_empty() || inner.iter().all(|text| block(text).is_some_and(|inner| outer_blocks.iter().any(|outer| outer.contains(&inner))))
}

/// The block of the caller's own address, in normal form; `None` when that is not known.
pub(crate) fn of_caller(remote: Option<SocketAddr>) -> Option<String> {
    remote.map(|remote| text(&IpNet::from(remote.ip().to_canonical())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> Option<String> {
        parse("x", &[text.to_owned()]).ok().map(|mut texts| texts.remove(0))
    }

    #[test]
    fn blocks_have_one_normal_form() {
        for (given, want) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.0.0.1/32", Some("127.0.0.1")),
            ("10.1.2.3/8", Some("10.1.2.3/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::1", Some("::1")),
            ("::1/128", Some("::1")),
            ("FE80::/10", Some("fe80::/10")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::/0", Some("::/0")),
            ("10.0.0.1:80", None),
            ("010.0.0.1", None),
            ("10.0.0.0/33", None),
            ("10.0.0/8", None),
            ("fe80::1%eth0", None),
            ("host", None),
            ("", None),
        ] {
            assert_eq!(normal(given).as_deref(), want, "{given}");
        }
    }

    #[test]
    fn a_caller_is_allowed_from_its_blocks_only() {
        let remote = |text: &str| Some(SocketAddr::new(text.parse().unwrap(), 1));
        let blocks = |texts: &[&str]| parse("x", &texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        for (list, caller, want) in [
            (&["10.0.0.0/8"][..], remote("10.255.0.1"), true),
            (&["10.1.2.3/8"], remote("10.9.9.9"), true),
            (&["10.0.0.0/8"], remote("11.0.0.1"), false),
            (&["10.0.0.0/8"], remote("::ffff:10.0.0.1"), true),
            (&["::ffff:10.0.0.0/104"], remote("10.0.0.1"), true),
            (&["::/0"], remote("10.0.0.1"), false),
            (&["fe80::/10", "1.2.3.4"], remote("1.2.3.4"), true),
            (&["1.2.3.4"], None, false),
            (&[], None, true),
            (&[], remote("9.9.9.9"), true),
        ] {
            assert_eq!(allows(&blocks(list), caller), want, "{list:?} {caller:?}");
        }
        for (inner, outer, want) in [
            (&["10.1.0.0/16"][..], &["10.0.0.0/8"][..], true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], false),
            (&["10.1.0.0/16", "11.0.0.0/8"], &["10.0.0.0/8"], false),
            (&["11.0.0.1"], &[], true),
            (&[], &["10.0.0.0/8"], true),
        ] {
            assert_eq!(are_within(&blocks(inner), &blocks(outer)), want, "{inner:?} {outer:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_and_means_the_same(bits: u128, is_v4: bool, len in 0u8..=128, probe: u128) {
            let ip = |bits: u128| if is_v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
            let len = if is_v4 { len % 33 } else { len };
            let given = format!("{}/{len}", ip(bits));
            let first = normal(&given).unwrap();
            prop_assert_eq!(normal(&first).unwrap(), first.clone());
            let blocks = vec![first];
            prop_assert!(allows(&blocks, Some(SocketAddr::new(ip(bits), 0))), "its own address");
            let naive = |bits: u128, width: u32| bits.checked_shr(width - u32::from(len)).unwrap_or(0);
            let width = if is_v4 { 32 } else { 128 };
            let masked = |bits: u128| if is_v4 { bits & u128::from(u32::MAX) } else { bits };
            let is_mapped = |bits: u128| !is_v4 && bits >> 32 == 0xffff;
            if !is_mapped(bits) && !is_mapped(probe) {
                let want = naive(masked(bits), width) == naive(masked(probe), width);
                prop_assert_eq!(allows(&blocks, Some(SocketAddr::new(ip(probe), 0))), want);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = normal(&text);
        }
    }
}
