//! How long a node with a million secrets takes to open what it has on disk. By hand, for it takes minutes and a gigabyte:
//! `cargo nextest run --release -p storage --test open --run-ignored all --no-capture`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement: it shows figures, and what goes wrong ends it")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::table::{RedbTable, RedbTableOptions, Table};
use storage::{Batch, Change, Committed, Disk, FsDisk, Log, LogEntry, LogOptions, Write};
use types::{Index, Position, Term};

const SECRETS: u64 = 1_000_000;
const BATCH: u64 = 100;
/// What a clean and an unclean start may take, on one slow core.
const OPEN_MAX: Duration = Duration::from_secs(10);

fn position(index: u64) -> Position {
    Position { term: Term(1), index: Index(index) }
}

/// A secret of 256 bytes has two records: its value and its metadata.
fn write(number: u64) -> Write {
    let key = crypto::digest::sha256(&number.to_le_bytes());
    let key = [&key[..], &key[..28]].concat();
    let value = vec![number as u8; if number.is_multiple_of(2) { 330 } else { 130 }];
    Write { key: key.into(), value: Some(Bytes::from(value)) }
}

fn measure<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = act();
    let took = began.elapsed();
    println!("{what}: {took:?}");
    assert!(took < OPEN_MAX, "{what} took {took:?}");
    result
}

#[test]
#[ignore = "minutes, and a gigabyte of disk"]
fn a_million_secrets_open_in_seconds() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FsDisk);
    let table_path = root.path().join("table.redb");
    let open_table = || RedbTable::open(Arc::clone(&disk), &table_path, RedbTableOptions::default()).unwrap();
    let table = open_table();
    for batch in 0..2 * SECRETS / BATCH {
        let writes = (0..BATCH).map(|at| write(batch * BATCH + at)).collect();
        let change = Change::Batch(Batch { expectations: vec![], writes });
        table.apply(&[Committed { position: position(batch), change }]).unwrap();
    }
    table.flush().unwrap();
    let applied = table.applied();
    println!("{} records, {} live bytes, {} on disk", applied.keys, applied.bytes, table.disk_bytes());
    drop(table);
    let table = measure("table after a clean stop", open_table);
    assert_eq!(table.applied(), applied);
    // As a kill leaves it: neither closed nor dropped.
    let killed = root.path().join("killed.redb");
    let change = Change::Batch(Batch { expectations: vec![], writes: vec![write(1)] });
    table.apply(&[Committed { position: position(1 << 40), change }]).unwrap();
    table.flush().unwrap();
    let unclean = table.applied();
    std::fs::copy(&table_path, &killed).unwrap();
    let again = measure("table after a kill", || RedbTable::open(Arc::clone(&disk), &killed, RedbTableOptions::default()).unwrap());
    assert_eq!(again.applied(), unclean);
    drop(again);
    disk.remove(&killed).unwrap();
    measure("recount of every cell, as a scrub does", || table.view().unwrap().verify().unwrap());
    let began = Instant::now();
    assert!(table.compact().unwrap());
    println!("rewrite: {:?}, then {} on disk", began.elapsed(), table.disk_bytes());
    drop(table);
    measure("rewritten table after a clean stop", open_table);
    log(&disk, root.path());
}

/// The most that the log has before it is cut: 64 MiB and what comes meanwhile.
fn log(disk: &Arc<dyn Disk>, root: &Path) {
    let open = || Log::open(Arc::clone(disk), &root.join("log"), LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() }).unwrap();
    let (log, mut flusher) = open();
    for chunk in 0..1_000 {
        let entry = |index| LogEntry { position: position(index), payload: Bytes::from(vec![7; 1_000]) };
        log.append((chunk * 100..(chunk + 1) * 100).map(entry).collect(), Box::new(drop));
        flusher.step();
    }
    println!("{} bytes of log", log.stats().bytes);
    drop((log, flusher));
    drop(measure("log", open));
}
