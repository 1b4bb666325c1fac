//! `key=value` as Vault's CLI reads it: `key=value`, `key=@file`, `key=-`, `@file.json`, `-`; `key=\@x` is the text `@x`.
//!
//! Always: values are texts, unless they come from JSON; stdin is read once; errors name the argument, never its value.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::files;

/// The most that is read from one file or from stdin; the server's default body limit.
const INPUT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Reads `arguments` into one object. `stdin` is read when an argument says `-`. A key that comes twice becomes a list.
pub(crate) fn parse(arguments: &[String], stdin: impl io::Read) -> Result<Map<String, Value>, Fault> {
    let mut stdin = Some(stdin);
    let mut read_stdin = || match stdin.take() {
        Some(stdin) => files::read_bounded(stdin, INPUT_BYTES_MAX, "stdin"),
        None => Err(Fault::local("stdin (\"-\") is asked for twice").cure("put one of the values into a file, and use @file")),
    };
    let mut fields = Map::new();
    for argument in arguments {
        if argument == "-" {
            merge(&mut fields, object(&read_stdin()?, "stdin")?);
        } else if let Some(file) = argument.strip_prefix('@') {
            merge(&mut fields, object(&read_file(file)?, file)?);
        } else {
            let Some((key, value)) = argument.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Fault::local("an argument is neither key=value, @file.json nor -").cure("write key=value"));
            };
            let value = match value {
                "-" => files::text(&read_stdin()?, "stdin")?.to_string(),
                _ => match value.strip_prefix('@') {
                    Some(file) => files::text(&read_file(file)?, file)?.to_string(),
                    None => value.strip_prefix('\\').filter(|rest| rest.starts_with('@')).unwrap_or(value).to_owned(),
                },
            };
            add(&mut fields, key.to_owned(), Value::String(value));
        }
    }
    Ok(fields)
}

fn read_file(file: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    match files::read(Path::new(file), INPUT_BYTES_MAX)? {
        Some(bytes) => Ok(bytes),
        None => Err(Fault::local(format!("there is no file {file:?}")).cure("for a text that begins with @, write key=\\@text")),
    }
}

fn object(bytes: &[u8], name: &str) -> Result<Map<String, Value>, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::local(format!("{name} holds no JSON object (line {}, column {})", error.line(), error.column()))
            .cure("it must look like {\"key\": \"value\"}")
    })
}

fn merge(fields: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        add(fields, key, value);
    }
}

fn add(fields: &mut Map<String, Value>, key: String, value: Value) {
    match fields.get_mut(&key) {
        None => {
            fields.insert(key, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(earlier) => *earlier = Value::Array(vec![earlier.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(arguments: &[&str], stdin: &str) -> Result<Value, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        parse(&arguments, stdin.as_bytes()).map(Value::Object).map_err(|fault| fault.to_string())
    }

    #[test]
    fn arguments_become_fields() {
        let folder = tempfile::tempdir().unwrap();
        let (text, object) = (folder.path().join("t"), folder.path().join("o"));
        files::create(&text, b"from\nfile\n", 0o600).unwrap();
        files::create(&object, br#"{"n": 1, "deep": {"a": true}}"#, 0o600).unwrap();
        let (text, object) = (text.display(), object.display());
        for (arguments, stdin, want) in [
            (vec!["a=1".to_owned(), "b=x=y".to_owned()], "", json!({"a": "1", "b": "x=y"})),
            (vec!["a=".to_owned()], "", json!({"a": ""})),
            (vec![format!("a=@{text}")], "", json!({"a": "from\nfile\n"})),
            (vec![format!("@{object}"), "a=1".to_owned()], "", json!({"n": 1, "deep": {"a": true}, "a": "1"})),
            (vec!["a=-".to_owned()], "piped\n", json!({"a": "piped\n"})),
            (vec!["-".to_owned()], r#"{"a": [1]}"#, json!({"a": [1]})),
            (vec!["a=\\@x".to_owned()], "", json!({"a": "@x"})),
            (vec!["a=\\x".to_owned()], "", json!({"a": "\\x"})),
            (vec!["a=1".to_owned(), "a=2".to_owned()], "", json!({"a": ["1", "2"]})),
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            assert_eq!(parsed(&arguments, stdin).unwrap(), want, "{arguments:?}");
        }
    }

    #[test]
    fn bad_arguments_are_told_without_their_values() {
        for (arguments, stdin, want) in [
            (vec!["canary"], "", "neither"),
            (vec!["=canary"], "", "neither"),
            (vec!["-"], "canary", "no JSON object"),
            (vec!["-"], "[1]", "no JSON object"),
            (vec!["a=-", "-"], "x", "twice"),
            (vec!["a=@/nonexistent"], "", "no file"),
        ] {
            let message = parsed(&arguments, stdin).unwrap_err();
            assert!(message.contains(want), "{arguments:?}: {message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }
}
