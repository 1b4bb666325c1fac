//! Paths: where a request goes, in the one spelling that routing, policy, audit and storage all see.
//!
//! Always: a [`Path`] is canonical. It is UTF-8, decoded exactly once, has no empty, `.` or `..` segment, no control character, no backslash, nothing that
//! would decode again, and is within the limits below; two paths are equal exactly if their bytes are. It is confidential (names are encrypted at
//! rest), so it cannot be printed by accident: `Debug` shows only its size, and there is no `Display`.
//! Knows nothing of mounts, namespaces or policies.
//!
//! What is *not* changed: case, spaces, `+` (a plus, not a space), `;`, and the Unicode form. NFC and NFD spellings of a name are two names, as are a full stop and its
//! full-width form: a normal form that changes with each Unicode version has no place in a key.

use std::fmt;
use std::sync::Arc;

/// The longest path, in bytes after decoding.
pub const PATH_BYTES_MAX: usize = 8 * 1024;
/// The longest segment, in bytes after decoding.
pub const SEGMENT_BYTES_MAX: usize = 1024;
/// The most segments in a path.
pub const SEGMENTS_MAX: usize = 64;
/// The longest raw path that is looked at: each byte may be percent-encoded as three.
pub const RAW_BYTES_MAX: usize = 3 * PATH_BYTES_MAX;

/// A canonical path: segments with one `/` between them, none in front, and one behind if it means a folder. The root is the empty path, and a folder.
///
/// Cheap to clone. Ordered as its bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// Why a text is no [`Path`]. Holds offsets and sizes, never a piece of the path. `at` counts bytes from 0, in the text as given for faults of encoding, in the
/// decoded text for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `%` without two hex digits behind it.
    #[error("the path has a '%' at byte {at} without two hex digits after it (a percent sign is written %25)")]
    Escape {
        /// Where the `%` is.
        at: usize,
    },
    /// A `?` or `#`, where a path ends.
    #[error("the path has a '?' or '#' at byte {at} (as part of a name they are written %3F and %23)")]
    Delimiter {
        /// Where it is.
        at: usize,
    },
    /// `%2f`: a slash that only some readers would see.
    #[error("the path has an encoded slash at byte {at} (write it as '/'; a name cannot hold one)")]
    EncodedSlash {
        /// Where its `%` is.
        at: usize,
    },
    /// Decoded, it would decode again, so that two readers would see two paths.
    #[error("the path is still percent-encoded at byte {at} after decoding (encode it once)")]
    EncodedTwice {
        /// Where the remaining `%` is.
        at: usize,
    },
    /// Overlong or otherwise invalid UTF-8.
    #[error("the path is no valid UTF-8 at byte {at}")]
    Utf8 {
        /// Where the first wrong byte is.
        at: usize,
    },
    /// NUL, a line end, or another control character (Unicode's category Cc).
    #[error("the path has a control character at byte {at} (leave it out)")]
    Control {
        /// Where it is.
        at: usize,
    },
    /// A backslash, which some readers take for a slash.
    #[error("the path has a backslash at byte {at} (segments are divided by '/')")]
    Backslash {
        /// Where it is.
        at: usize,
    },
    /// `.` or `..`, alone or before a `;`.
    #[error("the path has a '.' or '..' segment at byte {at} (write the whole path)")]
    Dots {
        /// Where it begins.
        at: usize,
    },
    /// Longer than [`PATH_BYTES_MAX`], or [`RAW_BYTES_MAX`] undecoded.
    #[error("the path is {bytes} bytes long (at most {PATH_BYTES_MAX}, or {RAW_BYTES_MAX} percent-encoded)")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A segment longer than [`SEGMENT_BYTES_MAX`].
    #[error("the path's segment at byte {at} is {bytes} bytes long (at most {SEGMENT_BYTES_MAX})")]
    Segment {
        /// Where it begins.
        at: usize,
        /// How long it is.
        bytes: usize,
    },
    /// More segments than [`SEGMENTS_MAX`].
    #[error("the path has more than {SEGMENTS_MAX} segments")]
    Depth,
}

impl Path {
    /// The path of no segments.
    pub fn root() -> Path {
        Path(Arc::from(""))
    }

    /// Takes the path of an HTTP request as it came, percent-encoded, without `/v1/` in front or a query behind. Decodes it, once.
    pub fn parse_http(raw: &str) -> Result<Path, PathError> {
        if raw.len() > RAW_BYTES_MAX {
            return Err(PathError::Length { bytes: raw.len() });
        }
        if let Some(at) = raw.find(['?', '#']) {
            return Err(PathError::Delimiter { at });
        }
        if raw.contains('%') { Path::parse(&decode(raw)?) } else { Path::parse(raw) }
    }

    /// Takes a path that is not percent-encoded: from a configuration, a policy, a body, or another path's [`Path::as_str`].
    ///
    /// Slashes in front are dropped, repeated ones are one, and one or more behind make it a folder.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        check_characters(text)?;
        let mut canonical = String::with_capacity(text.len());
        let mut count = 0;
        let mut at = 0;
        for segment in text.split('/') {
            if !segment.is_empty() {
                check_segment(segment, at)?;
                count += 1;
                if !canonical.is_empty() {
                    canonical.push('/');
                }
                canonical.push_str(segment);
            }
            at += segment.len() + 1;
        }
        if text.ends_with('/') && !canonical.is_empty() {
            canonical.push('/');
        }
        Path::within_limits(&canonical, count)
    }

    /// The segments, first to last. The root has none.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether it ends in a slash, or is the root.
    pub fn is_folder(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// Whether it has no segments.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical text: no slash in front, one behind if it is a folder (but the root is empty). Confidential: not for traces or errors.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same path, not as a folder. The root stays the root.
    pub fn without_folder(&self) -> Path {
        match self.0.strip_suffix('/') {
            Some(text) => Path(Arc::from(text)),
            None => self.clone(),
        }
    }

    /// The same path as a folder. Fails only if it has no byte left for the slash.
    pub fn as_folder(&self) -> Result<Path, PathError> {
        if self.is_folder() { Ok(self.clone()) } else { Path::within_limits(&format!("{}/", self.0), 0) }
    }

    /// Whether the first segments are `segments`: whole ones, so that `kv` begins `kv/a`, not `kvx`.
    pub fn starts_with<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> bool {
        let mut own = self.segments();
        segments.into_iter().all(|segment| own.next() == Some(segment))
    }

    /// What follows the segments of `prefix` (a folder or not); a folder if this path is one. `None` if this path does not begin with them.
    pub fn strip_prefix(&self, prefix: &Path) -> Option<Path> {
        let prefix = prefix.0.strip_suffix('/').unwrap_or(&prefix.0);
        if prefix.is_empty() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(prefix)? {
            "" => Some(Path::root()),
            rest => rest.strip_prefix('/').map(|rest| Path(Arc::from(rest))),
        }
    }

    /// This path, then `rest`; a folder if `rest` is one. Fails if the two are too long or too deep together.
    pub fn join(&self, rest: &Path) -> Result<Path, PathError> {
        if self.is_root() {
            return Ok(rest.clone());
        }
        let own = self.0.strip_suffix('/').unwrap_or(&self.0);
        Path::within_limits(&format!("{own}/{}", rest.0), self.segments().count() + rest.segments().count())
    }

    /// The last of the checks: those on the whole.
    fn within_limits(canonical: &str, segments: usize) -> Result<Path, PathError> {
        if canonical.len() > PATH_BYTES_MAX {
            Err(PathError::Length { bytes: canonical.len() })
        } else if segments > SEGMENTS_MAX {
            Err(PathError::Depth)
        } else {
            Ok(Path(Arc::from(canonical)))
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_folder() { ", a folder" } else { "" };
        write!(f, "Path({} segments{kind})", self.segments().count())
    }
}

fn check_characters(text: &str) -> Result<(), PathError> {
    if text.len() > RAW_BYTES_MAX {
        return Err(PathError::Length { bytes: text.len() });
    }
    for (at, character) in text.char_indices() {
        match character {
            '\\' => return Err(PathError::Backslash { at }),
            '%' if escaped_byte(text.as_bytes(), at).is_some() => return Err(PathError::EncodedTwice { at }),
            _ if character.is_control() => return Err(PathError::Control { at }),
            _ => {}
        }
    }
    Ok(())
}

fn check_segment(segment: &str, at: usize) -> Result<(), PathError> {
    // Some proxies and servers cut a segment at ';' before they resolve dots.
    if matches!(segment.split(';').next(), Some("." | "..")) {
        Err(PathError::Dots { at })
    } else if segment.len() > SEGMENT_BYTES_MAX {
        Err(PathError::Segment { at, bytes: segment.len() })
    } else {
        Ok(())
    }
}

/// Percent-decodes `raw` (RFC 3986, section 2.1).
fn decode(raw: &str) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            decoded.push(byte);
            at += 1;
            continue;
        }
        match escaped_byte(bytes, at) {
            None => return Err(PathError::Escape { at }),
            Some(b'/') => return Err(PathError::EncodedSlash { at }),
            Some(byte) => decoded.push(byte),
        }
        at += 3;
    }
    String::from_utf8(decoded).map_err(|error| PathError::Utf8 { at: error.utf8_error().valid_up_to() })
}

/// The byte that `%` at `at` and two hex digits behind it stand for.
fn escaped_byte(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}
