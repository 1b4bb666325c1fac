//! Acts on the keys of an open cluster that take a quorum of shares: rekey, a root token, other seals. Each is an *attempt* that somebody
//! started, recorded in the barrier, so that every node knows it and it outlives any of them.
//!
//! Always: of each act at most one attempt is under way; the shares for it are in the coordinator's memory only, and are lost with it (then
//! they are entered again); what an act changes, it changes in one batch that expects the attempt, the seals and the keyring as they were
//! read. A rekey never leaves the cluster without shares that open it: the new ones take the place of the old once a quorum of them has come
//! back, and until then both open it.

use bytes::Bytes;
use crypto::rng::generate_bytes;
use crypto::{RootKey, SecretBytes, Share, ShareDigest};
use prost::Message;
use proto::peer::purpose;
use proto::stored;
use raft::ProposeError;
use storage::{Expectation, Write};
use types::{Revision, Timestamp};
use uuid::Uuid;

use crate::barrier::{AccessError, Barrier, CommitError};
use crate::journal::{self, Entry};
use crate::keyring::{Keyring, KeyringError};
use crate::name::Name;
use crate::opening::ShareError;
use crate::plan::Plan;
use crate::pool::Purpose;
use crate::records::{self, RecordError, Records};
use crate::seals::{NewSplit, Seals, Split, SplitStatus, StaticSealStatus, UnsealError};
use crate::verified::Times;
use crate::view::{View, ViewError};

/// What the details of an attempt may take, in bytes.
pub const DETAILS_BYTES_MAX: usize = 512 * 1024;

/// What a quorum of shares is asked for, besides opening the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// New shares, of a new seal key and a new root key.
    Rekey,
    /// A new root token.
    GenerateRoot,
    /// Other seals.
    Seals,
}

impl Act {
    fn name(self) -> Name {
        Name::new(match self {
            Act::Rekey => "core/ceremony/rekey",
            Act::GenerateRoot => "core/ceremony/generate-root",
            Act::Seals => "core/ceremony/seals",
        })
    }

    fn purpose(self, nonce: Uuid) -> Purpose {
        let act = match self {
            Act::Rekey => purpose::Act::Rekey,
            Act::GenerateRoot => purpose::Act::GenerateRoot,
            Act::Seals => purpose::Act::Seals,
        };
        Purpose::Act(act, nonce)
    }

    fn journalled(self) -> journal::Attempt {
        match self {
            Act::Rekey => journal::Attempt::Rekey,
            Act::GenerateRoot => journal::Attempt::GenerateRoot,
            Act::Seals => journal::Attempt::SealChange,
        }
    }
}

/// An attempt that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What it is for.
    pub act: Act,
    /// Names it.
    pub nonce: Uuid,
    /// When it was started.
    pub started: Timestamp,
    /// Who started it.
    pub started_by: String,
    /// What the upper floor needs to know.
    pub details: Vec<u8>,
    /// Of a rekey, once it has given out new shares: names their way back.
    pub verification_nonce: Option<Uuid>,
    revision: Revision,
}

/// An attempt, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStatus {
    /// Which.
    pub attempt: Attempt,
    /// The numbers of the shares that have come: the old ones, or, once there is a verification nonce, the new ones.
    pub entered: Vec<u8>,
    /// How many are needed.
    pub needed: u8,
    /// The split of which they are.
    pub split: SplitStatus,
    /// The new split, once there is one.
    pub next: Option<SplitStatus>,
}

/// A quorum has come: the root key, for one act of one attempt. Wiped on drop.
pub struct Proof {
    attempt: Attempt,
    root: RootKey,
}

impl Proof {
    /// Which attempt.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Ends the attempt in the transaction of `plan`, which is carried out once at most, and only while the attempt is under way. Its names
    /// are those of a view of everything.
    pub fn spend(&self, plan: &mut Plan) {
        plan.expect(self.attempt.act.name(), self.attempt.revision);
        plan.delete(self.attempt.act.name());
    }
}

impl Barrier {
    /// Writes down that the attempt of `proof` has reached its end.
    pub fn note_completed(&self, proof: &Proof) {
        let entry = Entry::new(journal::Act::AttemptCompleted { attempt: proof.attempt.act.journalled() });
        self.journal(entry.nonce(&proof.attempt.nonce.to_string()));
    }
}

/// What a share that was entered for an act has brought.
pub enum Step {
    /// More are needed.
    Waiting(AttemptStatus),
    /// A quorum has come.
    Proven(Proof),
}

/// What a new share that has come back has brought.
pub enum Verified {
    /// More are needed.
    Waiting(Box<AttemptStatus>),
    /// The new shares are in force, and the old ones open nothing any more.
    InForce,
}

/// What a rekey gives, once and never again.
pub struct NewShares {
    /// All shares, numbered from 1.
    pub shares: Vec<Share>,
    /// Names their way back.
    pub verification_nonce: Uuid,
}

/// A share that is one of this cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownShare {
    /// Its number.
    pub number: u8,
    /// Whose it is; may be empty.
    pub holder: String,
    /// Whether it is one of the new shares of a rekey that is under way.
    pub is_next: bool,
    /// Its public digest.
    pub digest: [u8; 32],
}

/// The seals, as operators see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealsStatus {
    /// The shares in force.
    pub shamir: SplitStatus,
    /// The shares of a rekey that have not come back yet.
    pub next: Option<SplitStatus>,
    /// The keys by which nodes open themselves.
    pub static_seals: Vec<StaticSealStatus>,
}

/// Why an act on the keys was not carried out. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Another attempt is under way.
    #[error("{} is under way already, started by {} (cancel it first)", act_text(*.act), .started_by)]
    UnderWay {
        /// At what.
        act: Act,
        /// By whom.
        started_by: String,
    },
    /// None is.
    #[error("no {} is under way", act_text(*.act))]
    NotUnderWay {
        /// At what.
        act: Act,
    },
    /// It is another attempt, or a later one.
    #[error("this is not the nonce of the attempt that is under way")]
    OtherNonce,
    /// The new shares are out: the old ones have done their part.
    #[error("the new shares are given out and have to come back now (verify them, or cancel)")]
    Verifying,
    /// There are none to verify.
    #[error("no new shares were given out yet")]
    NotVerifying,
    /// The share was not taken.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The root key is not the one in force any more.
    #[error("the keys were changed by somebody else meanwhile: start again")]
    Stale(#[from] UnsealError),
    /// A seal that would have to be made anew needs its key.
    #[error("this node has no key for the static seal {key_id:?}: do it at a node that has, or remove the seal first")]
    NoStaticKey {
        /// Which.
        key_id: String,
    },
    /// A seal for which there is no key in this node's configuration.
    #[error("this node's configuration has no static key {key_id:?}")]
    UnknownStaticKey {
        /// Which.
        key_id: String,
    },
    /// There are too many.
    #[error("there are {} static seals already (remove one first)", crate::seals::STATIC_SEALS_MAX)]
    TooManySeals,
    /// The details are larger than [`DETAILS_BYTES_MAX`].
    #[error("the attempt's details are larger than {DETAILS_BYTES_MAX} bytes")]
    DetailsTooLarge,
    /// The keyring cannot be changed.
    #[error("change the keyring")]
    Keyring(#[from] KeyringError),
    /// No view.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A record cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The records in clear cannot be read.
    #[error("read the seal records")]
    Record(#[from] RecordError),
    /// The keys, or the attempt, were changed by somebody else meanwhile.
    #[error("somebody else changed the keys or the attempt meanwhile: look at its state, and try again")]
    Conflict,
    /// No leader was found in time.
    #[error("no leader")]
    NoLeader,
    /// The disk of this node or of the leader is almost full.
    #[error("the disk is almost full")]
    DiskFull,
    /// It is written in a way that not every member reads yet: nothing was written.
    #[error(transparent)]
    FeatureLevel(raft::LevelTooLow),
    /// It may take effect, now or later.
    #[error("whether it was done is unknown (look at its state): {0}")]
    Indeterminate(String),
}

fn act_text(act: Act) -> &'static str {
    match act {
        Act::Rekey => "a rekey",
        Act::GenerateRoot => "the generation of a root token",
        Act::Seals => "a change of the seals",
    }
}

impl From<CommitError> for ActError {
    fn from(error: CommitError) -> ActError {
        match error {
            CommitError::Sealed => ActError::Access(AccessError::Sealed),
            CommitError::Conflict => ActError::Conflict,
            CommitError::TooLarge(_) => ActError::DetailsTooLarge,
            CommitError::Table(error) => ActError::View(ViewError::Table(error)),
            CommitError::NoLeader => ActError::NoLeader,
            CommitError::DiskFull => ActError::DiskFull,
            CommitError::FeatureLevel(error) => ActError::FeatureLevel(error),
            CommitError::Indeterminate(why) => ActError::Indeterminate(why),
            CommitError::Stopped => ActError::Indeterminate("the node is stopping".into()),
        }
    }
}

impl From<ProposeError> for ActError {
    fn from(error: ProposeError) -> ActError {
        crate::rotation::commit_error(error).into()
    }
}

/// Everything that an act on the keys goes by, at one applied state.
struct State {
    view: View,
    records: Records,
}

impl Barrier {
    /// The attempt at `act` that is under way, if any.
    pub async fn attempt(&self, act: Act) -> Result<Option<AttemptStatus>, ActError> {
        let state = self.state().await?;
        match read_attempt(&state.view, act)? {
            Some(attempt) => self.status_of(attempt, &state.records.seals).await.map(Some),
            None => Ok(None),
        }
    }

    /// Starts one. Who may do so is for the caller to check.
    pub async fn start_attempt(&self, act: Act, details: Vec<u8>, started_by: &str) -> Result<AttemptStatus, ActError> {
        if details.len() > DETAILS_BYTES_MAX {
            return Err(ActError::DetailsTooLarge);
        }
        let state = self.state().await?;
        if let Some(attempt) = read_attempt(&state.view, act)? {
            return Err(ActError::UnderWay { act, started_by: attempt.started_by });
        }
        let mut attempt = Attempt {
            act,
            nonce: uuid::Builder::from_random_bytes(generate_bytes(&*self.inner.rng)).into_uuid(),
            started: self.inner.clock.now(),
            started_by: started_by.to_owned(),
            details,
            verification_nonce: None,
            revision: Revision::ABSENT,
        };
        let mut plan = Plan::new();
        attempt.plan(&mut plan);
        attempt.revision = self.change(&state, &plan, Vec::new(), Vec::new()).await?;
        let entry = Entry::new(journal::Act::AttemptStarted { attempt: act.journalled() });
        self.journal(entry.nonce(&attempt.nonce.to_string()).actor(started_by));
        self.status_of(attempt, &state.records.seals).await
    }

    /// Ends an attempt and throws its shares away; new shares that were given out open nothing any more. Without a nonce, whichever it is.
    /// Who may do so is for the caller to check.
    pub async fn cancel_attempt(&self, act: Act, nonce: Option<Uuid>, by: &str) -> Result<(), ActError> {
        let state = self.state().await?;
        let Some(attempt) = read_attempt(&state.view, act)? else { return Ok(()) };
        if nonce.is_some_and(|nonce| nonce != attempt.nonce) {
            return Err(ActError::OtherNonce);
        }
        let mut plan = Plan::new();
        plan.expect(act.name(), attempt.revision);
        plan.delete(act.name());
        let mut writes = Vec::new();
        let mut expectations = Vec::new();
        if act == Act::Rekey && state.records.seals.has_next() {
            let seals = self.keys().with_all(|held| state.records.seals.without_next(held.keyring_key)).ok_or(AccessError::Sealed)?;
            writes.push(seals_write(&seals));
            expectations = state.records.expectations();
        }
        self.change(&state, &plan, expectations, writes).await?;
        self.reset_everywhere(act.purpose(attempt.nonce)).await;
        if let Some(nonce) = attempt.verification_nonce {
            self.reset_everywhere(Purpose::Act(purpose::Act::Verify, nonce)).await;
        }
        let entry = Entry::new(journal::Act::AttemptCancelled { attempt: act.journalled() });
        self.journal(entry.nonce(&attempt.nonce.to_string()).actor(by));
        Ok(())
    }

    /// Takes a share for an attempt.
    pub async fn enter_share_for(&self, act: Act, nonce: Uuid, share: Share) -> Result<Step, ActError> {
        let state = self.state().await?;
        let attempt = read_attempt(&state.view, act)?.ok_or(ActError::NotUnderWay { act })?;
        if attempt.nonce != nonce {
            return Err(ActError::OtherNonce);
        }
        if attempt.verification_nonce.is_some() {
            return Err(ActError::Verifying);
        }
        let entered = self.enter(act.purpose(nonce), share, false).await?;
        match entered.root {
            Some(root) => Ok(Step::Proven(Proof { attempt, root })),
            None => Ok(Step::Waiting(self.status_of(attempt, &state.records.seals).await?)),
        }
    }

    /// Draws a new seal key and a new root key, and splits the former. The new shares open the cluster from now on, beside the old ones; they
    /// are in force when a quorum of them has come back ([`Barrier::verify_share_of_rekey`], or an unseal).
    ///
    /// When the call is dropped half-way, or its answer is lost, cancel the attempt: the old shares stay in force.
    pub async fn rekey(&self, proof: &Proof, split: &NewSplit) -> Result<NewShares, ActError> {
        self.rekey_with(proof, split, |_| Plan::new()).await
    }

    /// As [`Barrier::rekey`], and what `keep` plans for the new shares is written with them, all or nothing: the same shares encrypted to
    /// their holders, say. Its names are those of a view of everything.
    pub async fn rekey_with(
        &self,
        proof: &Proof,
        split: &NewSplit,
        keep: impl FnOnce(&[Share]) -> Plan + Send,
    ) -> Result<NewShares, ActError> {
        let state = self.state().await?;
        let (rng, static_keys) = (&*self.inner.rng, &self.inner.opening.static_keys);
        let (seals, shares) = state
            .records
            .seals
            .with_next(&proof.root, split, static_keys, self.inner.clock.now(), rng)
            .map_err(|key_id| ActError::NoStaticKey { key_id })?;
        seals.check(&proof.root.derive_keyring_key())?;
        self.vouched(&state.records)?;
        let verification_nonce = uuid::Builder::from_random_bytes(generate_bytes(rng)).into_uuid();
        let attempt = Attempt { verification_nonce: Some(verification_nonce), ..proof.attempt.clone() };
        let mut plan = keep(&shares);
        attempt.plan(&mut plan);
        self.change(&state, &plan, state.records.expectations(), vec![seals_write(&seals)]).await?;
        let (shares_count, threshold) = (split.quorum().shares(), split.quorum().threshold());
        let entry = Entry::new(journal::Act::AttemptStarted { attempt: journal::Attempt::RekeyVerification });
        let entry = entry.nonce(&verification_nonce.to_string());
        self.journal(entry.outcome(format!("{shares_count} new shares, of which {threshold} have to come back, were given out")));
        Ok(NewShares { shares, verification_nonce })
    }

    /// Takes a new share that comes back. With the last one that is needed the new shares are in force, and the old ones open nothing.
    pub async fn verify_share_of_rekey(&self, verification_nonce: Uuid, share: Share) -> Result<Verified, ActError> {
        let state = self.state().await?;
        let attempt = read_attempt(&state.view, Act::Rekey)?.ok_or(ActError::NotUnderWay { act: Act::Rekey })?;
        match attempt.verification_nonce {
            None => return Err(ActError::NotVerifying),
            Some(nonce) if nonce != verification_nonce => return Err(ActError::OtherNonce),
            Some(_) => {}
        }
        let entered = self.enter(Purpose::Act(purpose::Act::Verify, verification_nonce), share, false).await?;
        match entered.root {
            Some(next_root) => {
                self.promote(&next_root).await?;
                Ok(Verified::InForce)
            }
            None => Ok(Verified::Waiting(Box::new(self.status_of(attempt, &state.records.seals).await?))),
        }
    }

    /// Throws the new shares that have come back away, and asks for all of them again under a new nonce.
    pub async fn restart_verification(&self, verification_nonce: Option<Uuid>) -> Result<AttemptStatus, ActError> {
        let state = self.state().await?;
        let attempt = read_attempt(&state.view, Act::Rekey)?.ok_or(ActError::NotUnderWay { act: Act::Rekey })?;
        let known = attempt.verification_nonce.ok_or(ActError::NotVerifying)?;
        if verification_nonce.is_some_and(|nonce| nonce != known) {
            return Err(ActError::OtherNonce);
        }
        let nonce = uuid::Builder::from_random_bytes(generate_bytes(&*self.inner.rng)).into_uuid();
        let mut attempt = Attempt { verification_nonce: Some(nonce), ..attempt };
        let mut plan = Plan::new();
        attempt.plan(&mut plan);
        attempt.revision = self.change(&state, &plan, Vec::new(), Vec::new()).await?;
        self.reset_everywhere(Purpose::Act(purpose::Act::Verify, known)).await;
        self.status_of(attempt, &state.records.seals).await
    }

    /// Puts the next seals, whose shares have come back, in force; done already is done.
    pub(crate) async fn promote(&self, next_root: &RootKey) -> Result<(), ActError> {
        loop {
            let state = self.state().await?;
            let Some(seals) = state.records.seals.promoted(next_root) else { return Ok(()) };
            let (cluster, next) = (state.records.seals.cluster_id, next_root.derive_keyring_key());
            seals.check(&next)?;
            let resealed =
                |held: crate::keys::Held<'_>| Keyring::resealed(held.keyring_key, &next, cluster, &state.records.keyring, &*self.inner.rng);
            let keyring = self.keys().with_all(resealed).ok_or(AccessError::Sealed)??;
            let mut plan = Plan::new();
            if let Some(attempt) = read_attempt(&state.view, Act::Rekey)? {
                plan.expect(Act::Rekey.name(), attempt.revision);
                plan.delete(Act::Rekey.name());
            }
            self.keys().expect_key(next_root.derive_keyring_key());
            let writes = vec![seals_write(&seals), Write { key: records::keyring_key(), value: Some(keyring.into()) }];
            match self.change(&state, &plan, state.records.expectations(), writes).await {
                Ok(_) => break,
                Err(ActError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!("the new shares are in force; the old ones open nothing any more");
        self.journal(Entry::new(journal::Act::AttemptCompleted { attempt: journal::Attempt::Rekey }));
        Ok(())
    }

    /// Adds a seal of a static key of this node's configuration, or renews it.
    pub async fn add_static_seal(&self, proof: &Proof, key_id: &str) -> Result<(), ActError> {
        let state = self.state().await?;
        let mut plan = Plan::new();
        proof.spend(&mut plan);
        let seals = self.with_static(&state.records, &proof.root, key_id)?;
        self.change(&state, &plan, state.records.expectations(), vec![seals_write(&seals)]).await?;
        self.journal(Entry::new(journal::Act::SealAdded { name: key_id.to_owned() }));
        Ok(())
    }

    /// Removes a static seal; one that is not there stays so.
    pub async fn remove_static_seal(&self, proof: &Proof, key_id: &str) -> Result<(), ActError> {
        let state = self.state().await?;
        let mut plan = Plan::new();
        proof.spend(&mut plan);
        self.vouched(&state.records)?;
        let seals = state.records.seals.without_static(&proof.root.derive_keyring_key(), key_id);
        self.change(&state, &plan, state.records.expectations(), vec![seals_write(&seals)]).await?;
        self.journal(Entry::new(journal::Act::SealRemoved { name: key_id.to_owned() }));
        Ok(())
    }

    fn with_static(&self, records: &Records, root: &RootKey, key_id: &str) -> Result<Seals, ActError> {
        self.vouched(records)?;
        let known = self.inner.opening.static_keys.iter().find(|key| key.id() == key_id);
        let key = known.ok_or_else(|| ActError::UnknownStaticKey { key_id: key_id.to_owned() })?;
        let others = records.seals.static_seals().iter().filter(|seal| seal.key_id != key_id).count();
        if others >= crate::seals::STATIC_SEALS_MAX {
            return Err(ActError::TooManySeals);
        }
        Ok(records.seals.with_static(root, key, self.inner.clock.now(), &*self.inner.rng))
    }

    /// Makes the static seals those of this node's configuration: adds what is missing, removes what it says is disabled.
    pub(crate) async fn migrate(&self, root: &RootKey) -> Result<(), ActError> {
        self.change_static(root, |_| true, &self.inner.opening.disabled_keys).await
    }

    /// Adds a seal of each static key of this node's configuration that has none: who has opened the cluster by the key before it may.
    pub(crate) async fn add_missing_seals(&self, root: &RootKey) -> Result<(), ActError> {
        loop {
            let state = self.state().await?;
            let there = state.records.seals.static_seals();
            let is_missing = |id: &str| !there.iter().any(|seal| seal.key_id == id);
            if !self.inner.opening.static_keys.iter().any(|key| key.gets_seal() && is_missing(key.id())) {
                return Ok(());
            }
            // Another node that has restarted may do the same.
            match self.change_static(root, is_missing, &[]).await {
                Err(ActError::Conflict) => {}
                done => return done,
            }
        }
    }

    async fn change_static(&self, root: &RootKey, wanted: impl Fn(&str) -> bool, unwanted: &[String]) -> Result<(), ActError> {
        let state = self.state().await?;
        let mut records = state.records;
        let expectations = records.expectations();
        let mut added = Vec::new();
        for key in self.inner.opening.static_keys.iter().filter(|key| key.gets_seal() && wanted(key.id())) {
            records.seals = self.with_static(&records, root, key.id())?;
            added.push(key.id().to_owned());
        }
        for key_id in unwanted {
            records.seals = records.seals.without_static(&root.derive_keyring_key(), key_id);
        }
        let writes = vec![seals_write(&records.seals)];
        self.change(&State { view: state.view, records }, &Plan::new(), expectations, writes).await?;
        tracing::info!("the static seals are as the configuration says");
        for name in added {
            self.journal(Entry::new(journal::Act::SealAdded { name }).outcome("done, by a migration"));
        }
        for name in unwanted.iter().cloned() {
            self.journal(Entry::new(journal::Act::SealRemoved { name }).outcome("done, by a migration"));
        }
        Ok(())
    }

    /// The seals as they are.
    pub async fn seals(&self) -> Result<SealsStatus, ActError> {
        let records = self.records().await?.ok_or(AccessError::Sealed)?;
        let (seals, times) = (&records.seals, self.times().await);
        let shamir = seals.status_of(Split::InForce).expect("parsed seals have shares").with_times(&times);
        let next = seals.status_of(Split::Next).map(|next| next.with_times(&times));
        Ok(SealsStatus { shamir, next, static_seals: seals.static_seals() })
    }

    /// When which share was last seen; nothing while the node is sealed.
    async fn times(&self) -> Times {
        match self.view().await {
            Ok(view) => crate::verified::read(&view).map(|(_, times)| times).unwrap_or_default(),
            Err(_) => Times::new(),
        }
    }

    /// Which share it is, if it is one of this cluster's. It is kept nowhere.
    pub async fn know_share(&self, share: &Share) -> Result<KnownShare, ShareError> {
        let records = self.records().await?.ok_or(ShareError::NotInitialized)?;
        let number = share.number();
        let recognised = records.seals.recognise(share).map_err(|unrecognised| unrecognised.of_share(number)).inspect_err(|error| {
            self.journal(Entry::new(journal::Act::ShareRefused { reason: error.to_string() }).share(number, None));
        })?;
        self.note_verified(&records.seals, &recognised);
        let entry = Entry::new(journal::Act::ShareVerified).share(number, Some(&ShareDigest(recognised.digest)));
        self.journal(entry.holder(&recognised.holder));
        Ok(KnownShare { number, holder: recognised.holder, is_next: recognised.split == Split::Next, digest: recognised.digest })
    }

    async fn state(&self) -> Result<State, ActError> {
        let (view, records) = self.view_and_records().await?;
        Ok(State { view, records })
    }

    /// The seals must be what an open node wrote before anything is built on them.
    fn vouched(&self, records: &Records) -> Result<(), ActError> {
        Ok(self.keys().with_all(|held| records.seals.check(held.keyring_key)).ok_or(AccessError::Sealed)??)
    }

    /// Carries a plan and writes in clear out as one. The revision of what was written.
    async fn change(
        &self,
        state: &State,
        plan: &Plan,
        mut expectations: Vec<Expectation>,
        writes: Vec<Write>,
    ) -> Result<Revision, ActError> {
        let mut batch = self.seal_counted(&state.view, plan).await?;
        if expectations.is_empty() {
            expectations.push(Expectation { key: records::epoch_key(), revision: state.records.epoch_revision });
        }
        batch.expectations.append(&mut expectations);
        batch.writes.extend(writes);
        let encoded: Bytes = batch.encode().map_err(|_| ActError::DetailsTooLarge)?;
        Ok(Revision::at(self.inner.raft.propose(encoded).await?))
    }

    async fn status_of(&self, attempt: Attempt, seals: &Seals) -> Result<AttemptStatus, ActError> {
        let (split, purpose) = match attempt.verification_nonce {
            Some(nonce) => (Split::Next, Purpose::Act(purpose::Act::Verify, nonce)),
            None => (Split::InForce, attempt.act.purpose(attempt.nonce)),
        };
        let progress = match self.coordinator() {
            Some(coordinator) => self.inner.peers.progress(coordinator, purpose.message()).await.unwrap_or_default(),
            None => self.peer_progress(purpose),
        };
        let quorum = seals.quorum_of(split).or(seals.quorum_of(Split::InForce)).expect("parsed seals have shares");
        Ok(AttemptStatus {
            attempt,
            entered: progress.shares.into_iter().filter_map(|number| u8::try_from(number).ok()).collect(),
            needed: quorum.threshold(),
            split: seals.status_of(Split::InForce).expect("parsed seals have shares"),
            next: seals.status_of(Split::Next),
        })
    }
}

fn seals_write(seals: &Seals) -> Write {
    Write { key: records::seals_key(), value: Some(seals.encode()) }
}

impl Attempt {
    /// Writes its record, in place of the one that was read.
    fn plan(&self, plan: &mut Plan) {
        let record = stored::Attempt {
            nonce: self.nonce.as_bytes().to_vec(),
            started_ms: self.started.0,
            started_by: self.started_by.clone(),
            details: self.details.clone(),
            verification_nonce: self.verification_nonce.map(|nonce| nonce.as_bytes().to_vec()).unwrap_or_default(),
        };
        plan.expect(self.act.name(), self.revision);
        plan.put(self.act.name(), SecretBytes::from(record.encode_to_vec()));
    }
}

fn read_attempt(view: &View, act: Act) -> Result<Option<Attempt>, ViewError> {
    let found = view.read(&act.name())?;
    let Some(value) = found.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    let record = stored::Attempt::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
    let nonce = |bytes: &[u8]| Uuid::from_slice(bytes).map_err(|_| ViewError::Malformed);
    Ok(Some(Attempt {
        act,
        nonce: nonce(&record.nonce)?,
        started: Timestamp(record.started_ms),
        started_by: record.started_by,
        details: record.details,
        verification_nonce: if record.verification_nonce.is_empty() { None } else { Some(nonce(&record.verification_nonce)?) },
        revision: found.revision,
    }))
}
