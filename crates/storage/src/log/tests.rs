//! What the log promises, tried with crashes, faults and damage on a [`MemoryDisk`].

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::flusher::{mark_path, segment_path};
use super::*;
use crate::disk::Dice;
use crate::disk::{Fault, FaultPoint, FsDisk, MemoryDisk};

const DIR: &str = "/n1/log";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn open(disk: &MemoryDisk, options: LogOptions) -> Result<(Log, Flusher), OpenError> {
    Log::open(Arc::new(disk.clone()), dir(), options)
}

fn small(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, cache_bytes: 100 }
}

fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn entry(term: u64, index: u64, payload: &str) -> LogEntry {
    LogEntry { position: at(term, index), payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn entries(term: u64, indexes: Range<u64>) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index, &format!("entry {index} of term {term}"))).collect()
}

/// Calls, flushes, and tells how it ended.
fn now(flusher: &mut Flusher, call: impl FnOnce(Done)) -> Result<(), LogFailure> {
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    call(Box::new(move |result| *tell.lock().unwrap() = Some(result)));
    while matches!(flusher.step(), Step::Flushed(_)) {}
    told.lock().unwrap().take().expect("a call is answered once the flusher has nothing left")
}

fn all(log: &Log) -> Vec<LogEntry> {
    let (mut all, mut next) = (Vec::new(), Index(0));
    loop {
        let some = log.read(next..Index(u64::MAX), 300).unwrap();
        let Some(last) = some.last() else { return all };
        next = last.position.index.next();
        all.extend(some);
    }
}

fn close(log: Log, mut flusher: Flusher) {
    drop(log);
    while flusher.step() != Step::Closed {}
}

#[test]
fn keeps_everything_over_a_restart() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions::default()).unwrap();
    assert_eq!((log.bounds(), log.vote(), log.committed()), (LogBounds::default(), None, None));
    now(&mut flusher, |done| log.save_vote(Bytes::from_static(b"vote"), done)).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 0..10), done)).unwrap();
    now(&mut flusher, |done| log.truncate_after(Some(Index(7)), done)).unwrap();
    now(&mut flusher, |done| log.append(entries(2, 8..12), done)).unwrap();
    now(&mut flusher, |done| log.purge_through(at(1, 3), done)).unwrap();
    log.save_committed(Some(at(2, 9)));
    let want: Vec<_> = entries(1, 4..8).into_iter().chain(entries(2, 8..12)).collect();
    assert_eq!(all(&log), want);
    close(log, flusher);
    disk.crash(0);

    let (log, _flusher) = open(&disk, LogOptions::default()).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(1, 3)), last: Some(at(2, 11)) });
    assert_eq!(log.vote().unwrap(), "vote");
    assert_eq!(log.committed(), Some(at(2, 9)), "written when the log closes");
    assert_eq!(all(&log), want);
    assert_eq!(log.position(Index(5)), Some(at(1, 5)));
    assert_eq!((log.position(Index(3)), log.position(Index(12))), (None, None));
}

#[test]
fn entries_are_readable_at_once_and_done_comes_after_the_sync() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions::default()).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for index in 0..50 {
        let done = Arc::clone(&done);
        log.append(entries(1, index..index + 1), Box::new(move |result| _ = (result.unwrap(), done.fetch_add(1, Ordering::Relaxed))));
    }
    assert_eq!(all(&log).len(), 50);
    assert_eq!(done.load(Ordering::Relaxed), 0);
    assert_eq!(flusher.step(), Step::Flushed(50));
    assert_eq!(done.load(Ordering::Relaxed), 50);
    let stats = log.stats();
    assert_eq!((stats.rounds, stats.syncs, stats.frames, stats.queued_bytes), (1, 1, 50, 0), "one sync for all");
    assert_eq!(flusher.step(), Step::Idle);
}

#[test]
fn reads_stop_at_the_limit_but_give_one() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions { cache_bytes: 0, ..LogOptions::default() }).unwrap();
    now(&mut flusher, |done| log.append((0..20).map(|index| entry(1, index, &"x".repeat(1000))).collect(), done)).unwrap();
    assert_eq!(log.stats().cached_bytes, 0);
    let count = |range: Range<u64>, bytes_max| log.read(Index(range.start)..Index(range.end), bytes_max).unwrap().len();
    assert_eq!(count(0..20, 0), 1);
    assert_eq!(count(0..20, 5 * 1045), 5);
    assert_eq!(count(0..20, usize::MAX), 20);
    assert_eq!(count(18..30, usize::MAX), 2);
    assert_eq!(count(20..30, usize::MAX), 0);
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may well ask so")]
    let reversed = 5..3;
    assert_eq!(count(reversed, usize::MAX), 0);
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions::default()).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 2..5), done)).unwrap();
    for wrong in [entries(1, 4..5), entries(1, 6..7), vec![entry(1, 5, "a"), entry(1, 7, "b")]] {
        let failure = now(&mut flusher, |done| log.append(wrong, done)).unwrap_err();
        assert!(matches!(failure, LogFailure::Refused(_)), "{failure}");
    }
    let long = vec![LogEntry { position: at(1, 5), payload: vec![0; ENTRY_BYTES_MAX + 1].into() }];
    assert!(now(&mut flusher, |done| log.append(long, done)).is_err());
    assert!(now(&mut flusher, |done| log.save_vote(vec![0; VOTE_BYTES_MAX + 1].into(), done)).is_err());
    assert_eq!(all(&log), entries(1, 2..5));
    now(&mut flusher, |done| log.append(entries(1, 5..6), done)).unwrap();
    now(&mut flusher, |done| log.append(vec![], done)).unwrap();
    assert!(matches!(open(&disk, small(0)), Err(OpenError::Options { .. })));
}

#[test]
fn truncate_and_purge_to_the_edges() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, small(300)).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 2..6), done)).unwrap();
    now(&mut flusher, |done| log.purge_through(at(1, 1), done)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(1, 1)), last: Some(at(1, 5)) });
    now(&mut flusher, |done| log.truncate_after(None, done)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(1, 1)), last: Some(at(1, 1)) });
    now(&mut flusher, |done| log.append(entries(1, 2..4), done)).unwrap();
    now(&mut flusher, |done| log.truncate_after(Some(Index(100)), done)).unwrap();
    assert_eq!(all(&log).len(), 2);
    now(&mut flusher, |done| log.purge_through(at(3, 50), done)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(3, 50)), last: Some(at(3, 50)) });
    now(&mut flusher, |done| log.purge_through(at(3, 20), done)).unwrap();
    assert_eq!(log.bounds().purged, Some(at(3, 50)), "a purge never goes back");
    assert!(now(&mut flusher, |done| log.append(entries(3, 50..51), done)).is_err());
    now(&mut flusher, |done| log.append(entries(3, 51..53), done)).unwrap();
    close(log, flusher);
    let (log, _flusher) = open(&disk, small(300)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(3, 50)), last: Some(at(3, 52)) });
    assert_eq!(all(&log), entries(3, 51..53));
}

#[test]
fn segments_roll_over_and_go_once_purged() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, small(500)).unwrap();
    now(&mut flusher, |done| log.save_vote(Bytes::from_static(b"v"), done)).unwrap();
    for index in 0..100 {
        now(&mut flusher, |done| log.append(entries(1, index..index + 1), done)).unwrap();
    }
    let before = log.stats().segments;
    assert!(before > 10, "{before}");
    let held = log.read(Index(0)..Index(1), 100).unwrap();
    now(&mut flusher, |done| log.purge_through(at(1, 80), done)).unwrap();
    let after = log.stats();
    assert!(after.segments < before / 2, "{after:?}");
    assert_eq!(after.segments as usize + 1, disk.paths().len(), "segments and the mark");
    assert_eq!(all(&log), entries(1, 81..100));
    assert_eq!(held.len(), 1);
    close(log, flusher);
    disk.crash(1);
    let (log, mut flusher) = open(&disk, small(500)).unwrap();
    assert_eq!(all(&log), entries(1, 81..100));
    assert_eq!(log.vote().unwrap(), "v");
    now(&mut flusher, |done| log.purge_through(at(1, 99), done)).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 100..101), done)).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 101..120), done)).unwrap();
    now(&mut flusher, |done| log.purge_through(at(1, 119), done)).unwrap();
    close(log, flusher);
    let (log, _flusher) = open(&disk, small(500)).unwrap();
    assert_eq!(log.bounds(), LogBounds { purged: Some(at(1, 119)), last: Some(at(1, 119)) });
    assert_eq!(log.vote().unwrap(), "v");
}

/// One segment of each kind of frame.
fn golden_log() -> (MemoryDisk, Log, Flusher) {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, small(1 << 20)).unwrap();
    now(&mut flusher, |done| log.save_vote(Bytes::from_static(b"a vote"), done)).unwrap();
    now(&mut flusher, |done| log.append(vec![entry(1, 0, "first"), entry(1, 1, ""), entry(1, 2, "third")], done)).unwrap();
    now(&mut flusher, |done| log.truncate_after(Some(Index(1)), done)).unwrap();
    log.save_committed(Some(at(1, 1)));
    now(&mut flusher, |done| log.purge_through(at(1, 0), done)).unwrap();
    now(&mut flusher, |done| log.append(vec![entry(2, 2, "second term")], done)).unwrap();
    (disk, log, flusher)
}

#[test]
fn golden_bytes_of_version_1() {
    let (disk, _log, _flusher) = golden_log();
    let segment = disk.content(&segment_path(dir(), 1)).unwrap();
    let mark = disk.content(&mark_path(dir())).unwrap();
    let golden_segment = crate::golden::check("golden/storage/log-segment-v1.bin", &segment);
    let golden_mark = crate::golden::check("golden/storage/log-mark-v1.bin", &mark);

    let disk = MemoryDisk::new();
    disk.set_content(&segment_path(dir(), 1), golden_segment);
    disk.set_content(&mark_path(dir()), golden_mark);
    let (log, _flusher) = open(&disk, LogOptions::default()).unwrap();
    assert_eq!(all(&log), [entry(1, 1, ""), entry(2, 2, "second term")]);
    assert_eq!((log.vote().unwrap(), log.committed()), (Bytes::from_static(b"a vote"), Some(at(1, 1))));
}

/// A log of three segments, everything in it reported done.
fn three_segments() -> (MemoryDisk, Vec<LogEntry>) {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, small(300)).unwrap();
    now(&mut flusher, |done| log.save_vote(Bytes::from_static(b"vote"), done)).unwrap();
    for index in 0..9 {
        now(&mut flusher, |done| log.append(entries(1, index..index + 1), done)).unwrap();
    }
    assert_eq!(log.stats().segments, 3);
    let want = all(&log);
    close(log, flusher);
    disk.kill();
    (disk, want)
}

#[test]
fn every_flipped_bit_of_what_was_done_is_an_error_that_names_the_place() {
    let (disk, want) = three_segments();
    for path in disk.paths() {
        let content = disk.content(&path).unwrap();
        for byte in 0..content.len() {
            for bit in 0..8 {
                let damaged = disk.fork();
                let mut flipped = content.clone();
                flipped[byte] ^= 1 << bit;
                damaged.set_content(&path, flipped.clone());
                let place = format!("{} byte {byte} bit {bit}", path.display());
                match open(&damaged, small(300)) {
                    Err(OpenError::Corrupt { file, offset, .. }) => {
                        assert_eq!(file, path, "{place}");
                        assert!(offset <= byte as u64, "{place}: {offset}");
                        assert_eq!(damaged.content(&path).unwrap(), flipped, "{place}: nothing is changed");
                    }
                    Err(OpenError::Version { file, .. }) => assert_eq!(file, path, "{place}"),
                    Err(error) => panic!("{place}: {error}"),
                    // The mark only adds to what the log proves by itself.
                    Ok((log, _)) => {
                        assert_eq!(path, mark_path(dir()), "{place}");
                        assert_eq!(all(&log), want, "{place}");
                    }
                }
            }
        }
    }
}

#[test]
fn damage_is_noticed_without_the_mark_as_soon_as_a_later_round_was_written() {
    let (disk, want) = three_segments();
    disk.set_content(&mark_path(dir()), vec![0; 28]);
    let path = segment_path(dir(), 3);
    let content = disk.content(&path).unwrap();
    for byte in 0..content.len() {
        let damaged = disk.fork();
        let mut flipped = content.clone();
        flipped[byte] ^= 0x10;
        damaged.set_content(&path, flipped);
        // Nothing can prove the last round but the mark; damage there looks torn.
        if let Ok((log, _)) = open(&damaged, small(300)) {
            assert_eq!(all(&log), want[..want.len() - 1], "byte {byte}: only the last round");
        }
    }
}

#[test]
fn every_cut_of_what_was_done_is_an_error() {
    let (disk, _) = three_segments();
    for path in disk.paths().into_iter().filter(|path| *path != mark_path(dir())) {
        let content = disk.content(&path).unwrap();
        for length in 0..content.len() {
            let damaged = disk.fork();
            damaged.set_content(&path, content[..length].to_vec());
            let error = open(&damaged, small(300)).err().unwrap_or_else(|| panic!("{} cut to {length}", path.display()));
            assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        }
    }
}

#[test]
fn missing_and_foreign_segments_are_errors() {
    let (disk, _) = three_segments();
    for gone in 1..=3 {
        let damaged = disk.fork();
        damaged.remove(&segment_path(dir(), gone)).unwrap();
        let error = open(&damaged, small(300)).err().expect("entries are gone");
        assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::Missing { .. }), "{gone}: {error}");
    }
    let empty = disk.fork();
    for number in 1..=3 {
        empty.remove(&segment_path(dir(), number)).unwrap();
    }
    assert!(matches!(open(&empty, small(300)), Err(OpenError::Missing { .. })), "a wiped log is no new log");

    let purged = disk.fork();
    let (log, mut flusher) = open(&purged, small(300)).unwrap();
    now(&mut flusher, |done| log.purge_through(at(1, 0), done)).unwrap();
    close(log, flusher);
    purged.remove(&segment_path(dir(), 1)).unwrap();
    assert!(matches!(open(&purged, small(300)), Err(OpenError::Corrupt { .. })), "more is gone than was purged");

    let swapped = disk.fork();
    let (two, three) = (segment_path(dir(), 2), segment_path(dir(), 3));
    let content = (disk.content(&two).unwrap(), disk.content(&three).unwrap());
    swapped.set_content(&two, content.1);
    swapped.set_content(&three, content.0);
    assert!(matches!(open(&swapped, small(300)), Err(OpenError::Corrupt { .. })));

    let older = disk.fork();
    let (log, mut flusher) = open(&older, small(1 << 20)).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 9..10), done)).unwrap();
    close(log, flusher);
    older.set_content(&segment_path(dir(), 3), disk.content(&segment_path(dir(), 3)).unwrap());
    let error = open(&older, small(300)).err().expect("an old copy lacks what was done since");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_torn_end_is_cut_at_each_offset_and_work_goes_on() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions::default()).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 0..3), done)).unwrap();
    let path = segment_path(dir(), 1);
    let durable = disk.content(&path).unwrap();
    let mark = disk.content(&mark_path(dir())).unwrap();
    log.append(entries(1, 3..6), Box::new(|_| {}));
    flusher.step();
    let written = disk.content(&path).unwrap();
    for kept in durable.len()..=written.len() {
        for rest in [0, 50] {
            let torn = MemoryDisk::new();
            // The length reached the disk, the data after `kept` did not.
            let mut content = written[..kept].to_vec();
            content.resize(kept + rest, 0);
            torn.set_content(&path, content);
            torn.set_content(&mark_path(dir()), mark.clone());
            let (log, mut flusher) = open(&torn, LogOptions::default()).unwrap();
            let found = all(&log);
            assert!(found.len() >= 3, "{kept}");
            assert_eq!(found, entries(1, 0..found.len() as u64), "{kept}");
            let next = found.len() as u64;
            now(&mut flusher, |done| log.append(entries(2, next..next + 2), done)).unwrap();
            close(log, flusher);
            torn.crash(0);
            let (log, _flusher) = open(&torn, LogOptions::default()).unwrap();
            assert_eq!(all(&log), [entries(1, 0..next), entries(2, next..next + 2)].concat(), "{kept}");
        }
    }
}

#[test]
fn a_round_of_which_only_the_middle_is_lost_is_a_torn_end() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions::default()).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 0..3), done)).unwrap();
    let path = segment_path(dir(), 1);
    let (start, mark) = (disk.content(&path).unwrap().len(), disk.content(&mark_path(dir())).unwrap());
    log.append(entries(1, 3..9), Box::new(|_| {}));
    flusher.step();
    let mut content = disk.content(&path).unwrap();
    content[start + 70..start + 90].fill(0);
    let torn = MemoryDisk::new();
    torn.set_content(&path, content);
    torn.set_content(&mark_path(dir()), mark);
    let (log, mut flusher) = open(&torn, LogOptions::default()).unwrap();
    assert_eq!(all(&log), entries(1, 0..4), "sectors may reach the disk in any order");
    // Exactly as long as the lost one: what followed that must not follow this.
    now(&mut flusher, |done| log.append(entries(1, 4..5), done)).unwrap();
    close(log, flusher);
    let (log, _flusher) = open(&torn, LogOptions::default()).unwrap();
    assert_eq!(all(&log), entries(1, 0..5));
}

#[test]
fn damaged_entries_are_not_read() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions { cache_bytes: 0, ..LogOptions::default() }).unwrap();
    now(&mut flusher, |done| log.append(entries(1, 0..3), done)).unwrap();
    let path = segment_path(dir(), 1);
    let content = disk.content(&path).unwrap();
    let file = disk.open(&path, crate::disk::OpenMode::Write).unwrap();
    file.write_at(&[content[content.len() - 1] ^ 1], content.len() as u64 - 1).unwrap();
    assert_eq!(log.read(Index(0)..Index(2), 1000).unwrap().len(), 2);
    assert!(matches!(log.read(Index(0)..Index(3), 1000), Err(ReadError::Corrupt { .. })));
}

#[test]
fn after_a_failure_nothing_is_done_ever_again() {
    for (point, error) in [
        (FaultPoint::Write, io::ErrorKind::StorageFull),
        (FaultPoint::Sync, io::ErrorKind::Other),
        (FaultPoint::Dir, io::ErrorKind::ReadOnlyFilesystem),
    ] {
        let disk = MemoryDisk::new();
        let (log, mut flusher) = open(&disk, small(300)).unwrap();
        let (ok, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = || -> Done {
            let (ok, failed) = (Arc::clone(&ok), Arc::clone(&failed));
            Box::new(move |result| _ = if result.is_ok() { &ok } else { &failed }.fetch_add(1, Ordering::Relaxed))
        };
        log.append(entries(1, 0..4), count());
        flusher.step();
        disk.fail(Fault { point, after: 0, error, forever: false });
        log.append(entries(1, 4..8), count());
        log.save_vote(Bytes::from_static(b"v"), count());
        assert_eq!(flusher.step(), Step::Failed, "{point:?}");
        assert_eq!((ok.load(Ordering::Relaxed), failed.load(Ordering::Relaxed)), (1, 2));
        // The disk works again, the log does not.
        log.append(entries(1, 8..9), count());
        log.save_vote(Bytes::from_static(b"w"), count());
        assert_eq!(flusher.step(), Step::Failed);
        assert_eq!((ok.load(Ordering::Relaxed), failed.load(Ordering::Relaxed)), (1, 4));
        let failure = log.failure().unwrap();
        assert!(matches!(&failure, LogFailure::Disk { source, .. } if source.kind() == error), "{failure}");
        assert!(failure.to_string().contains("/n1/log/"), "names the file: {failure}");
        drop((log, flusher));
        disk.kill();
        // What was not reported done may be there or not; what was is.
        let (log, mut flusher) = open(&disk, small(300)).unwrap();
        assert!(all(&log).len() >= 4);
        let next = log.bounds().last.unwrap().index.0 + 1;
        now(&mut flusher, |done| log.append(entries(1, next..next + 1), done)).unwrap();
        drop((log, flusher));
        disk.crash(0);
        let (log, _flusher) = open(&disk, small(300)).unwrap();
        assert_eq!(all(&log).len() as u64, next + 1, "{point:?}: a sync that failed once must not leave a hole behind");
    }
}

/// A disk that does something else while it syncs.
struct Meanwhile(MemoryDisk, Action);

type Action = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

struct MeanwhileFile(Arc<dyn DiskFile>, Action);

impl Disk for Meanwhile {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn open(&self, path: &Path, mode: crate::disk::OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(MeanwhileFile(self.0.open(path, mode)?, Arc::clone(&self.1))))
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<crate::disk::DiskLock>> {
        self.0.try_lock(path)
    }
}

impl DiskFile for MeanwhileFile {
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

#[test]
fn an_entry_replaced_while_its_forerunner_is_written_is_read_as_the_new_one() {
    let action = Arc::new(Mutex::new(None::<Box<dyn FnOnce() + Send>>));
    let disk = Meanwhile(MemoryDisk::new(), Arc::clone(&action));
    let (log, mut flusher) = Log::open(Arc::new(disk), dir(), LogOptions { cache_bytes: 0, ..LogOptions::default() }).unwrap();
    log.append(entries(1, 0..4), Box::new(|_| {}));
    let other = log.clone();
    *action.lock().unwrap() = Some(Box::new(move || {
        other.truncate_after(Some(Index(1)), Box::new(|_| {}));
        other.append(entries(2, 2..4), Box::new(|_| {}));
    }));
    assert_eq!(flusher.step(), Step::Flushed(1));
    let want = [entries(1, 0..2), entries(2, 2..4)].concat();
    assert_eq!(all(&log), want, "not yet written, so from memory");
    assert_eq!(flusher.step(), Step::Flushed(2));
    assert_eq!(log.stats().cached_bytes, 0);
    assert_eq!(all(&log), want);
}

#[test]
fn a_dropped_flusher_tells_those_who_wait() {
    let disk = MemoryDisk::new();
    let (log, flusher) = open(&disk, LogOptions::default()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = || -> Done {
        let told = Arc::clone(&told);
        Box::new(move |result| told.lock().unwrap().push(result))
    };
    log.append(entries(1, 0..1), tell());
    drop(flusher);
    log.append(entries(1, 1..2), tell());
    assert!(matches!(told.lock().unwrap()[..], [Err(LogFailure::Closed), Err(LogFailure::Closed)]));
}

#[test]
fn the_waker_is_called_for_each_thing_to_do() {
    let disk = MemoryDisk::new();
    let (log, _flusher) = open(&disk, LogOptions::default()).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    log.set_waker(Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
    log.append(entries(1, 0..1), Box::new(|_| {}));
    log.save_committed(None);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    drop(log);
    assert_eq!(woken.load(Ordering::Relaxed), 2, "the end is something to do");
}

#[test]
fn threads_share_syncs_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let (log, flusher) = Log::open(Arc::new(FsDisk), &dir, LogOptions { segment_bytes: 64 << 10, cache_bytes: 8 << 10 }).unwrap();
    let flushing = std::thread::spawn(move || flusher.run());
    let done = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let log = log.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    let last = log.bounds().last.map_or(0, |last| last.index.0 + 1);
                    let from = if reader == 0 { 0 } else { last.saturating_sub(20 + round) };
                    let read = log.read(Index(from)..Index(last), 20_000).unwrap();
                    assert!(
                        read.iter().zip(from..).all(|(entry, index)| *entry == self::entry(1, index, &format!("entry {index} of term 1")))
                    );
                }
            });
        }
        for index in 0..3000 {
            let done = Arc::clone(&done);
            log.append(
                entries(1, index..index + 1),
                Box::new(move |result| {
                    result.unwrap();
                    assert_eq!(done.fetch_add(1, Ordering::Relaxed), index, "in order");
                }),
            );
        }
    });
    let stats = log.stats();
    drop(log);
    flushing.join().unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 3000);
    assert!(stats.rounds < 2000, "{stats:?}");
    let (log, _flusher) = Log::open(Arc::new(FsDisk), &dir, LogOptions::default()).unwrap();
    assert_eq!(all(&log), entries(1, 0..3000));
    assert!(log.stats().segments > 2);
}

#[test]
fn a_long_log_opens_fast() {
    let disk = MemoryDisk::new();
    let (log, mut flusher) = open(&disk, LogOptions { segment_bytes: 1 << 20, cache_bytes: 0 }).unwrap();
    let payload = Bytes::from(vec![7; 200]);
    for start in (0..100_000).step_by(1000) {
        let entries = (start..start + 1000).map(|index| LogEntry { position: at(1, index), payload: payload.clone() }).collect();
        now(&mut flusher, |done| log.append(entries, done)).unwrap();
    }
    close(log, flusher);
    let started = std::time::Instant::now();
    let (log, _flusher) = open(&disk, LogOptions::default()).unwrap();
    let took = started.elapsed();
    assert_eq!(log.bounds().last, Some(at(1, 99_999)));
    // 24 MB; a release build takes some 20 ms. Quadratic work would take minutes.
    assert!(took.as_secs() < 20, "{took:?}");
}

/// What the log should hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    entries: BTreeMap<u64, (u64, Bytes)>,
    purged: Option<Position>,
    vote: Option<Bytes>,
}

impl Model {
    fn last(&self) -> Option<Position> {
        self.entries.last_key_value().map(|(index, (term, _))| at(*term, *index)).or(self.purged)
    }

    fn of(log: &Log) -> Model {
        let model = Model {
            entries: all(log).into_iter().map(|LogEntry { position, payload }| (position.index.0, (position.term.0, payload))).collect(),
            purged: log.bounds().purged,
            vote: log.vote(),
        };
        assert_eq!(log.bounds().last, model.last());
        model
    }
}

/// One life after the other of a log with random calls, faults and crashes, compared with a [`Model`].
fn live_and_crash(seed: u64) {
    let mut dice = Dice::new(seed);
    let options = LogOptions { segment_bytes: 1 + dice.below(1500), cache_bytes: dice.below(400) as usize };
    let disk = MemoryDisk::new();
    let mut model = Model::default();
    let mut committed: Vec<Option<Position>> = vec![None];
    for life in 0..4 {
        let (log, mut flusher) = open(&disk, options).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}: {error:?}"));
        if life == 0 {
            assert_eq!(Model::of(&log), model);
        }
        // The state after each frame, and how many of those were reported done.
        let mut states = vec![model.clone()];
        let done = Arc::new(AtomicUsize::new(0));
        let mut committed_done = committed.len() - 1;
        if dice.below(3) == 0 {
            let point = [FaultPoint::Write, FaultPoint::Sync, FaultPoint::Dir, FaultPoint::Change][dice.below(4) as usize];
            disk.fail(Fault { point, after: dice.below(30), error: io::ErrorKind::Other, forever: dice.below(2) == 0 });
        }
        for _ in 0..dice.below(60) {
            let count_from = states.len() - 1;
            let call: Box<dyn FnOnce(Done)> = match dice.below(12) {
                0..=4 => {
                    let first = model.last().map_or(0, |last| last.index.0 + 1);
                    let term = model.last().map_or(1, |last| last.term.0) + dice.below(2);
                    let mut entries = Vec::new();
                    for index in first..first + dice.below(5) {
                        let payload = Bytes::from(vec![dice.next() as u8; dice.below(300) as usize]);
                        model.entries.insert(index, (term, payload.clone()));
                        states.push(model.clone());
                        entries.push(LogEntry { position: at(term, index), payload });
                    }
                    let log = log.clone();
                    Box::new(move |done| log.append(entries, done))
                }
                5 => {
                    let vote = Bytes::from(dice.next().to_le_bytes().to_vec());
                    model.vote = Some(vote.clone());
                    states.push(model.clone());
                    let log = log.clone();
                    Box::new(move |done| log.save_vote(vote, done))
                }
                6 => {
                    let keep = model.last().map_or(0, |last| last.index.0.saturating_sub(dice.below(6)));
                    let keep = (dice.below(20) > 0).then_some(keep);
                    model.entries.retain(|index, _| keep.is_some_and(|keep| *index <= keep));
                    states.push(model.clone());
                    let log = log.clone();
                    Box::new(move |done| log.truncate_after(keep.map(Index), done))
                }
                7 => {
                    let Some(last) = model.last() else { continue };
                    let first = model.entries.keys().next().copied().unwrap_or(last.index.0);
                    let index = (first + dice.below(8)).max(model.purged.map_or(0, |purged| purged.index.0));
                    let term = model.entries.get(&index).map_or(last.term.0, |(term, _)| *term);
                    if model.purged.is_none_or(|purged| purged.index.0 < index) {
                        model.purged = Some(at(term, index));
                        model.entries.retain(|other, _| *other > index);
                    }
                    states.push(model.clone());
                    let log = log.clone();
                    Box::new(move |done| log.purge_through(at(term, index), done))
                }
                8 => {
                    let position = (dice.below(5) > 0).then(|| at(1, dice.below(100)));
                    committed.push(position);
                    log.save_committed(position);
                    continue;
                }
                _ => {
                    let saved = committed.len() - 1;
                    if let Step::Flushed(_) = flusher.step() {
                        committed_done = saved;
                    }
                    continue;
                }
            };
            let (counter, count_to) = (Arc::clone(&done), states.len() - 1);
            call(Box::new(move |result| {
                if result.is_ok() {
                    assert!(counter.swap(count_to, Ordering::Relaxed) <= count_from, "in order");
                }
            }));
            if log.failure().is_none() {
                assert_eq!(Model::of(&log), model, "seed {seed}: readable at once");
            }
        }
        let finish = dice.below(4) == 0;
        drop(log);
        if finish {
            let saved = committed.len() - 1;
            loop {
                match flusher.step() {
                    Step::Closed => break committed_done = saved,
                    Step::Failed => break,
                    _ => {}
                }
            }
        }
        let done = done.load(Ordering::Relaxed);
        drop(flusher);
        if dice.below(4) == 0 {
            disk.kill()
        } else {
            disk.crash(dice.next())
        }
        // Power is lost again while the log is being opened.
        while dice.below(4) == 0 {
            disk.fail(Fault { point: FaultPoint::Change, after: dice.below(8), error: io::ErrorKind::Other, forever: true });
            _ = open(&disk, options);
            disk.crash(dice.next());
        }

        let (log, flusher) = open(&disk, options).unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}: {error:?}"));
        let found = Model::of(&log);
        assert!(
            states[done..].contains(&found),
            "seed {seed} life {life}: found {found:#?}\nwhich is none of the {} states after frame {done}, the first being {:#?}",
            states.len() - done,
            states[done],
        );
        assert!(committed[committed_done..].contains(&log.committed()), "seed {seed} life {life}: {:?}", log.committed());
        committed = vec![log.committed()];
        model = found;
        drop((log, flusher));
        disk.kill();
    }
}

#[test]
fn whatever_happens_what_was_done_is_there_and_nothing_else() {
    // More with CONCLAVE_SEEDS=100000; a failing seed is named in the panic.
    let seeds = std::env::var("CONCLAVE_SEEDS").map_or(800, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        live_and_crash(seed);
    }
}

/// Power is lost after each single operation that changes something.
#[test]
fn power_may_go_at_any_operation() {
    let script = |disk: &MemoryDisk, acknowledged: &mut Vec<u64>| {
        let Ok((log, mut flusher)) = open(disk, small(250)) else { return };
        for index in 0..12 {
            if now(&mut flusher, |done| log.append(entries(1, index..index + 1), done)).is_err() {
                return;
            }
            acknowledged.push(index);
            if index == 8 && now(&mut flusher, |done| log.purge_through(at(1, 6), done)).is_err() {
                return;
            }
        }
    };
    let whole = MemoryDisk::new();
    script(&whole, &mut Vec::new());
    for operation in 0..whole.operations() {
        for seed in 0..8 {
            let disk = MemoryDisk::new();
            disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
            let mut acknowledged = Vec::new();
            script(&disk, &mut acknowledged);
            disk.crash(seed);
            let (log, _flusher) = open(&disk, small(250)).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
            let purged = log.bounds().purged.map_or(0, |purged| purged.index.0 + 1);
            let found = all(&log);
            assert_eq!(found, entries(1, purged..purged + found.len() as u64), "{operation} {seed}");
            let count = log.bounds().last.map_or(0, |last| last.index.0 + 1);
            assert!(count >= acknowledged.len() as u64, "{operation} {seed}");
        }
    }
}

#[test]
fn paths_are_of_the_given_folder() {
    assert_eq!(segment_path(dir(), 7), PathBuf::from("/n1/log/00000000000000000007.log"));
}
