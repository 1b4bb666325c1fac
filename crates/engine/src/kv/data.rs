//! `data/<path>`: a secret's data, by version.
//!
//! Always: the data is an object or null, and kept as the text that came.

use barrier::View;
use crypto::SecretBytes;
use types::{Path, Timestamp};

use super::merge::merge;
use super::record::{Config, Metadata, Transaction};
use super::reply;
use crate::body::{Kind, Object, integer, kind, not_a_map};
use crate::{AskError, Outcome, PlanError, Reply};

/// Bytes of one version's data. Half of what a value of the table may have, so that a write always fits in a batch.
pub const DATA_BYTES_MAX: usize = 8 << 20;

/// Members of a body that are named in a warning, and characters of each name.
const IGNORED_MAX: usize = 16;
const IGNORED_CHARS_MAX: usize = 64;
/// Members of a body that mean something; `version` does nothing in a write, but is known.
const KNOWN: [&str; 3] = ["data", "options", "version"];

/// Reads a version.
pub(super) struct Read {
    pub(super) path: Path,
    /// `None`: the newest.
    pub(super) version: Option<u64>,
}

impl Read {
    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let Some(metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::NotFound)) };
        let number = self.version.unwrap_or(metadata.newest);
        let Some(&version) = metadata.versions.get(&number) else { return Ok(Outcome::answer(Reply::NotFound)) };
        if !version.is_readable(now) {
            return Ok(Outcome::answer(Reply::Gone(reply::data(b"null", &metadata, number, version))));
        }
        let data = transaction.read_data(&self.path, number)?;
        // EXPOSE: the secret is the answer.
        Ok(Outcome::answer(Reply::Data(reply::data(data.expose(), &metadata, number, version))))
    }
}

/// Writes a new version.
pub(super) struct Write {
    path: Path,
    body: Body,
}

impl Write {
    pub(super) fn parse(path: Path, body: &Object<'_>) -> Result<Write, AskError> {
        Ok(Write { path, body: Body::parse(body)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let config = transaction.read_config()?;
        let metadata = transaction.read_metadata(&self.path)?.unwrap_or_else(|| Metadata::new(now));
        self.body.check_cas(&config, &metadata)?;
        let outcome = add_version(transaction, &self.path, &config, metadata, copy(&self.body.data), now);
        Ok(Outcome { warnings: self.body.warnings(), ..outcome })
    }
}

/// Writes a new version that is the newest, changed (RFC 7396).
pub(super) struct Patch {
    path: Path,
    body: Body,
}

impl Patch {
    pub(super) fn parse(path: Path, body: &Object<'_>) -> Result<Patch, AskError> {
        Ok(Patch { path, body: Body::parse(body)? })
    }

    pub(super) fn plan(&self, view: &View, now: Timestamp) -> Result<Outcome, PlanError> {
        let mut transaction = Transaction::new(view);
        let config = transaction.read_config()?;
        let Some(metadata) = transaction.read_metadata(&self.path)? else { return Ok(Outcome::answer(Reply::NotFound)) };
        let Some((number, newest)) = metadata.newest() else { return Ok(Outcome::answer(Reply::NotFound)) };
        if !newest.is_readable(now) {
            return Ok(Outcome::answer(Reply::Gone(reply::version(&metadata, number, newest))));
        }
        self.body.check_cas(&config, &metadata)?;
        let old = transaction.read_data(&self.path, number)?;
        let data = self.body.patch(&old)?;
        let outcome = add_version(transaction, &self.path, &config, metadata, data, now);
        Ok(Outcome { warnings: self.body.warnings(), ..outcome })
    }
}

/// The body of a write and of a patch.
struct Body {
    /// JSON text: an object or null.
    data: SecretBytes,
    /// Write only if the newest version has this number; 0: only if there is none.
    cas: Option<i64>,
    /// Names of members that mean nothing.
    ignored: Vec<String>,
}

impl Body {
    fn parse(body: &Object<'_>) -> Result<Body, AskError> {
        let data = body.member("data").ok_or_else(|| AskError::Invalid("no data provided".to_owned()))?;
        match kind(data) {
            Kind::Object | Kind::Null => {}
            kind => return Err(not_a_map("data", kind)),
        }
        if data.len() > DATA_BYTES_MAX {
            return Err(AskError::Invalid(too_large(data.len())));
        }
        let cas = cas(&body.object("options")?.unwrap_or_default())?;
        let ignored = body.members().map(|(name, _)| name).filter(|name| !KNOWN.contains(name)).take(IGNORED_MAX);
        let ignored = ignored.map(|name| name.chars().take(IGNORED_CHARS_MAX).collect()).collect();
        Ok(Body { data: SecretBytes::with_len(data.len(), |bytes| bytes.copy_from_slice(data.as_bytes())), cas, ignored })
    }

    fn check_cas(&self, config: &Config, metadata: &Metadata) -> Result<(), PlanError> {
        let refused = |text: &str| Err(PlanError::Refused(text.to_owned()));
        match self.cas {
            Some(cas) if u64::try_from(cas) == Ok(metadata.newest) => Ok(()),
            Some(_) => refused("check-and-set parameter did not match the current version"),
            None if config.settings.cas_required || metadata.settings.cas_required => {
                refused("check-and-set parameter required for this call")
            }
            None => Ok(()),
        }
    }

    /// `old`, changed by this body's data.
    fn patch(&self, old: &SecretBytes) -> Result<SecretBytes, PlanError> {
        // EXPOSE: two texts are merged into one.
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| PlanError::Malformed);
        let (old, new) = (text(old.expose())?, text(self.data.expose())?);
        // A patch that is no object replaces the whole.
        if kind(new) != Kind::Object {
            return Ok(copy(&self.data));
        }
        let data = merge(old, new).map_err(|error| PlanError::Refused(error.to_string()))?;
        if data.len() > DATA_BYTES_MAX { Err(PlanError::Refused(too_large(data.len()))) } else { Ok(data) }
    }

    fn warnings(&self) -> Vec<String> {
        let ignored = self.ignored.join(" ");
        if ignored.is_empty() { Vec::new() } else { vec![format!("Endpoint ignored these unrecognized parameters: [{ignored}]")] }
    }
}

fn cas(options: &Object<'_>) -> Result<Option<i64>, AskError> {
    let parse = |text| integer(text).ok_or_else(|| AskError::Invalid("error parsing check-and-set parameter".to_owned()));
    options.member("cas").map(parse).transpose()
}

fn too_large(bytes: usize) -> String {
    format!("the data is {bytes} bytes long (at most {DATA_BYTES_MAX})")
}

/// A plan may be made several times of one operation.
fn copy(data: &SecretBytes) -> SecretBytes {
    // EXPOSE: from one wiped buffer to another.
    SecretBytes::with_len(data.len(), |bytes| bytes.copy_from_slice(data.expose()))
}

fn add_version(
    mut transaction: Transaction<'_>,
    path: &Path,
    config: &Config,
    mut metadata: Metadata,
    data: SecretBytes,
    now: Timestamp,
) -> Outcome {
    let (number, trimmed) = metadata.add_version(config, now);
    transaction.put_metadata(path, &metadata);
    transaction.put_data(path, number, data);
    for gone in trimmed {
        transaction.delete_data(path, gone);
    }
    let version = metadata.versions[&number];
    transaction.outcome(Reply::Data(reply::version(&metadata, number, version)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Mount, START_TEXT, data, parse, version};

    #[test]
    fn versions_are_written_and_read() {
        let mount = Mount::new();
        let alive = |number| version(number, START_TEXT, "", false);
        mount.check("GET data/a", "", 404, "");
        mount.check("POST data/a", r#"{"data":{"k":1}}"#, 200, &alive(1));
        mount.check("POST data/a", r#"{"data":null}"#, 200, &alive(2));
        for (line, want) in [
            ("GET data/a", data("null", &alive(2))),
            ("GET data/a?version=", data("null", &alive(2))),
            ("GET data/a?version=0", data("null", &alive(2))),
            ("GET data/a?version=-1", data("null", &alive(2))),
            ("GET data/a?version=2", data("null", &alive(2))),
            ("GET data/a?version=1", data(r#"{"k":1}"#, &alive(1))),
            ("GET data/a?version=9&version=1", data(r#"{"k":1}"#, &alive(1))),
        ] {
            mount.check(line, "", 200, &want);
        }
        mount.check("GET data/a?version=3", "", 404, "");
        mount.check("GET data/b", "", 404, "");
        for text in ["x", "1.5", "1.0", " 1", "99999999999999999999"] {
            let want = "Field validation failed: error converting input for field \"version\": expected a whole number";
            mount.check(&format!("GET data/a?version={text}"), "", 400, want);
        }
    }

    #[test]
    fn data_survives_to_the_byte() {
        let mount = Mount::new();
        for text in [
            "{}",
            "{ }",
            "null",
            r#"{"a":1e400}"#,
            r#"{"a":1.0,"b":-0,"c":1E+2}"#,
            r#"{"a":123456789012345678901234567890.123456789012345678901234567890}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"z":1, "a" :	[ 1 ,2 ],
              "m":{"y":{},"x":null}}"#,
            r#"{"\u0041":"\u00e9\ud83d\ude00<&>\/\u2028"}"#,
            "{\"\u{e9}\":\"\u{1f600}\u{2028}\u{feff}\"}",
            r#"{"half":"\ud800"}"#,
        ] {
            assert_eq!(mount.ask("POST data/a", &format!("{{\"data\": {text} }}")).status, 200, "{text}");
            let answer = mount.ask("GET data/a", "").body;
            let start = answer.strip_prefix("{\"data\":").unwrap().strip_prefix(text);
            assert!(start.is_some_and(|rest| rest.starts_with(",\"metadata\":{")), "{text}: {answer}");
        }
    }

    #[test]
    fn bodies_that_are_no_write_are_refused_and_write_nothing() {
        let mount = Mount::new();
        let not_a_map = |field: &str, kind: &str| {
            format!(
                "error converting input for field \"{field}\": '' expected type 'map[string]interface {{}}', got unconvertible type '{kind}'"
            )
        };
        for (body, want) in [
            ("", "no data provided".to_owned()),
            ("null", "no data provided".to_owned()),
            ("{}", "no data provided".to_owned()),
            (r#"{"options":{"cas":0}}"#, "no data provided".to_owned()),
            (r#"{"data":"x"}"#, not_a_map("data", "string")),
            (r#"{"data":5}"#, not_a_map("data", "json.Number")),
            (r#"{"data":true}"#, not_a_map("data", "bool")),
            (r#"{"data":[{"a":1}]}"#, not_a_map("data", "[]interface {}")),
            (r#"{"data":{},"options":"x"}"#, not_a_map("options", "string")),
            (r#"{"data":{},"options":5}"#, not_a_map("options", "json.Number")),
            ("[]", "failed to decode JSON input: the body must be an object".to_owned()),
            (r#"{"data":{}"#, "failed to decode JSON input: unexpected end at line 1, column 10".to_owned()),
            (r#"{"data":{}} x"#, "failed to decode JSON input: not JSON at line 1, column 13".to_owned()),
            (r#"{"data":{},"options":{"cas":"x"}}"#, "error parsing check-and-set parameter".to_owned()),
            (r#"{"data":{},"options":{"cas":1.5}}"#, "error parsing check-and-set parameter".to_owned()),
            (r#"{"data":{},"options":{"cas":[]}}"#, "error parsing check-and-set parameter".to_owned()),
        ] {
            mount.check("POST data/a", body, 400, &want);
            mount.check("PATCH data/a", body, 400, &want);
        }
        let large = format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(DATA_BYTES_MAX - 7));
        mount.check("POST data/a", &large, 400, "the data is 8388609 bytes long (at most 8388608)");
        assert!(mount.records().is_empty());
        assert_eq!(mount.ask("POST data/a", &large.replacen('x', "", 1)).status, 200);
        let answer = mount.ask("PATCH data/a", r#"{"data":{"b":1}}"#);
        assert_eq!((answer.status, &*answer.body), (400, "the data is 8388614 bytes long (at most 8388608)"));
    }

    #[test]
    fn check_and_set() {
        let mount = Mount::new();
        let mismatch = "check-and-set parameter did not match the current version";
        let cas = |text: &str| format!(r#"{{"data":{{}},"options":{{"cas":{text}}}}}"#);
        let mut newest = 0;
        for (text, fits) in [
            ("1", false),
            ("-1", false),
            ("0", true),
            ("0", false),
            ("null", false),
            ("\"1\"", true),
            ("3", false),
            ("2", true),
            ("18446744073709551615", false),
        ] {
            let answer = mount.ask("POST data/a", &cas(text));
            newest += u64::from(fits);
            match fits {
                true => assert_eq!(answer.body, version(newest, START_TEXT, "", false), "{text}"),
                false => assert_eq!(answer.status, 400, "{text}"),
            }
        }
        // A deleted version is still the newest.
        mount.check("DELETE data/a", "", 204, "");
        mount.check("POST data/a", &cas("0"), 400, mismatch);
        // A secret without versions has none.
        mount.check("POST metadata/b", r#"{"max_versions":1}"#, 204, "");
        mount.check("POST data/b", &cas("1"), 400, mismatch);
        mount.check("POST data/b", &cas("0"), 200, &version(1, START_TEXT, "", false));
    }

    #[test]
    fn check_and_set_may_be_required_by_mount_or_secret() {
        let required = "check-and-set parameter required for this call";
        for line in ["POST config", "POST metadata/a"] {
            let mount = Mount::new();
            mount.check(line, r#"{"cas_required":true}"#, 204, "");
            mount.check("POST data/a", r#"{"data":{}}"#, 400, required);
            mount.check("POST data/a", r#"{"data":{},"options":{}}"#, 400, required);
            mount.check("POST data/a", r#"{"data":{},"options":{"cas":0}}"#, 200, &version(1, START_TEXT, "", false));
            mount.check("PATCH data/a", r#"{"data":{}}"#, 400, required);
            mount.check(line, r#"{"cas_required":false}"#, 204, "");
            assert_eq!(mount.ask("POST data/a", r#"{"data":{}}"#).status, 200);
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let mount = Mount::new();
        let alive = |number| version(number, START_TEXT, "", false);
        mount.check("PATCH data/a", r#"{"data":{}}"#, 404, "");
        mount.check("POST metadata/a", r#"{"max_versions":9}"#, 204, "");
        mount.check("PATCH data/a", r#"{"data":{}}"#, 404, "");
        mount.check("POST data/a", r#"{"data":{"n":1e400,"b":{"c":1,"d":2}}}"#, 200, &alive(1));
        mount.check("PATCH data/a", r#"{"data":{"b":{"c":null},"x":1.0}}"#, 200, &alive(2));
        mount.check("GET data/a", "", 200, &data(r#"{"b":{"d":2},"n":1e400,"x":1.0}"#, &alive(2)));
        mount.check("PATCH data/a", r#"{"data":{},"options":{"cas":1}}"#, 400, "check-and-set parameter did not match the current version");
        mount.check("PATCH data/a", r#"{"data":null,"options":{"cas":2}}"#, 200, &alive(3));
        mount.check("PATCH data/a", r#"{"data":{"a":1,"b":null}}"#, 200, &alive(4));
        mount.check("GET data/a", "", 200, &data(r#"{"a":1}"#, &alive(4)));
        mount.check("DELETE data/a", "", 204, "");
        mount.check("PATCH data/a", r#"{"data":{}}"#, 404, &version(4, START_TEXT, START_TEXT, false));
    }

    #[test]
    fn members_that_mean_nothing_are_told() {
        let mount = Mount::new();
        let answer = mount.ask("POST data/a", r#"{"option":{"cas":0},"data":{},"b":1,"version":1,"options":{"x":1}}"#);
        assert_eq!(answer.warnings, ["Endpoint ignored these unrecognized parameters: [b option]"]);
        assert!(mount.ask("POST data/a", r#"{"data":{},"options":{}}"#).warnings.is_empty());
        let many: String = (10..60).map(|i| format!("\"{}{i}\":1,", "x".repeat(100))).collect();
        let answer = mount.ask("POST data/a", &format!("{{{many}\"data\":{{}}}}"));
        assert!(answer.warnings[0].len() < 17 * 65 + 60);
    }

    #[test]
    fn trimmed_versions_take_their_data_along() {
        let mount = Mount::new();
        for _ in 0..12 {
            mount.ask("POST data/a", r#"{"data":{}}"#);
        }
        let names: Vec<String> = mount.records().into_keys().collect();
        let want: Vec<String> = (3..=12).map(|number| format!("data/{number:016x}/a")).chain(["meta/a".to_owned()]).collect();
        assert_eq!(names, want);
        mount.check("GET data/a?version=2", "", 404, "");
    }

    #[test]
    fn of_two_plans_from_one_view_one_commits() {
        let write = |cas: &str| parse("POST data/a", &format!(r#"{{"data":{{}}{cas}}}"#)).ok().unwrap();
        let other = |line: &str, body: &str| parse(line, body).ok().unwrap();
        for (first, second) in [
            (write(""), write("")),
            (write(r#","options":{"cas":1}"#), write(r#","options":{"cas":1}"#)),
            (write(""), other("DELETE data/a", "")),
            (write(""), other("POST destroy/a", r#"{"versions":[1]}"#)),
            (write(""), other("DELETE metadata/a", "")),
            (write(""), other("POST metadata/a", r#"{"cas_required":true}"#)),
            (other("POST config", r#"{"cas_required":true}"#), write("")),
            (other("POST config", r#"{"delete_version_after":60}"#), other("POST undelete/a", r#"{"versions":[1]}"#)),
            (other("POST config", r#"{"metadata_cas_required":true}"#), other("POST metadata/a", r#"{"max_versions":1}"#)),
            (other("DELETE metadata/a", ""), other("PATCH data/a", r#"{"data":{}}"#)),
            (other("POST delete/a", r#"{"versions":[1]}"#), other("POST destroy/a", r#"{"versions":[1]}"#)),
        ] {
            let mount = Mount::new();
            mount.ask("POST data/a", r#"{"data":{}}"#);
            // Now there is something to show again, to any who undeletes.
            mount.ask("POST metadata/a", r#"{"delete_version_after":3600}"#);
            let view = mount.view();
            let plan = |operation: &dyn crate::Operation| mount.plan(&view, operation).ok().unwrap();
            let (first, second) = (plan(&*first), plan(&*second));
            assert!(!first.plan.is_empty() && !second.plan.is_empty());
            assert!(mount.commit(&view, &first));
            assert!(!mount.commit(&view, &second));
        }
    }

    #[test]
    fn two_first_writes_make_one_first_version() {
        let mount = Mount::new();
        let view = mount.view();
        let plan = || mount.plan(&view, &*parse("POST data/a", r#"{"data":{}}"#).ok().unwrap()).ok().unwrap();
        let (first, second) = (plan(), plan());
        assert!(mount.commit(&view, &first) && !mount.commit(&view, &second));
        mount.check("POST data/a", r#"{"data":{}}"#, 200, &version(2, START_TEXT, "", false));
    }

    #[test]
    fn writes_of_other_secrets_do_not_conflict() {
        let mount = Mount::new();
        let view = mount.view();
        let plan = |line| mount.plan(&view, &*parse(line, r#"{"data":{}}"#).ok().unwrap()).ok().unwrap();
        let (first, second) = (plan("POST data/a"), plan("POST data/a/1"));
        assert!(mount.commit(&view, &first) && mount.commit(&view, &second));
    }
}
