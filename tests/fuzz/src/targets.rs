//! The targets: what eats foreign bytes, where each begins, and what must hold for every input.

mod config;
mod http;
mod journal;
mod json;
mod path;
mod policy;
mod recipient;
mod request;
mod share;
mod snapshot;
mod token;

use crate::driver::Subject;

/// One target.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Where mutations begin.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    pub(crate) subject: fn() -> Box<Subject>,
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "path", seeds: path::seeds, subject: path::subject },
    Target { name: "policy", seeds: policy::seeds, subject: policy::subject },
    Target { name: "http", seeds: http::seeds, subject: http::subject },
    Target { name: "json", seeds: json::seeds, subject: json::subject },
    Target { name: "token", seeds: token::seeds, subject: token::subject },
    Target { name: "recipient", seeds: recipient::seeds, subject: recipient::subject },
    Target { name: "journal", seeds: journal::seeds, subject: journal::subject },
    Target { name: "share", seeds: share::seeds, subject: share::subject },
    Target { name: "snapshot", seeds: snapshot::seeds, subject: snapshot::subject },
    Target { name: "config", seeds: config::seeds, subject: config::subject },
];

/// The cases of a corpus of lines.
fn lines(corpus: &'static str) -> impl Iterator<Item = &'static str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// The cases of a corpus that are divided by lines of dashes.
fn documents(corpus: &'static str) -> Vec<Vec<u8>> {
    corpus.split("\n----\n").map(|document| document.as_bytes().to_vec()).collect()
}

/// A text of what is no UTF-8 too, as a file or a body could be: what is none is left to its reader, which refuses it.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::{Ended, Run};

    /// Every seed, and some thousand mutations: what breaks here would break the first user too.
    #[test]
    fn the_corpora_break_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(seeds.len() > 5, "{}", target.name);
            let run = Run { name: target.name, seeds, seed: 1, duration: Duration::from_secs(1), found: folder.path().to_owned() };
            let ended = run.run(&mut *(target.subject)()).unwrap();
            assert!(matches!(ended, Ended::Sound { outcomes, .. } if outcomes >= 3), "{}: {ended:?}", target.name);
        }
    }
}
