//! Files that a configuration names: there, readable, and private where they must be.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::section::Section;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    Public,
    /// Refused when everyone can read it. The group may (system services often share a key that way), with a warning.
    Private,
}

/// The file that `key` names; reports it when it cannot be used. `None` if `key` holds no text.
///
/// A relative path starts at the folder of the configuration file; where nothing is there, at the working directory, as Vault's do.
pub(super) fn named(section: &Section<'_>, key: &str, secrecy: Secrecy) -> Option<PathBuf> {
    let text = section.text(key)?;
    if text.is_empty() || text.contains("-----BEGIN") {
        section.mistake(key, "must name a file, not hold its content (write the content to a file and name that)");
        return None;
    }
    let mut path = section.folder(key).join(text);
    let from_here = Path::new(text);
    if from_here.is_relative() && !path.exists() && from_here.is_file() {
        let text = format!("{} is not there, so {text:?} of the working directory is used (write the whole path)", quoted(&path));
        section.warning(key, text);
        path = std::path::absolute(from_here).unwrap_or_else(|_| from_here.to_owned());
    }
    usable(section, key, &path, secrecy);
    Some(path)
}

/// The file that `key` names, whether it is there or not. `None` if `key` holds no text.
pub(super) fn path(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = section.text(key)?;
    if text.is_empty() {
        section.mistake(key, "names no file");
        return None;
    }
    Some(section.folder(key).join(text))
}

/// Whether the file at `path` can be used; reports it when it cannot.
pub(super) fn usable(section: &Section<'_>, key: &str, path: &Path, secrecy: Secrecy) -> bool {
    match problem(path, secrecy) {
        Ok(()) => return true,
        Err(Problem::Unusable(text)) => section.mistake(key, text),
        Err(Problem::Doubtful(text)) => {
            section.warning(key, text);
            return true;
        }
    }
    false
}

enum Problem {
    Unusable(String),
    Doubtful(String),
}

fn problem(path: &Path, secrecy: Secrecy) -> Result<(), Problem> {
    let shown = quoted(path);
    let metadata =
        File::open(path).and_then(|file| file.metadata()).map_err(|error| Problem::Unusable(format!("{shown} cannot be read: {error}")))?;
    if !metadata.is_file() {
        return Err(Problem::Unusable(format!("{shown} is not a file")));
    }
    let mode = metadata.permissions().mode();
    if secrecy == Secrecy::Private && mode & 0o007 != 0 {
        return Err(Problem::Unusable(format!("{shown} is a private key that everyone can use (chmod 600 it)")));
    }
    if secrecy == Secrecy::Private && mode & 0o070 != 0 {
        return Err(Problem::Doubtful(format!("{shown} is a private key that its group can use (chmod 600 it, unless that is meant)")));
    }
    Ok(())
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// The file that `key` names and that is made later: what stands there now must be a file, in a folder that is there.
pub(super) fn to_be_made(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = section.text(key)?;
    let path = section.folder(key).join(text);
    if text.is_empty() || path.is_dir() {
        section.mistake(key, format!("{} names no file", quoted(&path)));
    } else if !path.parent().is_some_and(Path::is_dir) {
        section.mistake(key, format!("the folder of {} is not there (make it)", quoted(&path)));
    }
    Some(path)
}

/// The data folder that `key` names: it is made later, but what stands there now must be a folder.
pub(super) fn data_folder(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = section.required_text(key, "/var/lib/conclave")?;
    if text.is_empty() || text.contains('\0') {
        section.mistake(key, "is empty (name the data folder, such as \"/var/lib/conclave\")");
        return None;
    }
    let path = section.folder(key).join(text);
    if path.exists() && !path.is_dir() {
        section.mistake(key, format!("{} is not a folder", quoted(&path)));
    }
    Some(path)
}
