//! Clients that know every node and retry as the SDK does: what they see of a failure is what its users see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{Cluster, fields};

/// Between two requests of one client: the machine is to be busy, not overloaded.
const PAUSE: Duration = Duration::from_millis(5);

/// One request, retries included.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Whether it wrote.
    pub is_write: bool,
    /// When it was sent.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Clients at work.
pub struct Steady {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Sample>>,
}

impl Steady {
    /// `clients` that write a secret each and read it back, over and over, at whichever node answers.
    pub fn start(cluster: &Cluster, clients: usize) -> Steady {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            tasks.spawn(work(cluster.client(), format!("steady/{number}"), Arc::clone(&stop)));
        }
        Steady { stop, tasks }
    }

    /// Lets each client finish what it is at; everything they did, in the order in which it began.
    pub async fn stop(mut self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        while let Some(part) = self.tasks.join_next().await {
            samples.extend(part.expect("a client ends by itself"));
        }
        samples.sort_by_key(|sample| sample.began);
        Samples(samples)
    }
}

async fn work(client: Client, path: String, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let kv = client.kv("secret");
    let (mut samples, mut number, mut acknowledged) = (Vec::new(), 0_u64, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let began = Instant::now();
        let wrote = kv.put(&path, fields(json!({ "number": number })), None).await;
        samples.push(Sample { is_write: true, began, took: began.elapsed(), failure: wrote.as_ref().err().map(ToString::to_string) });
        if wrote.is_ok() {
            acknowledged = number;
        }
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let read = kv.get(&path).await;
        let failure = match &read {
            Ok(secret) => {
                let found = secret.data.as_ref().and_then(|data| data.expose().get("number").and_then(serde_json::Value::as_u64));
                (found < Some(acknowledged)).then(|| format!("STALE: {acknowledged} was acknowledged, {found:?} was read"))
            }
            Err(error) if error.is_not_found() && acknowledged == 0 => None,
            Err(error) => Some(error.to_string()),
        };
        samples.push(Sample { is_write: false, began, took: began.elapsed(), failure });
        tokio::time::sleep(PAUSE).await;
    }
    samples
}

/// What steady clients saw.
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// The failed ones.
    pub fn failures(&self) -> Vec<&Sample> {
        self.0.iter().filter(|sample| sample.failure.is_some()).collect()
    }

    /// How long the `percent`-th of a hundred writes, or reads, took.
    pub fn percentile(&self, writes: bool, percent: usize) -> Duration {
        let mut took: Vec<Duration> = self.0.iter().filter(|sample| sample.is_write == writes).map(|sample| sample.took).collect();
        took.sort();
        assert!(!took.is_empty(), "nothing was asked");
        took[(took.len() - 1) * percent / 100]
    }

    /// The longest time since `since` in which no write, or no read, was answered.
    pub fn longest_gap(&self, writes: bool, since: Instant) -> Duration {
        let answered = |sample: &&Sample| sample.is_write == writes && sample.failure.is_none();
        let mut answers: Vec<Instant> = self.0.iter().filter(answered).map(|sample| sample.began + sample.took).collect();
        answers.retain(|answer| *answer >= since);
        answers.sort();
        assert!(!answers.is_empty(), "nothing was answered any more");
        std::iter::once(since).chain(answers.iter().copied()).zip(&answers).map(|(before, after)| *after - before).max().unwrap_or_default()
    }
}
