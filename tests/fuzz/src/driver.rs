//! The driver: mutates known inputs, and keeps those whose outcome is of a kind that has not been seen. No compiler's help is needed: it runs on
//! stable Rust, and reaches what differs in outcome, not every branch.
//!
//! Always: an input that breaks something is in a file before anything is said of it.

use std::any::Any;
use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::mutate::{Dice, mutate};

/// An input that takes longer is a fault too: a parser's time is linear in inputs of at most 16 KiB.
const INPUT_DURATION_MAX: Duration = Duration::from_secs(2);
/// Inputs that are kept for their outcome, at most.
const KEPT_MAX: usize = 4096;

/// What is tried: takes an input, and tells what kind of outcome it had (an error's text, without what varies). Panics when a promise is broken.
pub(crate) type Subject = dyn FnMut(&[u8]) -> String;

/// One run of a target.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) seeds: Vec<Vec<u8>>,
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// Where an input that breaks something is written.
    pub(crate) found: PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Sound { inputs: u64, outcomes: usize },
    Broke { file: PathBuf, why: String },
}

impl Run {
    /// Every seed as it is, then mutations until the time is over.
    pub(crate) fn run(&self, subject: &mut Subject) -> Result<Ended> {
        let (mut dice, mut known, mut outcomes) = (Dice(self.seed), Vec::new(), HashSet::new());
        let (begun, mut inputs) = (Instant::now(), 0);
        for seed in self.seeds.iter().cloned().chain([Vec::new()]) {
            match self.try_one(&seed, subject) {
                Ok(outcome) => outcomes.insert(outcome),
                Err(why) => return self.broke(&seed, why),
            };
            inputs += 1;
            known.push(seed);
        }
        while begun.elapsed() < self.duration {
            let input = mutate(&known[dice.roll(known.len())], &known[dice.roll(known.len())], &mut dice);
            match self.try_one(&input, subject) {
                Ok(outcome) if outcomes.insert(outcome) && known.len() < KEPT_MAX => known.push(input),
                Ok(_) => {}
                Err(why) => return self.broke(&input, why),
            }
            inputs += 1;
        }
        Ok(Ended::Sound { inputs, outcomes: outcomes.len() })
    }

    /// One input, as it is.
    pub(crate) fn only(&self, input: &[u8], subject: &mut Subject) -> Result<Ended> {
        match self.try_one(input, subject) {
            Ok(_) => Ok(Ended::Sound { inputs: 1, outcomes: 1 }),
            Err(why) => self.broke(input, why),
        }
    }

    /// The kind of outcome; or what broke.
    fn try_one(&self, input: &[u8], subject: &mut Subject) -> Result<u64, String> {
        let begun = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| subject(input))).map_err(|cause| said(&*cause))?;
        let took = begun.elapsed();
        if took > INPUT_DURATION_MAX {
            return Err(format!("took {took:?}"));
        }
        // Numbers vary with offsets and lengths: they make no other kind.
        let mut hasher = DefaultHasher::new();
        outcome.bytes().filter(|byte| !byte.is_ascii_digit()).for_each(|byte| byte.hash(&mut hasher));
        Ok(hasher.finish())
    }

    #[expect(clippy::disallowed_methods, reason = "a note for a developer, which need not survive power loss")]
    fn broke(&self, input: &[u8], why: String) -> Result<Ended> {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let file = self.found.join(format!("{}-{:016x}", self.name, hasher.finish()));
        fs::create_dir_all(&self.found).with_context(|| format!("make {}", self.found.display()))?;
        fs::write(&file, input).with_context(|| format!("write {}", file.display()))?;
        Ok(Ended::Broke { file, why })
    }
}

fn said(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned().or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("panicked: {}", text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &std::path::Path, seconds: u64) -> Run {
        let seeds = vec![b"path/of/some/thing".to_vec(), b"other".to_vec()];
        Run { name: "planted", seeds, seed: 1, duration: Duration::from_secs(seconds), found: folder.to_owned() }
    }

    #[test]
    fn a_planted_panic_is_found_and_its_input_repeats_it() {
        let folder = tempfile::tempdir().unwrap();
        // Three steps deep: each alone is unlikely, and changes the outcome.
        let mut subject = |input: &[u8]| {
            let has = |piece: &[u8]| input.windows(piece.len()).any(|window| window == piece);
            let steps = [has(b"%00"), has(b"%00") && has(b"{{"), has(b"%00") && has(b"{{") && has(b"\\ud800")];
            assert!(!steps[2], "planted");
            steps.iter().map(|step| if *step { 'y' } else { 'n' }).collect::<String>()
        };
        let Ended::Broke { file, why } = run(folder.path(), 60).run(&mut subject).unwrap() else { panic!("not found") };
        assert_eq!(why, "panicked: planted");
        let input = fs::read(&file).unwrap();
        assert!(matches!(run(folder.path(), 0).only(&input, &mut subject).unwrap(), Ended::Broke { .. }));
        assert!(matches!(run(folder.path(), 0).only(b"harmless", &mut subject).unwrap(), Ended::Sound { .. }));
    }

    #[test]
    fn an_input_that_takes_too_long_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut subject = |input: &[u8]| {
            if input == b"other" {
                std::thread::sleep(INPUT_DURATION_MAX + Duration::from_millis(100));
            }
            String::new()
        };
        assert!(matches!(run(folder.path(), 0).run(&mut subject).unwrap(), Ended::Broke { .. }));
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let inputs = |seed: u64| {
            let mut dice = Dice(seed);
            (0..100).map(|_| mutate(b"one two three", b"{\"a\":1}", &mut dice)).collect::<Vec<_>>()
        };
        assert!(inputs(1) == inputs(1) && inputs(1) != inputs(2));
    }
}
