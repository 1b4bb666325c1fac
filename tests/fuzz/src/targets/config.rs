//! Configuration files, HCL and JSON.

use node::Config;

use crate::driver::Subject;

/// The longest text of all mistakes together, in bytes.
const MISTAKES_BYTES_MAX: usize = 64 * 1024;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    super::documents(include_str!("../../../corpora/configurations.txt"))
}

pub(super) fn subject() -> Box<Subject> {
    // A folder of which nothing is there: files that a text names are not found.
    let folder = std::path::PathBuf::from("/nonexistent-folder-of-the-fuzzer");
    Box::new(move |input| {
        let Some(text) = super::text(input) else { return "no text".into() };
        let mut outcome = String::new();
        for file in ["fuzz.hcl", "fuzz.json"] {
            match Config::parse(text, file, &folder) {
                Ok(config) => outcome += if config.shown().is_object() { "a configuration " } else { "nothing " },
                Err(errors) => {
                    let errors = errors.to_string();
                    assert!(!errors.is_empty() && errors.len() <= MISTAKES_BYTES_MAX, "mistakes of {} bytes", errors.len());
                    outcome.extend(errors.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(80));
                }
            }
        }
        outcome
    })
}
