//! Moves and copies of secrets and folders, with their history, within a mount and across mounts.
//!
//! Always: one transaction, so that all of it happens or nothing, and so that nobody ever sees a moved secret twice or not at all. Values and
//! metadata are written as they were read, to the byte, and shown to nobody: who asks needs no permission to read them. Everything that was
//! read is expected to be as it was, and so is what is to be there not yet. A secret that somebody else puts into a folder meanwhile stays where it
//! is put, as if it had come after the move.
//!
//! Knows nothing of who asks or of mounts: names are those of a view that shows both mounts. Who carries a plan out authorises each of its
//! [`Transferred::secrets`] first.

use barrier::{Name, Plan, View};
use crypto::SecretBytes;
use types::{Path, PathError};

use super::record::{Metadata, decode_metadata};
use super::upgrade::{check_not_begun, upgrade_name};
use super::{Version, data_name, metadata_folder, metadata_name};
use crate::PlanError;
use crate::kv1::{secret_name, secrets_folder};
use crate::listing::Page;

/// Records that one move or copy may read and write, at most.
pub const TRANSFER_RECORDS_MAX: usize = 20_000;
/// Bytes of names and values that one move or copy may come to, at most: it is one batch, which may have 32 MiB.
pub const TRANSFER_BYTES_MAX: usize = 24 << 20;

/// What encryption adds to a name's segment, and a batch to a record; on the safe side.
const SEGMENT_BYTES: usize = 24;
const RECORD_BYTES: usize = 64;

/// One end of a transfer.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where the mount's records lie, in the view that shows both ends.
    pub root: &'a Name,
    /// What the mount's records are like.
    pub version: Version,
    /// A secret, or a folder if it ends in a slash (the root is the whole mount).
    pub path: &'a Path,
}

/// What becomes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It stays: a copy.
    Stays,
    /// It goes: a move.
    Goes,
}

/// What becomes of secrets that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing is done.
    Refuses,
    /// Each is replaced, with its history. Others in a target folder stay.
    IsReplaced,
}

/// What a move or copy comes to.
pub struct Transferred {
    /// What was read and what to write, in names of the view.
    pub plan: Plan,
    /// Each secret, sorted.
    pub secrets: Vec<Secret>,
}

/// One secret of a move or copy. Confidential, as paths are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where it was, below the source's mount.
    pub from: Path,
    /// Where it comes to, below the target's mount.
    pub to: Path,
    /// There is a secret already, which is replaced.
    pub replaces: bool,
}

/// Why nothing can be moved or copied. Holds no names.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no such secret, or nothing in the folder.
    #[error("there is nothing to move or copy")]
    NotFound,
    /// Secrets of the two mounts are not alike.
    #[error("secrets of a KV mount of version 1 and one of version 2 cannot be moved or copied into each other (upgrade the one first)")]
    Versions,
    /// One path is a folder, the other a secret.
    #[error("of source and target either both end in '/' (a folder and all below it), or neither (one secret)")]
    OneFolder,
    /// Source and target are the same, or one is a folder in the other.
    #[error("source and target must not be the same, nor one inside the other")]
    Overlap,
    /// The target has secrets where some would come to.
    #[error("{count} of the secrets are at the target already (remove them, or have them replaced)")]
    Exists {
        /// How many.
        count: usize,
    },
    /// A secret's path at the target would be none.
    #[error("a secret's path would be too long at the target")]
    Path(#[source] PathError),
    /// More than fits in one transaction.
    #[error(
        "there is too much for one transaction: at most {TRANSFER_RECORDS_MAX} records and {TRANSFER_BYTES_MAX} bytes (move or copy the parts, one after the other)"
    )]
    TooMuch,
    /// What is stored cannot be read, or refuses.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl From<barrier::ViewError> for TransferError {
    fn from(error: barrier::ViewError) -> TransferError {
        TransferError::Plan(error.into())
    }
}

/// Plans the move or copy of `from` to `to`, both in `view`.
pub fn plan(view: &View, from: End<'_>, to: End<'_>, source: Source, existing: Existing) -> Result<Transferred, TransferError> {
    check_ends(&from, &to)?;
    Transfer { view, past: None, from, to, source, plan: Plan::new(), records: 0, bytes: 0, taken: 0 }.plan(existing)
}

/// Plans the copy of `from`, in a view of the past, to `to` in `view`. The past does not change, and so is not expected to stay as it was; both
/// ends may be the same.
pub fn plan_from_past(past: &View, view: &View, from: End<'_>, to: End<'_>, existing: Existing) -> Result<Transferred, TransferError> {
    check_kinds(&from, &to)?;
    let source = Source::Stays;
    Transfer { view, past: Some(past), from, to, source, plan: Plan::new(), records: 0, bytes: 0, taken: 0 }.plan(existing)
}

fn check_kinds(from: &End<'_>, to: &End<'_>) -> Result<(), TransferError> {
    if from.version != to.version {
        return Err(TransferError::Versions);
    }
    if from.path.is_folder() != to.path.is_folder() {
        return Err(TransferError::OneFolder);
    }
    Ok(())
}

fn check_ends(from: &End<'_>, to: &End<'_>) -> Result<(), TransferError> {
    check_kinds(from, to)?;
    let overlap = if from.path.is_folder() {
        from.path.starts_with(to.path.segments()) || to.path.starts_with(from.path.segments())
    } else {
        from.path == to.path
    };
    if from.root == to.root && overlap { Err(TransferError::Overlap) } else { Ok(()) }
}

/// A transfer that is being planned.
struct Transfer<'a> {
    view: &'a View,
    /// Where the source lies, if not in `view`.
    past: Option<&'a View>,
    from: End<'a>,
    to: End<'a>,
    source: Source,
    plan: Plan,
    records: usize,
    bytes: usize,
    /// Places at the target that are taken.
    taken: usize,
}

impl<'a> Transfer<'a> {
    fn plan(mut self, existing: Existing) -> Result<Transferred, TransferError> {
        let (from, to) = (self.from, self.to);
        self.expect_served()?;
        let mut secrets = Vec::new();
        if from.path.is_folder() {
            for rest in self.below_source()? {
                let rest = Path::parse(&rest).map_err(|_| PlanError::Malformed)?;
                let from = from.path.join(&rest).map_err(|_| PlanError::Malformed)?;
                let to = to.path.join(&rest).map_err(TransferError::Path)?;
                secrets.push(self.take(from, to)?);
            }
        } else {
            secrets.push(self.take(from.path.clone(), to.path.clone())?);
        }
        match self.taken {
            _ if secrets.is_empty() => Err(TransferError::NotFound),
            count if count > 0 && existing == Existing::Refuses => Err(TransferError::Exists { count }),
            _ => Ok(Transferred { plan: self.plan, secrets }),
        }
    }

    fn source_view(&self) -> &'a View {
        self.past.unwrap_or(self.view)
    }

    /// Mounts of version 1 that are being upgraded serve nothing.
    fn expect_served(&mut self) -> Result<(), TransferError> {
        for (end, is_past) in [(self.from, self.past.is_some()), (self.to, false)] {
            if end.version == Version::One {
                let view = if is_past { self.source_view() } else { self.view };
                let revision = check_not_begun(&view.below(end.root))?;
                if is_past {
                    continue;
                }
                self.plan.expect(end.root.join(upgrade_name().as_str()), revision);
            }
        }
        Ok(())
    }

    /// The paths of all secrets in the source folder, from it on.
    fn below_source(&self) -> Result<Vec<String>, TransferError> {
        let folder = match self.from.version {
            Version::One => secrets_folder(),
            Version::Two => metadata_folder(),
        };
        let folder = folder.join(self.from.path.as_str());
        // One more than is allowed tells that there are too many.
        let names = Page::first(TRANSFER_RECORDS_MAX + 1).descendants(&self.source_view().below(self.from.root), &folder)?;
        if names.len() > TRANSFER_RECORDS_MAX { Err(TransferError::TooMuch) } else { Ok(names) }
    }

    fn take(&mut self, from: Path, to: Path) -> Result<Secret, TransferError> {
        let replaces = match self.from.version {
            Version::One => self.take_single(&from, &to)?,
            Version::Two => self.take_versions(&from, &to)?,
        };
        self.taken += usize::from(replaces);
        Ok(Secret { from, to, replaces })
    }

    /// Version 1: one record. Returns whether the target has one already.
    fn take_single(&mut self, from: &Path, to: &Path) -> Result<bool, TransferError> {
        let (from, to) = (secret_name(from), secret_name(to));
        let value = self.read_source(&from)?.ok_or(TransferError::NotFound)?;
        let replaces = self.read(&self.to.clone(), &to)?.is_some();
        self.put(&to, value)?;
        self.remove_source(&from)?;
        Ok(replaces)
    }

    /// Version 2: the metadata and the data of all versions that have any. Returns whether the target has a secret already.
    fn take_versions(&mut self, from: &Path, to: &Path) -> Result<bool, TransferError> {
        let target = self.to;
        let value = self.read_source(&metadata_name(from))?.ok_or(TransferError::NotFound)?;
        let metadata = decode_metadata(&value)?;
        let replaced = self.read(&target, &metadata_name(to))?;
        let replaces = replaced.is_some();
        if let Some(replaced) = replaced {
            let new: Vec<u64> = numbers(&metadata).collect();
            for number in numbers(&decode_metadata(&replaced)?).filter(|number| !new.contains(number)) {
                self.delete(&target, &data_name(to, number))?;
            }
        }
        self.put(&metadata_name(to), value)?;
        self.remove_source(&metadata_name(from))?;
        for number in numbers(&metadata) {
            let name = data_name(from, number);
            let data = self.read_source(&name)?.ok_or(PlanError::Malformed)?;
            self.put(&data_name(to, number), data)?;
            self.remove_source(&name)?;
        }
        Ok(replaces)
    }

    /// Reads a record of the source. One of the past stays as it is by itself.
    fn read_source(&mut self, name: &Name) -> Result<Option<SecretBytes>, TransferError> {
        let Some(past) = self.past else { return self.read(&self.from.clone(), name) };
        let name = self.from.root.join(name.as_str());
        self.count(&name, 0)?;
        Ok(past.read(&name)?.value)
    }

    /// Reads a record and expects it to stay as it is.
    fn read(&mut self, end: &End<'_>, name: &Name) -> Result<Option<SecretBytes>, TransferError> {
        let name = end.root.join(name.as_str());
        let found = self.view.read(&name)?;
        self.count(&name, 0)?;
        self.plan.expect(name, found.revision);
        Ok(found.value)
    }

    fn put(&mut self, name: &Name, value: SecretBytes) -> Result<(), TransferError> {
        let name = self.to.root.join(name.as_str());
        self.count(&name, value.len())?;
        self.plan.put(name, value);
        Ok(())
    }

    fn remove_source(&mut self, name: &Name) -> Result<(), TransferError> {
        match self.source {
            Source::Stays => Ok(()),
            Source::Goes => self.delete(&self.from.clone(), name),
        }
    }

    fn delete(&mut self, end: &End<'_>, name: &Name) -> Result<(), TransferError> {
        let name = end.root.join(name.as_str());
        self.count(&name, 0)?;
        self.plan.delete(name);
        Ok(())
    }

    /// Stops before memory does.
    fn count(&mut self, name: &Name, value_bytes: usize) -> Result<(), TransferError> {
        self.records += 1;
        self.bytes += value_bytes + name.as_str().len() + SEGMENT_BYTES * name.segments().count() + RECORD_BYTES;
        let is_within = self.records <= TRANSFER_RECORDS_MAX && self.bytes <= TRANSFER_BYTES_MAX;
        if is_within { Ok(()) } else { Err(TransferError::TooMuch) }
    }
}

/// The versions whose data is there.
fn numbers(metadata: &Metadata) -> impl Iterator<Item = u64> {
    metadata.versions.iter().filter(|(_, version)| !version.destroyed).map(|(&number, _)| number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::Kv;
    use crate::kv1::Kv1;
    use crate::testing::Mount;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn version(mount: &Mount) -> Version {
        // What a mount of version 1 refuses.
        if mount.ask("GET config", "").status == 200 { Version::Two } else { Version::One }
    }

    /// Plans from `from` in one mount to `to` in another.
    fn planned(
        (source_mount, from): (&Mount, &str),
        (target_mount, to): (&Mount, &str),
        source: Source,
        existing: Existing,
    ) -> Result<Transferred, TransferError> {
        let (from_path, to_path) = (path(from), path(to));
        let from = End { root: source_mount.root(), version: version(source_mount), path: &from_path };
        let to = End { root: target_mount.root(), version: version(target_mount), path: &to_path };
        plan(&source_mount.whole_view(), from, to, source, existing)
    }

    fn carry_out(from: (&Mount, &str), to: (&Mount, &str), source: Source, existing: Existing) -> Vec<Secret> {
        let view = from.0.whole_view();
        let Ok(transferred) = planned(from, to, source, existing) else { panic!("refused") };
        assert!(from.0.commit_plan(&view, &transferred.plan));
        transferred.secrets
    }

    fn secret(from: &str, to: &str, replaces: bool) -> Secret {
        Secret { from: path(from), to: path(to), replaces }
    }

    /// Everything that clients can see of a secret of version 2.
    fn history(mount: &Mount, path: &str) -> Vec<(u16, String)> {
        let lines = (1..=15).map(|version| format!("GET data/{path}?version={version}"));
        let lines = lines.chain([format!("GET data/{path}"), format!("GET metadata/{path}"), format!("GET subkeys/{path}")]);
        lines.map(|line| mount.ask(&line, "")).map(|answer| (answer.status, answer.body)).collect()
    }

    fn with_history() -> Mount {
        let mount = Mount::new();
        for number in 0..12 {
            mount.wait(1000);
            mount.ask("POST data/f/a", &format!(r#"{{"data":{{"n":{number}.0}}}}"#));
        }
        mount.ask("POST delete/f/a", r#"{"versions":[4]}"#);
        mount.ask("POST destroy/f/a", r#"{"versions":[5]}"#);
        mount.ask("POST metadata/f/a", r#"{"custom_metadata":{"owner":"ops"},"cas_required":true,"delete_version_after":"10h"}"#);
        mount.ask("POST data/f/a/b", r#"{"data":null}"#);
        mount.ask("POST metadata/f/empty", r#"{"max_versions":3}"#);
        mount.ask("POST data/g", r#"{"data":{}}"#);
        mount
    }

    #[test]
    fn a_secret_moves_with_its_history() {
        let mount = with_history();
        let other = mount.beside(&Kv);
        for target in [&mount, &other] {
            let before = history(&mount, "f/a");
            let count = mount.records().len();
            let secrets = carry_out((&mount, "f/a"), (target, "x/y"), Source::Goes, Existing::Refuses);
            assert_eq!(secrets, [secret("f/a", "x/y", false)]);
            assert_eq!(history(target, "x/y"), before);
            assert!(history(&mount, "f/a").iter().all(|(status, body)| (*status, body.as_str()) == (404, "")));
            assert_eq!(mount.ask("GET data/f/a/b", "").status, 200, "a folder of its name stays");
            if target.root() == mount.root() {
                assert_eq!(mount.records().len(), count);
                carry_out((&mount, "x/y"), (&mount, "f/a"), Source::Goes, Existing::Refuses);
            }
        }
        assert_eq!(other.ask("POST data/x/y", r#"{"data":{},"options":{"cas":12}}"#).status, 200, "it goes on where it was");
    }

    #[test]
    fn a_folder_is_copied_whole_and_the_source_stays() {
        let mount = with_history();
        let other = mount.beside(&Kv);
        let before = mount.records();
        let secrets = carry_out((&mount, "f/"), (&other, "new/place/"), Source::Stays, Existing::Refuses);
        assert_eq!(
            secrets,
            [secret("f/a", "new/place/a", false), secret("f/a/b", "new/place/a/b", false), secret("f/empty", "new/place/empty", false)]
        );
        assert!(mount.records() == before);
        for name in ["a", "a/b", "empty"] {
            assert_eq!(history(&other, &format!("new/place/{name}")), history(&mount, &format!("f/{name}")), "{name}");
        }
        // The root is the whole mount.
        let whole = carry_out((&mount, ""), (&other, ""), Source::Goes, Existing::Refuses);
        assert_eq!(whole.len(), 4);
        assert!(mount.records().is_empty());
        other.check("SCAN metadata", "", 200, r#"["f/a","f/a/b","f/empty","g","new/place/a","new/place/a/b","new/place/empty"]"#);
    }

    #[test]
    fn what_is_there_is_replaced_only_if_that_is_asked() {
        let mount = with_history();
        let other = mount.beside(&Kv);
        for _ in 0..20 {
            other.ask("POST data/f/a", r#"{"data":{"old":1}}"#);
        }
        other.ask("POST data/f/stays", r#"{"data":{"old":1}}"#);
        let refused = planned((&mount, "f/"), (&other, "f/"), Source::Goes, Existing::Refuses);
        assert!(matches!(refused, Err(TransferError::Exists { count: 1 })));
        let before = history(&mount, "f/a");
        let secrets = carry_out((&mount, "f/"), (&other, "f/"), Source::Goes, Existing::IsReplaced);
        assert_eq!(secrets, [secret("f/a", "f/a", true), secret("f/a/b", "f/a/b", false), secret("f/empty", "f/empty", false)]);
        assert_eq!(history(&other, "f/a"), before);
        other.check("GET data/f/a?version=20", "", 404, "");
        assert_eq!(other.ask("GET data/f/stays", "").status, 200);
        // Nothing of the older history is left: each version that is not destroyed, the metadata, and the other secrets'.
        assert_eq!(other.records().keys().filter(|name| name.ends_with("/f/a")).count(), 9 + 1);
    }

    #[test]
    fn version_1_moves_too() {
        let mount = Mount::of(&Kv1);
        let other = mount.beside(&Kv1);
        let body = r#"{"x":1.50}"#;
        mount.ask("POST a", body);
        mount.ask("POST a/b", body);
        assert_eq!(carry_out((&mount, "a"), (&mount, "c"), Source::Goes, Existing::Refuses), [secret("a", "c", false)]);
        mount.check("GET a", "", 404, "");
        mount.check("GET c", "", 200, body);
        carry_out((&mount, ""), (&other, "all/"), Source::Stays, Existing::Refuses);
        other.check("SCAN ", "", 200, r#"["all/a/b","all/c"]"#);
        other.ask("POST all/c", r#"{"x":2}"#);
        assert!(matches!(
            planned((&mount, "c"), (&other, "all/c"), Source::Goes, Existing::Refuses),
            Err(TransferError::Exists { count: 1 })
        ));
        carry_out((&mount, "c"), (&other, "all/c"), Source::Goes, Existing::IsReplaced);
        other.check("GET all/c", "", 200, body);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mount = with_history();
        let same = |from, to| planned((&mount, from), (&mount, to), Source::Goes, Existing::IsReplaced).err().unwrap().to_string();
        let overlap = TransferError::Overlap.to_string();
        let one_folder = TransferError::OneFolder.to_string();
        let nothing = TransferError::NotFound.to_string();
        for (from, to, want) in [
            ("f/a", "f/a", &overlap),
            ("f/", "f/", &overlap),
            ("f/", "f/x/", &overlap),
            ("f/x/", "f/", &overlap),
            ("", "x/", &overlap),
            ("f/", "", &overlap),
            ("f/a", "x/", &one_folder),
            ("f/", "x", &one_folder),
            ("nope", "x", &nothing),
            ("f", "x", &nothing),
            ("nope/", "x/", &nothing),
            ("g/", "x/", &nothing),
        ] {
            assert_eq!(&same(from, to), want, "{from} {to}");
        }
        let old = mount.beside(&Kv1);
        old.ask("POST a", r#"{"x":1}"#);
        let refused = planned((&old, "a"), (&mount, "x"), Source::Goes, Existing::Refuses);
        assert!(matches!(refused, Err(TransferError::Versions)));
        let deep = "d/".repeat(types::path::SEGMENTS_MAX - 1);
        let refused = planned((&mount, "f/"), (&mount, &deep), Source::Goes, Existing::Refuses);
        assert!(matches!(refused, Err(TransferError::Path(PathError::Depth))));
    }

    #[test]
    fn too_much_is_refused_before_it_is_read() {
        let mount = Mount::of(&Kv1);
        let other = mount.beside(&Kv1);
        let body = format!(r#"{{"x":"{}"}}"#, "y".repeat(TRANSFER_BYTES_MAX / 4));
        for number in 0..4 {
            mount.ask(&format!("POST {number}"), &body);
        }
        let refused = planned((&mount, ""), (&other, ""), Source::Stays, Existing::Refuses);
        assert!(matches!(refused, Err(TransferError::TooMuch)));
        mount.ask("DELETE 3", "");
        assert_eq!(carry_out((&mount, ""), (&other, ""), Source::Goes, Existing::Refuses).len(), 3);
    }

    #[test]
    fn a_mount_that_is_being_upgraded_gives_and_takes_nothing() {
        let mount = Mount::of(&Kv1);
        let other = mount.beside(&Kv1);
        for mount in [&mount, &other] {
            mount.ask("POST a", r#"{"x":1}"#);
        }
        let view = mount.whole_view();
        let Ok(planned_before) = planned((&mount, "a"), (&other, "b"), Source::Goes, Existing::Refuses) else { panic!("refused") };
        let step = crate::kv::upgrade::step(&other.view(), other.now()).unwrap();
        assert!(other.commit_plan(&other.view(), &step.plan));
        assert!(!mount.commit_plan(&view, &planned_before.plan), "what was planned before does not slip in");
        for (from, to) in [(&mount, &other), (&other, &mount)] {
            let refused = planned((from, "a"), (to, "b"), Source::Goes, Existing::Refuses);
            assert!(matches!(refused, Err(TransferError::Plan(PlanError::Refused(_)))));
        }
    }

    /// Whatever of it somebody else changes meanwhile, nothing is done.
    #[test]
    fn what_was_read_must_stay_as_it_is() {
        for (line, body) in [
            ("POST data/f/a", r#"{"data":{},"options":{"cas":12}}"#),
            ("POST destroy/f/a", r#"{"versions":[6]}"#),
            ("POST metadata/f/a", r#"{"max_versions":3}"#),
            ("DELETE metadata/f/empty", ""),
        ] {
            let mount = with_history();
            let other = mount.beside(&Kv);
            let view = mount.whole_view();
            let Ok(transferred) = planned((&mount, "f/"), (&other, "f/"), Source::Goes, Existing::Refuses) else { panic!("refused") };
            assert!(matches!(mount.ask(line, body).status, 200 | 204), "{line}");
            assert!(!mount.commit_plan(&view, &transferred.plan), "{line}");
        }
        let mount = with_history();
        let other = mount.beside(&Kv);
        let view = mount.whole_view();
        let Ok(transferred) = planned((&mount, "f/"), (&other, "f/"), Source::Goes, Existing::Refuses) else { panic!("refused") };
        other.ask("POST data/f/a", r#"{"data":{}}"#);
        assert!(!mount.commit_plan(&view, &transferred.plan), "the target is taken meanwhile");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_move_there_and_back_changes_nothing(
            writes in prop::collection::vec(("f(/[ab]){1,2}", 0_u8..4), 1..20),
            other_mount: bool,
        ) {
            let mount = Mount::new();
            for (path, what) in &writes {
                let (line, body) = match what {
                    0 => (format!("DELETE data/{path}"), ""),
                    1 => (format!("POST destroy/{path}"), r#"{"versions":[1,3]}"#),
                    _ => (format!("POST data/{path}"), r#"{"data":{"x":1.0}}"#),
                };
                mount.ask(&line, body);
            }
            let target = if other_mount { mount.beside(&Kv) } else { mount.served_by(&Kv) };
            let before = mount.records();
            if !before.is_empty() {
                carry_out((&mount, "f/"), (&target, "t/"), Source::Goes, Existing::Refuses);
                prop_assert!(mount.records().keys().all(|name| !name.contains("f/")));
                prop_assert_eq!(target.records().len(), before.len());
                carry_out((&target, "t/"), (&mount, "f/"), Source::Goes, Existing::Refuses);
            }
            prop_assert_eq!(mount.records(), before);
        }
    }
}
