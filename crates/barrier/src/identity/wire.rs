//! The messages by which a node joins: a challenge, a request, an answer.
//!
//! Always: request and answer carry an HMAC over their bytes, by keys of one secret; an answer is to one request. Nothing in them is secret.
//! Formats: `docs/storage-format.md`, "Join".

use std::time::Duration;

use bytes::Bytes;
use crypto::digest::sha256;
use crypto::kdf::{derive_key, label};
use crypto::{KeyringKey, MacKey, Rng, Zeroizing};
use prost::Message;
use proto::peer;
use raft::{KeyPin, Member};
use types::{ClusterId, NodeId, Timestamp};
use uuid::Uuid;

/// A request or an answer that is larger is none.
pub const JOIN_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// For how long a challenge is good.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(120);

const VERSION: u32 = 1;
const CHALLENGE_TIME_BYTES: usize = 8;
const CHALLENGE_NONCE_BYTES: usize = 16;

/// By what a join is authenticated. Confidential: no `Debug`.
pub struct JoinSecret {
    token_id: Bytes,
    request: MacKey,
    answer: MacKey,
}

impl JoinSecret {
    pub(super) fn of_token(id: [u8; 8], secret: &Zeroizing<[u8; 32]>) -> JoinSecret {
        JoinSecret::new(Bytes::copy_from_slice(&id), secret)
    }

    /// Of a node that was given the cluster's shares.
    pub(crate) fn of_shares(keyring_key: &KeyringKey) -> JoinSecret {
        // EXPOSE: a key is derived from it.
        JoinSecret::new(Bytes::new(), &derive_key(keyring_key.expose(), label::JOIN_BY_SHARES, b""))
    }

    fn new(token_id: Bytes, secret: &Zeroizing<[u8; 32]>) -> JoinSecret {
        let key = |label| MacKey::new(&derive_key(secret, label, b""));
        JoinSecret { token_id, request: key(label::JOIN_REQUEST), answer: key(label::JOIN_ANSWER) }
    }
}

/// Proof that somebody has asked a node of this cluster lately: time, nonce, and an HMAC over both. Nothing is kept for it.
pub(super) fn challenge(keyring_key: &KeyringKey, now: Timestamp, rng: &dyn Rng) -> Bytes {
    let mut challenge = Vec::with_capacity(CHALLENGE_TIME_BYTES + CHALLENGE_NONCE_BYTES + 32);
    challenge.extend(now.0.to_be_bytes());
    challenge.extend(crypto::rng::generate_bytes::<CHALLENGE_NONCE_BYTES>(rng));
    challenge.extend(keyring_key.derive_mac_key(label::JOIN_CHALLENGE, b"").tag(&challenge));
    challenge.into()
}

/// Whether a challenge is one that a node of this cluster has given lately. Clocks of nodes may differ by as much as it lives.
pub(super) fn is_fresh(keyring_key: &KeyringKey, challenge: &[u8], now: Timestamp) -> bool {
    let Some((content, tag)) = challenge.split_at_checked(CHALLENGE_TIME_BYTES + CHALLENGE_NONCE_BYTES) else { return false };
    let Some((time, _)) = content.split_first_chunk::<CHALLENGE_TIME_BYTES>() else { return false };
    let life_ms = u64::try_from(CHALLENGE_LIFE.as_millis()).unwrap_or(u64::MAX);
    u64::from_be_bytes(*time).abs_diff(now.0) <= life_ms && keyring_key.derive_mac_key(label::JOIN_CHALLENGE, b"").verify(content, tag)
}

/// What a node tells of itself that would join.
#[derive(Debug, Clone)]
pub struct JoinerFacts {
    /// Its id.
    pub node_id: NodeId,
    /// The cluster that it would join.
    pub cluster_name: String,
    /// Where its peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub api_address: String,
    /// PKCS #10, DER.
    pub certificate_request: Vec<u8>,
    /// It is not to become a voter.
    pub non_voter: bool,
}

/// A request on its way, with its HMAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRequest {
    /// A `conclave.peer.v1.JoinRequest` or `JoinAnswer`.
    pub message: Bytes,
    /// HMAC-SHA256.
    pub mac: Bytes,
}

/// What the sender of a request keeps, to check its answer.
pub struct SentRequest {
    secret: JoinSecret,
    facts: JoinerFacts,
    request: SealedRequest,
}

/// What a node gets that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its authority's certificate; DER.
    pub authority: Vec<u8>,
    /// The node's certificate; DER.
    pub certificate: Vec<u8>,
    /// How often it had been sealed on purpose then.
    pub seal_epoch: u64,
    /// Its members now, this one too.
    pub members: Vec<(NodeId, Member)>,
}

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Whoever answered does not know the secret.
    #[error("the answer is not from a node that knows the join token: is this the right cluster?")]
    NotAuthentic,
    /// It is authentic, and makes no sense here.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
}

impl JoinerFacts {
    /// Asks, by what is at hand: the secret of a token, or of the shares.
    pub fn request(self, secret: JoinSecret, challenge: &[u8]) -> SentRequest {
        let message = peer::JoinRequest {
            version: VERSION,
            challenge: Bytes::copy_from_slice(challenge),
            token_id: secret.token_id.clone(),
            node_id: self.node_id.to_string(),
            cluster_name: self.cluster_name.clone(),
            cluster_address: self.cluster_address.clone(),
            api_address: self.api_address.clone(),
            certificate_request: self.certificate_request.clone().into(),
            non_voter: self.non_voter,
        };
        let message = Bytes::from(message.encode_to_vec());
        let mac = Bytes::copy_from_slice(&secret.request.tag(&message));
        SentRequest { secret, facts: self, request: SealedRequest { message, mac } }
    }
}

impl SentRequest {
    /// What is sent.
    pub fn request(&self) -> &SealedRequest {
        &self.request
    }

    /// Checks what came back.
    pub fn accept(&self, answer: &SealedRequest) -> Result<Joined, AnswerError> {
        if answer.message.len() > JOIN_MESSAGE_BYTES_MAX || !self.secret.answer.verify(&answer.message, &answer.mac) {
            return Err(AnswerError::NotAuthentic);
        }
        let answer = peer::JoinAnswer::decode(answer.message.clone()).map_err(|_| AnswerError::Malformed("not a message"))?;
        if answer.version != VERSION {
            return Err(AnswerError::Malformed("of a version that this release does not know"));
        }
        if answer.request_sha256[..] != sha256(&self.request.message) {
            return Err(AnswerError::Malformed("to another request"));
        }
        if answer.cluster_name != self.facts.cluster_name {
            return Err(AnswerError::Malformed("of a cluster of another name"));
        }
        let cluster_id = Uuid::from_slice(&answer.cluster_id).map_err(|_| AnswerError::Malformed("cluster id"))?;
        let members = answer.members.iter().map(member_from_peer).collect::<Option<Vec<_>>>();
        Ok(Joined {
            cluster_id: ClusterId(cluster_id),
            authority: answer.authority.to_vec(),
            certificate: answer.certificate.to_vec(),
            seal_epoch: answer.seal_epoch,
            members: members.ok_or(AnswerError::Malformed("members"))?,
        })
    }
}

pub(super) fn member_to_peer(id: &NodeId, member: &Member) -> peer::JoinMember {
    peer::JoinMember {
        node_id: id.to_string(),
        cluster_address: member.cluster_address.clone(),
        api_address: member.api_address.clone(),
        key_sha256: member.key.map(|key| Bytes::copy_from_slice(&key.0)).unwrap_or_default(),
    }
}

pub(super) fn member_from_peer(member: &peer::JoinMember) -> Option<(NodeId, Member)> {
    let key = match member.key_sha256.len() {
        0 => None,
        _ => Some(KeyPin(<[u8; 32]>::try_from(&member.key_sha256[..]).ok()?)),
    };
    let place =
        Member { cluster_address: member.cluster_address.clone(), api_address: member.api_address.clone(), key, ..Member::default() };
    Some((NodeId::parse(&member.node_id).ok()?, place))
}

/// A request that was decoded, and not yet believed.
pub(super) struct Received {
    pub(super) request: peer::JoinRequest,
    sealed: SealedRequest,
}

impl Received {
    /// `None`: it is none.
    pub(super) fn decode(sealed: &SealedRequest) -> Option<Received> {
        if sealed.message.len() > JOIN_MESSAGE_BYTES_MAX {
            return None;
        }
        let request = peer::JoinRequest::decode(sealed.message.clone()).ok()?;
        (request.version == VERSION).then(|| Received { request, sealed: sealed.clone() })
    }

    /// Whether its sender knows the secret.
    pub(super) fn is_by(&self, secret: &JoinSecret) -> bool {
        secret.request.verify(&self.sealed.message, &self.sealed.mac)
    }

    pub(super) fn answer(&self, secret: &JoinSecret, joined: &Joined, cluster_name: &str) -> SealedRequest {
        let message = peer::JoinAnswer {
            version: VERSION,
            request_sha256: Bytes::copy_from_slice(&sha256(&self.sealed.message)),
            cluster_id: Bytes::copy_from_slice(joined.cluster_id.0.as_bytes()),
            cluster_name: cluster_name.to_owned(),
            authority: joined.authority.clone().into(),
            certificate: joined.certificate.clone().into(),
            seal_epoch: joined.seal_epoch,
            members: joined.members.iter().map(|(id, member)| member_to_peer(id, member)).collect(),
        };
        let message = Bytes::from(message.encode_to_vec());
        let mac = Bytes::copy_from_slice(&secret.answer.tag(&message));
        SealedRequest { message, mac }
    }
}

#[cfg(test)]
mod tests {
    use crypto::SeededRng;

    use super::*;

    fn key(byte: u8) -> KeyringKey {
        KeyringKey::from_slice(&[byte; 32]).unwrap()
    }

    fn facts() -> JoinerFacts {
        JoinerFacts {
            node_id: NodeId::parse("n2").unwrap(),
            cluster_name: "blue".into(),
            cluster_address: "https://10.0.0.2:8201".into(),
            api_address: "https://10.0.0.2:8200".into(),
            certificate_request: vec![1, 2, 3],
            non_voter: false,
        }
    }

    /// Golden bytes: what releases that can join each other say.
    #[test]
    fn golden_messages_of_version_1() {
        let request: &[u8] = include_bytes!("../../../../tests/golden/barrier/join-request-v1.bin");
        let sent = facts().request(JoinSecret::of_token([7; 8], &Zeroizing::new([9; 32])), b"challenge");
        let SealedRequest { message, mac } = sent.request();
        assert_eq!(hex::encode([&mac[..], message].concat()), hex::encode(request));
        let joined = Joined {
            cluster_id: ClusterId(Uuid::max()),
            authority: vec![1],
            certificate: vec![2],
            seal_epoch: 3,
            members: vec![(NodeId::parse("n1").unwrap(), Member { key: Some(KeyPin([3; 32])), ..Member::default() })],
        };
        let answer: &[u8] = include_bytes!("../../../../tests/golden/barrier/join-answer-v1.bin");
        let secret = JoinSecret::of_token([7; 8], &Zeroizing::new([9; 32]));
        let SealedRequest { message, mac } = Received::decode(sent.request()).unwrap().answer(&secret, &joined, "blue");
        assert_eq!(hex::encode([&mac[..], &message].concat()), hex::encode(answer));
        let read = SealedRequest { mac: Bytes::from_static(&answer[..32]), message: Bytes::from_static(&answer[32..]) };
        assert_eq!(sent.accept(&read), Ok(joined));
    }

    #[test]
    fn challenges_are_of_this_cluster_and_of_late() {
        let (now, rng) = (Timestamp(1_000_000_000), SeededRng::dangerous_from_seed(1));
        let given = challenge(&key(1), now, &rng);
        let life = u64::try_from(CHALLENGE_LIFE.as_millis()).unwrap();
        for (key_byte, at, is_good) in
            [(1, now.0, true), (1, now.0 + life, true), (1, now.0 - life, true), (1, now.0 + life + 1, false), (2, now.0, false)]
        {
            assert_eq!(is_fresh(&key(key_byte), &given, Timestamp(at)), is_good, "{key_byte} {at}");
        }
        let mut changed = given.to_vec();
        changed[0] ^= 1;
        assert!(!is_fresh(&key(1), &changed, now) && !is_fresh(&key(1), b"", now) && !is_fresh(&key(1), &given[..20], now));
    }

    #[test]
    fn who_does_not_know_the_secret_can_neither_ask_nor_answer() {
        let joined = Joined {
            cluster_id: ClusterId(Uuid::max()),
            authority: vec![7],
            certificate: vec![8],
            seal_epoch: 3,
            members: vec![(
                NodeId::parse("n1").unwrap(),
                Member {
                    cluster_address: "https://a".into(),
                    api_address: "https://b".into(),
                    key: Some(KeyPin([3; 32])),
                    non_voter: false,
                },
            )],
        };
        let sent = facts().request(JoinSecret::of_shares(&key(1)), b"challenge");
        let received = Received::decode(sent.request()).unwrap();
        assert!(received.is_by(&JoinSecret::of_shares(&key(1))) && !received.is_by(&JoinSecret::of_shares(&key(2))));

        let answer = received.answer(&JoinSecret::of_shares(&key(1)), &joined, "blue");
        assert_eq!(sent.accept(&answer), Ok(joined.clone()));
        let forged = received.answer(&JoinSecret::of_shares(&key(2)), &joined, "blue");
        assert_eq!(sent.accept(&forged), Err(AnswerError::NotAuthentic));
        // A request is no answer, though by the same secret.
        assert_eq!(sent.accept(sent.request()), Err(AnswerError::NotAuthentic));
        let other_name = received.answer(&JoinSecret::of_shares(&key(1)), &joined, "green");
        assert!(matches!(sent.accept(&other_name), Err(AnswerError::Malformed(_))));
        let another = facts().request(JoinSecret::of_shares(&key(1)), b"later");
        assert_eq!(another.accept(&answer), Err(AnswerError::Malformed("to another request")));
    }
}
