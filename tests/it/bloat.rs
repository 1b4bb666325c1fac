//! A node that keeps very much: it opens no later for it, and lists page by page in bounded memory (T22 of the threat model's corpora).
//!
//! CI keeps a little; the figures that are promised come from `CONCLAVE_BLOAT=100000` and a release build (docs/testing.md).

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::raw::{self, Answer};
use tests::{Cluster, Node, THRESHOLD};

/// How many tokens, each with its lease, and how many secrets.
const COUNT_VARIABLE: &str = "CONCLAVE_BLOAT";
const COUNT_DEFAULT: usize = 2_000;
/// Connections that write.
const WRITERS: usize = 16;
/// Names in one page of a list.
const PAGE: usize = 1_000;
/// How much later a full node may answer first than an empty one, whatever it keeps: what the machine's own unrest may be.
const LATER_MAX: Duration = Duration::from_secs(2);
/// What one page of a list may cost, whatever is listed.
const PAGES_BYTES_MAX: u64 = 64 << 20;
/// What a list of everything may cost for each name: its text in the answer, in the record and on the way.
const NAME_BYTES_MAX: u64 = 512;
const ANSWER_MAX: Duration = Duration::from_secs(300);
const STOP_MAX: Duration = Duration::from_secs(60);

fn count() -> usize {
    std::env::var(COUNT_VARIABLE)
        .ok()
        .map_or(COUNT_DEFAULT, |text| text.parse().unwrap_or_else(|error| panic!("{COUNT_VARIABLE}: {error}")))
}

/// Memory of the process in bytes, by its name in proc(5).
fn memory(node: &Node, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// One request on a connection that is kept.
fn ask(stream: &mut TcpStream, token: &str, line: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("{line} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let mut wanted = usize::MAX;
    while bytes.len() < wanted {
        let count = stream.read(&mut buffer).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(count > 0, "{line}: the connection ended");
        bytes.extend_from_slice(&buffer[..count]);
        if wanted == usize::MAX
            && let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let length = raw::parse(&bytes[..head + 4]).header("content-length").and_then(|length| length.parse::<usize>().ok());
            wanted = head + 4 + length.unwrap_or(0);
        }
    }
    raw::parse(&bytes)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends requests 0 to `count`, over several connections. Blocks.
fn fill(port: u16, token: &str, count: usize, request: impl Fn(usize) -> (String, String) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut stream = connect(port);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let (line, body) = request(at);
                    let answer = ask(&mut stream, token, &line, &body);
                    assert!(answer.status == 200 || answer.status == 204, "{line}: {answer:?}");
                }
            });
        }
    });
}

/// Stops the node and starts it again: how long it took to answer at all, and from its last share to its first read.
async fn restart(cluster: &mut Cluster) -> (Duration, Duration) {
    cluster.nodes[0].terminate();
    cluster.nodes[0].wait(STOP_MAX);
    let began = Instant::now();
    cluster.restart(0).await;
    let started = began.elapsed();
    let port = cluster.nodes[0].api_port;
    let shares = cluster.keys().shares.clone();
    let token = cluster.keys().root_token.clone();
    for (at, share) in shares.iter().take(usize::try_from(THRESHOLD).unwrap()).enumerate() {
        let body = format!(r#"{{"key": "{share}"}}"#);
        if at + 1 == usize::try_from(THRESHOLD).unwrap() {
            let began = Instant::now();
            assert_eq!(raw::request(port, "PUT /v1/sys/unseal", &[], &body).status, 200);
            let mut stream = connect(port);
            while ask(&mut stream, &token, "GET /v1/secret/data/first", "").status != 200 {
                assert!(began.elapsed() < ANSWER_MAX, "it does not serve");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return (started, began.elapsed());
        }
        assert_eq!(raw::request(port, "PUT /v1/sys/unseal", &[], &body).status, 200);
    }
    unreachable!("the threshold is above 0")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_does_not_make_a_node_open_later_and_is_listed_page_by_page() {
    let count = count();
    let mut cluster = Cluster::builder().nodes(1).log_level("warn").open().await;
    let port = cluster.nodes[0].api_port;
    let token = cluster.keys().root_token.clone();
    assert_eq!(ask(&mut connect(port), &token, "POST /v1/secret/data/first", r#"{"data":{"x":"1"}}"#).status, 200);
    let empty = restart(&mut cluster).await;

    let began = Instant::now();
    fill(port, &token, count, |_| ("POST /v1/auth/token/create".into(), r#"{"ttl":"240h","policies":["default"]}"#.into()));
    println!("{count} tokens with leases were made in {:?}", began.elapsed());
    let began = Instant::now();
    fill(port, &token, count, |at| (format!("POST /v1/secret/data/many/name-{at:07}"), r#"{"data":{"x":"1"}}"#.into()));
    println!("{count} secrets were written in {:?}", began.elapsed());
    println!("memory then: {} MiB", memory(&cluster.nodes[0], "VmRSS:") >> 20);

    let full = restart(&mut cluster).await;
    println!("started and opened: empty {empty:?}, full {full:?}");
    println!("memory once opened: {} MiB", memory(&cluster.nodes[0], "VmRSS:") >> 20);
    assert!(full.1 < empty.1 + LATER_MAX, "opening takes longer for what is kept: {:?}, empty {:?}", full.1, empty.1);

    let node = &cluster.nodes[0];
    let mut stream = connect(port);
    let before = memory(node, "VmRSS:");
    let (mut listed, mut after, mut peak) = (0, String::new(), 0);
    let began = Instant::now();
    loop {
        let line = format!("LIST /v1/secret/metadata/many?limit={PAGE}&after={after}");
        let answer = ask(&mut stream, &token, &line, "");
        let page = answer.json()["data"]["keys"].as_array().cloned().unwrap_or_default();
        peak = peak.max(memory(node, "VmRSS:"));
        assert!(page.len() <= PAGE, "{} names in one page", page.len());
        let Some(last) = page.last() else { break };
        listed += page.len();
        let last = last.as_str().unwrap().to_owned();
        assert!(last > after, "{last} after {after}");
        after = last;
    }
    assert_eq!(listed, count);
    println!("listed page by page in {:?}, {} KiB more memory", began.elapsed(), peak.saturating_sub(before) / 1024);
    assert!(peak < before + PAGES_BYTES_MAX, "pages took {} bytes", peak - before);

    let began = Instant::now();
    let whole = ask(&mut stream, &token, "LIST /v1/secret/metadata/many", "");
    assert_eq!(whole.json()["data"]["keys"].as_array().map(Vec::len), Some(count), "{}", whole.status);
    let took = memory(node, "VmHWM:").saturating_sub(before);
    println!("listed whole in {:?}, {} KiB more memory at most", began.elapsed(), took / 1024);
    assert!(took < PAGES_BYTES_MAX + count as u64 * NAME_BYTES_MAX, "the list took {took} bytes");
    cluster.assert_sound();
}
