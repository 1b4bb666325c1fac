//! The cluster's feature level: what each member knows, and the raise to what all of them know, asked for or in time.
//!
//! Always: the level is raised only to what every member, voter or learner, has just said that it knows; there is no way back.

use std::time::Duration;

use proto::peer;
use storage::Write;
use storage::feature_level::LevelRecord;
use tokio::time::Instant;
use types::{FeatureLevel, FeatureLevels, NodeId, Revision};

use crate::barrier::{Barrier, CommitError};
use crate::rotation::commit_error;

/// For how long the first level waits until every member has told what it knows: nodes that were just started may not reach each other yet.
const FOUND_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often they are asked meanwhile.
const FOUND_PAUSE: Duration = Duration::from_millis(100);
/// How often the leader looks whether the cluster can be raised, at most.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(200);
/// And at least.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often it looks within the time that all members must have known a level.
const LOOKS_WITHIN: u32 = 8;

/// What one member knows.
#[derive(Debug, Clone)]
pub struct MemberLevels {
    /// The member.
    pub node_id: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// Its release; empty when it does not answer.
    pub software: String,
    /// `None`: it does not answer.
    pub levels: Option<FeatureLevels>,
}

/// Where the cluster stands.
#[derive(Debug, Clone)]
pub struct LevelStatus {
    /// Where it is, and which release raised it; empty for none.
    pub record: LevelRecord,
    /// The highest level that every member knows; `None` while one does not answer.
    pub common: Option<FeatureLevel>,
    /// In the order of their ids.
    pub members: Vec<MemberLevels>,
}

/// Why the level was not raised.
#[derive(Debug, thiserror::Error)]
pub enum RaiseError {
    /// The cluster has no keys yet.
    #[error("the cluster is not initialized")]
    NotInitialized,
    /// Some do not answer: nobody can tell what they know.
    #[error("these members do not answer: {} (start them, or remove them from the cluster)", names(.0))]
    Silent(Vec<NodeId>),
    /// Some run a release that does not know it.
    #[error("feature level {to} is not known to {} (upgrade them first, or raise to less)", told(.members))]
    Unknown {
        /// What was asked for.
        to: FeatureLevel,
        /// Those that do not know it.
        members: Vec<MemberLevels>,
    },
    /// There is no way back.
    #[error("the cluster is at feature level {level} already, and cannot go back to {to}")]
    Lower {
        /// What was asked for.
        to: FeatureLevel,
        /// Where the cluster is.
        level: FeatureLevel,
    },
    /// The rest is as with every write.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

fn told(members: &[MemberLevels]) -> String {
    let told = |member: &MemberLevels| {
        let max = member.levels.map_or(FeatureLevel::FIRST, |levels| levels.max);
        format!("{} (Conclave {}, up to {max})", member.node_id, member.software)
    };
    members.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// What a node's own word says that it knows.
pub fn levels_of(status: &peer::MemberStatus) -> FeatureLevels {
    let level = |told: u32| FeatureLevel(told.max(FeatureLevel::FIRST.0));
    FeatureLevels { min: level(status.feature_level_min), max: level(status.feature_level_max) }
}

impl LevelStatus {
    /// Whether `to` can be had.
    fn check(&self, to: FeatureLevel) -> Result<(), RaiseError> {
        if to < self.record.level {
            return Err(RaiseError::Lower { to, level: self.record.level });
        }
        let silent: Vec<NodeId> =
            self.members.iter().filter(|member| member.levels.is_none()).map(|member| member.node_id.clone()).collect();
        if !silent.is_empty() {
            return Err(RaiseError::Silent(silent));
        }
        let knows = |member: &&MemberLevels| member.levels.is_some_and(|levels| levels.check(to).is_ok());
        let members: Vec<MemberLevels> = self.members.iter().filter(|member| !knows(member)).cloned().collect();
        if members.is_empty() { Ok(()) } else { Err(RaiseError::Unknown { to, members }) }
    }
}

impl Barrier {
    /// Where the cluster stands, and what each member knows: asks all of them.
    pub async fn level_status(&self) -> LevelStatus {
        let members: Vec<MemberLevels> = self.members().await.into_iter().map(of_member).collect();
        let record = self.inner.raft.watch_feature_level().borrow().clone();
        LevelStatus { record, common: common(&members), members }
    }

    /// Raises the cluster to `to`, or to the highest level that every member knows; answers where it is then. To be there already is no error.
    ///
    /// From then on an older release starts on no member's data folder, and joins no more. When the call is dropped half-way, the level
    /// may be raised all the same.
    pub async fn raise_level(&self, to: Option<FeatureLevel>) -> Result<FeatureLevel, RaiseError> {
        let table = self.inner.raft.read().await.map_err(|error| CommitError::from(crate::barrier::AccessError::Read(error)))?;
        if table.get(&crate::records::seals_key()).map_err(CommitError::Table)?.is_none() {
            return Err(RaiseError::NotInitialized);
        }
        let known = table.get(storage::feature_level::FEATURE_LEVEL_KEY).map_err(CommitError::Table)?;
        let known = known.map_or(Revision::ABSENT, |cell| cell.revision);
        let status = self.level_status().await;
        let to = to.or(status.common).unwrap_or(status.record.level);
        status.check(to)?;
        if to == status.record.level {
            return Ok(to);
        }
        let record = LevelRecord { level: to, software: self.inner.facts.version.clone() };
        let (expectation, write) = raft::raising(known, &record);
        let batch = storage::Batch { expectations: vec![expectation], writes: vec![write] };
        let encoded = batch.encode().map_err(CommitError::from)?;
        self.inner.raft.propose_from_reserve(encoded).await.map_err(commit_error)?;
        tracing::info!(from = %status.record.level, %to, "the cluster's feature level was raised: older releases start here no more");
        Ok(to)
    }

    /// The level that a new cluster begins with: the highest that every member knows. One that does not answer may know the first only.
    pub(crate) async fn level_to_found(&self) -> Option<Write> {
        let deadline = Instant::now() + FOUND_WAIT_MAX;
        let level = loop {
            match common(&self.level_status().await.members) {
                Some(level) => break level,
                None if Instant::now() < deadline => tokio::time::sleep(FOUND_PAUSE).await,
                None => return None,
            }
        };
        let record = LevelRecord { level, software: self.inner.facts.version.clone() };
        (level > FeatureLevel::FIRST).then(|| raft::raising(Revision::ABSENT, &record).1)
    }

    /// On the leader: raises the level once every member has known a higher one for long enough.
    pub(crate) async fn raise_in_time(&self) {
        let Some(after) = self.inner.raise_after else { return };
        let pause = (after / LOOKS_WITHIN).clamp(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX);
        let mut known_since: Option<(FeatureLevel, Instant)> = None;
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if !self.leads() || self.inner.raft.feature_level() >= self.inner.raft.feature_levels().max {
                known_since = None;
                continue;
            }
            let status = self.level_status().await;
            let Some(common) = status.common.filter(|common| *common > status.record.level) else {
                known_since = None;
                continue;
            };
            let since = match known_since {
                Some((level, since)) if level == common => since,
                _ => known_since.insert((common, Instant::now())).1,
            };
            if since.elapsed() < after {
                continue;
            }
            match self.raise_level(Some(common)).await {
                Ok(_) | Err(RaiseError::NotInitialized) => {}
                Err(error) => tracing::warn!(%error, %common, "raise the feature level, which every member knows by now"),
            }
        }
    }
}

fn of_member((info, status): (raft::MemberInfo, Option<peer::MemberStatus>)) -> MemberLevels {
    let software = status.as_ref().map(|status| status.version.clone()).unwrap_or_default();
    MemberLevels { node_id: info.id, voter: info.voter, software, levels: status.as_ref().map(levels_of) }
}

/// The highest level that all of them know; `None` when one does not answer, or when there is none.
fn common(members: &[MemberLevels]) -> Option<FeatureLevel> {
    let known: Option<Vec<FeatureLevels>> = members.iter().map(|member| member.levels).collect();
    let known = known?;
    let (max, min) = (known.iter().map(|levels| levels.max).min()?, known.iter().map(|levels| levels.min).max()?);
    (min <= max).then_some(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, levels: Option<(u32, u32)>) -> MemberLevels {
        let levels = levels.map(|(min, max)| FeatureLevels { min: FeatureLevel(min), max: FeatureLevel(max) });
        MemberLevels { node_id: NodeId::from(id), voter: id != 3, software: format!("0.{id}.0"), levels }
    }

    fn status(level: u32, members: Vec<MemberLevels>) -> LevelStatus {
        let record = LevelRecord { level: FeatureLevel(level), software: String::new() };
        LevelStatus { record, common: common(&members), members }
    }

    #[test]
    fn what_every_member_knows_is_what_the_oldest_knows() {
        for (members, highest) in
            [(vec![(1, 2), (1, 3), (2, 4)], Some(2)), (vec![(1, 2)], Some(2)), (vec![(1, 2), (3, 4)], None), (vec![], None)]
        {
            let members: Vec<_> = (1..).zip(members).map(|(id, levels)| member(id, Some(levels))).collect();
            assert_eq!(common(&members), highest.map(FeatureLevel));
        }
        assert_eq!(common(&[member(1, Some((1, 2))), member(2, None)]), None);
    }

    #[test]
    fn a_raise_is_refused_with_those_named_who_stand_in_its_way() {
        let all = || vec![member(1, Some((1, 3))), member(2, Some((1, 2))), member(3, Some((1, 3)))];
        assert!(status(1, all()).check(FeatureLevel(2)).is_ok());
        let error = status(1, all()).check(FeatureLevel(3)).unwrap_err().to_string();
        assert_eq!(error, "feature level 3 is not known to 2 (Conclave 0.2.0, up to 2) (upgrade them first, or raise to less)");
        let error = status(2, all()).check(FeatureLevel(1)).unwrap_err().to_string();
        assert_eq!(error, "the cluster is at feature level 2 already, and cannot go back to 1");
        let mut silent = all();
        silent[2].levels = None;
        let error = status(1, silent).check(FeatureLevel(2)).unwrap_err().to_string();
        assert_eq!(error, "these members do not answer: 3 (start them, or remove them from the cluster)");
    }

    #[test]
    fn a_release_without_levels_knows_the_first() {
        let first = FeatureLevels { min: FeatureLevel::FIRST, max: FeatureLevel::FIRST };
        assert_eq!(levels_of(&peer::MemberStatus::default()), first);
    }
}
