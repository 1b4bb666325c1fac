//! Linearizability: can every operation of a history have taken effect at one moment between its call and its return?
//! (Herlihy, Wing, "Linearizability: a correctness condition for concurrent objects", TOPLAS 12(3), 1990.)
//!
//! Always: a history is accepted exactly if such moments exist; the answer does not depend on the order in which the search
//! tries them; a search that grows beyond [`STATES_MAX`] says so instead of guessing.
//! Knows nothing of clusters: a [`Model`] says what the object does, a list of [`Operation`]s what was seen of it.
//!
//! The search is Wing and Gong's (JPDC 17, 1993) with Lowe's memory (Concurrency and Computation 29(4), 2017): walk the calls
//! in the order in which they were made; let the next one take effect if the model then gives the answer that was seen;
//! step back when a return is met whose call has not taken effect. A pair of (which took effect, state) that was reached
//! before is not explored again. An object made of independent parts is linearizable exactly if each part is, so
//! [`check_by_key`] checks each key alone, which keeps the search small.

mod list;
pub mod register;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use list::{Event, EventList};

/// Pairs of (which took effect, state) that one search may visit. A history of the simulation needs a few thousand.
pub const STATES_MAX: usize = 5_000_000;

/// What an object does, one operation after the other.
pub trait Model {
    /// What the object remembers.
    type State: Clone + Eq + Hash + Debug;
    /// What is asked of it.
    type Action: Clone + Debug;
    /// What it answers.
    type Answer: Clone + Eq + Debug;

    /// Before the first operation.
    fn initial() -> Self::State;

    /// The state after `action`, and its answer. Must depend on nothing else.
    fn apply(state: &Self::State, action: &Self::Action) -> (Self::State, Self::Answer);
}

/// One operation, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<A, R> {
    /// Who called; for people.
    pub client: usize,
    /// What was asked.
    pub action: A,
    /// When. Moments are numbered across the whole history, no two alike.
    pub called: u64,
    /// When the answer came, and what it was. `None`: nobody knows whether it took effect; it may yet, at any time.
    ///
    /// What certainly did *not* take effect does not belong into a history.
    pub returned: Option<(u64, R)>,
}

/// An operation of the object that `M` describes.
pub type OperationOf<M> = Operation<<M as Model>::Action, <M as Model>::Answer>;

/// Why a history was not accepted.
#[derive(Clone, thiserror::Error)]
pub enum Violation<M: Model> {
    /// No order of the operations explains all answers.
    #[error("not linearizable")]
    NotLinearizable(Counterexample<M>),
    /// More than [`STATES_MAX`] ways were tried. The history must be made shorter, or have fewer unknown outcomes.
    #[error("undecided after {STATES_MAX} states")]
    Undecided,
}

/// How far the best attempt came.
#[derive(Clone)]
pub struct Counterexample<M: Model> {
    /// The most operations that can be put in an order, in that order.
    pub explained: Vec<OperationOf<M>>,
    /// The state after them.
    pub state: M::State,
    /// The operation that had returned by then, and whose answer fits nowhere.
    pub unexplained: OperationOf<M>,
}

impl<M: Model> Debug for Violation<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Undecided => write!(f, "{self}"),
            Violation::NotLinearizable(Counterexample { explained, state, unexplained }) => {
                writeln!(f, "not linearizable. The longest order that explains the answers:")?;
                for operation in explained {
                    writeln!(f, "  {}", shown(operation))?;
                }
                write!(f, "leaves {state:?}, which does not explain\n  {}", shown(unexplained))
            }
        }
    }
}

/// One line for people.
fn shown<A: Debug, R: Debug>(operation: &Operation<A, R>) -> String {
    let Operation { client, action, called, returned } = operation;
    match returned {
        Some((returned, answer)) => format!("[{called:>6}, {returned:>6}] client {client}: {action:?} -> {answer:?}"),
        None => format!("[{called:>6},    ...] client {client}: {action:?} -> unknown"),
    }
}

/// Checks a history of one object, in any order.
///
/// # Panics
/// When an operation returns before it is called.
pub fn check<M: Model>(history: &[OperationOf<M>]) -> Result<(), Violation<M>> {
    Search::<M>::new(history).run()
}

/// Checks a history of independent objects: the first key whose history is not linearizable, with the reason.
///
/// # Panics
/// When an operation returns before it is called.
pub fn check_by_key<M: Model, K: Ord + Clone>(history: impl IntoIterator<Item = (K, OperationOf<M>)>) -> Result<(), (K, Violation<M>)> {
    let mut keys: BTreeMap<K, Vec<OperationOf<M>>> = BTreeMap::new();
    for (key, operation) in history {
        keys.entry(key).or_default().push(operation);
    }
    keys.into_iter().try_for_each(|(key, history)| check::<M>(&history).map_err(|violation| (key, violation)))
}

/// Which operations have taken effect: one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Box<[u64]>);

impl Done {
    fn none_of(count: usize) -> Done {
        Done(vec![0; count.div_ceil(64)].into())
    }

    fn flip(&mut self, operation: usize) {
        self.0[operation / 64] ^= 1 << (operation % 64);
    }
}

struct Search<'a, M: Model> {
    history: &'a [OperationOf<M>],
    /// The calls and returns of the operations that have not taken effect, in order of time.
    pending: EventList,
    state: M::State,
    done: Done,
    /// What took effect so far, in this order, and the state before each.
    order: Vec<(usize, M::State)>,
    visited: HashSet<(Done, M::State)>,
    best: Option<Counterexample<M>>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(history: &'a [OperationOf<M>]) -> Self {
        let times = history.iter().map(|operation| (operation.called, operation.returned.as_ref().map(|(moment, _)| *moment)));
        Search {
            history,
            pending: EventList::new(times),
            state: M::initial(),
            done: Done::none_of(history.len()),
            order: Vec::new(),
            visited: HashSet::new(),
            best: None,
        }
    }

    fn run(mut self) -> Result<(), Violation<M>> {
        let mut cursor = self.pending.first();
        // Calls that nobody saw return are bound to nothing: once no return is left, every answer is explained.
        while self.pending.returns() > 0 {
            match self.pending.at(cursor) {
                Event::Call(operation) => {
                    cursor = if self.take_effect(operation) { self.pending.first() } else { self.pending.after(cursor) };
                    if self.visited.len() > STATES_MAX {
                        return Err(Violation::Undecided);
                    }
                }
                Event::Return(operation) => {
                    self.remember(operation);
                    match self.step_back() {
                        Some(undone) => cursor = self.pending.after(self.pending.call_of(undone)),
                        None => return Err(Violation::NotLinearizable(self.best.expect("just remembered"))),
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets `operation` take effect now, if its answer fits and this was not tried before.
    fn take_effect(&mut self, operation: usize) -> bool {
        let (state, answer) = M::apply(&self.state, &self.history[operation].action);
        let fits = match &self.history[operation].returned {
            Some((_, seen)) => *seen == answer,
            // Nobody saw it. If it changes nothing here, leaving it out explains as much.
            None => state != self.state,
        };
        if !fits {
            return false;
        }
        self.done.flip(operation);
        if !self.visited.insert((self.done.clone(), state.clone())) {
            self.done.flip(operation);
            return false;
        }
        self.pending.remove(operation);
        self.order.push((operation, std::mem::replace(&mut self.state, state)));
        true
    }

    /// Undoes the last operation and tells which it was.
    fn step_back(&mut self) -> Option<usize> {
        let (operation, before) = self.order.pop()?;
        self.state = before;
        self.done.flip(operation);
        self.pending.restore(operation);
        Some(operation)
    }

    fn remember(&mut self, unexplained: usize) {
        if self.best.as_ref().is_none_or(|best| best.explained.len() < self.order.len()) {
            self.best = Some(Counterexample {
                explained: self.order.iter().map(|(operation, _)| self.history[*operation].clone()).collect(),
                state: self.state.clone(),
                unexplained: self.history[unexplained].clone(),
            });
        }
    }
}
