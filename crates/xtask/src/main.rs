//! House chores: `cargo xtask tidy` checks the house rules, `cargo xtask check` all that CI checks without services.
//!
//! A tool for developers and CI; no crate of the house depends on it.

mod tidy;

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "usage: cargo xtask COMMAND

  tidy              the house rules: floors, lints, file heads, left-overs, links, decision records
  check             before a push: fmt, clippy, tidy, cargo-deny (if installed), tests
  sim [ARG]...      the simulated cluster: `sim --seed N` replays one seed, `sim --histories N` runs many, `sim --help` tells more
  fuzz TARGET [ARG]...
                    mutated inputs to the parsers of foreign bytes: `fuzz all --seconds 10`; `fuzz --help` tells more
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["check"] => check(),
        ["sim", rest @ ..] => sim(rest),
        ["fuzz", rest @ ..] => fuzz(rest),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    run("cargo", &["fmt", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    tidy::run()?;
    if Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        run("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    } else {
        eprintln!("xtask: cargo-deny is not installed, so licences and sources are left to CI");
    }
    run("cargo", &["test", "--workspace", "--locked"])
}

/// The simulator knows its own arguments, and says what is wrong with them.
fn sim(arguments: &[&str]) -> Result<()> {
    let mut command = vec!["run", "--quiet", "--package", "sim", "--bin", "sim", "--locked"];
    // Many histories pay for the optimiser; one does not.
    if arguments.iter().any(|argument| argument.starts_with("--histories")) {
        command.extend(["--profile", "sim"]);
    }
    command.push("--");
    command.extend(arguments);
    run("cargo", &command)
}

/// Runs of at least so many seconds a target pay for the optimiser.
const FUZZ_LONG_SECONDS: u64 = 60;

fn fuzz(arguments: &[&str]) -> Result<()> {
    let mut command = vec!["run", "--quiet", "--package", "fuzz", "--locked"];
    let seconds = arguments.windows(2).find(|pair| pair[0] == "--seconds").and_then(|pair| pair[1].parse().ok());
    if seconds.is_some_and(|seconds: u64| seconds >= FUZZ_LONG_SECONDS) {
        command.extend(["--profile", "sim"]);
    }
    command.push("--");
    command.extend(arguments);
    run("cargo", &command)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(program, arguments, &[])
}

fn run_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let shown = format!("{program} {}", arguments.join(" "));
    eprintln!("xtask: {shown}");
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("{program} does not start (is it installed?)"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}
