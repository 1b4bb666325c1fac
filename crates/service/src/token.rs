//! Tokens: made from the OS's randomness, stored under a keyed hash of their text, looked up by it.
//!
//! Always: the text of a token is nowhere in the table.

use std::sync::Arc;

use barrier::{Keyring, Name, Plan, View, ViewError};
use crypto::{Rng, SecretBytes, Zeroizing};
use engine::{Ask, AskError, Operation, Outcome, PlanError, Reply};
use jiff::Timestamp as Rfc3339;
use prost::Message;
use proto::stored;
use serde_json::json;
use types::Timestamp;
use types::capability::Verb;

/// Characters of a service token after its prefix: 142 bits.
const TOKEN_CHARS: usize = 24;
/// How service tokens begin, for Vault's clients and for secret scanners.
const TOKEN_PREFIX: &str = "hvs.";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Who calls: a token that was found.
pub struct Caller {
    pub(crate) text: SecretBytes,
    pub(crate) token: stored::Token,
}

impl Caller {
    /// The policies that the token carries.
    pub(crate) fn policies(&self) -> &[String] {
        &self.token.policies
    }
}

fn record_name(tag: [u8; 32]) -> Name {
    Name::new("core/token").join(&hex::encode(tag))
}

/// Finds a token; `None` when there is no such token.
pub(crate) fn lookup(view: &View, tag: [u8; 32], text: SecretBytes) -> Result<Option<Caller>, PlanError> {
    let Some(value) = view.read(&record_name(tag))?.value else {
        return Ok(None);
    };
    // EXPOSE: the record is decoded.
    let token = stored::Token::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    Ok(Some(Caller { text, token }))
}

/// Uniform characters of base62: bytes of 248 and above are drawn again.
fn generate_text(prefix: &str, chars: usize, rng: &dyn Rng) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + chars));
    text.push_str(prefix);
    while text.len() < prefix.len() + chars {
        let [byte] = crypto::rng::generate_bytes::<1>(rng);
        if byte < 248 {
            text.push(char::from(ALPHABET[usize::from(byte % 62)]));
        }
    }
    text
}

/// A root token for a new cluster: its text, which nobody can tell again, and the plan that stores it.
pub(crate) fn found(keyring: &Keyring, now: Timestamp, rng: &dyn Rng, plan: &mut Plan) -> Zeroizing<String> {
    let text = generate_text(TOKEN_PREFIX, TOKEN_CHARS, rng);
    let token = stored::Token {
        accessor: generate_text("", TOKEN_CHARS, rng).to_string(),
        policies: vec!["root".into()],
        display_name: "root".into(),
        created_ms: now.0,
        ttl_ms: 0,
        path: "auth/token/root".into(),
        orphan: true,
        meta: Default::default(),
    };
    plan.put(record_name(keyring.token_tag(text.as_bytes())), SecretBytes::from(token.encode_to_vec()));
    text
}

/// `auth/token/…`: what a token may ask of itself.
pub(crate) fn parse(ask: &Ask, caller: &Arc<Caller>) -> Result<Box<dyn Operation>, AskError> {
    match (ask.path.as_str(), ask.verb) {
        ("lookup-self", Verb::Read | Verb::Write) => Ok(Box::new(LookupSelf(Arc::clone(caller)))),
        ("renew-self", Verb::Write) => Ok(Box::new(RenewSelf)),
        ("revoke-self", Verb::Write) => Ok(Box::new(RevokeSelf(Arc::clone(caller)))),
        ("lookup-self" | "renew-self" | "revoke-self", _) => Err(AskError::UnsupportedOperation),
        _ => Err(AskError::UnsupportedPath),
    }
}

struct LookupSelf(Arc<Caller>);

impl Operation for LookupSelf {
    fn plan(&self, _view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        let token = &self.0.token;
        let issued = i64::try_from(token.created_ms).ok().and_then(|ms| Rfc3339::from_millisecond(ms).ok());
        let meta = if token.meta.is_empty() { None } else { Some(&token.meta) };
        let data = json!({
            "accessor": token.accessor,
            "creation_time": token.created_ms / 1000,
            "creation_ttl": 0,
            "display_name": token.display_name,
            "entity_id": "",
            "expire_time": null,
            "explicit_max_ttl": 0,
            // EXPOSE: the caller sent this token, and asks for what is known of it.
            "id": String::from_utf8_lossy(self.0.text.expose()),
            "issue_time": issued.unwrap_or_default().to_string(),
            "meta": meta,
            "num_uses": 0,
            "orphan": token.orphan,
            "path": token.path,
            "policies": token.policies,
            "renewable": false,
            "ttl": 0,
            "type": "service",
        });
        Ok(Outcome::answer(Reply::Data(engine::json(&data))))
    }
}

struct RenewSelf;

impl Operation for RenewSelf {
    fn plan(&self, _view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        // Only root tokens exist so far, and they never end.
        Err(PlanError::Refused("lease is not renewable".into()))
    }
}

struct RevokeSelf(Arc<Caller>);

impl Operation for RevokeSelf {
    fn plan(&self, view: &View, _now: Timestamp) -> Result<Outcome, PlanError> {
        // EXPOSE: the tag of the caller's own token names its record.
        let tag = view.token_tag(self.0.text.expose()).ok_or(ViewError::Sealed)?;
        let name = record_name(tag);
        let found = view.read(&name)?;
        let mut plan = Plan::new();
        plan.expect(name.clone(), found.revision);
        plan.delete(name);
        Ok(Outcome { plan, reply: Reply::Done, warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use barrier::testing::MemoryBarrier;
    use crypto::SeededRng;

    use super::*;

    #[test]
    fn tokens_look_as_clients_expect() {
        let text = generate_text(TOKEN_PREFIX, TOKEN_CHARS, &SeededRng::dangerous_from_seed(1));
        assert_eq!(text.len(), 28);
        assert!(text.starts_with("hvs.") && text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_root_token_is_found_by_its_text_until_it_revokes_itself() {
        let barrier = MemoryBarrier::new(1);
        let mut plan = Plan::new();
        let text = barrier.with_keyring(|keyring| found(keyring, Timestamp(0), &SeededRng::dangerous_from_seed(2), &mut plan));
        assert!(barrier.commit(&barrier.view(), &plan));

        let find = |text: &str| {
            let view = barrier.view();
            let tag = view.token_tag(text.as_bytes()).unwrap();
            lookup(&view, tag, SecretBytes::from(text.as_bytes().to_vec())).unwrap()
        };
        assert!(find("hvs.AAAAAAAAAAAAAAAAAAAAAAAA").is_none(), "another token");
        let caller = find(&text).expect("the token is there");
        assert_eq!(caller.policies(), ["root"]);

        let view = barrier.view();
        let outcome = RevokeSelf(Arc::new(caller)).plan(&view, Timestamp(0)).unwrap();
        assert!(barrier.commit(&view, &outcome.plan));
        assert!(find(&text).is_none(), "revoked");
    }
}
