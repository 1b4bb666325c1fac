//! The load generator: closed loop, the same for every server.
//!
//! A client sends, waits for the whole answer, looks whether it is the right one, and sends again. All clients of a cell run
//! on one thread of their own. What completes inside the window counts, with the latency from before the request was built
//! until its answer was read; a slow answer delays its client's next request, as it would delay a real one's.
//!
//! Always: no two clients write the same secret, so no server has to settle conflicts that were not asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Method;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::args::Kind;
use crate::grpc;
use crate::http::Connection;
use crate::machine::{ProcessorTime, own_thread_time, processor_time};

/// Latencies are kept in nanoseconds, to three digits, up to a minute.
const LATENCY_MAX: Duration = Duration::from_secs(60);
const DIGITS: u8 = 3;
/// A client that fails waits this long, so that a broken server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// Clients that fill the store.
const FILL_CLIENTS: usize = 32;

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// The secrets: `secret/bench/<number>`, each with one value of a fixed size that tells whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets {
    pub(crate) count: u32,
    pub(crate) value_bytes: usize,
}

impl Secrets {
    pub(crate) fn path(number: u32) -> String {
        format!("bench/{number:06}")
    }

    /// `{"value":"s…"}`: the number behind an `s` (so that no request id looks like it), a sequence number that makes each write another, and filling.
    pub(crate) fn data(self, number: u32, sequence: u64) -> String {
        let mut data = format!(r#"{{"value":"s{number:08x}{sequence:016x}"#);
        const FILLING: &str = "Tk9UIEEgU0VDUkVULCBKVVNUIEZJTExJTkcgT0YgVEhFIFJJR0hUIFNJWkU";
        let value_starts = r#"{"value":""#.len();
        while data.len() - value_starts < self.value_bytes {
            let missing = self.value_bytes - (data.len() - value_starts);
            data.push_str(&FILLING[..missing.min(FILLING.len())]);
        }
        data.push_str(r#""}"#);
        data
    }

    /// Whether `answer` holds the value of secret `number`, whole.
    pub(crate) fn holds(self, answer: &[u8], number: u32) -> bool {
        let wanted = format!("\"s{number:08x}");
        let Some(at) = answer.windows(wanted.len()).position(|window| window == wanted.as_bytes()) else { return false };
        answer.get(at + 1 + self.value_bytes) == Some(&b'"')
    }
}

/// One cell.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) protocol: Protocol,
    pub(crate) clients: usize,
    /// Each client asks them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) token: String,
    pub(crate) secrets: Secrets,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    /// The servers' processes, to see what they cost.
    pub(crate) processes: Vec<u32>,
}

/// What a cell gave.
pub(crate) struct Measured {
    /// Nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// How long the window really was.
    pub(crate) window: Duration,
    /// Requests inside the window that failed; they count nowhere else.
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    /// Processor time of the servers' processes in the window.
    pub(crate) servers_time: ProcessorTime,
    /// Processor time of the load generator in the window.
    pub(crate) own_time: Duration,
}

impl Measured {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.window.as_secs_f64()
    }
}

/// Runs one cell on a thread of its own. Dropped half-way, the thread still finishes the cell.
pub(crate) async fn measure(work: Work) -> Result<Measured> {
    on_a_thread("load", move || async move { window(&work).await }).await
}

/// Writes every secret once.
pub(crate) async fn fill(work: Work) -> Result<()> {
    on_a_thread("fill", move || async move {
        let mut clients = JoinSet::new();
        for client in 0..FILL_CLIENTS {
            let work = work.clone();
            clients.spawn(async move {
                let mut link = Link::open(&work, client % work.addresses.len()).await?;
                for number in (client..work.secrets.count as usize).step_by(FILL_CLIENTS) {
                    let number = u32::try_from(number).expect("below a u32");
                    link.write(work.secrets, number, 0).await.with_context(|| format!("write secret {number}"))?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(client) = clients.join_next().await {
            client.context("a client panicked")??;
        }
        Ok(())
    })
    .await
}

/// Runs a future on a new thread with a runtime of its own.
async fn on_a_thread<T, F, Fut>(name: &str, make: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>>,
{
    let (give, wait) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime");
        // Nobody waits any more when the run was interrupted.
        drop(give.send(runtime.and_then(|runtime| runtime.block_on(make()))));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).context("start a thread")?;
    wait.await.context("the load generator's thread has died")?
}

/// One client's count.
struct Tally {
    latencies: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
}

async fn window(work: &Work) -> Result<Measured> {
    let mut clients = JoinSet::new();
    let mut links = Vec::with_capacity(work.clients);
    for client in 0..work.clients {
        let mut of_client = Vec::with_capacity(work.addresses.len());
        for step in 0..work.addresses.len() {
            of_client.push(Link::open(work, (client + step) % work.addresses.len()).await?);
        }
        links.push(of_client);
    }
    let begin = Instant::now() + work.warm_up;
    let end = begin + work.duration;
    let sequence = Arc::new(AtomicU64::new(1));
    for (client, links) in links.into_iter().enumerate() {
        let choice = Choice::new(work, client);
        clients.spawn(client_loop(work.clone(), links, choice, sequence.clone(), begin..end));
    }
    sleep_until(begin.into()).await;
    let (servers_before, own_before, really_begun) = (processor_time(&work.processes), own_thread_time(), Instant::now());
    sleep_until(end.into()).await;
    let (servers_after, own_after, really_ended) = (processor_time(&work.processes), own_thread_time(), Instant::now());
    let mut whole = Tally { latencies: histogram(), failures: 0, first_failure: None };
    while let Some(tally) = clients.join_next().await {
        let tally = tally.context("a client panicked")??;
        whole.latencies.add(&tally.latencies).context("histograms of one shape")?;
        whole.failures += tally.failures;
        whole.first_failure = whole.first_failure.or(tally.first_failure);
    }
    Ok(Measured {
        latencies: whole.latencies,
        window: end - begin,
        failures: whole.failures,
        first_failure: whole.first_failure,
        servers_time: servers_after.since(servers_before).over(work.duration, really_ended - really_begun),
        own_time: own_after.saturating_sub(own_before),
    })
}

/// One client, until the window ends. A link that failed is opened anew.
async fn client_loop(
    work: Work,
    mut links: Vec<Link>,
    mut choice: Choice,
    sequence: Arc<AtomicU64>,
    window: std::ops::Range<Instant>,
) -> Result<Tally> {
    let mut tally = Tally { latencies: histogram(), failures: 0, first_failure: None };
    let mut turn = 0;
    loop {
        let number = choice.next();
        let count = links.len();
        let link = &mut links[turn % count];
        let sent = Instant::now();
        let outcome = match work.kind {
            Kind::Write => link.write(work.secrets, number, sequence.fetch_add(1, Ordering::Relaxed)).await,
            Kind::Read => link.read(work.secrets, number).await,
        };
        let answered = Instant::now();
        let failed = outcome.is_err();
        if window.contains(&answered) {
            match outcome {
                Ok(()) => tally.latencies.saturating_record(u64::try_from((answered - sent).as_nanos()).unwrap_or(u64::MAX)),
                Err(error) => {
                    tally.failures += 1;
                    tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
                }
            }
        }
        if answered >= window.end {
            return Ok(tally);
        }
        if failed {
            tokio::time::sleep(FAILURE_PAUSE).await;
            if let Ok(anew) = Link::open_at(&work, link.address()).await {
                *link = anew;
            }
        }
        turn += 1;
    }
}

fn histogram() -> Histogram<u64> {
    let most = u64::try_from(LATENCY_MAX.as_nanos()).expect("a minute of nanoseconds");
    Histogram::new_with_bounds(1, most, DIGITS).expect("the bounds are in order")
}

/// A connection to one node.
enum Link {
    Http { address: SocketAddr, connection: Connection },
    Grpc { address: SocketAddr, connection: Box<grpc::Connection> },
}

impl Link {
    async fn open(work: &Work, node: usize) -> Result<Link> {
        Link::open_at(work, work.addresses[node]).await
    }

    async fn open_at(work: &Work, address: SocketAddr) -> Result<Link> {
        Ok(match work.protocol {
            Protocol::Http => Link::Http { address, connection: Connection::open(address, Some(&work.token)).await? },
            Protocol::Grpc => Link::Grpc { address, connection: Box::new(grpc::Connection::open(address, &work.token).await?) },
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Link::Http { address, .. } | Link::Grpc { address, .. } => *address,
        }
    }

    async fn write(&mut self, secrets: Secrets, number: u32, sequence: u64) -> Result<()> {
        let data = secrets.data(number, sequence);
        match self {
            Link::Http { connection, .. } => {
                let body = format!(r#"{{"data":{data}}}"#);
                ask(connection, Method::POST, number, body.into()).await?;
                Ok(())
            }
            Link::Grpc { connection, .. } => connection.put(Secrets::path(number), data.into_bytes()).await,
        }
    }

    async fn read(&mut self, secrets: Secrets, number: u32) -> Result<()> {
        let holds = match self {
            Link::Http { connection, .. } => {
                let answer = ask(connection, Method::GET, number, Bytes::new()).await?;
                secrets.holds(&answer, number)
            }
            Link::Grpc { connection, .. } => {
                let answer = connection.get(Secrets::path(number)).await?;
                secrets.holds(&answer, number)
            }
        };
        if !holds {
            bail!("the answer is not the value of secret {number}");
        }
        Ok(())
    }
}

async fn ask(connection: &mut Connection, method: Method, number: u32, body: Bytes) -> Result<Bytes> {
    let target = format!("/v1/secret/data/{}", Secrets::path(number)).parse().context("a path is a request target")?;
    let (status, answer) = connection.ask(method, target, body).await?;
    if !status.is_success() {
        // An error's body holds errors only.
        bail!("{status} {}", String::from_utf8_lossy(&answer[..answer.len().min(300)]));
    }
    Ok(answer)
}

/// Which secret comes next: at random (SplitMix64), from all for a read, from the client's own share for a write.
struct Choice {
    state: u64,
    first: u64,
    step: u64,
    count: u64,
}

impl Choice {
    fn new(work: &Work, client: usize) -> Choice {
        let secrets = u64::from(work.secrets.count);
        let (client, clients) = (client as u64, work.clients as u64);
        let (first, step) = match work.kind {
            Kind::Read => (0, 1),
            Kind::Write => (client % secrets, clients),
        };
        Choice { state: client.wrapping_mul(0xA076_1D64_78BD_642F), first, step, count: (secrets - first).div_ceil(step) }
    }

    fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        u32::try_from(self.first + mixed % self.count * self.step).expect("a secret's number is below their count")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn work(kind: Kind, clients: usize) -> Work {
        Work {
            kind,
            protocol: Protocol::Http,
            clients,
            addresses: Vec::new(),
            token: String::new(),
            secrets: Secrets { count: 100, value_bytes: 256 },
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
            processes: Vec::new(),
        }
    }

    fn chosen(work: &Work, client: usize) -> BTreeSet<u32> {
        let mut choice = Choice::new(work, client);
        (0..5000).map(|_| choice.next()).collect()
    }

    #[test]
    fn writers_share_nothing_and_together_write_all() {
        let work = work(Kind::Write, 8);
        let mut all = BTreeSet::new();
        for client in 0..8 {
            for number in chosen(&work, client) {
                assert!(all.insert(number), "{number} is written by two");
            }
        }
        assert_eq!(all, (0..100).collect());
    }

    #[test]
    fn readers_read_all() {
        assert_eq!(chosen(&work(Kind::Read, 8), 3), (0..100).collect());
    }

    #[test]
    fn a_value_has_its_size_and_tells_whose_it_is() {
        for value_bytes in [32, 256, 1000] {
            let secrets = Secrets { count: 10, value_bytes };
            let data = secrets.data(7, 99);
            let value: serde_json::Value = serde_json::from_str(&data).unwrap();
            assert_eq!(value["value"].as_str().unwrap().len(), value_bytes);
            assert!(secrets.holds(format!(r#"{{"data":{data}}}"#).as_bytes(), 7));
            assert!(!secrets.holds(br#"{"request_id":"00000007-0000-0000-0000-000000000000"}"#, 7));
            assert!(!secrets.holds(data.as_bytes(), 8) && !secrets.holds(&data.as_bytes()[..data.len() - 2], 7) && !secrets.holds(b"", 7));
            assert_ne!(data, secrets.data(7, 100), "each write is another");
        }
    }
}
