//! Batch tokens: no record; what a record would hold is sealed into the token's text.
//!
//! Always: `hvb.` and the sealed [`stored::Token`] in base64url without padding. It opens with the cluster's keyring only; whether it is
//! good then depends on its time, its namespace, its mount and its parent, as for any other token. It cannot be renewed or revoked.

use barrier::{BATCH_TOKEN_OVERHEAD_BYTES, View, ViewError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto::{Rng, Zeroizing};
use prost::Message;
use proto::stored;

use crate::outcome::PlanError;
use crate::records::Records;

/// How batch tokens begin.
const PREFIX: &[u8] = b"hvb.";
/// The longest text of a batch token, in bytes: it has to fit into a header wherever it goes.
pub(super) const TEXT_BYTES_MAX: usize = 4096;

/// Whether a token's text says that it is a batch token.
pub(super) fn looks_like_one(text: &[u8]) -> bool {
    text.starts_with(PREFIX)
}

/// The text of a batch token.
pub(super) fn seal(view: &View, token: &stored::Token, rng: &dyn Rng) -> Result<Zeroizing<String>, PlanError> {
    let plaintext = Zeroizing::new(token.encode_to_vec());
    let bytes = plaintext.len() + BATCH_TOKEN_OVERHEAD_BYTES;
    let chars = PREFIX.len() + bytes.div_ceil(3) * 4;
    if chars > TEXT_BYTES_MAX {
        return Err(PlanError::Refused(format!(
            "the batch token would be {chars} characters long, more than {TEXT_BYTES_MAX} (give it fewer policies and less meta, or make a service token)"
        )));
    }
    let sealed = view.with_keyring(|keyring| keyring.seal_batch_token(&plaintext, rng)).ok_or(ViewError::Sealed)?;
    let mut text = Zeroizing::new(String::with_capacity(chars));
    text.push_str("hvb.");
    URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
    Ok(text)
}

/// What a batch token holds; `None` for what is none of this cluster's.
pub(super) fn open(records: &Records, text: &[u8]) -> Result<Option<stored::Token>, PlanError> {
    if text.len() > TEXT_BYTES_MAX {
        return Ok(None);
    }
    let Some(Ok(sealed)) = text.strip_prefix(PREFIX).map(|encoded| URL_SAFE_NO_PAD.decode(encoded)) else { return Ok(None) };
    let opened = records.view.with_keyring(|keyring| keyring.open_batch_token(&sealed)).ok_or(ViewError::Sealed)?;
    let Ok(plaintext) = opened else { return Ok(None) };
    // EXPOSE: the record is decoded.
    let token = stored::Token::decode(plaintext.expose()).map_err(|_| PlanError::Malformed)?;
    // One of a history that a restore has ended: in that of now it was never made.
    let is_of_another_history = match (records.fork()?, barrier::batch_token_version(&sealed)) {
        (Some(fork), Some(version)) => version <= fork.key_version && token.created_ms > fork.saved.0,
        _ => false,
    };
    Ok(Some(token).filter(|token| token.batch && !is_of_another_history))
}
