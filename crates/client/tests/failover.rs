//! The client against nodes that refuse, break, hang, are sealed, or answer: what is sent again, and what is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{Client, Error, Failure, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a node does with its next request.
#[derive(Clone)]
enum Act {
    /// Status and body.
    Say(u16, &'static str),
    /// Reads the request, then closes the connection.
    Break,
    /// Reads the request, and never answers.
    Hang,
}

const SEALED: Act = Act::Say(503, r#"{"errors":["Vault is sealed"]}"#);
const FINE: Act = Act::Say(200, r#"{"request_id":"1","data":{"keys":["a"]}}"#);

/// A node that acts by its script, and does its last act for ever.
struct Node {
    address: String,
    served: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Node {
    async fn start(script: impl IntoIterator<Item = Act>) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let script: Arc<Mutex<VecDeque<Act>>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let (served, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = JoinSet::new();
        let (count, seen) = (served.clone(), heads.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, script.clone(), count.clone(), seen.clone()));
            }
        });
        Node { address, served, heads, _tasks: tasks }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Act>>>, served: Arc<AtomicUsize>, heads: Arc<Mutex<Vec<String>>>) {
    loop {
        let Some(head) = read_request(&mut stream).await else { return };
        served.fetch_add(1, Ordering::SeqCst);
        heads.lock().unwrap().push(head);
        let act = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        match act {
            Some(Act::Say(status, body)) => {
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Some(Act::Hang) => std::future::pending::<()>().await,
            Some(Act::Break) | None => return,
        }
    }
}

/// One request's head; its body (by content-length) is read and dropped.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some(head)
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(addresses: &[&str]) -> Client {
    Client::builder()
        .addresses(addresses.iter().copied())
        .token("hvs.canary".to_owned().into())
        .timeout(Duration::from_secs(10))
        .attempt_timeout(Duration::from_millis(300))
        .retries_max(2)
        .build()
        .unwrap()
}

fn write(client: &Client) -> client::Request<'_> {
    client.request(Method::Post, "secret/data/a").body(&serde_json::json!({"data": {"x": "canary"}}))
}

#[tokio::test]
async fn a_write_goes_on_when_it_surely_was_not_applied() {
    let sealed = Node::start([SEALED]).await;
    let fine = Node::start([FINE]).await;
    let client = client(&[&nobody().await, &sealed.address, &fine.address]);
    let response = write(&client).send().await.unwrap();
    assert_eq!(response.address(), fine.address);
    assert_eq!((sealed.served(), fine.served()), (1, 1));
    write(&client).send().await.unwrap();
    assert_eq!((sealed.served(), fine.served()), (1, 2), "the node that answered is asked first");
}

#[tokio::test]
async fn a_write_whose_fate_is_unknown_is_not_sent_again() {
    for act in
        [Act::Break, Act::Say(500, r#"{"errors":["internal error"]}"#), Act::Say(503, "<html>from a proxy</html>"), Act::Say(504, "")]
    {
        let first = Node::start([act]).await;
        let second = Node::start([FINE]).await;
        let client = client(&[&first.address, &second.address]);
        let error = write(&client).send().await.err().unwrap();
        assert!(matches!(error, Error::Indeterminate { .. }), "{error}");
        assert_eq!((first.served(), second.served()), (1, 0));
        write(&client).idempotent().send().await.unwrap();
        assert_eq!(second.served(), 1, "the caller may say that it can be repeated");
    }
}

#[tokio::test]
async fn a_write_that_hangs_is_indeterminate_at_its_deadline() {
    let hangs = Node::start([Act::Hang]).await;
    let fine = Node::start([FINE]).await;
    let client = client(&[&hangs.address, &fine.address]);
    let begun = Instant::now();
    let error = write(&client).within(Some(Duration::from_millis(700))).send().await.err().unwrap();
    assert!(matches!(&error, Error::Indeterminate { last, .. } if matches!(last.failure, Failure::Timeout)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(fine.served(), 0);
}

#[tokio::test]
async fn a_read_tries_every_node_and_again() {
    let breaks = Node::start([Act::Break]).await;
    let hangs = Node::start([Act::Hang]).await;
    let late = Node::start([SEALED, FINE]).await;
    let client = client(&[&breaks.address, &hangs.address, &late.address]);
    let response = client.request(Method::List, "secret/metadata").send().await.unwrap();
    assert_eq!(response.address(), late.address);
    assert_eq!(late.served(), 2);
}

#[tokio::test]
async fn retries_are_bounded_and_every_address_is_told() {
    let sealed = Node::start([SEALED]).await;
    let nobody = nobody().await;
    let client = client(&[&nobody, &sealed.address]);
    let error = write(&client).send().await.err().unwrap();
    assert_eq!(sealed.served(), 3, "once and two retries");
    assert!(error.is_sealed());
    assert_eq!(error.status(), Some(503));
    let text = format!("{error} {error:?}");
    assert!(text.contains(&nobody) && text.contains(&sealed.address), "{text}");
    assert!(!text.contains("canary"), "neither token nor value: {text}");
}

#[tokio::test]
async fn a_refusal_is_final() {
    let refuses = Node::start([Act::Say(403, r#"{"errors":["permission denied"]}"#)]).await;
    let fine = Node::start([FINE]).await;
    let client = client(&[&refuses.address, &fine.address]);
    let error = client.request(Method::Get, "secret/data/a").send().await.err().unwrap();
    assert_eq!(error.status(), Some(403));
    assert_eq!(fine.served(), 0);
}

#[tokio::test]
async fn redirects_are_refused_so_the_token_stays_here() {
    let redirects = Node::start([Act::Say(307, "")]).await;
    let error = client(&[&redirects.address]).request(Method::Get, "secret/data/a").send().await.err().unwrap();
    assert_eq!(error.status(), Some(307));
}

#[tokio::test]
async fn health_is_an_answer_whatever_its_status() {
    let body = r#"{"initialized":true,"sealed":true,"standby":true,"performance_standby":false,"replication_performance_mode":"disabled",
        "replication_dr_mode":"disabled","server_time_utc":1,"version":"1"}"#;
    let sealed = Node::start([Act::Say(503, body)]).await;
    assert!(client(&[&sealed.address]).sys().health().await.unwrap().sealed);
    assert_eq!(sealed.served(), 1);
}

#[tokio::test]
async fn one_node_can_be_asked_alone() {
    let sealed = Node::start([SEALED]).await;
    let fine = Node::start([FINE]).await;
    let client = client(&[&fine.address]);
    let error = client.at(&sealed.address).unwrap().request(Method::Get, "secret/data/a").send().await.err().unwrap();
    assert!(error.is_sealed());
    assert_eq!(fine.served(), 0);
}

#[tokio::test]
async fn members_are_learned_and_asked_when_the_first_is_gone() {
    let second = Node::start([FINE]).await;
    let body = format!(
        r#"{{"request_id":"1","data":{{"nodes":[{{"api_address":"{}","active_node":true}},{{"api_address":"nonsense"}}]}}}}"#,
        second.address
    );
    let first = Node::start([Act::Say(200, body.leak()), SEALED]).await;
    let client = client(&[&first.address]);
    let known = client.discover().await.unwrap();
    assert_eq!(known.iter().map(|address| &**address).collect::<Vec<_>>(), [&first.address, &second.address]);
    assert_eq!(write(&client).send().await.unwrap().address(), second.address);
}

#[tokio::test]
async fn the_token_travels_in_its_header_only() {
    let node = Node::start([FINE]).await;
    client(&[&node.address]).request(Method::Get, "secret/data/a b").query("version", "1&x").send().await.unwrap();
    let head = node.heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /v1/secret/data/a%20b?version=1%26x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-vault-token: hvs.canary\r\n") && head.contains("x-vault-request: true\r\n"), "{head}");
    let nobodys = client(&[&node.address]).with_token(None);
    nobodys.request(Method::Get, "sys/health").send().await.unwrap();
    assert!(!node.heads.lock().unwrap()[1].contains("x-vault-token"));
}

#[tokio::test]
async fn a_deleted_version_has_no_data_and_an_absent_secret_is_not_found() {
    let deleted =
        r#"{"request_id":"1","data":{"data":null,"metadata":{"version":2,"created_time":"t","deletion_time":"u","destroyed":false}}}"#;
    let node = Node::start([Act::Say(404, deleted), Act::Say(404, r#"{"errors":[]}"#), Act::Say(404, r#"{"errors":[]}"#)]).await;
    let client = client(&[&node.address]);
    let secret = client.kv("secret").get("a").await.unwrap();
    assert!(secret.data.is_none());
    assert_eq!(secret.version.number, 2);
    assert!(client.kv("secret").get("b").await.err().unwrap().is_not_found());
    assert!(client.kv("secret").list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_malformed_answer_is_told_without_its_content() {
    let node = Node::start([Act::Say(200, r#"{"initialized":"canary"}"#)]).await;
    let error = client(&[&node.address]).sys().initialized().await.err().unwrap();
    assert!(matches!(error, Error::Malformed { .. }));
    assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
}
