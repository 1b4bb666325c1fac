//! The few routes that work while sealed, without a token: init, unseal, seal status, health, leader.

use axum::response::Response;
use barrier::{InitError, SealStatus, ShareError};
use crypto::{Quorum, SecretBytes, Share, Zeroizing};
use http::request::Parts;
use http::{Method, StatusCode};
use proto::http as body;
use raft::Role;
use serde::Deserialize;
use serde_json::Value;
use types::Path;

use super::{Edge, Failure, read, render};
use crate::{API_VERSION, VERSION};

/// A route of this page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Init,
    Unseal,
    SealStatus,
    Health,
    Leader,
}

/// Every route that is served without a token. A new one is a decision: the test below names them all.
const ROUTES: &[(&str, Route)] = &[
    ("sys/health", Route::Health),
    ("sys/init", Route::Init),
    ("sys/leader", Route::Leader),
    ("sys/seal-status", Route::SealStatus),
    ("sys/unseal", Route::Unseal),
];

/// The route at `path`, if it is one of them.
pub(super) fn find(path: &Path) -> Option<Route> {
    ROUTES.iter().find(|(known, _)| *known == path.as_str()).map(|(_, route)| *route)
}

/// Answers.
pub(super) async fn handle(edge: &Edge, route: Route, head: &Parts, body: &SecretBytes) -> Result<Response, Failure> {
    let is_write = matches!(head.method, Method::PUT | Method::POST);
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    match route {
        Route::Init if is_read => {
            let initialized = edge.barrier.is_initialized().await.map_err(|error| internal(&error))?;
            Ok(render::json(StatusCode::OK, &body::Initialized { initialized }))
        }
        Route::Init if is_write => init(edge, body).await,
        Route::Unseal if is_write => unseal(edge, body).await,
        Route::SealStatus if is_read => Ok(render::json(StatusCode::OK, &seal_status(&status(edge).await?))),
        Route::Health if is_read => health(edge, head).await,
        Route::Leader if is_read => Ok(render::json(StatusCode::OK, &leader(edge))),
        _ => Err(Failure::Method),
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    tracing::error!(%error, "a system route failed");
    Failure::Internal
}

async fn status(edge: &Edge) -> Result<SealStatus, Failure> {
    edge.barrier.status().await.map_err(|error| internal(&error))
}

/// The build's own fields of `sys/seal-status`; dates are not in the build, so that it can be repeated.
fn seal_status(status: &SealStatus) -> body::SealStatus {
    let (id, name) = status.cluster.as_ref().map(|(id, name)| (id.to_string(), name.clone())).unwrap_or_default();
    body::SealStatus {
        kind: "shamir".into(),
        initialized: status.initialized,
        sealed: status.sealed,
        t: status.quorum.map_or(0, |quorum| quorum.threshold().into()),
        n: status.quorum.map_or(0, |quorum| quorum.shares().into()),
        progress: status.progress.into(),
        nonce: status.nonce.clone(),
        version: API_VERSION.into(),
        build_date: String::new(),
        commit_date: String::new(),
        migration: false,
        cluster_name: name,
        cluster_id: id,
        recovery_seal: false,
        storage_type: "raft".into(),
    }
}

/// `PUT sys/init`, as clients send it. What is not built is refused unless it asks for nothing.
#[derive(Deserialize)]
struct InitBody {
    secret_shares: Option<u64>,
    secret_threshold: Option<u64>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
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

fn parse_init(bytes: &[u8]) -> Result<Quorum, Failure> {
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
    Quorum::new(shares, threshold).map_err(|error| refuse(error.to_string()))
}

async fn init(edge: &Edge, bytes: &SecretBytes) -> Result<Response, Failure> {
    // EXPOSE: the request holds numbers only.
    let quorum = parse_init(bytes.expose())?;
    let mut root_token = None;
    let found = |keyring: &barrier::Keyring| {
        let (plan, token) = service::found(keyring, edge.clock.now(), &*edge.rng);
        root_token = Some(token);
        plan
    };
    let initialized = edge.barrier.initialize(quorum, &edge.cluster_name, found).await.map_err(|error| match error {
        InitError::AlreadyInitialized => Failure::Ceremony("Vault is already initialized".into()),
        InitError::NoLeader => Failure::Unavailable("no leader with a quorum: start the other nodes, then init again".into()),
        InitError::DiskFull => Failure::Unavailable("the disk is almost full: make room on the nodes' disks, then init again".into()),
        InitError::Record(_) | InitError::Failed(_) => internal(&error),
    })?;
    let root_token = root_token.expect("an initialized cluster was founded");
    // The answer is the only place that ever shows them; it is not traced.
    let answer = body::InitResponse {
        keys: initialized.shares.iter().map(|share| share.to_hex().to_string()).collect(),
        keys_base64: initialized.shares.iter().map(|share| share.to_base64().to_string()).collect(),
        root_token: root_token.to_string(),
    };
    Ok(render::json(StatusCode::OK, &answer))
}

async fn unseal(edge: &Edge, bytes: &SecretBytes) -> Result<Response, Failure> {
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
    let share = Share::parse_text(&text).map_err(|error| Failure::Ceremony(format!("'key' is no share: {error}")))?;
    let done = if request.reset { edge.barrier.reset_ceremony(&share).await } else { edge.barrier.enter_share(share).await };
    let status = done.map_err(|error| share_failure(&error))?;
    Ok(render::json(StatusCode::OK, &seal_status(&status)))
}

fn share_failure(error: &ShareError) -> Failure {
    match error {
        ShareError::NotInitialized
        | ShareError::Unknown { .. }
        | ShareError::Repeated { .. }
        | ShareError::Malformed(_)
        | ShareError::SealedMeanwhile
        | ShareError::Refused(_) => Failure::Ceremony(error.to_string()),
        ShareError::NoCoordinator => Failure::Unavailable(error.to_string()),
        ShareError::Unseal(_) | ShareError::Keyring(_) | ShareError::Record(_) => internal(error),
    }
}

fn leader(edge: &Edge) -> body::Leader {
    let status = edge.raft.status();
    let leader = status.leader.as_ref().and_then(|id| status.members.iter().find(|member| member.id == *id));
    body::Leader {
        ha_enabled: true,
        is_self: status.role == Role::Leader,
        active_time: "0001-01-01T00:00:00Z".into(),
        leader_address: leader.map(|leader| leader.member.api_address.clone()).unwrap_or_default(),
        leader_cluster_address: leader.map(|leader| leader.member.cluster_address.clone()).unwrap_or_default(),
        performance_standby: false,
        performance_standby_last_remote_wal: 0,
        raft_committed_index: status.committed.map_or(0, |index| index.0),
        raft_applied_index: status.applied.map_or(0, |index| index.0),
    }
}

/// Every unsealed node serves reads and writes, so each is "active" to a load balancer (200), unless it knows no leader:
/// then it is a standby (429). Parameters change the codes, as Vault's do.
async fn health(edge: &Edge, head: &Parts) -> Result<Response, Failure> {
    let status = status(edge).await?;
    let raft = edge.raft.status();
    let standby = raft.leader.is_none();
    let query = read::query(head.uri.query().unwrap_or_default())?;
    let code = |name: &str, default: u16| -> Result<StatusCode, Failure> {
        let given = query.iter().rev().find(|(known, _)| known == name);
        let bad = || Failure::Header(format!("{name} must be a status code, 100 to 999"));
        let number = given.map_or(Ok(default), |(_, value)| value.parse().map_err(|_| bad()))?;
        StatusCode::from_u16(number).map_err(|_| bad())
    };
    let standby_ok =
        query.iter().any(|(name, value)| (name == "standbyok" || name == "perfstandbyok") && (value.is_empty() || value == "true"));
    let code = if !status.initialized {
        code("uninitcode", 501)?
    } else if status.sealed {
        code("sealedcode", 503)?
    } else if standby && !standby_ok {
        code("standbycode", 429)?
    } else {
        code("activecode", 200)?
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
        version: API_VERSION.into(),
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
        let routes: Vec<&str> = ROUTES.iter().map(|(path, _)| *path).collect();
        assert_eq!(routes, ["sys/health", "sys/init", "sys/leader", "sys/seal-status", "sys/unseal"]);
    }

    #[test]
    fn init_refuses_what_it_cannot_do_instead_of_ignoring_it() {
        let fits = |text: &str| parse_init(text.as_bytes()).map(|quorum| (quorum.shares(), quorum.threshold()));
        assert_eq!(fits(r#"{"secret_shares":5,"secret_threshold":3}"#).unwrap(), (5, 3));
        assert_eq!(fits(r#"{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"stored_shares":1}"#).unwrap(), (1, 1));
        for (text, names) in [
            (r#"{"secret_shares":5,"secret_threshold":3,"pgp_keys":["k"]}"#, "pgp_keys"),
            (r#"{"secret_shares":5,"secret_threshold":3,"root_token_pgp_key":"k"}"#, "root_token_pgp_key"),
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
