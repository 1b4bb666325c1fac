//! [`Register`]: one secret of KV version 2, as its callers see it: a value and its version, written at will or by
//! compare-and-set.

use super::Model;

/// The model.
#[derive(Debug, Clone, Copy)]
pub enum Register {}

/// The newest version: its number, counted from 1, and its value. `None` before the first write.
pub type Newest = Option<(u64, u64)>;

/// What is asked of a register. Values are numbers; which number stands for which secret is the workload's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answers the newest version.
    Read,
    /// Makes a new version.
    Write(u64),
    /// Makes a new version if the newest has the number `expected` (0: if there is none).
    CompareAndSet {
        /// The number.
        expected: u64,
        /// The new value.
        value: u64,
    },
}

/// What a register answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To a read.
    Found(Newest),
    /// To a write: the number of the version it made.
    Written(u64),
    /// To a compare-and-set: the newest version has another number.
    Mismatch,
}

impl Model for Register {
    type State = Newest;
    type Action = Action;
    type Answer = Answer;

    fn initial() -> Newest {
        None
    }

    fn apply(newest: &Newest, action: &Action) -> (Newest, Answer) {
        let number = newest.map_or(0, |(number, _)| number);
        match *action {
            Action::Read => (*newest, Answer::Found(*newest)),
            Action::CompareAndSet { expected, .. } if expected != number => (*newest, Answer::Mismatch),
            Action::Write(value) | Action::CompareAndSet { value, .. } => (Some((number + 1, value)), Answer::Written(number + 1)),
        }
    }
}
