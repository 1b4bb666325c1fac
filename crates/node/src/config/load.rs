//! Loading: from files and folders to one body, whose lines are counted through all of them.
//!
//! Always: every file that can be read is read, so that the mistakes of all are told together; at most [`FILES_MAX`] files of
//! at most [`FILE_SIZE_BYTES_MAX`] bytes.
//! Knows nothing of the keys a configuration has.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use types::hcl::{self, Body, Interpolation, SyntaxError, Value};

use super::mistake::{Report, Source};
use super::{Config, ConfigErrors, FILE_SIZE_BYTES_MAX, FILES_MAX, shape};

/// The endings of the files that are read of a folder.
const ENDINGS: [&str; 2] = ["hcl", "json"];

/// A file as it was found.
struct Found {
    file: String,
    folder: PathBuf,
    /// Its text, or what stands in the way.
    text: Result<String, String>,
}

/// Reads `paths` as one configuration.
pub(super) fn paths(paths: &[PathBuf]) -> Result<Config, ConfigErrors> {
    let mut found: Vec<Found> = Vec::new();
    for path in paths {
        match in_folder(path) {
            Some(Ok(files)) => found.extend(files.iter().map(|file| read(file))),
            Some(Err(text)) => found.push(Found { text: Err(text), ..nothing(path) }),
            None => found.push(read(path)),
        }
    }
    if found.len() > FILES_MAX {
        let text = format!("{} files are too many (at most {FILES_MAX} make a configuration)", found.len());
        found = vec![Found { text: Err(text), ..nothing(&paths[0]) }];
    }
    if found.is_empty() {
        found = vec![Found { text: Err("no configuration file is named".to_owned()), ..nothing(Path::new("")) }];
    }
    finish(found)
}

/// Reads `text` as if it stood in `file`.
pub(super) fn text(text: &str, file: &str, folder: &Path) -> Result<Config, ConfigErrors> {
    finish(vec![Found { file: file.to_owned(), folder: folder.to_owned(), text: Ok(text.to_owned()) }])
}

fn finish(found: Vec<Found>) -> Result<Config, ConfigErrors> {
    let mut sources = Vec::with_capacity(found.len());
    let mut body = Body { line: 1, entries: Vec::new() };
    let mut errors: Vec<SyntaxError> = Vec::new();
    let mut unread: Vec<(usize, String)> = Vec::new();
    let mut lines_before = 0;
    for (at, Found { file, folder, text }) in found.into_iter().enumerate() {
        sources.push(Source { file, folder, lines_before });
        let lines = match text {
            Ok(text) => {
                let (mut part, part_errors) = hcl::parse(&text, Interpolation::Refused);
                shift(&mut part, lines_before);
                body.entries.append(&mut part.entries);
                errors.extend(part_errors.into_iter().map(|error| SyntaxError { line: error.line + lines_before, ..error }));
                text.matches('\n').count() + 1
            }
            Err(text) => {
                unread.push((at, text));
                1
            }
        };
        lines_before += lines;
    }
    let is_whole = unread.is_empty();
    let files: Vec<String> = sources.iter().map(|source| source.file.clone()).collect();
    let report = Report::new(sources);
    for (at, text) in unread {
        report.of_file(&files[at], text);
    }
    for error in errors {
        report.mistake(Some(error.line), "", error.text);
    }
    // What is missing may stand in the file that could not be read.
    let config = if is_whole { shape::config(&report, &body) } else { None };
    let (config, warnings) = report.finish(config)?;
    Ok(Config { warnings, ..config })
}

/// Counts the lines of `body` from `by` on. Nests as deep as the text does, which is bounded.
fn shift(body: &mut Body, by: usize) {
    body.line += by;
    for entry in &mut body.entries {
        entry.line += by;
        shift_value(&mut entry.value, by);
    }
}

fn shift_value(value: &mut Value, by: usize) {
    match value {
        Value::Body(body) => shift(body, by),
        Value::List(values) => values.iter_mut().for_each(|each| shift_value(each, by)),
        Value::Text(_) | Value::Integer(_) | Value::Decimal(_) | Value::Bool(_) | Value::Null | Value::Invalid => {}
    }
}

fn nothing(path: &Path) -> Found {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Found { file: path.display().to_string(), folder, text: Ok(String::new()) }
}

/// The configuration files of the folder at `path`, in the order of their names; `None` where it is no folder.
fn in_folder(path: &Path) -> Option<Result<Vec<PathBuf>, String>> {
    if !path.is_dir() {
        return None;
    }
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        // One more than may be is enough to know that there are too many.
        for entry in std::fs::read_dir(path)? {
            let file = entry?.path();
            let is_ours = file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
            if is_ours && !file.is_dir() && files.len() <= FILES_MAX {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    };
    Some(match read() {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(files) if files.is_empty() => Err("is a folder without a file *.hcl or *.json".to_owned()),
        Ok(files) => Ok(files),
    })
}

fn read(path: &Path) -> Found {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let read = || {
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_SIZE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path).map_err(cannot)?.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() > FILE_SIZE_BYTES_MAX {
            return Err(format!("is larger than {FILE_SIZE_BYTES_MAX} bytes (is it a configuration?)"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            format!("is not UTF-8 text (the first wrong byte is in line {line})")
        })
    };
    Found { text: read(), ..nothing(path) }
}
