//! What is printed, and the same as JSON.
//!
//! Always: a figure that is not known is shown as `-`, and a cell with failures says so beside its rate. No judgement is made.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::{Kind, Via};
use crate::cluster::Cluster;
use crate::load::{Measured, Protocol};
use crate::machine::{Machine, Percentiles};

/// The form of the JSON file.
pub(crate) const FORMAT: u32 = 1;

/// All of a run.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    /// UTC.
    pub(crate) began: String,
    pub(crate) value_bytes: usize,
    pub(crate) secrets: u32,
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    pub(crate) servers: Vec<Server>,
    pub(crate) rows: Vec<Row>,
}

/// One server, and what it costs to keep.
#[derive(Serialize)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) protocol: Protocol,
    /// Processor time for each second in which nobody asks, all nodes together.
    pub(crate) idle_processors: f64,
    /// All nodes together, with the secrets written.
    pub(crate) resident_bytes: u64,
}

impl Server {
    pub(crate) fn new(cluster: &Cluster, idle_processors: f64, resident_bytes: u64) -> Server {
        Server { name: cluster.name, version: cluster.version.clone(), protocol: cluster.protocol, idle_processors, resident_bytes }
    }
}

/// The same work on each server, in the order of [`Report::servers`].
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) operation: Kind,
    pub(crate) via: Via,
    pub(crate) clients: usize,
    pub(crate) cells: Vec<Cell>,
}

/// One server's figures.
#[derive(Serialize)]
pub(crate) struct Cell {
    /// Answers a second.
    pub(crate) rate: f64,
    pub(crate) latency_seconds: Percentiles,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    /// Processor time of all nodes for each answer.
    pub(crate) servers_seconds: f64,
    /// Processor time of the load generator for each answer.
    pub(crate) generator_seconds: f64,
    /// How many processors nodes and generator kept busy together.
    pub(crate) processors_busy: f64,
}

impl From<Measured> for Cell {
    fn from(measured: Measured) -> Cell {
        let answers = measured.latencies.len().max(1) as f64;
        let (servers, own) = (measured.servers_time.seconds(), measured.own_time.as_secs_f64());
        Cell {
            rate: measured.rate(),
            latency_seconds: Percentiles::of(&measured.latencies),
            failures: measured.failures,
            first_failure: measured.first_failure,
            servers_seconds: servers / answers,
            generator_seconds: own / answers,
            processors_busy: (servers + own) / measured.window.as_secs_f64(),
        }
    }
}

impl Report {
    /// The machine, the servers and the table's head.
    pub(crate) fn head(&self) -> String {
        let mut text = String::new();
        let mut say = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a String cannot fail");
        let machine = &self.machine;
        say(format_args!("{}", self.began));
        let filesystem = machine.filesystem.as_deref().unwrap_or("unknown file system");
        say(format_args!("machine    {} x {}, Linux {}, {filesystem}", machine.processors, machine.processor, machine.kernel));
        let load = machine.load_before.map_or("-".to_owned(), |load| format!("{load:.2}"));
        say(format_args!("           load average before this run {load}; servers and load generator share the processors"));
        let Percentiles { p50, p99, .. } = machine.append_sync_seconds;
        say(format_args!("limits     append 4 KiB + fdatasync    p50 {} ms   p99 {} ms", milliseconds(p50), milliseconds(p99)));
        let Percentiles { p50, p99, .. } = machine.loopback_seconds;
        say(format_args!("           loopback TCP, 256 B and back p50 {} ms   p99 {} ms", milliseconds(p50), milliseconds(p99)));
        for ceiling in &machine.ceilings {
            let (clients, rate, own) = (ceiling.clients, ceiling.rate, ceiling.own_seconds * 1e6);
            say(format_args!("           the load generator's own ceiling, {clients} clients: {rate:.0} reads/s at {own:.1} us each"));
        }
        for server in &self.servers {
            let protocol = if server.protocol == Protocol::Grpc { "gRPC" } else { "HTTP/1.1" };
            let (idle, memory) = (server.idle_processors * 100.0, server.resident_bytes as f64 / 1048576.0);
            say(format_args!(
                "server     {} ({}), three nodes, {protocol}: idle {idle:.1} % of a processor, {memory:.0} MiB",
                server.name, server.version
            ));
        }
        say(format_args!("work       KV v2, {} secrets of {} B, each cell {} s", self.secrets, self.value_bytes, self.seconds));
        say(format_args!("columns    latency in ms; us of processor time for each answer: nodes + generator; processors kept busy"));
        let (mut names, mut columns) = (format!("\n{:<24}", ""), format!("{:<6} {:<8} {:>7} ", "KV v2", "via", "clients"));
        for server in &self.servers {
            write!(names, "| {:<46} ", server.name).expect("writing to a String cannot fail");
            write!(columns, "| {:>8} {:>8} {:>8} {:>13} {:>5} ", "rate/s", "p50", "p99", "us each", "busy")
                .expect("writing to a String cannot fail");
        }
        if self.servers.len() == 2 {
            names.push_str("| times better");
            columns.push_str("|  rate   p99");
        }
        let line = "-".repeat(columns.len());
        text + &format!("{names}\n{columns}\n{line}\n")
    }
}

impl Row {
    /// One line; and one below for each server that failed.
    pub(crate) fn line(&self, servers: &[Server]) -> String {
        let mut text = format!("{:<6} {:<8} {:>7} ", self.operation.name(), self.via.name(), self.clients);
        for cell in &self.cells {
            let (p50, p99) = (milliseconds(cell.latency_seconds.p50), milliseconds(cell.latency_seconds.p99));
            let each = format!("{:.0} + {:.0}", cell.servers_seconds * 1e6, cell.generator_seconds * 1e6);
            write!(text, "| {:>8.0} {p50:>8} {p99:>8} {each:>13} {:>5.2} ", cell.rate, cell.processors_busy)
                .expect("writing to a String cannot fail");
        }
        if let [ours, peer] = self.cells.as_slice() {
            let rate = ratio(ours.rate, peer.rate);
            let p99 = ratio(peer.latency_seconds.p99, ours.latency_seconds.p99);
            write!(text, "| {rate:>5} {p99:>5}").expect("writing to a String cannot fail");
        }
        text.push('\n');
        for (cell, server) in self.cells.iter().zip(servers).filter(|(cell, _)| cell.failures > 0) {
            let first = cell.first_failure.as_deref().unwrap_or_default();
            writeln!(text, "       {}: {} requests failed, the first with: {first}", server.name, cell.failures)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

/// Three digits that tell something.
fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1e3;
    let decimals = if milliseconds < 1.0 {
        3
    } else if milliseconds < 10.0 {
        2
    } else {
        1
    };
    format!("{milliseconds:.decimals$}")
}

fn ratio(more: f64, less: f64) -> String {
    if less > 0.0 { format!("{:.1}", more / less) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rate: f64, p99: f64, failures: u64) -> Cell {
        Cell {
            rate,
            latency_seconds: Percentiles { p50: p99 / 2.0, p90: p99, p99, max: p99 },
            failures,
            first_failure: (failures > 0).then(|| "503 sealed".to_owned()),
            servers_seconds: 25e-6,
            generator_seconds: 10e-6,
            processors_busy: 1.5,
        }
    }

    fn server(name: &'static str) -> Server {
        Server { name, version: "v1".to_owned(), protocol: Protocol::Http, idle_processors: 0.01, resident_bytes: 1 << 20 }
    }

    #[test]
    fn a_row_shows_both_and_how_they_compare() {
        let mut row = Row { operation: Kind::Write, via: Via::All, clients: 8, cells: vec![cell(1000.0, 0.002, 0), cell(100.0, 0.03, 2)] };
        let line = row.line(&[server("A"), server("B")]);
        assert!(line.contains("1000") && line.contains("10.0  15.0"), "{line}");
        assert!(line.ends_with("B: 2 requests failed, the first with: 503 sealed\n"), "{line}");
        row.cells[1] = cell(0.0, 0.0, 0);
        assert!(row.line(&[server("A"), server("B")]).trim_end().ends_with("-   0.0"), "a server that answered nothing is no divisor");
    }

    #[test]
    fn latencies_keep_three_digits() {
        assert_eq!([0.000_052_4, 0.004_56, 0.124].map(milliseconds), ["0.052", "4.56", "124.0"]);
    }
}
