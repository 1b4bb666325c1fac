//! How much the load generator could do: its rate against a server that answers at once with a fixed text.
//!
//! A measured rate near this one says more of the generator than of the server.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::args::Kind;
use crate::load::{self, Protocol, Secrets, Work};

/// How long it is measured.
const DURATION: Duration = Duration::from_millis(1500);
const WARM_UP: Duration = Duration::from_millis(250);
/// The largest request the server takes; a read's has no body.
const REQUEST_BYTES_MAX: usize = 4096;

/// The generator's ceiling with so many clients.
#[derive(Serialize)]
pub(crate) struct Ceiling {
    pub(crate) clients: usize,
    /// Reads a second.
    pub(crate) rate: f64,
    /// What the generator itself uses for each.
    pub(crate) own_seconds: f64,
}

/// Measures it with as many secrets as the run has (all answered alike: there is one).
pub(crate) async fn measure(clients: usize, value_bytes: usize) -> Result<Ceiling> {
    let secrets = Secrets { count: 1, value_bytes };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen on loopback")?;
    let address = listener.local_addr().context("a listener has an address")?;
    let listener = listener.into_std().context("hand the listener over")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let answer = answer(secrets);
    let server = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).context("take the listener over")?;
            tokio::select! {
                served = serve(listener, answer) => served,
                _ = stopped => Ok(()),
            }
        })
    };
    let server = std::thread::Builder::new().name("nothing".to_owned()).spawn(server).context("start a thread")?;
    let measured = load::measure(Work {
        kind: Kind::Read,
        protocol: Protocol::Http,
        clients,
        addresses: vec![address],
        token: "none".to_owned(),
        secrets,
        warm_up: WARM_UP,
        duration: DURATION,
        processes: Vec::new(),
    })
    .await;
    drop(stop);
    server.join().map_err(|_| anyhow::anyhow!("the server that does nothing has panicked"))??;
    let measured = measured?;
    if let Some(failure) = measured.first_failure {
        anyhow::bail!("the load generator fails against a server that does nothing: {failure}");
    }
    let own_seconds = measured.own_time.as_secs_f64() / measured.latencies.len().max(1) as f64;
    Ok(Ceiling { clients, rate: measured.rate(), own_seconds })
}

/// About what a KV v2 read answers.
fn answer(secrets: Secrets) -> Vec<u8> {
    let body = format!(
        r#"{{"request_id":"00000000-0000-0000-0000-000000000000","lease_id":"","renewable":false,"lease_duration":0,"data":{{"data":{},"metadata":{{"created_time":"2026-01-01T00:00:00.000000000Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}}},"wrap_info":null,"warnings":null,"auth":null}}"#,
        secrets.data(0, 0)
    );
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn serve(listener: TcpListener, answer: Vec<u8>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let answer = answer.clone();
        connections.spawn(async move { drop(repeat(stream, &answer).await) });
    }
}

/// Answers whatever ends with an empty line.
async fn repeat(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST_BYTES_MAX];
    let mut held = 0;
    loop {
        let read = stream.read(&mut request[held..]).await?;
        held += read;
        if request[..held].ends_with(b"\r\n\r\n") {
            stream.write_all(answer).await?;
            held = 0;
        } else if read == 0 || held == REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
}
