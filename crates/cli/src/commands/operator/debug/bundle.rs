//! The bundle: what was captured, scrubbed, with an index of it; written as one gzipped tar archive (POSIX.1-2017, pax: ustar).
//!
//! Always: bounded; no name leads out of the archive's own folder; everything passes the scrubber.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};

use super::scrub::Scrubber;

/// What is kept, at most; what comes later is noted as dropped.
const BYTES_MAX: usize = 128 * 1024 * 1024;
/// The version of the index.
const INDEX_VERSION: u32 = 1;
/// A header, and what sizes are rounded up to.
const BLOCK_BYTES: usize = 512;
/// The longest name that fits a header.
const NAME_BYTES_MAX: usize = 100;

/// A capture that failed.
#[derive(Debug, Clone, Serialize)]
struct Failed {
    time: String,
    node: String,
    target: String,
    error: String,
}

/// What was captured.
pub(crate) struct Bundle {
    name: String,
    scrubber: Scrubber,
    files: BTreeMap<String, Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    redactions: usize,
    failed: Vec<Failed>,
}

impl Bundle {
    /// An empty one, whose files will lie in a folder `name`.
    pub(crate) fn new(name: &str, scrubber: Scrubber) -> Bundle {
        Bundle { name: segment(name), scrubber, files: BTreeMap::new(), bytes: 0, bytes_max: BYTES_MAX, redactions: 0, failed: Vec::new() }
    }

    /// Adds a text to the end of the file of that name; `node`: the folder it lies in, `target`: what it belongs to, for the index.
    pub(crate) fn add(&mut self, time: &str, node: &str, target: &str, file: &str, text: &str) {
        let (text, redactions) = self.scrubber.scrub(text);
        self.redactions += redactions;
        if self.bytes + text.len() > self.bytes_max {
            return self.fail(time, node, target, &format!("{file}: dropped, as the bundle holds {} bytes at most", self.bytes_max));
        }
        self.bytes += text.len();
        let path = format!("{}/{}", segment(node), segment(file));
        self.files.entry(path).or_default().extend_from_slice(text.as_bytes());
    }

    /// Notes that something could not be captured.
    pub(crate) fn fail(&mut self, time: &str, node: &str, target: &str, error: &str) {
        let (error, redactions) = self.scrubber.scrub(error);
        self.redactions += redactions;
        self.failed.push(Failed { time: time.to_owned(), node: node.to_owned(), target: target.to_owned(), error });
    }

    /// How many captures failed.
    pub(crate) fn failures(&self) -> usize {
        self.failed.len()
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Everything as an archive. `about`: what the index says besides the files, the failures and the count of redactions.
    pub(crate) fn archive(&self, about: &Value, modified_s: u64) -> io::Result<Vec<u8>> {
        let files: Vec<Value> = self.files.iter().map(|(path, content)| json!({ "path": path, "bytes": content.len() })).collect();
        let mut index = json!({ "version": INDEX_VERSION });
        if let (Some(index), Some(about)) = (index.as_object_mut(), about.as_object()) {
            index.extend(about.clone());
            index.insert("files".into(), files.into());
            index.insert("redactions".into(), self.redactions.into());
            index.insert("errors".into(), serde_json::to_value(&self.failed).map_err(io::Error::other)?);
        }
        let (index, _) = self.scrubber.scrub(&serde_json::to_string_pretty(&index).map_err(io::Error::other)?);
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        write_file(&mut zip, &format!("{}/index.json", self.name), index.as_bytes(), modified_s)?;
        for (path, content) in &self.files {
            write_file(&mut zip, &format!("{}/{path}", self.name), content, modified_s)?;
        }
        zip.write_all(&[0; 2 * BLOCK_BYTES])?;
        zip.finish()
    }
}

/// As a name of one file: no slash, no dot at its beginning, nothing that a shell or a terminal would take for something else.
fn segment(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_') { character } else { '_' };
    let name: String = name.trim_start_matches('.').chars().take(NAME_BYTES_MAX / 3).map(plain).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// One regular file, readable by its owner only.
fn write_file(to: &mut impl io::Write, path: &str, content: &[u8], modified_s: u64) -> io::Result<()> {
    let mut header = [0_u8; BLOCK_BYTES];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    let path = path.get(..NAME_BYTES_MAX).unwrap_or(path);
    put(0, path);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, &format!("{modified_s:011o}\0"));
    // The checksum is of a header whose checksum is spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    to.write_all(&header)?;
    to.write_all(content)?;
    to.write_all(&vec![0; content.len().next_multiple_of(BLOCK_BYTES) - content.len()])
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "test files need not be durable")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_what_was_written() {
        let mut bundle = Bundle::new("conclave-debug", Scrubber::new(Vec::new()));
        bundle.add("t0", "n1", "metrics", "0.prom", "a 1\n");
        bundle.add("t0", "../../etc", "host", ".passwd/x", &"y".repeat(513));
        bundle.add("t1", "n1", "metrics", "0.prom", "token hvs.CAESIJ1234567890abcdEFGH\n");
        bundle.fail("t1", "n2", "config", "refused hvs.CAESIJ1234567890abcdEFGH");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.tar.gz");
        std::fs::write(&file, bundle.archive(&json!({ "interval": "1s" }), 1_700_000_000).unwrap()).unwrap();
        let ended = Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(folder.path()).output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
        let read = |path: &str| std::fs::read_to_string(folder.path().join("conclave-debug").join(path)).unwrap();
        assert_eq!(read("n1/0.prom"), "a 1\ntoken [redacted]\n");
        assert_eq!(read("_.._etc/passwd_x").len(), 513);
        let index: Value = serde_json::from_str(&read("index.json")).unwrap();
        assert_eq!((&index["version"], &index["interval"], &index["redactions"]), (&json!(1), &json!("1s"), &json!(2)));
        assert_eq!(index["errors"], json!([{ "time": "t1", "node": "n2", "target": "config", "error": "refused [redacted]" }]));
        assert_eq!(index["files"][1], json!({ "path": "n1/0.prom", "bytes": 21 }));
    }

    #[test]
    fn a_bundle_is_bounded() {
        let mut bundle = Bundle::new("b", Scrubber::new(Vec::new()));
        bundle.bytes_max = 1000;
        let piece = "z ".repeat(125);
        for _ in 0..5 {
            bundle.add("t", "n1", "log", "trace.log", &piece);
        }
        assert!(bundle.bytes == 1000 && bundle.failures() == 1, "{} {}", bundle.bytes, bundle.failures());
    }
}
