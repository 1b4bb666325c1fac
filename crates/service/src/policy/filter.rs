//! List filters: the template that says, for each key of a list, which path its reader must be allowed to read or list.
//!
//! The templates are the part of Go's that turns a path and a key into text: plain text, and actions `{{ .path }}`, `{{ .key }}` and
//! `{{ "text" }}`, piped through `replace OLD NEW`, `lowercase`, `uppercase` and `truncate BYTES`; `{{-` and `-}}` trim the white space beside
//! them. Always: two different keys were seen to give two different paths; what is made is no longer than a path may be.
//! Knows nothing of rules.

use std::fmt;

use types::hcl::shown;
use types::path::RAW_BYTES_MAX;

/// The most steps in one template: texts, values and functions.
pub const FILTER_STEPS_MAX: usize = 64;

/// Two keys that differ in every place, to see whether a template uses the key at all.
const PROBES: [&str; 2] = ["k3yqZ0v8rT1xWm6sL4pNf7hJ2bGd9cAe", "Xp5uY9tB2nQe7wV0jRz4Kg8aMc1oDs6i"];

/// What `list_scan_response_keys_filter_path` says, ready to be used.
#[derive(Clone, PartialEq)]
pub struct ListFilter {
    source: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Action(Start, Vec<Step>),
}

/// What a pipeline begins with.
#[derive(Debug, Clone, PartialEq)]
enum Start {
    Path,
    Key,
    Text(String),
}

/// What a pipeline passes it through.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Replace(String, String),
    Lowercase,
    Uppercase,
    Truncate(usize),
}

/// Why a template is none, with the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FilterError {
    text: String,
}

impl FilterError {
    fn new(text: impl Into<String>) -> FilterError {
        FilterError { text: text.into() }
    }
}

impl fmt::Debug for ListFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListFilter").field(&self.source).finish()
    }
}

impl ListFilter {
    /// Reads a template. `path` is some path that it may be used for: with it, two keys must give two different paths.
    ///
    /// # Errors
    /// Not a template, or one that needs more of Go's than is read here, or that does not use the key.
    pub fn parse(template: &str, path: &str) -> Result<ListFilter, FilterError> {
        let filter = ListFilter { source: template.into(), parts: parts(template)? };
        let [first, second] = PROBES.map(|key| filter.path(path, key));
        match (first, second) {
            (Some(first), Some(second)) if first == second => {
                Err(FilterError::new("gives the same path for every key (use {{ .key }} in it, as in \"{{ .path }}{{ .key }}\")"))
            }
            (None, _) | (_, None) => Err(FilterError::new("gives a path that is too long")),
            _ => Ok(filter),
        }
    }

    /// The template, as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The path that the caller must be allowed to read, or to list where `key` ends in a slash, for `key` to be shown. `path` is the path of the
    /// list, without its namespace; so is what is returned, which is text from a policy and a name, not yet a canonical path. `None`: longer
    /// than any path, so nobody may.
    pub fn path(&self, path: &str, key: &str) -> Option<String> {
        let mut made = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => made += text,
                Part::Action(start, steps) => {
                    let start = match start {
                        Start::Path => path,
                        Start::Key => key,
                        Start::Text(text) => text,
                    };
                    let piped = steps.iter().try_fold(start.to_owned(), |text, step| step.apply(text))?;
                    made += &piped;
                }
            }
            if made.len() > RAW_BYTES_MAX {
                return None;
            }
        }
        Some(made)
    }
}

impl Step {
    fn apply(&self, text: String) -> Option<String> {
        let text = match self {
            Step::Replace(old, new) => {
                // An empty `old` is found around each character, the end too.
                let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old.as_str()).count() };
                if found.saturating_mul(new.len()) > RAW_BYTES_MAX {
                    return None;
                }
                text.replace(old.as_str(), new)
            }
            Step::Lowercase => text.to_lowercase(),
            Step::Uppercase => text.to_uppercase(),
            Step::Truncate(bytes) => text[..text.floor_char_boundary(*bytes)].to_owned(),
        };
        (text.len() <= RAW_BYTES_MAX).then_some(text)
    }
}

fn parts(template: &str) -> Result<Vec<Part>, FilterError> {
    let mut parts = Vec::new();
    let mut rest = template;
    let mut count = 0;
    loop {
        let Some(open) = rest.find("{{") else {
            parts.push(Part::Text(rest.to_owned()));
            return Ok(parts);
        };
        let (mut text, mut action) = (&rest[..open], &rest[open + 2..]);
        if let Some(trimmed) = action.strip_prefix('-').filter(|action| action.starts_with(is_space)) {
            text = text.trim_end_matches(is_space);
            action = trimmed;
        }
        parts.push(Part::Text(text.to_owned()));
        let (words, mut after) = words(action)?;
        if let Some(trims) = after.strip_prefix("-}}") {
            after = trims.trim_start_matches(is_space);
        } else {
            after = after.strip_prefix("}}").unwrap_or_default();
        }
        count += words.len() + 1;
        if count > FILTER_STEPS_MAX {
            return Err(FilterError::new(format!("has more than {FILTER_STEPS_MAX} steps")));
        }
        parts.push(pipeline(&words)?);
        rest = after;
    }
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
enum Word {
    Bare(String),
    Quoted(String),
    Pipe,
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// The words up to `}}` or `-}}`, and the rest from there on.
fn words(action: &str) -> Result<(Vec<Word>, &str), FilterError> {
    let mut words = Vec::new();
    let mut rest = action;
    loop {
        let trimmed = rest.trim_start_matches(is_space);
        let had_space = trimmed.len() < rest.len() || words.is_empty();
        rest = trimmed;
        if rest.starts_with("}}") || (had_space && rest.starts_with("-}}")) {
            return Ok((words, rest));
        }
        let Some(first) = rest.chars().next() else {
            return Err(FilterError::new("has a {{ that is not closed (add }})"));
        };
        match first {
            '|' => {
                words.push(Word::Pipe);
                rest = &rest[1..];
            }
            '"' => {
                let (text, after) = quoted(&rest[1..])?;
                words.push(Word::Quoted(text));
                rest = after;
            }
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| FilterError::new("has a ` that is not closed"))?;
                words.push(Word::Quoted(rest[1..=end].to_owned()));
                rest = &rest[end + 2..];
            }
            _ => {
                let end = rest.find(|c: char| is_space(c) || "|\"`}".contains(c)).filter(|end| *end > 0).unwrap_or(first.len_utf8());
                words.push(Word::Bare(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        if words.len() > FILTER_STEPS_MAX {
            return Err(FilterError::new(format!("has more than {FILTER_STEPS_MAX} steps")));
        }
    }
}

/// The text up to a double quote, and what follows it.
fn quoted(rest: &str) -> Result<(String, &str), FilterError> {
    let mut text = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((text, &rest[at + 1..])),
            '\\' => match characters.next() {
                Some((_, plain @ ('"' | '\\'))) => text.push(plain),
                _ => return Err(FilterError::new("has an escape in a text other than \\\" and \\\\ (write the character itself)")),
            },
            '\n' => break,
            character => text.push(character),
        }
    }
    Err(FilterError::new("has a text that is not closed (add a double quote)"))
}

fn pipeline(words: &[Word]) -> Result<Part, FilterError> {
    let mut commands = words.split(|word| *word == Word::Pipe);
    let first = commands.next().unwrap_or_default();
    let (start, mut steps) = match first {
        [value] => (start(value)?, Vec::new()),
        // `replace "a" "b" .path` is `.path | replace "a" "b"`.
        [function @ .., value] => (start(value)?, vec![step(function)?]),
        [] => return Err(FilterError::new("has an empty {{ }} (write {{ .key }} or {{ .path }})")),
    };
    for command in commands {
        steps.push(step(command)?);
    }
    Ok(Part::Action(start, steps))
}

fn start(word: &Word) -> Result<Start, FilterError> {
    match word {
        Word::Quoted(text) => Ok(Start::Text(text.clone())),
        Word::Bare(name) => match name.as_str() {
            ".path" => Ok(Start::Path),
            ".key" => Ok(Start::Key),
            _ => Err(FilterError::new(format!("{} is no value (there are .path and .key)", shown(name)))),
        },
        Word::Pipe => Err(FilterError::new("has a | with nothing before it")),
    }
}

fn step(command: &[Word]) -> Result<Step, FilterError> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|bytes| *bytes > 0);
    match command {
        [Word::Bare(name), arguments @ ..] => match (name.as_str(), arguments) {
            ("replace", [Word::Quoted(old), Word::Quoted(new)]) => Ok(Step::Replace(old.clone(), new.clone())),
            ("lowercase", []) => Ok(Step::Lowercase),
            ("uppercase", []) => Ok(Step::Uppercase),
            ("truncate", [Word::Bare(bytes)]) if number(bytes).is_some() => Ok(Step::Truncate(number(bytes).unwrap_or_default())),
            ("replace", _) => Err(FilterError::new("replace takes two texts (write replace \"old\" \"new\")")),
            ("lowercase" | "uppercase", _) => Err(FilterError::new(format!("{name} takes nothing but what is piped into it"))),
            ("truncate", _) => Err(FilterError::new("truncate takes a number of bytes, at least 1 (write truncate 20)")),
            _ => {
                Err(FilterError::new(format!("{} is no function here (there are replace, lowercase, uppercase and truncate)", shown(name))))
            }
        },
        _ => Err(FilterError::new("has a | with no function after it (there are replace, lowercase, uppercase and truncate)")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_make_paths() {
        for (template, want) in [
            ("{{ .path }}{{ .key }}", "kv/metadata/a/Key1"),
            ("{{.path}}{{.key}}", "kv/metadata/a/Key1"),
            ("x/{{ .key }}/y", "x/Key1/y"),
            (r#"{{ .path | replace "kv/metadata/" "kv/data/" }}{{ .key }}"#, "kv/data/a/Key1"),
            (r#"{{ replace "kv/metadata/" "kv/data/" .path }}{{ .key }}"#, "kv/data/a/Key1"),
            ("{{ .path | replace `kv/` `` | uppercase }}{{ .key | lowercase }}", "METADATA/A/key1"),
            ("{{ .key | truncate 3 }}", "Key"),
            ("a {{- .key -}} b", "aKey1b"),
            ("a {{- \" \" -}} b{{ .key }}", "a bKey1"),
            (r#"{{ "a\"b\\" }}{{ .key }}"#, r#"a"b\Key1"#),
            ("{{ .key }} }}", "Key1 }}"),
        ] {
            let filter = ListFilter::parse(template, "kv/metadata/a/").unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(filter.path("kv/metadata/a/", "Key1").as_deref(), Some(want), "{template}");
        }
    }

    #[test]
    fn what_is_not_read_is_refused_with_a_cure() {
        for (template, want) in [
            ("x", "gives the same path for every key (use {{ .key }} in it, as in \"{{ .path }}{{ .key }}\")"),
            ("{{ .path }}", "gives the same path for every key (use {{ .key }} in it, as in \"{{ .path }}{{ .key }}\")"),
            ("{{ .Key }}", "\".Key\" is no value (there are .path and .key)"),
            ("{{ .key", "has a {{ that is not closed (add }})"),
            ("{{ }}", "has an empty {{ }} (write {{ .key }} or {{ .path }})"),
            ("{{ .key | sha256 }}", "\"sha256\" is no function here (there are replace, lowercase, uppercase and truncate)"),
            ("{{ .key | }}", "has a | with no function after it (there are replace, lowercase, uppercase and truncate)"),
            ("{{ .key | replace \"a\" }}", "replace takes two texts (write replace \"old\" \"new\")"),
            ("{{ .key | truncate 0 }}", "truncate takes a number of bytes, at least 1 (write truncate 20)"),
            ("{{ .key | lowercase 1 }}", "lowercase takes nothing but what is piped into it"),
            ("{{ \"x }}", "has a text that is not closed (add a double quote)"),
            ("{{ if .key }}x{{ end }}", "\"if\" is no function here (there are replace, lowercase, uppercase and truncate)"),
            ("{{ (.key) }}", "\"(.key)\" is no value (there are .path and .key)"),
        ] {
            assert_eq!(ListFilter::parse(template, "a/").map_err(|error| error.to_string()), Err(want.to_owned()), "{template}");
        }
    }

    #[test]
    fn what_is_made_is_bounded() {
        let mut template = "{{ .key".to_owned();
        for _ in 0..20 {
            template += " | replace \"x\" \"xxxxxxxxxxxxxxxx\"";
        }
        template += " }}";
        let filter = ListFilter::parse(&template, "a/").map(|filter| filter.path("a/", "x"));
        assert!(matches!(filter, Ok(None) | Err(_)), "{filter:?}");
        assert!(ListFilter::parse(&"{{ .key }}".repeat(FILTER_STEPS_MAX), "a/").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(template in "[{}|.a-z\"`\\\\ \n-]{0,60}", other in any::<String>()) {
            for template in [&template, &other] {
                if let Ok(filter) = ListFilter::parse(template, "a/") {
                    prop_assert!(filter.path(&other, template).is_none_or(|path| path.len() <= RAW_BYTES_MAX));
                }
            }
        }
    }
}
