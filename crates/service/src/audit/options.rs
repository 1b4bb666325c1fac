//! A device's options, parsed: Vault's names and OpenBao's, and `sync`, which is ours.
//!
//! Always: an option that is not understood is an error, never ignored; no text here repeats more than a name.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 32;
/// The permissions of a new file, and those that an existing one gets, unless `mode` says otherwise.
const MODE_DEFAULT: u32 = 0o600;
/// What `mode` may grant: nobody executes a record, and only the owner and its group write one.
const MODE_MAX: u32 = 0o664;
/// The most of a given value that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file of this path, which is absolute, with these permissions. `None` keeps those of the file, and makes a new one 0600.
    File { path: PathBuf, mode: Option<u32> },
    /// The process's standard output.
    Stdout,
}

/// How a file device works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceOptions {
    pub(crate) target: Target,
    /// Whether a record counts only once it is on stable storage.
    pub(crate) sync: bool,
    /// Everything is shown as it is.
    pub(crate) log_raw: bool,
    /// Accessors are shown as HMACs.
    pub(crate) hmac_accessor: bool,
    /// Of a list only its length is shown.
    pub(crate) elide_list_responses: bool,
    /// Stands before each line.
    pub(crate) prefix: String,
}

/// Why options are none. The texts are for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("file_path is required")]
    NoPath,
    #[error("file_path must be an absolute path to a file that each node can write, or \"stdout\"")]
    RelativePath,
    #[error("file_path and path name different files (give one of them)")]
    TwoPaths,
    #[error("file_path \"discard\" keeps no record and would count as one (use a file, or \"stdout\" where something reads it)")]
    Discard,
    #[error("unknown format type {0:?} (use \"json\"; jsonx is not written any more)")]
    Format(String),
    #[error("mode {0:?} is no octal number of permissions (for example \"0600\", or \"0000\" to keep those of the file)")]
    Mode(String),
    #[error(
        "mode {0:?} is not possible for records: the owner must read and write, the group at most read and write, others at most read, and nobody execute (for example \"0600\" or \"0640\")"
    )]
    ModeTooWide(String),
    #[error("{name} must be true or false, not {value:?}")]
    Flag { name: &'static str, value: String },
    #[error("sync cannot be true for standard output, which cannot be made durable (leave it out)")]
    SyncStdout,
    #[error("mode cannot be given for standard output (leave it out)")]
    ModeStdout,
    #[error(
        "prefix must be at most {PREFIX_BYTES_MAX} letters, digits, '-', '_', '.', then perhaps ':' and a space, for example \"conclave: \"; \"@cee: \" is possible too"
    )]
    Prefix,
    #[error("unknown option {0:?} (there are file_path, mode, format, prefix, log_raw, hmac_accessor, elide_list_responses and sync)")]
    Unknown(String),
}

impl DeviceOptions {
    /// Parses options as they were given.
    pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<DeviceOptions, OptionError> {
        const KNOWN: [&str; 9] =
            ["file_path", "path", "mode", "format", "prefix", "log_raw", "hmac_accessor", "elide_list_responses", "sync"];
        if let Some(unknown) = options.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(OptionError::Unknown(shortened(unknown)));
        }
        match options.get("format").map(String::as_str) {
            None | Some("" | "json") => {}
            Some(other) => return Err(OptionError::Format(shortened(other))),
        }
        let path = match (options.get("file_path"), options.get("path")) {
            (Some(one), Some(other)) if one != other => return Err(OptionError::TwoPaths),
            (Some(path), _) | (None, Some(path)) if !path.is_empty() => path.as_str(),
            _ => return Err(OptionError::NoPath),
        };
        let mode = mode(options.get("mode").map(String::as_str))?;
        let sync = flag(options, "sync")?;
        let target = match path {
            "discard" => return Err(OptionError::Discard),
            "stdout" if sync == Some(true) => return Err(OptionError::SyncStdout),
            "stdout" if mode.is_some() => return Err(OptionError::ModeStdout),
            "stdout" => Target::Stdout,
            path if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') => {
                Target::File { path: PathBuf::from(path), mode: mode.unwrap_or(Some(MODE_DEFAULT)) }
            }
            _ => return Err(OptionError::RelativePath),
        };
        let prefix = options.get("prefix").cloned().unwrap_or_default();
        if !is_prefix(&prefix) {
            return Err(OptionError::Prefix);
        }
        Ok(DeviceOptions {
            sync: sync.unwrap_or(true) && target != Target::Stdout,
            target,
            log_raw: flag(options, "log_raw")?.unwrap_or(false),
            hmac_accessor: flag(options, "hmac_accessor")?.unwrap_or(true),
            elide_list_responses: flag(options, "elide_list_responses")?.unwrap_or(false),
            prefix,
        })
    }
}

/// In the spellings of Go's `strconv.ParseBool`, as in Vault.
fn flag(options: &BTreeMap<String, String>, name: &'static str) -> Result<Option<bool>, OptionError> {
    match options.get(name).map(String::as_str) {
        None => Ok(None),
        Some(text) => match parse_flag(text) {
            Some(flag) => Ok(Some(flag)),
            None => Err(OptionError::Flag { name, value: shortened(text) }),
        },
    }
}

/// A boolean in the spellings of Go's `strconv.ParseBool`, as in Vault.
fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The outer `None`: nothing is said; the inner one: the file's permissions are kept.
fn mode(text: Option<&str>) -> Result<Option<Option<u32>>, OptionError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let is_octal = text.len() <= 5 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal).ok_or_else(|| OptionError::Mode(shortened(text)))?;
    match mode {
        0 => Ok(Some(None)),
        mode if mode & !MODE_MAX != 0 || mode & MODE_DEFAULT != MODE_DEFAULT => Err(OptionError::ModeTooWide(shortened(text))),
        mode => Ok(Some(Some(mode))),
    }
}

/// A prefix must not make a record into something that another program would obey, a line of a crontab or of a shell's start
/// file (CVE-2025-6000): one word, no spaces within.
fn is_prefix(prefix: &str) -> bool {
    let word = prefix.strip_suffix(' ').unwrap_or(prefix);
    let plain = word.strip_suffix(':').unwrap_or(word);
    let is_word = plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    prefix.len() <= PREFIX_BYTES_MAX && (prefix.is_empty() || word == "@cee:" || (is_word && !plain.is_empty()))
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<DeviceOptions, OptionError> {
        DeviceOptions::parse(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn file(path: &str, mode: Option<u32>) -> DeviceOptions {
        DeviceOptions {
            target: Target::File { path: path.into(), mode },
            sync: true,
            log_raw: false,
            hmac_accessor: true,
            elide_list_responses: false,
            prefix: String::new(),
        }
    }

    #[test]
    fn options_as_vault_and_openbao_take_them() {
        let plain = file("/a.log", Some(0o600));
        assert_eq!(parse(&[("file_path", "/a.log")]).unwrap(), plain);
        assert_eq!(parse(&[("path", "/a.log"), ("format", "json"), ("mode", "")]).unwrap(), plain);
        assert_eq!(parse(&[("path", "/a.log"), ("file_path", "/a.log"), ("mode", "0600")]).unwrap(), plain);
        for (mode, want) in [("0640", Some(0o640)), ("644", Some(0o644)), ("0000", None), ("0", None)] {
            assert_eq!(parse(&[("file_path", "/a.log"), ("mode", mode)]).unwrap(), file("/a.log", want), "{mode}");
        }
        let all = [
            ("file_path", "/a.log"),
            ("log_raw", "true"),
            ("hmac_accessor", "0"),
            ("elide_list_responses", "T"),
            ("sync", "False"),
            ("prefix", "@cee: "),
        ];
        let want = DeviceOptions {
            sync: false,
            log_raw: true,
            hmac_accessor: false,
            elide_list_responses: true,
            prefix: "@cee: ".into(),
            ..plain.clone()
        };
        assert_eq!(parse(&all).unwrap(), want);
        for options in [&[("file_path", "stdout")][..], &[("file_path", "stdout"), ("sync", "false")]] {
            assert_eq!(parse(options).unwrap(), DeviceOptions { target: Target::Stdout, sync: false, ..plain.clone() });
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for options in [
            &[][..],
            &[("file_path", "")],
            &[("file_path", "a.log")],
            &[("file_path", "/a/")],
            &[("file_path", "/a\0b")],
            &[("file_path", "/a"), ("path", "/b")],
            &[("file_path", "discard")],
            &[("file_path", "stdout"), ("sync", "true")],
            &[("file_path", "stdout"), ("mode", "0600")],
            &[("file_path", "/a"), ("format", "jsonx")],
            &[("file_path", "/a"), ("sync", "yes")],
            &[("file_path", "/a"), ("log_raw", "")],
            &[("file_path", "/a"), ("bogus", "x")],
            &[("file_path", "/a"), ("Mode", "0600")],
        ] {
            assert!(parse(options).is_err(), "{options:?}");
        }
        for mode in ["9", "x", "-1", "+600", "0o600", "000600", "0400", "0066", "0700", "0777", "0755", "0666", "0602", "4600", "1600"] {
            assert!(parse(&[("file_path", "/a"), ("mode", mode)]).is_err(), "{mode}");
        }
    }

    #[test]
    fn no_prefix_is_a_command() {
        for (prefix, fits) in [
            ("", true),
            ("conclave", true),
            ("node-1_audit.log: ", true),
            ("a ", true),
            ("@cee: ", true),
            ("@cee:", true),
            (" ", false),
            (":", false),
            ("#!/bin/sh", false),
            ("@reboot ", false),
            ("@reboot root ", false),
            ("* * * * * root ", false),
            ("0 0 1 1 0 root ", false),
            ("a b", false),
            ("a  ", false),
            ("a\n", false),
            ("a\t", false),
            ("a;", false),
            ("$(a)", false),
            ("ssh-ed25519 AAAA", false),
            ("{", false),
            ("\u{e9}", false),
            ("abcdefghijabcdefghijabcdefghijabc", false),
        ] {
            assert_eq!(parse(&[("file_path", "/a"), ("prefix", prefix)]).is_ok(), fits, "{prefix:?}");
        }
    }
}
