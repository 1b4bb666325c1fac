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

/// The file that `key` names, from `folder` on; reports it when it cannot be used. `None` if `key` holds no text.
pub(super) fn named(section: &Section<'_>, key: &str, folder: &Path, secrecy: Secrecy) -> Option<PathBuf> {
    let text = section.text(key)?;
    if text.is_empty() || text.contains("-----BEGIN") {
        section.mistake(key, "must name a file, not hold its content (write the content to a file and name that)");
        return None;
    }
    let path = folder.join(text);
    match problem(&path, secrecy) {
        Ok(()) => {}
        Err(Problem::Unusable(text)) => section.mistake(key, text),
        Err(Problem::Doubtful(text)) => section.warning(key, text),
    }
    Some(path)
}

enum Problem {
    Unusable(String),
    Doubtful(String),
}

fn problem(path: &Path, secrecy: Secrecy) -> Result<(), Problem> {
    let shown = format!("{:?}", path.display().to_string());
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

/// The data folder that `key` names, from `folder` on: it is made later, but what stands there now must be a folder.
pub(super) fn data_folder(section: &Section<'_>, key: &str, folder: &Path) -> Option<PathBuf> {
    let text = section.required_text(key, "/var/lib/conclave")?;
    if text.is_empty() || text.contains('\0') {
        section.mistake(key, "is empty (name the data folder, such as \"/var/lib/conclave\")");
        return None;
    }
    let path = folder.join(text);
    if path.exists() && !path.is_dir() {
        section.mistake(key, format!("{:?} is not a folder", path.display().to_string()));
    }
    Some(path)
}
