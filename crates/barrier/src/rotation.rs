//! Rotation of the keyring: a new value key encrypts what is written from then on; the older ones still open what they sealed.
//!
//! Always: no value key encrypts more often than [`OPERATIONS_MAX`] times over the whole cluster, since random 96-bit nonces must not repeat
//! (NIST SP 800-38D, section 8.3: at most 2³² for each key). A node may encrypt only as often as it has set aside in a record that all nodes
//! share; what it set aside and did not use, because it stopped, stays counted.

use std::time::Duration;

use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use raft::ProposeError;
use storage::{Batch, Write};
use types::Revision;

use crate::barrier::{AccessError, Barrier, CommitError};
use crate::journal::{Act, Entry};
use crate::keyring::{KeyStatus, Keyring, KeyringError};
use crate::name::Name;
use crate::plan::Plan;
use crate::records;
use crate::view::{View, ViewError, seal_plan};

/// The most encryptions under one key: nine tenths of 2³².
pub const OPERATIONS_MAX: u64 = 3_865_470_566;
/// The least that a policy may ask for: with fewer a busy cluster would do nothing but rotate.
pub const OPERATIONS_MIN: u64 = 1_000_000;
/// The shortest interval of rotation that a policy may ask for.
pub const INTERVAL_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// What a node sets aside at once, at most.
const BLOCK_MAX: u64 = 65_536;
/// How often the leader looks whether the time for a rotation has come.
const LOOK_PAUSE: Duration = Duration::from_secs(30);

/// Who rotates, when nobody asked.
const BY_COUNT: &str = "the limit of encryptions";
const BY_TIME: &str = "the interval of rotation";

fn encryptions_name() -> Name {
    Name::new("core/encryptions")
}

fn policy_name() -> Name {
    Name::new("core/rotation")
}

/// When the keyring rotates by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationPolicy {
    /// Whether it does so before it must.
    pub enabled: bool,
    /// After so many encryptions. It must at [`OPERATIONS_MAX`].
    pub operations_max: u64,
    /// After so long; `None`: not by time.
    pub interval: Option<Duration>,
}

impl Default for RotationPolicy {
    fn default() -> RotationPolicy {
        RotationPolicy { enabled: true, operations_max: OPERATIONS_MAX, interval: None }
    }
}

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too few encryptions, or more than are safe.
    #[error("max_operations must be {OPERATIONS_MIN} to {OPERATIONS_MAX}")]
    Operations,
    /// Too often.
    #[error("interval must be 0 (not by time) or at least 24h")]
    Interval,
}

impl RotationPolicy {
    /// Checks it.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(OPERATIONS_MIN..=OPERATIONS_MAX).contains(&self.operations_max) {
            return Err(PolicyError::Operations);
        }
        if self.interval.is_some_and(|interval| interval < INTERVAL_MIN) {
            return Err(PolicyError::Interval);
        }
        Ok(())
    }

    /// After so many encryptions the keyring rotates, whatever the policy says.
    fn limit(&self) -> u64 {
        if self.enabled { self.operations_max.min(OPERATIONS_MAX) } else { OPERATIONS_MAX }
    }
}

/// The newest value key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestKey {
    /// Version, and when it was drawn.
    pub key: KeyStatus,
    /// How often it was used over the whole cluster, at most.
    pub encryptions: u64,
}

/// Why the keyring was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The keyring cannot be changed.
    #[error("change the keyring")]
    Keyring(#[from] KeyringError),
    /// The rest is as with every write.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<AccessError> for CommitError {
    fn from(error: AccessError) -> CommitError {
        match error {
            AccessError::Sealed => CommitError::Sealed,
            AccessError::Read(raft::ReadError::NoLeader) => CommitError::NoLeader,
            AccessError::Read(error) => CommitError::Indeterminate(error.to_string()),
        }
    }
}

impl From<ViewError> for CommitError {
    fn from(error: ViewError) -> CommitError {
        match error {
            ViewError::Table(error) => CommitError::Table(error),
            ViewError::Sealed | ViewError::Value(_) | ViewError::Name(_) | ViewError::Malformed | ViewError::TooMany => CommitError::Sealed,
        }
    }
}

impl Barrier {
    /// The newest value key, and how often it was used.
    pub async fn newest_key(&self) -> Result<NewestKey, CommitError> {
        let view = self.view().await?;
        let key = self.with_keyring(Keyring::newest).ok_or(CommitError::Sealed)?;
        Ok(NewestKey { key, encryptions: read_encryptions(&view, key.version)?.1 })
    }

    /// When the keyring rotates by itself.
    pub async fn rotation_policy(&self) -> Result<RotationPolicy, CommitError> {
        Ok(read_policy(&self.view().await?)?)
    }

    /// What sets another policy: a part of a plan over a view of everything. The policy must have been checked.
    pub fn plan_rotation_policy(policy: &RotationPolicy, plan: &mut Plan) {
        let record = stored::Rotation {
            disabled: !policy.enabled,
            operations_max: policy.operations_max,
            interval_ms: policy.interval.map_or(0, |interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)),
        };
        plan.put(policy_name(), SecretBytes::from(record.encode_to_vec()));
    }

    /// Draws a new value key, which encrypts from now on. Of two rotations at once one is done.
    pub async fn rotate(&self, by: &str) -> Result<KeyStatus, RotateError> {
        self.rotate_past(None, by).await
    }

    /// As [`Barrier::rotate`]; with a version, only while that is the newest: whoever found it used up may not be the first.
    async fn rotate_past(&self, used_up: Option<u32>, by: &str) -> Result<KeyStatus, RotateError> {
        let (view, records) = self.view_and_records().await.map_err(|error| match error {
            crate::attempt::ActError::Access(error) => CommitError::from(error),
            error => CommitError::Indeterminate(error.to_string()),
        })?;
        let newest = self.with_keyring(Keyring::newest).ok_or(CommitError::Sealed)?;
        if used_up.is_some_and(|version| newest.version != version) {
            return Ok(newest);
        }
        let (cluster, now) = (records.seals.cluster_id, self.inner.clock.now());
        let rotated = |held: crate::keys::Held<'_>| Keyring::rotated(held.keyring_key, cluster, &records.keyring, now, &*self.inner.rng);
        let keyring = self.keys().with_all(rotated).ok_or(CommitError::Sealed)??;
        let mut batch = view.seal(&Plan::new(), &*self.inner.rng).map_err(CommitError::from)?;
        batch.expectations.extend(records.expectations());
        batch.writes.push(Write { key: records::keyring_key(), value: Some(keyring.into()) });
        let encoded = batch.encode().map_err(CommitError::from)?;
        match self.inner.raft.propose(encoded).await {
            Ok(_) => {}
            // Somebody else rotated, or rekeyed: what was asked for the sake of the count is done, and who asked for a rotation gets one too.
            Err(ProposeError::Conflict { .. }) => return Err(CommitError::Conflict.into()),
            Err(error) => return Err(commit_error(error).into()),
        }
        // The leader's entry may be applied before this node's own.
        self.view().await.map_err(CommitError::from)?;
        let newest = self.with_keyring(Keyring::newest).ok_or(CommitError::Sealed)?;
        tracing::info!(version = newest.version, by, "the keyring was rotated");
        self.journal(Entry::new(Act::KeyringRotated { version: newest.version }).actor(by));
        Ok(newest)
    }

    /// Seals a plan within what this node has set aside, and sets more aside first when that is used up.
    pub(crate) async fn seal_counted(&self, view: &View, plan: &Plan) -> Result<Batch, CommitError> {
        loop {
            if let Some(batch) = view.seal_claimed(plan, &*self.inner.rng)? {
                return Ok(batch);
            }
            let _one_at_a_time = self.inner.setting_aside.lock().await;
            if let Some(batch) = view.seal_claimed(plan, &*self.inner.rng)? {
                return Ok(batch);
            }
            self.set_aside(plan.encryptions()).await?;
        }
    }

    async fn set_aside(&self, count: u64) -> Result<(), CommitError> {
        let view = self.view().await?;
        let version = self.with_keyring(|keyring| keyring.newest().version).ok_or(CommitError::Sealed)?;
        let limit = self.inner.operations_max.unwrap_or(read_policy(&view)?.limit());
        let (revision, reserved) = read_encryptions(&view, version)?;
        // The record's own encryption counts as well.
        let block = count.saturating_add(1).max((limit / 64).clamp(1, BLOCK_MAX));
        let total = reserved.saturating_add(block);
        if total > limit && reserved > 0 {
            return match self.rotate_past(Some(version), BY_COUNT).await {
                Ok(_) | Err(RotateError::Commit(CommitError::Conflict)) => Ok(()),
                Err(RotateError::Commit(error)) => Err(error),
                Err(RotateError::Keyring(error)) => Err(CommitError::Indeterminate(error.to_string())),
            };
        }
        let record = stored::Encryptions { key_version: version, reserved: total };
        let mut plan = Plan::new();
        plan.expect(encryptions_name(), revision);
        plan.put(encryptions_name(), SecretBytes::from(record.encode_to_vec()));
        let sealed = self.with_keyring(|keyring| {
            (keyring.newest().version == version).then(|| seal_plan(keyring, &Name::root(), &plan, &*self.inner.rng))
        });
        let Some(mut batch) = sealed.ok_or(CommitError::Sealed)? else { return Ok(()) };
        batch.expectations.push(view.epoch_expectation()?);
        match self.inner.raft.propose(batch.encode()?).await {
            Ok(_) => {
                self.with_keyring(|keyring| keyring.allow(version, block - 1));
                Ok(())
            }
            // Another node was faster: look again.
            Err(ProposeError::Conflict { .. }) => Ok(()),
            Err(error) => Err(commit_error(error)),
        }
    }

    /// On the leader: rotates when the policy's time has come.
    pub(crate) async fn rotate_in_time(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
            if self.is_sealed() || !self.leads() {
                continue;
            }
            let (Ok(policy), Some(newest)) = (self.rotation_policy().await, self.with_keyring(Keyring::newest)) else { continue };
            let age = Duration::from_millis(self.inner.clock.now().0.saturating_sub(newest.created.0));
            if policy.enabled
                && policy.interval.is_some_and(|interval| age >= interval)
                && let Err(error) = self.rotate(BY_TIME).await
            {
                tracing::warn!(%error, "rotate the keyring, whose time has come");
            }
        }
    }
}

/// Why a proposal was not carried out, as a commit says it.
pub(crate) fn commit_error(error: ProposeError) -> CommitError {
    match error {
        ProposeError::Conflict { .. } => CommitError::Conflict,
        ProposeError::NoLeader => CommitError::NoLeader,
        ProposeError::DiskFull => CommitError::DiskFull,
        ProposeError::Indeterminate(why) => CommitError::Indeterminate(why),
        ProposeError::Stopped => CommitError::Stopped,
        ProposeError::FeatureLevel(error) => CommitError::FeatureLevel(error),
        ProposeError::Malformed(_) => unreachable!("the batch was encoded here"),
    }
}

/// The record's revision, and how often key `version` was used.
fn read_encryptions(view: &View, version: u32) -> Result<(Revision, u64), ViewError> {
    let found = view.read(&encryptions_name())?;
    let Some(value) = found.value else { return Ok((found.revision, 0)) };
    // EXPOSE: the record is decoded.
    let record = stored::Encryptions::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
    // A record of another version was written before the rotation: nobody has set anything aside since.
    Ok((found.revision, if record.key_version == version { record.reserved } else { 0 }))
}

fn read_policy(view: &View) -> Result<RotationPolicy, ViewError> {
    let Some(value) = view.read(&policy_name())?.value else { return Ok(RotationPolicy::default()) };
    // EXPOSE: the record is decoded.
    let record = stored::Rotation::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
    Ok(RotationPolicy {
        enabled: !record.disabled,
        operations_max: record.operations_max,
        interval: (record.interval_ms > 0).then(|| Duration::from_millis(record.interval_ms)),
    })
}
