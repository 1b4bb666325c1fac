//! Writers and readers that go on while nodes die, and remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Error};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{Cluster, fields};

/// Versions that are written to one path before the next path is begun; the engine keeps 10 by default.
const VERSIONS_PER_PATH: u64 = 3;
/// After a failure; so that a dead node costs no cpu.
const PAUSE: Duration = Duration::from_millis(10);
/// Reads at once when everything is checked.
const CHECKS_AT_ONCE: usize = 16;

/// One acknowledged write.
#[derive(Debug, Clone)]
pub struct Write {
    /// Below `secret/`.
    pub path: String,
    /// As the answer said.
    pub version: u64,
    /// What was written.
    pub number: u64,
    /// The node that acknowledged it.
    pub at: usize,
    /// When the answer came.
    pub time: Instant,
}

/// What a load has seen.
pub struct Report {
    /// Every acknowledged write.
    pub writes: Vec<Write>,
    /// Every answered read: by which node, and when.
    pub reads: Vec<(usize, Instant)>,
    /// Writes and reads that had no answer, or "no" for one.
    pub failures: Vec<(usize, Instant, String)>,
    /// Reads that contradict an acknowledged write. Must be empty.
    pub wrong: Vec<String>,
}

/// Writers and readers at work, one client pinned to each node.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Report>,
}

impl Load {
    /// `writers` of them at each node, and a reader that reads what the writer beside it has just written.
    pub fn start(cluster: &Cluster, writers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for at in 0..cluster.nodes.len() {
            for writer in 0..writers {
                tasks.spawn(write(cluster.client_at(at), at, format!("load/n{at}w{writer}"), Arc::clone(&stop)));
            }
        }
        Load { stop, tasks }
    }

    /// Lets each task finish what it is at.
    pub async fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::new();
        while let Some(part) = self.tasks.join_next().await {
            let part = part.expect("a load task ends by itself");
            report.writes.extend(part.writes);
            report.reads.extend(part.reads);
            report.failures.extend(part.failures);
            report.wrong.extend(part.wrong);
        }
        report
    }
}

/// Writes, then reads at the same node what was just written: it must be there.
async fn write(client: Client, at: usize, folder: String, stop: Arc<AtomicBool>) -> Report {
    let kv = client.kv("secret");
    let mut report = Report::new();
    let (mut number, mut path_number, mut expected) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let path = format!("{folder}/{path_number}");
        match kv.put(&path, fields(json!({ "number": number })), Some(expected)).await {
            Ok(version) => {
                expected = version.number;
                report.writes.push(Write { path: path.clone(), version: version.number, number, at, time: Instant::now() });
                match kv.get(&path).await {
                    Ok(secret) => {
                        report.reads.push((at, Instant::now()));
                        let read = secret.data.as_ref().and_then(|data| data.expose().get("number").cloned());
                        if secret.version.number != version.number || read != Some(json!(number)) {
                            report
                                .wrong
                                .push(format!("{path}: wrote {number} as version {expected}, then read {read:?} as {:?}", secret.version));
                        }
                    }
                    Err(error) if error.is_not_found() => report.wrong.push(format!("{path}: acknowledged, then {error}")),
                    Err(error) => report.failures.push((at, Instant::now(), error.to_string())),
                }
                if expected == VERSIONS_PER_PATH {
                    (path_number, expected) = (path_number + 1, 0);
                }
            }
            Err(error) => {
                // What is unknown is left behind: the next path has no past.
                if matches!(error, Error::Indeterminate { .. }) || expected > 0 {
                    (path_number, expected) = (path_number + 1, 0);
                }
                report.failures.push((at, Instant::now(), error.to_string()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    report
}

impl Report {
    fn new() -> Report {
        Report { writes: Vec::new(), reads: Vec::new(), failures: Vec::new(), wrong: Vec::new() }
    }

    /// The longest time without an acknowledged write, and without an answered read, at other nodes than `dead`, among all
    /// that came after `since`.
    pub fn gaps(&self, dead: usize, since: Instant) -> (Duration, Duration) {
        let writes = self.writes.iter().filter(|write| write.at != dead).map(|write| write.time);
        let reads = self.reads.iter().filter(|(at, _)| *at != dead).map(|(_, time)| *time);
        (longest_gap(writes, since), longest_gap(reads, since))
    }

    /// Reads every acknowledged write again, through `client`. Panics with those that are lost or changed.
    pub async fn assert_all_kept(&self, client: &Client) {
        assert!(self.wrong.is_empty(), "{} wrong reads under load, the first: {}", self.wrong.len(), self.wrong[0]);
        let mut lost = Vec::new();
        let mut tasks = JoinSet::new();
        for write in self.writes.clone() {
            if tasks.len() == CHECKS_AT_ONCE {
                lost.extend(tasks.join_next().await.expect("there are tasks").expect("a check ends by itself"));
            }
            tasks.spawn(check(client.clone(), write));
        }
        while let Some(found) = tasks.join_next().await {
            lost.extend(found.expect("a check ends by itself"));
        }
        assert!(lost.is_empty(), "{} of {} acknowledged writes are lost, the first: {}", lost.len(), self.writes.len(), lost[0]);
    }

    /// Failures by their text, for messages.
    pub fn failures_by_text(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for (_, _, text) in &self.failures {
            *counts.entry(text.as_str()).or_default() += 1;
        }
        counts
    }
}

async fn check(client: Client, write: Write) -> Option<String> {
    match client.kv("secret").get_version(&write.path, write.version).await {
        Ok(secret) => {
            let read = secret.data.as_ref().and_then(|data| data.expose().get("number").cloned());
            (read != Some(json!(write.number))).then(|| format!("{write:?}: read {read:?}"))
        }
        Err(error) => Some(format!("{write:?}: {error}")),
    }
}

fn longest_gap(times: impl Iterator<Item = Instant>, since: Instant) -> Duration {
    let mut times: Vec<Instant> = times.filter(|time| *time >= since).collect();
    times.sort();
    assert!(!times.is_empty(), "nothing was answered any more");
    std::iter::once(since).chain(times.iter().copied()).zip(&times).map(|(before, after)| *after - before).max().unwrap_or_default()
}
