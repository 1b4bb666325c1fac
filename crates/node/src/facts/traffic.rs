//! Traffic: requests to the service by kind of mount, verb and result.
//!
//! Always: what is counted are words of the code, never a name that somebody chose; at most [`SERIES_MAX`] of them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use service::{Counted, Verdict};
use types::capability::Verb;

use super::metrics::{Counter, Scrape};

/// The most combinations that are told apart; kinds of mounts times verbs times results are fewer.
const SERIES_MAX: usize = 1024;

type Key = (Box<str>, Verb, Verdict);

/// The counts since this process started.
#[derive(Default)]
pub(super) struct Traffic(RwLock<BTreeMap<Key, Counter>>);

impl Traffic {
    /// Counts one. Once each combination was there, that is a look-up and an atomic addition.
    pub(super) fn count(&self, counted: Counted<'_>) {
        let key = (Box::from(counted.mount_type), counted.verb, counted.result);
        if let Some(counter) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return counter.add(1);
        }
        let mut counters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if counters.len() < SERIES_MAX || counters.contains_key(&key) {
            counters.entry(key).or_default().add(1);
        }
    }

    /// Tells them.
    pub(super) fn measure(&self, scrape: &mut Scrape) {
        let help = "Requests that the service answered, by kind of mount, verb and result (done, denied, refused, failed).";
        for ((mount_type, verb, result), counter) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("mount_type", &**mount_type), ("operation", verb.as_str()), ("result", result.as_str())];
            scrape.counter("conclave_requests_total", help, &labels, counter.value());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_were_and_how_they_ended() {
        let traffic = Traffic::default();
        let counted = |mount_type, verb, result| Counted { mount_type, verb, result };
        traffic.count(counted("kv", Verb::Read, Verdict::Done));
        traffic.count(counted("kv", Verb::Read, Verdict::Done));
        traffic.count(counted("none", Verb::Write, Verdict::Denied));
        let mut scrape = Metrics::default().scrape();
        traffic.measure(&mut scrape);
        let text = scrape.to_prometheus();
        for line in [
            "conclave_requests_total{mount_type=\"kv\",operation=\"read\",result=\"done\"} 2",
            "conclave_requests_total{mount_type=\"none\",operation=\"update\",result=\"denied\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn the_list_does_not_grow_without_end() {
        let traffic = Traffic::default();
        for kind in 0..2 * SERIES_MAX {
            traffic.count(Counted { mount_type: &kind.to_string(), verb: Verb::Read, result: Verdict::Done });
        }
        assert_eq!(traffic.0.read().unwrap().len(), SERIES_MAX);
        traffic.count(Counted { mount_type: "0", verb: Verb::Read, result: Verdict::Done });
        assert_eq!(traffic.0.read().unwrap()[&(Box::from("0"), Verb::Read, Verdict::Done)].value(), 2, "known ones go on");
    }
}
