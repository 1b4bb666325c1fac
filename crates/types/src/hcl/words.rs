//! Words for messages: how a piece of a text is repeated, and which known word was probably meant.
//!
//! Always: bounded, and never a private key.

/// The longest piece of a value that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// `text` as it is repeated in a message: quoted, escaped, shortened, and never a private key.
pub fn shown(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "a private key".to_owned();
    }
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The one of `known` that is closest to `word`, if any is close enough to be meant: two edits or a third of it off, or cut short.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(SHOWN_CHARS_MAX).collect();
    let cut_short = |candidate: &str| word.len() >= 4 && candidate.starts_with(&word);
    let edits = |candidate: &str| if cut_short(candidate) { 0 } else { distance(&word, candidate) };
    let (edits, candidate) = known.iter().map(|candidate| (edits(candidate), *candidate)).min()?;
    let least = if word.len() < 4 { 1 } else { 2 };
    (edits <= least.max(candidate.len().max(word.len()) / 3)).then_some(candidate)
}

/// How many characters to insert, drop or change to make `left` into `right`. V. Levenshtein, 1966.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (done, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (column, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_could_be_meant() {
        let known = ["address", "tls_cert_file", "tls_key_file"];
        for (word, want) in [
            ("adress", Some("address")),
            ("tls_cert", Some("tls_cert_file")),
            ("tls_key_fil", Some("tls_key_file")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), want, "{word}");
        }
    }

    #[test]
    fn distances_are_levenshtein() {
        for (left, right, want) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(left, right), want, "{left} {right}");
            assert_eq!(distance(right, left), want, "{right} {left}");
        }
    }

    #[test]
    fn a_private_key_is_never_shown() {
        assert_eq!(shown("-----BEGIN PRIVATE KEY-----\nMC4C"), "a private key");
    }
}
