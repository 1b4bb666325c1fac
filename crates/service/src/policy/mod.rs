//! Policies: who may do what, where. The only maker of a [`Permit`], without which nothing is dispatched.
//!
//! So far one policy exists, `root`, which allows everything; every other name allows nothing.

pub mod acl;
pub mod builtin;
pub mod capabilities;
pub mod decision;
#[cfg(test)]
mod differential;
pub mod filter;
pub mod mistake;
#[cfg(test)]
mod openbao;
#[cfg(test)]
mod oracle;
pub mod parameter;
pub mod password;
pub mod pattern;
pub mod text;

use std::sync::Arc;

use types::Path;
use types::capability::{Capability, Verb};

use crate::token::Caller;

/// Says that this caller may do this here. Only [`Acl::check`] makes one.
pub struct Permit {
    caller: Arc<Caller>,
    path: Path,
    capability: Capability,
}

impl Permit {
    /// Who may.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What.
    pub fn capability(&self) -> Capability {
        self.capability
    }
}

/// The caller may not. Says no more: a refusal must not tell what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied;

/// All policies of one caller, ready to be asked.
pub struct Acl {
    caller: Arc<Caller>,
    is_root: bool,
}

impl Acl {
    /// The rules for `caller`.
    pub(crate) fn of(caller: Arc<Caller>) -> Acl {
        let is_root = caller.policies().iter().any(|policy| policy == "root");
        Acl { caller, is_root }
    }

    /// Whether the caller may do `verb` at `path`. For a write, `is_create` says whether something new would be made.
    pub fn check(&self, verb: Verb, is_create: bool, path: &Path) -> Result<Permit, Denied> {
        let capability = needed(verb, is_create);
        if self.is_root { Ok(Permit { caller: Arc::clone(&self.caller), path: path.clone(), capability }) } else { Err(Denied) }
    }
}

/// The capability that a verb needs.
fn needed(verb: Verb, is_create: bool) -> Capability {
    match verb {
        Verb::Read => Capability::Read,
        Verb::Write if is_create => Capability::Create,
        Verb::Write => Capability::Update,
        Verb::Patch => Capability::Patch,
        Verb::Delete => Capability::Delete,
        Verb::List => Capability::List,
        Verb::Scan => Capability::Scan,
    }
}

#[cfg(test)]
mod tests {
    use crypto::SecretBytes;
    use proto::stored;

    use super::*;

    fn acl(policies: &[&str]) -> Acl {
        let token = stored::Token { policies: policies.iter().map(ToString::to_string).collect(), ..Default::default() };
        Acl::of(Arc::new(Caller { text: SecretBytes::from(Vec::new()), token }))
    }

    #[test]
    fn root_may_all_and_every_other_name_nothing() {
        let path = Path::parse("secret/data/x").unwrap();
        for (policies, may) in [(&["root"][..], true), (&["default", "root"], true), (&["Root"], false), (&["root "], false), (&[], false)]
        {
            for verb in Verb::ALL {
                assert_eq!(acl(policies).check(*verb, false, &path).is_ok(), may, "{policies:?} {verb}");
            }
        }
    }

    #[test]
    fn a_write_that_makes_something_new_needs_create() {
        let path = Path::parse("secret/data/x").unwrap();
        let capability = |is_create| acl(&["root"]).check(Verb::Write, is_create, &path).map(|permit| permit.capability());
        assert_eq!(capability(true), Ok(Capability::Create));
        assert_eq!(capability(false), Ok(Capability::Update));
    }
}
