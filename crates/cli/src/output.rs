//! Answers on stdout: aligned tables for people, the API's JSON (or the same as YAML) for programs, or one field.
//!
//! Always: each answer is written at once, without a buffer that would keep a copy; control characters in a table are shown escaped, so
//! that a stored value cannot drive the terminal; `-field` and the formats for programs give values as they are; on a terminal no table
//! is wider than it.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;

use clap::ValueEnum as _;
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::args::{Format, Global};
use crate::connect;
use crate::fault::Fault;

/// Between two columns.
const GAP: usize = 4;
/// What people read comfortably; and what paper and files have.
const COLUMNS_MAX: usize = 80;
/// Narrower than any terminal that people use: below it nothing is broken any further.
const COLUMNS_MIN: usize = 20;
/// How far a value that has no room beside its name stands below it.
const INDENT: usize = 2;

/// How this command shows its answer.
pub(crate) struct Printer {
    format: Format,
    field: Option<String>,
}

impl Printer {
    /// From the flags, then the environment.
    pub(crate) fn new(global: &Global) -> Result<Printer, Fault> {
        let format = match (global.format, connect::variable("FORMAT")) {
            (Some(format), _) => format,
            (None, None) => Format::Table,
            (None, Some(text)) => Format::from_str(&text, true)
                .map_err(|_| Fault::local(format!("the environment asks for the format {text:?}")).cure("use table, json or yaml"))?,
        };
        Ok(Printer { format, field: global.field.clone() })
    }

    /// Whether answers are tables.
    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Whether only one field is wanted.
    pub(crate) fn wants_field(&self) -> bool {
        self.field.is_some()
    }

    /// An answer: `fields` for `-field`, `whole` for programs, and what `table` makes for people.
    pub(crate) fn answer(&self, fields: &Map<String, Value>, whole: &Value, table: impl FnOnce() -> String) -> Result<(), Fault> {
        if let Some(name) = &self.field {
            let value = fields.get(name).filter(|value| !value.is_null());
            let value = value.ok_or_else(|| Fault::local(format!("field {name:?} is not in the answer")).cure(known(fields)))?;
            return emit(&self.raw(value)?);
        }
        match self.format {
            Format::Table => emit(&Zeroizing::new(table())),
            Format::Json | Format::Yaml => emit(&self.program(whole)?),
        }
    }

    /// An answer that holds secrets: as [`Printer::answer`], but what it is made of is never copied into values that are not wiped. `field`
    /// finds what `-field` names.
    pub(crate) fn secret_answer<T: Serialize>(
        &self,
        whole: &T,
        field: impl FnOnce(&str) -> Option<Zeroizing<String>>,
        table: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(name) = &self.field {
            let mut value = field(name).ok_or_else(|| Fault::local(format!("field {name:?} is not in the answer")))?;
            if io::stdout().is_terminal() {
                value.push('\n');
            }
            return emit(&value);
        }
        match self.format {
            Format::Table => table(),
            Format::Json | Format::Yaml => emit(&self.program(whole)?),
        }
    }

    /// Words for people: sentences, broken into lines that fit. Programs get nothing.
    pub(crate) fn say(&self, sentences: &str) -> Result<(), Fault> {
        if self.format != Format::Table || self.field.is_some() {
            return Ok(());
        }
        emit(&lines(sentences, columns()))
    }

    /// That something was done: said to people only.
    pub(crate) fn done(&self, message: &str) -> Result<(), Fault> {
        match self.format {
            Format::Table if terminal_columns().is_some() => emit(&lines(message, columns())),
            Format::Table => emit(&format!("{message}\n")),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    /// An empty list: programs get an empty one of its kind, people a sentence.
    pub(crate) fn nothing(&self, empty: &Value, message: String) -> Result<(), Fault> {
        match self.format {
            Format::Table => Err(Fault::server(message)),
            Format::Json | Format::Yaml => emit(&self.program(empty)?),
        }
    }

    /// Sized before it is written: a buffer that grew would leave copies behind.
    fn program<T: Serialize + ?Sized>(&self, value: &T) -> Result<Zeroizing<String>, Fault> {
        let mut count = Count(0);
        self.write_program(&mut count, value)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(count.0));
        self.write_program(&mut *bytes, value)?;
        Ok(Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).expect("JSON and YAML are UTF-8")))
    }

    fn write_program<T: Serialize + ?Sized>(&self, mut to: impl Write, value: &T) -> Result<(), Fault> {
        let written = match self.format {
            Format::Yaml => serde_yaml_ng::to_writer(to, value).map_err(|error| error.to_string()),
            Format::Json | Format::Table => {
                let written = serde_json::to_writer_pretty(&mut to, value).map_err(|error| error.to_string());
                written.and_then(|()| to.write_all(b"\n").map_err(|error| error.to_string()))
            }
        };
        written.map_err(|error| Fault::local(format!("write the answer: {error}")))
    }

    /// As it is: a text without quotes, and without a line end that it does not have, unless a person looks at it.
    fn raw(&self, value: &Value) -> Result<Zeroizing<String>, Fault> {
        if self.format != Format::Table {
            return self.program(value);
        }
        let mut text = match value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        if io::stdout().is_terminal() {
            text.push('\n');
        }
        Ok(Zeroizing::new(text))
    }
}

/// How many bytes would be written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn known(fields: &Map<String, Value>) -> String {
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    if names.is_empty() { "the answer has no fields".to_owned() } else { format!("it has {}", names.join(", ")) }
}

/// Writes to stdout, past its buffer, which would keep a copy. A reader that went away (`| head`) is no fault.
pub(crate) fn emit(text: &str) -> Result<(), Fault> {
    let stdout = io::stdout().lock();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(stdout.as_fd(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::PIPE) => return Ok(()),
            Err(error) => return Err(Fault::local(format!("write to stdout: {error}"))),
        }
    }
    Ok(())
}

/// How wide the terminal is that stdout goes to, or will go to as COLUMNS says; `None` when it goes elsewhere.
pub(crate) fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let said = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    size.or_else(said).filter(|columns| *columns > 0)
}

/// How wide sentences are: no wider than the terminal, nor than people like to read.
pub(crate) fn columns() -> usize {
    terminal_columns().unwrap_or(COLUMNS_MAX).clamp(COLUMNS_MIN, COLUMNS_MAX)
}

/// A warning on stderr, as [`note`].
pub(crate) fn warn(sentences: &str) {
    note(&format!("Warning: {sentences}"));
}

/// Words on stderr: broken into lines that fit a terminal, and one line for programs.
pub(crate) fn note(sentences: &str) {
    match terminal_columns() {
        Some(_) => eprint!("{}", lines(sentences, columns())),
        None => eprintln!("{}", sentences.replace('\n', " ")),
    }
}

/// Sentences in lines of at most `columns`. A line that begins with spaces is a command: it is kept whole, so that it can be copied.
pub(crate) fn lines(sentences: &str, columns: usize) -> String {
    let mut text = String::with_capacity(sentences.len() + sentences.len() / 16 + 16);
    for line in sentences.lines() {
        if line.is_empty() || line.starts_with(' ') {
            text.push_str(line);
            text.push('\n');
        } else {
            wrapped(&mut text, line, columns, "", 0);
        }
    }
    text
}

/// Breaks `words` into lines of at most `columns`; the first begins with `first`, the others with as many spaces as `indent`. A word that has no
/// room is broken.
pub(crate) fn wrapped(text: &mut String, words: &str, columns: usize, first: &str, indent: usize) {
    let room = columns - indent;
    let mut line = String::new();
    let mut lines = Vec::new();
    for word in words.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while line.chars().count() + usize::from(!line.is_empty()) + word.len() > room {
            if line.is_empty() {
                lines.push(word.drain(..room).collect());
            } else {
                lines.push(std::mem::take(&mut line));
            }
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    lines.push(line);
    for (at, line) in lines.iter().enumerate() {
        let before = if at == 0 { first.to_owned() } else { " ".repeat(indent) };
        text.push_str(format!("{before}{line}").trim_end());
        text.push('\n');
    }
}

/// Columns under their names, a line for each row; where the terminal has no room for that, a block for each row.
pub(crate) fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    table_within(names, rows, terminal_columns())
}

fn table_within<const N: usize>(names: [&str; N], rows: &[[String; N]], columns: Option<usize>) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let wide = wide(names, &rows);
    match columns.map(|columns| columns.max(COLUMNS_MIN)) {
        Some(columns) if longest_line(&wide) > columns => blocks(names, &rows, columns),
        _ => wide,
    }
}

/// One below the other: `name: value`, or the value below its name where there is no room. Tables of two columns are such lists already.
fn blocks<const N: usize>(names: [&str; N], rows: &[[String; N]], columns: usize) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        if N != 2 && at > 0 {
            text.push('\n');
        }
        let pairs: Vec<(&str, &str)> = match names.as_slice() {
            [_, _] => vec![(&row[0], &row[1])],
            _ => names.iter().copied().zip(row.iter().map(String::as_str)).collect(),
        };
        for (name, value) in pairs {
            let one_line = format!("{name}: {value}");
            if longest_line(&one_line) <= columns {
                text.push_str(one_line.trim_end());
                text.push('\n');
            } else {
                wrapped(&mut text, &format!("{name}:"), columns, "", 0);
                for line in value.lines() {
                    wrapped(&mut text, line, columns, &" ".repeat(INDENT), INDENT);
                }
            }
        }
    }
    text
}

fn wide<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| longest_line(&row[column]));
        cells.chain([names[column].chars().count()]).max().unwrap_or(0)
    });
    let mut text = String::new();
    let names = names.map(str::to_owned);
    let rules = names.each_ref().map(|name| "-".repeat(name.chars().count()));
    for row in [&names, &rules].into_iter().chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < N {
                line.push_str(&" ".repeat(widths[column] + GAP - longest_line(cell)));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The common two columns.
pub(crate) fn key_values(rows: &[[String; 2]]) -> String {
    table(["Key", "Value"], rows)
}

/// A heading as wide as what stands below it.
pub(crate) fn titled(title: &str, body: &str) -> String {
    let width = body.lines().next().map_or(0, |line| line.chars().count());
    let side = "=".repeat(width.saturating_sub(title.chars().count() + 2).div_ceil(2).max(2));
    format!("{side} {title} {side}\n{body}")
}

/// Every field, sorted by name.
pub(crate) fn field_rows(fields: &Map<String, Value>) -> Vec<[String; 2]> {
    let mut rows: Vec<[String; 2]> = fields.iter().map(|(name, value)| [name.clone(), cell(name, value)]).collect();
    rows.sort();
    rows
}

/// A value in a table. Numbers of seconds, told by their names, become durations.
fn cell(name: &str, value: &Value) -> String {
    let seconds = name == "ttl" || name == "period" || name == "lease_duration" || name.ends_with("_ttl") || name.ends_with("_interval");
    match value.as_u64() {
        Some(number) if seconds => duration(number),
        _ => shown(value),
    }
}

/// A value in a table.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) if text.is_empty() => "n/a".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => nested(value),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(nested).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", nested(value))).collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// Seconds as Vault's CLI shows them: `768h`, `1m30s`, `0s`.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Line ends and tabs stay; other control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '\n' | '\t' => vec![character],
            _ if character.is_control() => character.escape_unicode().collect(),
            _ => vec![character],
        })
        .collect()
}

fn longest_line(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_aligned_under_their_names() {
        let text = table(["Key", "Value"], &[row(["a", "1"]), row(["longer", ""])]);
        assert_eq!(text, "Key       Value\n---       -----\na         1\nlonger\n");
    }

    #[test]
    fn a_narrow_terminal_gets_blocks_in_place_of_a_wide_table() {
        let names = ["Share", "Holder", "Last verified"];
        let rows = [row(["1", "Ada Lovelace", "2026-11-24T12:00:00Z"]), row(["2", "Grace", "never"])];
        for (columns, want) in [
            (
                Some(50),
                "Share    Holder          Last verified\n-----    ------          -------------\n1        Ada Lovelace    2026-11-24T12:00:00Z\n\
                 2        Grace           never\n",
            ),
            (
                Some(40),
                "Share: 1\nHolder: Ada Lovelace\nLast verified: 2026-11-24T12:00:00Z\n\nShare: 2\nHolder: Grace\nLast verified: never\n",
            ),
            (
                Some(22),
                "Share: 1\nHolder: Ada Lovelace\nLast verified:\n  2026-11-24T12:00:00Z\n\nShare: 2\nHolder: Grace\nLast verified: never\n",
            ),
        ] {
            assert_eq!(table_within(names, &rows, columns), want, "{columns:?}");
        }
        assert_eq!(table_within(names, &rows, None), table_within(names, &rows, Some(200)), "a file has room");
        let pairs = [row(["Sealed", "true"]), row(["Unseal Nonce", "5a6c9f5e-0000-4000-8000-1b2c3d4e5f60"])];
        let narrow = "Sealed: true\nUnseal Nonce:\n  5a6c9f5e-0000-4000-8000-1b2c3d4e5f60\n";
        assert_eq!(table_within(["Key", "Value"], &pairs, Some(40)), narrow);
    }

    #[test]
    fn sentences_fit_and_commands_stay_whole() {
        let text = lines(
            "One share of three has come, two more are needed.\n  conclave operator unseal -address=https://node1.example:8200\n\nEnd.",
            30,
        );
        assert_eq!(
            text,
            "One share of three has come,\ntwo more are needed.\n  conclave operator unseal -address=https://node1.example:8200\n\nEnd.\n"
        );
    }

    #[test]
    fn a_title_is_as_wide_as_its_table() {
        let body = key_values(&[row(["created_time", "x"])]);
        assert_eq!(titled("Metadata", &body).lines().next(), Some("====== Metadata ======"));
        assert_eq!(titled("Data", "Key\n").lines().next(), Some("== Data =="));
    }

    #[test]
    fn a_value_cannot_drive_the_terminal() {
        let text = key_values(&[row(["a", "\u{1b}[2Jx\u{7}"])]);
        assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2Jx\\u{7}"), "{text}");
    }

    #[test]
    fn values_are_shown_as_vault_shows_them() {
        for (name, value, want) in [
            ("a", json!(null), "<nil>"),
            ("a", json!(""), "n/a"),
            ("a", json!("x"), "x"),
            ("a", json!(3), "3"),
            ("a", json!(true), "true"),
            ("a", json!(["root", "x"]), "[root x]"),
            ("a", json!({"b": "2", "a": {"c": null}}), "map[a:map[c:<nil>] b:2]"),
            ("creation_ttl", json!(0), "0s"),
            ("ttl", json!(2_764_800), "768h"),
            ("ttl", json!(3_690), "1h1m30s"),
            ("versions", json!(3_690), "3690"),
        ] {
            assert_eq!(cell(name, &value), want, "{name}: {value}");
        }
    }

    #[test]
    fn programs_get_what_the_api_said() {
        let value = json!({"b": 1, "a": ["x"]});
        let printer = |format| Printer { format, field: None };
        assert_eq!(*printer(Format::Json).program(&value).unwrap(), "{\n  \"b\": 1,\n  \"a\": [\n    \"x\"\n  ]\n}\n");
        assert_eq!(*printer(Format::Yaml).program(&value).unwrap(), "b: 1\na:\n- x\n");
    }

    #[test]
    fn a_field_is_given_as_it_is() {
        let printer = |format| Printer { format, field: Some("a".to_owned()) };
        // In tests stdout is no terminal, so that no line end is added.
        if !io::stdout().is_terminal() {
            assert_eq!(*printer(Format::Table).raw(&json!("x\u{1b}")).unwrap(), "x\u{1b}");
            assert_eq!(*printer(Format::Table).raw(&json!({"b": 1})).unwrap(), "{\"b\":1}");
        }
        assert_eq!(*printer(Format::Json).raw(&json!("x")).unwrap(), "\"x\"\n");
        let absent = printer(Format::Table).answer(json!({"b": 1}).as_object().unwrap(), &json!(null), String::new);
        assert!(absent.unwrap_err().to_string().contains("it has b"));
    }
}
