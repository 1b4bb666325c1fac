//! The few routes that work while sealed, without a token: init, unseal, a test of one share, seal status, health, leader.

use std::net::SocketAddr;

use axum::response::Response;
use barrier::{InitError, KnownShare, SealStatus, ShareError};
use crypto::{SecretBytes, Share, Zeroizing};
use engine::route::{Access, Field, FieldKind, Method, Route};
use http::StatusCode;
use http::request::Parts;
use proto::http as body;
use raft::Role;
use recipients::Recipient;
use serde::Deserialize;
use serde_json::{Value, json};
use service::ShareRequest;
use types::Path;
use types::capability::Verb;

use super::{Edge, Failure, joining, read, render};
use crate::VERSION;
use crate::facts::{WithoutService, rfc3339, source_date};
use crate::peers::{FoundError, JoinFailure};

/// What a method of this page does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    IsInitialized,
    Init,
    Unseal,
    VerifyShare,
    SealStatus,
    Health,
    Leader,
    RaftJoin,
    JoinChallenge,
    JoinAnswer,
    JoinRenew,
}

const fn read(summary: &'static str, query: &'static [Field], handler: Act) -> Method<Act> {
    Method { verb: Verb::Read, summary, fields: &[], query, handler }
}

const fn status_code(name: &'static str, about: &'static str) -> Field {
    Field::optional(name, FieldKind::Integer, about)
}

/// Every route that works while sealed, without a token. A new one is a decision: the test below names them all.
pub(crate) static ROUTES: &[Route<Act>] = &[
    Route {
        pattern: "sys/health",
        about: "Whether the answering node serves requests: for load balancers and probes. The status code says it all.",
        parameters: &[],
        methods: &[read(
            "Shows how the node is.",
            &[
                Field::optional("standbyok", FieldKind::Boolean, "A standby answers as an active node does."),
                Field::optional("perfstandbyok", FieldKind::Boolean, "As standbyok."),
                status_code("activecode", "The status when it serves; 200 when nothing is said."),
                status_code("standbycode", "The status when it is a standby; 429 when nothing is said."),
                status_code("sealedcode", "The status when it is sealed; 503 when nothing is said."),
                status_code("uninitcode", "The status when the cluster has no keys; 501 when nothing is said."),
                status_code("drsecondarycode", "The status of a disaster recovery secondary, which no node here is."),
                status_code("performancestandbycode", "The status of a performance standby, which no node here is."),
                status_code("haunhealthycode", "The status of a standby that does not reach the leader; 474 when nothing is said."),
            ],
            Act::Health,
        )],
        access: Access::Anyone,
    },
    Route {
        pattern: "sys/init",
        about: "Whether the cluster has keys, and making them.",
        parameters: &[],
        methods: &[
            read("Shows whether the cluster is initialized.", &[], Act::IsInitialized),
            Method {
                verb: Verb::Write,
                summary: "Makes the cluster's keys, once: answers the shares and the first root token.",
                fields: &[
                    Field::required("secret_shares", FieldKind::Integer, "Into how many shares the seal key is split, 1 to 255."),
                    Field::required("secret_threshold", FieldKind::Integer, "How many shares open the cluster."),
                    Field::optional("holders", FieldKind::List, "Names of those who are to have the shares, one for each."),
                    Field::optional("pgp_keys", FieldKind::List, "OpenPGP keys to encrypt the shares to, in base64, one for each."),
                    Field::optional("recipients", FieldKind::List, "In place of pgp_keys: OpenPGP keys or age recipients, one for each."),
                    Field::optional("root_token_pgp_key", FieldKind::Text, "An OpenPGP key to encrypt the root token to, in base64."),
                    Field::optional(
                        "root_token_recipient",
                        FieldKind::Text,
                        "In place of root_token_pgp_key: an OpenPGP key or an age recipient.",
                    ),
                ],
                query: &[],
                handler: Act::Init,
            },
        ],
        access: Access::Anyone,
    },
    Route {
        pattern: "sys/leader",
        about: "Which node leads.",
        parameters: &[],
        methods: &[read("Shows the leader.", &[], Act::Leader)],
        access: Access::Anyone,
    },
    Route {
        pattern: "sys/seal-status",
        about: "Whether the answering node is sealed, and how far the ceremony has come.",
        parameters: &[],
        methods: &[read("Shows the seal.", &[], Act::SealStatus)],
        access: Access::Anyone,
    },
    joining::ANSWER,
    joining::CHALLENGE,
    joining::RENEW,
    joining::JOIN,
    Route {
        pattern: "sys/unseal",
        about: "The ceremony that opens the cluster.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Enters a share, at any node.",
            fields: &[
                Field::optional("key", FieldKind::Text, "The share, hex or base64; with reset the proof that a holder asks."),
                Field::optional("reset", FieldKind::Boolean, "Throws the progress away."),
                Field::optional(
                    "migrate",
                    FieldKind::Boolean,
                    "Makes the static seals those of the configuration, once the cluster opens.",
                ),
            ],
            query: &[],
            handler: Act::Unseal,
        }],
        access: Access::Anyone,
    },
    Route {
        pattern: "sys/verify-share",
        about: "A test of one share, without opening anything.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Tells whether it is one of this cluster's, and whose.",
            fields: &[Field::required("key", FieldKind::Text, "The share, hex or base64.")],
            query: &[],
            handler: Act::VerifyShare,
        }],
        access: Access::Anyone,
    },
];

/// The largest body of `sys/init`: with the keys of all holders.
const INIT_BODY_BYTES_MAX: usize = 1 << 20;

/// How large the body of a route may be, and whether a large one is taken now.
pub(super) fn body_bytes_max(route: &Route<Act>) -> usize {
    if route.pattern == "sys/init" { INIT_BODY_BYTES_MAX } else { super::SYSTEM_BODY_BYTES_MAX }
}

/// The route at `path`, if it is one of them.
pub(super) fn find(path: &Path) -> Option<&'static Route<Act>> {
    engine::route::find(ROUTES, path).map(|(route, _)| route)
}

/// Whether a route is there in every namespace, and not only in the root: as OpenBao.
pub(super) fn is_in_every_namespace(route: &Route<Act>) -> bool {
    matches!(route.pattern, "sys/seal-status" | "sys/leader")
}

/// Answers.
pub(super) async fn handle(
    edge: &Edge,
    route: &Route<Act>,
    head: &Parts,
    body: &SecretBytes,
    remote: SocketAddr,
) -> Result<Response, Failure> {
    let verb = match head.method {
        http::Method::GET | http::Method::HEAD => Verb::Read,
        http::Method::PUT | http::Method::POST => Verb::Write,
        _ => return Err(Failure::Method),
    };
    let act = route.method(verb).ok_or(Failure::Method)?.handler;
    let mut response = answer(edge, act, head, body, remote).await?;
    response.extensions_mut().insert(WithoutService);
    Ok(response)
}

async fn answer(edge: &Edge, act: Act, head: &Parts, body: &SecretBytes, remote: SocketAddr) -> Result<Response, Failure> {
    match act {
        Act::IsInitialized => {
            let initialized = waits_for_shares(edge) || edge.barrier.is_initialized().await.map_err(|error| internal(&error))?;
            Ok(render::json(StatusCode::OK, &body::Initialized { initialized }))
        }
        Act::Init => init(edge, body).await,
        Act::Unseal => unseal(edge, body, remote).await,
        Act::VerifyShare => verify_share(edge, body, remote).await,
        Act::SealStatus => Ok(render::json(StatusCode::OK, &seal_status(edge, &status(edge).await?))),
        Act::Health => health(edge, head).await,
        Act::Leader => Ok(render::json(StatusCode::OK, &leader(edge))),
        Act::RaftJoin => joining::join(edge, body).await,
        Act::JoinChallenge => joining::challenge(edge, body),
        Act::JoinAnswer => joining::answer(edge, body, remote).await,
        Act::JoinRenew => joining::renew(edge, body, remote).await,
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "a system route failed");
    Failure::Internal
}

/// The seals of the cluster that this node joins by its shares are as good as its own.
fn waits_for_shares(edge: &Edge) -> bool {
    edge.peering.managed().is_some_and(|managed| managed.waiting_status().is_some())
}

async fn status(edge: &Edge) -> Result<SealStatus, Failure> {
    let mut status = edge.barrier.status().await.map_err(|error| internal(&error))?;
    if let Some(waiting) = edge.peering.managed().and_then(|managed| managed.waiting_status()) {
        status.initialized = true;
        status.quorum = Some(waiting.quorum);
        status.progress = u8::try_from(waiting.entered.len()).unwrap_or(u8::MAX);
        status.entered = waiting.entered;
        status.cluster = Some(waiting.cluster);
    }
    Ok(status)
}

fn seal_status(edge: &Edge, status: &SealStatus) -> body::SealStatus {
    let (id, name) = status.cluster.as_ref().map(|(id, name)| (id.to_string(), name.clone())).unwrap_or_default();
    body::SealStatus {
        kind: "shamir".into(),
        initialized: status.initialized,
        sealed: status.sealed,
        t: status.quorum.map_or(0, |quorum| quorum.threshold().into()),
        n: status.quorum.map_or(0, |quorum| quorum.shares().into()),
        progress: status.progress.into(),
        nonce: status.nonce.clone(),
        version: edge.facts.api_version().into(),
        build_date: source_date(),
        commit_date: source_date(),
        migration: status.migration,
        cluster_name: name,
        cluster_id: id,
        recovery_seal: false,
        storage_type: edge.facts.storage_type().into(),
        holders_present: None,
        holders_missing: None,
    }
}

/// `PUT sys/init`, as clients send it. What is not built is refused unless it asks for nothing.
#[derive(Deserialize)]
struct InitBody {
    secret_shares: Option<u64>,
    secret_threshold: Option<u64>,
    holders: Option<Vec<String>>,
    pgp_keys: Option<Vec<String>>,
    recipients: Option<Vec<String>>,
    root_token_pgp_key: Option<String>,
    root_token_recipient: Option<String>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

/// What `sys/init` is to make.
struct InitOrder {
    shares: service::ShareOrder,
    root_token: Option<Recipient>,
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn parse_init(bytes: &[u8], now: types::Timestamp) -> Result<InitOrder, Failure> {
    let refuse = |text: String| Failure::Ceremony(text);
    let parsed: InitBody = serde_json::from_slice(bytes)
        .map_err(|_| refuse(r#"a JSON object is needed, for example {"secret_shares": 5, "secret_threshold": 3}"#.into()))?;
    let (Some(shares), Some(threshold)) = (parsed.secret_shares, parsed.secret_threshold) else {
        return Err(refuse("secret_shares and secret_threshold are needed, for example 5 and 3".into()));
    };
    // Clients send these with Shamir's seal too, where they have no meaning (a stored share is the auto-unseal's).
    const WITHOUT_MEANING: &[&str] = &["recovery_shares", "recovery_threshold", "stored_shares"];
    for (name, value) in &parsed.others {
        if !WITHOUT_MEANING.contains(&name.as_str()) && !asks_for_nothing(value) {
            return Err(refuse(format!("{name} is not available (leave it out)")));
        }
    }
    let request = ShareRequest {
        shares,
        threshold,
        holders: parsed.holders.unwrap_or_default(),
        pgp_keys: parsed.pgp_keys.unwrap_or_default(),
        recipients: parsed.recipients.unwrap_or_default(),
    };
    let shares = request.check(now).map_err(|error| refuse(error.to_string()))?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (pgp_key, recipient) = (given(parsed.root_token_pgp_key), given(parsed.root_token_recipient));
    let root_token = match (&pgp_key, &recipient) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err(refuse("give root_token_pgp_key or root_token_recipient, not both".into())),
        (Some(key), None) => Some(Recipient::openpgp(key.as_bytes(), now).map_err(|error| refuse(format!("root_token_pgp_key: {error}")))?),
        (None, Some(key)) => Some(Recipient::parse(key.as_bytes(), now).map_err(|error| refuse(format!("root_token_recipient: {error}")))?),
    };
    Ok(InitOrder { shares, root_token })
}

async fn init(edge: &Edge, bytes: &SecretBytes) -> Result<Response, Failure> {
    // EXPOSE: the request holds numbers, names and public keys only.
    let order = parse_init(bytes.expose(), edge.clock.now())?;
    if let Some(managed) = edge.peering.managed() {
        managed.found().await.map_err(|error| match error {
            FoundError::Joined => Failure::Ceremony(error.to_string()),
            FoundError::Bootstrap(_) => internal(&error),
        })?;
    }
    let mut root_token = None;
    let found = |keyring: &barrier::Keyring| {
        let (plan, token) = service::found(keyring, edge.clock.now(), &*edge.rng);
        root_token = Some(token);
        plan
    };
    let initialized = edge.barrier.initialize(order.shares.split(), &edge.cluster_name, found).await.map_err(|error| match error {
        InitError::AlreadyInitialized => Failure::Ceremony("Vault is already initialized".into()),
        InitError::NoLeader => Failure::Unavailable("no leader with a quorum: start the other nodes, then init again".into()),
        InitError::DiskFull => Failure::Unavailable("the disk is almost full: make room on the nodes' disks, then init again".into()),
        InitError::Record(_) | InitError::Failed(_) => internal(&error),
    })?;
    let root_token = root_token.expect("an initialized cluster was founded");
    // The answer is the only place that ever shows them; it is not traced.
    let shown = order.shares.show(&initialized.shares, &*edge.rng);
    let answer = body::InitResponse {
        keys: shown.keys.iter().map(|key| key.to_string()).collect(),
        keys_base64: shown.keys_base64.iter().map(|key| key.to_string()).collect(),
        root_token: match &order.root_token {
            Some(recipient) => service::encrypt_text(&root_token, recipient, &*edge.rng),
            None => root_token.to_string(),
        },
    };
    Ok(render::json(StatusCode::OK, &answer))
}

/// Reads a share, if its sender may enter one now.
fn parse_share(edge: &Edge, text: &str, remote: SocketAddr) -> Result<Share, Failure> {
    edge.refused_shares.check(Some(remote.ip()), edge.clock.now()).map_err(|error| Failure::TooMany(error.to_string()))?;
    Share::parse_text(text).map_err(|error| {
        edge.refused_shares.count(Some(remote.ip()), edge.clock.now());
        Failure::Ceremony(format!("'key' is no share: {error}"))
    })
}

/// How long the answer to the last share with which a node joins waits for it to open.
const OPEN_AFTER_JOIN_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// Counts a share that was refused.
fn counted<T>(edge: &Edge, remote: SocketAddr, done: Result<T, ShareError>) -> Result<T, Failure> {
    done.map_err(|error| {
        if service::is_share_refused(&error) {
            edge.refused_shares.count(Some(remote.ip()), edge.clock.now());
        }
        share_failure(&error)
    })
}

async fn unseal(edge: &Edge, bytes: &SecretBytes, remote: SocketAddr) -> Result<Response, Failure> {
    let refuse = |text: &str| Failure::Ceremony(text.to_owned());
    // EXPOSE: the share is parsed out of the body.
    let request: body::UnsealRequest =
        serde_json::from_slice(bytes.expose()).map_err(|_| refuse(r#"a JSON object is needed: {"key": "a share, base64 or hex"}"#))?;
    let text = Zeroizing::new(request.key.unwrap_or_default());
    if text.is_empty() {
        return Err(refuse(if request.reset {
            "a reset needs one of the shares as 'key', so that nobody else can cancel a ceremony (a wrong share needs no reset: it is not counted)"
        } else {
            "'key' must be specified in request body as JSON"
        }));
    }
    let share = parse_share(edge, &text, remote)?;
    if request.reset {
        let status = counted(edge, remote, edge.barrier.reset_ceremony(&share).await)?;
        return Ok(render::json(StatusCode::OK, &seal_status(edge, &status)));
    }
    if let Some(managed) = edge.peering.managed()
        && managed.waiting_status().is_some()
    {
        if let Some(Err(error)) = managed.enter_share(share).await {
            return Err(match error {
                JoinFailure::Share(error) => {
                    counted(edge, remote, Err::<(), _>(error)).map_or_else(|failure| failure, |()| Failure::Internal)
                }
                error => joining::failure(&error),
            });
        }
        // After the last share it has joined, and opens once it has the cluster's records; the answer should already show it.
        let opened = async {
            let mut open = edge.barrier.watch_open();
            open.wait_for(|open| *open).await.map(drop)
        };
        if !waits_for_shares(edge) && tokio::time::timeout(OPEN_AFTER_JOIN_MAX, opened).await.is_err() {
            tracing::warn!("this node has joined, and does not have the cluster's records yet");
        }
        return Ok(render::json(StatusCode::OK, &seal_status(edge, &status(edge).await?)));
    }
    let number = share.number();
    let status = counted(edge, remote, edge.barrier.enter_share(share, request.migrate).await)?;
    let mut answer = seal_status(edge, &status);
    tell_holders(edge, &status, number, &mut answer).await;
    Ok(render::json(StatusCode::OK, &answer))
}

/// Who has entered a share is told who else has, by name, and who is still to come.
async fn tell_holders(edge: &Edge, status: &SealStatus, number: u8, answer: &mut body::SealStatus) {
    // At an open node nothing is taken, so nobody has shown that he holds a share.
    if !status.sealed || !status.entered.contains(&number) {
        return;
    }
    let Ok(seals) = edge.barrier.seals().await else { return };
    if seals.next.is_some() {
        // Numbers of two splits: they would name the wrong people.
        return;
    }
    let holders = |is_here: bool| -> Vec<String> {
        let numbered = (1..=u8::MAX).zip(&seals.shamir.holders);
        let fitting = numbered.filter(|(number, known)| status.entered.contains(number) == is_here && !known.holder.name.is_empty());
        fitting.map(|(_, known)| known.holder.name.clone()).collect()
    };
    if seals.shamir.holders.iter().any(|known| !known.holder.name.is_empty()) {
        answer.holders_present = Some(holders(true));
        answer.holders_missing = Some(holders(false));
    }
}

/// A test of one share. The share itself is the proof that its holder asks.
async fn verify_share(edge: &Edge, bytes: &SecretBytes, remote: SocketAddr) -> Result<Response, Failure> {
    // EXPOSE: the share is parsed out of the body.
    let request: Result<body::UnsealRequest, _> = serde_json::from_slice(bytes.expose());
    let text = Zeroizing::new(request.ok().and_then(|request| request.key).unwrap_or_default());
    if text.is_empty() {
        return Err(Failure::Ceremony("'key' must be specified in request body as JSON".into()));
    }
    let share = parse_share(edge, &text, remote)?;
    let KnownShare { number, holder, is_next, .. } = counted(edge, remote, edge.barrier.know_share(&share).await)?;
    let cluster_name = status(edge).await?.cluster.map(|(_, name)| name).unwrap_or_default();
    let answer = json!({ "number": number, "holder": holder, "valid": true, "is_next": is_next, "cluster_name": cluster_name });
    Ok(render::json(StatusCode::OK, &answer))
}

fn share_failure(error: &ShareError) -> Failure {
    match error {
        ShareError::NotInitialized
        | ShareError::OtherCluster { .. }
        | ShareError::OtherSplit { .. }
        | ShareError::WrongSplit { .. }
        | ShareError::UnknownPurpose
        | ShareError::Repeated { .. }
        | ShareError::Malformed(_)
        | ShareError::SealedMeanwhile
        | ShareError::Refused(_) => Failure::Ceremony(error.to_string()),
        ShareError::NoCoordinator | ShareError::NotHandedOn => Failure::Unavailable(error.to_string()),
        ShareError::Unseal(_) | ShareError::Keyring(_) | ShareError::Record(_) => internal(error),
    }
}

/// Go's zero time: this node does not lead.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

fn leader(edge: &Edge) -> body::Leader {
    let status = edge.raft.status();
    let leader = status.leader.as_ref().and_then(|id| status.members.iter().find(|member| member.id == *id));
    body::Leader {
        ha_enabled: true,
        is_self: status.role == Role::Leader,
        active_time: edge.facts.leading_since().map_or_else(|| ZERO_TIME.into(), rfc3339),
        leader_address: leader.map(|leader| leader.member.api_address.clone()).unwrap_or_default(),
        leader_cluster_address: leader.map(|leader| leader.member.cluster_address.clone()).unwrap_or_default(),
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
        raft_committed_index: status.committed.map_or(0, |index| index.0),
        raft_applied_index: status.applied.map_or(0, |index| index.0),
    }
}

/// What a load balancer is told of a node: a code for each state, all of which parameters change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HealthCodes {
    active: StatusCode,
    standby: StatusCode,
    sealed: StatusCode,
    uninitialized: StatusCode,
}

impl HealthCodes {
    /// Reads the parameters, as Vault does: the first value of each counts. Those for states that no node is ever in here (a
    /// secondary's, a removed node's) are checked all the same.
    fn parse(query: &[(String, String)]) -> Result<HealthCodes, Failure> {
        let given = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let flag = |name: &str| match given(name) {
            None => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some(_) => Err(Failure::Header(format!("bad value for {name} parameter (write true or false)"))),
        };
        let code = |name: &str, default: StatusCode| {
            let bad = || Failure::Header(format!("bad value for {name} parameter (write a status code, 200 to 599)"));
            let Some(text) = given(name) else { return Ok(default) };
            let number = text.parse::<u16>().ok().filter(|number| (200..600).contains(number)).ok_or_else(bad)?;
            StatusCode::from_u16(number).map_err(|_| bad())
        };
        for name in ["drsecondarycode", "performancestandbycode", "removedcode"] {
            code(name, StatusCode::OK)?;
        }
        let active = code("activecode", StatusCode::OK)?;
        let standby_ok = flag("standbyok")? | flag("perfstandbyok")?;
        // A node that knows no leader is what Vault calls a standby, and newer ones a standby without a healthy connection: who
        // names that code means it, whether or not standbys are to be fine. Some releases misspell the name.
        let mut standby = code("standbycode", StatusCode::TOO_MANY_REQUESTS)?;
        if standby_ok {
            standby = active;
        }
        for name in ["haunhealhty", "haunhealhtycode", "haunhealthycode"] {
            standby = code(name, standby)?;
        }
        let sealed = code("sealedcode", StatusCode::SERVICE_UNAVAILABLE)?;
        let uninitialized = code("uninitcode", StatusCode::NOT_IMPLEMENTED)?;
        Ok(HealthCodes { active, standby, sealed, uninitialized })
    }
}

/// Every unsealed node serves reads and writes, so each is "active" to a load balancer (200), unless it knows no leader:
/// then it is a standby (429). Parameters change the codes, as Vault's do.
async fn health(edge: &Edge, head: &Parts) -> Result<Response, Failure> {
    let codes = HealthCodes::parse(&read::query(head.uri.query().unwrap_or_default())?)?;
    let status = status(edge).await?;
    let standby = edge.raft.status().leader.is_none();
    let code = match (status.initialized, status.sealed, standby) {
        // Whatever codes are asked for: a load balancer is to send nothing more.
        _ if edge.stopping.is_cancelled() => StatusCode::SERVICE_UNAVAILABLE,
        (false, _, _) => codes.uninitialized,
        (true, true, _) => codes.sealed,
        (true, false, true) => codes.standby,
        (true, false, false) => codes.active,
    };
    let (cluster_id, cluster_name) = status.cluster.map(|(id, name)| (id.to_string(), name)).unwrap_or_default();
    let answer = body::Health {
        initialized: status.initialized,
        sealed: status.sealed,
        standby,
        performance_standby: false,
        replication_performance_mode: "disabled".into(),
        replication_dr_mode: "disabled".into(),
        server_time_utc: edge.clock.now().seconds(),
        version: edge.facts.api_version().into(),
        cluster_name,
        cluster_id,
    };
    let mut response = render::json(code, &answer);
    let headers = response.headers_mut();
    if let Ok(value) = http::HeaderValue::from_str(VERSION) {
        headers.insert("x-conclave-version", value);
    }
    if let Ok(value) = http::HeaderValue::from_str(edge.node_id.as_str()) {
        headers.insert("x-vault-raft-node-id", value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routes_without_a_token_are_these() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
        let routes: Vec<&str> = ROUTES.iter().map(|route| route.pattern).collect();
        assert_eq!(
            routes,
            [
                "sys/health",
                "sys/init",
                "sys/leader",
                "sys/seal-status",
                "sys/storage/raft/bootstrap/answer",
                "sys/storage/raft/bootstrap/challenge",
                "sys/storage/raft/bootstrap/renew",
                "sys/storage/raft/join",
                "sys/unseal",
                "sys/verify-share"
            ]
        );
    }

    #[test]
    fn health_answers_with_the_codes_that_are_asked_for() {
        let codes = |text: &str| HealthCodes::parse(&read::query(text).unwrap());
        let numbers = |text: &str| {
            let codes = codes(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            [codes.active, codes.standby, codes.sealed, codes.uninitialized].map(|code| code.as_u16())
        };
        assert_eq!(numbers(""), [200, 429, 503, 501]);
        assert_eq!(numbers("activecode=299&standbycode=298&sealedcode=297&uninitcode=296"), [299, 298, 297, 296]);
        assert_eq!(numbers("activecode=204&standbyok"), [204, 204, 503, 501]);
        assert_eq!(numbers("standbyok=true&standbycode=500"), [200, 200, 503, 501]);
        assert_eq!(numbers("perfstandbyok=1&standbyok=false"), [200, 200, 503, 501]);
        assert_eq!(numbers("standbyok=0"), [200, 429, 503, 501]);
        assert_eq!(numbers("haunhealthycode=474"), [200, 474, 503, 501]);
        assert_eq!(numbers("haunhealhtycode=475&standbyok&standbycode=429"), [200, 475, 503, 501]);
        assert_eq!(
            numbers("drsecondarycode=472&performancestandbycode=473&removedcode=530&sealedcode=200&sealedcode=201"),
            [200, 429, 200, 501]
        );
        for bad in ["activecode=x", "sealedcode=", "uninitcode=99", "standbycode=100", "drsecondarycode=1000", "standbyok=maybe"] {
            let error = codes(bad).unwrap_err().to_string();
            assert!(error.contains(bad.split('=').next().unwrap()), "{bad}: {error}");
        }
    }

    #[test]
    fn init_refuses_what_it_cannot_do_instead_of_ignoring_it() {
        let fits = |text: &str| {
            let order = parse_init(text.as_bytes(), types::Timestamp(1))?;
            Ok::<_, Failure>((order.shares.split().quorum().shares(), order.shares.split().quorum().threshold()))
        };
        assert_eq!(fits(r#"{"secret_shares":5,"secret_threshold":3}"#).unwrap(), (5, 3));
        assert_eq!(fits(r#"{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"stored_shares":1}"#).unwrap(), (1, 1));
        for (text, names) in [
            (r#"{"secret_shares":5,"secret_threshold":3,"pgp_keys":["k"]}"#, "pgp_keys"),
            (r#"{"secret_shares":5,"secret_threshold":3,"root_token_pgp_key":"k"}"#, "root_token_pgp_key"),
            (r#"{"secret_shares":1,"secret_threshold":1,"recipients":["nobody"]}"#, "recipients: key 1"),
            (r#"{"secret_shares":2,"secret_threshold":2,"holders":["Ada"]}"#, "1 holders were named for 2 shares"),
            (r#"{"secret_shares":1,"secret_threshold":1,"root_token_recipient":"nobody"}"#, "root_token_recipient"),
            (r#"{"secret_shares":1,"secret_threshold":1,"recovery_pgp_keys":["k"]}"#, "recovery_pgp_keys"),
            (r#"{"secret_shares":5}"#, "secret_threshold"),
            (r#"{"secret_shares":2,"secret_threshold":3}"#, "threshold"),
            (r#"{"secret_shares":256,"secret_threshold":3}"#, "shares"),
            (r#"{"secret_shares":3,"secret_threshold":1}"#, "threshold"),
            (r#"[]"#, "object"),
        ] {
            let error = fits(text).unwrap_err().to_string();
            assert!(error.contains(names), "{text}: {error}");
        }
    }
}
