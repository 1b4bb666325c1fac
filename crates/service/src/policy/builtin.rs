//! Built-in policies: their names, and the texts that a new namespace begins with.
//!
//! Always: every text here parses.

/// The policy that every token has, unless it was made without. It can be changed, not deleted.
pub const DEFAULT: &str = "default";
/// The first text of [`DEFAULT`].
pub const DEFAULT_TEXT: &str = include_str!("default.hcl");
/// The policy of response-wrapping tokens. It can be neither changed nor given to another token.
pub const RESPONSE_WRAPPING: &str = "response-wrapping";
/// The text of [`RESPONSE_WRAPPING`].
pub const RESPONSE_WRAPPING_TEXT: &str = include_str!("response_wrapping.hcl");

#[cfg(test)]
mod tests {
    use types::{Path, Timestamp, Verb};

    use super::super::acl::Acl;
    use super::super::decision::Question;
    use super::super::text::Policy;
    use super::*;

    #[test]
    fn they_allow_what_a_token_needs_and_no_more() {
        use Verb::{Delete, List, Read, Write};
        let default = Policy::parse(DEFAULT_TEXT).unwrap();
        let wrapping = Policy::parse(RESPONSE_WRAPPING_TEXT).unwrap();
        for (name, policy, yes, no) in [
            (
                DEFAULT,
                &default,
                &[
                    (Read, "auth/token/lookup-self"),
                    (Write, "auth/token/renew-self"),
                    (Write, "auth/token/revoke-self"),
                    (Write, "sys/capabilities-self"),
                    (Read, "sys/internal/ui/resultant-acl"),
                    (Write, "sys/leases/renew"),
                    (Write, "sys/leases/lookup"),
                    (List, "cubbyhole/"),
                    (Delete, "cubbyhole/a/b"),
                    (Write, "sys/wrapping/wrap"),
                    (Write, "sys/tools/hash/sha2-256"),
                ][..],
                &[
                    (Read, "secret/data/x"),
                    (List, "sys/policies/acl/"),
                    (Write, "auth/token/create"),
                    (Write, "sys/leases/revoke"),
                    (Read, "identity/entity/id/x"),
                    (Read, "cubbyhole"),
                ][..],
            ),
            (
                RESPONSE_WRAPPING,
                &wrapping,
                &[(Read, "cubbyhole/response"), (Write, "sys/wrapping/unwrap")],
                &[(Read, "cubbyhole/other"), (Read, "auth/token/lookup-self"), (Write, "sys/wrapping/rewrap")],
            ),
        ] {
            let acl = Acl::compile([(name, policy, "")], Timestamp(0));
            for (expected, cases) in [(true, yes), (false, no)] {
                for (verb, path) in cases {
                    let path_parsed = Path::parse(path).unwrap();
                    assert_eq!(acl.check(&Question::new(&path_parsed, *verb)).is_allowed(), expected, "{name} {verb} {path}");
                }
            }
        }
    }
}
