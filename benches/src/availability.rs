//! `benches availability`: what clients that retry as the SDK does notice, while every node is restarted in turn, and when the leader is
//! killed.
//!
//! Always: three real nodes, each a process of its own with its data on a disk; every client knows all three; a request counts from the
//! first try to the answer, retries included. Nothing is asserted: figures are for people (docs/performance.md).

mod nodes;
mod picture;
mod samples;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::args::Availability;
use crate::conclave;
use crate::process::Processes;
use nodes::Nodes;
use samples::{Load, Samples};

/// How long all is well before and after what is measured.
const QUIET: Duration = Duration::from_secs(2);
/// Between two restarts.
const BETWEEN: Duration = Duration::from_secs(1);

/// Something that was done to the cluster, and when.
struct Event {
    at: Instant,
    what: String,
}

/// One trial: what was done, and what clients saw.
struct Trial {
    title: &'static str,
    began: Instant,
    ended: Instant,
    /// When the first thing was done.
    disturbed: Instant,
    events: Vec<Event>,
    samples: Samples,
}

/// Runs both trials, prints their figures, draws them if asked to.
pub(crate) async fn run(args: &Availability, folder: &Path, processes: &mut Processes) -> Result<()> {
    let program = conclave::program(args.conclave.as_deref()).await?;
    eprintln!("starting three nodes");
    let mut nodes = Nodes::start(&program, folder, processes).await?;
    let trials = [rolling_restart(args, &mut nodes, processes).await?, killed_leader(args, &mut nodes, processes).await?];
    for trial in &trials {
        crate::print(&told(trial))?;
    }
    if let Some(file) = &args.svg {
        std::fs::write(file, picture::draw(&trials)).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

async fn rolling_restart(args: &Availability, nodes: &mut Nodes, processes: &mut Processes) -> Result<Trial> {
    eprintln!("a rolling restart");
    let (load, began) = (Load::start(nodes.client(), args), Instant::now());
    sleep(QUIET).await;
    let disturbed = Instant::now();
    let (mut events, leader) = (Vec::new(), nodes.leader().await?);
    for step in 0..nodes.count() {
        // The leader first.
        let at = (leader + step) % nodes.count();
        events.push(Event { at: Instant::now(), what: format!("SIGTERM {}", nodes.id(at)) });
        nodes.stop(at, Signal::TERM, processes).await?;
        nodes.restart(at, processes).await?;
        events.push(Event { at: Instant::now(), what: format!("{} serves", nodes.id(at)) });
        sleep(BETWEEN).await;
    }
    sleep(QUIET).await;
    Ok(Trial { title: "Rolling restart of three nodes", began, ended: Instant::now(), disturbed, events, samples: load.stop().await? })
}

async fn killed_leader(args: &Availability, nodes: &mut Nodes, processes: &mut Processes) -> Result<Trial> {
    eprintln!("a killed leader");
    let (load, began) = (Load::start(nodes.client(), args), Instant::now());
    sleep(QUIET).await;
    let (disturbed, leader) = (Instant::now(), nodes.leader().await?);
    let mut events = vec![Event { at: Instant::now(), what: format!("kill -9 {} (leader)", nodes.id(leader)) }];
    nodes.stop(leader, Signal::KILL, processes).await?;
    sleep(QUIET * 2).await;
    nodes.restart(leader, processes).await?;
    events.push(Event { at: Instant::now(), what: format!("{} serves", nodes.id(leader)) });
    sleep(QUIET).await;
    Ok(Trial { title: "kill -9 of the leader", began, ended: Instant::now(), disturbed, events, samples: load.stop().await? })
}

fn told(trial: &Trial) -> String {
    let milliseconds = |duration: Duration| format!("{:.0} ms", duration.as_secs_f64() * 1e3);
    let mut text = format!("\n{}\n", trial.title);
    for event in &trial.events {
        text.push_str(&format!("  {:>6.2} s  {}\n", (event.at - trial.began).as_secs_f64(), event.what));
    }
    for (name, writes) in [("writes", true), ("reads", false)] {
        let seen = trial.samples.of(writes);
        text.push_str(&format!(
            "  {name:<7} {} asked, {} failed after retries; longest without an answer {}; p50 {}, p99 {}, longest {}\n",
            seen.asked,
            seen.failed,
            milliseconds(trial.samples.longest_gap(writes, trial.disturbed)),
            milliseconds(seen.p50),
            milliseconds(seen.p99),
            milliseconds(seen.max),
        ));
    }
    if let Some(failure) = trial.samples.first_failure() {
        text.push_str(&format!("  the first failure: {failure}\n"));
    }
    text
}
