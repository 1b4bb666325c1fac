//! `config`: the mount's settings.
//!
//! Always: a field that is not given stays as it is.

use barrier::View;
use std::time::Duration;

use super::VERSIONS_MAX;
use super::record::{Settings, Transaction};
use super::reply;
use crate::body::{Object, SignedDuration, wrong};
use crate::{AskError, Outcome, PlanError, Reply};

/// Reads the settings.
pub(super) struct Read;

impl Read {
    pub(super) fn plan(&self, view: &View) -> Result<Outcome, PlanError> {
        let config = Transaction::new(view).read_config()?;
        Ok(Outcome::answer(Reply::Data(reply::config(&config))))
    }
}

/// Changes the settings.
pub(super) struct Write {
    settings: SettingsChange,
    /// A negative duration: nothing in this mount expires.
    expiry: Option<SignedDuration>,
}

impl Write {
    pub(super) fn parse(body: &Object<'_>) -> Result<Write, AskError> {
        let settings = SettingsChange::parse(body)?;
        Ok(Write { settings, expiry: body.duration("delete_version_after")? })
    }

    pub(super) fn plan(&self, view: &View) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let old = transaction.read_config()?;
        let mut new = old.clone();
        self.settings.apply(&mut new.settings);
        match self.expiry {
            None => {}
            Some(SignedDuration::Negative) => {
                new.settings.delete_after = Duration::ZERO;
                new.expiry_disabled = true;
            }
            Some(SignedDuration::Positive(after)) => {
                new.settings.delete_after = after;
                new.expiry_disabled = false;
            }
        }
        if new != old {
            transaction.put_config(&new);
        }
        Ok(transaction.outcome(Reply::Done))
    }
}

/// New settings, of a mount or a secret, but for the expiry, which the two read differently. `None`: as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SettingsChange {
    max_versions: Option<u32>,
    cas_required: Option<bool>,
    metadata_cas_required: Option<bool>,
}

impl SettingsChange {
    pub(super) fn parse(body: &Object<'_>) -> Result<SettingsChange, AskError> {
        Ok(SettingsChange {
            max_versions: max_versions(body)?,
            cas_required: body.boolean("cas_required")?,
            metadata_cas_required: body.boolean("metadata_cas_required")?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == SettingsChange::default()
    }

    pub(super) fn apply(&self, settings: &mut Settings) {
        let SettingsChange { max_versions, cas_required, metadata_cas_required } = *self;
        settings.max_versions = max_versions.unwrap_or(settings.max_versions);
        settings.cas_required = cas_required.unwrap_or(settings.cas_required);
        settings.metadata_cas_required = metadata_cas_required.unwrap_or(settings.metadata_cas_required);
    }
}

fn max_versions(body: &Object<'_>) -> Result<Option<u32>, AskError> {
    let Some(number) = body.integer("max_versions")? else { return Ok(None) };
    match u32::try_from(number) {
        Ok(number) if number <= VERSIONS_MAX => Ok(Some(number)),
        _ => Err(wrong("max_versions", &format!("expected a number from 0 (the default) to {VERSIONS_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Mount, START_TEXT, version};

    fn shown(cas_required: bool, after: &str, max_versions: u32, metadata_cas_required: bool) -> String {
        format!(
            r#"{{"cas_required":{cas_required},"delete_version_after":"{after}","max_versions":{max_versions},"metadata_cas_required":{metadata_cas_required}}}"#
        )
    }

    #[test]
    fn settings_change_one_by_one() {
        let mount = Mount::new();
        mount.check("GET config", "", 200, &shown(false, "0s", 0, false));
        for (body, want) in [
            ("{}", shown(false, "0s", 0, false)),
            ("", shown(false, "0s", 0, false)),
            (r#"{"max_versions":3}"#, shown(false, "0s", 3, false)),
            (r#"{"cas_required":"true"}"#, shown(true, "0s", 3, false)),
            (r#"{"delete_version_after":"90m"}"#, shown(true, "1h30m0s", 3, false)),
            (r#"{"metadata_cas_required":1,"foo":1}"#, shown(true, "1h30m0s", 3, true)),
            (r#"{"delete_version_after":"-1h"}"#, shown(true, "-1s", 3, true)),
            (r#"{"max_versions":2048}"#, shown(true, "-1s", 2048, true)),
            (r#"{"delete_version_after":5}"#, shown(true, "5s", 2048, true)),
            (
                r#"{"max_versions":null,"cas_required":null,"delete_version_after":null,"metadata_cas_required":null}"#,
                shown(false, "0s", 0, false),
            ),
        ] {
            mount.check("POST config", body, 204, "");
            mount.check("GET config", "", 200, &want);
        }
    }

    #[test]
    fn wrong_settings_are_refused_and_change_nothing() {
        let mount = Mount::new();
        mount.ask("POST config", r#"{"max_versions":3}"#);
        for (body, want) in [
            (r#"{"max_versions":"x"}"#, "error converting input for field \"max_versions\": expected a whole number"),
            (r#"{"max_versions":-1}"#, "error converting input for field \"max_versions\": expected a number from 0 (the default) to 2048"),
            (
                r#"{"max_versions":2049}"#,
                "error converting input for field \"max_versions\": expected a number from 0 (the default) to 2048",
            ),
            (r#"{"max_versions":4,"cas_required":"y"}"#, "error converting input for field \"cas_required\": expected true or false"),
            (
                r#"{"delete_version_after":"x"}"#,
                "error converting input for field \"delete_version_after\": expected a duration, such as \"1h30m\" or a number of seconds",
            ),
            ("[]", "failed to decode JSON input: the body must be an object"),
        ] {
            mount.check("POST config", body, 400, want);
            mount.check("GET config", "", 200, &shown(false, "0s", 3, false));
        }
    }

    #[test]
    fn the_mount_can_switch_expiry_off() {
        let mount = Mount::new();
        mount.ask("POST config", r#"{"delete_version_after":60}"#);
        mount.ask("POST metadata/a", r#"{"delete_version_after":120}"#);
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version(1, START_TEXT, "2026-11-24T05:36:18.123Z", false));
        mount.ask("POST config", r#"{"delete_version_after":-1}"#);
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version(2, START_TEXT, "", false));
        mount.ask("POST config", r#"{"delete_version_after":0}"#);
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version(3, START_TEXT, "2026-11-24T05:37:18.123Z", false));
    }
}
