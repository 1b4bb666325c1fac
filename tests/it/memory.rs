//! Memory: reads the nodes' own, as root, and looks for what must not be there (reference T25, T26, T27; T37).
//!
//! Needs root. Without it the tests say so and pass over, unless `CONCLAVE_TEST_NEEDS=required`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Method, SecretString};
use crypto::{Quorum, Rng as _, Share, aead, kdf, shamir};
use prost::Message as _;
use proto::stored;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use storage::table::RedbTableOptions;
use storage::{FsDisk, RedbTable, Table as _};
use tests::raw::request;
use tests::{Cluster, SHARES, THRESHOLD, eventually, fields};

/// How many times each cluster is opened, used, sealed and searched.
const RUNS_VARIABLE: &str = "CONCLAVE_MEMORY_RUNS";
const RUNS_DEFAULT: u32 = 10;
/// Every so many runs begin with new processes; the others with what the run before has left.
const RUNS_OF_A_PROCESS: u32 = 5;
/// How long what was sealed may take to be gone: connections end, tasks are dropped.
const GONE_MAX: Duration = Duration::from_secs(3);
const SEAL_MAX: Duration = Duration::from_secs(10);
/// A user that owns nothing.
const NOBODY: u32 = 65_534;
const STOP_MAX: Duration = Duration::from_secs(30);
/// A key or text is sought in pieces of this length: so half of it is found, too.
const PIECE_BYTES: usize = 16;
/// Memory is read in pieces of this length.
const READ_BYTES: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_keeps_no_share_while_open_and_no_key_token_or_secret_once_sealed() {
    let Some(runs) = runs() else { return };
    Trial::of(Cluster::builder().nodes(1).open().await).await.run(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_keep_no_share_while_open_and_no_key_token_or_secret_once_sealed() {
    let Some(runs) = runs() else { return };
    Trial::of(Cluster::builder().tls().open().await).await.run(runs).await;
}

/// A process of the same user can neither read a node's memory nor trace it, and a core file is not written (T25). Where memory cannot be
/// locked, everybody who looks is told (T26).
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_same_user_reads_nothing_an_abort_leaves_no_core_and_a_low_limit_of_locked_memory_is_told() {
    if !may_look() {
        return;
    }
    let cluster = Cluster::builder().nodes(1).lay_out();
    let folder = cluster.folder();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("conclave");
    fs::copy(tests::conclave(), &program).unwrap();
    let port = cluster.nodes[0].api_port;
    let config = folder.join("config.json");
    let settings = json!({
        "backend": {"inmem": {}},
        "listener": {"tcp": {
            "address": format!("127.0.0.1:{port}"),
            "tls_disable": "true",
            "telemetry": {"unauthenticated_metrics_access": true},
        }},
    });
    fs::write(&config, settings.to_string()).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let work = folder.join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).unwrap();

    // As a service without privileges: cores are asked for, 8 MiB may be locked.
    let as_nobody = |program: &Path, args: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg("ulimit -c unlimited; ulimit -l 8192; exec \"$0\" \"$@\"").arg(program).args(args);
        command.uid(NOBODY).gid(NOBODY).current_dir(&work).stdin(Stdio::null());
        command
    };
    let trace_file = folder.join("trace.log");
    let trace = File::create(&trace_file).unwrap();
    let config = config.to_str().unwrap();
    let mut node = Killed(as_nobody(&program, &["server", "-config", config]).stderr(trace).spawn().unwrap());
    let mut other = Killed(as_nobody(Path::new("sleep"), &["600"]).spawn().unwrap());
    eventually("the node answers", SEAL_MAX, async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string()))
        .await;

    let reads = |file: &str, pid: u32| {
        let output = as_nobody(Path::new("head"), &["-c", "1", &format!("/proc/{pid}/{file}")]).output().unwrap();
        output.status.success()
    };
    let (pid, other_pid) = (node.0.id(), other.0.id());
    assert!(reads("maps", other_pid) && reads("environ", other_pid), "a process without this care can be read by its user");
    for file in ["maps", "mem", "environ", "auxv", "io", "task"] {
        assert!(!reads(file, pid), "{file} of a node is read by another process of its user");
    }
    assert!(each_piece(pid, |_, _, _| ()) > 0, "root can: that is what the other tests rely on");

    let said = fs::read_to_string(&trace_file).unwrap();
    assert!(said.contains("MEMORY IS NOT LOCKED") && said.contains("8388608") && said.contains("LimitMEMLOCK"), "{said}");
    let metrics = request(port, "GET /v1/sys/metrics?format=prometheus", &[], "").body;
    assert!(metrics.lines().any(|line| line == "conclave_memory_locked 0"), "{metrics}");
    let check = as_nobody(&program, &["server", "-check", "-config", config]).output().unwrap();
    let warned = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success() && warned.contains("Warning: this user may lock 8388608 bytes only"), "{warned}");

    for (process, is_node) in [(&mut other, false), (&mut node, true)] {
        let id = i32::try_from(process.0.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, Signal::ABORT).unwrap();
        let status = process.0.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
        let files: Vec<_> = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        if is_node {
            assert!(!status.core_dumped(), "a node that aborts leaves a core");
            assert!(files.is_empty(), "{files:?}");
        } else {
            println!("another process that aborts dumps a core here: {}", status.core_dumped());
            files.iter().for_each(|file| fs::remove_file(work.join(file)).unwrap());
        }
    }
}

/// All that a node can write to is locked (T26), or it says that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_writable_page_of_a_node_is_locked_or_a_warning_says_otherwise() {
    if !may_look() {
        return;
    }
    let cluster = Cluster::builder().nodes(1).open().await;
    let pid = cluster.nodes[0].pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    if cluster.nodes[0].trace().contains("MEMORY IS NOT LOCKED") {
        println!("this machine does not let a node lock its memory, and the node says so");
        assert_eq!(kilobytes("VmLck:"), 0);
        return;
    }
    assert!(kilobytes("VmLck:") >= kilobytes("VmRSS:") / 2, "{status}");
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut writable, mut mapping) = (0, "");
    for line in smaps.lines() {
        if line.split_ascii_whitespace().next().is_some_and(|word| word.contains('-')) {
            mapping = line;
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && mapping.contains(" rw-p ")
        {
            writable += 1;
            assert!(flags.split_ascii_whitespace().any(|flag| flag == "lo"), "not locked: {mapping}: {flags}");
        } else if let Some(swapped) = line.strip_prefix("Swap:") {
            assert_eq!(swapped.split_ascii_whitespace().next(), Some("0"), "{mapping}");
        }
    }
    assert!(writable > 10, "{smaps}");
}

/// A process that dies with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn may_look() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var("CONCLAVE_TEST_NEEDS").as_deref() != Ok("required"), "reading another process's memory needs root");
        eprintln!("SKIPPED: reading another process's memory needs root (run the tests as root, or in .ci/run)");
    }
    is_root
}

fn runs() -> Option<u32> {
    if !may_look() {
        return None;
    }
    match std::env::var(RUNS_VARIABLE) {
        Ok(text) => Some(text.parse().unwrap_or_else(|error| panic!("{RUNS_VARIABLE}={text}: {error}"))),
        Err(_) => Some(RUNS_DEFAULT),
    }
}

/// One cluster, and what its nodes must not keep.
struct Trial {
    cluster: Cluster,
    shares: Search,
    /// Seal key, root key, keyring key and all that is in the keyring.
    keys: Search,
    searched_bytes: u64,
    processes: u32,
}

impl Trial {
    /// Learns the cluster's keys from what a node has stored and from the shares.
    async fn of(mut cluster: Cluster) -> Trial {
        let shares = Search::for_shares(&cluster.keys().shares);
        let mut trial = Trial { keys: Search::new(Vec::new()), shares, searched_bytes: 0, processes: 1, cluster };
        trial.assert_gone("after init and unseal", None);
        cluster = trial.cluster;
        cluster.nodes[0].terminate();
        assert_eq!(tokio::task::block_in_place(|| cluster.nodes[0].wait(STOP_MAX)).code(), Some(0));
        trial.keys = Search::new(keys(&cluster));
        for node in &mut cluster.nodes {
            node.kill();
        }
        trial.cluster = cluster;
        trial.restart().await;
        trial
    }

    async fn restart(&mut self) {
        for at in 0..self.cluster.nodes.len() {
            self.cluster.nodes[at].kill();
            self.cluster.nodes[at].start();
        }
        for at in 0..self.cluster.nodes.len() {
            self.cluster.await_answer(at).await;
        }
    }

    async fn run(mut self, runs: u32) {
        let began = Instant::now();
        for run in 1..=runs {
            if run > 1 && run % RUNS_OF_A_PROCESS == 0 {
                self.restart().await;
                self.processes += 1;
            }
            self.once(run).await;
        }
        self.cluster.assert_sound();
        println!(
            "{runs} runs on {} nodes, {} times started: no share after unseal, no key, token, password or secret after seal; {} MB were \
             searched in {:?}",
            self.cluster.nodes.len(),
            self.processes,
            self.searched_bytes >> 20,
            began.elapsed()
        );
    }

    /// Unseals, uses, seals; looks each time.
    async fn once(&mut self, run: u32) {
        let nodes = self.cluster.nodes.len();
        // One connection to each node stays open all the time, as a client's that does not know of the seal.
        let clients: Vec<Client> = (0..nodes).map(|at| self.cluster.client_at(at)).collect();
        let mut kept: Vec<Kept> = (0..nodes).filter_map(|at| self.kept(at)).collect();

        self.cluster.leader().await;
        let first = run as usize % SHARES as usize;
        let share = |step: usize| (first + step) % SHARES as usize;
        for step in 0..THRESHOLD as usize - 1 {
            let text = self.cluster.keys().shares[share(step)].clone();
            let at = step % nodes;
            match kept.get_mut(at) {
                Some(kept) if step == 0 => kept.ask("PUT /v1/sys/unseal", &[], &json!({"key": text}).to_string()),
                _ => {
                    drop(clients[at].sys().unseal(&SecretString::from(text)).await.unwrap_or_else(|error| panic!("share {step}: {error}")))
                }
            }
        }
        // The search can find: shares wait at the node that counts them.
        assert!(!self.find(&self.shares).is_empty(), "run {run}: a share that was entered is in memory");
        let last = self.cluster.keys().shares[share(THRESHOLD as usize - 1)].clone();
        clients[nodes - 1].sys().unseal(&SecretString::from(last)).await.unwrap_or_else(|error| panic!("the last share: {error}"));
        let all: Vec<usize> = (0..nodes).collect();
        self.cluster.await_sealed(&all, false, SEAL_MAX).await;
        self.assert_gone(&format!("run {run}, open"), None);

        let used = self.use_it(&clients, &mut kept).await;
        let found = self.find(&self.keys);
        for at in 0..nodes {
            for key in ["the keyring key", "the value key", "the name key"] {
                assert!(found.iter().any(|place| place.node == at && place.what.contains(key)), "run {run}: {key} is in an open node");
            }
        }
        let found = self.find(&used);
        for what in ["the root token", "a secret"] {
            // In the buffers of the connections.
            assert!(found.iter().any(|place| place.what.contains(what)), "run {run}: {what} is in an open node");
        }

        clients[run as usize % nodes].sys().seal().await.unwrap_or_else(|error| panic!("seal: {error}"));
        self.cluster.await_sealed(&all, true, SEAL_MAX).await;
        self.assert_gone(&format!("run {run}, sealed"), Some(&used));
        drop((clients, kept));
    }

    /// A connection to the node at `at` that nobody closes; `None` when it takes TLS.
    fn kept(&self, at: usize) -> Option<Kept> {
        let node = &self.cluster.nodes[at];
        node.api_address().starts_with("http:").then(|| Kept(TcpStream::connect((Ipv4Addr::LOCALHOST, node.api_port)).unwrap()))
    }

    /// Does with every node what clients do. Answers what for to look afterwards.
    async fn use_it(&self, clients: &[Client], kept: &mut [Kept]) -> Search {
        let root = self.cluster.keys().root_token.clone();
        let mut secrets = vec![("the root token".to_owned(), after_prefix(&root))];
        let mut secret = |what: &str, text: &str| secrets.push((what.to_owned(), text.as_bytes().to_vec()));
        let _ = clients[0].request(Method::Post, "sys/auth/userpass").body(&json!({"type": "userpass"})).accept_any_status().send().await;
        for (at, client) in clients.iter().enumerate() {
            let ask = async |client: &Client, path: &str, body: Value| -> Value {
                let asked = client.request(Method::Post, path).body(&body).send().await;
                let answer = asked.unwrap_or_else(|error| panic!("{path} at node {at}: {error}"));
                if answer.body().is_empty() { Value::Null } else { answer.json().unwrap() }
            };
            let value = random_text();
            secret("a secret", &value);
            client.kv("secret").put("memory", fields(json!({"value": value})), None).await.unwrap();
            let value = random_text();
            secret("a secret over gRPC", &value);
            client.kv_grpc("secret").put("memory-grpc", fields(json!({"value": value})), None).await.unwrap();
            client.kv_grpc("secret").get("memory", None).await.unwrap();

            let mut tokens = Vec::new();
            for kind in ["service", "batch"] {
                let made = ask(client, "auth/token/create", json!({"type": kind, "policies": ["default"], "ttl": "1h"})).await;
                let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
                secret(&format!("a {kind} token"), std::str::from_utf8(&after_prefix(&token)).unwrap());
                tokens.push(token);
            }
            let (user, password) = (format!("u{}", random_text()), random_text());
            secret("a password", &password);
            ask(client, &format!("auth/userpass/users/{user}"), json!({"password": password, "token_policies": "default"})).await;
            let login = ask(&client.with_token(None), &format!("auth/userpass/login/{user}"), json!({"password": password})).await;
            let token = login["auth"]["client_token"].as_str().unwrap().to_owned();
            secret("a login's token", std::str::from_utf8(&after_prefix(&token)).unwrap());
            tokens.push(token);
            for token in tokens {
                let as_other = client.with_token(Some(SecretString::from(token)));
                as_other.request(Method::Get, "auth/token/lookup-self").send().await.unwrap_or_else(|error| panic!("look up: {error}"));
            }
            let wrapped = client.wrapping(Some("60s")).request(Method::Get, "secret/data/memory").send().await.unwrap();
            let token = wrapped.json::<Value>().unwrap()["wrap_info"]["token"].as_str().unwrap().to_owned();
            secret("a wrapping token", std::str::from_utf8(&after_prefix(&token)).unwrap());
            client.kv("secret").get("memory").await.unwrap();
        }
        for kept in kept {
            let value = random_text();
            secret("a secret on a kept connection", &value);
            kept.ask("POST /v1/secret/data/kept", &[&format!("X-Vault-Token: {root}")], &json!({"data": {"value": value}}).to_string());
            kept.ask("GET /v1/secret/data/kept", &[&format!("X-Vault-Token: {root}")], "");
        }
        Search::new(secrets)
    }

    fn find(&self, search: &Search) -> Vec<Place> {
        self.find_all(&[search]).0
    }

    fn find_all(&self, searches: &[&Search]) -> (Vec<Place>, u64) {
        let (mut places, mut bytes) = (Vec::new(), 0);
        for (at, node) in self.cluster.nodes.iter().enumerate() {
            bytes += each_piece(node.pid(), |mapping, address, piece| {
                for search in searches {
                    places.extend(search.find(piece).map(|(what, offset)| Place {
                        node: at,
                        what: what.to_owned(),
                        mapping: mapping.to_owned(),
                        address: address + offset as u64,
                        around: around(piece, offset),
                    }));
                }
            });
        }
        (places, bytes)
    }

    /// Looks until nothing is found, for a while: no share, and when sealed no key and nothing of what was `used`.
    fn assert_gone(&mut self, when: &str, used: Option<&Search>) {
        let deadline = Instant::now() + GONE_MAX;
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let late = Instant::now() >= deadline;
            let sought = [Some(&self.shares), used.map(|_| &self.keys), used];
            let (places, bytes) = self.find_all(&sought.into_iter().flatten().collect::<Vec<_>>());
            self.searched_bytes += bytes;
            if places.is_empty() {
                return;
            }
            if late {
                let told: Vec<String> = places.iter().map(Place::tell).collect();
                panic!("{when}: {} pieces are still in memory\n{}", places.len(), told.join("\n"));
            }
        }
    }
}

/// Where a piece was found.
struct Place {
    node: usize,
    what: String,
    mapping: String,
    address: u64,
    around: String,
}

impl Place {
    fn tell(&self) -> String {
        format!("n{}: {} at {:#x} in {}\n    {}", self.node + 1, self.what, self.address, self.mapping, self.around)
    }
}

/// What surrounds a find, for who has to find out whose it is.
fn around(piece: &[u8], offset: usize) -> String {
    let (from, to) = (offset.saturating_sub(96), (offset + 96).min(piece.len()));
    piece[from..to].escape_ascii().to_string()
}

/// Pieces to be found, and what each is of.
struct Search {
    automaton: AhoCorasick,
    names: Vec<String>,
}

impl Search {
    /// Looks for every piece of [`PIECE_BYTES`] of each secret.
    fn new(secrets: Vec<(String, Vec<u8>)>) -> Search {
        let (mut names, mut pieces) = (Vec::new(), Vec::new());
        for (what, secret) in secrets {
            assert!(secret.len() >= PIECE_BYTES, "{what} is long enough to be sought");
            for piece in secret.chunks_exact(PIECE_BYTES) {
                names.push(what.clone());
                pieces.push(piece.to_vec());
            }
        }
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(pieces).unwrap();
        Search { automaton, names }
    }

    /// As bytes and as text: without what all shares of a cluster begin with.
    fn for_shares(shares: &[String]) -> Search {
        const HEAD_BYTES: usize = 6;
        let mut secrets = Vec::new();
        for (number, share) in shares.iter().enumerate() {
            let bytes = &STANDARD.decode(share).unwrap()[HEAD_BYTES..];
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            secrets.push((format!("share {} in bytes", number + 1), bytes.to_vec()));
            secrets.push((format!("share {} in base64", number + 1), share.as_bytes()[HEAD_BYTES * 4 / 3..].to_vec()));
            secrets.push((format!("share {} in hex", number + 1), hex.into_bytes()));
        }
        Search::new(secrets)
    }

    fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, usize)> + 'a {
        self.automaton.find_overlapping_iter(bytes).map(|found| (self.names[found.pattern().as_usize()].as_str(), found.start()))
    }
}

/// A connection over which several requests go, and which this side never closes.
struct Kept(TcpStream);

impl Kept {
    fn ask(&mut self, line: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        let stream = &mut self.0;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        // Answers here are short, and have their length in front.
        loop {
            let read = stream.read(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            let length = |head: &str| head.split("content-length: ").nth(1)?.lines().next()?.trim().parse::<usize>().ok();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("http/1.1 200"), "{line}: {text}");
                if rest.len() >= length(head).unwrap_or(0) {
                    break;
                }
            }
            assert!(read > 0, "{line}: the connection ended within an answer: {text}");
        }
        // The server closes what carried a share: the next request takes a new connection.
        if String::from_utf8_lossy(&answer).to_lowercase().contains("connection: close") {
            let port = stream.peer_addr().unwrap().port();
            // Kept open by this side all the same.
            std::mem::forget(std::mem::replace(stream, TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()));
        }
    }
}

/// Hands over all memory of a process that only it can see and that is no code, piece by piece; answers how many bytes there were.
/// Pieces of one mapping overlap by what a search needs.
fn each_piece(pid: u32, mut take: impl FnMut(&str, u64, &[u8])) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|error| panic!("the maps of {pid}: {error}"));
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| panic!("the memory of {pid}: {error}"));
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    for mapping in maps.lines() {
        let mut words = mapping.split_ascii_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let name = words.nth(3).unwrap_or_default();
        // Code was never writable; the kernel's own pages hold the time.
        if !rights.starts_with('r') || rights.contains('x') || !rights.ends_with('p') || name.starts_with("[v") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let wanted = READ_BYTES.min((end - at) as usize);
            // A mapping may go while it is read.
            let Ok(read) = memory.read_at(&mut buffer[..wanted], at) else { break };
            if read == 0 {
                break;
            }
            take(mapping, at, &buffer[..read]);
            bytes += read as u64;
            at += if at + (read as u64) < end && read > PIECE_BYTES { read as u64 - PIECE_BYTES as u64 + 1 } else { read as u64 };
        }
    }
    assert!(bytes > 1 << 20, "a process has memory");
    bytes
}

/// Every key of the cluster: of a stopped node's table, opened with the shares.
fn keys(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let file = cluster.nodes[0].data_dir.join("table.redb");
    let table = RedbTable::open(Arc::new(FsDisk), &file, RedbTableOptions::default()).unwrap();
    let record = |name: &str| {
        table.view().unwrap().get(&[b"\0", name.as_bytes()].concat()).unwrap().unwrap_or_else(|| panic!("no record {name}")).value
    };
    let seals = stored::Seals::decode(record("seals")).unwrap();
    let (cluster_id, shamir_seal) = (&seals.cluster_id, seals.shamir.unwrap());
    let shares: Vec<Share> = cluster.keys().shares[..THRESHOLD as usize].iter().map(|share| Share::parse_text(share).unwrap()).collect();
    let seal_key = shamir::combine(&shares, Quorum::new(SHARES.into(), THRESHOLD.into()).unwrap()).unwrap();
    let wrap_key = seal_key.derive_aead_key(kdf::label::ROOT, shamir_seal.id.as_bytes());
    let root = aead::open(&wrap_key, cluster_id, &shamir_seal.wrapped_root_key).unwrap();
    let root_key = crypto::RootKey::from_slice(root.expose()).unwrap();
    let keyring_key = root_key.derive_keyring_key();
    let keyring = aead::open(&keyring_key.derive_aead_key(kdf::label::KEYRING, b""), cluster_id, &record("keyring")).unwrap();
    let keyring = stored::Keyring::decode(keyring.expose()).unwrap();
    let mut keys = vec![
        ("the seal key".to_owned(), seal_key.expose().to_vec()),
        ("the root key".to_owned(), root_key.expose().to_vec()),
        ("the keyring key".to_owned(), keyring_key.expose().to_vec()),
        ("the base key".to_owned(), keyring.base_key.clone()),
    ];
    let base: [u8; 32] = keyring.base_key[..].try_into().unwrap();
    keys.push(("the name key".to_owned(), kdf::derive_key_64(&base, kdf::label::NAME, b"").to_vec()));
    for label in [kdf::label::TOKEN, kdf::label::CREDENTIAL, kdf::label::AUDIT] {
        keys.push((format!("the key for {label}"), kdf::derive_key(&base, label, b"").to_vec()));
    }
    for version in keyring.value_keys {
        let drawn: [u8; 32] = version.key[..].try_into().unwrap();
        keys.push(("the drawn value key".to_owned(), drawn.to_vec()));
        keys.push(("the value key".to_owned(), kdf::derive_key(&drawn, kdf::label::VALUE, b"").to_vec()));
        keys.push(("the key of batch tokens".to_owned(), kdf::derive_key(&drawn, kdf::label::BATCH_TOKEN, b"").to_vec()));
    }
    keys
}

/// `hvs.` is in every node.
fn after_prefix(token: &str) -> Vec<u8> {
    let (_, secret) = token.split_once('.').unwrap_or_else(|| panic!("a token has a prefix"));
    secret.as_bytes().to_vec()
}

fn random_text() -> String {
    let mut letters = [0; 32];
    crypto::OsRng::new().fill(&mut letters);
    letters.iter().map(|letter| char::from(b'a' + letter % 26)).collect()
}
