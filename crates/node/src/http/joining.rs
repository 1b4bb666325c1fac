//! How a node joins, over the clients' API, without a token: `sys/storage/raft/join` tells this node to join a cluster; a node that would join
//! asks an open one at `sys/storage/raft/bootstrap/challenge` and `…/answer`, and a member for a new certificate at `…/renew`.
//!
//! Always: nothing is kept for who is refused but a count for each address (bounded); at most [`JOINS_MAX`] answers are worked on at once.

use std::net::SocketAddr;

use axum::response::Response;
use barrier::identity::{JOIN_MESSAGE_BYTES_MAX, JoinRefusal, JoinToken, RenewRefusal, SealedRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::{SecretBytes, Zeroizing};
use engine::route::{Access, Field, FieldKind, Method, Route};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use service::RefusedShares;
use tokio::sync::Semaphore;
use types::NodeId;
use types::capability::Verb;

use super::system::Act;
use super::{Edge, Failure, render};
use crate::config::JoinPlace;
use crate::peers::{JoinBy, JoinFailure, Target, TargetTls};

/// Answers that are worked on at once: each may write a record and change the membership.
const JOINS_MAX: usize = 8;

/// What keeps joins within limits.
pub(crate) struct Joining {
    /// Who has asked wrongly, too often.
    refused: RefusedShares,
    room: Semaphore,
}

impl Default for Joining {
    fn default() -> Joining {
        Joining { refused: RefusedShares::default(), room: Semaphore::new(JOINS_MAX) }
    }
}

const fn write(summary: &'static str, fields: &'static [Field], handler: Act) -> [Method<Act>; 1] {
    [Method { verb: Verb::Write, summary, fields, query: &[], handler }]
}

static JOIN_METHODS: [Method<Act>; 1] = write(
    "Joins the cluster of another node, once this one has none.",
    &[
        Field::required("leader_api_addr", FieldKind::Text, "The API address of any open node of the cluster."),
        Field::optional("join_token", FieldKind::Text, "A join token; without one, the cluster's shares are entered at this node next."),
        Field::optional("leader_ca_cert", FieldKind::Text, "The authority of that node's certificate, PEM; without it any will do."),
        Field::optional("leader_client_cert", FieldKind::Text, "A certificate to show there, PEM."),
        Field::optional("leader_client_key", FieldKind::Text, "Its key, PEM."),
        Field::optional("leader_tls_servername", FieldKind::Text, "The name in that node's certificate, if it is not the address's."),
        Field::optional("retry", FieldKind::Boolean, "Goes on trying when it fails."),
        Field::optional("non_voter", FieldKind::Boolean, "The node is not to become a voter."),
    ],
    Act::RaftJoin,
);
static CHALLENGE_METHODS: [Method<Act>; 1] = write(
    "Gives a node that would join what it sends back with its request.",
    &[Field::required("node_id", FieldKind::Text, "The node that would join.")],
    Act::JoinChallenge,
);
static ANSWER_METHODS: [Method<Act>; 1] = write(
    "Takes a node in that knows a join token's secret, or the cluster's shares.",
    &[
        Field::required("request", FieldKind::Text, "The request, base64: docs/storage-format.md, \"Join\"."),
        Field::required("mac", FieldKind::Text, "Its HMAC, base64."),
    ],
    Act::JoinAnswer,
);
static RENEW_METHODS: [Method<Act>; 1] = write(
    "Signs a new certificate for a member, on the key that it joined with.",
    &[
        Field::required("node_id", FieldKind::Text, "The member."),
        Field::required("certificate_request", FieldKind::Text, "PKCS #10, DER, base64: it shows that the sender has the key."),
    ],
    Act::JoinRenew,
);

pub(super) const JOIN: Route<Act> = Route {
    pattern: "sys/storage/raft/join",
    about: "How this node becomes one of a cluster.",
    parameters: &[],
    methods: &JOIN_METHODS,
    access: Access::Anyone,
};
pub(super) const CHALLENGE: Route<Act> = Route {
    pattern: "sys/storage/raft/bootstrap/challenge",
    about: "The first of what a node asks that would join.",
    parameters: &[],
    methods: &CHALLENGE_METHODS,
    access: Access::Anyone,
};
pub(super) const ANSWER: Route<Act> = Route {
    pattern: "sys/storage/raft/bootstrap/answer",
    about: "The second of what a node asks that would join.",
    parameters: &[],
    methods: &ANSWER_METHODS,
    access: Access::Anyone,
};
pub(super) const RENEW: Route<Act> = Route {
    pattern: "sys/storage/raft/bootstrap/renew",
    about: "A new certificate for a member that cannot reach its peers by the old one.",
    parameters: &[],
    methods: &RENEW_METHODS,
    access: Access::Anyone,
};

fn parse<'a, T: Deserialize<'a>>(body: &'a SecretBytes, example: &str) -> Result<T, Failure> {
    // EXPOSE: the request is parsed out of the body.
    serde_json::from_slice(body.expose()).map_err(|_| Failure::Ceremony(format!("a JSON object is needed: {example}")))
}

#[derive(Deserialize)]
struct JoinBody {
    leader_api_addr: Option<String>,
    leader_ca_cert: Option<String>,
    leader_client_cert: Option<String>,
    leader_client_key: Option<Zeroized>,
    leader_tls_servername: Option<String>,
    join_token: Option<Zeroized>,
    auto_join: Option<String>,
    #[serde(default)]
    retry: bool,
    #[serde(default)]
    non_voter: bool,
}

#[derive(Deserialize)]
#[serde(from = "String")]
struct Zeroized(Zeroizing<String>);

impl From<String> for Zeroized {
    fn from(text: String) -> Zeroized {
        Zeroized(Zeroizing::new(text))
    }
}

/// `sys/storage/raft/join`.
pub(super) async fn join(edge: &Edge, body: &SecretBytes) -> Result<Response, Failure> {
    let refuse = |text: String| Failure::Ceremony(text);
    let asked: JoinBody = parse(body, r#"{"leader_api_addr": "https://10.0.0.1:8200"}"#)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if given(asked.auto_join).is_some() {
        return Err(refuse("auto_join is not available: clouds are not searched for nodes (give leader_api_addr)".into()));
    }
    let Some(managed) = edge.peering.managed() else {
        let text =
            "this node's configuration lets it join nobody (write a cluster block without certificates and members: docs/operate/join.md)";
        return Err(refuse(text.into()));
    };
    let Some(address) = given(asked.leader_api_addr) else {
        return Err(refuse("leader_api_addr is needed: the API address of an open node of the cluster".into()));
    };
    let address = JoinPlace::named(&address, None).map_err(|text| refuse(format!("leader_api_addr: {text}")))?.address;
    let client = match (given(asked.leader_client_cert), asked.leader_client_key.filter(|key| !key.0.is_empty())) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.into_bytes(), Zeroizing::new(key.0.as_bytes().to_vec()))),
        _ => return Err(refuse("leader_client_cert and leader_client_key go together".into())),
    };
    let tls =
        TargetTls { ca: given(asked.leader_ca_cert).map(String::into_bytes), client, server_name: given(asked.leader_tls_servername) };
    let target = Target::new(address, &tls).map_err(|error| refuse(error.to_string()))?;
    let by = match asked.join_token.filter(|token| !token.0.is_empty()) {
        Some(token) => JoinBy::Token(JoinToken::parse(&token.0).map_err(|error| refuse(format!("join_token: {error}")))?),
        None => JoinBy::Shares,
    };
    let joined = match managed.join(&target, &by, asked.non_voter).await {
        Ok(_) => true,
        Err(error) if asked.retry => {
            tracing::warn!(%error, "join a cluster: it is tried again");
            managed.retry(target, by, asked.non_voter);
            false
        }
        Err(error) => return Err(failure(&error)),
    };
    Ok(render::json(StatusCode::OK, &json!({ "joined": joined })))
}

/// Why this node did not join, for who told it to.
pub(super) fn failure(error: &JoinFailure) -> Failure {
    match error {
        JoinFailure::Own(_) | JoinFailure::Folder(_) => {
            tracing::error!(%error, cause = std::error::Error::source(error).map(ToString::to_string), "join a cluster");
            Failure::Ceremony(format!("failed to join raft cluster: {error} (the node's trace says more)"))
        }
        error => Failure::Ceremony(format!("failed to join raft cluster: {error}")),
    }
}

fn check(edge: &Edge, remote: SocketAddr) -> Result<(), Failure> {
    let checked = edge.joining.refused.check(Some(remote.ip()), edge.clock.now());
    checked.map_err(|error| Failure::TooMany(format!("too many joins from this address were refused: try again in {} s", error.seconds)))
}

fn count(edge: &Edge, remote: SocketAddr) {
    edge.joining.refused.count(Some(remote.ip()), edge.clock.now());
}

#[derive(Deserialize)]
struct ChallengeBody {
    node_id: String,
}

/// `sys/storage/raft/bootstrap/challenge`. Nothing is kept of it.
pub(super) fn challenge(edge: &Edge, body: &SecretBytes) -> Result<Response, Failure> {
    let asked: ChallengeBody = parse(body, r#"{"node_id": "n2"}"#)?;
    NodeId::parse(&asked.node_id).map_err(|error| Failure::Ceremony(error.to_string()))?;
    let given = edge.barrier.join_challenge().map_err(|_| Failure::Internal)?;
    let (challenge, seals) = given.ok_or(Failure::Sealed)?;
    let data = json!({ "challenge": STANDARD.encode(&challenge), "seals": STANDARD.encode(&seals) });
    Ok(render::json(StatusCode::OK, &json!({ "data": data })))
}

#[derive(Deserialize)]
struct AnswerBody {
    request: String,
    mac: String,
}

/// `sys/storage/raft/bootstrap/answer`.
pub(super) async fn answer(edge: &Edge, body: &SecretBytes, remote: SocketAddr) -> Result<Response, Failure> {
    check(edge, remote)?;
    let malformed = || Failure::Ceremony(JoinRefusal::Malformed.to_string());
    let asked: AnswerBody = parse(body, r#"{"request": "…", "mac": "…"}"#)?;
    if asked.request.len() > 2 * JOIN_MESSAGE_BYTES_MAX {
        return Err(malformed());
    }
    let bytes = |text: &str| STANDARD.decode(text).map(bytes::Bytes::from).map_err(|_| malformed());
    let sealed = SealedRequest { message: bytes(&asked.request)?, mac: bytes(&asked.mac)? };
    let Ok(_room) = edge.joining.room.try_acquire() else {
        return Err(Failure::Unavailable(format!("{JOINS_MAX} joins are under way: try again")));
    };
    let answered = edge.barrier.answer_join(&sealed, edge.peering.certificate_ttl()).await;
    let SealedRequest { message, mac } = answered.map_err(|refusal| {
        tracing::warn!(%refusal, %remote, "a node was not taken in");
        match refusal {
            JoinRefusal::Sealed => Failure::Sealed,
            JoinRefusal::NotNow(_) | JoinRefusal::Challenge => Failure::Unavailable(refusal.to_string()),
            JoinRefusal::Failed(_) => Failure::Internal,
            _ => {
                count(edge, remote);
                Failure::Ceremony(refusal.to_string())
            }
        }
    })?;
    let data = json!({ "answer": STANDARD.encode(&message), "mac": STANDARD.encode(&mac) });
    Ok(render::json(StatusCode::OK, &json!({ "data": data })))
}

#[derive(Deserialize)]
struct RenewBody {
    node_id: String,
    certificate_request: String,
}

/// `sys/storage/raft/bootstrap/renew`. A certificate for another's key is of no use to who asks, so nothing else is asked for.
pub(super) async fn renew(edge: &Edge, body: &SecretBytes, remote: SocketAddr) -> Result<Response, Failure> {
    check(edge, remote)?;
    let malformed = || Failure::Ceremony(RenewRefusal::Malformed.to_string());
    let asked: RenewBody = parse(body, r#"{"node_id": "n2", "certificate_request": "…"}"#)?;
    let node_id = NodeId::parse(&asked.node_id).map_err(|error| Failure::Ceremony(error.to_string()))?;
    let request = STANDARD.decode(&asked.certificate_request).map_err(|_| malformed())?;
    let Ok(_room) = edge.joining.room.try_acquire() else {
        return Err(Failure::Unavailable(format!("{JOINS_MAX} joins are under way: try again")));
    };
    let renewed = edge.barrier.renew_certificate(&node_id, &request, edge.peering.certificate_ttl()).await;
    let certificate = renewed.map_err(|refusal| match refusal {
        RenewRefusal::Sealed => Failure::Sealed,
        RenewRefusal::Failed(_) => Failure::Unavailable(refusal.to_string()),
        RenewRefusal::Malformed | RenewRefusal::NotAMember => {
            tracing::warn!(%refusal, node = %node_id, %remote, "a certificate was not renewed");
            count(edge, remote);
            Failure::Ceremony(refusal.to_string())
        }
    })?;
    Ok(render::json(StatusCode::OK, &json!({ "data": { "certificate": STANDARD.encode(certificate) } })))
}
