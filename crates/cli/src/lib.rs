//! The command line: reads arguments, runs one command, tells people what happened.
//!
//! Always: answers go to stdout, errors (with a cure) to stderr; exit codes are 0 done, 1 our own or the caller's fault, 2 the
//! server's answer, as in Vault's CLI; tokens never come from argv. Knows the API only through `client`, the server only
//! through `node`, and of what a server leaves on disk only the journal's format, by `storage`.

mod args;
mod argv;
mod ceremony;
mod commands;
mod connect;
mod data;
mod dev;
mod fault;
mod files;
mod input;
mod output;
mod pki;
mod server;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tokio::runtime::{Builder, Runtime};

use args::{Arguments, Command};
use fault::Fault;
use output::Printer;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, but go to stdout and are no fault. A closed pipe is nobody's fault.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    forbid_core_dumps();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => fault.report(),
    }
}

/// Arguments in Vault's style (`-format=json`) or in GNU's (`--format json`).
fn parse(argv: impl Iterator<Item = std::ffi::OsString>) -> Result<Arguments, clap::Error> {
    let matches = Arguments::command().try_get_matches_from(argv::normalise(argv))?;
    Arguments::from_arg_matches(&matches)
}

fn run(arguments: Arguments) -> Result<(), Fault> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Server(args) if args.dev => client_runtime()?.block_on(dev::run(&server::as_dev(&args)?)),
        Command::Server(args) => server_runtime()?.block_on(server::run(&args)),
        Command::Dev(args) => client_runtime()?.block_on(dev::run(&args)),
        Command::Completion(args) => commands::completion::run(args.shell),
        Command::Version => output::emit(&format!("Conclave {}\n", args::VERSION)),
        command => {
            let printer = Printer::new(&global)?;
            client_runtime()?.block_on(commands::run(&global, &printer, command))
        }
    }
}

fn server_runtime() -> Result<Runtime, Fault> {
    // What requests have left on a worker's stack (a token in the block of a hash, say) is gone when the worker rests.
    Builder::new_multi_thread()
        .on_thread_park(crypto::wipe_resting_stack)
        .enable_all()
        .build()
        .map_err(|error| Fault::local(format!("start threads: {error}")))
}

/// One command is one conversation: one thread will do.
fn client_runtime() -> Result<Runtime, Fault> {
    Builder::new_current_thread().enable_all().build().map_err(|error| Fault::local(format!("start the runtime: {error}")))
}

/// Shares and tokens pass through here, and must not end up in a core file. Inherited by the nodes that `dev` starts.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Lowering a limit is always allowed, so there is nothing to tell.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
