//! `sim`: runs scenarios of the simulated cluster, one seed after the other, and stops at the first broken invariant.
//!
//! Exit status: 0 if every invariant held, 1 if one did not (the seed and the command that replays it are printed), 2 for a
//! mistake on the command line.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use sim::disk::Honesty;
use sim::scenario::{self, Options};
use sim::trace::Shown;
use tracing_subscriber::EnvFilter;

/// Runs the simulated cluster.
#[derive(Parser)]
#[command(name = "sim", about = "Runs the simulated cluster: one scenario for each seed, from one seed on")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    histories: u64,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// Faults in each scenario.
    #[arg(long, default_value_t = Options::default().faults)]
    faults: usize,
    /// Clients in each scenario.
    #[arg(long, default_value_t = Options::default().clients)]
    clients: usize,
    /// Scenarios at once [default: one for each processor].
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// What disks do when asked to sync. All but `honest` are positive controls, which must fail.
    #[arg(long, value_enum, default_value = "honest")]
    disks: Disks,
    /// Shows events as they happen; with RUST_LOG, the product's own traces too. For one seed.
    #[arg(long)]
    trace: bool,
    /// Shows every message between nodes as well.
    #[arg(long)]
    messages: bool,
}

/// What disks do when asked to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Disks {
    /// Sync.
    Honest,
    /// Nothing.
    Lying,
    /// Sync later.
    Lagging,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.trace {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off")))
            .with_writer(std::io::stderr)
            .without_time()
            .init();
    }
    let options = Options {
        nodes: arguments.nodes,
        clients: arguments.clients,
        faults: arguments.faults,
        honesty: match arguments.disks {
            Disks::Honest => Honesty::Honest,
            Disks::Lying => Honesty::Lying,
            Disks::Lagging => Honesty::Lagging,
        },
        shown: match arguments {
            Arguments { messages: true, .. } => Shown::Messages,
            Arguments { trace: true, .. } => Shown::Events,
            _ => Shown::Nothing,
        },
    };
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);

    let started = Instant::now();
    let next = AtomicU64::new(0);
    let operations = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failed = Mutex::new(None);
    std::thread::scope(|threads| {
        for _ in 0..jobs.min(usize::try_from(arguments.histories).unwrap_or(usize::MAX)) {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.histories {
                        return;
                    }
                    let seed = arguments.seed.wrapping_add(number);
                    match scenario::run(seed, &options) {
                        Ok(report) => {
                            operations.fetch_add(report.operations as u64, Ordering::Relaxed);
                            println!("seed {seed}: {report}");
                        }
                        Err(violation) => {
                            stop.store(true, Ordering::Relaxed);
                            failed.lock().expect("nobody panics with it").get_or_insert((seed, violation));
                        }
                    }
                }
            });
        }
    });
    let operations = operations.into_inner();
    match failed.into_inner().expect("nobody panics with it") {
        None => {
            println!("{} histories, {operations} operations, no violation, in {:.1?}", arguments.histories, started.elapsed());
            ExitCode::SUCCESS
        }
        Some((seed, violation)) => {
            println!("seed {seed}: VIOLATION of {violation}");
            println!("replay: cargo xtask sim --seed {seed} --trace{}", differences(&arguments));
            ExitCode::FAILURE
        }
    }
}

/// The options that a replay needs.
fn differences(arguments: &Arguments) -> String {
    let defaults = Options::default();
    let mut text = String::new();
    for (name, value, default) in [
        ("nodes", arguments.nodes, defaults.nodes),
        ("faults", arguments.faults as u64, defaults.faults as u64),
        ("clients", arguments.clients as u64, defaults.clients as u64),
    ] {
        if value != default {
            text.push_str(&format!(" --{name} {value}"));
        }
    }
    match arguments.disks {
        Disks::Honest => {}
        Disks::Lying => text.push_str(" --disks lying"),
        Disks::Lagging => text.push_str(" --disks lagging"),
    }
    text
}
