//! `fuzz`: gives mutated inputs to the parsers of foreign bytes, and stops at the first that breaks a promise.
//!
//! Exit status: 0 if nothing broke, 1 if something did (the input is in a file, and the command that repeats it is printed), 2 for a mistake on
//! the command line.

#![allow(clippy::disallowed_methods, reason = "files of a development tool need not be durable")]

mod driver;
mod mutate;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use driver::{Ended, Run};
use targets::TARGETS;

/// Gives mutated inputs to parsers of foreign bytes.
#[derive(Parser)]
#[command(name = "fuzz", about = "Gives mutated inputs to the parsers of foreign bytes")]
struct Arguments {
    /// Which parser: path, policy, http, json, token, recipient, journal, share, config; or all.
    target: String,
    /// For how long, each target.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Decides every mutation: the same seed, the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this input, as it is.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Where inputs that break something are written.
    #[arg(long, default_value = "target/fuzz")]
    found: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let chosen: Vec<_> = TARGETS.iter().filter(|target| arguments.target == "all" || arguments.target == target.name).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("no target is called {:?} (there are {}; or all)", arguments.target, known.join(", "));
    }
    let mut is_sound = true;
    for target in chosen {
        let seeds = (target.seeds)();
        let found = arguments.found.clone();
        let run = Run { name: target.name, seeds, seed: arguments.seed, duration: Duration::from_secs(arguments.seconds), found };
        let mut subject = (target.subject)();
        let ended = match &arguments.input {
            Some(path) => run.only(&std::fs::read(path).with_context(|| format!("read {}", path.display()))?, &mut *subject)?,
            None => run.run(&mut *subject)?,
        };
        match ended {
            Ended::Sound { inputs, outcomes } => println!("{}: {inputs} inputs, {outcomes} kinds of outcome, nothing broke", target.name),
            Ended::Broke { file, why } => {
                is_sound = false;
                println!("{}: {why}", target.name);
                println!("  input: {}\n  again: cargo xtask fuzz {} --input {}", file.display(), target.name, file.display());
            }
        }
    }
    Ok(is_sound)
}
