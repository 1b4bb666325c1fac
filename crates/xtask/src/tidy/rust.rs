//! Rust sources: how a file opens, what must not be left in it, its length; golden files have a test.
//!
//! Looks at code and comments apart, and never into text in quotes, so that a file may speak of what it forbids.

use super::Finding;
use super::tree::Tree;

/// Files longer than this, outside tests, are probably more than one room.
const LINES_MAX: usize = 900;
/// A head shorter than this says nothing that the path does not.
const HEAD_CHARS_MIN: usize = 12;

/// Macros that mark work not done, or left from debugging.
const MACROS: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];
/// Words in comments that mark work not done.
const MARKS: [&str; 4] = ["FIXME", "XXX", "TODO", "HACK"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let lines = split(text);
        findings.extend(head(path, text));
        findings.extend(left_overs(path, &lines));
        findings.extend(attributes(path, &lines));
        if lines.len() > LINES_MAX && !is_test(path) {
            findings.push(Finding::warning(path, 0, format!("{} lines (is it one room, or several?)", lines.len())));
        }
    }
    findings.extend(golden(tree));
    findings
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.starts_with("benches/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn head(path: &str, text: &str) -> Option<Finding> {
    let first = text.lines().next().unwrap_or_default();
    let said = first.strip_prefix("//!").unwrap_or_default().trim();
    let cure = "(open with //! what it owns, what always holds, what it does not know)";
    if !first.starts_with("//!") {
        Some(Finding::mistake(path, 1, format!("does not open with what it owns {cure}")))
    } else if said.chars().count() < HEAD_CHARS_MIN {
        Some(Finding::mistake(path, 1, format!("its head says too little {cure}")))
    } else {
        None
    }
}

fn left_overs(path: &str, lines: &[Line]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = MACROS.iter().find(|name| contains_word(&line.code, name));
        let mark = MARKS.iter().find(|mark| contains_word(&line.comment, mark));
        for found in code.into_iter().chain(mark) {
            findings.push(Finding::mistake(
                path,
                number + 1,
                format!("{found} is left over (do it, or file an issue and say what holds until then)"),
            ));
        }
    }
    findings
}

/// Attributes that silence something must say why.
fn attributes(path: &str, lines: &[Line]) -> Vec<Finding> {
    let code = lines.iter().map(|line| line.code.as_str()).collect::<Vec<_>>().join("\n");
    let mut findings = Vec::new();
    let mut position = 0;
    while let Some(found) = code[position..].find("#[").or_else(|| code[position..].find("#![")) {
        let next = code[position..].find("#![").map_or(found, |inner| inner.min(found));
        let start = position + next;
        let end = closing_bracket(&code[start..]).map_or(code.len(), |length| start + length);
        let attribute = &code[start..end];
        let line = code[..start].matches('\n').count() + 1;
        for silencer in ["allow", "expect"] {
            let silences = contains_word(attribute, &format!("{silencer}("));
            if silences && !contains_word(attribute, "reason") {
                findings.push(Finding::mistake(path, line, format!("{silencer} gives no reason (add reason = \"…\")")));
            }
        }
        if attribute.trim_start_matches(['#', '!', '[']).trim_end_matches(']').trim() == "ignore" {
            findings.push(Finding::mistake(path, line, "ignore gives no reason (write #[ignore = \"…\"])"));
        }
        position = end.max(start + 1);
    }
    findings
}

/// The length of `text` up to the bracket that closes its first one.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (position, character) in text.char_indices() {
        match character {
            '[' => depth += 1,
            ']' if depth <= 1 => return Some(position + 1),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether `text` has `word` where no longer word holds it.
pub(super) fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(position, _)| {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let before = text[..position].chars().next_back().is_some_and(part_of_word);
        let after = word.ends_with(|c: char| part_of_word(c)) && text[position + word.len()..].chars().next().is_some_and(part_of_word);
        !before && !after
    })
}

/// Every golden file is named by a source, in full or by its last part in quotes; else no test reads it.
fn golden(tree: &Tree) -> Vec<Finding> {
    let unread = |path: &&str| {
        let end = format!("{}\"", path.rsplit('/').next().unwrap_or(path));
        !tree.ending(".rs").any(|(_, text)| text.match_indices(&end).any(|(at, _)| text[..at].ends_with(['"', '/'])))
    };
    let goldens = tree.paths().filter(|path| path.starts_with("tests/golden/") && !path.ends_with(".md"));
    goldens.filter(unread).map(|path| Finding::mistake(path, 0, "no test reads it (compare against it, or remove it)")).collect()
}

/// A line's code, with the content of quotes blanked, and its comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    code: String,
    pub(super) comment: String,
}

enum State {
    Code,
    LineComment,
    /// How many are open: they nest.
    BlockComment(usize),
    Text,
    /// The number of `#` that end it.
    RawText(usize),
}

/// Splits a source into lines of code and comment.
pub(super) fn split(text: &str) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let mut taken = next.len_utf8();
        let line = lines.last_mut().expect("starts with one line and only grows");
        if next == '\n' {
            if let State::LineComment = state {
                state = State::Code;
            }
            lines.push(Line::default());
            rest = &rest[taken..];
            continue;
        }
        match &mut state {
            State::Code if rest.starts_with("//") => {
                state = State::LineComment;
                taken = 2;
            }
            State::Code if rest.starts_with("/*") => {
                state = State::BlockComment(1);
                taken = 2;
            }
            State::Code => {
                if let Some((opening, hashes)) = raw_text(rest, &line.code) {
                    state = State::RawText(hashes);
                    taken = opening;
                } else if next == '"' {
                    state = State::Text;
                } else if let Some(length) = character(rest) {
                    taken = length;
                } else {
                    line.code.push(next);
                }
            }
            State::LineComment => line.comment.push(next),
            State::BlockComment(depth) => {
                if rest.starts_with("/*") {
                    *depth += 1;
                    taken = 2;
                } else if rest.starts_with("*/") {
                    *depth -= 1;
                    taken = 2;
                    if *depth == 0 {
                        state = State::Code;
                    }
                } else {
                    line.comment.push(next);
                }
            }
            State::Text => match next {
                // The escaped character too, unless the line ends in the backslash.
                '\\' => taken += rest[1..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8),
                '"' => state = State::Code,
                _ => {}
            },
            State::RawText(hashes) => {
                let end = format!("\"{}", "#".repeat(*hashes));
                if rest.starts_with(&end) {
                    taken = end.len();
                    state = State::Code;
                }
            }
        }
        rest = &rest[taken..];
    }
    if text.ends_with('\n') {
        lines.pop();
    }
    lines
}

/// The length of `r#"` at the start of `rest`, and its number of `#`. `before`: the code on the line so far.
fn raw_text(rest: &str, before: &str) -> Option<(usize, usize)> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with('b') {
        return None;
    }
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|b| *b == b'#').count();
    after[hashes..].starts_with('"').then_some((2 + hashes, hashes))
}

/// The length of a character in single quotes at the start of `rest`; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('\'')?;
    if let Some(escaped) = after.strip_prefix('\\') {
        let skipped = escaped.chars().next()?.len_utf8();
        return escaped[skipped..].find('\'').map(|end| 2 + skipped + end + 1);
    }
    let length = after.chars().next()?.len_utf8();
    after[length..].starts_with('\'').then_some(length + 2)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, tree};
    use super::*;

    const HEAD: &str = "//! What this file owns, in a sentence.\n";

    fn findings(body: &str) -> Vec<String> {
        lines(&check(&tree(&[("a.rs", &format!("{HEAD}{body}"))])))
    }

    #[test]
    fn files_open_with_what_they_own() {
        for (text, want) in [
            (HEAD, 0),
            ("", 1),
            ("//! node\n", 1),
            ("// A comment that documents nothing at all.\n", 1),
            ("\n//! What this file owns, in a sentence.\n", 1),
        ] {
            assert_eq!(check(&tree(&[("a.rs", text)])).len(), want, "{text}");
        }
    }

    #[test]
    fn left_overs_are_found_in_code_and_comments() {
        for (body, want) in [
            ("fn f() { todo!() }", "a.rs:2: todo! is left over (do it, or file an issue and say what holds until then)"),
            ("\n// FIXME later", "a.rs:3: FIXME is left over (do it, or file an issue and say what holds until then)"),
            ("/* a\n XXX */", "a.rs:3: XXX is left over (do it, or file an issue and say what holds until then)"),
            ("let x = dbg!(1);", "a.rs:2: dbg! is left over (do it, or file an issue and say what holds until then)"),
            ("#[allow(dead_code)]\nfn f() {}", "a.rs:2: allow gives no reason (add reason = \"…\")"),
            ("#![expect(\n  dead_code\n)]", "a.rs:2: expect gives no reason (add reason = \"…\")"),
            ("#[cfg_attr(test, allow(unused))]", "a.rs:2: allow gives no reason (add reason = \"…\")"),
            ("#[test]\n#[ignore]\nfn f() {}", "a.rs:3: ignore gives no reason (write #[ignore = \"…\"])"),
        ] {
            assert_eq!(findings(body), [want], "{body}");
        }
    }

    #[test]
    fn what_is_quoted_or_reasoned_is_no_left_over() {
        for body in [
            "let x = \"todo!() FIXME\";",
            "let x = r#\"dbg!(\" // FIXME\"#;",
            "let x = br\"XXX\";",
            "let quote = '\"'; let x = \"todo!()\";",
            "let escaped = '\\''; let x = \"todo!()\";",
            "fn f<'a>(x: &'a str) -> &'a str { x } // \"",
            "#[allow(dead_code, reason = \"used by the macro\")]\nfn f() {}",
            "#[ignore = \"needs root\"]\nfn f() {}",
            "acl.allow(x); result.expect(\"why it holds\");",
            "fn not_a_todo() { debug_todo!() }",
            "const MAXXXL: u8 = 0; // XXXL",
        ] {
            assert_eq!(findings(body), [""; 0], "{body}");
        }
    }

    #[test]
    fn code_and_comments_are_told_apart() {
        let split = split("a /* b /* c */ d */ e // f\n\"g // h\\\" i\n\" j");
        let want = [("a  e ", " b  c  d  f"), ("", ""), (" j", "")];
        assert_eq!(split, want.map(|(code, comment)| Line { code: code.to_owned(), comment: comment.to_owned() }));
    }

    #[test]
    fn long_files_are_warned_of_outside_tests() {
        let long = format!("{HEAD}{}", "\n".repeat(LINES_MAX));
        let found = check(&tree(&[("a.rs", &long), ("tests/a.rs", &long), ("src/config/tests.rs", &long)]));
        assert_eq!(lines(&found), ["a.rs: warning: 901 lines (is it one room, or several?)"]);
    }

    #[test]
    fn golden_files_are_read_by_a_test() {
        let source = format!("{HEAD}const A: &[u8] = include_bytes!(\"../tests/golden/x/a-v1.bin\");\nfn f() {{ check(\"c-v1.bin\") }}\n");
        let goldens = ["a", "b", "c", "x-c"].map(|name| format!("tests/golden/x/{name}-v1.bin"));
        let files: Vec<(&str, &str)> = goldens.iter().map(|path| (path.as_str(), "")).chain([("a.rs", source.as_str())]).collect();
        let found = check(&tree(&files));
        assert_eq!(
            lines(&found),
            [
                "tests/golden/x/b-v1.bin: no test reads it (compare against it, or remove it)",
                "tests/golden/x/x-c-v1.bin: no test reads it (compare against it, or remove it)",
            ]
        );
    }
}
