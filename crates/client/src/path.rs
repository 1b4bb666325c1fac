//! API paths as callers write them, made safe for a URL.
//!
//! Always: what the server decodes is what the caller wrote; nothing in a path can leave `/v1/` or add a query.

use std::fmt::Write as _;

use crate::Error;

/// The longest path, in bytes, before encoding. The server has its own, smaller limit.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// Percent-encodes everything but RFC 3986's unreserved characters and `/`. A leading `/` is dropped.
///
/// Dot segments, control characters and an empty path are refused: URL parsers would rewrite the first two in silence.
pub(crate) fn encode(path: &str) -> Result<String, Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let refused = |why: &str| Err(Error::Input { reason: format!("the path {why}") });
    if path.is_empty() {
        return refused("is empty");
    }
    if path.len() > PATH_BYTES_MAX {
        return refused(&format!("is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return refused("has a \".\" or \"..\" segment; the server refuses these, so leave it out");
    }
    if path.chars().any(char::is_control) {
        return refused("has a control character");
    }
    let mut encoded = String::with_capacity(path.len() + path.len() / 2);
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_once_and_cannot_escape() {
        for (path, want) in [
            ("secret/data/app", Some("secret/data/app")),
            ("/secret/data/app", Some("secret/data/app")),
            ("secret/metadata/", Some("secret/metadata/")),
            ("a b", Some("a%20b")),
            ("a?b#c", Some("a%3Fb%23c")),
            ("a%2e%2e/b", Some("a%252e%252e/b")),
            ("ü", Some("%C3%BC")),
            ("...", Some("...")),
            ("", None),
            ("/", None),
            ("a/../b", None),
            ("./a", None),
            ("a\nb", None),
        ] {
            assert_eq!(encode(path).ok().as_deref(), want, "{path}");
        }
        assert!(encode(&"a".repeat(PATH_BYTES_MAX + 1)).is_err());
    }
}
