//! `delete/`, `undelete/`, `destroy/` and the deletion of the newest version: what becomes of versions.
//!
//! Always: a version that is destroyed stays so. What is already as asked, and numbers that are not there, are passed over in
//! silence, as in Vault; if nothing changes, nothing is written.

use barrier::View;
use types::{Path, Timestamp};

use super::record::{Metadata, Transaction, Version};
use crate::body::Object;
use crate::{AskError, Outcome, PlanError, Reply};

/// Hides the newest version.
pub(super) struct DeleteNewest {
    pub(super) path: Path,
}

impl DeleteNewest {
    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        change_each(view, &self.path, |metadata| vec![metadata.newest], |version| delete(version, now))
    }
}

/// What to do with versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Hide.
    Delete,
    /// Show again.
    Undelete,
    /// Erase.
    Destroy,
}

/// Does one thing to some versions.
pub(super) struct Change {
    kind: Kind,
    path: Path,
    versions: Vec<u64>,
}

impl Change {
    pub(super) fn parse(kind: Kind, path: Path, body: &Object<'_>) -> Result<Change, AskError> {
        let numbers = body.integers("versions")?.unwrap_or_default();
        if numbers.is_empty() {
            return Err(AskError::Invalid(none_given(kind).to_owned()));
        }
        let mut versions: Vec<u64> = numbers.into_iter().filter_map(|number| u64::try_from(number).ok()).collect();
        versions.sort_unstable();
        versions.dedup();
        Ok(Change { kind, path, versions })
    }

    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        match self.kind {
            Kind::Delete => change_each(view, &self.path, |_| self.versions.clone(), |version| delete(version, now)),
            Kind::Undelete => self.undelete(view, now),
            Kind::Destroy => self.destroy(view),
        }
    }

    /// Shows versions again; from now on they live as long as a new one would.
    fn undelete(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let config = transaction.read_config()?;
        let Some(mut metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::Done)) };
        let deleted = config.deletion_time(&metadata.settings, now);
        let changed = change(&mut metadata, &self.versions, |version| {
            (!version.destroyed && version.deleted != deleted).then_some(Version { deleted, ..version })
        });
        if !changed.is_empty() {
            transaction.put_metadata(&self.path, &metadata);
        }
        Ok(transaction.outcome(Reply::Done))
    }

    /// Erases the data of versions.
    fn destroy(&self, view: &View) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let Some(mut metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::Done)) };
        let changed =
            change(&mut metadata, &self.versions, |version| (!version.destroyed).then_some(Version { destroyed: true, ..version }));
        if !changed.is_empty() {
            transaction.put_metadata(&self.path, &metadata);
        }
        for number in changed {
            transaction.delete_data(&self.path, number);
        }
        Ok(transaction.outcome(Reply::Done))
    }
}

/// The texts are Vault's, which are not all alike.
fn none_given(kind: Kind) -> &'static str {
    match kind {
        Kind::Delete | Kind::Undelete => "No version number provided",
        Kind::Destroy => "no version number provided",
    }
}

/// A version, hidden from `now` on; `None` if it already is.
fn delete(version: Version, now: Timestamp) -> Option<Version> {
    version.is_readable(now).then_some(Version { deleted: Some(now), ..version })
}

fn change_each(
    view: &View,
    path: &Path,
    which: impl Fn(&Metadata) -> Vec<u64>,
    to: impl Fn(Version) -> Option<Version>,
) -> Result<Outcome, PlanError> {
    let mut transaction = Transaction::new(view);
    let Some(mut metadata) = transaction.read_metadata(path)? else { return Ok(Outcome::answer(Reply::Done)) };
    let numbers = which(&metadata);
    if !change(&mut metadata, &numbers, to).is_empty() {
        transaction.put_metadata(path, &metadata);
    }
    Ok(transaction.outcome(Reply::Done))
}

/// Changes those versions that are there and that `to` changes. Returns their numbers.
fn change(metadata: &mut Metadata, numbers: &[u64], to: impl Fn(Version) -> Option<Version>) -> Vec<u64> {
    let mut changed = Vec::new();
    for &number in numbers {
        let Some(version) = metadata.versions.get_mut(&number) else { continue };
        if let Some(new) = to(*version) {
            *version = new;
            changed.push(number);
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use crate::testing::{Mount, START_TEXT, data, version};

    /// A second after the start.
    const LATER_TEXT: &str = "2026-11-24T05:35:19.123Z";

    fn mount_with_three_versions() -> Mount {
        let mount = Mount::new();
        for number in 1..=3 {
            mount.ask("POST data/a", &format!(r#"{{"data":{{"n":{number}}}}}"#));
        }
        mount.wait(1000);
        mount
    }

    fn alive(number: u64) -> String {
        data(&format!(r#"{{"n":{number}}}"#), &version(number, START_TEXT, "", false))
    }

    fn deleted(number: u64) -> String {
        data("null", &version(number, START_TEXT, LATER_TEXT, false))
    }

    #[test]
    fn deleted_versions_are_hidden_and_come_back() {
        let mount = mount_with_three_versions();
        mount.check("DELETE data/a", "", 204, "");
        mount.check("GET data/a", "", 404, &deleted(3));
        mount.check("GET data/a?version=2", "", 200, &alive(2));
        mount.check("POST delete/a", r#"{"versions":[1,"2",2,7,0,-1]}"#, 204, "");
        mount.check("GET data/a?version=1", "", 404, &deleted(1));
        // Once deleted, the time stays.
        mount.wait(5000);
        mount.check("DELETE data/a", "", 204, "");
        mount.check("POST delete/a", r#"{"versions":3}"#, 204, "");
        mount.check("GET data/a", "", 404, &deleted(3));
        mount.check("POST undelete/a", r#"{"versions":"2,3"}"#, 204, "");
        mount.check("GET data/a", "", 200, &alive(3));
        mount.check("GET data/a?version=2", "", 200, &alive(2));
        mount.check("GET data/a?version=1", "", 404, &deleted(1));
    }

    #[test]
    fn destroyed_versions_are_erased_for_good() {
        let mount = mount_with_three_versions();
        mount.check("POST destroy/a", r#"{"versions":[1,3,9]}"#, 204, "");
        let names: Vec<String> = mount.records().into_keys().collect();
        assert_eq!(names, ["data/0000000000000002/a", "meta/a"]);
        let destroyed = data("null", &version(3, START_TEXT, "", true));
        mount.check("GET data/a", "", 404, &destroyed);
        for (line, body) in [
            ("POST undelete/a", r#"{"versions":[3]}"#),
            ("POST delete/a", r#"{"versions":[3]}"#),
            ("POST destroy/a", r#"{"versions":[3]}"#),
            ("DELETE data/a", ""),
        ] {
            mount.check(line, body, 204, "");
            mount.check("GET data/a", "", 404, &destroyed);
        }
        mount.check("POST data/a", r#"{"data":{"n":4}}"#, 200, &version(4, LATER_TEXT, "", false));
    }

    #[test]
    fn a_destroyed_version_gets_no_expiry() {
        let mount = mount_with_three_versions();
        mount.ask("POST destroy/a", r#"{"versions":[3]}"#);
        mount.ask("POST metadata/a", r#"{"delete_version_after":60}"#);
        mount.check("POST undelete/a", r#"{"versions":[2,3]}"#, 204, "");
        mount.check("GET data/a", "", 404, &data("null", &version(3, START_TEXT, "", true)));
        mount.check("GET data/a?version=2", "", 200, &data(r#"{"n":2}"#, &version(2, START_TEXT, "2026-11-24T05:36:19.123Z", false)));
    }

    #[test]
    fn a_secret_that_is_not_there_needs_no_change() {
        let mount = Mount::new();
        for line in ["POST delete/a", "POST undelete/a", "POST destroy/a", "DELETE data/a"] {
            mount.check(line, r#"{"versions":[1]}"#, 204, "");
        }
        mount.check("POST metadata/a", r#"{"max_versions":1}"#, 204, "");
        mount.check("DELETE data/a", "", 204, "");
        mount.check("GET data/a", "", 404, "");
        assert_eq!(mount.records().len(), 1);
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let mount = mount_with_three_versions();
        mount.ask("DELETE data/a", "");
        mount.ask("POST destroy/a", r#"{"versions":[1]}"#);
        for (line, body) in [
            ("DELETE data/a", ""),
            ("POST delete/a", r#"{"versions":[1,3,9]}"#),
            ("POST undelete/a", r#"{"versions":[1,2,9]}"#),
            ("POST destroy/a", r#"{"versions":[1,9]}"#),
        ] {
            let operation = crate::testing::parse(line, body).ok().unwrap();
            assert!(mount.plan(&mount.view(), &*operation).unwrap().plan.is_empty(), "{line}");
        }
    }

    #[test]
    fn versions_must_be_given() {
        let mount = mount_with_three_versions();
        let before = mount.records();
        for (area, none) in [
            ("delete", "No version number provided"),
            ("undelete", "No version number provided"),
            ("destroy", "no version number provided"),
        ] {
            let line = format!("POST {area}/a");
            for body in ["", "{}", r#"{"versions":[]}"#, r#"{"versions":null}"#] {
                mount.check(&line, body, 400, none);
            }
            let wrong = "error converting input for field \"versions\": expected a list of whole numbers, such as [1,2]";
            for body in [r#"{"versions":["x"]}"#, r#"{"versions":[1.5]}"#, r#"{"versions":{}}"#, r#"{"versions":true}"#] {
                mount.check(&line, body, 400, wrong);
            }
        }
        assert!(mount.records() == before);
    }

    #[test]
    fn an_expiry_deletes_when_it_comes_and_not_before() {
        let mount = Mount::new();
        let expires = "2026-11-24T05:36:18.123Z";
        mount.check("POST metadata/a", r#"{"delete_version_after":"1m"}"#, 204, "");
        mount.check("POST data/a", r#"{"data":{"n":1}}"#, 200, &version(1, START_TEXT, expires, false));
        mount.wait(59_999);
        mount.check("GET data/a", "", 200, &data(r#"{"n":1}"#, &version(1, START_TEXT, expires, false)));
        mount.wait(1);
        mount.check("GET data/a", "", 404, &data("null", &version(1, START_TEXT, expires, false)));
        // Deleting it again does not move the time; showing it again starts anew.
        mount.check("DELETE data/a", "", 204, "");
        mount.check("GET data/a", "", 404, &data("null", &version(1, START_TEXT, expires, false)));
        mount.check("POST undelete/a", r#"{"versions":[1]}"#, 204, "");
        let expires = "2026-11-24T05:37:18.123Z";
        mount.check("GET data/a", "", 200, &data(r#"{"n":1}"#, &version(1, START_TEXT, expires, false)));
        // One that is to expire can be deleted before.
        mount.wait(1);
        mount.check("DELETE data/a", "", 204, "");
        mount.check("GET data/a", "", 404, &data("null", &version(1, START_TEXT, "2026-11-24T05:36:18.124Z", false)));
    }
}
