//! Vault's single-dash long flags (`-key-shares=5`), turned into the double-dash form that clap reads.
//!
//! Always: what stands after `--` is left alone, and so are `-` (stdin), `-5` (a number) and `-h` (one letter).

use std::ffi::OsString;

/// Every argument, with a second dash where Vault's style lacks it.
pub(crate) fn normalise(argv: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut after_separator = false;
    argv.enumerate()
        .map(|(at, argument)| {
            let Some(text) = argument.to_str() else { return argument };
            after_separator |= text == "--";
            if at > 0 && !after_separator && is_single_dash_long(text) { format!("-{text}").into() } else { argument }
        })
        .collect()
}

/// A dash, a letter, and at least one more letter, digit or dash: `-n=5` is clap's own business.
fn is_single_dash_long(text: &str) -> bool {
    let Some(name) = text.strip_prefix('-') else { return false };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vaults_flags_get_their_second_dash() {
        for (argv, want) in [
            ("conclave status -format=json", "conclave status --format=json"),
            ("conclave server -config x.hcl", "conclave server --config x.hcl"),
            ("conclave server --config=x.hcl", "conclave server --config=x.hcl"),
            ("conclave operator init -key-shares=5 -n=3", "conclave operator init --key-shares=5 -n=3"),
            ("conclave kv put secret/a -", "conclave kv put secret/a -"),
            ("conclave kv put secret/a x=-y", "conclave kv put secret/a x=-y"),
            ("conclave kv put -cas=-1 secret/a", "conclave kv put --cas=-1 secret/a"),
            ("conclave write a -5 -1.5", "conclave write a -5 -1.5"),
            ("conclave -h", "conclave -h"),
            ("conclave -version", "conclave --version"),
            ("conclave write -- -force -format=json", "conclave write -- -force -format=json"),
            ("-conclave status", "-conclave status"),
        ] {
            let got = normalise(argv.split(' ').map(OsString::from));
            assert_eq!(got, want.split(' ').map(OsString::from).collect::<Vec<_>>(), "{argv}");
        }
    }
}
