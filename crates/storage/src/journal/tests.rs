//! The journal on a disk that loses power, fails, and is written to by others.
//!
//! Always: what was reported written is found again, in its place; no change of it goes unseen. Golden bytes are in `tests/golden/storage`.

use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::*;
use crate::disk::{Fault, FaultPoint, MemoryDisk};

const DIR: &str = "/var/n1/journal";
const SMALL: Limits = Limits { file_bytes: 1500, files: 3 };

/// A clock that stands until it is moved.
#[derive(Clone)]
struct Standing(Arc<AtomicU64>);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A disk with a data folder.
fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/var/n1")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/var")).unwrap();
    disk
}

fn clock() -> Standing {
    // 2026-11-24T12:00:00Z.
    Standing(Arc::new(AtomicU64::new(1_795_521_600_000)))
}

fn node() -> NodeId {
    NodeId::parse("n1").unwrap()
}

fn cluster() -> ClusterId {
    ClusterId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))
}

fn open_with(limits: Limits, disk: &MemoryDisk) -> Result<Journal, OpenError> {
    Journal::open_with(limits, Arc::new(disk.clone()), Path::new(DIR), &node(), None, Arc::new(clock()))
}

fn open(disk: &MemoryDisk) -> Journal {
    open_with(LIMITS, disk).unwrap()
}

fn act(act: &'static str) -> NewEntry {
    NewEntry { act, outcome: "done".into(), ..NewEntry::default() }
}

fn refusal() -> NewEntry {
    NewEntry { act: "share_refused", outcome: "refused".into(), is_refusal: true, ..NewEntry::default() }
}

/// Number and act of every entry that can be read.
fn acts(journal: &Journal) -> Vec<(u64, String)> {
    journal.after(0, usize::MAX).unwrap().into_iter().map(|line| (line.sequence, line.act)).collect()
}

fn numbered(acts: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(acts.iter().map(|act| (*act).to_owned())).collect()
}

fn path(number: u64) -> PathBuf {
    file_path(Path::new(DIR), number)
}

#[test]
fn golden_files_of_version_1() {
    let disk = disk();
    let journal = open(&disk);
    journal
        .append(NewEntry {
            fields: vec![("shares", Field::Number(5)), ("threshold", Field::Number(3)), ("remote", Field::Text("192.0.2.7:4711".into()))],
            ..act("initialized")
        })
        .unwrap();
    journal.bind_cluster(cluster());
    journal
        .append(NewEntry {
            fields: vec![
                ("share", Field::Number(2)),
                ("holder", Field::Text("Zo\u{eb} \"Z\"\n".into())),
                ("digest", Field::Text("0123456789abcdef".into())),
            ],
            ..act("share_accepted")
        })
        .unwrap();
    let golden = crate::golden::check("golden/storage/journal-v1.jsonl", &disk.content(&path(1)).unwrap());
    let checked = check(&golden);
    assert_eq!((&checked.end, checked.lines.len()), (&End::Whole, 2));
    assert_eq!(checked.lines[0].time, "2026-11-24T12:00:00.000Z");
    assert_eq!((checked.lines[1].text("holder"), checked.lines[1].number("share")), (Some("Zo\u{eb} \"Z\"?"), Some(2)));
    let head = checked.head;
    for (golden, broken) in [("golden/storage/journal-next-v1.jsonl", None), ("golden/storage/journal-broken-v1.jsonl", Some(7))] {
        let header = Header { file: 2, node: node(), cluster: Some(cluster()), next: 3, broken, previous: head };
        let mut line = header.encode();
        line.push(b'\n');
        let checked = check(&crate::golden::check(golden, &line));
        assert_eq!((checked.header, checked.end), (Some(header), End::Whole), "{golden}");
    }
}

#[test]
fn entries_are_kept_in_order_and_found_again() {
    let disk = disk();
    let journal = open(&disk);
    assert_eq!((journal.last(), acts(&journal)), (0, Vec::new()));
    let Appended::Written { sequence: 1, hash } = journal.append(act("a")).unwrap() else { panic!("it is the first") };
    journal.append(act("b")).unwrap();
    assert_eq!(journal.after(0, 1).unwrap()[0].hash, hash);
    disk.crash(0);
    let journal = open(&disk);
    journal.append(act("c")).unwrap();
    assert_eq!((journal.last(), acts(&journal)), (3, numbered(&["a", "b", "c"])));
    assert_eq!(journal.after(1, 1).unwrap().iter().map(|line| line.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(journal.after(3, 9).unwrap(), []);
}

#[test]
fn files_follow_each_other_and_old_ones_go() {
    let disk = disk();
    let journal = open_with(SMALL, &disk).unwrap();
    for _ in 0..40 {
        journal.append(act("a")).unwrap();
    }
    let numbers = file_numbers(&disk, Path::new(DIR)).unwrap();
    let newest = *numbers.last().unwrap();
    assert_eq!(numbers, [newest - 2, newest - 1, newest]);
    assert!(newest > 5);
    let mut previous = None;
    let mut count = 0;
    for number in numbers {
        let bytes = disk.content(&path(number)).unwrap();
        assert!((bytes.len() as u64) <= SMALL.file_bytes);
        let checked = check(&bytes);
        let header = checked.header.clone().unwrap();
        assert_eq!((&checked.end, header.file), (&End::Whole, number));
        assert!(previous.is_none() || previous == Some((header.previous, header.next)));
        previous = Some((checked.head, checked.next()));
        count += checked.lines.len();
    }
    let found = journal.after(0, usize::MAX).unwrap();
    assert_eq!((found.len(), found.last().unwrap().sequence), (count, 40));
    for sequence in 1..=40 {
        let found = journal.after(sequence - 1, 1).unwrap();
        let oldest = 41 - count as u64;
        assert_eq!(found[0].sequence, sequence.max(oldest));
    }
    let journal = open_with(SMALL, &disk).unwrap();
    assert_eq!(journal.last(), 40);
}

#[test]
fn refusals_are_limited_and_those_left_out_are_told() {
    let disk = disk();
    let clock = clock();
    let journal = Journal::open(Arc::new(disk.clone()), Path::new(DIR), &node(), None, Arc::new(clock.clone())).unwrap();
    let refuse = |count: usize| (0..count).filter(|_| journal.append(refusal()).unwrap() != Appended::LeftOut).count();
    assert_eq!(refuse(100), REFUSALS_MAX as usize);
    journal.append(act("a")).unwrap();
    journal.append(act("b")).unwrap();
    let left_out = |line: &Line| line.number("left_out");
    let lines = journal.after(u64::from(REFUSALS_MAX), 9).unwrap();
    assert_eq!(lines.iter().map(left_out).collect::<Vec<_>>(), [Some(80), None]);
    let move_ms = |ms: u64| clock.0.fetch_add(ms, Ordering::Relaxed);
    move_ms(REFUSALS_REFILL.as_millis() as u64 * 5 / 2);
    assert_eq!(refuse(10), 2);
    move_ms(REFUSALS_REFILL.as_millis() as u64 / 2);
    assert_eq!(refuse(10), 1, "no part of the time is lost");
    clock.0.fetch_sub(1_000_000_000, Ordering::Relaxed);
    assert_eq!(refuse(10), 0);
    move_ms(REFUSALS_REFILL.as_millis() as u64);
    assert_eq!(refuse(10), 1, "a clock that was set back is no obstacle");
    move_ms(1_000_000_000_000);
    assert_eq!(refuse(100), REFUSALS_MAX as usize);
}

#[test]
fn the_largest_entry_fits_a_line() {
    let disk = disk();
    let journal = open(&disk);
    let names = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "fa", "fb"];
    assert_eq!(names.len(), FIELDS_MAX);
    for text in ["\"", "\\", "\0", "\u{1f512}", "a"] {
        let text = text.repeat(1000);
        let fields = names.into_iter().map(|name| (name, Field::Text(text.clone()))).collect();
        journal.append(NewEntry { act: "a", outcome: text, fields, is_refusal: false }).unwrap();
    }
    for line in journal.after(0, 9).unwrap() {
        assert_eq!(line.outcome.len(), TEXT_BYTES_MAX);
    }
    assert_eq!(check(&disk.content(&path(1)).unwrap()).end, End::Whole);
}

#[test]
#[should_panic(expected = "every entry has a field \"node\" of its own")]
fn no_field_hides_another() {
    let _ = open(&disk()).append(NewEntry { fields: vec![("node", Field::Number(1))], ..act("a") });
}

/// A file of three entries, and where its lines begin.
fn three() -> (Vec<u8>, Vec<usize>) {
    let disk = disk();
    let journal = open(&disk);
    for name in ["a", "b", "c"] {
        journal.append(act(name)).unwrap();
    }
    let bytes = disk.content(&path(1)).unwrap();
    let starts = std::iter::once(0).chain(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    let starts = starts.filter(|start| *start < bytes.len()).collect();
    (bytes, starts)
}

#[test]
fn every_changed_bit_is_found() {
    let (bytes, starts) = three();
    let whole = check(&bytes);
    assert_eq!((&whole.end, whole.lines.len()), (&End::Whole, 3));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let checked = check(&changed);
        let line = starts.iter().filter(|start| **start <= bit / 8).count();
        if line == starts.len() {
            // The last line has no witness in the file: what is still an entry is taken, and what is none may be torn. Its hash differs.
            assert_ne!(checked.head, whole.head, "bit {bit}");
            assert!(!matches!(checked.end, End::Broken(Broken { line, .. }) if line != 4), "bit {bit}: {:?}", checked.end);
        } else {
            // In the line itself, or in the next, which names its hash.
            let End::Broken(broken) = checked.end else { panic!("bit {bit} was not noticed: {:?}", checked.end) };
            assert!((line..=line + 1).contains(&(broken.line as usize)), "bit {bit}: {broken}");
        }
    }
}

#[test]
fn lines_cannot_be_left_out_moved_or_repeated() {
    let (bytes, _) = three();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for (order, at) in [
        (&[0, 2, 3][..], 2),
        (&[0, 1, 3], 3),
        (&[0, 1, 3, 2], 3),
        (&[0, 1, 1, 2, 3], 3),
        (&[0, 1, 2, 3, 3], 5),
        (&[1, 2, 3], 1),
        (&[0, 0, 1, 2, 3], 2),
    ] {
        let bytes: Vec<u8> = order.iter().flat_map(|place| lines[*place]).copied().collect();
        let End::Broken(broken) = check(&bytes).end else { panic!("{order:?} was not noticed") };
        assert_eq!(broken.line, at, "{order:?}: {broken}");
    }
    // Only another witness can tell that the end is missing.
    assert_eq!(check(&[lines[0], lines[1]].concat()).end, End::Whole);
}

#[test]
fn faults_are_told_with_their_line() {
    let (bytes, _) = three();
    let text = String::from_utf8(bytes).unwrap();
    let hash_b = LineHash::of(text.lines().nth(2).unwrap().as_bytes()).to_string();
    for (from, to, says) in [
        ("\"sequence\":3", "\"sequence\":4", "line 4: it is entry 4, and entry 3 was to come"),
        (
            "\"sequence\":3,\"time\":\"2026-11-24T12:00:00.000Z\",\"node\":\"n1\"",
            "\"sequence\":3,\"time\":\"2026-11-24T12:00:00.000Z\",\"node\":\"n2\"",
            "line 4: it is of node n2, and the journal is of node n1",
        ),
        (&*hash_b, &"0".repeat(64), &*format!("line 4: it names {} as the hash of the line before it, which has {hash_b}", "0".repeat(64))),
        ("{\"v\":1,\"sequence\":3", "{\"v\":2,\"sequence\":3", "line 4: version 2, and this release reads version 1"),
        ("conclave journal", "other journal", "line 1: malformed: it is no header of a journal"),
    ] {
        let End::Broken(broken) = check(text.replace(from, to).as_bytes()).end else { panic!("{says}") };
        assert_eq!(broken.to_string(), says);
    }
    for empty in ["", "\n", "{}\n", "[]\n", "x"] {
        assert!(matches!(check(empty.as_bytes()).end, End::Broken(Broken { line: 1, .. })), "{empty:?}");
    }
    let twice = text.replace("\"act\":\"c\"", "\"act\":\"c\",\"act\":\"c\"");
    assert!(matches!(check(twice.as_bytes()).end, End::Torn { .. }), "a name that comes twice is no spelling of ours");
}

#[test]
fn a_torn_end_is_cut_off_kept_and_noted() {
    let (bytes, starts) = three();
    let last = *starts.last().unwrap();
    for end in last + 1..bytes.len() {
        for zeros in [0, 9] {
            let disk = disk();
            let torn = [&bytes[..end], &vec![0; zeros][..]].concat();
            disk.set_content(&path(1), torn.clone());
            let journal = open(&disk);
            assert_eq!(acts(&journal), numbered(&["a", "b", ACT_TORN]), "{end}");
            let line = journal.after(2, 1).unwrap().remove(0);
            assert_eq!(line.number("bytes"), Some((torn.len() - last) as u64));
            assert_eq!(line.text("sha256"), Some(&*LineHash::of(&torn[last..]).to_string()));
            assert_eq!(disk.content(&Path::new(DIR).join("00000001.torn")).unwrap(), &torn[last..]);
        }
    }
}

#[test]
fn a_broken_file_is_kept_and_another_goes_on() {
    let (bytes, starts) = three();
    let mut changed = bytes.clone();
    changed[starts[2] + 70] ^= 1;
    for (content, line, readable) in [
        (changed, 3, &["a"][..]),
        (bytes[1..].to_vec(), 1, &[]),
        (Vec::new(), 1, &[]),
        ([&bytes[..], &[b'x'; 3 * LINE_BYTES_MAX]].concat(), 5, &["a", "b", "c"]),
        ([&bytes[..], &vec![b'x'; file_bytes_max()]].concat(), 1, &[]),
        (String::from_utf8(bytes.clone()).unwrap().replace("\"n1\"", "\"n2\"").into_bytes(), 1, &[]),
    ] {
        let disk = disk();
        disk.set_content(&path(1), content.clone());
        let journal = open(&disk);
        journal.append(act("d")).unwrap();
        assert_eq!(disk.content(&path(1)).unwrap(), content, "it is evidence");
        let checked = check(&disk.content(&path(2)).unwrap());
        let header = checked.header.clone().unwrap();
        assert_eq!((header.broken, header.previous), (Some(line), Some(LineHash::of(&content))));
        let lines = content.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(header.next > 3 || lines < 4, "numbers are not given twice: {}", header.next);
        let found = journal.after(0, usize::MAX).unwrap();
        let found: Vec<&str> = found.iter().map(|line| &*line.act).collect();
        let want: Vec<&str> = readable.iter().copied().chain([ACT_BROKEN, "d"]).collect();
        // Of a file that is another node's, the chain is whole.
        if line == 1 && found.len() > want.len() {
            assert_eq!(found[found.len() - 2..], want[..]);
        } else {
            assert_eq!(found, want);
        }
        let note = &checked.lines[0];
        assert_eq!((note.number("file"), note.number("line")), (Some(1), Some(line)));
        let last = journal.last();
        assert_eq!(open(&disk).last(), last, "the next start finds nothing wrong");
    }
}

#[test]
fn a_disk_that_fails_once_costs_one_entry() {
    for point in [FaultPoint::Write, FaultPoint::Sync] {
        for seed in 0..16 {
            let disk = disk();
            let journal = open(&disk);
            journal.append(act("a")).unwrap();
            disk.fail(Fault { point, after: 0, error: io::ErrorKind::StorageFull, forever: false });
            let long = NewEntry { outcome: "o".repeat(TEXT_BYTES_MAX), ..act("b") };
            assert!(journal.append(long).is_err());
            assert_eq!((journal.failures(), journal.last()), (1, 1));
            journal.append(act("c")).unwrap();
            assert_eq!(acts(&journal), numbered(&["a", "c"]));
            disk.crash(seed);
            assert_eq!(acts(&open(&disk)), numbered(&["a", "c"]));
        }
    }
}

/// Whatever was reported written is there after the power went, in its place, and the chain is whole.
#[test]
fn power_may_go_at_any_operation() {
    let script = |disk: &MemoryDisk| {
        let mut written = Vec::new();
        let Ok(journal) = open_with(SMALL, disk) else { return written };
        for outcome in (0..12).map(|at| "o".repeat(1 + at * 20)) {
            // After an error the next is tried, as a node does.
            let entry = NewEntry { outcome, ..act("a") };
            if let Ok(Appended::Written { sequence, hash }) = journal.append(entry) {
                written.push((sequence, hash));
            }
        }
        written
    };
    let whole = disk();
    let keep_all = Limits { files: 100, ..SMALL };
    script(&whole);
    for operation in 0..whole.operations() {
        for seed in 0..16 {
            for forever in [true, false] {
                let disk = disk();
                disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever });
                let written = script(&disk);
                disk.crash(seed);
                let journal = open_with(keep_all, &disk).unwrap_or_else(|error| panic!("{operation} {seed}: {error}"));
                journal.append(act("after")).unwrap();
                let found = journal.after(0, usize::MAX).unwrap();
                assert!(found.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{operation} {seed}");
                assert!(found.iter().all(|line| line.act != ACT_BROKEN), "{operation} {seed}: {found:?}");
                let oldest = found[0].sequence;
                for (sequence, hash) in written.into_iter().filter(|(sequence, _)| *sequence >= oldest) {
                    let is_there = found.iter().any(|line| (line.sequence, line.hash) == (sequence, hash));
                    assert!(is_there, "{operation} {seed} {forever}: entry {sequence} is lost");
                }
            }
        }
    }
}

/// The faults of each file, as texts.
fn faults(files: &[Vec<u8>]) -> Vec<Vec<String>> {
    let mut verifier = Verifier::new();
    files.iter().map(|bytes| verifier.file(bytes).faults.iter().map(ToString::to_string).collect()).collect()
}

#[test]
fn files_are_verified_together() {
    let disk = disk();
    let journal = open_with(SMALL, &disk).unwrap();
    for _ in 0..20 {
        journal.append(act("a")).unwrap();
    }
    let files: Vec<Vec<u8>> =
        (1..=3).map(|at| disk.content(&path(file_numbers(&disk, Path::new(DIR)).unwrap()[at - 1])).unwrap()).collect();
    let whole = check(&files[0]);
    let (first, next) = (whole.header.clone().unwrap().file, whole.next());
    assert_eq!(faults(&files), [[""; 0]; 3]);
    assert_eq!(faults(&files[1..]), [[""; 0]; 2], "older files may have been archived");
    let lines: Vec<&[u8]> = files[0].split_inclusive(|byte| *byte == b'\n').collect();
    let shorter = lines[..lines.len() - 1].concat();
    let broken = [&files[0][..400], b"x", &files[0][400..]].concat();
    let torn = [&files[0][..], b"{\"v\":1,\"sequ"].concat();
    let with = |first: Vec<u8>| [first, files[1].clone()];
    for (files, says) in [
        (&[files[0].clone(), files[2].clone()], format!("line 1: it is file {}, and file {} was to come", first + 2, first + 1)),
        (&[files[1].clone(), files[0].clone()], format!("line 1: it is file {first}, and file {} was to come", first + 2)),
        (&with(shorter.clone()), "line 1: it goes on from a line or file with the hash ".to_owned()),
        (&with(broken), "line 1: it goes on from a line or file with the hash ".to_owned()),
        (&with(torn), "its end is torn, and yet another file goes on from it".to_owned()),
    ] {
        let found = faults(files).pop().unwrap().concat();
        assert!(found.starts_with(&says), "{found}");
    }
    let head = check(&shorter).head;
    let header = |file, node, cluster, next, broken, previous| {
        let mut line = Header { file, node: NodeId::parse(node).unwrap(), cluster, next, broken, previous }.encode();
        line.push(b'\n');
        line
    };
    let whole = Some(LineHash::of(&shorter));
    for (second, says) in [
        (header(first + 1, "n1", None, next - 1, None, head), String::new()),
        (header(first + 1, "n1", None, next + 9, Some(3), whole), String::new()),
        (
            header(first + 1, "n1", None, next + 9, None, head),
            format!("line 1: it begins with entry {}, and entry {} was to come", next + 9, next - 1),
        ),
        (header(first + 1, "n1", None, next + 9, Some(3), head), "line 1: it goes on from a line or file with the hash ".to_owned()),
        (header(first + 1, "n2", None, next - 1, None, head), "line 1: it is of node n2, and the file before it of node n1".to_owned()),
    ] {
        let found = faults(&[shorter.clone(), second]).pop().unwrap().concat();
        assert!(found == says || !says.is_empty() && found.starts_with(&says), "{found}");
    }
    let of_cluster = |number| Some(ClusterId(Uuid::from_u128(number)));
    let first = header(1, "n1", of_cluster(1), 1, None, None);
    let head = check(&first).head;
    let found = faults(&[first, header(2, "n1", of_cluster(2), 1, None, head)]).pop().unwrap().concat();
    assert!(found.contains("is of cluster 00000000-0000-0000-0000-000000000002"), "{found}");
}

#[test]
fn a_journal_that_went_on_after_a_break_verifies_from_there() {
    let (mut bytes, starts) = three();
    bytes[starts[2] + 70] ^= 1;
    let disk = disk();
    disk.set_content(&path(1), bytes.clone());
    open(&disk).append(act("d")).unwrap();
    let second = disk.content(&path(2)).unwrap();
    let found = faults(&[bytes.clone(), second.clone()]);
    assert_eq!((found[0].len(), found[1].len()), (1, 0), "{found:?}");
    bytes.push(b'x');
    assert_eq!(faults(&[bytes, second])[1].len(), 1, "who changes the evidence is seen");
}
