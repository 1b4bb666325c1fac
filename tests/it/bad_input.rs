//! Bytes that no good client sends: each gets its status and its words, and changes nothing.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::raw::{self, Answer, request};
use tests::{Cluster, fields};

/// Answered before the body has come: far less than it would take to send, or to time out.
const EARLY_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Request targets; what each file is, is said in it.
const PATHS_REFUSED: &str = include_str!("../corpora/paths-refused.txt");
const PATHS_SAME: &str = include_str!("../corpora/paths-same.txt");
const PATHS_OTHER: &str = include_str!("../corpora/paths-other.txt");
/// Headers that contradict each other or make no sense.
const HEADERS: &str = include_str!("../corpora/headers.txt");

/// The routes that are served without a token while sealed too. A further one is a decision, and belongs here. What the service serves besides
/// (logins, and what a login page asks) is in its own inventory: `service::hostile::routes`.
const OPEN_ROUTES: [&str; 6] = ["sys/health", "sys/init", "sys/leader", "sys/seal-status", "sys/unseal", "sys/verify-share"];
/// Others that exist, or that Vault has, or that nobody has.
const CLOSED_ROUTES: [&str; 37] = [
    "",
    "secret",
    "secret/",
    "secret/data/app",
    "secret/metadata",
    "secret/metadata/app",
    "secret/delete/app",
    "secret/undelete/app",
    "secret/destroy/app",
    "secret/config",
    "secret/subkeys/app",
    "sys",
    "sys/",
    "sys/seal",
    "sys/mounts",
    "sys/mounts/secret",
    "sys/auth",
    "sys/audit",
    "sys/audit/file",
    "sys/ha-status",
    "sys/policies/acl",
    "sys/policies/acl/root",
    "sys/capabilities-self",
    "sys/step-down",
    "sys/storage/raft/configuration",
    "sys/storage/raft/snapshot",
    "sys/rekey/backup",
    "sys/rotate/config",
    "sys/rotate",
    "sys/metrics",
    "sys/remount",
    "sys/raw/core",
    "auth/token/lookup-self",
    "auth/token/create",
    "cubbyhole/a",
    "identity/entity",
    "no/such/path",
];
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "DELETE", "LIST", "PATCH"];

fn lines(corpus: &'static str) -> impl Iterator<Item = &'static str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

fn token(cluster: &Cluster) -> String {
    format!("X-Vault-Token: {}", cluster.keys().root_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_listed_routes_answer_and_nothing_else() {
    let mut cluster = Cluster::builder().nodes(1).start().await;
    cluster.init().await;
    let port = cluster.nodes[0].api_port;
    let ask = |method: &str, path: &str, headers: &[&str]| {
        let merge_patch = ["Content-Type: application/merge-patch+json"];
        let headers: Vec<&str> = if method == "PATCH" { headers.iter().chain(&merge_patch).copied().collect() } else { headers.to_vec() };
        let body = if matches!(method, "PUT" | "POST" | "PATCH") { "{}" } else { "" };
        request(port, &format!("{method} /v1/{path}"), &headers, body)
    };

    // Sealed: the same five, and 503 for all others, with or without a token.
    for path in CLOSED_ROUTES {
        for method in METHODS {
            for headers in [&[][..], &["X-Vault-Token: hvs.wrong"], &[token(&cluster).as_str()]] {
                let answer = ask(method, path, headers);
                assert_eq!(answer.status, 503, "sealed: {method} {path}: {answer:?}");
                assert!(method == "HEAD" || answer.error() == "Vault is sealed", "{method} {path}: {answer:?}");
            }
        }
    }
    for path in OPEN_ROUTES {
        let answer = ask(if matches!(path, "sys/unseal" | "sys/verify-share") { "PUT" } else { "GET" }, path, &[]);
        assert!(answer.error() != "Vault is sealed" && answer.status != 403, "{path} answers while sealed: {answer:?}");
    }

    cluster.unseal_everywhere().await;
    cluster.mount("secret").await;
    cluster.client().kv("secret").put("app", fields(json!({"x": "canary"})), None).await.unwrap();
    for path in CLOSED_ROUTES {
        for method in METHODS {
            for headers in [&[][..], &["X-Vault-Token: hvs.wrong"], &["Authorization: Bearer hvs.wrong"]] {
                let answer = ask(method, path, headers);
                assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
                let is_vaults = answer.error() == "1 error occurred:\n\t* permission denied\n\n";
                assert!(method == "HEAD" || is_vaults, "every path looks alike: {method} {path}: {answer:?}");
            }
        }
    }
    for path in OPEN_ROUTES {
        let answer = ask(if matches!(path, "sys/unseal" | "sys/verify-share") { "PUT" } else { "GET" }, path, &[]);
        assert!(answer.status != 403, "{path} needs no token: {answer:?}");
    }
    // The same behind gRPC.
    let anonymous = cluster.client().with_token(None);
    let refused = anonymous.kv_grpc("secret").get("app", None).await.err().expect("gRPC without a token is refused");
    assert_eq!(refused.status(), Some(403), "{refused}");
    // Nothing of it changed anything.
    let kept = cluster.client().kv("secret").get("app").await.unwrap();
    assert_eq!((kept.version.number, kept.data.unwrap().expose()["x"].clone()), (1, json!("canary")));
    assert_eq!(cluster.client().sys().mounts().await.unwrap().keys().filter(|path| path.starts_with("no")).count(), 0);
    cluster.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_vaults_codes_and_leave_no_trace() {
    let mut cluster = Cluster::builder().nodes(1).listener("max_request_size = 4194304").open().await;
    let port = cluster.nodes[0].api_port;
    let token = token(&cluster);
    let root_token = cluster.keys().root_token.as_str();
    let write = |body: &str| request(port, "POST /v1/secret/data/app", &[&token], body);
    let deep = |levels: usize| format!("{{\"data\":{}1{}}}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let many = |count: usize| format!("{{\"data\":{{{}}}}}", (0..count).map(|at| format!("\"k{at}\":1")).collect::<Vec<_>>().join(","));
    assert_eq!(write(r#"{"data":{"x":1}}"#).status, 200, "the control");

    let expect = |what: &str, answer: Answer, status: u16, says: &str| {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.error().contains(says), "{what}: {answer:?}");
        assert!(!answer.body.contains("canary"), "{what}: an error repeats the body: {answer:?}");
        if !answer.body.is_empty() {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        }
    };
    for (what, body, says) in [
        ("no JSON", "canary".to_owned(), "failed to parse JSON input"),
        ("cut off", r#"{"data":{"x":"canary"#.to_owned(), "failed to parse JSON input"),
        ("two documents", r#"{"data":{}} {"data":{}}"#.to_owned(), "failed to parse JSON input"),
        ("an array", "[1]".to_owned(), "must be a JSON object"),
        ("a number that is none", r#"{"data":{"x":01}}"#.to_owned(), "failed to parse JSON input"),
        ("a lone surrogate", r#"{"data":{"x":"\ud800"}}"#.to_owned(), "failed to parse JSON input"),
        ("a control character", "{\"data\":{\"x\":\"a\u{1}\"}}".to_owned(), "failed to parse JSON input"),
        ("too deep", deep(200), "nested more than"),
        ("much too deep", deep(300_000), "nested more than"),
        ("a long string", format!("{{\"data\":{{\"x\":\"{}\"}}}}", "a".repeat((1 << 20) + 1)), "longer than"),
        ("a long name", format!("{{\"data\":{{\"{}\":1}}}}", "a".repeat((1 << 20) + 1)), "longer than"),
        ("many entries", many(10_001), "entries"),
        ("many elements", format!("{{\"data\":{{\"x\":[{}1]}}}}", "1,".repeat(10_000)), "elements"),
        ("data of another kind", r#"{"data":"canary"}"#.to_owned(), ""),
        ("no data", r#"{"options":{}}"#.to_owned(), ""),
        ("cas of another kind", r#"{"data":{"x":1},"options":{"cas":"canary"}}"#.to_owned(), ""),
    ] {
        expect(what, write(&body), 400, says);
    }
    for line in lines(HEADERS) {
        let (status, rest) = line.split_once('\t').expect("a line is status, words, headers");
        let (says, headers) = rest.split_once('\t').expect("a line is status, words, headers");
        let headers: Vec<String> =
            headers.split(" | ").map(|header| header.replace("{long}", &"a".repeat(9_000)).replace("{token}", root_token)).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = request(port, "POST /v1/secret/data/app", &headers, r#"{"data":{"x":2}}"#);
        expect(line, answer, status.parse().expect("a status"), says);
    }
    let patch = request(port, "PATCH /v1/secret/data/app", &[&token, "Content-Type: application/json"], r#"{"data":{"x":2}}"#);
    expect("a patch without its type", patch, 415, "merge-patch+json");
    for (method, path) in [
        ("OPTIONS", "secret/data/app"),
        ("TRACE", "secret/data/app"),
        ("BREW", "secret/data/app"),
        ("DELETE", "sys/seal"),
        ("GET", "sys/unseal"),
        ("DELETE", "sys/init"),
        ("DELETE", "sys/mounts"),
    ] {
        expect(method, request(port, &format!("{method} /v1/{path}"), &[&token], ""), 405, "");
    }
    for path in ["nothing/here", "sys/nothing", "secret/nothing/here", "auth/nothing/login"] {
        let answer = request(port, &format!("GET /v1/{path}"), &[&token], "");
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    for path in ["/", "/v1", "/v2/secret/data/app", "/ui/", "/secret/data/app"] {
        assert_eq!(request(port, &format!("GET {path}"), &[&token], "").status, 404, "{path}");
    }
    for (name, body) in [("init", r#"{"secret_shares":5,"secret_threshold":9}"#), ("unseal", "{}"), ("unseal", r#"{"key":"canary"}"#)] {
        expect(name, request(port, &format!("PUT /v1/sys/{name}"), &[], body), 400, "");
    }

    // What is no HTTP at all ends the connection, not the node.
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish-rubbish",
    ] {
        let _ = raw::exchange(port, bytes);
    }

    let kept = cluster.client().kv("secret").get("app").await.unwrap();
    assert_eq!((kept.version.number, kept.data.unwrap().expose()["x"].clone()), (1, json!(1)), "nothing was written");
    cluster.assert_sound();
    assert!(!cluster.nodes[0].trace().contains("canary"), "the trace repeats a body");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_has_come() {
    let mut cluster = Cluster::builder().nodes(1).listener("max_request_size = 65536").open().await;
    let port = cluster.nodes[0].api_port;
    let head =
        |more: &str| format!("POST /v1/secret/data/app HTTP/1.1\r\nHost: x\r\n{}\r\nConnection: close\r\n{more}\r\n", token(&cluster));

    // A petabyte is announced; not a byte of it is sent.
    let announced = |more: &str| {
        let begun = Instant::now();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(EARLY_ANSWER_MAX)).unwrap();
        stream.write_all(head(more).as_bytes()).unwrap();
        let answer = raw::parse(&raw::read_answer(&mut stream));
        (answer, begun.elapsed())
    };
    let (answer, took) = announced("Content-Length: 1000000000000000\r\n");
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.error().contains("65536") && took < EARLY_ANSWER_MAX, "{took:?}: {answer:?}");
    let (answer, took) = announced("Content-Length: 1000000000000000\r\nExpect: 100-continue\r\n");
    assert_eq!(answer.status, 413, "{took:?}: {answer:?}");

    // Chunks without an end: the answer comes while they do.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(EARLY_ANSWER_MAX)).unwrap();
    stream.set_write_timeout(Some(EARLY_ANSWER_MAX)).unwrap();
    stream.write_all(head("Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(chunk.as_bytes()).is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 64 << 20, "64 MiB were read against a limit of 64 KiB");
    let answer = raw::parse(&raw::read_answer(&mut stream));
    assert!(answer.status == 413 || answer.status == 0, "the answer, or a reset that ate it: {answer:?}");

    // Both lengths at once is how requests are smuggled.
    let both = raw::exchange(
        port,
        (head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\nGET /v1/sys/health HTTP/1.1\r\n\r\n").as_bytes(),
    );
    let both = both.unwrap();
    assert!(matches!(both.status, 400 | 0) || !both.body.contains("HTTP/1.1"), "a second answer came: {both:?}");
    cluster.client().kv("secret").put("app", fields(json!({"x": 1})), None).await.unwrap();
    cluster.assert_sound();
}

/// Reference T12: what two readers could take for two paths is refused; every other spelling is one and the same path.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_has_one_meaning_however_it_is_spelled() {
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let port = cluster.nodes[0].api_port;
    let token = token(&cluster);
    cluster.client().kv("secret").put("team/app", fields(json!({"x": "kept-value"})), None).await.unwrap();
    let ask = |method: &str, path: &str, headers: &[&str]| {
        let body = if method == "POST" { r#"{"data":{"x":"two"}}"# } else { "" };
        request(port, &format!("{method} {path}"), headers, body)
    };

    for path in lines(PATHS_REFUSED) {
        // Before anybody is known, and for whoever asks: the verdict does not hang on the caller, or on the method.
        for headers in [&[][..], &[token.as_str()]] {
            for method in ["GET", "LIST", "POST", "DELETE", "HEAD"] {
                let answer = ask(method, path, headers);
                assert!(matches!(answer.status, 400 | 404), "{method} {path}: {answer:?}");
                assert!(!answer.body.contains("kept-value"), "{method} {path}: {answer:?}");
                let is_outside = path.starts_with("/v1/../");
                assert!(answer.status == 400 || is_outside, "{method} {path}: {answer:?}");
            }
        }
    }
    let segment = "a".repeat(4096);
    for path in [
        format!("/v1/secret/data/{segment}"),
        format!("/v1/secret/data/{}", "a/".repeat(80)),
        format!("/v1/secret/data/{}x", "abcdefgh/".repeat(3000)),
    ] {
        assert!(matches!(ask("GET", &path, &[&token]).status, 400 | 414 | 431), "a path of {} bytes", path.len());
    }

    for path in lines(PATHS_SAME) {
        let read = ask("GET", path, &[&token]);
        assert_eq!((read.status, &read.json()["data"]["data"]["x"]), (200, &json!("kept-value")), "{path}: {read:?}");
        assert_eq!(ask("GET", path, &[]).status, 403, "{path}: the same verdict for every spelling");
        assert_eq!(ask("HEAD", path, &[&token]).status, 200, "{path}");
    }
    for path in ["/v1/secret/metadata/team", "/v1/secret/metadata/team/", "/v1/secret//metadata//team//"] {
        assert_eq!(ask("LIST", path, &[&token]).json()["data"]["keys"], json!(["app"]), "LIST {path}");
        assert_eq!(ask("GET", &format!("{path}?list=true"), &[&token]).json()["data"]["keys"], json!(["app"]), "GET {path}?list=true");
        assert_eq!(ask("LIST", path, &[]).status, 403, "LIST {path} without a token");
    }
    // Other names, not other spellings: nothing is there.
    for path in lines(PATHS_OTHER) {
        assert_eq!(ask("GET", path, &[&token]).status, 404, "{path}");
    }
    // A header does not change the method.
    let overridden = request(port, "GET /v1/secret/data/team/app", &[&token, "X-HTTP-Method-Override: DELETE"], "");
    assert_eq!(overridden.json()["data"]["data"]["x"], json!("kept-value"));
    let kept = cluster.client().kv("secret").get("team/app").await.unwrap();
    assert_eq!((kept.version.number, kept.data.unwrap().expose()["x"].clone()), (1, json!("kept-value")), "nothing was written");
    cluster.assert_sound();
}

/// The most memory that the process has had, in bytes (proc(5), `VmHWM`).
fn memory_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// CVE-2025-6203 and CVE-2023-6337: JSON that would be many times its size once parsed, from strangers and from whom is known; and many
/// strangers at once.
#[tokio::test(flavor = "multi_thread")]
async fn cve_2025_6203_what_a_body_takes_is_bounded() {
    const BODY_BYTES: usize = 8 << 20;
    const STRANGERS: usize = 200;
    let mut cluster = Cluster::builder().nodes(1).listener("max_request_size = 8388608").open().await;
    let (port, pid) = (cluster.nodes[0].api_port, cluster.nodes[0].pid());
    let token = token(&cluster);
    // Small objects, as many as the limits let by: each is a map once it is parsed.
    let inner = format!("[{}]", vec!["{}"; 9_999].join(","));
    let count = BODY_BYTES / (inner.len() + 10) - 1;
    let members: Vec<String> = (0..count).map(|at| format!("\"k{at}\":{inner}")).collect();
    let body = format!("{{{}}}", members.join(","));
    assert!(body.len() > BODY_BYTES * 9 / 10 && body.len() <= BODY_BYTES);
    for path in ["secret/data/app", "secret/metadata/app", "auth/token/create", "sys/mounts/x", "sys/policies/acl/x", "no/such/path"] {
        let before = memory_peak(pid);
        let answer = request(port, &format!("POST /v1/{path}"), &[&token], &body);
        // Refused, or done without what means nothing there.
        assert!((200..500).contains(&answer.status), "{path}: {answer:?}");
        let more = memory_peak(pid) - before;
        println!("{path}: {more} bytes more for a body of {}", body.len());
        // Secrets are kept as their text; what has fields of its own (sys, auth) takes no body of that size.
        assert!(more <= 4 * BODY_BYTES as u64, "{path}: {more} bytes for a body of {}", body.len());
    }
    let before = memory_peak(pid);
    let small = format!("{{\"data\":{}}}", &inner[..20_000]);
    std::thread::scope(|scope| {
        for _ in 0..STRANGERS {
            scope.spawn(|| request(port, "POST /v1/auth/userpass/login/nobody", &[], &small).status);
        }
    });
    let answer = request(port, "POST /v1/secret/data/app", &[], &body);
    assert!(matches!(answer.status, 403 | 0), "denied before it has come: {answer:?}");
    let more = memory_peak(pid) - before;
    assert!(more <= (64 << 20), "{more} bytes for {STRANGERS} strangers");
    cluster.assert_sound();
}
