//! Names above the barrier: what a record is called, as segments, in plaintext.

use crypto::Zeroizing;

/// A record's name: segments joined by `/`, none of them empty. The empty name is the root. Confidential: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Zeroizing<String>);

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Name {
    /// The root, which is the parent of all.
    pub fn root() -> Name {
        Name(Zeroizing::new(String::new()))
    }

    /// A name from text whose segments are joined by `/`. Empty segments, and so slashes at either end, are dropped.
    pub fn new(text: &str) -> Name {
        Name::root().join(text)
    }

    /// This name, continued by the segments of `text`. One allocation of the final size.
    #[must_use]
    pub fn join(&self, text: &str) -> Name {
        let mut joined = Zeroizing::new(String::with_capacity(self.0.len() + 1 + text.len()));
        joined.push_str(&self.0);
        for segment in text.split('/').filter(|segment| !segment.is_empty()) {
            if !joined.is_empty() {
                joined.push('/');
            }
            joined.push_str(segment);
        }
        Name(joined)
    }

    /// The segments, outermost first.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The whole name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_separate_and_never_make_empty_segments() {
        for (text, want) in [("", ""), ("/", ""), ("a", "a"), ("/a//b/", "a/b"), ("a/b", "a/b")] {
            assert_eq!(Name::new(text).as_str(), want, "{text}");
        }
        assert_eq!(Name::new("a").join("b/c").as_str(), "a/b/c");
        assert_eq!(Name::root().join("b").segments().collect::<Vec<_>>(), ["b"]);
    }
}
