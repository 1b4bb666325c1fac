//! Clients at work, and what they saw: one sample for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use client::{Client, SecretData};
use serde_json::{Map, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::args::Availability;

/// One request, retries included.
pub(super) struct Sample {
    pub(super) is_write: bool,
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) failure: Option<String>,
}

/// Clients at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Sample>>,
}

impl Load {
    pub(super) fn start(client: &Client, args: &Availability) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..args.clients {
            let path = format!("availability/{number}");
            tasks.spawn(work(client.clone(), path, Duration::from_millis(args.rest), Arc::clone(&stop)));
        }
        Load { stop, tasks }
    }

    /// Lets each client finish what it is at.
    pub(super) async fn stop(mut self) -> Result<Samples> {
        self.stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        while let Some(part) = self.tasks.join_next().await {
            samples.extend(part.context("a client ends by itself")?);
        }
        samples.sort_by_key(|sample| sample.began);
        Ok(Samples(samples))
    }
}

async fn work(client: Client, path: String, rest: Duration, stop: Arc<AtomicBool>) -> Vec<Sample> {
    let (kv, mut samples, mut number) = (client.kv("secret"), Vec::new(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let began = Instant::now();
        let fields = Map::from_iter([("number".to_owned(), json!(number))]);
        let wrote = kv.put(&path, SecretData::from(fields), None).await;
        samples.push(Sample { is_write: true, began, took: began.elapsed(), failure: wrote.err().map(|error| error.to_string()) });
        sleep(rest).await;
        let began = Instant::now();
        let read = kv.get(&path).await;
        samples.push(Sample { is_write: false, began, took: began.elapsed(), failure: read.err().map(|error| error.to_string()) });
        sleep(rest).await;
    }
    samples
}

/// What clients saw, in the order in which they asked.
pub(super) struct Samples(pub(super) Vec<Sample>);

/// Figures of all writes, or of all reads.
pub(super) struct Seen {
    pub(super) asked: usize,
    pub(super) failed: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Samples {
    pub(super) fn of(&self, writes: bool) -> Seen {
        let kind = || self.0.iter().filter(|sample| sample.is_write == writes);
        let mut took: Vec<Duration> = kind().map(|sample| sample.took).collect();
        took.sort();
        let percentile = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
        Seen {
            asked: took.len(),
            failed: kind().filter(|sample| sample.failure.is_some()).count(),
            p50: percentile(50),
            p99: percentile(99),
            max: percentile(100),
        }
    }

    /// The longest time since `since` in which none was answered.
    pub(super) fn longest_gap(&self, writes: bool, since: Instant) -> Duration {
        let answered = |sample: &&Sample| sample.is_write == writes && sample.failure.is_none();
        let mut answers: Vec<Instant> = self.0.iter().filter(answered).map(|sample| sample.began + sample.took).collect();
        answers.retain(|answer| *answer >= since);
        answers.sort();
        std::iter::once(since).chain(answers.iter().copied()).zip(&answers).map(|(before, after)| *after - before).max().unwrap_or_default()
    }

    pub(super) fn first_failure(&self) -> Option<&str> {
        self.0.iter().find_map(|sample| sample.failure.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_percentiles_are_those_of_what_was_answered() {
        let begin = Instant::now();
        let sample = |is_write, at_ms: u64, took_ms, failure: Option<&str>| Sample {
            is_write,
            began: begin + Duration::from_millis(at_ms),
            took: Duration::from_millis(took_ms),
            failure: failure.map(str::to_owned),
        };
        let samples = Samples(vec![
            sample(true, 0, 10, None),
            sample(false, 5, 1, None),
            sample(true, 20, 30, Some("lost")),
            sample(true, 20, 480, None),
            sample(true, 510, 10, None),
        ]);
        assert_eq!(samples.longest_gap(true, begin + Duration::from_millis(10)), Duration::from_millis(490));
        let seen = samples.of(true);
        assert_eq!((seen.asked, seen.failed, seen.max), (4, 1, Duration::from_millis(480)));
        assert_eq!(samples.first_failure(), Some("lost"));
    }
}
