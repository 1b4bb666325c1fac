//! Join tokens: what lets one node join, once. As text for operators, as records behind the barrier.
//!
//! Always: the record ends with the token's life, and a token that was used is good for the same node and key only.

use std::fmt::Write as _;
use std::time::Duration;

use crypto::digest::sha256;
use crypto::{Rng, SecretBytes, Zeroizing};
use prost::Message;
use proto::stored;
use types::{NodeId, Revision, Timestamp};

use super::wire::JoinSecret;
use crate::name::Name;
use crate::plan::Plan;
use crate::view::{View, ViewError};

/// The longest that a token may live.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tokens that may be at hand at once.
const TOKENS_MAX: usize = 1000;
/// How a token's text begins.
const PREFIX: &str = "cjt_";
const VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
const BYTES: usize = 1 + ID_BYTES + SECRET_BYTES + CHECKSUM_BYTES;

/// A join token as its bearer holds it. Confidential: no `Debug`.
///
/// As text: `cjt_`, then in hex: 1 (version), id (8 bytes), secret (32 bytes), the first 4 bytes of the SHA-256 of all before.
pub struct JoinToken {
    id: [u8; ID_BYTES],
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// Why a text is no join token. Holds nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// It does not look like one.
    #[error("it is no join token (one begins with \"{PREFIX}\", and comes from `conclave operator join-token`)")]
    Form,
    /// One of its characters is wrong, or missing.
    #[error("a join token that was not copied as it was (its checksum is wrong)")]
    Checksum,
    /// A newer one.
    #[error("a join token of version {0}, which this release does not know")]
    Version(u8),
}

impl JoinToken {
    fn generate(rng: &dyn Rng) -> JoinToken {
        let id = crypto::rng::generate_bytes(rng);
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        rng.fill(&mut *secret);
        JoinToken { id, secret }
    }

    /// Reads a token's text; white space around it does not count.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<JoinToken, TokenTextError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(TokenTextError::Form)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        hex::decode_to_slice(digits, &mut *bytes).map_err(|error| match error {
            hex::FromHexError::InvalidStringLength | hex::FromHexError::OddLength => TokenTextError::Checksum,
            hex::FromHexError::InvalidHexCharacter { .. } => TokenTextError::Form,
        })?;
        let (content, checksum) = bytes.split_at(BYTES - CHECKSUM_BYTES);
        if checksum != &sha256(content)[..CHECKSUM_BYTES] {
            return Err(TokenTextError::Checksum);
        }
        if content[0] != VERSION {
            return Err(TokenTextError::Version(content[0]));
        }
        let mut token = JoinToken { id: [0; ID_BYTES], secret: Zeroizing::new([0; SECRET_BYTES]) };
        token.id.copy_from_slice(&content[1..=ID_BYTES]);
        token.secret.copy_from_slice(&content[1 + ID_BYTES..]);
        Ok(token)
    }

    /// The token as its bearer is given it.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[0] = VERSION;
        bytes[1..=ID_BYTES].copy_from_slice(&self.id);
        bytes[1 + ID_BYTES..BYTES - CHECKSUM_BYTES].copy_from_slice(&*self.secret);
        let checksum = sha256(&bytes[..BYTES - CHECKSUM_BYTES]);
        bytes[BYTES - CHECKSUM_BYTES..].copy_from_slice(&checksum[..CHECKSUM_BYTES]);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * BYTES));
        text.push_str(PREFIX);
        bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("writing to a String cannot fail"));
        text
    }

    /// Names it in lists, and to revoke it: no secret.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// By which request and answer are authenticated.
    pub fn secret(&self) -> JoinSecret {
        JoinSecret::of_token(self.id, &self.secret)
    }
}

/// What a token is to be good for.
#[derive(Debug, Clone)]
pub struct NewJoinToken {
    /// Whom it is for; `None`: any node that is no member yet.
    pub node_id: Option<NodeId>,
    /// How long it lives, up to [`JOIN_TOKEN_TTL_MAX`].
    pub ttl: Duration,
    /// The node is not to become a voter.
    pub non_voter: bool,
    /// Who asks for it: a display name.
    pub created_by: String,
}

/// What may be told of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenStatus {
    /// Names it.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// By whom it was made.
    pub created_by: String,
    /// Whom it is for.
    pub node_id: Option<String>,
    /// The node is not to become a voter.
    pub non_voter: bool,
    /// Who has used it.
    pub used_by: Option<String>,
}

/// A token's record, and where it was found.
pub(super) struct Record {
    pub(super) id: String,
    pub(super) revision: Revision,
    pub(super) record: stored::JoinToken,
}

impl Record {
    fn name(id: &str) -> Name {
        Name::new(&format!("core/join/{id}"))
    }

    pub(super) fn read(view: &View, id: &str) -> Result<Option<Record>, ViewError> {
        let found = view.read(&Record::name(id))?;
        let Some(value) = found.value else { return Ok(None) };
        // EXPOSE: the record is decoded.
        let record = stored::JoinToken::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
        Ok(Some(Record { id: id.to_owned(), revision: found.revision, record }))
    }

    pub(super) fn secret(&self) -> Option<JoinSecret> {
        let id = <[u8; ID_BYTES]>::try_from(hex::decode(&self.id).ok()?).ok()?;
        Some(JoinSecret::of_token(id, &Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(self.record.secret.as_slice()).ok()?)))
    }

    /// Writes the record in place of the one that was found.
    pub(super) fn put(&self, plan: &mut Plan) {
        plan.expect(Record::name(&self.id), self.revision);
        plan.put(Record::name(&self.id), SecretBytes::from(self.record.encode_to_vec()));
    }

    fn status(self) -> JoinTokenStatus {
        let Record { id, record, .. } = self;
        JoinTokenStatus {
            id,
            created: Timestamp(record.created_ms),
            expires: Timestamp(record.expires_ms),
            created_by: record.created_by,
            node_id: Some(record.node_id).filter(|id| !id.is_empty()),
            non_voter: record.non_voter,
            used_by: record.r#use.map(|used| used.node_id),
        }
    }
}

/// A new token, and the plan that writes its record. The records of tokens that have ended go with it. `None`: too many are at hand.
pub fn plan_join_token(view: &View, order: &NewJoinToken, now: Timestamp, rng: &dyn Rng) -> Result<Option<(JoinToken, Plan)>, ViewError> {
    let mut plan = Plan::new();
    let tokens = join_tokens(view)?;
    let (ended, living): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|token| token.expires <= now);
    if living.len() >= TOKENS_MAX {
        return Ok(None);
    }
    ended.iter().for_each(|token| plan.delete(Record::name(&token.id)));
    let token = JoinToken::generate(rng);
    let ttl_ms = u64::try_from(order.ttl.min(JOIN_TOKEN_TTL_MAX).as_millis()).unwrap_or(u64::MAX);
    let record = stored::JoinToken {
        // EXPOSE: the secret goes into its record, which the barrier encrypts.
        secret: token.secret.to_vec(),
        created_ms: now.0,
        expires_ms: now.0.saturating_add(ttl_ms),
        created_by: order.created_by.clone(),
        node_id: order.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        non_voter: order.non_voter,
        r#use: None,
    };
    Record { id: token.id(), revision: Revision::ABSENT, record }.put(&mut plan);
    Ok(Some((token, plan)))
}

/// Every token, in the order of their ids, used and ended ones too until they are cleared away.
pub fn join_tokens(view: &View) -> Result<Vec<JoinTokenStatus>, ViewError> {
    let mut tokens = Vec::new();
    for child in view.children(&Name::new("core/join"))? {
        if let Some(record) = Record::read(view, child.as_str())? {
            tokens.push(record.status());
        }
    }
    Ok(tokens)
}

/// The plan that ends a token; `None` if there is none of this id.
pub fn revoke_join_token(view: &View, id: &str) -> Result<Option<Plan>, ViewError> {
    if !is_id(id) || Record::read(view, id)?.is_none() {
        return Ok(None);
    }
    let mut plan = Plan::new();
    plan.delete(Record::name(id));
    Ok(Some(plan))
}

fn is_id(id: &str) -> bool {
    id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    #[test]
    fn golden_token_of_version_1() {
        let text = include_str!("../../../../tests/golden/barrier/join-token-v1.txt").trim();
        let token = JoinToken::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((token.id().as_str(), *token.secret), ("0102030405060708", [9; 32]));
        assert_eq!(token.text().as_str(), text);

        let golden: &[u8] = include_bytes!("../../../../tests/golden/barrier/join-token-v1.bin");
        let used = stored::JoinTokenUse { node_id: "n2".into(), key_sha256: vec![5; 32], used_ms: 3, joined: true };
        let record = stored::JoinToken {
            secret: vec![9; 32],
            created_ms: 1,
            expires_ms: 2,
            created_by: "token-ops".into(),
            node_id: "n2".into(),
            non_voter: true,
            r#use: Some(used),
        };
        assert_eq!(hex::encode(record.encode_to_vec()), hex::encode(golden));
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_no_other_text_is() {
        let token = JoinToken::generate(&SeededRng::dangerous_from_seed(1));
        let text = token.text();
        let read = JoinToken::parse(&format!(" {}\n", *text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((read.id(), &*read.secret), (token.id(), &*token.secret));
        assert!(is_id(&token.id()));
        let mut changed = text.to_string();
        let last = changed.pop().unwrap();
        changed.push(if last == '0' { '1' } else { '0' });
        for (text, error) in [
            (changed.as_str(), TokenTextError::Checksum),
            (&text[..text.len() - 2], TokenTextError::Checksum),
            ("hvs.abc", TokenTextError::Form),
            ("cjt_xyz0", TokenTextError::Checksum),
            (&text.replace('0', "g"), TokenTextError::Form),
            ("", TokenTextError::Form),
        ] {
            assert_eq!(JoinToken::parse(text).err(), Some(error), "{text}");
        }
    }
}
