//! Tokens: stored under a keyed hash of their text, looked up by it.
//!
//! Always: the text of a token is nowhere in the table. A token is good exactly if its record is there (a batch token: if it
//! opens), it has not ended, its namespace and the mount that made it are still there, and its parent is good. So a revocation
//! is one deleted record, and holds for all children at once, whatever is left to clean up.

mod batch;
mod create;
mod issue;
mod renew;
mod revoke;
mod roles;
mod routes;
mod show;
mod uses;

use std::sync::Arc;

use barrier::{Keyring, Name, Plan, ViewError};
use crypto::{Rng, SecretBytes, Zeroizing};
use prost::Message;
use proto::stored;
use types::{Revision, Timestamp};

use crate::namespace::Namespace;
use crate::outcome::PlanError;
use crate::records::{self, Records};

pub(crate) use issue::issue;
pub(crate) use renew::RenewalCheck;
pub(crate) use revoke::{end, plan_cleaning, revoke};
pub(crate) use routes::ROUTES;
pub(crate) use show::time;
pub(crate) use uses::spend;

/// Characters of a service token after its prefix, and of an accessor: 142 bits.
const TOKEN_CHARS: usize = 24;
/// How service tokens begin, for Vault's clients and for secret scanners.
const SERVICE_PREFIX: &str = "hvs.";
/// Characters of a service token of the root namespace.
pub(crate) const SERVICE_TOKEN_CHARS: usize = SERVICE_PREFIX.len() + TOKEN_CHARS;
/// A token's ancestors, at most.
pub(crate) const ANCESTORS_MAX: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token that was found good. Confidential: no `Debug`.
pub struct Caller {
    pub(crate) text: SecretBytes,
    /// The keyed hash of the text.
    pub(crate) tag: [u8; 32],
    /// The namespace that the token belongs to.
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) token: Arc<stored::Token>,
    /// What makes it good, as it was found: a write on its behalf expects all of it to be the same still.
    pub(crate) grounds: Vec<(Name, Revision)>,
}

impl Caller {
    /// The policies that the token carries.
    pub(crate) fn policies(&self) -> &[String] {
        &self.token.policies
    }

    /// Whether it may be used a limited number of times.
    pub(crate) fn is_limited(&self) -> bool {
        self.token.uses_left != 0 || self.is_used_up()
    }

    /// Whether this was its last use: its records are gone, and what is done on its behalf depends on that.
    pub(crate) fn is_used_up(&self) -> bool {
        !self.token.batch && self.grounds.first().is_some_and(|(_, revision)| *revision == Revision::ABSENT)
    }

    /// How records name this token.
    pub(crate) fn reference(&self) -> stored::TokenParent {
        stored::TokenParent { namespace_id: self.namespace.id.clone(), tag: self.tag.to_vec() }
    }

    /// What writes on its behalf depend on.
    pub(crate) fn expect(&self, plan: &mut Plan) {
        for (name, revision) in &self.grounds {
            plan.expect(name.clone(), *revision);
        }
    }
}

/// The namespace that a token's text names: what follows its last dot, beside that of the prefix; without one, the root.
fn namespace_id(text: &[u8]) -> &str {
    let rest = text.strip_prefix(SERVICE_PREFIX.as_bytes()).unwrap_or(text);
    match rest.iter().rposition(|byte| *byte == b'.') {
        Some(dot) => std::str::from_utf8(&rest[dot + 1..]).unwrap_or_default(),
        None => Namespace::ROOT_ID,
    }
}

/// Finds a token by its text; `None` when it is not good at `now`.
pub(crate) fn find(records: &Records, text: &SecretBytes, now: Timestamp) -> Result<Option<Caller>, PlanError> {
    // EXPOSE: a token is looked up by its keyed hash.
    let tag = records.view.token_tag(text.expose()).ok_or(ViewError::Sealed)?;
    // EXPOSE: what a batch token holds is sealed in its text.
    let good = if batch::looks_like_one(text.expose()) {
        match batch::open(records, text.expose())? {
            Some(token) => find_unrecorded(records, &token.namespace_id.clone(), Arc::new(token), now)?,
            None => None,
        }
    } else {
        // EXPOSE: the namespace's id is no secret.
        find_reference(records, &stored::TokenParent { namespace_id: namespace_id(text.expose()).to_owned(), tag: tag.to_vec() }, now)?
    };
    Ok(good.map(|good| Caller { text: copied(text), tag, namespace: good.namespace, token: good.token, grounds: good.grounds }))
}

/// Finds a token by its accessor, and so without its text; `None` when it is not good at `now`.
pub(crate) fn find_accessor(records: &Records, accessor: &str, now: Timestamp) -> Result<Option<Caller>, PlanError> {
    let namespace_id = accessor.split_once('.').map_or(Namespace::ROOT_ID, |(_, id)| id);
    if accessor.contains('/') || namespace_id.is_empty() {
        return Ok(None);
    }
    let Some(value) = records.view.read(&records::accessor_name(namespace_id, accessor))?.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    let record = stored::TokenAccessor::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    let tag: [u8; 32] = record.tag.as_slice().try_into().map_err(|_| PlanError::Malformed)?;
    let reference = stored::TokenParent { namespace_id: namespace_id.to_owned(), tag: record.tag };
    let good = find_reference(records, &reference, now)?;
    let text = SecretBytes::from(Vec::new());
    Ok(good.map(|good| Caller { text, tag, namespace: good.namespace, token: good.token, grounds: good.grounds }))
}

/// Finds a caller again, as fresher records have it: a renewal, say, changes its grounds without making it less good.
pub(crate) fn find_again(records: &Records, caller: &Caller, now: Timestamp) -> Result<Option<Caller>, PlanError> {
    let good = if caller.token.batch {
        find_unrecorded(records, &caller.namespace.id, Arc::clone(&caller.token), now)?
    } else if caller.is_used_up() {
        let gone = (records::token_name(&caller.namespace.id, &caller.tag), Revision::ABSENT);
        find_unrecorded(records, &caller.namespace.id, Arc::clone(&caller.token), now)?.map(|mut good| {
            good.grounds.insert(0, gone);
            good
        })
    } else {
        find_reference(records, &caller.reference(), now)?
    };
    let (text, tag) = (copied(&caller.text), caller.tag);
    Ok(good.map(|good| Caller { text, tag, namespace: good.namespace, token: good.token, grounds: good.grounds }))
}

fn copied(text: &SecretBytes) -> SecretBytes {
    // EXPOSE: a copy, wiped like the original.
    SecretBytes::with_len(text.len(), |buffer| buffer.copy_from_slice(text.expose()))
}

/// A good token, without its text.
pub(crate) struct Good {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) token: Arc<stored::Token>,
    pub(crate) grounds: Vec<(Name, Revision)>,
}

/// Finds a token by its reference; `None` when it is not good at `now`. One whose parent left its children is an orphan.
pub(crate) fn find_reference(records: &Records, reference: &stored::TokenParent, now: Timestamp) -> Result<Option<Good>, PlanError> {
    let mut grounds = Vec::with_capacity(1);
    let mut found: Option<(Arc<Namespace>, Arc<stored::Token>)> = None;
    let mut reference = reference.clone();
    // One more than the token itself and its ancestors: a longer chain is not good.
    for depth in 0..=ANCESTORS_MAX {
        let record = records.token(&reference.namespace_id, &reference.tag)?;
        let Some(token) = record.value else { return Ok(None) };
        grounds.push((records::token_name(&reference.namespace_id, &reference.tag), record.revision));
        if let (true, Some((namespace, child))) = (token.children_are_orphans, &found) {
            let orphan = |child: &stored::Token| Arc::new(stored::Token { orphan: true, parent: None, ..child.clone() });
            let token = if depth == 1 { orphan(child) } else { Arc::clone(child) };
            return Ok(Some(Good { namespace: Arc::clone(namespace), token, grounds }));
        }
        let Some(namespace) = stands(records, &reference.namespace_id, &token, now)? else { return Ok(None) };
        let parent = token.parent.clone();
        found.get_or_insert((namespace, token));
        match parent {
            Some(parent) => reference = parent,
            None => return Ok(found.map(|(namespace, token)| Good { namespace, token, grounds })),
        }
    }
    Ok(None)
}

/// As [`find_reference`], for a token that is at hand and has no record: only its parent has.
fn find_unrecorded(records: &Records, namespace_id: &str, token: Arc<stored::Token>, now: Timestamp) -> Result<Option<Good>, PlanError> {
    let Some(namespace) = stands(records, namespace_id, &token, now)? else { return Ok(None) };
    let Some(parent) = &token.parent else { return Ok(Some(Good { namespace, token, grounds: Vec::new() })) };
    let is_left = |parent: Arc<stored::Token>| parent.children_are_orphans;
    // A batch token cannot be told that its parent has left it: it ends.
    if !token.batch && records.token(&parent.namespace_id, &parent.tag)?.value.is_some_and(is_left) {
        let token = Arc::new(stored::Token { orphan: true, parent: None, ..(*token).clone() });
        return Ok(Some(Good { namespace, token, grounds: Vec::new() }));
    }
    Ok(find_reference(records, parent, now)?.map(|parent| Good { namespace, token, grounds: parent.grounds }))
}

/// Whether a token is good by itself, whatever its parent is: the namespace that it belongs to if it is.
fn stands(records: &Records, namespace_id: &str, token: &stored::Token, now: Timestamp) -> Result<Option<Arc<Namespace>>, PlanError> {
    if !is_alive(token, now) {
        return Ok(None);
    }
    let Some(namespace) = records.namespace_by_id(namespace_id)?.filter(|namespace| !namespace.tainted) else { return Ok(None) };
    if !token.mount_accessor.is_empty() && !records.mounts(&namespace)?.has_accessor(&token.mount_accessor) {
        return Ok(None);
    }
    Ok(Some(namespace))
}

/// Whether a token's own time has not ended.
pub(crate) fn is_alive(token: &stored::Token, now: Timestamp) -> bool {
    !token.children_are_orphans && (token.expires_ms == 0 || now.0 < token.expires_ms)
}

/// Uniform characters of base62: bytes of 248 and above are drawn again.
pub(crate) fn generate_text(prefix: &str, chars: usize, suffix: &str, rng: &dyn Rng) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + chars + suffix.len()));
    text.push_str(prefix);
    while text.len() < prefix.len() + chars {
        let [byte] = crypto::rng::generate_bytes::<1>(rng);
        if byte < 248 {
            text.push(char::from(ALPHABET[usize::from(byte % 62)]));
        }
    }
    text.push_str(suffix);
    text
}

/// A root token for a new cluster: its text, which nobody can tell again, and the plan that stores it.
pub(crate) fn found(keyring: &Keyring, now: Timestamp, rng: &dyn Rng, plan: &mut Plan) -> Zeroizing<String> {
    let text = generate_text(SERVICE_PREFIX, TOKEN_CHARS, "", rng);
    let token = stored::Token {
        accessor: generate_text("", TOKEN_CHARS, "", rng).to_string(),
        policies: vec!["root".into()],
        display_name: "root".into(),
        created_ms: now.0,
        path: "auth/token/root".into(),
        orphan: true,
        ..Default::default()
    };
    issue::store(&token, Namespace::ROOT_ID, &keyring.token_tag(text.as_bytes()), plan);
    text
}

#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod tests {
    use barrier::testing::MemoryBarrier;
    use crypto::SeededRng;

    use super::*;
    use crate::records::Caches;

    #[test]
    fn tokens_look_as_clients_expect() {
        let text = generate_text(SERVICE_PREFIX, TOKEN_CHARS, "", &SeededRng::dangerous_from_seed(1));
        assert_eq!(text.len(), 28);
        assert!(text.starts_with("hvs.") && text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_tokens_text_names_its_namespace() {
        for (text, want) in [
            ("hvs.abc", "root"),
            ("hvs.abc.nsAb12", "nsAb12"),
            ("my-id.nsAb12", "nsAb12"),
            ("abc", "root"),
            ("", "root"),
            ("hvs.", "root"),
            ("hvs.a.", ""),
        ] {
            assert_eq!(namespace_id(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_root_token_is_found_by_its_text_until_its_record_is_gone() {
        let barrier = MemoryBarrier::new(1);
        let caches = Arc::new(Caches::default());
        let mut plan = Plan::new();
        let text = barrier.with_keyring(|keyring| found(keyring, Timestamp(0), &SeededRng::dangerous_from_seed(2), &mut plan));
        assert!(barrier.commit(&barrier.view(), &plan));

        let find = |text: &str| {
            let records = Records::new(barrier.view(), Arc::clone(&caches));
            find(&records, &SecretBytes::from(text.as_bytes().to_vec()), Timestamp(0)).unwrap()
        };
        assert!(find("hvs.AAAAAAAAAAAAAAAAAAAAAAAA").is_none(), "another token");
        let caller = find(&text).expect("the token is there");
        assert_eq!(caller.policies(), ["root"]);

        let mut plan = Plan::new();
        caller.expect(&mut plan);
        plan.delete(records::token_name("root", &caller.tag));
        assert!(barrier.commit(&barrier.view(), &plan));
        assert!(find(&text).is_none(), "revoked");
        assert!(!barrier.commit(&barrier.view(), &plan), "what is done on its behalf does not happen any more");
    }
}
