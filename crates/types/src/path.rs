//! Paths: where a request goes, in the one spelling that routing, policy, audit and storage all see.
//!
//! Always: a [`Path`] is canonical. It is UTF-8, decoded exactly once, has no empty, `.` or `..` segment, no control character, no
//! backslash, nothing that would decode again, and is within the limits below; two paths are equal exactly if their bytes are. It is
//! confidential (names are encrypted at rest), so it cannot be printed by accident: `Debug` shows only its size, and there is no `Display`.
//! Knows nothing of mounts, namespaces or policies.
//!
//! What is *not* changed: case, spaces, `+` (a plus, not a space), `;`, and the Unicode form. NFC and NFD spellings of a name are two
//! names, as are a full stop and its full-width form: a normal form that changes with each Unicode version has no place in a key.

use std::fmt;
use std::sync::Arc;

/// The longest path, in bytes after decoding, without a folder's slash.
pub const PATH_BYTES_MAX: usize = 8 * 1024;
/// The longest segment, in bytes after decoding.
pub const SEGMENT_BYTES_MAX: usize = 1024;
/// The most segments in a path.
pub const SEGMENTS_MAX: usize = 64;
/// The longest raw path that is looked at: each byte may be percent-encoded as three.
pub const RAW_BYTES_MAX: usize = 3 * PATH_BYTES_MAX;

/// A canonical path: segments with one `/` between them, none in front, and one behind if it means a folder. The root is the empty path,
/// and a folder.
///
/// Cheap to clone. Ordered as its bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// Why a text is no [`Path`]. Holds offsets and sizes, never a piece of the path. `at` counts bytes from 0, in the text as given for faults
/// of encoding, in the decoded text for the rest.
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

    /// The same path as a folder.
    pub fn as_folder(&self) -> Path {
        if self.is_folder() { self.clone() } else { Path(Arc::from(format!("{}/", self.0))) }
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
        let bytes = canonical.strip_suffix('/').unwrap_or(canonical).len();
        if bytes > PATH_BYTES_MAX {
            Err(PathError::Length { bytes })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn every_spelling_of_a_path_is_one_path() {
        for (canonical, spellings) in [
            (
                "secret/data/app",
                &["secret/data/app", "/secret/data/app", "//secret/data/app", "secret//data///app", "%73ecret/d%61ta/%61pp"][..],
            ),
            ("secret/data/", &["secret/data/", "secret/data//", "/secret//data///", "secret/dat%61/"]),
            ("", &["", "/", "//", "////"]),
            ("a", &["a", "/a", "%61"]),
            ("a b+c", &["a%20b+c", "a b+c", "a%20b%2bc", "a%20b%2Bc"]),
            ("50%", &["50%25"]),
            ("50%zz", &["50%25zz"]),
            ("q?x#y", &["q%3fx%23y", "q%3Fx%23y"]),
            ("caf\u{e9}", &["caf%c3%a9", "caf\u{e9}", "caf%C3%A9"]),
        ] {
            for spelling in spellings {
                let path = Path::parse_http(spelling).unwrap_or_else(|error| panic!("{spelling}: {error}"));
                assert_eq!(path.as_str(), canonical, "{spelling}");
                assert_eq!(path, Path::parse(canonical).unwrap(), "{spelling}");
            }
        }
    }

    /// What two readers could take for two paths.
    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use PathError::*;
        for (raw, want) in [
            // Dot segments, however they are written.
            ("..", Dots { at: 0 }),
            (".", Dots { at: 0 }),
            ("./", Dots { at: 0 }),
            ("a/./b", Dots { at: 2 }),
            ("a/../b", Dots { at: 2 }),
            ("a/b/..", Dots { at: 4 }),
            ("a//../b", Dots { at: 3 }),
            ("a/%2e/b", Dots { at: 2 }),
            ("a/%2E%2e/b", Dots { at: 2 }),
            ("a/.%2e/b", Dots { at: 2 }),
            ("a/%2e./b", Dots { at: 2 }),
            ("a/..;/b", Dots { at: 2 }),
            ("a/..;x=1/b", Dots { at: 2 }),
            ("a/.%3b/b", Dots { at: 2 }),
            // Encoded twice.
            ("a/%252e%252e/b", EncodedTwice { at: 2 }),
            ("a%252fb", EncodedTwice { at: 1 }),
            ("a%25%32%66b", EncodedTwice { at: 1 }),
            ("%2561", EncodedTwice { at: 0 }),
            ("%25%32e", EncodedTwice { at: 0 }),
            // Slashes that only some see.
            ("a%2fb", EncodedSlash { at: 1 }),
            ("a%2Fb", EncodedSlash { at: 1 }),
            ("%2f", EncodedSlash { at: 0 }),
            ("a\\b", Backslash { at: 1 }),
            ("a%5cb", Backslash { at: 1 }),
            ("a/..\\b", Backslash { at: 4 }),
            // Control characters, of all three blocks.
            ("a%00", Control { at: 1 }),
            ("a\0b", Control { at: 1 }),
            ("%0a", Control { at: 0 }),
            ("a%0d%0ab", Control { at: 1 }),
            ("a%09b", Control { at: 1 }),
            ("a%1fb", Control { at: 1 }),
            ("a%7f", Control { at: 1 }),
            ("a%c2%85b", Control { at: 1 }),
            // Not UTF-8: overlong '/', '.', NUL; a surrogate; beyond Unicode; cut short; Latin-1.
            ("a%c0%afb", Utf8 { at: 1 }),
            ("%c0%ae%c0%ae", Utf8 { at: 0 }),
            ("a%e0%80%afb", Utf8 { at: 1 }),
            ("%c0%80", Utf8 { at: 0 }),
            ("ab%ed%a0%80", Utf8 { at: 2 }),
            ("%f4%90%80%80", Utf8 { at: 0 }),
            ("a%c3", Utf8 { at: 1 }),
            ("caf%e9", Utf8 { at: 3 }),
            // Escapes that are none.
            ("a%", Escape { at: 1 }),
            ("a%2", Escape { at: 1 }),
            ("a%zz", Escape { at: 1 }),
            ("a%+1b", Escape { at: 1 }),
            ("%u002e", Escape { at: 0 }),
            ("a%%32e", Escape { at: 1 }),
            ("%\u{e9}0", Escape { at: 0 }),
            // A query is not part of a path.
            ("a?list=true", Delimiter { at: 1 }),
            ("a#b", Delimiter { at: 1 }),
        ] {
            assert_eq!(Path::parse_http(raw).map(|path| path.as_str().to_owned()), Err(want), "{raw}");
        }
    }

    /// What looks odd but has one reading: kept, byte for byte.
    #[test]
    fn what_is_unusual_but_plain_is_kept() {
        for (raw, kept) in [
            ("a;b/c;d=1", "a;b/c;d=1"),
            ("...", "..."),
            ("..a/a../.a/a.", "..a/a../.a/a."),
            (" a/b ", " a/b "),
            ("%20", " "),
            ("a+b", "a+b"),
            ("Secret/DATA", "Secret/DATA"),
            ("100%25/50%25 off", "100%/50% off"),
            ("a@b:c,d=e&f!$'()*~|^`{}[]<>\"", "a@b:c,d=e&f!$'()*~|^`{}[]<>\""),
            // NFC and NFD of the same letter; full-width dots and slash; a right-to-left mark; an emoji.
            ("%c3%a9", "\u{e9}"),
            ("e%cc%81", "e\u{301}"),
            ("a/%ef%bc%8e%ef%bc%8e/b", "a/\u{ff0e}\u{ff0e}/b"),
            ("a%ef%bc%8fb", "a\u{ff0f}b"),
            ("a%e2%80%8fb", "a\u{200f}b"),
            ("%f0%9f%94%91", "\u{1f511}"),
        ] {
            let path = Path::parse_http(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
            assert_eq!(path.as_str(), kept, "{raw}");
        }
        assert_ne!(path("\u{e9}"), path("e\u{301}"), "NFC and NFD are two names");
        assert_ne!(path("a"), path("A"));
        assert_ne!(path("a"), path("a "));
    }

    #[test]
    fn decoded_text_follows_the_same_rules() {
        use PathError::*;
        for (text, want) in [
            ("a/../b", Dots { at: 2 }),
            ("a%2fb", EncodedTwice { at: 1 }),
            ("a%2e", EncodedTwice { at: 1 }),
            ("a\\b", Backslash { at: 1 }),
            ("a\nb", Control { at: 1 }),
        ] {
            assert_eq!(Path::parse(text).err(), Some(want), "{text}");
        }
        assert_eq!(path("//a///b//").as_str(), "a/b/");
        assert_eq!(path("a?b#c").as_str(), "a?b#c");
    }

    #[test]
    fn each_limit_holds_to_the_byte() {
        let segment = |bytes: usize| "s".repeat(bytes);
        assert!(Path::parse(&segment(SEGMENT_BYTES_MAX)).is_ok());
        assert_eq!(
            Path::parse(&format!("a/{}", segment(SEGMENT_BYTES_MAX + 1))).err(),
            Some(PathError::Segment { at: 2, bytes: SEGMENT_BYTES_MAX + 1 })
        );
        assert!(Path::parse_http(&segment(4096)).is_err());
        // Encoded or not, what counts is the decoded length.
        assert!(Path::parse_http(&"%61".repeat(SEGMENT_BYTES_MAX)).is_ok());

        let deep = vec!["a"; SEGMENTS_MAX].join("/");
        assert!(Path::parse(&deep).is_ok() && Path::parse(&format!("//{deep}//")).is_ok());
        assert_eq!(Path::parse(&format!("{deep}/a")).err(), Some(PathError::Depth));

        let long = format!("{}/{}", vec![segment(1023); 7].join("/"), segment(1024));
        assert_eq!(long.len(), PATH_BYTES_MAX);
        assert_eq!(path(&long).as_folder(), path(&format!("{long}/")));
        assert_eq!(Path::parse(&format!("{long}/a")).err(), Some(PathError::Length { bytes: PATH_BYTES_MAX + 2 }));
        // Folded slashes do not count, but not without end.
        assert!(Path::parse(&format!("a{}b", "/".repeat(PATH_BYTES_MAX))).is_ok());
        assert_eq!(Path::parse_http(&"/".repeat(RAW_BYTES_MAX + 1)).err(), Some(PathError::Length { bytes: RAW_BYTES_MAX + 1 }));
        assert_eq!(Path::parse(&"/".repeat(RAW_BYTES_MAX + 1)).err(), Some(PathError::Length { bytes: RAW_BYTES_MAX + 1 }));
    }

    #[test]
    fn nothing_prints_a_name() {
        let canary = "canary";
        assert_eq!(format!("{:?}", path("canary/x")), "Path(2 segments)");
        assert_eq!(format!("{:?}", path("canary/x/")), "Path(2 segments, a folder)");
        for raw in ["canary/../x", "canary%2fx", "canary%zz", "canary%00", "canary?", "canary%ff", "canary\\", "canary%252e"] {
            let error = Path::parse_http(raw).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(canary), "{error:?}");
        }
    }

    #[test]
    fn parts_are_whole_segments() {
        assert_eq!(path("secret/data/app/").segments().collect::<Vec<_>>(), ["secret", "data", "app"]);
        assert_eq!(path("secret/data").segments().next_back(), Some("data"));
        assert_eq!(Path::root().segments().count(), 0);
        for (text, folder) in [("", true), ("a", false), ("a/", true), ("a/b", false)] {
            assert_eq!(path(text).is_folder(), folder, "{text}");
            assert!(path(text).as_folder().is_folder(), "{text}");
            assert_eq!(path(text).without_folder().is_folder(), text.is_empty(), "{text}");
            assert_eq!(path(text).is_root(), text.is_empty(), "{text}");
        }
        for (whole, prefix, rest) in [
            ("kv/a/b", "kv", Some("a/b")),
            ("kv/a/b", "kv/", Some("a/b")),
            ("kv/a/b/", "kv/a", Some("b/")),
            ("kv/a", "kv/a", Some("")),
            ("kv/a/", "kv/a", Some("")),
            ("kv/a", "kv/a/", Some("")),
            ("kv/a", "", Some("kv/a")),
            ("", "", Some("")),
            ("kvx/a", "kv", None),
            ("kv", "kv/a", None),
            ("a/kv", "kv", None),
        ] {
            assert_eq!(path(whole).strip_prefix(&path(prefix)), rest.map(path), "{whole} less {prefix}");
            assert_eq!(path(whole).starts_with(path(prefix).segments()), rest.is_some(), "{whole} from {prefix}");
        }
        assert!(path("sys/raw/x").starts_with(["sys", "raw"]) && !path("sys/rawx").starts_with(["sys", "raw"]));
        for (first, second, both) in [("a", "b", "a/b"), ("a/", "b/", "a/b/"), ("a", "", "a/"), ("", "a", "a"), ("", "", "")] {
            assert_eq!(path(first).join(&path(second)), Ok(path(both)), "{first} and {second}");
        }
    }

    #[test]
    fn joined_paths_keep_the_limits() {
        let half = path(&vec!["a"; SEGMENTS_MAX / 2].join("/"));
        assert!(half.join(&half).is_ok());
        assert_eq!(half.join(&half.join(&path("a")).unwrap()).err(), Some(PathError::Depth));
        let long = path(&vec!["s".repeat(1000); 5].join("/"));
        assert!(matches!(long.join(&long), Err(PathError::Length { .. })));
    }

    /// Percent-encodes each byte of `text` for which `pick` says so, but never a slash.
    fn encoded(text: &str, mut pick: impl FnMut(u8) -> bool) -> String {
        text.bytes()
            .map(|byte| match byte {
                b'/' => "/".to_owned(),
                b'%' | b'?' | b'#' | 0x80.. => format!("%{byte:02X}"),
                _ if pick(byte) => format!("%{byte:02x}"),
                _ => char::from(byte).to_string(),
            })
            .collect()
    }

    /// Texts that are rich in what matters to a path.
    fn texts() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                4 => proptest::sample::select(vec!["/", "//", ".", "..", "%", "%2e", "%2f", "%25", "%", "2", "e", ";", "\\", "\0", "?", "#", "+", " ", "\u{ff0e}"])
                    .prop_map(str::to_owned),
                4 => "[a-z0-9]{1,4}",
                1 => "\\PC{1,3}",
            ],
            0..12,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_itself(text in texts()) {
            for parsed in [Path::parse(&text), Path::parse_http(&text)].into_iter().flatten() {
                prop_assert_eq!(Path::parse(parsed.as_str()), Ok(parsed.clone()));
                // And every encoding of it, too.
                prop_assert_eq!(Path::parse_http(&encoded(parsed.as_str(), |_| false)), Ok(parsed.clone()));
                prop_assert_eq!(Path::parse_http(&encoded(parsed.as_str(), |_| true)), Ok(parsed.clone()));
                let mut flip = false;
                let mixed = encoded(parsed.as_str(), |_| { flip = !flip; flip }).replace('/', "///");
                prop_assert_eq!(Path::parse_http(&format!("//{mixed}")), Ok(parsed));
            }
        }

        #[test]
        fn what_parses_is_canonical(text in texts()) {
            let Ok(path) = Path::parse_http(&text) else { return Ok(()) };
            let canonical = path.as_str();
            prop_assert!(!canonical.starts_with('/') && !canonical.contains("//") && !canonical.contains(['\\', '\0']));
            prop_assert!(path.segments().all(|segment| segment != "." && segment != ".." && !segment.is_empty()));
            // Nothing is left to decode: any reader that decodes once more is refused or sees the same.
            if let Ok(again) = Path::parse_http(canonical) {
                prop_assert_eq!(&again, &path);
            }
            let rebuilt = path.segments().collect::<Vec<_>>().join("/");
            let slash = if path.is_folder() && !path.is_root() { "/" } else { "" };
            prop_assert_eq!(format!("{rebuilt}{slash}"), canonical);
        }

        #[test]
        fn a_prefix_and_the_rest_make_the_whole(text in texts(), cut in 0..6_usize) {
            let Ok(path) = Path::parse(&text) else { return Ok(()) };
            let prefix = Path::parse(&path.segments().take(cut).collect::<Vec<_>>().join("/")).unwrap();
            prop_assert!(path.starts_with(prefix.segments()));
            let rest = path.strip_prefix(&prefix).unwrap();
            let whole = prefix.join(&rest).unwrap();
            // Only when nothing is left does the rest, the root, not tell a folder from what is none.
            let want = if rest.is_root() { path.as_folder() } else { path };
            prop_assert_eq!(whole, want);
        }

        #[test]
        fn no_text_makes_it_panic(raw in "\\PC*") {
            let _ = (Path::parse_http(&raw), Path::parse(&raw));
        }
    }
}
