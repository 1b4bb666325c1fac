//! Floors: calls go down. Which crate may depend on which, on which outside crates it may not, and that it uses what it names.
//!
//! The floors are the manifests' `package.metadata.conclave.floor`; docs/adr/0001-floors.md says why. Beside it, `unnamed` lists
//! dependencies that no source names because only generated code uses them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::tree::Tree;
use super::{Finding, rust};

/// Packages that stand beside the house: they may use every floor, and no floor uses them.
const DEVELOPMENT: [&str; 5] = ["sim", "xtask", "tests", "fuzz", "benches"];
/// The SDK: it knows what crosses the wire, and no server crate.
const CLIENT: (&str, &[&str]) = ("client", &["proto"]);

/// Outside crates that a floor must not know of, and what they would bring.
const MUST_NOT_KNOW: [(&str, &[&str], &str); 8] = [
    ("types", &["tokio", "tonic", "ring", "redb", "openraft", "axum"], "async, disk, network or cryptography"),
    ("crypto", &["tokio", "tonic", "redb", "openraft", "axum", "hyper"], "disk or network"),
    ("proto", &["tokio", "redb", "openraft", "axum", "ring"], "behaviour"),
    ("storage", &["openraft", "tonic", "axum", "hyper"], "Raft's roles or the network"),
    ("raft", &["axum", "redb", "ring"], "HTTP, the table's engine or keys"),
    ("barrier", &["openraft", "axum", "hyper", "redb"], "HTTP, openraft or the table's engine"),
    ("engine", &["openraft", "axum", "hyper", "tonic", "redb", "ring"], "HTTP, storage or keys"),
    ("service", &["openraft", "axum", "hyper", "tonic", "redb", "http"], "sockets or status codes"),
];

/// One package of the workspace, as `cargo metadata` tells of it.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    /// From the repository's root.
    manifest: String,
    floor: Option<u64>,
    /// Not those of tests, which may look wherever they like.
    dependencies: Vec<String>,
    /// Every dependency, also of tests and build scripts, as sources name it.
    named: Vec<String>,
    /// Those of `named` that only generated code uses.
    unnamed: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: String,
    metadata: serde_json::Value,
    dependencies: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
    optional: bool,
}

/// Reads what `cargo metadata --no-deps` printed; `root` is the repository's.
pub(super) fn packages(metadata: &str, root: &str) -> Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata answered something else")?;
    let package = |raw: RawPackage| Package {
        named: raw.dependencies.iter().filter(|it| !it.optional).map(|it| it.rename.clone().unwrap_or(it.name.clone())).collect(),
        unnamed: raw.metadata.pointer("/conclave/unnamed").map(texts).unwrap_or_default(),
        name: raw.name,
        manifest: Path::new(&raw.manifest_path)
            .strip_prefix(root)
            .map_or(raw.manifest_path.clone(), |path| path.to_string_lossy().into_owned()),
        floor: raw.metadata.pointer("/conclave/floor").and_then(serde_json::Value::as_u64),
        dependencies: raw.dependencies.into_iter().filter(|it| it.kind.as_deref() != Some("dev")).map(|it| it.name).collect(),
    };
    Ok(metadata.packages.into_iter().map(package).collect())
}

fn texts(list: &serde_json::Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

pub(super) fn check(packages: &[Package], tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = tree.text(&package.manifest).unwrap_or_default();
        let at = |needle: &str| line_of(manifest, needle);
        if !inherits_lints(manifest) {
            let text = "the workspace's lints do not hold here (add [lints] with workspace = true)";
            findings.push(Finding::mistake(&package.manifest, 0, text));
        }
        if package.floor.is_none() && !DEVELOPMENT.contains(&package.name.as_str()) {
            let text = "has no floor (add [package.metadata.conclave] with floor = N, see docs/adr/0001-floors.md)";
            findings.push(Finding::mistake(&package.manifest, at("[package]"), text));
        }
        for dependency in unused(package, tree) {
            let text =
                format!("no source names {dependency} (remove it; or list it in package.metadata.conclave.unnamed if generated code does)");
            findings.push(Finding::mistake(&package.manifest, at(dependency), text));
        }
        for dependency in &package.dependencies {
            let refused = match packages.iter().find(|other| &other.name == dependency) {
                Some(other) => refuse_inside(package, other),
                None => refuse_outside(package, dependency),
            };
            if let Some(text) = refused {
                findings.push(Finding::mistake(&package.manifest, at(dependency), text));
            }
        }
    }
    findings
}

/// Why `package` may not depend on `other`, which stands in the workspace too.
fn refuse_inside(package: &Package, other: &Package) -> Option<String> {
    let (from, to) = (package.name.as_str(), other.name.as_str());
    if DEVELOPMENT.contains(&from) {
        return None;
    }
    if DEVELOPMENT.contains(&to) {
        return Some(format!("{from} depends on {to}, a development tool (make it a dev-dependency)"));
    }
    if from == CLIENT.0 && !CLIENT.1.contains(&to) {
        return Some(format!("the SDK depends on {to}, a server crate (it may know {} only)", CLIENT.1.join(", ")));
    }
    // The SDK is no floor: what it may know, it may; and whoever stands above it may use it.
    match (package.floor, other.floor) {
        (Some(from_floor), Some(to_floor)) if to_floor >= from_floor && from != CLIENT.0 => Some(format!(
            "{from} (floor {from_floor}) depends on {to} (floor {to_floor}): calls go down only (return a value, or open a queue above)"
        )),
        _ => None,
    }
}

/// Why `package` may not depend on the outside crate `dependency`.
fn refuse_outside(package: &Package, dependency: &str) -> Option<String> {
    let (_, _, brings) = MUST_NOT_KNOW.iter().find(|(name, crates, _)| *name == package.name && crates.contains(&dependency))?;
    Some(format!("{} depends on {dependency}, but must not know of {brings} (put that on the floor that does)", package.name))
}

/// The dependencies that no source of the package names.
fn unused<'a>(package: &'a Package, tree: &Tree) -> Vec<&'a str> {
    let folder = package.manifest.trim_end_matches("Cargo.toml");
    let sources: Vec<&str> = tree.ending(".rs").filter(|(path, _)| path.starts_with(folder)).map(|(_, text)| text).collect();
    let named = package.named.iter().filter(|dependency| !package.unnamed.contains(dependency));
    let names = |dependency: &&String| {
        let word = dependency.replace('-', "_");
        sources.iter().any(|text| rust::contains_word(text, &word))
    };
    named.filter(|dependency| !names(dependency)).map(String::as_str).collect()
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line.replace(' ', "") == "workspace=true")
}

/// The first line that starts with `needle`; 0 if none does.
fn line_of(text: &str, needle: &str) -> usize {
    let starts = |line: &str| line.strip_prefix(needle).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'));
    text.lines().position(|line| starts(line.trim())).map_or(0, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, tree};
    use super::*;

    const MANIFEST: &str = "[package]\n[lints]\nworkspace = true\n[dependencies]\ntypes.workspace = true\n";

    fn package(name: &str, floor: Option<u64>, dependencies: &[&str]) -> Package {
        let manifest = format!("crates/{name}/Cargo.toml");
        let dependencies: Vec<String> = dependencies.iter().map(|it| (*it).to_owned()).collect();
        Package { name: name.to_owned(), manifest, floor, named: dependencies.clone(), dependencies, unnamed: Vec::new() }
    }

    fn refused(from: Package, to: Package) -> bool {
        refuse_inside(&from, &to).is_some()
    }

    #[test]
    fn calls_go_down() {
        for (from, to, want) in [
            (("raft", 2), ("storage", 1), false),
            (("storage", 1), ("raft", 2), true),
            (("crypto", 0), ("types", 0), true),
            (("node", 6), ("types", 0), false),
            (("storage", 1), ("sim", 7), true),
            (("sim", 7), ("raft", 2), false),
            (("xtask", 0), ("node", 6), false),
            (("client", 0), ("proto", 0), false),
            (("client", 0), ("types", 0), true),
            (("cli", 7), ("client", 0), false),
            (("cli", 7), ("node", 6), false),
            (("node", 6), ("cli", 7), true),
        ] {
            let found = refused(package(from.0, Some(from.1), &[]), package(to.0, Some(to.1), &[]));
            assert_eq!(found, want, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn findings_name_manifest_line_and_cure() {
        let packages = [package("types", Some(0), &["tokio"]), package("crypto", None, &[]), package("storage", Some(1), &["types"])];
        let tree = tree(&[
            ("crates/types/Cargo.toml", "[package]\n[lints]\nworkspace = true\n[dependencies]\ntokio.workspace = true\n"),
            ("crates/crypto/Cargo.toml", "[package]\n[dependencies]\n"),
            ("crates/storage/Cargo.toml", MANIFEST),
            ("crates/types/src/lib.rs", "use tokio::sync::watch;\n"),
            ("crates/storage/src/lib.rs", "use types::Index;\n"),
        ]);
        assert_eq!(
            lines(&check(&packages, &tree)),
            [
                "crates/types/Cargo.toml:5: types depends on tokio, but must not know of async, disk, network or cryptography (put that on the floor that does)",
                "crates/crypto/Cargo.toml: the workspace's lints do not hold here (add [lints] with workspace = true)",
                "crates/crypto/Cargo.toml:1: has no floor (add [package.metadata.conclave] with floor = N, see docs/adr/0001-floors.md)",
            ]
        );
    }

    #[test]
    fn cargo_metadata_is_understood() {
        let metadata = r#"{"packages": [{"name": "raft", "manifest_path": "/repo/crates/raft/Cargo.toml",
            "metadata": {"conclave": {"floor": 2, "unnamed": ["protox"]}},
            "dependencies": [{"name": "storage", "kind": null, "rename": null, "optional": false},
                {"name": "blahaj", "kind": "dev", "rename": "sharks", "optional": false},
                {"name": "sled", "kind": null, "rename": null, "optional": true},
                {"name": "protox", "kind": "build", "rename": null, "optional": false}]},
            {"name": "tests", "manifest_path": "/repo/tests/Cargo.toml", "metadata": null, "dependencies": []}]}"#;
        let packages = packages(metadata, "/repo").unwrap();
        assert_eq!(packages[0].manifest, "crates/raft/Cargo.toml");
        assert_eq!(packages[0].floor, Some(2));
        assert_eq!(packages[0].dependencies, ["storage", "sled", "protox"]);
        assert_eq!(packages[0].named, ["storage", "sharks", "protox"]);
        assert_eq!(packages[0].unnamed, ["protox"]);
        assert_eq!(packages[1].floor, None);
    }

    #[test]
    fn what_a_manifest_names_a_source_names() {
        let mut package = package("node", Some(6), &["serde_json", "hyper-util", "http", "prost"]);
        package.unnamed = vec!["prost".to_owned()];
        let tree = tree(&[
            ("crates/node/src/lib.rs", "use hyper_util::rt;\nuse http_body_util::Full;\n"),
            ("crates/raft/src/lib.rs", "use serde_json::Value;\n"),
        ]);
        assert_eq!(unused(&package, &tree), ["serde_json", "http"]);
    }

    #[test]
    fn lints_are_inherited_only_if_said_so() {
        for (manifest, want) in [
            (MANIFEST, true),
            ("[lints]\nworkspace=true", true),
            ("[lints.rust]\nunsafe_code = \"deny\"\n", false),
            ("[lints]\n[dependencies]\nworkspace = true\n", false),
            ("", false),
        ] {
            assert_eq!(inherits_lints(manifest), want, "{manifest}");
        }
    }
}
