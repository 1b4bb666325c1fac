//! `conclave server`: hands the configuration to `node`, and tells it when to stop: SIGINT, SIGTERM, or the end of stdin.

use std::error::Error as _;
use std::io::Read as _;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::Server;
use crate::fault::Fault;
use crate::output;

/// How long a node may take to stop when its parent is gone: nobody is left to kill it.
const ORPHAN_STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs one node until it is told to stop, or fails.
pub(crate) async fn run(args: &Server) -> Result<(), Fault> {
    let config = node::Config::load(&args.config).map_err(|errors| Fault::local(format!("the configuration is wrong\n{errors}")))?;
    if args.check {
        config.warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
        return output::emit(&format!("{}: the configuration is right\n", args.config.display()));
    }
    let stop = CancellationToken::new();
    if args.stop_on_stdin_close {
        watch_stdin(stop.clone())?;
    }
    let listen = |kind| signal(kind).map_err(|error| Fault::local(format!("listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let node = node::run(config, stop.clone());
    tokio::pin!(node);
    let ended = tokio::select! {
        ended = &mut node => ended,
        _ = interrupt.recv() => { stop.cancel(); node.await }
        _ = terminate.recv() => { stop.cancel(); node.await }
    };
    ended.map_err(|error| {
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            message = format!("{message}: {cause}");
            next = cause.source();
        }
        Fault::local(message)
    })
}

/// Cancels `stop` when stdin is at its end. A thread of its own, as a read of stdin cannot be given up.
fn watch_stdin(stop: CancellationToken) -> Result<(), Fault> {
    let watch = move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(read) if read > 0) {}
        stop.cancel();
        std::thread::sleep(ORPHAN_STOP_TIMEOUT);
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("stdin".to_owned()).spawn(watch);
    thread.map(drop).map_err(|error| Fault::local(format!("start a thread: {error}")))
}
