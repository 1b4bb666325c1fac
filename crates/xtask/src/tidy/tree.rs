//! The tree: path and text of every file of the repository that is text.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::output;

/// Files by their path from the root, with `/` between folders. Files that are not UTF-8 have no text.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Every file below `root` that git tracks, or would if all were added.
    pub(super) fn read(root: &Path) -> Result<Tree> {
        let arguments = ["-C", &root.to_string_lossy(), "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let mut files = BTreeMap::new();
        for path in output("git", &arguments)?.split_terminator('\0') {
            let full = root.join(path);
            // Deleted in the work tree, but not in the index yet.
            if !full.is_file() {
                continue;
            }
            let bytes = fs::read(&full).with_context(|| format!("{path} cannot be read"))?;
            files.insert(path.to_owned(), String::from_utf8(bytes).ok());
        }
        Ok(Tree { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: BTreeMap<String, String>) -> Tree {
        Tree { files: files.into_iter().map(|(path, text)| (path, Some(text))).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Path and text of each text file.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Path and text of each text file whose path ends so.
    pub(super) fn ending(&self, end: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(end))
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Whether `path` is a file, or a folder with files.
    pub(super) fn has(&self, path: &str) -> bool {
        path.is_empty()
            || self.files.contains_key(path)
            || self.paths().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}
