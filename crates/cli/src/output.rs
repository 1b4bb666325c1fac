//! Answers on stdout: aligned tables for people, the API's JSON (or the same as YAML) for programs, or one field.
//!
//! Always: each answer is written at once; control characters in a table are shown escaped, so that a stored value cannot
//! drive the terminal; `-field` and the formats for programs give values as they are.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum as _;
use serde_json::{Map, Value};

use crate::args::{Format, Global};
use crate::connect;
use crate::fault::Fault;

/// Between two columns.
const GAP: usize = 4;

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
            Format::Table => emit(&table()),
            Format::Json | Format::Yaml => emit(&self.program(whole)?),
        }
    }

    /// That something was done: said to people only.
    pub(crate) fn done(&self, message: &str) -> Result<(), Fault> {
        match self.format {
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

    fn program(&self, value: &Value) -> Result<String, Fault> {
        let text = match self.format {
            Format::Yaml => serde_yaml_ng::to_string(value).map_err(|error| error.to_string()),
            Format::Json | Format::Table => serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string()),
        };
        text.map_err(|error| Fault::local(format!("write the answer: {error}")))
    }

    /// As it is: a text without quotes, and without a line end that it does not have, unless a person looks at it.
    fn raw(&self, value: &Value) -> Result<String, Fault> {
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
        Ok(text)
    }
}

fn known(fields: &Map<String, Value>) -> String {
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    if names.is_empty() { "the answer has no fields".to_owned() } else { format!("it has {}", names.join(", ")) }
}

/// Writes to stdout. A reader that went away (`| head`) is no fault.
pub(crate) fn emit(text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::local(format!("write to stdout: {error}"))),
        _ => Ok(()),
    }
}

/// Columns under their names; a line for each row.
pub(crate) fn table<const N: usize>(names: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| longest_line(&row[column]));
        cells.chain([names[column].chars().count()]).max().unwrap_or(0)
    });
    let mut text = String::new();
    let names = names.map(str::to_owned);
    let rules = names.each_ref().map(|name| "-".repeat(name.chars().count()));
    for row in [&names, &rules].into_iter().chain(&rows) {
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
        assert_eq!(printer(Format::Json).program(&value).unwrap(), "{\n  \"b\": 1,\n  \"a\": [\n    \"x\"\n  ]\n}\n");
        assert_eq!(printer(Format::Yaml).program(&value).unwrap(), "b: 1\na:\n- x\n");
    }

    #[test]
    fn a_field_is_given_as_it_is() {
        let printer = |format| Printer { format, field: Some("a".to_owned()) };
        // In tests stdout is no terminal, so that no line end is added.
        if !io::stdout().is_terminal() {
            assert_eq!(printer(Format::Table).raw(&json!("x\u{1b}")).unwrap(), "x\u{1b}");
            assert_eq!(printer(Format::Table).raw(&json!({"b": 1})).unwrap(), "{\"b\":1}");
        }
        assert_eq!(printer(Format::Json).raw(&json!("x")).unwrap(), "\"x\"\n");
        let absent = printer(Format::Table).answer(json!({"b": 1}).as_object().unwrap(), &json!(null), String::new);
        assert!(absent.unwrap_err().to_string().contains("it has b"));
    }
}
