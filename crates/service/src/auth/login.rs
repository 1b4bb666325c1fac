//! The one path of a login, whatever the method: names in normal form, the lock-out before any work, one answer for whatever is wrong with
//! the credentials, and the grant of a token once they are right.
//!
//! Always: what a stranger is told does not depend on whether the name exists; and a refused login writes nothing to the log.

use std::collections::BTreeMap;
use std::time::Duration;

use barrier::{Name, ViewError};
use proto::stored::TokenParameters;
use types::Revision;

use super::lockout::{LockoutSettings, Lockouts, Place, Standing};
use crate::cidr;
use crate::mount::Mount;
use crate::outcome::{Grant, PlanError, Reply, Scope};
use crate::records::Records;

/// The longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// The name of a user or a role, in normal form: lower case, of ASCII letters, digits and `_`, inside also `-` and `.`. There is one
/// spelling of each, so that none escapes a lock-out or a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoginName(String);

/// What was given is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {NAME_BYTES_MAX} letters (a to z), digits and '_'; inside also '-' and '.'")]
pub(crate) struct NameError;

impl LoginName {
    /// Brings a name into normal form. Nothing is left out or replaced but the case of ASCII letters.
    pub(crate) fn parse(text: &str) -> Result<LoginName, NameError> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let bytes = text.as_bytes();
        let is_name = bytes.len() <= NAME_BYTES_MAX
            && bytes.first().is_some_and(is_word)
            && bytes.last().is_some_and(is_word)
            && bytes.iter().all(|byte| is_word(byte) || matches!(byte, b'-' | b'.'));
        if is_name { Ok(LoginName(text.to_ascii_lowercase())) } else { Err(NameError) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a mount says of lock-outs; where it says nothing (0), the defaults hold.
fn lockout_settings(mount: &Mount) -> LockoutSettings {
    let default = LockoutSettings::default();
    let Some(said) = &mount.user_lockout else { return default };
    if said.disabled {
        return LockoutSettings { threshold: 0, ..default };
    }
    let duration = |seconds: u64, default: Duration| if seconds == 0 { default } else { Duration::from_secs(seconds) };
    LockoutSettings {
        threshold: if said.threshold == 0 { default.threshold } else { u32::try_from(said.threshold).unwrap_or(u32::MAX) },
        duration: duration(said.duration_s, default.duration),
        counter_reset: duration(said.counter_reset_s, default.counter_reset),
    }
}

/// Whether a token is to be a batch token: as the mount says, or leaves to the user or role to say.
fn is_batch(mount: &Mount, parameters: &TokenParameters) -> bool {
    match (mount.token_type.as_str(), parameters.kind.as_str()) {
        ("batch", _) => true,
        ("service", _) => false,
        (_, "batch") => true,
        (_, "service") => false,
        (of_mount, _) => of_mount == "default-batch",
    }
}

/// The record that says when a name was unlocked. Names may be anything, so it lies under their keyed hash.
pub(crate) fn unlock_name(records: &Records, mount_root: &Name, mount_uuid: &str, name: &str) -> Result<Name, PlanError> {
    let tag = records.view.with_keyring(|keyring| keyring.credential_tag("unlock", mount_uuid, name.as_bytes()));
    Ok(mount_root.join("unlock").join(&hex::encode(tag.ok_or(ViewError::Sealed)?)))
}

/// The revision of that record.
pub(crate) fn unlock_revision(records: &Records, mount_root: &Name, mount_uuid: &str, name: &str) -> Result<Revision, PlanError> {
    Ok(records.view.read(&unlock_name(records, mount_root, mount_uuid, name)?)?.revision)
}

/// One try to log in under a name.
pub(crate) struct Attempt<'s> {
    scope: &'s Scope<'s>,
    lockouts: &'s Lockouts,
    settings: LockoutSettings,
    name: &'s str,
    /// What is said of wrong credentials, whatever is wrong.
    invalid: &'static str,
}

impl<'s> Attempt<'s> {
    /// Begins, if the name is not locked. To be called before any work is done for the caller.
    pub(crate) fn begin(
        scope: &'s Scope<'s>,
        lockouts: &'s Lockouts,
        name: &'s str,
        invalid: &'static str,
    ) -> Result<Attempt<'s>, PlanError> {
        let attempt = Attempt { scope, lockouts, settings: lockout_settings(&scope.mount), name, invalid };
        attempt.check()?;
        Ok(attempt)
    }

    fn place(&self) -> Place<'s> {
        let mount = &self.scope.mount;
        Place { namespace_id: &self.scope.namespace.id, mount_accessor: &mount.accessor, mount_uuid: &mount.uuid }
    }

    fn unlock_revision(&self) -> Result<Revision, PlanError> {
        unlock_revision(&self.scope.records, &self.scope.mount.root(), &self.scope.mount.uuid, self.name)
    }

    fn check(&self) -> Result<(), PlanError> {
        if self.settings.threshold == 0 {
            return Ok(());
        }
        match self.lockouts.standing(self.place(), self.name, self.scope.now) {
            Standing::Open => Ok(()),
            Standing::Locked { unlock_revision } if unlock_revision != self.unlock_revision()? => {
                self.lockouts.forget(self.place(), self.name);
                Ok(())
            }
            Standing::Locked { .. } => Err(PlanError::Denied),
            Standing::Full => Err(PlanError::TooMany("too many names are locked after failed logins; try again later".into())),
        }
    }

    /// The credentials were wrong: counts it, and says what to answer.
    pub(crate) fn failed(&self) -> PlanError {
        if let Err(error) = self.check() {
            return error;
        }
        if self.settings.threshold != 0 {
            match self.unlock_revision() {
                Ok(revision) => self.lockouts.failed(self.place(), self.name, &self.settings, revision, self.scope.now),
                Err(error) => return error,
            }
        }
        PlanError::Refused(self.invalid.into())
    }

    /// The credentials were right; which is not told if the name was locked while they were looked at.
    pub(crate) fn succeeded(&self) -> Result<(), PlanError> {
        self.check()?;
        self.lockouts.forget(self.place(), self.name);
        Ok(())
    }
}

/// Who was let in, and what their token is to be.
pub(crate) struct Admitted<'a> {
    /// The part of the display name that the method adds to the mount's path; may be empty.
    pub(crate) display_name: &'a str,
    pub(crate) parameters: &'a TokenParameters,
    /// In place of what the parameters say, if there are any.
    pub(crate) bound_cidrs: &'a [String],
    pub(crate) meta: BTreeMap<String, String>,
    /// What the method needs to renew the token.
    pub(crate) internal: BTreeMap<String, String>,
}

/// The token for who was let in.
pub(crate) fn admit(scope: &Scope<'_>, admitted: Admitted<'_>) -> Result<Reply, PlanError> {
    let Admitted { display_name, parameters, bound_cidrs, meta, internal } = admitted;
    if super::token_parameters::normal_policies(&parameters.policies).iter().any(|policy| policy == "root") {
        return Err(PlanError::Refused("auth methods cannot create root tokens".into()));
    }
    let mut bound_cidrs = cidr::normal(if bound_cidrs.is_empty() { &parameters.bound_cidrs } else { bound_cidrs });
    if !cidr::allows(&bound_cidrs, scope.request.remote) {
        return Err(PlanError::Denied);
    }
    if parameters.strictly_bind_address {
        bound_cidrs = vec![cidr::of_caller(scope.request.remote).ok_or(PlanError::Denied)?];
    }
    let mount = scope.mount.path.trim_start_matches("auth/").trim_end_matches('/').replace('/', "-");
    Ok(Reply::Issue(Box::new(Grant {
        policies: parameters.policies.clone(),
        no_default_policy: parameters.no_default_policy,
        display_name: if display_name.is_empty() { mount } else { format!("{mount}-{display_name}") },
        meta,
        internal,
        renewable: true,
        is_batch: is_batch(&scope.mount, parameters),
        ttl: Duration::from_secs(parameters.ttl_s),
        max_ttl: Duration::from_secs(parameters.max_ttl_s),
        explicit_max_ttl: Duration::from_secs(parameters.explicit_max_ttl_s),
        period: Duration::from_secs(parameters.period_s),
        uses: parameters.uses,
        bound_cidrs,
        ..Grant::default()
    })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mount() -> Mount {
        Mount::make("auth/userpass/", "userpass", "", BTreeMap::new(), &crypto::SeededRng::dangerous_from_seed(1))
    }

    #[test]
    fn the_mount_and_then_the_user_say_which_type_a_token_is() {
        for (of_mount, of_user, want) in [
            ("", "", false),
            ("", "batch", true),
            ("default-service", "default", false),
            ("default-batch", "default", true),
            ("default-batch", "service", false),
            ("service", "batch", false),
            ("batch", "service", true),
        ] {
            let mount = Mount { token_type: of_mount.into(), ..mount() };
            let parameters = TokenParameters { kind: of_user.into(), ..TokenParameters::default() };
            assert_eq!(is_batch(&mount, &parameters), want, "{of_mount} {of_user}");
        }
    }

    #[test]
    fn the_mount_says_when_names_are_locked() {
        use proto::stored::UserLockout;
        let seconds = Duration::from_secs;
        let settings = |threshold, duration, counter_reset| LockoutSettings { threshold, duration, counter_reset };
        for (said, want) in [
            (None, LockoutSettings::default()),
            (Some(UserLockout { threshold: 3, ..UserLockout::default() }), settings(3, seconds(900), seconds(900))),
            (Some(UserLockout { duration_s: 60, counter_reset_s: 30, ..UserLockout::default() }), settings(5, seconds(60), seconds(30))),
            (Some(UserLockout { threshold: 3, disabled: true, ..UserLockout::default() }), settings(0, seconds(900), seconds(900))),
        ] {
            assert_eq!(lockout_settings(&Mount { user_lockout: said, ..mount() }), want);
        }
    }

    #[test]
    fn names_have_one_normal_form() {
        let normal = |text: &str| LoginName::parse(text).ok().map(|name| name.0);
        for (given, want) in [
            ("bob", Some("bob")),
            ("BoB", Some("bob")),
            ("a", Some("a")),
            ("_a.b-c_", Some("_a.b-c_")),
            ("", None),
            (" bob", None),
            ("bob ", None),
            ("b ob", None),
            (".bob", None),
            ("bob-", None),
            ("b\u{f6}b", None),
            // The Kelvin sign, whose lower case is the letter k.
            ("\u{212a}ate", None),
            ("bob\0", None),
            ("a/b", None),
            ("a@b", None),
        ] {
            assert_eq!(normal(given).as_deref(), want, "{given:?}");
        }
        assert!(normal(&"x".repeat(NAME_BYTES_MAX)).is_some() && normal(&"x".repeat(NAME_BYTES_MAX + 1)).is_none());
    }

    proptest! {
        #[test]
        fn two_spellings_are_one_name_exactly_if_only_ascii_case_differs(a in "[a-zA-Z0-9_.\\- @\u{e4}\u{212a}]{0,6}", flips: u8) {
            let b: String = a.chars().enumerate().map(|(at, letter)| {
                if flips >> (at % 8) & 1 == 0 { letter } else if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
            }).collect();
            prop_assert_eq!(LoginName::parse(&a), LoginName::parse(&b));
            if let Ok(name) = LoginName::parse(&a) {
                prop_assert_eq!(LoginName::parse(name.as_str()), Ok(name.clone()));
                prop_assert!(name.as_str().eq_ignore_ascii_case(&a));
            }
        }
    }
}
