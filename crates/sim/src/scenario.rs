//! A scenario: from one seed, a cluster, clients at work, and faults one after the other. After each fault the cluster heals,
//! and every [`Invariant`] must hold.

use std::fmt;
use std::time::Duration;

use storage::disk::{Fault, FaultPoint};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::disk::Honesty;
use crate::history::History;
use crate::linearizability::check_by_key;
use crate::linearizability::register::Register;
use crate::network::Weather;
use crate::panics;
use crate::trace::{Shown, Trace};
use crate::witness::{Invariant, Violation};
use crate::workload::Clients;

/// Simulated time that one scenario may take.
const SIMULATED_TIME_MAX: Duration = Duration::from_secs(600);
/// How long clients work before the first fault, and after the last.
const CALM: Duration = Duration::from_millis(500);
/// A fault lasts this long.
const FAULT: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(2500);
/// So many of a hundred faults happen in foul weather.
const FOUL_WEATHER_PERCENT: u64 = 30;
/// Operations on the disk that succeed before it fails under a writing node.
const OPERATIONS_BEFORE_FAULT: u64 = 40;

/// What a scenario is made of, besides its seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes of the cluster.
    pub nodes: u64,
    /// Clients.
    pub clients: usize,
    /// Faults, one after the other.
    pub faults: usize,
    /// Of all disks.
    pub honesty: Honesty,
    /// What is shown as it happens.
    pub shown: Shown,
}

impl Default for Options {
    fn default() -> Options {
        Options { nodes: 3, clients: 5, faults: 6, honesty: Honesty::Honest, shown: Shown::Nothing }
    }
}

/// What a scenario came to in which every invariant held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Operations whose outcome the clients know, or may guess at.
    pub operations: usize,
    /// Of these, the ones whose outcome nobody knows.
    pub unknown: usize,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Events and messages.
    pub events: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Of all events and messages. The same seed and options give the same hash.
    pub trace_hash: [u8; 32],
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { operations, unknown, acknowledged, events, simulated, trace_hash } = self;
        let trace = hex::encode(&trace_hash[..8]);
        write!(
            f,
            "{operations} operations ({unknown} unknown), {acknowledged} writes acknowledged, {events} events in {simulated:.1?}, trace {trace}"
        )
    }
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    CrashLeader,
    CrashFollower,
    /// As a power cut of the house.
    CrashAll,
    /// The disk fails in the middle of what it writes, and the power with it.
    CrashLeaderInWrite,
    CrashAnyInWrite,
    /// Nobody hears the leader, and it hears nobody.
    IsolateLeader,
    /// The leader hears nobody, but is heard.
    DeafenLeader,
    /// The leader is not heard, but hears.
    MuteLeader,
    /// One pair cannot hear each other.
    CutOneLink,
    LoseMessages,
    DelayMessages,
    /// Crash a follower, write on until the log it needs is purged.
    LeaveFollowerBehind,
    SealAll,
    TransferLeader,
    JumpClock,
}

const ACTS: &[Act] = &[
    Act::CrashLeader,
    Act::CrashLeader,
    Act::CrashFollower,
    Act::CrashAll,
    Act::CrashAll,
    Act::CrashLeaderInWrite,
    Act::CrashLeaderInWrite,
    Act::CrashAnyInWrite,
    Act::IsolateLeader,
    Act::DeafenLeader,
    Act::MuteLeader,
    Act::CutOneLink,
    Act::LoseMessages,
    Act::DelayMessages,
    Act::LeaveFollowerBehind,
    Act::SealAll,
    Act::TransferLeader,
    Act::JumpClock,
];

/// Runs the scenario of a seed, in this thread.
///
/// # Panics
/// When a runtime cannot be made. What panics inside the simulation is a violation instead.
pub fn run(seed: u64, options: &Options) -> Result<Report, Violation> {
    panics::catch();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime of one thread can be made");
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let scenario = timeout(SIMULATED_TIME_MAX, Scenario::run(seed, options));
            let too_long = |_| Violation::new(Invariant::ServesAgainWhenHealed, format_args!("no end after {SIMULATED_TIME_MAX:?}"));
            scenario.await.map_err(too_long)?
        })
    }));
    let panic = panics::first();
    panics::release();
    match (panic, outcome) {
        (Some(text), _) => Err(Violation::new(Invariant::NoTaskPanics, text)),
        (None, Ok(outcome)) => outcome,
        (None, Err(_)) => unreachable!("every panic passes the hook"),
    }
}

struct Scenario {
    cluster: Cluster,
    history: History,
}

impl Scenario {
    async fn run(seed: u64, options: &Options) -> Result<Report, Violation> {
        let started = Instant::now();
        let trace = Trace::new(options.shown);
        let cluster = Cluster::start(options.nodes, options.honesty, Dice::new(seed), trace.clone()).await?;
        let mut scenario = Scenario { cluster, history: History::default() };
        scenario.cluster.initialize().await?;
        scenario.cluster.heal().await?;

        let clients = (0..options.clients).map(|_| (scenario.cluster.client(), scenario.cluster.dice().fork())).collect();
        let clients = Clients::start(clients, &scenario.cluster.nodes, &scenario.history);
        sleep(CALM).await;
        for _ in 0..options.faults {
            let act = *scenario.cluster.dice().pick(ACTS);
            trace.event(&format!("fault: {act:?}"));
            if scenario.cluster.dice().chance(FOUL_WEATHER_PERCENT) {
                scenario.cluster.network.set_weather(Weather::foul());
            }
            scenario.carry_out(act).await?;
            scenario.cluster.heal().await?;
            scenario.check_step().await?;
            sleep(CALM).await;
        }
        clients.stop().await;
        scenario.check_end().await?;
        scenario.cluster.stop().await?;
        scenario.check_witness()?;
        scenario.report(started.elapsed(), &trace)
    }

    async fn carry_out(&mut self, act: Act) -> Result<(), Violation> {
        let cluster = &mut self.cluster;
        let count = cluster.nodes.len();
        let leader = match cluster.leader() {
            Some(leader) => leader,
            None => usize::try_from(cluster.dice().within(0..count as u64)).expect("there are few nodes"),
        };
        let others: Vec<usize> = (0..count).filter(|at| *at != leader).collect();
        // A single node is its own other.
        let other = if others.is_empty() { leader } else { *cluster.dice().pick(&others) };
        let lasting = cluster.dice().duration(FAULT);
        let id = |cluster: &Cluster, at: usize| cluster.nodes[at].id.clone();
        match act {
            Act::CrashLeader => cluster.crash(leader).await?,
            Act::CrashFollower => cluster.crash(other).await?,
            Act::CrashAll => {
                let mut order: Vec<usize> = (0..count).collect();
                cluster.dice().shuffle(&mut order);
                for at in order {
                    cluster.crash(at).await?;
                }
                // There is no cluster that clients could wait for.
                return Ok(());
            }
            Act::CrashLeaderInWrite => self.crash_in_write(leader).await?,
            Act::CrashAnyInWrite => self.crash_in_write(other).await?,
            Act::IsolateLeader | Act::DeafenLeader | Act::MuteLeader => {
                for other in others {
                    let (leader, other) = (id(cluster, leader), id(cluster, other));
                    if act != Act::DeafenLeader {
                        cluster.network.cut(&leader, &other);
                    }
                    if act != Act::MuteLeader {
                        cluster.network.cut(&other, &leader);
                    }
                }
            }
            Act::CutOneLink => {
                let (one, other) = (id(cluster, leader), id(cluster, other));
                cluster.network.cut(&one, &other);
                cluster.network.cut(&other, &one);
            }
            Act::LoseMessages => {
                let loss_percent = cluster.dice().within(5..40);
                cluster.network.set_weather(Weather { loss_percent, ..Weather::fair() });
            }
            Act::DelayMessages => {
                let longest = cluster.dice().duration(Duration::from_millis(10)..Duration::from_millis(300));
                cluster.network.set_weather(Weather { delay: Duration::from_millis(1)..longest, loss_percent: 0 });
            }
            Act::LeaveFollowerBehind => {
                cluster.crash(other).await?;
                sleep(Duration::from_secs(4)).await;
                if let Some(life) = cluster.nodes[leader].life() {
                    // A node that stops answers so; the crash that stopped it is seen elsewhere.
                    drop(life.raft.trigger_snapshot().await);
                }
            }
            Act::SealAll => cluster.seal(other).await,
            Act::TransferLeader => {
                if let Some(life) = cluster.nodes[leader].life() {
                    drop(life.raft.transfer_leader(id(cluster, other)).await);
                }
            }
            Act::JumpClock => {
                let error_ms = i64::try_from(cluster.dice().within(0..7_200_000)).expect("small") - 3_600_000;
                cluster.nodes[leader].clock.jump(error_ms);
            }
        }
        sleep(lasting).await;
        Ok(())
    }

    /// Lets a node's disk fail somewhere in its next operations, and then cuts its power.
    async fn crash_in_write(&mut self, at: usize) -> Result<(), Violation> {
        let after = self.cluster.dice().within(0..OPERATIONS_BEFORE_FAULT);
        if let Some(life) = self.cluster.nodes[at].life() {
            life.doom();
            let fault = Fault { point: FaultPoint::Change, after, error: std::io::ErrorKind::Other, forever: true };
            self.cluster.nodes[at].disk.memory().fail(fault);
            // If nothing is written, the power is cut all the same.
            drop(timeout(FAULT.end, life.raft.failed()).await);
        }
        self.cluster.crash(at).await
    }

    fn check_witness(&self) -> Result<(), Violation> {
        if let Some(text) = panics::first() {
            return Err(Violation::new(Invariant::NoTaskPanics, text));
        }
        self.cluster.witness.violation().map_or(Ok(()), Err)
    }

    /// After each fault, with the clients at work.
    async fn check_step(&mut self) -> Result<(), Violation> {
        self.check_witness()?;
        self.cluster.check_disks()?;
        // The newest of each key; all of them at the end.
        let mut newest = self.history.acknowledged();
        newest.sort_by_key(|acknowledged| (acknowledged.key, std::cmp::Reverse(acknowledged.version)));
        newest.dedup_by_key(|acknowledged| acknowledged.key);
        self.cluster.check_acknowledged(&newest).await?;
        self.check_witness()
    }

    /// When the clients have gone.
    async fn check_end(&mut self) -> Result<(), Violation> {
        self.cluster.heal().await?;
        self.cluster.check_acknowledged(&self.history.acknowledged()).await?;
        self.cluster.check_convergence().await?;
        self.cluster.check_disks()?;
        self.check_witness()?;
        let checked = check_by_key::<Register, _>(self.history.entries());
        checked.map_err(|(key, violation)| Violation::new(Invariant::HistoryIsLinearizable, format_args!("key {key}: {violation:?}")))
    }

    fn report(self, simulated: Duration, trace: &Trace) -> Result<Report, Violation> {
        let entries = self.history.entries();
        Ok(Report {
            operations: entries.len(),
            unknown: entries.iter().filter(|(_, operation)| operation.returned.is_none()).count(),
            acknowledged: self.history.acknowledged().len(),
            events: trace.events(),
            simulated,
            trace_hash: trace.hash(),
        })
    }
}
