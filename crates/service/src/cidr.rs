//! CIDR blocks to which a token or a login is bound.
//!
//! Always: a block is kept as it was written, and was parsed before; an address without a prefix length is a block of one.

use std::net::IpAddr;

use ipnet::IpNet;

/// Blocks of one token or role, at most.
pub(crate) const BLOCKS_MAX: usize = 256;

fn parse(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Refuses what is no CIDR block. The error names it, and the cure.
pub(crate) fn check(blocks: &[String]) -> Result<(), String> {
    if blocks.len() > BLOCKS_MAX {
        return Err(format!("more than {BLOCKS_MAX} CIDR blocks"));
    }
    match blocks.iter().find(|text| parse(text).is_none()) {
        Some(text) => {
            let shown: String = text.chars().take(50).collect();
            Err(format!("{shown:?} is no CIDR block (write an address such as 10.1.2.3, or a block such as 10.1.0.0/16)"))
        }
        None => Ok(()),
    }
}

/// Whether somebody at `address` may pass. No blocks: everybody may. A block that makes no sense holds nobody.
pub(crate) fn admits(blocks: &[String], address: Option<IpAddr>) -> bool {
    blocks.is_empty()
        || address.is_some_and(|address| {
            let address = address.to_canonical();
            blocks.iter().filter_map(|text| parse(text)).any(|block| block.contains(&address))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_passes_if_a_block_holds_it() {
        for (blocks, address, want) in [
            (&[][..], Some("10.1.2.3"), true),
            (&[], None, true),
            (&["10.0.0.0/8"], Some("10.1.2.3"), true),
            (&["10.0.0.0/8"], Some("11.1.2.3"), false),
            (&["10.0.0.0/8"], None, false),
            (&["10.0.0.0/8", "11.1.2.3"], Some("11.1.2.3"), true),
            (&["11.1.2.3"], Some("11.1.2.4"), false),
            (&["10.0.0.0/8"], Some("::ffff:10.1.2.3"), true),
            (&["2001:db8::/32"], Some("2001:db8::7"), true),
            (&["2001:db8::/32"], Some("10.1.2.3"), false),
            (&["0.0.0.0/0"], Some("::1"), false),
        ] {
            let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
            assert_eq!(check(&blocks), Ok(()));
            assert_eq!(admits(&blocks, address.map(|text| text.parse().unwrap())), want, "{blocks:?} {address:?}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused_by_name() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "somewhere", "10.0.0.0/8 "] {
            assert!(check(&["10.0.0.0/8".into(), text.into()]).is_err_and(|error| error.contains(&format!("{text:?}"))), "{text}");
        }
    }
}
