//! `conclave transaction`: operations from a file, done as one.

use std::path::Path;

use client::{Client, Method};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Answer, raw};
use crate::args::Transaction;
use crate::fault::Fault;
use crate::files;
use crate::output::{Printer, shown, table};

/// The most that is read; the server's default body limit.
const INPUT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What is shown of an operation. The server judges the rest.
#[derive(Deserialize)]
struct Head {
    operation: String,
    path: String,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    operations: &'a RawValue,
}

/// Runs it.
pub(crate) async fn run(client: &Client, printer: &Printer, args: &Transaction) -> Result<(), Fault> {
    let (bytes, name): (Zeroizing<Vec<u8>>, &str) = match args.file.as_str() {
        "-" => (files::read_bounded(std::io::stdin(), INPUT_BYTES_MAX, "stdin")?, "stdin"),
        file => match files::read(Path::new(file), INPUT_BYTES_MAX)? {
            Some(bytes) => (bytes, file),
            None => return Err(Fault::local(format!("there is no file {file:?}"))),
        },
    };
    let (operations, heads) = parse(&bytes, name)?;
    let body = std::collections::BTreeMap::from([("operations", operations)]);
    let response = client.request(Method::Post, "sys/transaction").body(&body).send().await;
    let answer = Answer::required(&response.map_err(|error| Fault::from(error).during("transaction"))?)?;
    if answer.is_wrapped {
        return raw::show(printer, &answer);
    }
    let results = answer.data.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
    printer.answer(&answer.data, &answer.whole, || {
        let cell = |result: &Value, name: &str| result.get(name).map_or_else(String::new, shown);
        let rows: Vec<[String; 5]> = heads
            .iter()
            .zip(&results)
            .enumerate()
            .map(|(at, (head, result))| {
                [at.to_string(), head.operation.clone(), head.path.clone(), cell(result, "status"), cell(result, "data")]
            })
            .collect();
        table(["#", "Operation", "Path", "Status", "Data"], &rows)
    })
}

/// The operations to the byte, and what is shown of them: a list, or an object that has it as `operations`.
fn parse<'a>(bytes: &'a [u8], name: &str) -> Result<(&'a RawValue, Vec<Head>), Fault> {
    let cure = r#"it must look like [{"operation": "read", "path": "secret/data/app"}]"#;
    let fault = |error: serde_json::Error| {
        Fault::local(format!("{name} holds no list of operations (line {}, column {})", error.line(), error.column())).cure(cure)
    };
    let is_object = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let operations: &RawValue = if is_object {
        serde_json::from_slice::<Object<'_>>(bytes).map_err(fault)?.operations
    } else {
        serde_json::from_slice(bytes).map_err(fault)?
    };
    let heads = serde_json::from_str(operations.get()).map_err(fault)?;
    Ok((operations, heads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_an_object_with_one_are_the_same() {
        let list = r#"[{"operation": "update", "path": "a/data/x", "body": {"data": {"n": 1.10}}}]"#;
        for text in [list.to_owned(), format!("\n {{\"operations\": {list}}}")] {
            let (operations, heads) = parse(text.as_bytes(), "f").unwrap();
            assert_eq!((operations.get(), heads[0].operation.as_str(), heads[0].path.as_str()), (list, "update", "a/data/x"));
        }
    }

    #[test]
    fn what_is_none_is_told_without_its_content() {
        for text in ["", "canary", r#"{"canary": 1}"#, r#"["canary"]"#, r#"[{"operation": "read", "canary": 1}]"#] {
            let message = parse(text.as_bytes(), "stdin").map(|_| ()).unwrap_err().to_string();
            assert!(message.starts_with("stdin holds no list of operations") && !message.contains("canary"), "{message}");
        }
    }
}
