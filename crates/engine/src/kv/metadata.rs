//! `metadata/<path>`: all of a secret but its data, and the list of names.
//!
//! Always: a field that is not given stays as it is. A write that gives none changes nothing, and makes no secret.

use std::time::Duration;

use barrier::View;
use types::capability::Verb;
use types::{Path, Timestamp};

use super::config::SettingsChange;
use super::record::{Config, Metadata, Transaction};
use super::{custom, metadata_folder, reply};
use crate::body::{Object, SignedDuration, wrong};
use crate::listing::{self, Page};
use crate::{Ask, AskError, Json, Outcome, PlanError, Reply, json};

/// Bytes of one detailed list.
const DETAILS_BYTES_MAX: usize = 32 << 20;

/// Reads a secret's metadata.
pub(super) struct Read {
    pub(super) path: Path,
}

impl Read {
    pub(super) fn plan(&self, view: &View) -> Result<Outcome, PlanError> {
        let metadata = Transaction::new(view).read_metadata(&self.path)?;
        Ok(Outcome::answer(metadata.map_or(Reply::NotFound, |metadata| Reply::Data(reply::metadata(&metadata)))))
    }
}

/// Changes a secret's metadata; unless it is a patch, it also makes a secret without a version.
pub(super) struct Write {
    path: Path,
    settings: SettingsChange,
    delete_after: Option<Duration>,
    custom: Option<custom::Change>,
    /// Only what is there can be patched.
    is_patch: bool,
    /// Write only if the metadata was written this many times.
    cas: Option<i64>,
}

impl Write {
    pub(super) fn parse(path: Path, body: &Object<'_>) -> Result<Write, AskError> {
        Write::with_custom(path, body, custom::parse(body)?, false)
    }

    /// A merge patch (RFC 7396).
    pub(super) fn parse_patch(path: Path, body: &Object<'_>) -> Result<Write, AskError> {
        Write::with_custom(path, body, custom::parse_patch(body)?, true)
    }

    fn with_custom(path: Path, body: &Object<'_>, custom: Option<custom::Change>, is_patch: bool) -> Result<Write, AskError> {
        Ok(Write {
            path,
            settings: SettingsChange::parse(body)?,
            delete_after: delete_after(body)?,
            custom,
            is_patch,
            cas: body.integer("metadata_cas")?,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it makes nothing that is not there.
    pub(super) fn is_patch(&self) -> bool {
        self.is_patch
    }

    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        if !self.is_patch && self.is_empty() {
            return Ok(Outcome::answer(Reply::Done));
        }
        let config = transaction.read_config()?;
        let metadata = transaction.read_metadata(&self.path)?;
        match metadata {
            None if self.is_patch => return Ok(Outcome::answer(Reply::NotFound)),
            Some(_) if self.is_empty() => return Ok(Outcome::answer(Reply::Done)),
            _ => {}
        }
        self.check_cas(&config, metadata.as_ref())?;
        let mut metadata = metadata.unwrap_or_else(|| Metadata::new(now));
        self.settings.apply(&mut metadata.settings);
        if let Some(after) = self.delete_after {
            metadata.settings.delete_after = after;
        }
        if let Some(change) = &self.custom {
            change.apply(&mut metadata.custom).map_err(PlanError::Refused)?;
        }
        metadata.metadata_version += 1;
        metadata.updated = now;
        transaction.put_metadata(&self.path, &metadata);
        Ok(transaction.outcome(Reply::Done))
    }

    /// Nothing is to be changed.
    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.delete_after.is_none() && self.custom.is_none()
    }

    fn check_cas(&self, config: &Config, metadata: Option<&Metadata>) -> Result<(), PlanError> {
        let required = config.settings.metadata_cas_required || metadata.is_some_and(|metadata| metadata.settings.metadata_cas_required);
        let refused = |text: &str| Err(PlanError::Refused(text.to_owned()));
        match (self.cas, metadata) {
            (None, _) if required => refused("metadata check-and-set parameter required for this call"),
            (None, _) | (Some(0), None) => Ok(()),
            (Some(_), None) => refused("metadata_cas must be 0 when creating new metadata"),
            (Some(cas), Some(metadata)) if u64::try_from(cas) == Ok(metadata.metadata_version) => Ok(()),
            (Some(_), Some(_)) => refused("metadata check-and-set parameter does not match the current version"),
        }
    }
}

fn delete_after(body: &Object<'_>) -> Result<Option<Duration>, AskError> {
    match body.duration("delete_version_after")? {
        None => Ok(None),
        Some(SignedDuration::Positive(after)) => Ok(Some(after)),
        Some(SignedDuration::Negative) => Err(wrong("delete_version_after", "cannot provide negative value")),
    }
}

/// Erases a secret, with all its versions.
pub(super) struct Delete {
    pub(super) path: Path,
}

impl Delete {
    pub(super) fn plan(&self, view: &View) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let Some(metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::Done)) };
        for (&number, _) in metadata.versions.iter().filter(|(_, version)| !version.destroyed) {
            transaction.delete_data(&self.path, number);
        }
        transaction.delete_metadata(&self.path);
        Ok(transaction.outcome(Reply::Done))
    }
}

/// Lists the names in a folder, or of all secrets below it.
pub(super) struct List {
    folder: Path,
    page: Page,
    is_recursive: bool,
    /// With the metadata of each secret.
    is_detailed: bool,
}

impl List {
    pub(super) fn parse(folder: Path, ask: &Ask, is_detailed: bool) -> Result<List, AskError> {
        Ok(List { folder, page: Page::parse(ask)?, is_recursive: ask.verb == Verb::Scan, is_detailed })
    }

    pub(super) fn plan(&self, view: &View) -> Result<Outcome, PlanError> {
        let folder = metadata_folder().join(self.folder.as_str());
        let names = if self.is_recursive { self.page.descendants(view, &folder)? } else { self.page.children(view, &folder)? };
        let reply = if self.is_detailed && !names.is_empty() { self.details(view, names)? } else { listing::reply(names) };
        Ok(Outcome::answer(reply))
    }

    fn details(&self, view: &View, names: Vec<String>) -> Result<Reply, PlanError> {
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let info = if name.ends_with('/') { json(&serde_json::json!({})) } else { self.info(view, &name)? };
            bytes += name.len() + info.len();
            if bytes > DETAILS_BYTES_MAX {
                let text =
                    format!("the list would be longer than {DETAILS_BYTES_MAX} bytes (ask for fewer with limit, and go on with after)");
                return Err(PlanError::Refused(text));
            }
            entries.push((name, info));
        }
        Ok(Reply::Details(entries))
    }

    fn info(&self, view: &View, name: &str) -> Result<Json, PlanError> {
        let path = Path::parse(name).and_then(|name| self.folder.join(&name)).map_err(|_| PlanError::Malformed)?;
        let metadata = Transaction::new(view).read_metadata(&path)?.ok_or(PlanError::Malformed)?;
        Ok(reply::metadata(&metadata))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Mount, START_TEXT, data, version};

    const LATER_TEXT: &str = "2026-11-24T05:35:19.123Z";

    #[test]
    fn metadata_tells_all_but_the_data() {
        let mount = Mount::new();
        mount.check("GET metadata/a", "", 404, "");
        mount.ask("POST data/a", r#"{"data":{"hidden":1}}"#);
        mount.wait(1000);
        mount.ask("POST data/a", r#"{"data":{"hidden":2}}"#);
        mount.ask("POST destroy/a", r#"{"versions":[1]}"#);
        mount.ask("DELETE data/a", "");
        let versions = format!(
            r#"{{"1":{{"created_time":"{START_TEXT}","deletion_time":"","destroyed":true}},"2":{{"created_time":"{LATER_TEXT}","deletion_time":"{LATER_TEXT}","destroyed":false}}}}"#
        );
        mount.wait(1000);
        mount.check("GET metadata/a", "", 200, &format!(
            r#"{{"cas_required":false,"created_time":"{START_TEXT}","current_metadata_version":0,"current_version":2,"custom_metadata":null,"delete_version_after":"0s","max_versions":0,"metadata_cas_required":false,"oldest_version":0,"updated_time":"{LATER_TEXT}","versions":{versions}}}"#
        ));
        let body = r#"{"max_versions":2,"cas_required":true,"delete_version_after":"1h","custom_metadata":{"b":"2","a":"1"},"metadata_cas_required":false}"#;
        mount.check("POST metadata/a", body, 204, "");
        mount.check("GET metadata/a", "", 200, &format!(
            r#"{{"cas_required":true,"created_time":"{START_TEXT}","current_metadata_version":1,"current_version":2,"custom_metadata":{{"a":"1","b":"2"}},"delete_version_after":"1h0m0s","max_versions":2,"metadata_cas_required":false,"oldest_version":0,"updated_time":"2026-11-24T05:35:20.123Z","versions":{versions}}}"#
        ));
    }

    #[test]
    fn a_field_that_is_not_given_stays() {
        let mount = Mount::new();
        let field = |name: &str| {
            let answer: serde_json::Value = serde_json::from_str(&mount.ask("GET metadata/a", "").body).unwrap();
            answer[name].to_string()
        };
        mount.ask("POST metadata/a", r#"{"max_versions":2,"cas_required":true,"delete_version_after":90,"custom_metadata":{"a":"1"}}"#);
        for (body, name, want) in [
            (r#"{"max_versions":"3"}"#, "max_versions", "3"),
            (r#"{"cas_required":false}"#, "cas_required", "false"),
            (r#"{"delete_version_after":"2m"}"#, "delete_version_after", "\"2m0s\""),
            (r#"{"custom_metadata":{"b":2}}"#, "custom_metadata", r#"{"b":"2"}"#),
            (r#"{"max_versions":null}"#, "max_versions", "0"),
            (r#"{"foo":1}"#, "current_metadata_version", "6"),
            ("{}", "current_metadata_version", "6"),
            ("", "delete_version_after", "\"2m0s\""),
            (r#"{"custom_metadata":{}}"#, "custom_metadata", "null"),
            (r#"{"cas_required":false}"#, "current_metadata_version", "8"),
        ] {
            mount.check("POST metadata/a", body, 204, "");
            assert_eq!(field(name), want, "{body}");
        }
    }

    #[test]
    fn a_patch_changes_what_is_there_and_makes_nothing() {
        let mount = Mount::new();
        for body in ["{}", r#"{"max_versions":1}"#, r#"{"custom_metadata":{"a":"1"}}"#] {
            mount.check("PATCH metadata/a", body, 404, "");
        }
        assert!(mount.records().is_empty());
        let field = |name: &str| {
            let answer: serde_json::Value = serde_json::from_str(&mount.ask("GET metadata/a", "").body).unwrap();
            answer[name].to_string()
        };
        mount.ask("POST metadata/a", r#"{"max_versions":2,"cas_required":true,"custom_metadata":{"a":"1","b":"2"}}"#);
        for (body, name, want) in [
            (r#"{"custom_metadata":{"c":"3"}}"#, "custom_metadata", r#"{"a":"1","b":"2","c":"3"}"#),
            (r#"{"custom_metadata":{"a":null,"c":4}}"#, "custom_metadata", r#"{"b":"2","c":"4"}"#),
            (r#"{"max_versions":null}"#, "max_versions", "0"),
            (r#"{"max_versions":7}"#, "cas_required", "true"),
            (r#"{"foo":1}"#, "current_metadata_version", "5"),
            ("{}", "current_metadata_version", "5"),
            (r#"{"custom_metadata":null,"metadata_cas":5}"#, "custom_metadata", "null"),
            (r#"{"cas_required":null}"#, "cas_required", "false"),
        ] {
            mount.check("PATCH metadata/a", body, 204, "");
            assert_eq!(field(name), want, "{body}");
        }
        let mismatch = "metadata check-and-set parameter does not match the current version";
        mount.check("PATCH metadata/a", r#"{"max_versions":1,"metadata_cas":1}"#, 400, mismatch);
        assert_eq!(field("max_versions"), "7");
    }

    #[test]
    fn a_write_without_fields_makes_no_secret() {
        let mount = Mount::new();
        for body in ["", "{}", r#"{"foo":1}"#, r#"{"metadata_cas":0}"#] {
            mount.check("POST metadata/a", body, 204, "");
            mount.check("GET metadata/a", "", 404, "");
        }
        mount.check("POST metadata/a", r#"{"custom_metadata":null}"#, 204, "");
        assert_eq!(mount.ask("GET metadata/a", "").status, 200);
        mount.check("GET data/a", "", 404, "");
    }

    #[test]
    fn wrong_fields_are_refused_and_change_nothing() {
        let mount = Mount::new();
        for (body, want) in [
            (r#"{"max_versions":1,"cas_required":"x"}"#, "error converting input for field \"cas_required\": expected true or false"),
            (r#"{"max_versions":1.5}"#, "error converting input for field \"max_versions\": expected a whole number"),
            (
                r#"{"delete_version_after":"-5s"}"#,
                "error converting input for field \"delete_version_after\": cannot provide negative value",
            ),
            (
                r#"{"delete_version_after":[]}"#,
                "error converting input for field \"delete_version_after\": expected a duration, such as \"1h30m\" or a number of seconds",
            ),
            (r#"{"max_versions":1,"metadata_cas":"x"}"#, "error converting input for field \"metadata_cas\": expected a whole number"),
            (
                r#"{"max_versions":1,"custom_metadata":{"":"x"}}"#,
                "1 error occurred:\n\t* custom_metadata validation failed: length of key 1 is 0 but must be 0 < len(key) <= 128\n\n",
            ),
        ] {
            mount.check("POST metadata/a", body, 400, want);
        }
        assert!(mount.records().is_empty());
    }

    #[test]
    fn check_and_set_of_metadata() {
        let mount = Mount::new();
        let mismatch = "metadata check-and-set parameter does not match the current version";
        let required = "metadata check-and-set parameter required for this call";
        for (body, status, want) in [
            (r#"{"max_versions":1,"metadata_cas":1}"#, 400, "metadata_cas must be 0 when creating new metadata"),
            (r#"{"max_versions":1,"metadata_cas":0}"#, 204, ""),
            (r#"{"max_versions":1,"metadata_cas":0}"#, 400, mismatch),
            (r#"{"max_versions":1,"metadata_cas":-1}"#, 400, mismatch),
            (r#"{"max_versions":1,"metadata_cas":null}"#, 400, mismatch),
            (r#"{"max_versions":2,"metadata_cas":1}"#, 204, ""),
            (r#"{"metadata_cas_required":true}"#, 204, ""),
            (r#"{"max_versions":2}"#, 400, required),
            (r#"{"max_versions":2,"metadata_cas":2}"#, 400, mismatch),
            (r#"{"metadata_cas_required":false,"metadata_cas":3}"#, 204, ""),
            (r#"{"max_versions":3}"#, 204, ""),
        ] {
            mount.check("POST metadata/a", body, status, want);
        }
        mount.ask("POST config", r#"{"metadata_cas_required":true}"#);
        mount.check("POST metadata/b", r#"{"max_versions":1}"#, 400, required);
        mount.check("POST metadata/b", r#"{"max_versions":1,"metadata_cas":0}"#, 204, "");
        // Data has a check of its own.
        mount.check("POST data/b", r#"{"data":{}}"#, 200, &version(1, START_TEXT, "", false));
    }

    #[test]
    fn custom_metadata_comes_with_each_version() {
        let mount = Mount::new();
        mount.ask("POST metadata/a", r#"{"custom_metadata":{"owner":"ops"}}"#);
        let version = version(1, START_TEXT, "", false).replace("null", r#"{"owner":"ops"}"#);
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version);
        mount.check("GET data/a", "", 200, &data("{}", &version));
    }

    #[test]
    fn deleting_metadata_forgets_the_secret_whole() {
        let mount = Mount::new();
        mount.ask("POST data/a/1", r#"{"data":{"kept":1}}"#);
        let before = mount.records();
        for _ in 0..12 {
            mount.ask("POST data/a", r#"{"data":{}}"#);
        }
        mount.ask("POST destroy/a", r#"{"versions":[9]}"#);
        mount.ask("DELETE data/a", "");
        mount.check("DELETE metadata/a", "", 204, "");
        assert!(mount.records() == before, "nothing of it is left, and nothing else is gone");
        mount.check("GET data/a", "", 404, "");
        mount.check("GET data/a?version=5", "", 404, "");
        mount.check("DELETE metadata/a", "", 204, "");
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version(1, START_TEXT, "", false));
    }

    #[test]
    fn lists_show_secrets_and_folders() {
        let mount = Mount::new();
        mount.check("LIST metadata", "", 404, "");
        for path in ["f/g/h", "f/g", "f", "z", "a", "é", "a b"] {
            mount.ask(&format!("POST data/{path}"), r#"{"data":{}}"#);
        }
        mount.ask("POST metadata/m", r#"{"max_versions":1}"#);
        mount.ask("DELETE data/z", "");
        for (line, want) in [
            ("LIST metadata", r#"["a","a b","f","f/","m","z","é"]"#),
            ("LIST metadata/", r#"["a","a b","f","f/","m","z","é"]"#),
            ("LIST metadata/f", r#"["g","g/"]"#),
            ("LIST metadata/f/", r#"["g","g/"]"#),
            ("LIST metadata/f/g/", r#"["h"]"#),
            ("LIST metadata?limit=2", r#"["a","a b"]"#),
            ("LIST metadata?after=f&limit=1", r#"["f/"]"#),
            ("LIST metadata?after=f/&limit=1", r#"["m"]"#),
            ("LIST metadata?after=f&limit=-1", r#"["f/","m","z","é"]"#),
        ] {
            mount.check(line, "", 200, want);
        }
        for line in ["LIST metadata/a", "LIST metadata/nope", "LIST metadata?after=\u{ffff}", "LIST metadata/f/g/h"] {
            mount.check(line, "", 404, "");
        }
        let want = "Field validation failed: error converting input for field \"limit\": expected a whole number";
        mount.check("LIST metadata?limit=x", "", 400, want);
    }

    #[test]
    fn scans_show_all_secrets_below() {
        let mount = Mount::new();
        mount.check("SCAN metadata", "", 404, "");
        for path in ["f/h/i", "f/g", "f", "f.x", "a"] {
            mount.ask(&format!("POST data/{path}"), r#"{"data":{}}"#);
        }
        mount.ask("DELETE data/a", "");
        mount.ask("POST metadata/m", r#"{"max_versions":1}"#);
        for (line, want) in [
            ("SCAN metadata", r#"["a","f","f.x","f/g","f/h/i","m"]"#),
            ("SCAN metadata/", r#"["a","f","f.x","f/g","f/h/i","m"]"#),
            ("SCAN metadata/f", r#"["g","h/i"]"#),
            ("SCAN metadata/f/", r#"["g","h/i"]"#),
            ("SCAN metadata?after=f&limit=2", r#"["f.x","f/g"]"#),
            ("SCAN metadata?after=f/g", r#"["f/h/i","m"]"#),
            ("SCAN metadata?after=f/h/", r#"["f/h/i","m"]"#),
            ("SCAN metadata/f?limit=1", r#"["g"]"#),
        ] {
            mount.check(line, "", 200, want);
        }
        for line in ["SCAN metadata/a", "SCAN metadata/nope", "SCAN metadata?after=z"] {
            mount.check(line, "", 404, "");
        }
    }

    #[test]
    fn detailed_lists_tell_of_each_secret() {
        let mount = Mount::new();
        mount.check("LIST detailed-metadata", "", 404, "");
        for path in ["f/g/h", "f/g", "f", "a"] {
            mount.ask(&format!("POST data/{path}"), r#"{"data":{"hidden":1}}"#);
        }
        mount.ask("POST metadata/f", r#"{"custom_metadata":{"owner":"ops"}}"#);
        let info = |path: &str| mount.ask(&format!("GET metadata/{path}"), "").body;
        for (line, want) in [
            (
                "LIST detailed-metadata",
                format!(r#"{{"key_info":{{"a":{},"f":{},"f/":{{}}}},"keys":["a","f","f/"]}}"#, info("a"), info("f")),
            ),
            ("LIST detailed-metadata/f/?limit=1", format!(r#"{{"key_info":{{"g":{}}},"keys":["g"]}}"#, info("f/g"))),
            (
                "SCAN detailed-metadata?after=a",
                format!(
                    r#"{{"key_info":{{"f":{},"f/g":{},"f/g/h":{}}},"keys":["f","f/g","f/g/h"]}}"#,
                    info("f"),
                    info("f/g"),
                    info("f/g/h")
                ),
            ),
        ] {
            mount.check(line, "", 200, &want);
        }
        for line in ["LIST detailed-metadata/a", "SCAN detailed-metadata/nope"] {
            mount.check(line, "", 404, "");
        }
    }
}
