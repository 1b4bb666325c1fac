//! Autopilot: the leader looks after the members by itself. It promotes learners that have proven stable, ends demotions that were cut
//! short, and, where that is turned on, removes members that have been dead for long.
//!
//! Always: one change at a time, each judged on what the leader sees at that moment; none that leaves too few voters. It works only
//! where the node is open, because its settings are records behind the barrier; Raft judges health by them while they are in force.

use std::time::Duration;

use barrier::{Barrier, Name, Plan};
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use raft::{HealthPolicy, MemberChange, MemberFacts, MembersView};
use types::{Clock, NodeId, Timestamp};

use crate::outcome::PlanError;
use crate::store::Store;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after a change that was not made.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);
/// The least time after which a member may be removed for dead.
pub(crate) const DEAD_MIN: Duration = Duration::from_secs(60);
/// With fewer voters than this nobody is removed for dead.
pub(crate) const MIN_QUORUM_MIN: u64 = 3;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cleanup_dead_servers: bool,
    pub(crate) last_contact_threshold: Duration,
    pub(crate) dead_server_last_contact_threshold: Duration,
    pub(crate) max_trailing_logs: u64,
    pub(crate) min_quorum: u64,
    pub(crate) server_stabilization_time: Duration,
}

impl Default for Config {
    /// As Vault's.
    fn default() -> Config {
        let HealthPolicy { last_contact_max, lag_max } = HealthPolicy::default();
        Config {
            cleanup_dead_servers: false,
            last_contact_threshold: last_contact_max,
            dead_server_last_contact_threshold: Duration::from_secs(24 * 3600),
            max_trailing_logs: lag_max,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
        }
    }
}

fn name() -> Name {
    Name::new("core/raft/autopilot")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Config {
    /// As recorded; the defaults where nothing is.
    pub(crate) fn read(view: &barrier::View) -> Result<Config, PlanError> {
        let Some(value) = view.read(&name())?.value else { return Ok(Config::default()) };
        // EXPOSE: settings are no secret.
        let stored = stored::Autopilot::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
        Ok(Config {
            cleanup_dead_servers: stored.cleanup,
            last_contact_threshold: Duration::from_millis(stored.last_contact_ms),
            dead_server_last_contact_threshold: Duration::from_millis(stored.dead_ms),
            max_trailing_logs: stored.trailing_logs_max,
            min_quorum: stored.min_quorum,
            server_stabilization_time: Duration::from_millis(stored.stabilization_ms),
        })
    }

    /// Plans that these be the settings, on top of those that `view` shows.
    pub(crate) fn write(&self, view: &barrier::View, plan: &mut Plan) -> Result<(), PlanError> {
        plan.expect(name(), view.read(&name())?.revision);
        plan.put(name(), SecretBytes::from(self.stored().encode_to_vec()));
        Ok(())
    }

    /// Plans that the defaults be in force.
    pub(crate) fn reset(view: &barrier::View, plan: &mut Plan) -> Result<(), PlanError> {
        plan.expect(name(), view.read(&name())?.revision);
        plan.delete(name());
        Ok(())
    }

    pub(crate) fn stored(&self) -> stored::Autopilot {
        stored::Autopilot {
            last_contact_ms: millis(self.last_contact_threshold),
            trailing_logs_max: self.max_trailing_logs,
            stabilization_ms: millis(self.server_stabilization_time),
            cleanup: self.cleanup_dead_servers,
            dead_ms: millis(self.dead_server_last_contact_threshold),
            min_quorum: self.min_quorum,
        }
    }

    fn health_policy(&self) -> HealthPolicy {
        HealthPolicy { last_contact_max: self.last_contact_threshold, lag_max: self.max_trailing_logs }
    }

    /// Whether a member has been silent for so long that it counts as dead.
    pub(crate) fn is_dead(&self, facts: &MemberFacts, now: Timestamp) -> bool {
        let silent = facts.last_contact.unwrap_or_else(|| since(facts, now));
        !facts.health.healthy && silent >= self.dead_server_last_contact_threshold
    }
}

fn since(facts: &MemberFacts, now: Timestamp) -> Duration {
    Duration::from_millis(now.0.saturating_sub(facts.health.since.0))
}

/// What is to be done next, if anything.
fn decide(config: &Config, view: &MembersView, now: Timestamp) -> Option<MemberChange> {
    let voters = view.members.iter().filter(|facts| facts.info.voter).count();
    let is_left_over = |facts: &&MemberFacts| facts.info.voter && facts.info.member.non_voter;
    if voters > 1
        && let Some(facts) = view.members.iter().find(is_left_over)
    {
        return Some(MemberChange::Demote { id: facts.info.id.clone() });
    }
    let is_ripe = |facts: &&MemberFacts| {
        let waits = !facts.info.voter && !facts.info.member.non_voter;
        waits && facts.health.healthy && since(facts, now) >= config.server_stabilization_time
    };
    if let Some(facts) = view.members.iter().filter(is_ripe).min_by_key(|facts| facts.health.since) {
        return Some(MemberChange::Promote { id: facts.info.id.clone() });
    }
    dead(config, view, voters, now).map(|id| MemberChange::Remove { id })
}

/// Whom to remove for dead: learners first, since no vote goes with them.
fn dead(config: &Config, view: &MembersView, voters: usize, now: Timestamp) -> Option<NodeId> {
    if !config.cleanup_dead_servers {
        return None;
    }
    let dead = || view.members.iter().filter(|facts| facts.info.id != view.leader && config.is_dead(facts, now));
    if let Some(learner) = dead().find(|facts| !facts.info.voter) {
        return Some(learner.info.id.clone());
    }
    let voter = dead().next()?;
    // All who are silent at once are a network that broke, and not so many machines that died: a majority must be well.
    let well = view.members.iter().filter(|facts| facts.info.voter && facts.health.healthy).count();
    let enough_left = u64::try_from(voters - 1).unwrap_or(0) >= config.min_quorum.max(1);
    (enough_left && well > voters / 2).then(|| voter.info.id.clone())
}

/// Looks after the members whenever this node leads; never ends. May be dropped at any time: a change that was begun is gone on with.
pub(crate) async fn run(store: &dyn Store, clock: &dyn Clock) {
    let Some(barrier) = store.keys() else { return std::future::pending().await };
    loop {
        let pause = if round(store, barrier, clock).await { PAUSE } else { PAUSE_AFTER_ERROR };
        tokio::time::sleep(pause).await;
    }
}

/// One look: false when a change was not made.
async fn round(store: &dyn Store, barrier: &Barrier, clock: &dyn Clock) -> bool {
    if !store.leads() {
        return true;
    }
    let config = match store.view().await.map_err(|error| error.to_string()).map(|view| Config::read(&view)) {
        Ok(Ok(config)) => config,
        // Sealed, or about to: there will be another look.
        Err(_) => return true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "read the settings of autopilot");
            return false;
        }
    };
    barrier.set_health_policy(config.health_policy());
    let Some(change) = barrier.members_here().and_then(|view| decide(&config, &view, clock.now())) else { return true };
    tracing::info!(?change, "autopilot changes the members");
    match barrier.change_members(change, false).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "autopilot's change was not made");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use raft::{Health, Member, MemberInfo};
    use types::Term;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    /// `A` a voter, `a` a learner, `-` before it for good; `!` silent for a day; `?` new since five seconds; the first leads.
    fn view(members: &str) -> MembersView {
        let facts = |word: &str| {
            let id = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
            let age_s = if word.ends_with('?') { 5 } else { 100_000 };
            MemberFacts {
                info: MemberInfo {
                    id: NodeId::parse(&id.to_lowercase()).unwrap(),
                    member: Member { non_voter: word.starts_with('-'), ..Member::default() },
                    voter: id == id.to_uppercase(),
                },
                last_contact: (!word.ends_with('!')).then_some(Duration::ZERO),
                matched: None,
                lag: 0,
                health: Health { healthy: !word.ends_with('!'), since: Timestamp(NOW.0 - age_s * 1000) },
            }
        };
        let members: Vec<MemberFacts> = members.split(' ').map(facts).collect();
        MembersView { leader: members[0].info.id.clone(), term: Term(1), last: None, configured: None, members }
    }

    fn shown(change: Option<MemberChange>) -> String {
        match change {
            None => String::new(),
            Some(MemberChange::Promote { id }) => format!("promote {id}"),
            Some(MemberChange::Demote { id }) => format!("demote {id}"),
            Some(MemberChange::Remove { id }) => format!("remove {id}"),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn members_are_looked_after_one_by_one() {
        let cleaning = Config { cleanup_dead_servers: true, min_quorum: 3, ..Config::default() };
        for (config, members, act) in [
            (Config::default(), "A B C", ""),
            (Config::default(), "A B C d", "promote d"),
            (Config::default(), "A B C d?", ""),
            (Config::default(), "A B C -d", ""),
            (Config::default(), "A B C d!", ""),
            (Config::default(), "A B -C d", "demote c"),
            (Config::default(), "-A", ""),
            (Config::default(), "A B C!", ""),
            (cleaning.clone(), "A B C!", ""),
            (cleaning.clone(), "A B C D!", "remove d"),
            (cleaning.clone(), "A B C D! e!", "remove e"),
            (cleaning.clone(), "A B C d", "promote d"),
            (cleaning.clone(), "A B C! D! E!", ""),
            (cleaning.clone(), "A B C D! E!", "remove d"),
            (Config { dead_server_last_contact_threshold: Duration::from_secs(200_000), ..cleaning }, "A B C D!", ""),
        ] {
            assert_eq!(shown(decide(&config, &view(members), NOW)), act, "{members}");
        }
    }
}
