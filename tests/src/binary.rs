//! Which `conclave` is tested, and whose turn it is to test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a binary that is tested in place of the one of this source tree.
const BINARY_VARIABLE: &str = "CONCLAVE_BIN";

/// The binary under test: `CONCLAVE_BIN`, or the one of this source tree, built once in each test process with the profile
/// and into the folder of the running test.
///
/// Panics when it cannot be built: then there is nothing to test.
pub fn conclave() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os(BINARY_VARIABLE) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{BINARY_VARIABLE} names {}, which is no file", path.display());
            std::path::absolute(&path).expect("a file that exists has an absolute path")
        }
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile_dir = profile_dir();
    let target_dir = profile_dir.parent().expect("a profile's folder lies in the target folder");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "cli", "--bin", "conclave", "--profile", profile, "--target-dir"]).arg(target_dir);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let status = command.status().expect("cargo runs: it runs this test");
    assert!(status.success(), "building conclave ended with {status}; set {BINARY_VARIABLE} to test one that is built already");
    let binary = profile_dir.join("conclave");
    assert!(binary.is_file(), "cargo built no {}", binary.display());
    binary
}

/// `target/debug`, say: two floors above the test's own executable, `target/debug/deps/it-…`.
fn profile_dir() -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    test.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps").to_owned()
}

/// Held by a test while its nodes run; given back on drop, and by the system when the test process dies.
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] File);

/// Waits until no other test on this target folder has nodes running: three nodes and a load on two cores leave no room for
/// another three, and tests measure time. nextest's test group does the same; this also covers plain `cargo test`.
///
/// Blocks the thread. Call it once in a test: a second call would wait for the first for ever.
pub fn turn() -> Turn {
    let path = profile_dir().join("conclave-tests.lock");
    let file = File::create(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("lock {}: {error}", path.display()));
    Turn(file)
}
