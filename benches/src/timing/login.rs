//! Whether the time of a refused login tells that there is such a user (reference T18; CVE-2025-6011).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::process::Command;
use tokio::time::sleep;

use super::statistics::{kolmogorov_smirnov, median};
use crate::args::Timing;
use crate::conclave;
use crate::http::{Connection, call, done};
use crate::process::Processes;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Logins before any counts.
const WARM_UP: usize = 20;

/// Two in five hundred differ by more, alike as they are.
const MEDIANS_APART_MAX: f64 = 0.05;
const P_MIN: f64 = 0.01;

/// Starts one node in memory, and logs in with a wrong password as a user who is there and as one who is not, in random order.
pub(super) async fn run(args: &Timing, folder: &Path, processes: &mut Processes) -> Result<()> {
    let program = conclave::program(args.conclave.as_deref()).await?;
    let address = start(&program, folder, processes).await?;
    let token = open(address).await?;
    let token = Some(token.as_str());
    // Else the user who is there is locked out after some wrong passwords.
    let lockout = json!({"type": "userpass", "config": {"user_lockout_config": {"lockout_disable": true}}});
    done(address, token, Method::POST, "/v1/sys/auth/userpass", Some(lockout)).await?;
    done(address, token, Method::POST, "/v1/auth/userpass/users/present", Some(json!({"password": "the right one"}))).await?;

    let mut connection = Connection::open(address, None).await?;
    let mut order = super::Order::new();
    let mut times: [Vec<f64>; 2] = Default::default();
    for count in 0..args.logins as usize + WARM_UP {
        let class = order.class();
        // Names of one length.
        let user = ["present", "missing"][class];
        let target = format!("/v1/auth/userpass/login/{user}").parse().context("a path is a request target")?;
        let body = Bytes::from_static(br#"{"password":"a wrong one!!"}"#);
        let begin = Instant::now();
        let (status, answer) = connection.ask(Method::POST, target, body).await?;
        let milliseconds = begin.elapsed().as_secs_f64() * 1000.0;
        if status != StatusCode::BAD_REQUEST && status != StatusCode::FORBIDDEN {
            bail!("a login with a wrong password was answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        if count >= WARM_UP {
            times[class].push(milliseconds);
        }
    }
    let [present, absent] = &mut times;
    let (of_present, of_absent) = (median(present), median(absent));
    let apart = (of_present / of_absent - 1.0).abs();
    let p = kolmogorov_smirnov(present, absent);
    let said = if apart <= MEDIANS_APART_MAX && p > P_MIN { "not told apart" } else { "TOLD APART" };
    crate::print(&format!(
        "\nlogin with a wrong password, {} as a user who is there and {} as one who is not: medians {of_present:.2} and {of_absent:.2} ms \
         ({:.1} % apart), Kolmogorov-Smirnov p {p:.3}: {said}\n",
        present.len(),
        absent.len(),
        apart * 100.0,
    ))
}

async fn start(program: &Path, folder: &Path, processes: &mut Processes) -> Result<SocketAddr> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).context("find a free port")?.port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = json!({
        "backend": {"inmem": {}},
        "listener": {"tcp": {"address": address.to_string(), "tls_disable": "true"}},
        "disable_mlock": true,
    });
    let file = folder.join("timing.json");
    std::fs::write(&file, config.to_string()).with_context(|| format!("write {}", file.display()))?;
    let mut command = Command::new(program);
    command.arg("server").arg("-config").arg(&file);
    processes.start("conclave server", &mut command, &folder.join("timing.log"), false)?;
    let deadline = Instant::now() + START_TIMEOUT;
    while call(address, None, Method::GET, "/v1/sys/seal-status", None).await.is_err() {
        processes.all_run()?;
        if Instant::now() >= deadline {
            bail!("conclave does not answer after {START_TIMEOUT:?}");
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(address)
}

/// Makes keys, opens; answers the root token.
async fn open(address: SocketAddr) -> Result<String> {
    let deadline = Instant::now() + START_TIMEOUT;
    let made = loop {
        match done(address, None, Method::PUT, "/v1/sys/init", Some(json!({"secret_shares": 1, "secret_threshold": 1}))).await {
            Ok(made) => break made,
            // Before it leads itself.
            Err(_) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
            Err(error) => return Err(error),
        }
    };
    done(address, None, Method::PUT, "/v1/sys/unseal", Some(json!({"key": made["keys"][0]}))).await?;
    made["root_token"].as_str().map(str::to_owned).context("init answers a token")
}
