//! [`Cluster`]: the nodes, the wires between them, and what an operator can do to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto::{Quorum, Rng, SeededRng, Share, Zeroizing};
use raft::{Member, ReadConsistency, Role, Timing};
use storage::feature_level::FEATURE_LEVELS;
use tokio::time::{Instant, sleep, timeout_at};
use types::{Clock, FeatureLevels, NodeId};

use crate::canary::Canaries;
use crate::client::{Client, Outcome};
use crate::clock::SimClock;
use crate::dice::Dice;
use crate::disk::{Honesty, SimDisk};
use crate::history::Acknowledged;
use crate::linearizability::register::Action;
use crate::network::{SimNetwork, Weather};
use crate::node::{Fate, Life, Node, address};
use crate::trace::Trace;
use crate::witness::{Invariant, Violation, Witness};

/// How long a healed cluster may take to serve again, at every node.
const HEALING_MAX: Duration = Duration::from_secs(30);
/// How long the shares of a quorum may take to open every node.
const CEREMONY_MAX: Duration = Duration::from_secs(60);
/// How long replicas may take to catch up once nothing is written any more.
const CONVERGENCE_MAX: Duration = Duration::from_secs(30);
/// How long tasks may take to end once all nodes have crashed.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(100);
/// So many of a hundred ceremonies are held in foul weather.
const FOUL_WEATHER_PERCENT: u64 = 30;
const SHARES: u64 = 5;
const THRESHOLD: u64 = 3;
/// The longest sync of a simulated disk.
const SYNC_LATENCY_MAX: Duration = Duration::from_millis(5);

/// The register that the operator writes to see whether the cluster serves. No client uses it.
pub const PROBE_KEY: usize = usize::MAX;

/// A simulated cluster. All in one thread, under tokio's paused time.
pub struct Cluster {
    /// Its nodes.
    pub nodes: Arc<Vec<Node>>,
    /// The wires.
    pub network: SimNetwork,
    /// What sees everything.
    pub witness: Witness,
    /// What happened.
    pub trace: Trace,
    dice: Dice,
    marker: String,
    shares: Vec<Zeroizing<Vec<u8>>>,
    token: String,
    /// Must not be found on any disk.
    canaries: Canaries,
    probes: u64,
    operations_max: Option<u64>,
    /// What the release on each node knows.
    releases: Vec<FeatureLevels>,
    raise_after: Option<Duration>,
    read_consistency: ReadConsistency,
    timings: Vec<Timing>,
}

impl Cluster {
    /// Starts `nodes` nodes with empty disks, and bootstraps Raft.
    pub async fn start(nodes: u64, honesty: Honesty, dice: Dice, trace: Trace) -> Result<Cluster, Violation> {
        Cluster::start_release(nodes, FEATURE_LEVELS, honesty, dice, trace).await
    }

    /// As [`Cluster::start`], with a release on every node that knows the feature levels `releases`.
    pub async fn start_release(
        nodes: u64,
        releases: FeatureLevels,
        honesty: Honesty,
        mut dice: Dice,
        trace: Trace,
    ) -> Result<Cluster, Violation> {
        raft::dangerous_seed_election_jitter(dice.throw());
        let witness = Witness::default();
        let network = SimNetwork::new(dice.fork(), trace.clone(), witness.clone());
        let started = Instant::now();
        let node = |number: u64| {
            let clock_error_ms = i64::try_from(dice.within(0..10_000)).expect("small") - 5_000;
            Node::new(node_id(number), SimDisk::new(honesty), SimClock::new(started, clock_error_ms))
        };
        let count = nodes;
        let nodes = Arc::new((1..=nodes).map(node).collect::<Vec<_>>());
        let marker = format!("canary-{:016x}", dice.throw());
        let mut cluster = Cluster {
            nodes,
            network,
            witness,
            trace,
            dice,
            marker,
            shares: Vec::new(),
            token: String::new(),
            canaries: Canaries::default(),
            probes: 0,
            operations_max: None,
            releases: vec![releases; usize::try_from(count).expect("a few nodes")],
            raise_after: None,
            read_consistency: ReadConsistency::Lease,
            timings: vec![Timing::default(); usize::try_from(count).expect("a few nodes")],
        };
        for at in 0..cluster.nodes.len() {
            cluster.restart(at).await?;
        }
        Ok(cluster)
    }

    /// Has the keyring rotate after so many encryptions, by a restart of every node.
    pub async fn rotate_after(&mut self, operations_max: u64) -> Result<(), Violation> {
        self.operations_max = Some(operations_max);
        for at in 0..self.nodes.len() {
            self.crash(at).await?;
            self.restart(at).await?;
        }
        Ok(())
    }

    /// What is started on a node from now on is a release that knows the feature levels `release`; with `raise_after`, one that raises the
    /// cluster by itself.
    pub fn install(&mut self, at: usize, release: FeatureLevels, raise_after: Option<Duration>) {
        self.releases[at] = release;
        self.raise_after = raise_after;
    }

    /// From its next start on, the clock of a node runs slower than it should, by this factor: its lease ends later than it thinks.
    pub fn slow_clock(&mut self, at: usize, factor: u32) {
        let Timing { heartbeat, election } = Timing::default();
        self.timings[at] = Timing { heartbeat: heartbeat * factor, election: election * factor };
    }

    /// From their next start on, all nodes make reads certain in this way.
    pub fn read_by(&mut self, consistency: ReadConsistency) {
        self.read_consistency = consistency;
    }

    /// Initialises the cluster at any node, opens it, and mounts what the workload needs.
    pub async fn initialize(&mut self) -> Result<(), Violation> {
        let deadline = Instant::now() + HEALING_MAX;
        let rng = SeededRng::dangerous_from_seed(self.dice.throw());
        let quorum = Quorum::new(SHARES, THRESHOLD).expect("3 of 5 is a quorum");
        let (shares, token) = loop {
            let (node, life) = self.any_life();
            let mut token = None;
            let found = |keyring: &barrier::Keyring| {
                let (plan, text) = service::found(keyring, node.clock.now(), &rng as &dyn Rng);
                token = Some(text);
                plan
            };
            let stuck = |why: &dyn std::fmt::Display| Violation::new(Invariant::ServesAgainWhenHealed, format_args!("init: {why}"));
            match timeout_at(deadline, life.barrier.initialize(&barrier::NewSplit::nameless(quorum), "simulated", found)).await {
                Ok(Ok(initialized)) => break (initialized.shares, token.expect("initialised with what was found")),
                Err(elapsed) => return Err(stuck(&elapsed)),
                Ok(Err(error)) if Instant::now() > deadline => return Err(stuck(&error)),
                Ok(Err(_)) => sleep(PAUSE).await,
            }
        };
        self.trace.event("initialized");

        // EXPOSE: the harness plays the operators, and seeks what must not be found.
        self.shares = shares.iter().map(|share| Zeroizing::new(share.expose().to_vec())).collect();
        self.token = token.to_string();
        self.canaries.add("a name or value", self.marker.as_bytes());
        self.canaries.add("the root token", self.token.as_bytes());
        // Shares and the root key travel between nodes, under TLS that ends there; the rest must not be seen on the wire.
        self.witness.watch_for(self.canaries.clone());
        for share in &self.shares {
            self.canaries.add("a share", share);
        }
        self.unseal().await?;
        let client = self.client();
        loop {
            match client.mount(self.any_node()).await {
                Outcome::Answered(()) => return Ok(()),
                // An earlier attempt may have been carried out.
                Outcome::NothingDone(why) if why.contains("already in use") => return Ok(()),
                Outcome::NothingDone(why) | Outcome::Unknown(why) if Instant::now() > deadline => {
                    return Err(Violation::new(Invariant::ServesAgainWhenHealed, why));
                }
                Outcome::NothingDone(_) | Outcome::Unknown(_) => sleep(PAUSE).await,
            }
        }
    }

    /// A client with the root token.
    pub fn client(&mut self) -> Client {
        Client::new(self.dice.throw(), &self.token, &self.marker)
    }

    /// The shares that open the cluster.
    pub fn shares(&self) -> Vec<Zeroizing<Vec<u8>>> {
        self.shares.clone()
    }

    /// The operators have other shares from now on.
    pub fn set_shares(&mut self, shares: Vec<Zeroizing<Vec<u8>>>) {
        for share in &shares {
            self.canaries.add("a share", share);
        }
        self.shares = shares;
    }

    /// Enters shares, each at any sealed node, until every running node is open.
    pub async fn unseal(&mut self) -> Result<(), Violation> {
        let deadline = Instant::now() + CEREMONY_MAX;
        let mut shares: Vec<usize> = (0..self.shares.len()).collect();
        self.dice.shuffle(&mut shares);
        for share in shares.into_iter().cycle() {
            let sealed: Vec<Arc<Life>> = self.lives().into_iter().filter(|life| life.barrier.is_sealed()).collect();
            if sealed.is_empty() {
                self.trace.event("every running node is open");
                return Ok(());
            }
            let life = self.dice.pick(&sealed);
            let share = Share::from_bytes(&self.shares[share]).expect("it was a share at init");
            let entered = timeout_at(deadline, life.barrier.enter_share(share, false)).await;
            if Instant::now() >= deadline {
                let why = format!("{} nodes stay sealed; the last answer was {:?}", sealed.len(), entered.map(|it| it.map(|_| ())));
                return Err(Violation::new(Invariant::QuorumOpensEveryNode, why));
            }
            sleep(PAUSE).await;
        }
        unreachable!("a cycle has no end")
    }

    /// Enters shares at sealed nodes for as long as `limit`, or until none is left: for a cluster in which some nodes cannot be opened, since
    /// they are no members.
    pub async fn unseal_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for share in (0..self.shares.len()).cycle() {
            let sealed: Vec<Arc<Life>> = self.lives().into_iter().filter(|life| life.barrier.is_sealed()).collect();
            if sealed.is_empty() || Instant::now() >= deadline {
                return;
            }
            let life = self.dice.pick(&sealed);
            let share = Share::from_bytes(&self.shares[share]).expect("it was a share at init");
            // Refused or not: there will be another.
            drop(timeout_at(deadline, life.barrier.enter_share(share, false)).await);
            sleep(PAUSE).await;
        }
    }

    /// Seals every node, by a request at one.
    pub async fn seal(&self, at: usize) {
        let Some(life) = self.nodes[at].life() else { return };
        let sealed = life.barrier.seal("the operator").await;
        self.trace.event(&format!("{} seals: {}", self.nodes[at].id, if sealed.is_ok() { "all" } else { "only itself, surely" }));
    }

    /// Starts a node again on what its disk holds. It is sealed.
    pub async fn restart(&mut self, at: usize) -> Result<(), Violation> {
        let fate = Fate {
            rng_seed: self.dice.throw(),
            sync_latency: self.dice.duration(Duration::from_micros(10)..SYNC_LATENCY_MAX),
            operations_max: self.operations_max,
            feature_levels: self.releases[at],
            read_consistency: self.read_consistency,
            timing: self.timings[at].clone(),
            raise_after: self.raise_after,
        };
        let node = &self.nodes[at];
        if node.life().is_some() {
            return Ok(());
        }
        self.trace.event(&format!("{} starts", node.id));
        let life = node.start(fate, &self.network, &self.witness).await?;
        let member = |id: &NodeId| Member { cluster_address: address(id), api_address: address(id), ..Member::default() };
        let members: BTreeMap<_, _> = self.nodes.iter().map(|node| (node.id.clone(), member(&node.id))).collect();
        node.begin(&life, members, &self.witness);
        Ok(())
    }

    /// Cuts a node's power.
    pub async fn crash(&mut self, at: usize) -> Result<(), Violation> {
        let seed = self.dice.throw();
        let node = &self.nodes[at];
        self.trace.event(&format!("{} crashes", node.id));
        node.crash(seed, &self.network).await
    }

    /// Where the node is that leads, if it says so.
    pub fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.life().is_some_and(|life| life.raft.status().role == Role::Leader);
        self.nodes.iter().position(leads)
    }

    /// Mends the wires, starts what is down, opens what is sealed, and waits until every node serves.
    pub async fn heal(&mut self) -> Result<(), Violation> {
        self.trace.event("healing");
        self.network.heal();
        for at in 0..self.nodes.len() {
            self.restart(at).await?;
        }
        // A ceremony must not need fair weather.
        if self.dice.chance(FOUL_WEATHER_PERCENT) {
            self.network.set_weather(Weather::foul());
        }
        self.unseal().await?;
        self.network.set_weather(Weather::fair());
        let client = self.client();
        let nodes = Arc::clone(&self.nodes);
        let deadline = Instant::now() + HEALING_MAX;
        for node in nodes.iter() {
            loop {
                self.probes += 1;
                let why = match client.operate(node, PROBE_KEY, Action::Write(self.probes)).await {
                    Outcome::Answered(_) => break,
                    Outcome::NothingDone(why) | Outcome::Unknown(why) => why,
                };
                if Instant::now() > deadline {
                    return Err(Violation::new(Invariant::ServesAgainWhenHealed, format_args!("{}: {why}", node.id)));
                }
                // Somebody may have sealed the cluster by a request whose fate was unknown until now.
                self.unseal().await?;
                sleep(PAUSE).await;
            }
        }
        self.trace.event("every node serves");
        Ok(())
    }

    /// Looks for secrets on every disk, in contents and names of files.
    pub fn check_disks(&self) -> Result<(), Violation> {
        for node in self.nodes.iter() {
            let disk = node.disk.memory();
            for path in disk.paths() {
                let content = disk.content(&path).unwrap_or_default();
                let found = self.canaries.find_in(&content).or_else(|| self.canaries.find_in(path.as_os_str().as_encoded_bytes()));
                if let Some(name) = found {
                    let seen = format_args!("{name} in {} of {}", path.display(), node.id);
                    return Err(Violation::new(Invariant::NoPlaintextBelowBarrier, seen));
                }
            }
        }
        Ok(())
    }

    /// Reads every acknowledged version, each at any node. The cluster must be healthy.
    pub async fn check_acknowledged(&mut self, acknowledged: &[Acknowledged]) -> Result<(), Violation> {
        let client = self.client();
        let deadline = Instant::now() + HEALING_MAX;
        for Acknowledged { key, version, value } in acknowledged {
            let found = loop {
                match client.read(self.any_node(), *key, Some(*version)).await {
                    Outcome::Answered(found) => break found,
                    Outcome::NothingDone(why) | Outcome::Unknown(why) if Instant::now() > deadline => {
                        return Err(Violation::new(Invariant::ServesAgainWhenHealed, why));
                    }
                    Outcome::NothingDone(_) | Outcome::Unknown(_) => sleep(PAUSE).await,
                }
            };
            if found != Some((*version, *value)) {
                let seen = format_args!("key {key}: version {version} was acknowledged with value {value}, now {found:?} is found");
                return Err(Violation::new(Invariant::NothingAcknowledgedIsLost, seen));
            }
        }
        Ok(())
    }

    /// Waits until all replicas have applied the same, and compares what they hold. Nothing may be written meanwhile.
    pub async fn check_convergence(&self) -> Result<(), Violation> {
        let deadline = Instant::now() + CONVERGENCE_MAX;
        loop {
            let states: Vec<_> = self.lives().iter().map(|life| life.applied()).collect();
            let (first, rest) = states.split_first().expect("there is a node");
            if states.len() == self.nodes.len() && rest.iter().all(|state| state.position == first.position) {
                if let Some(other) = rest.iter().find(|state| *state != first) {
                    return Err(Violation::new(Invariant::AllNodesConverge, format_args!("{first} here, {other} there")));
                }
                break;
            }
            if Instant::now() > deadline {
                let positions: Vec<_> = states.iter().map(|state| state.position).collect();
                return Err(Violation::new(Invariant::AllNodesConverge, format_args!("still at {positions:?}")));
            }
            sleep(PAUSE).await;
        }
        for life in self.lives() {
            let verified = life.table().and_then(|view| view.verify());
            verified.map_err(|error| Violation::new(Invariant::TablesAreWhole, error))?;
        }
        Ok(())
    }

    /// Cuts every node's power, for good. Nothing may be left running in this thread's runtime.
    pub async fn stop(&mut self) -> Result<(), Violation> {
        for at in 0..self.nodes.len() {
            self.crash(at).await?;
        }
        // Some tasks learn only by and by that those they served are gone.
        let deadline = Instant::now() + STOP_MAX;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        while tasks() > 0 && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        match tasks() {
            0 => Ok(()),
            left => Err(Violation::new(Invariant::CrashedNodesLeaveNothing, format_args!("{left} tasks"))),
        }
    }

    /// The dice of whoever drives this cluster.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    fn lives(&self) -> Vec<Arc<Life>> {
        self.nodes.iter().filter_map(Node::life).collect()
    }

    fn any_node(&mut self) -> &Node {
        self.dice.pick(&self.nodes)
    }

    fn any_life(&mut self) -> (&Node, Arc<Life>) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].life().is_some()).collect();
        let at = *self.dice.pick(&running);
        (&self.nodes[at], self.nodes[at].life().expect("it was running"))
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId::parse(&format!("n{number}")).expect("a letter and digits are an id")
}
