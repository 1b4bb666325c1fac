//! What only the table in a redb file promises: what a crash leaves, what damage does, who waits for whom.

use std::collections::BTreeSet;

use super::rows::*;
use super::*;
use crate::disk::{DiskFile, Fault, FaultPoint, FsDisk, MemoryDisk};
use crate::hash::StateHash;
use crate::snapshot::SnapshotStore;
use crate::table::conformance::{all, at, batch, cells, history};

type Action = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A file that does something else while it syncs.
struct Meanwhile(Arc<dyn DiskFile>, Action);

impl DiskFile for Meanwhile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn sync_data(&self) -> io::Result<()> {
        if let Some(action) = self.1.lock().unwrap().take() {
            action();
        }
        self.0.sync_data()
    }
}

const SMALL: RedbTableOptions = RedbTableOptions { cache_bytes: 1 << 20 };

fn path() -> &'static Path {
    Path::new("/n1/table.redb")
}

fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(parent(path())).unwrap();
    disk
}

fn open(disk: &MemoryDisk) -> Result<RedbTable, OpenError> {
    RedbTable::open(Arc::new(disk.clone()), path(), SMALL)
}

#[test]
fn conforms_in_memory() {
    all(&|| Arc::new(open(&disk()).unwrap()));
}

#[test]
fn conforms_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    all(&|| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(RedbTable::open(Arc::new(FsDisk), &root.path().join(number.to_string()), SMALL).unwrap())
    });
}

#[test]
fn a_flush_survives_a_crash_and_what_came_after_does_not_matter() {
    let disk = disk();
    let table = open(&disk).unwrap();
    for call in history(1, 20) {
        table.apply(&call).unwrap();
    }
    let flushed = table.applied();
    assert_eq!(table.durable(), None);
    assert_eq!(table.flush().unwrap(), flushed.position);
    assert_eq!(table.durable(), flushed.position);
    let want = cells(&*table.view().unwrap());
    let later = Committed { position: at(99, 1000), ..batch(0, &[], &[("later", Some("1"))]) };
    table.apply(&[later]).unwrap();
    assert_eq!(table.durable(), flushed.position);
    disk.crash(0);
    drop(table);
    let table = open(&disk).unwrap();
    assert_eq!((table.applied(), table.durable()), (flushed.clone(), flushed.position));
    assert_eq!(cells(&*table.view().unwrap()), want);
}

#[test]
fn nobody_waits_for_a_flush_and_what_is_applied_meanwhile_is_the_next_ones() {
    let disk = disk();
    drop(open(&disk).unwrap());
    let action = Action::default();
    let file = Arc::new(Meanwhile(disk.open(path(), OpenMode::Write).unwrap(), Arc::clone(&action)));
    let place = Place { disk: Arc::new(disk.clone()), path: path().to_owned(), options: SMALL };
    let table = Arc::new(RedbTable::over(file, place).unwrap());
    table.apply(&[batch(0, &[], &[("a", Some("1")), ("b", Some("1"))])]).unwrap();
    let before = table.view().unwrap();
    let other = Arc::clone(&table);
    *action.lock().unwrap() = Some(Box::new(move || {
        // Within the flush's sync, in its thread: whoever waited for it would wait for ever.
        other.apply(&[batch(1, &[("a", 1)], &[("a", Some("2")), ("b", None), ("c", Some("2"))])]).unwrap();
        assert_eq!(cells(&*other.view().unwrap()).len(), 2);
    }));
    assert_eq!(table.flush().unwrap(), Some(at(1, 0)));
    assert!(action.lock().unwrap().is_none(), "it was tried");
    assert_eq!((table.applied().position, table.durable()), (Some(at(1, 1)), Some(at(1, 0))));
    let after = table.view().unwrap();
    assert_eq!(cells(&*after).into_keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(table.flush().unwrap(), Some(at(1, 1)));
    assert_eq!(cells(&*before).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    let want = cells(&*after);
    assert_eq!(cells(&*table.view().unwrap()), want);
    disk.kill();
    drop(table);
    assert_eq!(cells(&*open(&disk).unwrap().view().unwrap()), want);
}

#[test]
fn a_flush_writes_whole_applies_only() {
    let disk = disk();
    let table = open(&disk).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let keys: Vec<String> = (0..200).map(|key| key.to_string()).collect();
            // Bounded, so that a failed check below is not waited on for ever.
            for index in 0..100_000 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let value = index.to_string();
                let writes: Vec<_> = keys.iter().map(|key| (&key[..], Some(&value[..]))).collect();
                table.apply(&[batch(index, &[], &writes)]).unwrap();
            }
        });
        for _ in 0..40 {
            table.flush().unwrap();
            let lost = disk.fork();
            lost.crash(0);
            let found = open(&lost).unwrap();
            let values: BTreeSet<_> = cells(&*found.view().unwrap()).into_values().map(|cell| cell.value).collect();
            assert!(values.len() <= 1, "all keys have the value of one apply");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn changes_in_memory_are_bounded() {
    let disk = disk();
    let table = open(&disk).unwrap();
    let value = Bytes::from(vec![1; 8 << 20]);
    for index in 0..12 {
        let write = crate::batch::Write { key: Bytes::from_static(b"k"), value: Some(value.clone()) };
        let change = crate::table::Change::Batch(crate::batch::Batch { expectations: vec![], writes: vec![write] });
        table.apply(&[Committed { position: at(1, index), change }]).unwrap();
    }
    assert!(table.state().active.bytes() < LAYER_BYTES_MAX);
    assert!(table.durable().is_some(), "an apply that found it full flushed");
    assert_eq!(cells(&*table.view().unwrap()).len(), 1);
}

/// Power goes at any operation of a table's making, of applies, flushes and a replacement.
#[test]
fn whatever_happens_the_table_is_as_a_flush_left_it() {
    let snapshots = SnapshotStore::open(Arc::new(MemoryDisk::new()), Path::new("/s")).unwrap();
    let other = crate::table::MemoryTable::new();
    history(77, 30).iter().for_each(|call| _ = other.apply(call).unwrap());
    snapshots.create(&*other.view().unwrap()).unwrap();
    let calls = history(5, 24);
    // Applied states, the snapshot's among them, and the last that is known to be durable.
    let script = |disk: &MemoryDisk, states: &mut Vec<Applied>, durable: &mut usize| -> Option<()> {
        let table = open(disk).ok()?;
        let last = calls.len() - 1;
        for (number, call) in calls.iter().enumerate() {
            let moved = |committed: &Committed| {
                // After the snapshot, entries go on behind it.
                let Position { term, index } = committed.position;
                let shift = if number == last { 1000 } else { 0 };
                Committed { position: at(term.0 + shift, index.0 + shift), change: committed.change.clone() }
            };
            if number == last {
                states.push(other.applied());
                table.replace(&mut snapshots.reader().unwrap().unwrap()).ok()?;
                *durable = states.len() - 1;
            }
            table.apply(&call.iter().map(moved).collect::<Vec<_>>()).ok()?;
            states.push(table.applied());
            if number % 6 == 5 {
                table.flush().ok()?;
                *durable = states.len() - 1;
            }
        }
        Some(())
    };
    let whole = disk();
    script(&whole, &mut Vec::new(), &mut 0).unwrap();
    let operations = whole.operations();
    assert!(operations > 50, "{operations}");
    for operation in 0..operations {
        for seed in 0..3 {
            let disk = disk();
            let (mut states, mut durable) = (vec![Applied::default()], 0);
            disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
            script(&disk, &mut states, &mut durable);
            disk.crash(seed * 1000 + operation);
            let table = open(&disk).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
            let found = table.applied();
            assert!(states[durable..].contains(&found), "{operation} {seed}: {found} is not among what may be");
            cells(&*table.view().unwrap());
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_at_open_or_does_no_harm() {
    let disk = disk();
    let table = open(&disk).unwrap();
    for call in history(2, 40) {
        table.apply(&call).unwrap();
    }
    table.flush().unwrap();
    let (applied, want) = (table.applied(), cells(&*table.view().unwrap()));
    drop(table);
    let content = disk.content(path()).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    for byte in (0..content.len()).step_by(53) {
        let damaged = disk.fork();
        let mut flipped = content.clone();
        flipped[byte] ^= 1 << (byte % 8);
        damaged.set_content(path(), flipped);
        match open(&damaged) {
            Err(OpenError::Corrupt { .. } | OpenError::Version { .. }) => noticed += 1,
            Err(error) => panic!("byte {byte}: {error}"),
            Ok(table) => {
                harmless += 1;
                assert_eq!(table.applied(), applied, "byte {byte}");
                assert_eq!(cells(&*table.view().unwrap()), want, "byte {byte}");
            }
        }
    }
    assert!(noticed > 100 && harmless > 0, "{noticed} noticed, {harmless} in unused places");
}

#[test]
fn a_cell_that_rots_while_the_table_is_open_is_not_answered() {
    let mut stored = Vec::new();
    let cell = Cell { revision: Revision(7), value: Bytes::from_static(b"value") };
    encode_cell(&mut stored, b"key", &cell);
    assert_eq!(decode_cell(b"key", &stored).unwrap(), (Revision(7), &b"value"[..]));
    assert!(decode_cell(b"kez", &stored).is_err(), "another key's cell");
    for bit in 0..stored.len() * 8 {
        stored[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_cell(b"key", &stored).is_err(), "bit {bit}");
        stored[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..stored.len() {
        assert!(decode_cell(b"key", &stored[..length]).is_err());
    }
}

#[test]
fn golden_rows_of_version_1() {
    let mut hash = StateHash::EMPTY;
    hash.add(b"key", Revision(7), b"value");
    let applied = Applied { position: Some(at(3, 6)), membership: None, keys: 1, bytes: 8, hash };
    let mut rows = encode_state(&applied).to_vec();
    rows.extend_from_slice(&encode_membership(at(2, 5), b"members"));
    let mut cell = Vec::new();
    encode_cell(&mut cell, b"key", &Cell { revision: Revision(7), value: Bytes::from_static(b"value") });
    rows.extend_from_slice(&cell);
    crate::golden::check("golden/storage/table-rows-v1.bin", &rows);
    assert_eq!(decode_state(&encode_state(&applied).freeze()).unwrap(), applied);
    let (position, membership) = decode_membership(&encode_membership(at(2, 5), b"members").freeze()).unwrap();
    assert_eq!((position, &membership[..]), (at(2, 5), &b"members"[..]));
}

#[test]
fn an_unknown_version_and_a_foreign_file_are_refused() {
    let disk = disk();
    let table = open(&disk).unwrap();
    let write = table.begin().unwrap();
    let mut row = encode_state(&Applied::default());
    row[0] = TABLE_VERSION + 1;
    write.open_table(META).unwrap().insert(STATE_ROW, &row[..]).unwrap();
    write.commit().unwrap();
    drop(table);
    assert!(matches!(open(&disk), Err(OpenError::Version { version: 2, .. })));
    disk.set_content(path(), b"something else entirely".repeat(1000));
    let error = open(&disk).err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert!(error.to_string().starts_with("/n1/table.redb is corrupt"), "{error}");
    RedbTable::remove(&disk, path()).unwrap();
    assert_eq!(open(&disk).unwrap().applied(), Applied::default());
}

#[test]
fn a_failed_disk_is_an_error_and_nothing_counts_as_durable() {
    for point in [FaultPoint::Write, FaultPoint::Sync] {
        let disk = disk();
        let table = open(&disk).unwrap();
        table.apply(&[batch(0, &[], &[("a", Some("1"))])]).unwrap();
        table.flush().unwrap();
        table.apply(&[batch(1, &[], &[("a", Some("2"))])]).unwrap();
        disk.fail(Fault { point, after: 0, error: io::ErrorKind::StorageFull, forever: true });
        assert!(table.flush().is_err(), "{point:?}");
        assert_eq!(table.durable(), Some(at(1, 0)));
        let lost = disk.fork();
        disk.kill();
        drop(table);
        // The system still shows what may never have reached the disk.
        if point == FaultPoint::Sync {
            let error = open(&disk).err().expect("cannot be trusted");
            assert!(error.to_string().contains("sync failed"), "{error}");
            RedbTable::remove(&disk, path()).unwrap();
            assert_eq!(open(&disk).unwrap().applied(), Applied::default());
        } else {
            assert!([Some(at(1, 0)), Some(at(1, 1))].contains(&open(&disk).unwrap().applied().position));
        }
        let mut opened = 0;
        for seed in 0..20 {
            let lost = lost.fork();
            lost.crash(seed);
            // The mark may have reached the disk by itself.
            let Ok(table) = open(&lost) else { continue };
            opened += 1;
            assert!([Some(at(1, 0)), Some(at(1, 1))].contains(&table.applied().position), "{point:?} {seed}");
            cells(&*table.view().unwrap());
        }
        assert!(opened > 5, "{point:?}: {opened}");
    }
}

/// Overwrites cells of `keys` keys in an order that has nothing to do with theirs, `rounds` times.
fn churn(table: &RedbTable, keys: u64, value_bytes: usize, rounds: u64, index: &mut u64) {
    for write in 0..rounds * keys / 100 {
        let key = |at: u64| crypto::digest::sha256(&((write * 100 + at) * 7919 % keys).to_le_bytes());
        let value = |at: u64| Bytes::from(vec![at as u8; value_bytes / 2 + (write * 31 + at * 17) as usize % value_bytes]);
        let writes = (0..100).map(|at| crate::batch::Write { key: Bytes::copy_from_slice(&key(at)), value: Some(value(at)) }).collect();
        let change = crate::table::Change::Batch(crate::batch::Batch { expectations: vec![], writes });
        table.apply(&[Committed { position: at(1, *index), change }]).unwrap();
        *index += 1;
        if index.is_multiple_of(20) {
            table.flush().unwrap();
        }
    }
    table.flush().unwrap();
}

#[test]
fn a_rewritten_table_is_small_and_the_same() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("table.redb");
    let table = RedbTable::open(Arc::new(FsDisk), &file, SMALL).unwrap();
    let mut index = 0;
    churn(&table, 4_000, 500, 4, &mut index);
    let before = table.view().unwrap();
    let (applied, grown) = (table.applied(), table.disk_bytes());
    assert!(table.compact().unwrap());
    let small = table.disk_bytes();
    println!("{} live bytes: {grown} on disk, then {small}", applied.bytes);
    assert!(small < grown && small as f64 <= 1.35 * applied.bytes as f64, "{small} for {} live bytes", applied.bytes);
    let rewritten = cells(&*table.view().unwrap());
    assert_eq!((table.applied(), table.durable()), (applied.clone(), applied.position));
    assert_eq!(cells(&*before), rewritten);
    assert_eq!(before.verify().unwrap(), applied);
    // It goes on, and a view of the old file outlives it.
    churn(&table, 4_000, 500, 1, &mut index);
    assert_eq!(cells(&*before), rewritten);
    let (applied, want) = (table.applied(), cells(&*table.view().unwrap()));
    drop(before);
    drop(table);
    let table = RedbTable::open(Arc::new(FsDisk), &file, SMALL).unwrap();
    assert_eq!((table.applied(), cells(&*table.view().unwrap())), (applied, want));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_is_flushed_while_it_is_rewritten_is_in_it() {
    let disk = disk();
    drop(open(&disk).unwrap());
    let table = Arc::new(open(&disk).unwrap());
    table.apply(&[batch(0, &[], &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))])]).unwrap();
    table.flush().unwrap();
    let base = Arc::clone(&table.state().base);
    table.state().since = Some(Vec::new());
    let temporary = temporary_name(path());
    let copy = table.copy(&base, &temporary).unwrap().unwrap();
    table.apply(&[batch(1, &[], &[("a", Some("2")), ("b", None), ("d", Some("2"))])]).unwrap();
    table.flush().unwrap();
    table.apply(&[batch(2, &[], &[("e", Some("3"))])]).unwrap();
    assert!(table.take_place(copy, &temporary).unwrap());
    let want = cells(&*table.view().unwrap());
    assert_eq!(want.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>(), ["a", "c", "d", "e"]);
    table.flush().unwrap();
    disk.crash(0);
    drop((base, table));
    let table = open(&disk).unwrap();
    assert_eq!(cells(&*table.view().unwrap()), want);
    table.view().unwrap().verify().unwrap();
}

#[test]
fn power_may_go_at_any_operation_of_a_rewrite() {
    let filled = |disk: &MemoryDisk| {
        let table = open(disk).unwrap();
        history(3, 12).iter().for_each(|call| _ = table.apply(call).unwrap());
        table.flush().unwrap();
        table
    };
    let whole = disk();
    let table = filled(&whole);
    let opened = whole.operations();
    assert!(table.compact().unwrap());
    let operations = whole.operations() - opened;
    assert!(operations > 4, "{operations}");
    for operation in 0..operations {
        for seed in 0..4 {
            let disk = disk();
            let table = filled(&disk);
            let flushed = table.applied();
            disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
            let _either = table.compact();
            disk.crash(seed * 1000 + operation);
            drop(table);
            let table = open(&disk).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
            assert_eq!(table.applied(), flushed, "{operation} {seed}");
            table.view().unwrap().verify().unwrap();
        }
    }
}
