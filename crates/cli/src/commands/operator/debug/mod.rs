//! `conclave operator debug`: a bundle of what every node tells of itself over a while, to be looked at elsewhere. No secrets.
//!
//! Always: a capture that fails is noted in the index and stops nothing; Ctrl-C ends it early, and what was captured is written.

mod bundle;
mod scrub;

use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use types::Clock as _;
use zeroize::Zeroizing;

use super::top::look::Members;
use crate::args::{Debug, DebugTarget, Global, VERSION};
use crate::connect;
use crate::fault::Fault;
use crate::files;
use crate::output::{self, Printer};

use bundle::Bundle;
use scrub::Scrubber;

/// How long one node may take to tell one thing.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// What a node may be asked again after, at the soonest.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Where what is of the whole cluster lies.
const CLUSTER: &str = "cluster";
/// Who may read the bundle.
const FILE_MODE: u32 = 0o600;

/// What is asked: by whom, when, and into which file.
struct Ask {
    target: DebugTarget,
    path: &'static str,
    query: &'static [(&'static str, &'static str)],
    file: &'static str,
    when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Once,
    Interval,
    MetricsInterval,
}

/// Asked of each node.
const NODE: &[Ask] = &[
    Ask { target: DebugTarget::Config, path: "sys/config/state/sanitized", query: &[], file: "config.json", when: When::Once },
    Ask { target: DebugTarget::Host, path: "sys/host-info", query: &[], file: "host-info.jsonl", when: When::Interval },
    Ask {
        target: DebugTarget::Metrics,
        path: "sys/metrics",
        query: &[("format", "prometheus")],
        file: "metrics.prom",
        when: When::MetricsInterval,
    },
    Ask { target: DebugTarget::Requests, path: "sys/in-flight-req", query: &[], file: "in-flight.jsonl", when: When::Interval },
    Ask { target: DebugTarget::ServerStatus, path: "sys/health", query: &[], file: "health.jsonl", when: When::Interval },
    Ask { target: DebugTarget::ServerStatus, path: "sys/seal-status", query: &[], file: "seal-status.jsonl", when: When::Interval },
    Ask { target: DebugTarget::ServerStatus, path: "sys/leader", query: &[], file: "leader.jsonl", when: When::Interval },
];

/// Asked of any node.
const ONCE_FOR_ALL: &[Ask] = &[
    Ask { target: DebugTarget::Members, path: "sys/ha-status", query: &[], file: "members.jsonl", when: When::Interval },
    Ask {
        target: DebugTarget::Members,
        path: "sys/storage/raft/configuration",
        query: &[],
        file: "raft-configuration.jsonl",
        when: When::Interval,
    },
    Ask {
        target: DebugTarget::Members,
        path: "sys/storage/raft/autopilot/state",
        query: &[],
        file: "autopilot-state.jsonl",
        when: When::Interval,
    },
    Ask {
        target: DebugTarget::Members,
        path: "sys/storage/raft/autopilot/configuration",
        query: &[],
        file: "autopilot-configuration.json",
        when: When::Once,
    },
    Ask { target: DebugTarget::ServerStatus, path: "sys/version-history", query: &[], file: "version-history.json", when: When::Once },
    Ask { target: DebugTarget::ServerStatus, path: "sys/key-status", query: &[], file: "key-status.json", when: When::Once },
    Ask { target: DebugTarget::ServerStatus, path: "sys/rotate/config", query: &[], file: "rotation.json", when: When::Once },
];

/// Captures, and writes the bundle.
pub(crate) async fn run(global: &Global, printer: &Printer, args: &Debug) -> Result<(), Fault> {
    let plan = Plan::of(args)?;
    let client = connect::client_with(global, |builder| builder.retries_max(0).timeout(2 * ASK_TIMEOUT).attempt_timeout(ASK_TIMEOUT))?;
    // Before two minutes have gone by for nothing.
    if plan.output.exists() {
        return Err(Fault::local(format!("{} is there already", plan.output.display()))
            .cure("nothing is overwritten: name another file with -output"));
    }
    let began = now();
    let name = format!("conclave-debug-{}", began.replace([':', '-'], "").split('.').next().unwrap_or_default().trim_end_matches('Z'));
    let token = connect::token_in_use()?;
    let mut bundle = Bundle::new(&name, Scrubber::new(token.into_iter().map(Zeroizing::new).collect()));
    output::note(&format!(
        "Capturing for {} into {}. Ctrl-C ends it early, and writes what is there.",
        args.duration,
        plan.output.display()
    ));
    let asked: Vec<String> = tokio::select! {
        asked = capture(global, &client, &plan, &mut bundle) => asked?,
        _ = tokio::signal::ctrl_c() => Vec::new(),
    };
    let about = json!({
        "conclave": VERSION,
        "address": client.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "nodes": asked,
        "began": began,
        "ended": now(),
        "duration": args.duration,
        "interval": args.interval,
        "metrics_interval": args.metrics_interval,
        "targets": plan.targets.iter().map(|target| target.name()).collect::<Vec<_>>(),
        "not_captured": "pprof: there are no profiles of a running node; take them with perf",
    });
    let modified_s = types::SystemClock.now().0 / 1000;
    let archive = bundle.archive(&about, modified_s).map_err(|error| Fault::local(format!("put the bundle together: {error}")))?;
    files::create(&plan.output, &archive, FILE_MODE)?;
    let whole = json!({ "bundle": plan.output.display().to_string(), "files": bundle.files(), "errors": bundle.failures() });
    printer.answer(&whole.as_object().cloned().unwrap_or_default(), &whole, || {
        let failures = match bundle.failures() {
            0 => String::new(),
            1 => ", and an error in its index.json".to_owned(),
            count => format!(", and {count} errors in its index.json"),
        };
        format!(
            "Written: {} with {} files{failures}. It holds no secret, but names of hosts and addresses.\n",
            plan.output.display(),
            bundle.files()
        )
    })?;
    if bundle.files() == 0 { Err(Fault::server("no node told anything").cure("the index of the bundle says why")) } else { Ok(()) }
}

/// What was asked for, checked.
struct Plan {
    duration: Duration,
    interval: Duration,
    metrics_interval: Duration,
    output: PathBuf,
    targets: Vec<DebugTarget>,
}

impl Plan {
    fn of(args: &Debug) -> Result<Plan, Fault> {
        let parse = |flag: &str, text: &str| client::parse_duration(text).map_err(|error| Fault::local(format!("{flag}: {error}")));
        let (duration, interval) = (parse("-duration", &args.duration)?, parse("-interval", &args.interval)?);
        let metrics_interval = parse("-metrics-interval", &args.metrics_interval)?;
        if duration > DURATION_MAX || interval < INTERVAL_MIN || metrics_interval < INTERVAL_MIN {
            return Err(Fault::local("-duration is 24h at most, -interval and -metrics-interval are 500ms at least"));
        }
        let targets = if args.target.is_empty() { DebugTarget::all() } else { args.target.clone() };
        let stamp = now().replace([':', '-'], "");
        let output = args
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("conclave-debug-{}Z.tar.gz", stamp.split(['.', 'Z']).next().unwrap_or_default())));
        Ok(Plan { duration, interval, metrics_interval, output, targets })
    }
}

/// Asks until the time is over; answers which nodes were asked.
async fn capture(global: &Global, client: &Client, plan: &Plan, bundle: &mut Bundle) -> Result<Vec<String>, Fault> {
    let (members, _) = Members::find(client).await;
    let nodes = members.clients(client)?;
    let names = nodes.iter().map(|(name, _)| name.clone()).collect();
    let mut logs = logs(global, plan, &members)?;
    let began = Instant::now();
    let (mut next, mut next_metrics) = (began, began);
    let mut is_first = true;
    loop {
        let now = Instant::now();
        let is_due = |when: When| match when {
            When::Once => is_first,
            When::Interval => now >= next,
            When::MetricsInterval => now >= next_metrics,
        };
        round(client, &nodes, bundle, &|ask| plan.targets.contains(&ask.target) && is_due(ask.when)).await;
        is_first = false;
        if now >= next {
            next = now + plan.interval;
        }
        if now >= next_metrics {
            next_metrics = now + plan.metrics_interval;
        }
        let end = began + plan.duration;
        if next.min(next_metrics) >= end {
            tokio::time::sleep_until(end).await;
            break;
        }
        tokio::time::sleep_until(next.min(next_metrics)).await;
    }
    while let Some(ended) = logs.join_next().await {
        if let Ok((node, text)) = ended {
            keep(bundle, &node, DebugTarget::Log, "trace.log", text);
        }
    }
    Ok(names)
}

/// A node, and its traces or why there are none.
type Followed = (String, Result<String, String>);

/// Follows the traces of every node for as long as it takes.
fn logs(global: &Global, plan: &Plan, members: &Members) -> Result<JoinSet<Followed>, Fault> {
    let mut logs = JoinSet::new();
    if !plan.targets.contains(&DebugTarget::Log) {
        return Ok(logs);
    }
    // One answer takes the whole time.
    let patient = plan.duration + 2 * ASK_TIMEOUT;
    let client = connect::client_with(global, |builder| builder.retries_max(0).timeout(patient).attempt_timeout(patient))?;
    let seconds = plan.duration.as_secs().max(1);
    for (name, node) in members.clients(&client)? {
        logs.spawn(async move {
            let told = node.request(Method::Get, "sys/monitor").query("duration", format!("{seconds}s")).send().await;
            (name, told.map(|answer| String::from_utf8_lossy(answer.body()).into_owned()).map_err(|error| error.to_string()))
        });
    }
    Ok(logs)
}

/// Asks everything that is due, every node at once.
async fn round(client: &Client, nodes: &[(String, Client)], bundle: &mut Bundle, is_due: &dyn Fn(&Ask) -> bool) {
    let mut asks = JoinSet::new();
    let everybody = nodes.iter().flat_map(|(name, node)| NODE.iter().map(move |ask| (name.clone(), node.clone(), ask)));
    let anybody = ONCE_FOR_ALL.iter().map(|ask| (CLUSTER.to_owned(), client.clone(), ask));
    for (name, node, ask) in everybody.chain(anybody).filter(|(_, _, ask)| is_due(ask)) {
        asks.spawn(async move {
            let text = tell(&node, ask).await;
            (name, ask, text)
        });
    }
    let mut told = Vec::new();
    while let Some(asked) = asks.join_next().await {
        told.extend(asked.ok());
    }
    told.sort_by(|(one, ask, _), (other, other_ask, _)| (one, ask.file).cmp(&(other, other_ask.file)));
    for (name, ask, text) in told {
        keep(bundle, &name, ask.target, ask.file, text);
    }
}

fn keep(bundle: &mut Bundle, node: &str, target: DebugTarget, file: &str, text: Result<String, String>) {
    match text {
        Ok(text) => bundle.add(&now(), node, target.name(), file, &text),
        Err(error) => bundle.fail(&now(), node, target.name(), &format!("{file}: {error}")),
    }
}

/// What a node tells: a line of JSON with its time, or the metrics behind a comment with theirs.
async fn tell(node: &Client, ask: &Ask) -> Result<String, String> {
    let mut request = node.request(Method::Get, ask.path).within(Some(ASK_TIMEOUT));
    for (name, value) in ask.query {
        request = request.query(*name, *value);
    }
    if ask.path == "sys/health" {
        request = request.accept_any_status();
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    if ask.target == DebugTarget::Metrics {
        return Ok(format!("# TIME {}\n{}", now(), String::from_utf8_lossy(answer.body())));
    }
    let data: Value = answer.data().map_err(|error| error.to_string())?;
    Ok(format!("{}\n", json!({ "time": now(), "status": answer.status(), "data": data })))
}

/// RFC 3339, to the second.
fn now() -> String {
    let seconds = i64::try_from(types::SystemClock.now().0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}
