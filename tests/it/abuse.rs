//! Clients that are slow on purpose, and such as abuse HTTP/2: they are cut within their limits, hold little memory, and everybody else is
//! served meanwhile (T20 and T21 of the threat model's corpora).

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::h2::{self, Connection, Seen, flag, frame, kind};
use tests::{Cluster, Node, eventually, fields, raw};

/// Short limits, so that the test is short.
const HEADER_MAX: Duration = Duration::from_secs(2);
const IDLE_MAX: Duration = Duration::from_secs(2);
const REQUEST_MAX: Duration = Duration::from_secs(3);
const LIMITS: &str = "http_read_header_timeout = \"2s\"\n  http_idle_timeout = \"2s\"\n  max_request_duration = \"3s\"";
/// How long a connection may take to close after it was asked to.
const CLOSE_MAX: Duration = Duration::from_secs(8);
/// What a busy machine may take beyond a limit.
const SLACK: Duration = Duration::from_secs(10);
/// Slow connections, where the system lets one process have so many.
const SLOW: usize = 4_000;
/// Files that the test needs besides.
const OTHER_FILES: u64 = 400;
/// The pause between two bytes of a slow sender.
const DRIP: Duration = Duration::from_millis(250);
/// What abuse may cost in memory, whatever is sent.
const ABUSE_BYTES_MAX: u64 = 64 << 20;
/// What one slow connection may cost in memory.
const SLOW_BYTES_MAX: u64 = 64 << 10;

/// Memory that the process holds, in bytes (proc(5), `VmRSS`).
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Files that the process has open.
fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Clients that do as they should, on a thread each, until they are told to stop; and a look at the node's memory now and then.
struct Honest {
    stop: Arc<AtomicBool>,
    memory_before: u64,
    memory_peak: Arc<AtomicU64>,
    threads: Vec<JoinHandle<usize>>,
    watcher: JoinHandle<()>,
}

impl Honest {
    fn begin(node: &Node, token: &str) -> Honest {
        let (port, pid) = (node.api_port, node.pid());
        let token = format!("X-Vault-Token: {token}");
        let write = raw::request(port, "POST /v1/secret/data/honest", &[&token], r#"{"data":{"x":"1"}}"#);
        assert_eq!(write.status, 200, "{write:?}");
        let stop = Arc::new(AtomicBool::new(false));
        let memory_before = resident(pid);
        let memory_peak = Arc::new(AtomicU64::new(memory_before));
        let client = |line: &'static str, body: &'static str| {
            let (stop, token) = (Arc::clone(&stop), token.clone());
            std::thread::spawn(move || {
                let mut served = 0;
                // Once at least: an abuse may be over before this thread has begun.
                loop {
                    let answer = raw::request(port, line, &[&token], body);
                    assert_eq!(answer.status, 200, "an honest client is served: {line}: {answer:?}");
                    served += 1;
                    if stop.load(Ordering::Relaxed) {
                        return served;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        };
        let threads = vec![
            client("GET /v1/secret/data/honest", ""),
            client("POST /v1/secret/data/honest", r#"{"data":{"x":"1"}}"#),
            client("GET /v1/sys/health", ""),
        ];
        let (stopped, peak) = (Arc::clone(&stop), Arc::clone(&memory_peak));
        let watcher = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                peak.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Honest { stop, memory_before, memory_peak, threads, watcher }
    }

    /// How much more memory the node had, at most, than at first. Panics when somebody was not served.
    fn end(self, what: &str) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let served: Vec<usize> = self.threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panic!("{what}"))).collect();
        self.watcher.join().unwrap_or_else(|_| panic!("{what}"));
        assert!(served.iter().all(|served| *served > 0), "{what}: {served:?} served");
        let grown = self.memory_peak.load(Ordering::Relaxed).saturating_sub(self.memory_before);
        println!("{what}: {served:?} honest requests served meanwhile, {} KiB more memory", grown / 1024);
        grown
    }
}

/// A client that is slow: what it sends at once, what it sends now and then, and within which time it must be gone.
struct Slow {
    what: &'static str,
    first: Vec<u8>,
    drip: Vec<u8>,
    within: Duration,
}

fn slow_clients() -> Vec<Slow> {
    let slow = |what, first: &[&[u8]], drip: &[u8], within| Slow { what, first: first.concat(), drip: drip.to_vec(), within };
    let settings = frame(kind::SETTINGS, flag::NONE, 0, &[]);
    let post = h2::request("POST", "/v1/sys/unseal");
    let open_headers = frame(kind::HEADERS, flag::NONE, 1, &post);
    let open_body = frame(kind::HEADERS, flag::END_HEADERS, 1, &post);
    let data = frame(kind::DATA, flag::NONE, 1, b" ");
    // Connections that are asked to close and do not answer are cut after a while.
    let http2_idle = HEADER_MAX + IDLE_MAX + CLOSE_MAX;
    vec![
        slow("says nothing", &[], b"", HEADER_MAX),
        slow("headers drip", &[b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX-A: "], b"a", HEADER_MAX),
        slow("many headers drip", &[b"GET /v1/sys/health HTTP/1.1\r\n"], b"X-A: b\r\n", HEADER_MAX),
        slow(
            "a body drips",
            &[b"POST /v1/sys/unseal HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"],
            b" ",
            REQUEST_MAX + IDLE_MAX + CLOSE_MAX,
        ),
        slow(
            "a body's chunks drip",
            &[b"POST /v1/sys/unseal HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"],
            b"1\r\n \r\n",
            REQUEST_MAX + IDLE_MAX + CLOSE_MAX,
        ),
        slow("rests after a request", &[b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n"], b"", HEADER_MAX + IDLE_MAX + CLOSE_MAX),
        slow("half a preface", &[&h2::PREFACE[..9]], b"", HEADER_MAX),
        slow("HTTP/2, and nothing more", &[h2::PREFACE, &settings], b"", http2_idle),
        slow("HTTP/2, settings drip", &[h2::PREFACE, &settings], &settings, http2_idle),
        slow("HTTP/2, headers without an end", &[h2::PREFACE, &settings, &open_headers], b"", http2_idle),
        slow("HTTP/2, a body drips", &[h2::PREFACE, &settings, &open_body], &data, REQUEST_MAX + http2_idle),
    ]
}

/// So many slow clients at once, as evenly of all kinds as can be; waits until each was cut.
fn crawl(port: u16, count: usize) {
    let kinds = slow_clients();
    let began = Instant::now();
    let mut clients: Vec<_> = (0..count)
        .map(|at| {
            let slow = &kinds[at % kinds.len()];
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.write_all(&slow.first).unwrap();
            stream.set_nonblocking(true).unwrap();
            (slow, stream, Instant::now())
        })
        .collect();
    println!("{count} slow connections were there after {:?}", began.elapsed());
    // What came while others connected is looked at from here on: a connection may have ended long ago.
    let all_there = Instant::now();
    let mut longest = vec![Duration::ZERO; kinds.len()];
    while !clients.is_empty() {
        std::thread::sleep(DRIP);
        clients.retain_mut(|(slow, stream, since)| {
            let is_open = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            let mut is_there = slow.drip.is_empty() || stream.write_all(&slow.drip).is_ok();
            // What it is answered is no news; that the connection ends is.
            while is_there {
                match stream.read(&mut [0; 4096]) {
                    Ok(0) => is_there = false,
                    Ok(_) => {}
                    Err(error) if is_open(&error) => break,
                    Err(_) => is_there = false,
                }
            }
            let took = since.elapsed();
            assert!(took < slow.within + SLACK || all_there.elapsed() < slow.within + SLACK, "{}: still there after {took:?}", slow.what);
            if !is_there {
                let at = kinds.iter().position(|kind| kind.what == slow.what).unwrap();
                longest[at] = longest[at].max(took);
            }
            is_there
        });
    }
    for (slow, longest) in kinds.iter().zip(longest) {
        println!("{}: cut after {longest:?} at most, {:?} are allowed", slow.what, slow.within);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_slow_clients_are_cut_and_keep_nobody_out() {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX).min(SLOW as u64 + OTHER_FILES);
    if limit.current.is_some_and(|current| current < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum }).unwrap();
    }
    let count = usize::try_from(files - OTHER_FILES).unwrap();
    let mut cluster = Cluster::builder().nodes(1).listener(LIMITS).open().await;
    let node = &cluster.nodes[0];
    let (port, pid) = (node.api_port, node.pid());
    let honest = Honest::begin(node, &cluster.keys().root_token);
    tokio::task::spawn_blocking(move || crawl(port, count)).await.unwrap();
    let grown = honest.end("slow clients");
    assert!(grown < count as u64 * SLOW_BYTES_MAX, "{count} slow clients took {grown} bytes");
    eventually("no connection is left behind", SLACK, async || match open_files(pid) {
        files if files < 100 => Ok(()),
        files => Err(files),
    })
    .await;
    cluster.assert_sound();
}

/// A node that may have few files open: strangers must not take those that its log needs.
#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_the_node_the_files_that_it_needs() {
    const FILES: u32 = 300;
    const STRANGERS: usize = 400;
    let mut cluster = Cluster::builder().nodes(1).listener(LIMITS).files_max(FILES).open().await;
    let node = &cluster.nodes[0];
    assert!(node.trace().contains("the limit of open files is low"), "{}", node.trace());
    let (port, pid) = (node.api_port, node.pid());
    let token = format!("X-Vault-Token: {}", cluster.keys().root_token);
    let crowd: Vec<TcpStream> = (0..STRANGERS).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    for at in 0..20 {
        assert!(open_files(pid) < FILES as usize * 3 / 4, "{} files are open", open_files(pid));
        let write = raw::request(port, "POST /v1/secret/data/a", &[&token], &format!(r#"{{"data":{{"x":"{at}"}}}}"#));
        assert_eq!(write.status, 200, "the silent lose their places in time: {write:?}");
    }
    drop(crowd);
    assert!(!node.trace().contains("Too many open files"), "{}", node.trace());
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_are_cut() {
    /// As in the listener.
    const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
    const STRANGERS: usize = 400;
    let mut cluster = Cluster::builder().nodes(1).tls().listener(LIMITS).open().await;
    let (port, pid) = (cluster.nodes[0].api_port, cluster.nodes[0].pid());
    // The head of a ClientHello (RFC 8446, section 5.1) of 512 bytes, which does not come.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    let crowd: Vec<TcpStream> = (0..STRANGERS)
        .map(|at| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            stream.write_all(&hello[..at % (hello.len() + 1)]).unwrap();
            stream
        })
        .collect();
    let client = cluster.client();
    eventually("all are cut", HANDSHAKE_MAX + SLACK, async || {
        client.kv("secret").put("a", fields(serde_json::json!({"x": "1"})), None).await.expect("others are served");
        match open_files(pid) {
            files if files < 100 => Ok(()),
            files => Err(files),
        }
    })
    .await;
    drop(crowd);
    cluster.assert_sound();
}

/// What is sent, again and again, on one connection.
struct Abuse {
    what: &'static str,
    first: Vec<u8>,
    again: Box<dyn Fn(u32) -> Vec<u8>>,
    times: u32,
    /// Whether answers are read.
    reads: bool,
    /// Whether the node must end the connection by itself, with an error.
    is_ended: bool,
}

fn abuses() -> Vec<Abuse> {
    let abuse = |what, first: Vec<u8>, again: Box<dyn Fn(u32) -> Vec<u8>>, times, is_ended| Abuse {
        what,
        first,
        again,
        times,
        reads: true,
        is_ended,
    };
    let stream = |at: u32| 2 * at + 1;
    let get = |stream: u32| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &h2::request("GET", "/v1/sys/health"));
    let open = |flags: u8| frame(kind::HEADERS, flags, 1, &h2::request("POST", "/v1/sys/unseal"));
    let cancel = |stream: u32| frame(kind::RST_STREAM, flag::NONE, stream, &8_u32.to_be_bytes());
    // A header of 4 KB that is put into the table (RFC 7541, section 6.2.1), and then named by one byte (section 6.1).
    let large = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1e][..], &[b'b'; 127 + 0x81 - 0x80 + 0x1e * 128]].concat();
    let bomb = move |at: u32| {
        let block = [h2::request("GET", "/v1/sys/health"), if at == 0 { large.clone() } else { Vec::new() }, vec![0xbe; 8_000]].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream(at), &block)
    };
    vec![
        abuse("rapid reset", Vec::new(), Box::new(move |at| [get(stream(at)), cancel(stream(at))].concat()), 100_000, false),
        abuse("streams without number", Vec::new(), Box::new(move |at| get(stream(at))), 50_000, false),
        abuse(
            "streams that are left open",
            Vec::new(),
            Box::new(move |at| frame(kind::HEADERS, flag::END_HEADERS, stream(at), &h2::request("POST", "/v1/sys/unseal"))),
            50_000,
            true,
        ),
        abuse(
            "CONTINUATION",
            open(flag::NONE),
            Box::new(|_| frame(kind::CONTINUATION, flag::NONE, 1, &h2::header("a", "b").repeat(2_000))),
            20_000,
            true,
        ),
        abuse("empty CONTINUATION", open(flag::NONE), Box::new(|_| frame(kind::CONTINUATION, flag::NONE, 1, &[])), 500_000, true),
        abuse("empty DATA", open(flag::END_HEADERS), Box::new(|_| frame(kind::DATA, flag::NONE, 1, &[])), 500_000, true),
        abuse(
            "DATA beyond the window",
            open(flag::END_HEADERS),
            Box::new(|_| frame(kind::DATA, flag::NONE, 1, &[b' '; 16_384])),
            5_000,
            true,
        ),
        abuse("SETTINGS", Vec::new(), Box::new(|_| frame(kind::SETTINGS, flag::NONE, 0, &[0, 4, 0, 1, 0, 0])), 200_000, false),
        abuse("PING", Vec::new(), Box::new(|at| frame(kind::PING, flag::NONE, 0, &u64::from(at).to_be_bytes())), 200_000, false),
        abuse("PRIORITY", Vec::new(), Box::new(move |at| frame(kind::PRIORITY, flag::NONE, stream(at), &[0, 0, 0, 0, 1])), 200_000, false),
        abuse("WINDOW_UPDATE", Vec::new(), Box::new(|_| frame(kind::WINDOW_UPDATE, flag::NONE, 0, &1_u32.to_be_bytes())), 200_000, false),
        abuse("frames of no kind", Vec::new(), Box::new(|_| frame(0xfa, flag::NONE, 0, &[7; 1_000])), 100_000, false),
        abuse("headers out of a table", Vec::new(), Box::new(bomb), 5_000, false),
        Abuse {
            reads: false,
            ..abuse(
                "PING, and no answer is read",
                Vec::new(),
                Box::new(|at| frame(kind::PING, flag::NONE, 0, &u64::from(at).to_be_bytes())),
                2_000_000,
                false,
            )
        },
        Abuse {
            reads: false,
            ..abuse(
                "SETTINGS, and no answer is read",
                Vec::new(),
                Box::new(|_| frame(kind::SETTINGS, flag::NONE, 0, &[0, 4, 0, 1, 0, 0])),
                2_000_000,
                false,
            )
        },
        Abuse { reads: false, ..abuse("requests, and no answer is read", Vec::new(), Box::new(move |at| get(stream(at))), 50_000, false) },
    ]
}

/// How much is sent at once, in frames.
const FRAMES_AT_ONCE: u32 = 500;
/// How long one abuse goes on, at most.
const ABUSE_MAX: Duration = Duration::from_secs(3);
/// And one that the node must end, which on a busy machine takes a while to become too much.
const ENDED_ABUSE_MAX: Duration = Duration::from_secs(60);

impl Abuse {
    /// How many times it was sent until the node had enough of it, and what the node sent.
    fn commit(&self, port: u16) -> (u32, Seen) {
        let mut connection = Connection::open(port, self.reads).unwrap();
        let (began, longest) = (Instant::now(), if self.is_ended { ENDED_ABUSE_MAX } else { ABUSE_MAX });
        let mut sent = 0;
        let mut goes_on = connection.send(&self.first).is_ok();
        while goes_on && sent < self.times && began.elapsed() < longest {
            let chunk: Vec<u8> = (sent..sent + FRAMES_AT_ONCE).flat_map(|at| (self.again)(at)).collect();
            goes_on = connection.send(&chunk).is_ok();
            sent += FRAMES_AT_ONCE;
        }
        let seen = if self.is_ended { connection.await_end(SLACK) } else { connection.seen() };
        (sent, seen)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_of_http2_ends_the_connection_or_costs_little() {
    let mut cluster = Cluster::builder().nodes(1).listener(LIMITS).open().await;
    let port = cluster.nodes[0].api_port;
    for abuse in abuses() {
        let honest = Honest::begin(&cluster.nodes[0], &cluster.keys().root_token);
        let began = Instant::now();
        let (sent, seen) = abuse.commit(port);
        let took = began.elapsed();
        println!("{}: sent {sent} of {} times in {took:?}, came {seen:?}", abuse.what, abuse.times);
        let grown = honest.end(abuse.what);
        assert!(grown < ABUSE_BYTES_MAX, "{}: took {grown} bytes", abuse.what);
        assert!(!abuse.is_ended || (seen.has_ended && seen.goaway != Some(0)), "{}: the connection goes on: {seen:?}", abuse.what);
    }
    cluster.assert_sound();
}
