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
