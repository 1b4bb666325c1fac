//! Golden bytes: what each version of a format looks like, kept in `tests/golden/storage` and never edited.

use std::path::Path;

use crate::disk::{FsDisk, read_whole, write_whole};

/// Compares `bytes` with the golden file of that path below `tests` and returns that file's content.
///
/// With `CONCLAVE_WRITE_GOLDEN` set, a file that is not there yet is written: for a new format or version.
pub(crate) fn check(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name);
    if std::env::var_os("CONCLAVE_WRITE_GOLDEN").is_some() && !path.exists() {
        write_whole(&FsDisk, &path, bytes).unwrap();
    }
    let golden = read_whole(&FsDisk, &path, 1 << 20).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(bytes, golden, "{name} is not what this version's format says");
    golden
}

mod tests {
    use super::*;

    /// Every format of this crate: the constant that names its newest version, what its files in `tests/golden/storage` begin with, and which
    /// versions were ever written.
    const FORMATS: &[(&str, &str, std::ops::RangeInclusive<u32>)] = &[
        ("ADOPTION_VERSION", "adoption", crate::adoption::ADOPTION_VERSION as u32..=crate::adoption::ADOPTION_VERSION as u32),
        ("BATCH_VERSION", "batch", 1..=crate::batch::BATCH_VERSION as u32),
        ("DATADIR_VERSION", "identity", 1..=crate::datadir::DATADIR_VERSION),
        ("JOURNAL_VERSION", "journal", 1..=1),
        ("LOG_VERSION", "log-segment", 1..=1),
        ("RECORD_VERSION", "feature-level", 1..=1),
        ("SNAPSHOT_VERSION", "snapshot", 1..=crate::snapshot::SNAPSHOT_VERSION),
        ("TABLE_VERSION", "table-rows", 1..=crate::table::TABLE_VERSION as u32),
    ];

    /// That each file is still read, and read rightly, its format's own test says; that none lies there unread, `cargo xtask tidy` does.
    #[test]
    fn every_version_ever_written_has_golden_bytes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        let golden = names(&root.join("../../tests/golden/storage"));
        for (constant, stem, versions) in FORMATS {
            for version in versions.clone() {
                let begins = format!("{stem}-v{version}.");
                assert!(golden.iter().any(|name| name.starts_with(&begins)), "{constant}: no golden file {begins}*");
            }
        }
        let mut folders = vec![root.join("src")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for name in names(&folder) {
                let path = folder.join(&name);
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let constants = text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("const "));
                    found.extend(
                        constants.filter_map(|line| line.split(':').next()).filter(|name| name.ends_with("_VERSION")).map(str::to_owned),
                    );
                }
            }
        }
        found.sort();
        assert_eq!(found, FORMATS.iter().map(|(constant, ..)| *constant).collect::<Vec<_>>(), "a format without a line here");
    }
}
