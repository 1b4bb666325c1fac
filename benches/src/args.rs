//! The command line: what is measured, on what, for how long.
//!
//! Always: every number is within its limit once parsed. Starts nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// KV v2 write and read rates and latencies of a three-node cluster, beside those of OpenBao when `bao` is found.
#[derive(Debug, Parser)]
#[command(name = "benches", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Clients at once; each waits for its answer before it asks again
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 8, 64], value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) clients: Vec<u16>,
    /// How long each cell is measured, after its warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Size of a secret's one value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=262_144))]
    pub(crate) value_bytes: u32,
    /// How many secrets there are
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) secrets: u32,
    /// Which servers; `both` leaves OpenBao out when there is no `bao`
    #[arg(long, value_enum, default_value_t = Target::Both)]
    pub(crate) target: Target,
    /// Which nodes are asked [default: each in turn]
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Via::Leader, Via::Follower, Via::All])]
    pub(crate) via: Vec<Via>,
    /// Which operations
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Write, Kind::Read])]
    pub(crate) operation: Vec<Kind>,
    /// Vault's HTTP API (the default)
    #[arg(long, conflicts_with = "grpc")]
    pub(crate) http: bool,
    /// Conclave's gRPC API; OpenBao has none and is asked by HTTP all the same
    #[arg(long)]
    pub(crate) grpc: bool,
    /// OpenBao's program [default: `bao` on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) bao: Option<PathBuf>,
    /// Conclave's program [default: built first, and taken from beside this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) conclave: Option<PathBuf>,
    /// Where the data folders are made, and removed at the end; its disk is what is measured [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Write all figures here too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether time tells a secret: shares, tokens, tags, logins
    Timing(Timing),
    /// What clients notice of a rolling restart and of a leader that is killed
    Availability(Availability),
}

/// How the cluster is treated, for `availability`.
#[derive(Debug, clap::Args)]
pub(crate) struct Availability {
    /// Clients at once: each writes a secret, reads it back, and rests a moment
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) clients: u16,
    /// How long each client rests between two requests
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(crate) rest: u64,
    /// Draw what happened as an SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Conclave's program [default: built first, and taken from beside this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) conclave: Option<PathBuf>,
}

/// How much is measured, for `timing`.
#[derive(Debug, clap::Args)]
pub(crate) struct Timing {
    /// Measurements of each operation, both classes of inputs together
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000_000))]
    pub(crate) measurements: u32,
    /// Logins, of users who are there and who are not together; 0 for none
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) logins: u32,
    /// Conclave's program [default: built first, and taken from beside this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) conclave: Option<PathBuf>,
}

/// Which servers are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Conclave,
    Openbao,
    Both,
}

/// Which nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Via {
    Leader,
    /// One that does not lead.
    Follower,
    /// Every client asks the nodes in turn.
    All,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Write,
    Read,
}

impl Args {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Long enough that connections, caches and the processors' clocks are warm.
    pub(crate) fn warm_up(&self) -> Duration {
        (self.duration() / 6).max(Duration::from_millis(250))
    }
}

impl Via {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Via::Leader => "leader",
            Via::Follower => "follower",
            Via::All => "all",
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Write => "write",
            Kind::Read => "read",
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 600 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let args = Args::try_parse_from(["benches", "--clients", "2,4", "--via", "all", "--seconds", "0.6"]).unwrap();
        assert_eq!((args.clients, args.via), (vec![2, 4], vec![Via::All]));
        let args = Args::try_parse_from(["benches", "timing", "--measurements", "1000", "--logins", "0"]).unwrap();
        assert!(matches!(args.command, Some(Command::Timing(Timing { measurements: 1000, logins: 0, .. }))));
        for wrong in [["--clients", "0"], ["--seconds", "0"], ["--seconds", "nan"], ["--value-bytes", "8"], ["--secrets", "0"]] {
            assert!(Args::try_parse_from(["benches", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }
}
