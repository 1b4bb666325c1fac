//! `conclave server`: hands the configuration to `node`, and tells it when to stop (SIGINT, SIGTERM, or the end of stdin) and
//! when to read its files again (SIGHUP).

use std::error::Error as _;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use node::Signals;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{Dev, Server};
use crate::fault::Fault;
use crate::output;

/// How long a node may take to stop when its parent is gone: nobody is left to kill it.
const ORPHAN_STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs one node until it is told to stop, or fails.
pub(crate) async fn run(args: &Server) -> Result<(), Fault> {
    let mut config = node::Config::load(&args.config).map_err(|errors| Fault::local(format!("the configuration is wrong\n{errors}")))?;
    config.add_join_places(&args.join, args.join_token_file.as_deref()).map_err(|text| Fault::local(format!("-join: {text}")))?;
    if args.check {
        config.warnings.iter().for_each(|warning| eprintln!("Warning: {warning}"));
        if let Some(obstacle) = config.lock_memory.then(node::lock_obstacle).flatten() {
            eprintln!("Warning: {obstacle}");
        }
        let files: Vec<String> = args.config.iter().map(|path| path.display().to_string()).collect();
        return output::emit(&format!("{}: the configuration is right\n", files.join(", ")));
    }
    let signals = Signals::default();
    let Signals { stop, reload } = signals.clone();
    if args.stop_on_stdin_close {
        watch_stdin(stop.clone())?;
    }
    let listen = |kind| signal(kind).map_err(|error| Fault::local(format!("listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    // From here on SIGHUP ends nothing, also while the node still starts.
    let mut hangup = listen(SignalKind::hangup())?;
    let node = node::run(config, signals);
    tokio::pin!(node);
    let ended = loop {
        tokio::select! {
            ended = &mut node => break ended,
            _ = interrupt.recv() => stop.cancel(),
            _ = terminate.recv() => stop.cancel(),
            _ = hangup.recv() => reload.notify_one(),
        }
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

/// `conclave server -dev` as the arguments of `conclave dev`.
pub(crate) fn as_dev(args: &Server) -> Result<Dev, Fault> {
    let address = args.dev_listen_address;
    if address.ip() != Ipv4Addr::LOCALHOST {
        return Err(Fault::local(format!("-dev-listen-address={address}: such a node listens on 127.0.0.1 only"))
            .cure("for another address write a configuration; `storage \"inmem\" {}` keeps nothing"));
    }
    Ok(Dev {
        nodes: Some(1),
        port: Some(address.port()),
        tls: args.dev_tls,
        data_dir: None,
        ready_file: None,
        quiet: true,
        sealed: false,
        uninitialized: false,
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
