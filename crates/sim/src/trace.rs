//! [`Trace`]: what happened in a simulation, hashed, so that two runs of one seed can be compared.
//!
//! Every message on the wire goes into the hash with all its bytes, every event with its text; each with its moment.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use crypto::digest::{Sha256, sha256};
use tokio::time::Instant;
use types::NodeId;

/// A trace. Clones write into the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    started: Instant,
    digest: Sha256,
    events: u64,
    shown: Shown,
}

/// How much of a trace is shown on standard error as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// What is done to the cluster, and what it comes to.
    Events,
    /// Every message too: from, to, call, length and the beginning of its SHA-256.
    Messages,
}

impl Trace {
    /// An empty trace that begins now.
    pub fn new(shown: Shown) -> Trace {
        Trace(Arc::new(Mutex::new(Inner { started: Instant::now(), digest: Sha256::new(), events: 0, shown })))
    }

    /// Notes an event.
    pub fn event(&self, what: &str) {
        let mut inner = self.lock();
        inner.show(Shown::Events, format_args!("{what}"));
        inner.note(what.as_bytes());
    }

    /// Notes what went over the wire.
    pub fn message(&self, from: &NodeId, to: &NodeId, call: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        let digest = sha256(bytes);
        inner.show(Shown::Messages, format_args!("{from} > {to} {call} {} {}", bytes.len(), hex::encode(&digest[..4])));
        inner.note(format!("{from} {to} {call}").as_bytes());
        inner.note(&digest);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> [u8; 32] {
        self.lock().digest.clone().finish()
    }

    /// How many events and messages there were.
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nothing panics while it holds the trace")
    }
}

impl Inner {
    fn show(&self, level: Shown, what: fmt::Arguments<'_>) {
        if level <= self.shown {
            eprintln!("{:>12.6}s {what}", self.started.elapsed().as_secs_f64());
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.digest.update(&elapsed.to_le_bytes());
        self.digest.update(&(bytes.len() as u64).to_le_bytes());
        self.digest.update(bytes);
        self.events += 1;
    }
}
