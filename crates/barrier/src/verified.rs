//! When each share was last seen to be right: entered for whatever purpose, or tried by its holder. So that operators notice in time that
//! too few holders could still open the cluster.
//!
//! Always: what was seen while the node was sealed is recorded once it is open; a share of a split that is no more is forgotten. Holds no
//! share, only numbers and times.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use tokio::sync::Notify;
use types::{Revision, Timestamp};

use crate::barrier::Barrier;
use crate::name::Name;
use crate::plan::Plan;
use crate::rotation::commit_error;
use crate::seals::{Recognised, Seals, Split};
use crate::view::{View, ViewError};

/// By the split's id and the share's number.
pub(crate) type Times = BTreeMap<(String, u8), Timestamp>;

fn name() -> Name {
    Name::new("core/shares-verified")
}

/// What was seen and is not recorded yet: at most one time for each share of the splits at hand.
#[derive(Default)]
pub(crate) struct Seen {
    times: Mutex<Times>,
    more: Notify,
}

impl Barrier {
    /// Notes that a share was seen to be right.
    pub(crate) fn note_verified(&self, seals: &Seals, share: &Recognised) {
        let Some(split) = seals.id_of(share.split) else { return };
        let seen = &self.inner.seen;
        let mut times = seen.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|(known, _), _| is_at_hand(seals, known));
        times.insert((split.to_owned(), share.number), self.inner.clock.now());
        seen.more.notify_one();
    }

    /// Records what was seen, whenever there is something and the node is open.
    pub(crate) async fn record_verified(&self) {
        let mut open = self.watch_open();
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = self.inner.seen.more.notified() => {}
            }
            loop {
                tokio::select! {
                    biased;
                    () = self.inner.stop.cancelled() => return,
                    waited = open.wait_for(|open| *open) => if waited.is_err() { return },
                }
                if self.record_seen().await {
                    break;
                }
                tokio::select! {
                    biased;
                    () = self.inner.stop.cancelled() => return,
                    () = tokio::time::sleep(crate::opening::LOOK_PAUSE) => {}
                }
            }
        }
    }

    /// Whether all that was seen is recorded now.
    async fn record_seen(&self) -> bool {
        let seen = self.inner.seen.times.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen.is_empty() {
            return true;
        }
        let Ok((view, records)) = self.view_and_records().await else { return false };
        let Ok((revision, mut times)) = read(&view) else { return false };
        for (share, at) in &seen {
            let known = times.entry(share.clone()).or_insert(*at);
            *known = (*known).max(*at);
        }
        times.retain(|(split, _), _| is_at_hand(&records.seals, split));
        let record = stored::SharesVerified {
            shares: times
                .into_iter()
                .map(|((split, number), at)| stored::ShareVerified { split, number: number.into(), verified_ms: at.0 })
                .collect(),
        };
        let mut plan = Plan::new();
        plan.expect(name(), revision);
        plan.put(name(), SecretBytes::from(record.encode_to_vec()));
        let Ok(batch) = self.seal_counted(&view, &plan).await else { return false };
        let Ok(encoded) = batch.encode() else { return false };
        match self.inner.raft.propose(encoded).await.map_err(commit_error) {
            Ok(_) => {
                let mut times = self.inner.seen.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.retain(|share, at| seen.get(share) != Some(at));
                times.is_empty()
            }
            Err(error) => {
                tracing::debug!(%error, "record which shares were seen");
                false
            }
        }
    }
}

fn is_at_hand(seals: &Seals, split: &str) -> bool {
    [Split::InForce, Split::Next].into_iter().any(|known| seals.id_of(known) == Some(split))
}

/// The record, and its revision.
pub(crate) fn read(view: &View) -> Result<(Revision, Times), ViewError> {
    let found = view.read(&name())?;
    let Some(value) = found.value else { return Ok((found.revision, Times::new())) };
    // EXPOSE: the record is decoded.
    let record = stored::SharesVerified::decode(value.expose()).map_err(|_| ViewError::Malformed)?;
    let time = |share: stored::ShareVerified| {
        let number = u8::try_from(share.number).map_err(|_| ViewError::Malformed)?;
        Ok::<_, ViewError>(((share.split, number), Timestamp(share.verified_ms)))
    };
    Ok((found.revision, record.shares.into_iter().map(time).collect::<Result<_, ViewError>>()?))
}
