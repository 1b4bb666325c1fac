//! `conclave server`: hands the configuration file to `node`.
//!
//! ADAPTOR: the only place that calls the node crate, which has no server yet.

use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use crate::args::Server;
use crate::fault::Fault;

/// How long a node may take to stop when its parent is gone: nobody is left to kill it.
const ORPHAN_STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs one node until it is told to stop.
pub(crate) async fn run(args: &Server) -> Result<(), Fault> {
    let stop = args.stop_on_stdin_close.then(stdin_closed).transpose()?;
    run_node(&args.config, args.check, async {
        match stop {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    })
    .await
}

/// ADAPTOR, to be replaced by a call of `node::server::run` when there is one.
async fn run_node(config: &Path, _check: bool, _stop: impl Future<Output = ()>) -> Result<(), Fault> {
    Err(Fault::local(format!("{}: this build has no node crate yet", config.display())))
}

/// Resolves when stdin is at its end. A thread of its own, as a read of stdin cannot be given up.
fn stdin_closed() -> Result<tokio::sync::oneshot::Receiver<()>, Fault> {
    let (closed, wait) = tokio::sync::oneshot::channel();
    let watch = move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(read) if read > 0) {}
        // The receiver is gone when the node stops by itself.
        let _ = closed.send(());
        std::thread::sleep(ORPHAN_STOP_TIMEOUT);
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("stdin".to_owned()).spawn(watch);
    thread.map(|_| wait).map_err(|error| Fault::local(format!("start a thread: {error}")))
}
