//! Whether a snapshot is this cluster's own: the one thing that cannot be checked without keys.

use engine::AskError;
use serde_json::json;
use storage::container::SUMS_BYTES_MAX;

use super::barrier;
use crate::backend::Asked;
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, planned};

pub(super) fn verify(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let bytes = |name: &str| {
        let text = fields.text(name)?.unwrap_or_default();
        let bytes = hex::decode(text).ok().filter(|bytes| !bytes.is_empty() && bytes.len() <= SUMS_BYTES_MAX);
        bytes.ok_or_else(|| AskError::Invalid(format!("'{name}' must be that member of the snapshot, in hexadecimal digits")))
    };
    let (sums, sealed) = (bytes("sums")?, bytes("sealed")?);
    Ok(planned(move |scope| {
        let is_own = barrier(scope)?.knows_backup(&sums, &sealed).ok_or(PlanError::Commit(barrier::CommitError::Sealed))?;
        Ok(Outcome::data(&json!({ "authentic": is_own })))
    }))
}
