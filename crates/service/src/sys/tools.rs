//! `sys/tools`: random bytes and digests for who has no tool at hand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::digest::Digest;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::json;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, planned};

/// Random bytes in one answer, at most: as Vault.
const RANDOM_BYTES_MAX: u64 = 128 * 1024;
const RANDOM_BYTES_DEFAULT: u64 = 32;

const BYTES: Field = Field::optional("bytes", FieldKind::Integer, "How many bytes, 1 to 131072; 32 when nothing is said.");
const FORMAT: Field =
    Field::optional("format", FieldKind::Text, "How they are written: base64 (for random the default) or hex (for digests the default).");
const SOURCE: Field =
    Field::optional("source", FieldKind::Text, "Where they come from: platform, the operating system; seal and all mean the same here.");
const BYTES_PATH: Field = Field::required("bytes", FieldKind::Integer, "How many bytes, 1 to 131072.");
const SOURCE_PATH: Field = Field::required("source", FieldKind::Text, "platform, seal or all; or how many bytes.");
const INPUT: Field = Field::required("input", FieldKind::Text, "What to digest, in base64.");
const ALGORITHM: Field = Field::optional(
    "algorithm",
    FieldKind::Text,
    "sha2-224, sha2-256 (the default), sha2-384, sha2-512, sha3-224, sha3-256, sha3-384 or sha3-512.",
);
const ALGORITHM_PATH: Field = Field::required("algorithm", FieldKind::Text, ALGORITHM.about);

/// What may be asked below `sys/tools/`.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "tools/random",
        about: "Random bytes, from the operating system.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Draws random bytes.",
            fields: &[BYTES, FORMAT, SOURCE],
            query: &[],
            handler: random,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "tools/random/{source}",
        about: "Random bytes, from the operating system.",
        parameters: &[SOURCE_PATH],
        methods: &[Method { verb: Verb::Write, summary: "Draws random bytes.", fields: &[BYTES, FORMAT], query: &[], handler: random }],
        access: Access::Token,
    },
    Route {
        pattern: "tools/random/{source}/{bytes}",
        about: "Random bytes, from the operating system.",
        parameters: &[SOURCE_PATH, BYTES_PATH],
        methods: &[Method { verb: Verb::Write, summary: "Draws random bytes.", fields: &[FORMAT], query: &[], handler: random }],
        access: Access::Token,
    },
    Route {
        pattern: "tools/hash",
        about: "Digests.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Digests the input.",
            fields: &[INPUT, ALGORITHM, FORMAT],
            query: &[],
            handler: hash,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "tools/hash/{algorithm}",
        about: "Digests.",
        parameters: &[ALGORITHM_PATH],
        methods: &[Method { verb: Verb::Write, summary: "Digests the input.", fields: &[INPUT, FORMAT], query: &[], handler: hash }],
        access: Access::Token,
    },
];

fn encode(bytes: &[u8], format: &str) -> Result<String, AskError> {
    match format {
        "base64" => Ok(STANDARD.encode(bytes)),
        "hex" => Ok(hex::encode(bytes)),
        _ => Err(AskError::Invalid("unsupported encoding format; must be \"hex\" or \"base64\"".into())),
    }
}

fn random(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let source_in_path = asked.captures.get("source");
    let number =
        |text: &str| text.parse::<u64>().map_err(|_| AskError::Invalid("error parsing url bytes: a whole number is needed".into()));
    let (source, bytes) = match (source_in_path, asked.captures.get("bytes")) {
        (Some(source), Some(bytes)) => (source, Some(number(bytes)?)),
        // As Vault: one segment is a source or a number.
        (Some(source), None) if source.starts_with(|first: char| first.is_ascii_digit()) => ("platform", Some(number(source)?)),
        (source, _) => (source.or(fields.text("source")?).unwrap_or("platform"), None),
    };
    if !["", "platform", "seal", "all"].contains(&source) {
        return Err(AskError::Invalid(format!("unsupported entropy source {source:?}; must be \"platform\" or \"seal\", or \"all\"")));
    }
    let bytes = bytes.or(fields.integer("bytes")?).unwrap_or(RANDOM_BYTES_DEFAULT);
    if !(1..=RANDOM_BYTES_MAX).contains(&bytes) {
        return Err(AskError::Invalid(format!("\"bytes\" must be 1 to {RANDOM_BYTES_MAX}")));
    }
    let format = fields.text("format")?.unwrap_or("base64").to_owned();
    encode(&[], &format)?;
    let has_no_seal_source = source == "seal" || source == "all";
    Ok(planned(move |scope| {
        let length = usize::try_from(bytes).expect("within the limit");
        let drawn = crypto::SecretBytes::with_len(length, |buffer| scope.rng.fill(buffer));
        // EXPOSE: they were drawn for the caller.
        let text = encode(drawn.expose(), &format).expect("the format was checked");
        let mut outcome = Outcome::data(&json!({ "random_bytes": text }));
        if has_no_seal_source {
            outcome.warnings.push("no seal/entropy augmentation available, using platform entropy source".into());
        }
        Ok(outcome)
    }))
}

fn hash(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let name = asked.captures.get("algorithm").or(fields.text("algorithm")?).unwrap_or("sha2-256");
    let algorithm = Digest::by_name(name).ok_or_else(|| AskError::Invalid(format!("unsupported algorithm {name}")))?;
    let input = fields.secret("input")?.unwrap_or_default();
    let input = STANDARD.decode(input.as_bytes()).map(crypto::Zeroizing::new);
    let input = input.map_err(|_| AskError::Invalid("unable to decode input as base64".into()))?;
    let format = fields.text("format")?.unwrap_or("hex");
    let sum = encode(&algorithm.of(&input), format)?;
    Ok(planned(move |_| Ok(Outcome::data(&json!({ "sum": sum })))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }
}
