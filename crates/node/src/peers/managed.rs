//! A node that makes its certificate itself: founds a cluster at its init, or joins one; and renews the certificate before it ends.
//!
//! Always: a node founds or joins once, and never both; it belongs to a cluster from the moment that its certificate or its membership is
//! on its disk. A certificate is renewed on the same key, so the others need not hear of it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use barrier::Barrier;
use barrier::identity::{JoinKeys, JoinSecret, JoinShares, JoinToken, Joined, JoinerFacts, SealedRequest};
use crypto::{Share, Zeroizing};
use raft::grpc::PeerTls;
use raft::{ChangeOptions, Member, MemberChange, Raft};
use serde_json::{Value, json};
use storage::DataDir;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use types::{Clock, NodeId};

use super::http::{CallError, Target, TargetTls, decoded, encoded};
use super::own::{OwnError, OwnKey, Shown};
use crate::config::{Config, JOIN_TOKEN_VARIABLE, JoinConfig, JoinPlace, Url};

/// How much of a certificate's life is left when it is renewed: a third.
const RENEWAL_PART: u32 = 3;
/// By how much certificates are dated back: this part of their life was none.
const BACKDATING: Duration = Duration::from_secs(3600);
/// How often the keeper looks at the clock, at least, as it may have been set; and at the members.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// After a renewal that failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);
/// Between two rounds of asking to be taken in: grows up to the second.
const JOIN_RETRY_MIN: Duration = Duration::from_millis(500);
const JOIN_RETRY_MAX: Duration = Duration::from_secs(15);
/// The largest file with a token or a certificate.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What this node tells of itself, and where its certificate is.
pub(crate) struct Managed {
    node_id: NodeId,
    cluster_name: String,
    cluster_address: String,
    api_address: String,
    join: JoinConfig,
    certificate_ttl: Duration,
    key: OwnKey,
    data_dir: Arc<DataDir>,
    clock: Arc<dyn Clock>,
    identity: Arc<watch::Sender<Option<PeerTls>>>,
    shown: Mutex<Option<Shown>>,
    /// Held by who founds a cluster or joins one.
    deciding: tokio::sync::Mutex<()>,
    /// A join that waits for shares.
    waiting: Mutex<Option<Waiting>>,
    /// A join that an operator has asked for, and that is tried again.
    retrying: Mutex<Option<(Target, JoinBy, bool)>>,
    asked: Notify,
    floors: OnceLock<(Raft, Barrier)>,
}

/// A join that waits for shares.
struct Waiting {
    target: Target,
    shares: JoinShares,
    non_voter: bool,
}

/// How far the shares have come with which this node is to join.
pub(crate) struct WaitingStatus {
    pub(crate) cluster: (types::ClusterId, String),
    pub(crate) quorum: crypto::Quorum,
    pub(crate) entered: Vec<u8>,
}

/// By what a node joins.
pub(crate) enum JoinBy {
    Token(JoinToken),
    Shares,
}

/// What came of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    Joined,
    /// It waits for the cluster's shares to be entered here.
    NeedsShares,
    /// It belongs to a cluster already.
    Belongs,
}

/// Why a node did not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinFailure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}")]
    Answer(String),
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error("{0}")]
    Share(#[from] barrier::ShareError),
    #[error("the data folder")]
    Folder(#[from] storage::datadir::OpenError),
    #[error("{0}")]
    Token(String),
}

/// Why a node cannot found a cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundError {
    #[error("this node has joined a cluster, and gets its keys from there: unseal it")]
    Joined,
    #[error(transparent)]
    Bootstrap(#[from] raft::BootstrapError),
}

impl Managed {
    /// Reads the node's key and certificate, or makes the key.
    pub(super) fn open(
        config: &Config,
        cluster_address: &Url,
        certificate_ttl: Duration,
        data_dir: &Arc<DataDir>,
        clock: &Arc<dyn Clock>,
        identity: Arc<watch::Sender<Option<PeerTls>>>,
    ) -> Result<Managed, OwnError> {
        let key = OwnKey::open(data_dir)?;
        let shown = key.shown()?;
        let node_id = config.storage.node_id.clone();
        if let Some(shown) = &shown {
            identity.send_replace(Some(key.tls(&node_id, shown)?));
        }
        Ok(Managed {
            node_id,
            cluster_name: config.cluster_name.clone(),
            cluster_address: cluster_address.to_string(),
            api_address: config.api_addr.to_string(),
            join: config.storage.join.clone(),
            certificate_ttl,
            key,
            data_dir: Arc::clone(data_dir),
            clock: Arc::clone(clock),
            identity,
            shown: Mutex::new(shown),
            deciding: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            retrying: Mutex::default(),
            asked: Notify::new(),
            floors: OnceLock::new(),
        })
    }

    pub(super) fn attach(&self, raft: Raft, barrier: Barrier) {
        // Once, at the start.
        let _ = self.floors.set((raft, barrier));
    }

    fn floors(&self) -> &(Raft, Barrier) {
        self.floors.get().expect("they are attached before anything is served")
    }

    fn shown(&self) -> Option<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a certificate is valid that this node signs.
    pub(crate) fn certificate_ttl(&self) -> Duration {
        self.certificate_ttl
    }

    /// The members as they were when this node joined: whom it answers until it has a membership of its own.
    pub(super) fn members_at_join(&self, id: &NodeId) -> Option<Member> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref()?.members.iter().find(|(known, _)| known == id).map(|(_, member)| member.clone())
    }

    /// The members with which Raft begins again; `None`: this node has not joined anything, or is alone, and goes on with what it has.
    pub(super) fn first_members(&self) -> Option<std::collections::BTreeMap<NodeId, Member>> {
        let shown = self.shown()?;
        if shown.members.iter().all(|(id, _)| *id == self.node_id) {
            return None;
        }
        let own = (self.node_id.clone(), self.own_member());
        Some(shown.members.into_iter().chain([own]).collect())
    }

    fn own_member(&self) -> Member {
        Member {
            cluster_address: self.cluster_address.clone(),
            api_address: self.api_address.clone(),
            key: Some(self.key.pin()),
            non_voter: false,
        }
    }

    fn has_membership(&self) -> bool {
        !self.floors().0.status().members.is_empty()
    }

    /// Whether it belongs to a cluster, as founder or since it has joined.
    fn belongs(&self) -> bool {
        self.has_membership() || self.shown.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Before init: makes this node the first of a cluster, if it is none's.
    pub(crate) async fn found(&self) -> Result<(), FoundError> {
        let _deciding = self.deciding.lock().await;
        if self.has_membership() {
            return Ok(());
        }
        if self.belongs() {
            return Err(FoundError::Joined);
        }
        *self.waiting() = None;
        let members = std::collections::BTreeMap::from([(self.node_id.clone(), self.own_member())]);
        Ok(self.floors().0.bootstrap(members).await?)
    }

    /// Asks a node of a cluster to be taken in.
    pub(crate) async fn join(&self, target: &Target, by: &JoinBy, non_voter: bool) -> Result<JoinOutcome, JoinFailure> {
        let _deciding = self.deciding.lock().await;
        if self.belongs() {
            return Ok(JoinOutcome::Belongs);
        }
        let (challenge, seals) = self.challenge(target).await?;
        match by {
            JoinBy::Token(token) => {
                let joined = self.ask(target, token.secret(), &challenge, non_voter).await?;
                self.take(joined)?;
                Ok(JoinOutcome::Joined)
            }
            JoinBy::Shares => {
                let shares = JoinShares::new(seals).map_err(|error| JoinFailure::Answer(error.to_string()))?;
                let (id, name) = shares.cluster();
                if name != self.cluster_name {
                    let text = format!("{} is cluster {name:?}, not {:?} (set cluster_name)", target.address(), self.cluster_name);
                    return Err(JoinFailure::Answer(text));
                }
                let mut waiting = self.waiting();
                if waiting.as_ref().is_none_or(|waiting| waiting.shares.cluster().0 != id) {
                    tracing::info!(at = %target.address(), "joins a cluster once its shares are entered here (`conclave operator unseal`)");
                    *waiting = Some(Waiting { target: target.clone(), shares, non_voter });
                }
                Ok(JoinOutcome::NeedsShares)
            }
        }
    }

    async fn challenge(&self, target: &Target) -> Result<(bytes::Bytes, bytes::Bytes), JoinFailure> {
        let answer = target.post("sys/storage/raft/bootstrap/challenge", &json!({ "node_id": self.node_id.as_str() })).await?;
        let challenge = decoded(&answer, "challenge").zip(decoded(&answer, "seals"));
        challenge.ok_or_else(|| JoinFailure::Answer(format!("{} gave no challenge: is it a node of this software?", target.address())))
    }

    async fn ask(&self, target: &Target, secret: JoinSecret, challenge: &[u8], non_voter: bool) -> Result<Joined, JoinFailure> {
        let facts = JoinerFacts {
            node_id: self.node_id.clone(),
            cluster_name: self.cluster_name.clone(),
            cluster_address: self.cluster_address.clone(),
            api_address: self.api_address.clone(),
            certificate_request: self.key.request()?,
            non_voter,
        };
        let sent = facts.request(secret, challenge);
        let SealedRequest { message, mac } = sent.request();
        let body = json!({ "request": encoded(message), "mac": encoded(mac) });
        let answer = target.post("sys/storage/raft/bootstrap/answer", &body).await?;
        let sealed = decoded(&answer, "answer").zip(decoded(&answer, "mac")).map(|(message, mac)| SealedRequest { message, mac });
        let sealed = sealed.ok_or_else(|| JoinFailure::Answer(format!("{} gave no answer", target.address())))?;
        sent.accept(&sealed).map_err(|error| JoinFailure::Answer(format!("{}: {error}", target.address())))
    }

    /// Belongs to a cluster from now on.
    fn take(&self, joined: Joined) -> Result<(), JoinFailure> {
        let shown = Shown {
            cluster_id: joined.cluster_id,
            cluster_name: self.cluster_name.clone(),
            authority: joined.authority,
            certificate: joined.certificate,
            members: joined.members,
        };
        self.data_dir.bind_cluster(shown.cluster_id)?;
        self.show(shown)?;
        *self.waiting() = None;
        tracing::info!("this node has joined the cluster");
        Ok(())
    }

    /// Keeps a certificate, and shows it to peers from now on.
    fn show(&self, shown: Shown) -> Result<(), OwnError> {
        let tls = self.key.tls(&self.node_id, &shown)?;
        tls.check(&self.node_id, self.clock.now()).map_err(OwnError::Tls)?;
        self.key.keep(&shown)?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        self.identity.send_replace(Some(tls));
        Ok(())
    }

    /// How far the shares have come with which this node is to join; `None`: it waits for none.
    pub(crate) fn waiting_status(&self) -> Option<WaitingStatus> {
        let waiting = self.waiting();
        let shares = &waiting.as_ref()?.shares;
        let (id, name) = shares.cluster();
        Some(WaitingStatus { cluster: (id, name.to_owned()), quorum: shares.quorum(), entered: shares.entered() })
    }

    /// Takes a share with which this node is to join. At the threshold it does; `None`: it waits for no shares.
    pub(crate) async fn enter_share(&self, share: Share) -> Option<Result<(), JoinFailure>> {
        let (keys, target, non_voter) = {
            let mut waiting = self.waiting();
            let waiting = waiting.as_mut()?;
            match waiting.shares.enter(share) {
                Ok(None) => return Some(Ok(())),
                Ok(Some(keys)) => (keys, waiting.target.clone(), waiting.non_voter),
                Err(error) => return Some(Err(error.into())),
            }
        };
        Some(self.join_by_shares(&target, keys, non_voter).await)
    }

    async fn join_by_shares(&self, target: &Target, keys: JoinKeys, non_voter: bool) -> Result<(), JoinFailure> {
        let _deciding = self.deciding.lock().await;
        if self.belongs() {
            return Ok(());
        }
        // The one that it waited with is too old by now.
        let (challenge, _) = self.challenge(target).await?;
        let joined = self.ask(target, keys.secret(), &challenge, non_voter).await?;
        let seal_epoch = joined.seal_epoch;
        self.take(joined)?;
        self.floors().1.open_once_replicated(keys, seal_epoch);
        Ok(())
    }

    /// Goes on trying what has failed, in place of what was tried before.
    pub(crate) fn retry(&self, target: Target, by: JoinBy, non_voter: bool) {
        *self.retrying.lock().unwrap_or_else(PoisonError::into_inner) = Some((target, by, non_voter));
        self.asked.notify_one();
    }

    /// While it belongs to no cluster: asks the places of the configuration in turn to be taken in, and the one that an operator has named.
    pub(super) async fn keep_asking(&self, stop: &CancellationToken) {
        let mut pause = JOIN_RETRY_MIN;
        while !self.belongs() {
            let round = async {
                self.ask_again().await;
                for place in &self.join.places {
                    match self.ask_at(place).await {
                        Ok(JoinOutcome::Joined | JoinOutcome::Belongs | JoinOutcome::NeedsShares) => break,
                        Err(error) => tracing::warn!(%error, at = %place.address, "ask to be taken in"),
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
            let has_places = !self.join.places.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.asked.notified() => pause = JOIN_RETRY_MIN,
                () = tokio::time::sleep(pause), if has_places || self.is_retrying() => {}
                // Whether it has been founded meanwhile.
                () = tokio::time::sleep(JOIN_RETRY_MAX) => {}
            }
            pause = (pause * 2).min(JOIN_RETRY_MAX);
        }
        *self.retrying.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_retrying(&self) -> bool {
        self.retrying.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn ask_again(&self) {
        let Some((target, by, non_voter)) = self.retrying.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if let Err(error) = self.join(&target, &by, non_voter).await {
            tracing::warn!(%error, "join a cluster");
            // Unless another was named meanwhile.
            self.retrying.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((target, by, non_voter));
        }
    }

    async fn ask_at(&self, place: &JoinPlace) -> Result<JoinOutcome, JoinFailure> {
        let by = match read_token(place).await? {
            Some(token) => JoinBy::Token(token),
            None => JoinBy::Shares,
        };
        let read = async |path: Option<&std::path::PathBuf>| match path {
            Some(path) => read_file(path).await.map(Some),
            None => Ok(None),
        };
        let ca = read(place.ca.as_ref()).await?;
        let client = match &place.client {
            Some((certificate, key)) => Some((read_file(certificate).await?, Zeroizing::new(read_file(key).await?))),
            None => None,
        };
        let target = Target::new(place.address.clone(), &TargetTls { ca, client, server_name: place.server_name.clone() })?;
        self.join(&target, &by, self.join.non_voter).await
    }

    /// Gets the certificate when there is none yet, and a new one before it ends; until `stop`.
    pub(super) async fn keep_certificate(&self, stop: &CancellationToken) {
        let mut open = self.floors().1.watch_open();
        let mut told = None;
        loop {
            let pause = match self.renew_when_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    // Once for each reason: it is tried every few seconds.
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "get a certificate for this node's peers");
                        told = Some(text);
                    }
                    RENEWAL_RETRY
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause.min(LOOK_MAX)) => {}
                changed = open.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Answers how long there is nothing to do.
    async fn renew_when_due(&self) -> Result<Duration, JoinFailure> {
        self.remember_members()?;
        let now = self.clock.now();
        let current = self.identity.borrow().clone();
        if let Some(current) = &current {
            let life = Duration::from_millis(current.valid_until().0.saturating_sub(current.valid_from().0)).saturating_sub(BACKDATING);
            let left = Duration::from_millis(current.valid_until().0.saturating_sub(now.0));
            let rest = life / RENEWAL_PART;
            if left > rest {
                return Ok(left - rest);
            }
        }
        let (raft, barrier) = self.floors();
        if !self.has_membership() && current.is_none() {
            // It belongs to no cluster yet.
            return Ok(RENEWAL_RETRY / 5);
        }
        let request = self.key.request()?;
        if !barrier.is_sealed() {
            self.describe_itself(raft).await?;
            let said = |error: barrier::identity::RenewRefusal| JoinFailure::Answer(error.to_string());
            let certificate = barrier.renew_certificate(&self.node_id, &request, self.certificate_ttl).await.map_err(said)?;
            let authority = barrier.authority_certificate().await.map_err(said)?;
            let status = barrier.status().await.map_err(|error| JoinFailure::Answer(error.to_string()))?;
            let (cluster_id, cluster_name) = status.cluster.ok_or_else(|| JoinFailure::Answer("the cluster has no keys".into()))?;
            let members = raft.status().members.into_iter().map(|info| (info.id, info.member)).collect();
            self.show(Shown { cluster_id, cluster_name, authority, certificate, members })?;
        } else if let Some(shown) = self.shown() {
            let certificate = self.renew_elsewhere(raft, &shown, &request).await?.to_vec();
            self.show(Shown { certificate, ..shown })?;
        } else {
            // The first of its cluster, sealed: it signs for itself once it is open.
            return Ok(LOOK_MAX);
        }
        tracing::info!("this node's certificate for its peers is new");
        Ok(Duration::ZERO)
    }

    /// Keeps the members of now beside the certificate: a node that loses its log asks them.
    fn remember_members(&self) -> Result<(), OwnError> {
        let members: Vec<(NodeId, Member)> = self.floors().0.status().members.into_iter().map(|info| (info.id, info.member)).collect();
        let Some(shown) = self.shown() else { return Ok(()) };
        if members.is_empty() || members == shown.members {
            return Ok(());
        }
        let shown = Shown { members, ..shown };
        self.key.keep(&shown)?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(())
    }

    /// A node that was alone before it had peers is in the membership without key and address.
    async fn describe_itself(&self, raft: &Raft) -> Result<(), JoinFailure> {
        let status = raft.status();
        let own = self.own_member();
        let [only] = status.members.as_slice() else { return Ok(()) };
        if only.id == self.node_id && only.member != own {
            let change = MemberChange::Update { id: self.node_id.clone(), member: own };
            let changed = raft.change_members(change, ChangeOptions::default()).await;
            changed.map_err(|error| JoinFailure::Answer(error.to_string()))?;
            tracing::info!("the membership says this node's key and addresses now");
        }
        Ok(())
    }

    /// Asks other members at their clients' listeners, which takes no certificate of this node's: the request itself shows that it has the key.
    async fn renew_elsewhere(&self, raft: &Raft, shown: &Shown, request: &[u8]) -> Result<bytes::Bytes, JoinFailure> {
        let mut members: Vec<(NodeId, Member)> = raft.status().members.into_iter().map(|info| (info.id, info.member)).collect();
        if members.is_empty() {
            members = shown.members.clone();
        }
        let body = json!({ "node_id": self.node_id.as_str(), "certificate_request": encoded(request) });
        let mut last = JoinFailure::Answer("no other member to ask".into());
        for (id, member) in members.iter().filter(|(id, _)| *id != self.node_id) {
            match self.renew_at(&member.api_address, &body, shown).await {
                Ok(certificate) => return Ok(certificate),
                Err(error) => {
                    tracing::debug!(%error, at = %id, "ask for a new certificate");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn renew_at(&self, api_address: &str, body: &Value, shown: &Shown) -> Result<bytes::Bytes, JoinFailure> {
        let address = JoinPlace::named(api_address, None).map_err(JoinFailure::Answer)?.address;
        let target = Target::new(address, &TargetTls::default())?;
        let answer = target.post("sys/storage/raft/bootstrap/renew", body).await?;
        let certificate = decoded(&answer, "certificate").ok_or_else(|| JoinFailure::Answer("no certificate in the answer".into()))?;
        // Before it takes the place of another: whoever answered is not known.
        let tls = self.key.tls(&self.node_id, &Shown { certificate: certificate.to_vec(), ..shown.clone() })?;
        tls.check(&self.node_id, self.clock.now()).map_err(OwnError::Tls)?;
        Ok(certificate)
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, JoinFailure> {
    let said = |error: std::io::Error| JoinFailure::Token(format!("read {}: {error}", path.display()));
    if tokio::fs::metadata(path).await.map_err(said)?.len() > FILE_BYTES_MAX {
        return Err(JoinFailure::Token(format!("{} is too large", path.display())));
    }
    tokio::fs::read(path).await.map_err(said)
}

/// The token of a place, or of the environment; `None`: neither names one.
async fn read_token(place: &JoinPlace) -> Result<Option<JoinToken>, JoinFailure> {
    let text = match &place.token {
        Some(path) => Zeroizing::new(String::from_utf8(read_file(path).await?).unwrap_or_default()),
        None => match std::env::var(JOIN_TOKEN_VARIABLE) {
            Ok(text) if !text.is_empty() => Zeroizing::new(text),
            _ => return Ok(None),
        },
    };
    let place = place.token.as_ref().map_or_else(|| JOIN_TOKEN_VARIABLE.to_owned(), |path| path.display().to_string());
    JoinToken::parse(&text).map(Some).map_err(|error| JoinFailure::Token(format!("{place}: {error}")))
}
