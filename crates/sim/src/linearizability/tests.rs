//! What proves the checker: bad histories made by hand, good ones spoiled, and agreement with brute force.

use super::register::{Action, Answer, Register};
use super::{Model, Operation, OperationOf, Violation, check, check_by_key};
use crate::dice::Dice;
use Action::{CompareAndSet, Read, Write};
use Answer::{Found, Mismatch, Written};

type Seen = OperationOf<Register>;

/// An operation that returned.
fn saw(called: u64, returned: u64, action: Action, answer: Answer) -> Seen {
    Operation { client: 0, action, called, returned: Some((returned, answer)) }
}

/// An operation whose outcome nobody knows.
fn lost(called: u64, action: Action) -> Seen {
    Operation { client: 0, action, called, returned: None }
}

fn cas(expected: u64, value: u64) -> Action {
    CompareAndSet { expected, value }
}

fn is_linearizable(history: &[Seen]) -> bool {
    match check::<Register>(history) {
        Ok(()) => true,
        Err(Violation::NotLinearizable(_)) => false,
        Err(Violation::Undecided) => panic!("undecided"),
    }
}

#[test]
fn good_histories_are_accepted() {
    let histories: &[(&str, &[Seen])] = &[
        ("nothing happened", &[]),
        ("a read of nothing", &[saw(1, 2, Read, Found(None))]),
        ("a write, then a read", &[saw(1, 2, Write(7), Written(1)), saw(3, 4, Read, Found(Some((1, 7))))]),
        ("a read beside a write sees it", &[saw(1, 4, Write(7), Written(1)), saw(2, 3, Read, Found(Some((1, 7))))]),
        ("a read beside a write does not see it", &[saw(1, 4, Write(7), Written(1)), saw(2, 3, Read, Found(None))]),
        (
            "two writes at once, in either order",
            &[saw(1, 4, Write(7), Written(2)), saw(2, 3, Write(8), Written(1)), saw(5, 6, Read, Found(Some((2, 7))))],
        ),
        ("a lost write took effect", &[lost(1, Write(7)), saw(2, 3, Read, Found(Some((1, 7))))]),
        ("a lost write did not take effect", &[lost(1, Write(7)), saw(2, 3, Read, Found(None))]),
        ("a lost write took effect late", &[lost(1, Write(7)), saw(2, 3, Read, Found(None)), saw(4, 5, Read, Found(Some((1, 7))))]),
        ("compare-and-set", &[saw(1, 2, cas(0, 7), Written(1)), saw(3, 4, cas(0, 8), Mismatch), saw(5, 6, cas(1, 9), Written(2))]),
        (
            "of two compare-and-sets at once one wins",
            &[saw(1, 4, cas(0, 7), Written(1)), saw(2, 3, cas(0, 8), Mismatch), saw(5, 6, Read, Found(Some((1, 7))))],
        ),
        ("a lost compare-and-set that could not", &[saw(1, 2, Write(7), Written(1)), lost(3, cas(0, 8)), saw(4, 5, Write(9), Written(2))]),
    ];
    for (name, history) in histories {
        assert!(is_linearizable(history), "{name}: {:?}", check::<Register>(history));
    }
}

#[test]
fn bad_histories_are_refused() {
    let write_7 = saw(1, 2, Write(7), Written(1));
    let write_8 = saw(3, 4, Write(8), Written(2));
    let histories: &[(&str, &[Seen])] = &[
        ("a value from nowhere", &[saw(1, 2, Read, Found(Some((1, 7))))]),
        ("a lost write", &[write_7.clone(), saw(3, 4, Read, Found(None))]),
        ("a stale read", &[write_7.clone(), write_8.clone(), saw(5, 6, Read, Found(Some((1, 7))))]),
        ("a lost write, overwritten", &[write_7.clone(), saw(3, 4, Write(8), Written(1))]),
        ("a version left out", &[write_7.clone(), saw(3, 4, Write(8), Written(3))]),
        ("a version reused", &[write_7.clone(), write_8.clone(), saw(5, 6, Write(9), Written(2))]),
        ("another's value", &[write_7.clone(), saw(3, 4, Read, Found(Some((1, 8))))]),
        ("the right value under a wrong version", &[write_7.clone(), saw(3, 4, Read, Found(Some((2, 7))))]),
        (
            "reads in the wrong order",
            &[saw(1, 10, Write(7), Written(1)), saw(2, 3, Read, Found(Some((1, 7)))), saw(4, 5, Read, Found(None))],
        ),
        (
            "reads of two clients in the wrong order",
            &[
                write_7.clone(),
                saw(3, 20, Write(8), Written(2)),
                saw(4, 7, Read, Found(Some((2, 8)))),
                saw(8, 10, Read, Found(Some((1, 7)))),
            ],
        ),
        ("a read of the future", &[saw(1, 2, Read, Found(Some((1, 7)))), saw(3, 4, Write(7), Written(1))]),
        ("a write in doubt is seen, then gone", &[lost(1, Write(7)), saw(2, 3, Read, Found(Some((1, 7)))), saw(4, 5, Read, Found(None))]),
        (
            "a write in doubt is seen twice",
            &[
                lost(1, Write(7)),
                saw(2, 3, Read, Found(Some((1, 7)))),
                saw(4, 5, Write(8), Written(2)),
                saw(6, 7, Read, Found(Some((3, 7)))),
            ],
        ),
        ("a write in doubt is seen before it was called", &[saw(1, 2, Read, Found(Some((1, 7)))), lost(3, Write(7))]),
        ("both of two compare-and-sets win", &[saw(1, 4, cas(0, 7), Written(1)), saw(2, 3, cas(0, 8), Written(1))]),
        ("a compare-and-set wins against its condition", &[write_7.clone(), saw(3, 4, cas(0, 8), Written(2))]),
        ("a compare-and-set loses although its condition holds", &[write_7.clone(), saw(3, 4, cas(1, 8), Mismatch)]),
        ("a compare-and-set of nothing loses before anything was written", &[saw(1, 2, cas(0, 7), Mismatch)]),
        ("a refused compare-and-set took effect", &[write_7.clone(), saw(3, 4, cas(0, 8), Mismatch), saw(5, 6, Read, Found(Some((2, 8))))]),
        (
            "a split brain: both sides count",
            &[write_7.clone(), saw(3, 10, Write(8), Written(2)), saw(4, 9, Write(9), Written(2)), saw(11, 12, Read, Found(Some((2, 8))))],
        ),
        (
            "history restored from an old backup",
            &[write_7.clone(), write_8.clone(), saw(5, 6, Write(9), Written(3)), saw(7, 8, Write(10), Written(2))],
        ),
        (
            "two reads at once cannot both be right",
            &[write_7, write_8, saw(5, 8, Read, Found(Some((2, 8)))), saw(6, 7, Read, Found(Some((1, 7))))],
        ),
    ];
    for (name, history) in histories {
        assert!(!is_linearizable(history), "{name}");
        assert!(!brute_force(history), "{name}: brute force disagrees");
    }
}

#[test]
fn keys_are_independent() {
    let history = [
        ("a", saw(1, 2, Write(7), Written(1))),
        ("b", saw(3, 4, Read, Found(None))),
        ("b", saw(5, 6, Write(8), Written(1))),
        ("a", saw(7, 8, Read, Found(Some((1, 7))))),
    ];
    check_by_key::<Register, _>(history.clone()).unwrap();
    let spoiled = history.into_iter().chain([("b", saw(9, 10, Read, Found(Some((1, 7)))))]);
    let (key, violation) = check_by_key::<Register, _>(spoiled).unwrap_err();
    assert_eq!(key, "b");
    let Violation::NotLinearizable(counterexample) = &violation else { panic!("{violation:?}") };
    assert_eq!(counterexample.explained.len(), 2);
    assert_eq!(counterexample.unexplained.called, 9);
    assert!(format!("{violation:?}").contains("does not explain"), "{violation:?}");
}

/// The definition itself: some order that respects time explains every answer. For short histories.
fn brute_force(history: &[Seen]) -> bool {
    fn explains(history: &[Seen], done: u32, state: <Register as Model>::State) -> bool {
        let is_open = |at: usize| done & (1 << at) == 0;
        let open = || (0..history.len()).filter(|at| is_open(*at));
        if open().all(|at| history[at].returned.is_none()) {
            return true;
        }
        open().any(|at| {
            // Whatever returned before this one was called must have come before it.
            let too_early = open()
                .any(|other| other != at && history[other].returned.as_ref().is_some_and(|(returned, _)| *returned < history[at].called));
            let (next, answer) = Register::apply(&state, &history[at].action);
            let fits = history[at].returned.as_ref().is_none_or(|(_, seen)| *seen == answer);
            !too_early && fits && explains(history, done | 1 << at, next)
        })
    }
    explains(history, 0, None)
}

/// Operations at random times with answers that are random too, but not absurd.
fn random_history(dice: &mut Dice, operations: u64) -> Vec<Seen> {
    let mut moments: Vec<u64> = (0..operations * 2).collect();
    dice.shuffle(&mut moments);
    let operation = |times: &[u64]| {
        let (called, returned) = (times[0].min(times[1]), times[0].max(times[1]));
        let version = dice.within(0..4);
        let value = dice.within(1..3);
        let (action, answer) = match dice.within(0..3) {
            0 => (Read, Found((version > 0).then_some((version, value)))),
            1 => (Write(value), Written(version + 1)),
            _ if dice.chance(30) => (cas(version, value), Mismatch),
            _ => (cas(version, value), Written(version + 1)),
        };
        if dice.chance(15) && action != Read { lost(called, action) } else { saw(called, returned, action, answer) }
    };
    moments.chunks(2).map(operation).collect()
}

/// A history that is linearizable by construction: each operation takes effect at a moment of its own.
fn good_history(dice: &mut Dice, operations: u64) -> Vec<Seen> {
    let mut state = Register::initial();
    let mut history = Vec::new();
    for at in 0..operations {
        // It takes effect at 100 (at + 1), and reaches up to a few others to either side.
        let moment = 100 * (at + 1);
        let called = moment - dice.within(1..400).min(moment - 1);
        let returned = moment + dice.within(1..400);
        let version = state.map_or(0, |(version, _)| version);
        let action = match dice.within(0..4) {
            0 | 1 => Read,
            2 => Write(1000 + at),
            _ => cas(version.saturating_sub(dice.within(0..2)), 1000 + at),
        };
        let (next, answer) = Register::apply(&state, &action);
        if action != Read && dice.chance(10) {
            // Its outcome is lost, whether it took effect or not.
            if dice.chance(50) {
                state = next;
            }
            history.push(lost(called, action));
        } else {
            state = next;
            history.push(saw(called, returned, action, answer));
        }
    }
    history
}

#[test]
fn it_agrees_with_brute_force_on_random_histories() {
    const HISTORIES: u64 = 20_000;
    let mut dice = Dice::new(1);
    let mut accepted = 0;
    for number in 0..HISTORIES {
        let operations = dice.within(2..9);
        // One half is nearly good: good, with one answer changed or none.
        let history = if number % 2 == 0 {
            random_history(&mut dice, operations)
        } else {
            let mut history = good_history(&mut dice, operations);
            if dice.chance(70) {
                spoil(&mut dice, &mut history);
            }
            history
        };
        let want = brute_force(&history);
        assert_eq!(is_linearizable(&history), want, "{history:#?}");
        accepted += u64::from(want);
    }
    assert!((HISTORIES / 10..HISTORIES * 9 / 10).contains(&accepted), "{accepted} of {HISTORIES}: too one-sided to prove much");
}

/// Changes one answer, and tells whether there was one to change.
fn spoil(dice: &mut Dice, history: &mut [Seen]) -> bool {
    let answered: Vec<usize> = (0..history.len()).filter(|at| history[*at].returned.is_some()).collect();
    if answered.is_empty() {
        return false;
    }
    let at = *dice.pick(&answered);
    let Some((_, answer)) = &mut history[at].returned else { unreachable!("chosen for its answer") };
    *answer = match *answer {
        Found(None) => Found(Some((1, 1))),
        Found(Some((version, value))) if dice.chance(50) => Found(Some((version + 1, value))),
        Found(Some((version, value))) if version > 1 => Found(Some((version - 1, value))),
        Found(Some((version, value))) => Found(Some((version, value + 1))),
        Written(version) => Written(version + 1),
        Mismatch => Written(1),
    };
    true
}

#[test]
fn good_histories_pass_and_spoiled_ones_do_not() {
    const HISTORIES: usize = 1_000;
    let mut dice = Dice::new(2);
    let (mut spoiled, mut caught) = (0, 0);
    for _ in 0..HISTORIES {
        let mut history = good_history(&mut dice, 60);
        assert!(is_linearizable(&history), "{:?}", check::<Register>(&history));
        // The order of the list must not matter.
        dice.shuffle(&mut history);
        assert!(is_linearizable(&history));
        if spoil(&mut dice, &mut history) {
            spoiled += 1;
            caught += usize::from(!is_linearizable(&history));
        }
    }
    // Another answer may be right too where operations overlap: that is the rare exception.
    assert!(spoiled > HISTORIES * 9 / 10 && caught * 100 >= spoiled * 99, "caught {caught} of {spoiled}");
}

#[test]
fn memory_keeps_many_unknown_outcomes_affordable() {
    // Without memory, these would be 2^24 ways.
    let mut history: Vec<Seen> = (0..24).map(|at| lost(at, cas(at % 4, at))).collect();
    history.push(saw(100, 101, Read, Found(Some((4, 1000)))));
    assert!(!is_linearizable(&history));
}

#[test]
#[should_panic(expected = "before it is called")]
fn an_operation_that_returns_before_it_is_called_is_the_harness_mistake() {
    let _ = check::<Register>(&[saw(2, 1, Read, Found(None))]);
}
