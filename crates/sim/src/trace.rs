//! [`Trace`]: what happened in a simulation, hashed, so that two runs of one seed can be compared.
//!
//! Every message on the wire goes into the hash with all its bytes, every event with its text; each with its moment.

use std::sync::{Arc, Mutex, MutexGuard};

use crypto::digest::Sha256;
use tokio::time::Instant;

/// A trace. Clones write into the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    started: Instant,
    digest: Sha256,
    events: u64,
    printed: bool,
}

impl Trace {
    /// An empty trace that begins now; `printed`: events (not messages) are shown on standard error.
    pub fn new(printed: bool) -> Trace {
        Trace(Arc::new(Mutex::new(Inner { started: Instant::now(), digest: Sha256::new(), events: 0, printed })))
    }

    /// Notes an event.
    pub fn event(&self, what: &str) {
        let mut inner = self.lock();
        if inner.printed {
            eprintln!("{:>10.3}s {what}", inner.started.elapsed().as_secs_f64());
        }
        inner.note(what.as_bytes());
    }

    /// Notes bytes that went over the wire.
    pub fn message(&self, bytes: &[u8]) {
        self.lock().note(bytes);
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
    fn note(&mut self, bytes: &[u8]) {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.digest.update(&elapsed.to_le_bytes());
        self.digest.update(&(bytes.len() as u64).to_le_bytes());
        self.digest.update(bytes);
        self.events += 1;
    }
}
