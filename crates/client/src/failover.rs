//! Which node is asked, in which order, and whether a request may be sent again.
//!
//! Always: a request that may have changed something is not repeated, unless the caller said that it may be. One call tries
//! each node once, waits, and tries again, until an answer, the retries or the deadline. Knows nothing of HTTP or gRPC:
//! those give a [`Verdict`] on each attempt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use crate::builder::{ADDRESSES_MAX, Settings};
use crate::{Attempt, Error, Failure};

/// A node that failed is asked last for this long.
const COOL_OFF: Duration = Duration::from_secs(1);
/// The first wait between rounds; doubled for each further one.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The longest wait between rounds.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How old what we know of the members may become before it is asked for again.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// It changes nothing, or the same when sent twice.
    Repeatable,
    /// It changes something; sent again only when it surely was not applied.
    Once,
}

/// What one attempt came to.
pub(crate) enum Verdict<T> {
    /// There is an answer.
    Answer(T),
    /// There will not be a better one elsewhere.
    Final(Error),
    /// Surely not applied; another node, or the same later, may do it.
    NotApplied(Failure),
    /// It may have been applied.
    Unknown(Failure),
}

/// One call, as the driver sees it.
pub(crate) struct Ask {
    /// Method and path, for errors.
    pub(crate) name: String,
    pub(crate) safety: Safety,
    /// Only this node.
    pub(crate) pinned: Option<Arc<str>>,
    /// The whole call's limit, where it differs from the client's.
    pub(crate) timeout: Option<Duration>,
}

/// What is known of the nodes.
pub(crate) struct Nodes(Mutex<Table>);

struct Table {
    /// Never empty; at most [`ADDRESSES_MAX`].
    nodes: Vec<Node>,
    /// The one that answered last.
    current: usize,
    leader: Option<Arc<str>>,
    discovery_due: Option<Instant>,
}

struct Node {
    address: Arc<str>,
    cooling_until: Option<Instant>,
    /// It has asked to be left alone.
    leaving_until: Option<Instant>,
    /// Made when gRPC is first used.
    channel: Option<Channel>,
}

impl Nodes {
    pub(crate) fn new(addresses: Vec<Arc<str>>) -> Nodes {
        assert!(!addresses.is_empty(), "the builder puts the default in place of an empty list");
        let nodes =
            addresses.into_iter().map(|address| Node { address, cooling_until: None, leaving_until: None, channel: None }).collect();
        Nodes(Mutex::new(Table { nodes, current: 0, leader: None, discovery_due: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while it was held cannot leave it half-changed: each change is one assignment.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn addresses(&self) -> Vec<Arc<str>> {
        self.lock().nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// The nodes in the order in which to ask them: the leader (if wanted), then from the one that answered last on; those
    /// that failed a moment ago come last.
    fn order(&self, leader_first: bool, now: Instant) -> Vec<Arc<str>> {
        let table = self.lock();
        let count = table.nodes.len();
        let mut order: Vec<&Node> = (0..count).map(|step| &table.nodes[(table.current + step) % count]).collect();
        order.sort_by_key(|node| {
            let cooling = [node.cooling_until, node.leaving_until].into_iter().flatten().any(|until| until > now);
            let leads = leader_first && table.leader.as_ref() == Some(&node.address);
            (cooling, !leads)
        });
        order.into_iter().map(|node| node.address.clone()).collect()
    }

    fn answered(&self, address: &str) {
        let mut table = self.lock();
        if let Some(at) = table.nodes.iter().position(|node| &*node.address == address) {
            table.nodes[at].cooling_until = None;
            table.current = at;
        }
    }

    /// A node has answered and closes its connections: it is about to stop, and others are asked first for a while.
    pub(crate) fn leaves(&self, address: &str, now: Instant) {
        let mut table = self.lock();
        if let Some(node) = table.nodes.iter_mut().find(|node| &*node.address == address) {
            node.leaving_until = Some(now + COOL_OFF);
        }
    }

    fn failed(&self, address: &str, now: Instant) {
        let mut table = self.lock();
        if let Some(node) = table.nodes.iter_mut().find(|node| &*node.address == address) {
            node.cooling_until = Some(now + COOL_OFF);
        }
        table.discovery_due = None;
    }

    /// Adds `members` that are not known yet, as far as there is room, and keeps who leads.
    pub(crate) fn learn(&self, members: Vec<Arc<str>>, leader: Option<Arc<str>>) {
        let mut table = self.lock();
        for address in members {
            let known = table.nodes.iter().any(|node| node.address == address);
            if !known && table.nodes.len() < ADDRESSES_MAX {
                table.nodes.push(Node { address, cooling_until: None, leaving_until: None, channel: None });
            }
        }
        table.leader = leader;
    }

    /// True for one caller at a time, when what is known has become old; the next turn comes after an interval.
    pub(crate) fn take_discovery_turn(&self, now: Instant) -> bool {
        let mut table = self.lock();
        let due = table.discovery_due.is_none_or(|due| due <= now);
        if due {
            table.discovery_due = Some(now + DISCOVERY_INTERVAL);
        }
        due
    }

    /// The gRPC channel of a node; `make` is called when there is none yet. A node that is not in the table (pinned) gets a
    /// new one for each call.
    pub(crate) fn channel(&self, address: &str, make: impl FnOnce() -> Channel) -> Channel {
        let mut table = self.lock();
        match table.nodes.iter_mut().find(|node| &*node.address == address) {
            Some(node) => node.channel.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}

/// Asks node after node until there is an answer, the retries are used up, or the deadline is over. Dropped half-way, a
/// request that was sent may still be applied.
pub(crate) async fn drive<T, F: Future<Output = Verdict<T>>>(
    nodes: &Nodes,
    settings: &Settings,
    ask: Ask,
    mut attempt: impl FnMut(Arc<str>) -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + ask.timeout.unwrap_or(settings.timeout);
    let leader_first = settings.leader_for_writes && ask.safety == Safety::Once;
    let mut tried: Vec<Attempt> = Vec::new();
    'rounds: for round in 0..=settings.retries_max {
        if round > 0 {
            let wait = wait_before(round);
            if Instant::now() + wait >= deadline {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        let order = match &ask.pinned {
            Some(address) => vec![address.clone()],
            None => nodes.order(leader_first, Instant::now()),
        };
        for address in order {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break 'rounds;
            }
            let limit = match ask.safety {
                Safety::Repeatable => left.min(settings.attempt_timeout),
                Safety::Once => left,
            };
            let verdict = match tokio::time::timeout(limit, attempt(address.clone())).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Unknown(Failure::Timeout),
            };
            let (failure, applied) = match verdict {
                Verdict::Answer(answer) => {
                    nodes.answered(&address);
                    return Ok(answer);
                }
                Verdict::Final(error) => {
                    nodes.answered(&address);
                    return Err(error);
                }
                Verdict::NotApplied(failure) => (failure, false),
                Verdict::Unknown(failure) => (failure, true),
            };
            nodes.failed(&address, Instant::now());
            tracing::debug!(address = %address, round, status = failure.status(), "a node gave no answer");
            let last = Attempt { address, failure };
            if applied && ask.safety == Safety::Once {
                return Err(Error::Indeterminate { ask: ask.name, last: Box::new(last) });
            }
            match tried.iter_mut().find(|earlier| earlier.address == last.address) {
                Some(earlier) => *earlier = last,
                None => tried.push(last),
            }
        }
        // Certificates do not become right by waiting.
        if tried.iter().all(|attempt| matches!(attempt.failure, Failure::Tls(_))) {
            break;
        }
    }
    Err(Error::Unavailable { ask: ask.name, tried })
}

/// Between half and the whole of a doubling step, so that many clients do not come back at once.
fn wait_before(round: u32) -> Duration {
    let step = WAIT_MIN.saturating_mul(1u32 << (round - 1).min(10)).min(WAIT_MAX);
    // Jitter wants no secrecy: the standard library's per-process random hash keys will do.
    let jitter = RandomState::new().build_hasher().finish() % 1000;
    step / 2 + (step / 2).mul_f64(jitter as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        Nodes::new(vec![Arc::from("a"), Arc::from("b"), Arc::from("c")])
    }

    fn order(nodes: &Nodes, leader_first: bool) -> String {
        nodes.order(leader_first, Instant::now()).concat()
    }

    #[test]
    fn the_node_that_answered_comes_first_and_the_failed_last() {
        let nodes = nodes();
        assert_eq!(order(&nodes, false), "abc");
        nodes.answered("b");
        assert_eq!(order(&nodes, false), "bca");
        nodes.failed("c", Instant::now());
        assert_eq!(order(&nodes, false), "bac");
        nodes.learn(vec![Arc::from("a"), Arc::from("d")], Some(Arc::from("a")));
        assert_eq!(order(&nodes, false), "bdac");
        assert_eq!(order(&nodes, true), "abdc");
        nodes.failed("a", Instant::now());
        assert_eq!(order(&nodes, true), "bdac", "a leader that failed is not asked first");
        assert_eq!(nodes.order(true, Instant::now() + COOL_OFF * 2).concat(), "abcd", "failures are forgiven");
    }

    #[test]
    fn a_node_that_is_about_to_stop_is_asked_last_though_it_answers() {
        let nodes = nodes();
        nodes.leaves("a", Instant::now());
        nodes.answered("a");
        assert_eq!(order(&nodes, false), "bca");
        assert_eq!(nodes.order(false, Instant::now() + COOL_OFF * 2).concat(), "abc");
    }

    #[test]
    fn members_are_bounded() {
        let nodes = nodes();
        nodes.learn((0..100).map(|at| Arc::from(format!("n{at}"))).collect(), None);
        assert_eq!(nodes.addresses().len(), ADDRESSES_MAX);
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        for round in 1..40 {
            let wait = wait_before(round);
            assert!(wait <= WAIT_MAX && wait >= WAIT_MIN / 2, "{round}: {wait:?}");
        }
        assert!(wait_before(6) >= WAIT_MAX / 2);
    }

    #[test]
    fn discovery_is_one_callers_turn_until_a_node_fails() {
        let nodes = nodes();
        let now = Instant::now();
        assert!(nodes.take_discovery_turn(now));
        assert!(!nodes.take_discovery_turn(now));
        assert!(nodes.take_discovery_turn(now + DISCOVERY_INTERVAL));
        nodes.failed("a", now);
        assert!(nodes.take_discovery_turn(now));
    }
}
