//! The promises of [`Table`], each as a function that panics when an implementation breaks it.
//!
//! Each takes a maker of empty tables. Every engine's own tests call [`all`]; what is durable after a crash is an engine's
//! own matter and tested there.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use types::{Index, Position, Revision, Term};

use super::{Applied, ApplyError, Cell, Change, Committed, MEMBERSHIP_BYTES_MAX, MemoryTable, Outcome, Table, TableView};
use crate::adoption::{Adoption, Staged};
use crate::batch::{Batch, Expectation, Write};
use crate::disk::{Dice, MemoryDisk};
use crate::hash::StateHash;
use crate::snapshot::SnapshotStore;

/// Makes an empty table.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Table>;

/// Every promise.
pub fn all(make: Make<'_>) {
    starts_empty(make);
    a_key_has_the_revision_of_its_last_write(make);
    a_failed_expectation_changes_nothing_but_the_position(make);
    batches_of_one_call_see_each_other(make);
    views_do_not_change(make);
    scans_are_in_order_and_within_bounds(make);
    the_membership_is_kept_with_its_position(make);
    positions_rise_or_nothing_changes(make);
    any_history_gives_the_same_state_as_the_model(make);
    a_snapshot_takes_the_place_of_everything(make);
    an_adoption_takes_the_place_of_everything_or_changes_nothing(make);
    views_may_be_read_while_entries_are_applied(make);
}

/// A position.
pub fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

/// A committed batch of puts (`Some`) and deletes (`None`) under a list of expected revisions.
pub fn batch(index: u64, expectations: &[(&str, u64)], writes: &[(&str, Option<&str>)]) -> Committed {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let expectations = expectations.iter().map(|(key, revision)| Expectation { key: bytes(key), revision: Revision(*revision) });
    let writes = writes.iter().map(|(key, value)| Write { key: bytes(key), value: value.map(bytes) });
    let batch = Batch { expectations: expectations.collect(), writes: writes.collect() };
    Committed { position: at(1, index), change: Change::Batch(batch) }
}

/// All cells of a view, after checking that its totals are right.
pub fn cells(view: &dyn TableView) -> BTreeMap<Bytes, Cell> {
    view.verify().expect("the kept totals are those of the cells");
    view.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).expect("readable").into_iter().collect()
}

fn apply(table: &dyn Table, committed: &[Committed]) -> Vec<Outcome> {
    table.apply(committed).expect("applied")
}

fn get(table: &dyn Table, key: &str) -> Option<(u64, String)> {
    let cell = table.view().expect("readable").get(key.as_bytes()).expect("readable")?;
    Some((cell.revision.0, String::from_utf8(cell.value.to_vec()).expect("tests write text")))
}

/// A new table holds nothing and has applied nothing.
pub fn starts_empty(make: Make<'_>) {
    let table = make();
    assert_eq!(table.applied(), Applied::default());
    assert_eq!(table.applied().hash, StateHash::EMPTY);
    assert_eq!(table.durable(), None);
    assert_eq!(table.flush().expect("nothing to do"), None);
    assert_eq!(cells(&*table.view().expect("readable")), BTreeMap::new());
    assert_eq!(get(&*table, "a"), None);
}

/// The revision is that of the entry's index; the last write to a key within a batch stands; a delete leaves no trace.
pub fn a_key_has_the_revision_of_its_last_write(make: Make<'_>) {
    let table = make();
    apply(
        &*table,
        &[batch(0, &[], &[("a", Some("1")), ("b", Some("")), ("c", Some("x")), ("c", Some("y")), ("d", Some("z")), ("d", None)])],
    );
    apply(&*table, &[batch(1, &[], &[("b", Some("2")), ("nobody", None), ("c", None)])]);
    assert_eq!(get(&*table, "a"), Some((1, "1".into())));
    assert_eq!(get(&*table, "b"), Some((2, "2".into())));
    assert_eq!((get(&*table, "c"), get(&*table, "d"), get(&*table, "nobody")), (None, None, None));
    let applied = table.applied();
    assert_eq!((applied.position, applied.keys, applied.bytes), (Some(at(1, 1)), 2, 4));
    apply(&*table, &[batch(5, &[], &[("c", Some("back"))])]);
    assert_eq!(get(&*table, "c"), Some((6, "back".into())), "a revision comes from the index, not from a count");
    let binary = Committed {
        position: at(1, 6),
        change: Change::Batch(Batch {
            expectations: vec![],
            writes: vec![Write { key: Bytes::from_static(&[0, 255, 0]), value: Some(Bytes::from_static(&[0, 1, 255])) }],
        }),
    };
    apply(&*table, &[binary]);
    assert_eq!(cells(&*table.view().expect("readable"))[&[0, 255, 0][..]].value, &[0, 1, 255][..]);
}

/// All or nothing, and the first failed expectation is named with the revision found.
pub fn a_failed_expectation_changes_nothing_but_the_position(make: Make<'_>) {
    let table = make();
    assert_eq!(apply(&*table, &[batch(0, &[("a", 0), ("b", 0)], &[("a", Some("1"))])]), [Outcome::Applied]);
    let before = table.applied();
    let stale = batch(1, &[("b", 0), ("a", 7), ("b", 9)], &[("a", Some("2")), ("b", Some("2"))]);
    assert_eq!(apply(&*table, &[stale]), [Outcome::Conflict { expectation: 1, found: Revision(1) }]);
    assert_eq!(table.applied(), Applied { position: Some(at(1, 1)), ..before });
    assert_eq!((get(&*table, "a"), get(&*table, "b")), (Some((1, "1".into())), None));
    let absent = batch(2, &[("b", 1)], &[("b", Some("3"))]);
    assert_eq!(apply(&*table, &[absent]), [Outcome::Conflict { expectation: 0, found: Revision::ABSENT }]);
    let good = batch(3, &[("a", 1), ("b", 0)], &[("a", None), ("b", Some("3"))]);
    assert_eq!(apply(&*table, &[good]), [Outcome::Applied]);
    assert_eq!((get(&*table, "a"), get(&*table, "b")), (None, Some((4, "3".into()))));
    let only_expectations = batch(4, &[("b", 4)], &[]);
    assert_eq!(apply(&*table, &[only_expectations]), [Outcome::Applied]);
}

/// In the order of the call, also when one of them conflicts.
pub fn batches_of_one_call_see_each_other(make: Make<'_>) {
    let table = make();
    let outcomes = apply(
        &*table,
        &[
            batch(0, &[("n", 0)], &[("n", Some("0"))]),
            batch(1, &[("n", 0)], &[("n", Some("lost"))]),
            batch(2, &[("n", 1)], &[("n", Some("2")), ("m", Some("2"))]),
            Committed { position: at(2, 3), change: Change::Blank },
            batch(4, &[("n", 3), ("m", 3)], &[("m", None)]).at_term(2),
        ],
    );
    let conflict = Outcome::Conflict { expectation: 0, found: Revision(1) };
    assert_eq!(outcomes, [Outcome::Applied, conflict, Outcome::Applied, Outcome::Applied, Outcome::Applied]);
    assert_eq!((get(&*table, "n"), get(&*table, "m")), (Some((3, "2".into())), None));
    assert_eq!(table.applied().position, Some(at(2, 4)));
    assert_eq!(apply(&*table, &[]), []);
}

impl Committed {
    fn at_term(mut self, term: u64) -> Committed {
        self.position.term = Term(term);
        self
    }
}

/// A view is of one moment: totals, cells and scans.
pub fn views_do_not_change(make: Make<'_>) {
    let table = make();
    let empty = table.view().expect("readable");
    apply(&*table, &[batch(0, &[], &[("a", Some("1")), ("c", Some("1")), ("e", Some("1"))])]);
    let first = table.view().expect("readable");
    let same = table.view().expect("readable");
    let before = cells(&*first);
    apply(&*table, &[batch(1, &[], &[("a", Some("2")), ("b", Some("2")), ("c", None)])]);
    let second = table.view().expect("readable");
    table.flush().expect("flushed");
    apply(&*table, &[batch(2, &[], &[("a", None), ("b", None), ("c", Some("3")), ("d", Some("3")), ("e", None)])]);
    assert_eq!(cells(&*empty), BTreeMap::new());
    assert_eq!(empty.get(b"a").expect("readable"), None);
    assert_eq!((cells(&*first), cells(&*same)), (before.clone(), before));
    assert_eq!(first.applied().expect("readable").position, Some(at(1, 0)));
    assert_eq!(first.get(b"c").expect("readable").expect("was there").value, "1");
    assert_eq!(first.get(b"b").expect("readable"), None);
    let keys = |view: &dyn TableView| cells(view).into_keys().collect::<Vec<_>>();
    assert_eq!(keys(&*second), ["a", "b", "e"]);
    assert_eq!(keys(&*table.view().expect("readable")), ["c", "d"]);
    let in_first = first.scan(Bound::Excluded(b"a"), Bound::Excluded(b"e"), 10).expect("readable");
    assert_eq!(in_first.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"c"]);
}

/// Bytewise order, all kinds of bounds, a limit, and a visit that breaks.
pub fn scans_are_in_order_and_within_bounds(make: Make<'_>) {
    let table = make();
    let keys = ["a", "a/", "a/b", "a/b/c", "a0", "b", "b/x", "c"];
    let writes: Vec<_> = keys.iter().rev().map(|key| (*key, Some("v"))).collect();
    apply(&*table, &[batch(0, &[], &writes)]);
    let view = table.view().expect("readable");
    let scan = |start, end, limit| {
        let cells = view.scan(start, end, limit).expect("readable");
        cells.into_iter().map(|(key, _)| String::from_utf8(key.to_vec()).expect("text")).collect::<Vec<_>>()
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(scan(Unbounded, Unbounded, usize::MAX), keys);
    assert_eq!(scan(Included(b"a/"), Excluded(b"a0"), 100), keys[1..4]);
    assert_eq!(scan(Excluded(b"a/"), Included(b"a0"), 100), keys[2..5]);
    assert_eq!(scan(Excluded(b"a/b"), Unbounded, 2), keys[3..5]);
    assert_eq!(scan(Unbounded, Excluded(b"a/"), 100), keys[..1]);
    assert_eq!(scan(Included(b"b"), Included(b"b"), 100), ["b"]);
    assert_eq!(scan(Included(b"a/b/"), Excluded(b"a/b0"), 100), ["a/b/c"]);
    for (start, end) in [
        (Included(&b"b"[..]), Excluded(&b"b"[..])),
        (Excluded(b"b"), Excluded(b"b")),
        (Excluded(b"b"), Included(b"b")),
        (Included(b"c"), Included(b"a")),
        (Excluded(b"c"), Unbounded),
        (Included(b"a/b/d"), Excluded(b"a/z")),
    ] {
        assert_eq!(scan(start, end, 100), [""; 0], "{start:?} {end:?}");
    }
    assert_eq!(scan(Unbounded, Unbounded, 0), [""; 0]);
    let mut visited = 0;
    let mut visit = |_: &[u8], _, _: &[u8]| {
        visited += 1;
        if visited == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    view.visit(Unbounded, Unbounded, &mut visit).expect("readable");
    assert_eq!(visited, 3);
}

/// Also when later entries change cells only; a longer one than allowed is refused.
pub fn the_membership_is_kept_with_its_position(make: Make<'_>) {
    let table = make();
    let membership =
        |index, bytes: &'static [u8]| Committed { position: at(1, index), change: Change::Membership(Bytes::from_static(bytes)) };
    apply(&*table, &[membership(0, b"one"), batch(1, &[], &[("a", Some("1"))])]);
    assert_eq!(table.applied().membership, Some((at(1, 0), Bytes::from_static(b"one"))));
    let view = table.view().expect("readable");
    apply(&*table, &[membership(2, b"two"), membership(3, b"")]);
    apply(&*table, &[batch(4, &[], &[("a", Some("2"))])]);
    assert_eq!(table.applied().membership, Some((at(1, 3), Bytes::new())));
    assert_eq!(view.applied().expect("readable").membership, Some((at(1, 0), Bytes::from_static(b"one"))));
    let long = Committed { position: at(1, 5), change: Change::Membership(vec![0; MEMBERSHIP_BYTES_MAX + 1].into()) };
    assert!(matches!(table.apply(&[long]), Err(ApplyError::Membership { .. })));
    assert_eq!(table.applied().position, Some(at(1, 4)));
}

/// An entry that was applied is not applied again, and a mistake in a call makes the whole call void.
pub fn positions_rise_or_nothing_changes(make: Make<'_>) {
    let table = make();
    apply(&*table, &[batch(3, &[], &[("a", Some("1"))]).at_term(2)]);
    let before = table.applied();
    for wrong in [
        vec![batch(3, &[], &[("a", Some("2"))]).at_term(2)],
        vec![batch(2, &[], &[("a", Some("2"))]).at_term(2)],
        vec![batch(4, &[], &[("a", Some("2"))]).at_term(1)],
        vec![batch(4, &[], &[("a", Some("2"))]).at_term(2), batch(4, &[], &[("b", Some("2"))]).at_term(2)],
    ] {
        assert!(matches!(table.apply(&wrong), Err(ApplyError::Order { .. })), "{wrong:?}");
        assert_eq!(table.applied(), before);
    }
    apply(&*table, &[batch(5, &[], &[("a", Some("2"))]).at_term(2)]);
    assert_eq!(get(&*table, "a"), Some((6, "2".into())));
}

/// Calls with random entries, the same for the same seed: blanks, memberships, batches that hold and that conflict.
pub fn history(seed: u64, calls: u64) -> Vec<Vec<Committed>> {
    let mut dice = Dice::new(seed);
    let mut revisions: BTreeMap<Bytes, u64> = BTreeMap::new();
    let mut index = 0;
    let mut term = 1;
    let mut history = Vec::new();
    for _ in 0..calls {
        let mut call = Vec::new();
        for _ in 0..1 + dice.below(6) {
            term += u64::from(dice.below(40) == 0);
            let change = match dice.below(20) {
                0 => Change::Blank,
                1 => Change::Membership(vec![dice.next() as u8; dice.below(40) as usize].into()),
                _ => {
                    let key = |dice: &mut Dice| Bytes::from(format!("{:0width$}", dice.below(60), width = 1 + dice.below(3) as usize));
                    let mut expectations = Vec::new();
                    for _ in 0..dice.below(3) {
                        let key = key(&mut dice);
                        let wrong = u64::from(dice.below(8) == 0);
                        expectations.push(Expectation { revision: Revision(revisions.get(&key).copied().unwrap_or(0) + wrong), key });
                    }
                    let holds =
                        expectations.iter().all(|expected| expected.revision.0 == revisions.get(&expected.key).copied().unwrap_or(0));
                    let mut writes = Vec::new();
                    for _ in 0..dice.below(4) {
                        let key = key(&mut dice);
                        let value = (dice.below(4) > 0).then(|| Bytes::from(vec![dice.next() as u8; dice.below(300) as usize]));
                        match (holds, &value) {
                            (true, Some(_)) => _ = revisions.insert(key.clone(), index + 1),
                            (true, None) => _ = revisions.remove(&key),
                            (false, _) => {}
                        }
                        writes.push(Write { key, value });
                    }
                    Change::Batch(Batch { expectations, writes })
                }
            };
            call.push(Committed { position: at(term, index), change });
            index += 1;
        }
        history.push(call);
    }
    history
}

/// Outcomes, totals and state hash equal those of another implementation, however the entries are divided into calls.
pub fn any_history_gives_the_same_state_as_the_model(make: Make<'_>) {
    for seed in 0..5 {
        let (table, model) = (make(), MemoryTable::new());
        let mut conflicts = 0;
        let mut views = Vec::new();
        for (number, call) in history(seed, 60).into_iter().enumerate() {
            let one_by_one: Vec<_> = call.iter().flat_map(|committed| apply(&model, std::slice::from_ref(committed))).collect();
            assert_eq!(apply(&*table, &call), one_by_one);
            conflicts += one_by_one.iter().filter(|outcome| **outcome != Outcome::Applied).count();
            assert_eq!(table.applied(), model.applied());
            assert!(table.durable() <= table.applied().position, "durable never leads");
            if number % 7 == 3 {
                views.push((table.view().expect("readable"), cells(&*model.view().expect("readable"))));
            }
            if number % 11 == 4 {
                assert_eq!(table.flush().expect("flushed"), table.durable());
            }
        }
        for (view, want) in views {
            assert_eq!(cells(&*view), want, "a view keeps its state over applies and flushes");
            for (key, cell) in &want {
                assert_eq!(view.get(key).expect("readable").as_ref(), Some(cell));
            }
            let (start, end) = (Bound::Excluded(&b"03"[..]), Bound::Included(&b"2"[..]));
            let part: BTreeMap<_, _> = view.scan(start, end, 1000).expect("readable").into_iter().collect();
            assert_eq!(part, want.range::<[u8], _>((start, end)).map(|(key, cell)| (key.clone(), cell.clone())).collect());
        }
        assert!(conflicts > 5, "the history tries both");
        let view = table.view().expect("readable");
        assert_eq!(cells(&*view), cells(&*model.view().expect("readable")));
        assert_eq!(view.applied().expect("readable"), model.applied());
    }
}

/// Whatever was there before; views taken before keep theirs; a damaged snapshot changes nothing.
pub fn a_snapshot_takes_the_place_of_everything(make: Make<'_>) {
    let disk = MemoryDisk::new();
    let store = SnapshotStore::open(Arc::new(disk.clone()), Path::new("/snapshots")).expect("a folder");
    let source = MemoryTable::new();
    history(9, 80).iter().for_each(|call| _ = apply(&source, call));
    store.create(&*source.view().expect("readable")).expect("written");
    let want = cells(&*source.view().expect("readable"));

    let table = make();
    apply(&*table, &[batch(0, &[], &[("only here", Some("1")), ("0", Some("other"))])]);
    let before = table.view().expect("readable");
    let mut reader = store.reader().expect("verified").expect("was created");
    table.replace(&mut reader).expect("replaced");
    assert_eq!(table.applied(), source.applied());
    assert_eq!(table.durable(), source.applied().position, "durable on return");
    assert_eq!(cells(&*table.view().expect("readable")), want);
    assert_eq!(before.get(b"only here").expect("readable").expect("was there").value, "1");
    assert_eq!(cells(&*before).len(), 2);
    let next = source.applied().position.expect("has applied").index.0 + 1;
    apply(&*table, &[batch(next, &[], &[("later", Some("1"))]).at_term(99)]);
    assert_eq!(get(&*table, "later"), Some((next + 1, "1".into())));

    // It rots between the check and the use.
    let state = table.applied();
    let path = store.current_path().expect("was created");
    let content = disk.content(&path).expect("is there");
    let mut flipped = content.clone();
    flipped[content.len() - 100] ^= 4;
    let file = crate::disk::Disk::open(&disk, &path, crate::disk::OpenMode::Write).expect("is there");
    let mut reader = store.reader().expect("verified").expect("was created");
    file.write_at(&flipped, 0).expect("written");
    assert!(table.replace(&mut reader).is_err());
    assert_eq!(table.applied(), state);
    assert_eq!(get(&*table, "later"), Some((next + 1, "1".into())));
    cells(&*table.view().expect("readable"));
}

/// What was staged is there afterwards, with the entry's revision, and nothing else but what is kept or written; views taken before keep
/// theirs; something else staged, or an expectation that fails, changes nothing.
pub fn an_adoption_takes_the_place_of_everything_or_changes_nothing(make: Make<'_>) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let table = make();
    apply(
        &*table,
        &[
            batch(0, &[], &[("a", Some("old")), ("kept", Some("1")), ("kept/x", Some("2")), ("z", Some("old"))]),
            batch(1, &[], &[("~a", Some("new")), ("~b", Some("")), ("~kept/x", Some("not taken")), ("~written", Some("not this"))]),
            Committed { position: at(1, 2), change: Change::Membership(bytes("members")) },
        ],
    );
    let mut staged = Staged::default();
    for (key, value) in [("a", "new"), ("b", ""), ("kept/x", "not taken"), ("written", "not this")] {
        staged.add(key.as_bytes(), value.as_bytes());
    }
    let adoption = Adoption {
        from: bytes("~"),
        staged,
        kept: vec![bytes("kept/"), bytes("kept")],
        batch: Batch {
            expectations: vec![Expectation { key: bytes("z"), revision: Revision(1) }],
            writes: vec![
                Write { key: bytes("written"), value: Some(bytes("first")) },
                Write { key: bytes("written"), value: Some(bytes("this")) },
                Write { key: bytes("b"), value: None },
            ],
        },
    };
    let adopt = |index: u64, adoption: &Adoption| Committed { position: at(1, index), change: Change::Adopt(adoption.clone()) };
    let before = cells(&*table.view().expect("readable"));

    let other = Adoption { staged: Staged { keys: 3, ..staged }, ..adoption.clone() };
    let conflict = |expectation, found| Outcome::Conflict { expectation, found };
    assert_eq!(apply(&*table, &[adopt(3, &other)]), [conflict(1, Revision::ABSENT)]);
    let mut late = adoption.clone();
    late.batch.expectations[0].revision = Revision(2);
    assert_eq!(apply(&*table, &[adopt(4, &late)]), [conflict(0, Revision(1))]);
    assert_eq!((cells(&*table.view().expect("readable")), table.applied().position), (before.clone(), Some(at(1, 4))));
    assert!(table.apply(&[batch(5, &[], &[("b", Some("x"))]), adopt(5, &adoption)]).is_err(), "positions must rise");

    let view = table.view().expect("readable");
    // Among other entries of one call.
    let outcomes = apply(&*table, &[batch(5, &[], &[("~b", Some(""))]), adopt(6, &adoption), batch(7, &[("a", 7)], &[("c", Some("3"))])]);
    assert_eq!(outcomes, [Outcome::Applied; 3]);
    let want = [("a", 7, "new"), ("c", 8, "3"), ("kept", 1, "1"), ("kept/x", 1, "2"), ("written", 7, "this")];
    let want: BTreeMap<Bytes, Cell> =
        want.into_iter().map(|(key, revision, value)| (bytes(key), Cell { revision: Revision(revision), value: bytes(value) })).collect();
    assert_eq!(cells(&*table.view().expect("readable")), want);
    assert_eq!(table.applied().membership, Some((at(1, 2), bytes("members"))), "the cluster's own");
    assert_eq!(cells(&*view), before, "a view taken before");
    assert_eq!(apply(&*table, &[adopt(8, &adoption)]), [conflict(0, Revision::ABSENT)], "nothing is staged any more");
    table.flush().expect("flushed");
    assert_eq!(cells(&*table.view().expect("readable")), want);
}

/// From other threads, each seeing whole calls only.
pub fn views_may_be_read_while_entries_are_applied(make: Make<'_>) {
    let table = make();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 100 {
                    let view = table.view().expect("readable");
                    let cells = cells(&*view);
                    let (left, right) = (cells.get(&b"left"[..]), cells.get(&b"right"[..]));
                    assert_eq!(left, right, "both sides of a batch");
                    let revision = left.map_or(0, |cell| cell.revision.0);
                    assert!(revision >= last, "never back");
                    last = revision;
                }
            });
        }
        for index in 0..100 {
            let value = index.to_string();
            apply(&*table, &[batch(index, &[], &[("left", Some(&value)), ("right", Some(&value))])]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_table_conforms() {
        all(&|| Arc::new(MemoryTable::new()));
    }

    #[test]
    fn a_told_snapshot_is_what_a_volatile_table_can_be_rebuilt_from() {
        let table = MemoryTable::new();
        apply(&table, &[batch(0, &[], &[("a", Some("1"))])]);
        assert_eq!(table.flush().unwrap(), None);
        table.note_snapshot(at(1, 0));
        assert_eq!((table.durable(), table.flush().unwrap()), (Some(at(1, 0)), Some(at(1, 0))));
    }
}
