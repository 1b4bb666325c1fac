//! HCL: from a text to [`Body`], each entry with its line. Configurations and policies are read by it.
//!
//! Reads the part of HCL that holds values: attributes, blocks with labels, lists, objects, comments; several entries on one
//! line too, as HCL 1 allows. JSON is the same thing with other punctuation and needs no second reader. Heredocs and expressions
//! are refused: neither a configuration nor a policy computes.
//! Always: ends for every input, in time linear in it, and nests no deeper than [`NESTING_MAX`]; what follows a mistake is still read.
//! Knows nothing of the keys a text may have, nor of a limit on its size, which is its caller's to set.

mod words;

pub use words::{nearest, shown};

/// The deepest nesting of blocks, objects and lists.
pub const NESTING_MAX: usize = 16;
/// Mistakes kept of one text; the rest are dropped, as no one reads on before mending these.
pub const MISTAKES_MAX: usize = 100;

/// Entries between two braces, or of a whole text, in their order.
#[derive(Debug, Default, PartialEq)]
pub struct Body {
    /// The line of the opening brace, counted from 1.
    pub line: usize,
    /// What stands between the braces.
    pub entries: Vec<Entry>,
}

/// `name = value`, or `name { … }`. A block's labels are bodies with one entry: `a "b" { … }` is `a = { b = { … } }`.
#[derive(Debug, PartialEq)]
pub struct Entry {
    /// What stands before the equals sign or brace, without quotes.
    pub name: String,
    /// The line of the name, counted from 1.
    pub line: usize,
    /// What stands after it.
    pub value: Value,
}

/// What an entry or a place in a list holds.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// Text in double quotes, its escapes resolved.
    Text(String),
    /// A whole number of 64 bits.
    Integer(i64),
    /// A number with a fraction or an exponent, or one too large for 64 bits; as it was written.
    Decimal(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// `[ … ]`.
    List(Vec<Value>),
    /// `{ … }`.
    Body(Body),
    /// Already reported.
    Invalid,
}

/// Where a text is not HCL.
#[derive(Debug, PartialEq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and the cure.
    pub text: String,
}

/// What `${` and `%{` mean in text in double quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// They start a template, which is a mistake; `$${` and `%%{` stand for them as plain text.
    Refused,
    /// Nothing; they are plain text, as in JSON and in Vault's policies.
    Plain,
}

/// Reads `text`; the body holds what could be understood. At most [`MISTAKES_MAX`] errors, in the order in which they were met.
pub fn parse(text: &str, interpolation: Interpolation) -> (Body, Vec<SyntaxError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { text, position: 0, line: 1, interpolation, errors: Vec::new() };
    parser.skip_trivia();
    let body = if parser.peek() == Some(b'{') {
        let body = parser.braces(1).unwrap_or_default();
        parser.skip_trivia();
        if parser.peek().is_some() {
            parser.error("text follows the closing \"}\" of the JSON object (remove it)");
        }
        body
    } else {
        parser.body(0, None)
    };
    (body, parser.errors)
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    line: usize,
    interpolation: Interpolation,
    errors: Vec<SyntaxError>,
}

impl<'a> Parser<'a> {
    fn body(&mut self, depth: usize, opened: Option<usize>) -> Body {
        let mut body = Body { line: opened.unwrap_or(1), entries: Vec::new() };
        loop {
            self.skip_trivia();
            match (self.peek(), opened) {
                (None, Some(line)) => {
                    self.error_at(line, "this \"{\" is never closed (add \"}\" where the block ends)");
                    return body;
                }
                (None, None) => return body,
                (Some(b'}'), Some(_)) => {
                    self.bump();
                    return body;
                }
                (Some(b'}'), None) => {
                    self.error("\"}\" closes nothing (remove it)");
                    self.bump();
                }
                (Some(_), _) => match self.entry(depth) {
                    Some(entry) => body.entries.push(entry),
                    None => self.skip_rest_of_entry(),
                },
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Option<Entry> {
        let line = self.line;
        let name = self.name()?;
        let mut labels = Vec::new();
        loop {
            self.skip_to_colon();
            match self.peek() {
                Some(separator @ (b'=' | b':')) if labels.is_empty() => {
                    self.bump();
                    self.skip_spaces();
                    while separator == b':' && matches!(self.peek(), Some(b'\r' | b'\n' | b' ' | b'\t')) {
                        self.bump();
                    }
                    let value = self.value(depth, &name);
                    if value == Value::Invalid {
                        self.skip_rest_of_entry();
                    }
                    return Some(Entry { name, line, value });
                }
                Some(b'{') => {
                    let body = self.braces(depth + labels.len() + 1)?;
                    let value = labels.into_iter().rev().fold(Value::Body(body), |value, label| {
                        Value::Body(Body { line, entries: vec![Entry { name: label, line, value }] })
                    });
                    return Some(Entry { name, line, value });
                }
                Some(b'"') => labels.push(self.quoted()?),
                Some(byte) if is_word(byte) => labels.push(self.word().to_owned()),
                _ if labels.is_empty() => {
                    self.error(format!("{} has no value (write {name} = …, or {name} {{ … }})", shown(&name)));
                    return None;
                }
                _ => {
                    self.error(format!("\"{{\" is missing after the label of {}", shown(&name)));
                    return None;
                }
            }
            if labels.len() > NESTING_MAX {
                self.error(format!("{} has too many labels", shown(&name)));
                return None;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(byte) if is_word(byte) => Some(self.word().to_owned()),
            _ => {
                let found = self.text[self.position..].chars().next().unwrap_or_default();
                self.error(format!("{} starts no key (write key = value)", shown(&found.to_string())));
                None
            }
        }
    }

    fn braces(&mut self, depth: usize) -> Option<Body> {
        let line = self.line;
        self.deeper(depth)?;
        self.bump();
        Some(self.body(depth, Some(line)))
    }

    /// Refuses to read on when `depth` is too deep, so that no input can exhaust the stack.
    fn deeper(&mut self, depth: usize) -> Option<()> {
        if depth <= NESTING_MAX {
            return Some(());
        }
        self.error(format!("nested deeper than {NESTING_MAX} levels; the rest is not read"));
        self.position = self.text.len();
        None
    }

    fn value(&mut self, depth: usize, name: &str) -> Value {
        match self.peek() {
            Some(b'"') => self.quoted().map_or(Value::Invalid, Value::Text),
            Some(b'{') => self.braces(depth + 1).map_or(Value::Invalid, Value::Body),
            Some(b'[') => self.list(depth + 1, name).map_or(Value::Invalid, Value::List),
            None | Some(b'\n' | b'\r' | b'}' | b']' | b',' | b'#') => {
                self.error(format!("{} has no value (write {name} = …)", shown(name)));
                Value::Invalid
            }
            Some(_) => self.bare(),
        }
    }

    fn list(&mut self, depth: usize, name: &str) -> Option<Vec<Value>> {
        let line = self.line;
        self.deeper(depth)?;
        self.bump();
        let mut values = Vec::new();
        loop {
            self.skip_trivia();
            match self.peek() {
                None => {
                    self.error_at(line, "this \"[\" is never closed (add \"]\" where the list ends)");
                    return None;
                }
                Some(b']') => {
                    self.bump();
                    return Some(values);
                }
                Some(_) => match self.value(depth, name) {
                    Value::Invalid => return None,
                    value => values.push(value),
                },
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn bare(&mut self) -> Value {
        let rest = &self.text[self.position..];
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let after = rest[first..].find(|c: char| c.is_whitespace() || ",]}#".contains(c)).unwrap_or(rest.len() - first);
        let word = &rest[..first + after];
        match word {
            "true" => self.take(word, Value::Bool(true)),
            "false" => self.take(word, Value::Bool(false)),
            "null" => self.take(word, Value::Null),
            _ => match (word.parse::<i64>(), word.parse::<f64>()) {
                (Ok(integer), _) => self.take(word, Value::Integer(integer)),
                (_, Ok(decimal)) if decimal.is_finite() && word.bytes().any(|b| b.is_ascii_digit()) => {
                    self.take(word, Value::Decimal(word.to_owned()))
                }
                _ if word.starts_with("<<") => self.refuse("heredocs are not read here (write the text in double quotes)".to_owned()),
                _ => self.refuse(format!("{} is no value (text goes in double quotes)", shown(word))),
            },
        }
    }

    fn take(&mut self, word: &str, value: Value) -> Value {
        self.position += word.len();
        value
    }

    fn refuse(&mut self, text: String) -> Value {
        self.error(text);
        Value::Invalid
    }

    /// Text in double quotes, with the escapes of HCL and JSON. After a mistake in it, what follows its end is read on.
    fn quoted(&mut self) -> Option<String> {
        self.bump();
        let text = self.quoted_rest();
        while text.is_none() {
            match self.peek() {
                None | Some(b'\n') => break,
                Some(b'"') => {
                    self.bump();
                    break;
                }
                Some(b'\\') => {
                    self.bump();
                    if self.peek() != Some(b'\n') {
                        self.bump();
                    }
                }
                Some(_) => self.bump(),
            }
        }
        text
    }

    fn quoted_rest(&mut self) -> Option<String> {
        let mut text = String::new();
        let templates = self.interpolation == Interpolation::Refused;
        loop {
            let rest = &self.text[self.position..];
            let Some(next) = rest.chars().next().filter(|c| *c != '\n') else {
                self.error("text is not closed on its line (add a double quote)");
                return None;
            };
            match next {
                '"' => {
                    self.bump();
                    return Some(text);
                }
                '\\' => text.push(self.escape()?),
                '$' | '%' if templates && rest[1..].starts_with('{') => {
                    self.error(format!("\"{next}{{\" starts a template, which is not read here (write \"{next}{next}{{\" for plain text)"));
                    return None;
                }
                '$' | '%' if templates && rest[1..].starts_with(next) && rest[2..].starts_with('{') => {
                    text.push(next);
                    text.push('{');
                    self.position += 3;
                }
                next => {
                    text.push(next);
                    self.position += next.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let rest = &self.text[self.position + 1..];
        let Some(kind) = rest.chars().next() else {
            self.error("text ends in a backslash");
            return None;
        };
        let plain = match kind {
            '"' | '\\' | '/' => Some(kind),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            _ => None,
        };
        if let Some(plain) = plain {
            self.position += 2;
            return Some(plain);
        }
        let unicode = match kind {
            'u' => code_unit(&rest[1..], 4).and_then(|first| match first {
                0xd800..0xdc00 => {
                    let second = rest.get(5..)?.strip_prefix("\\u").and_then(|rest| code_unit(rest, 4))?;
                    let paired = (0xdc00..0xe000).contains(&second);
                    paired.then(|| (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12))
                }
                _ => Some((first, 6)),
            }),
            'U' => code_unit(&rest[1..], 8).map(|code| (code, 10)),
            _ => None,
        };
        match unicode.and_then(|(code, length)| Some((char::from_u32(code)?, length))) {
            Some((character, length)) => {
                self.position += length;
                Some(character)
            }
            None => {
                self.error(format!("{} is no escape (write \\\\ for a backslash)", shown(&format!("\\{kind}"))));
                None
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.position..];
        let end = rest.bytes().position(|b| !is_word(b)).unwrap_or(rest.len());
        self.position += end;
        &rest[..end]
    }

    /// Spaces, line ends, comments, and the commas that may stand between entries.
    fn skip_trivia(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n' | b',') => self.bump(),
                Some(b'#' | b'/') => {
                    if !self.skip_comment() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Whether a comment stood here.
    fn skip_comment(&mut self) -> bool {
        let rest = &self.text[self.position..];
        if rest.starts_with('#') || rest.starts_with("//") {
            self.position += rest.find('\n').unwrap_or(rest.len());
            return true;
        }
        if !rest.starts_with("/*") {
            return false;
        }
        let end = rest.find("*/");
        if end.is_none() {
            self.error("this comment is never closed (add \"*/\")");
        }
        let length = end.map_or(rest.len(), |end| end + 2);
        self.line += rest[..length].matches('\n').count();
        self.position += length;
        true
    }

    fn skip_spaces(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.bump();
        }
    }

    /// Spaces; line ends too where a colon follows them, as it may in JSON.
    fn skip_to_colon(&mut self) {
        self.skip_spaces();
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_start();
        if trimmed.starts_with(':') {
            let skipped = rest.len() - trimmed.len();
            self.line += rest[..skipped].matches('\n').count();
            self.position += skipped;
        }
    }

    /// To the end of the line, or before a closing brace: where the next entry may start.
    fn skip_rest_of_entry(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'\n' || byte == b'}' {
                return;
            }
            self.bump();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    /// Moves past one character.
    fn bump(&mut self) {
        if let Some(next) = self.text[self.position..].chars().next() {
            self.position += next.len_utf8();
            self.line += usize::from(next == '\n');
        }
    }

    fn error(&mut self, text: impl Into<String>) {
        self.error_at(self.line, text);
    }

    fn error_at(&mut self, line: usize, text: impl Into<String>) {
        if self.errors.len() < MISTAKES_MAX {
            self.errors.push(SyntaxError { line, text: text.into() });
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The number that the first `digits` hexadecimal digits of `text` write.
fn code_unit(text: &str, digits: usize) -> Option<u32> {
    let text = text.get(..digits)?;
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_and_hcl_are_read_alike() {
        let hcl = "a \"b\" { c = [1, \"x\", true]\n d = { e = 1.5 } }";
        let json = r#"{"a": {"b": {"c": [1, "x", true], "d": {"e": 1.5}}}}"#;
        let names = |text: &str| {
            let (body, errors) = parse(text, Interpolation::Plain);
            assert_eq!(errors, [], "{text}");
            let Value::Body(a) = &body.entries[0].value else { panic!("{body:?}") };
            let Value::Body(b) = &a.entries[0].value else { panic!("{body:?}") };
            (body.entries[0].name.clone(), a.entries[0].name.clone(), b.entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(names(hcl), names(json));
    }

    #[test]
    fn dollars_are_a_template_or_plain_as_the_caller_says() {
        for (text, refused, plain) in
            [("${x}", None, "${x}"), ("%{x}", None, "%{x}"), ("$${x}", Some("${x}"), "$${x}"), ("$x%", Some("$x%"), "$x%")]
        {
            let read = |interpolation| {
                let (body, errors) = parse(&format!("a = \"{text}\""), interpolation);
                let value = body.entries.into_iter().next().map(|entry| entry.value);
                if errors.is_empty() { value } else { None }
            };
            assert_eq!(read(Interpolation::Refused), refused.map(|text| Value::Text(text.to_owned())), "{text}");
            assert_eq!(read(Interpolation::Plain), Some(Value::Text(plain.to_owned())), "{text}");
        }
    }

    #[test]
    fn every_entry_and_error_has_its_line() {
        let (body, errors) = parse("# one\n\na = 1\nb {\n  c = \"x\n}\n/* \n */ d = 2\n", Interpolation::Plain);
        assert_eq!(errors, [SyntaxError { line: 5, text: "text is not closed on its line (add a double quote)".to_owned() }]);
        assert_eq!(body.entries.iter().map(|entry| (entry.name.as_str(), entry.line)).collect::<Vec<_>>(), [("a", 3), ("b", 4), ("d", 8)]);
    }

    #[test]
    fn nesting_is_bounded_in_every_form() {
        for open in ["a {\n", "a = [", "a = {", "[", "a \"b\" {"] {
            for count in [NESTING_MAX + 1, 100_000] {
                assert!(!parse(&open.repeat(count), Interpolation::Plain).1.is_empty(), "{open} {count}");
            }
        }
    }

    proptest! {
        #[test]
        fn text_survives_quoting(text in any::<String>()) {
            // JSON's own writer, read back by ours; templates are the one thing HCL adds.
            let quoted = serde_json::to_string(&text).unwrap();
            let (body, errors) = parse(&format!("a = {quoted}"), Interpolation::Plain);
            prop_assert_eq!(&errors, &[]);
            prop_assert_eq!(&body.entries[0].value, &Value::Text(text.clone()));
            prop_assume!(!text.contains("$${") && !text.contains("%%{"));
            let escaped = quoted.replace("${", "$${").replace("%{", "%%{");
            let (body, errors) = parse(&format!("a = {escaped}"), Interpolation::Refused);
            prop_assert_eq!(&errors, &[]);
            prop_assert_eq!(&body.entries[0].value, &Value::Text(text));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), near in "[a\"{}\\[\\]=:,#/*\\\\u0-9 \n$%<]{0,200}") {
            for interpolation in [Interpolation::Plain, Interpolation::Refused] {
                for text in [&text, &near] {
                    let lines = text.matches('\n').count() + 1;
                    for error in parse(text, interpolation).1 {
                        prop_assert!((1..=lines).contains(&error.line), "{error:?}");
                    }
                }
            }
        }
    }
}
