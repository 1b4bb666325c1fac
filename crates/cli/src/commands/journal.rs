//! `conclave operator journal`: reads and checks journals, offline, from a data folder or from copies.
//!
//! Always: files are only read; one file at a time is in memory. What is torn at the end of the newest file is no fault: it was never
//! reported written.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use storage::journal::{self, FileReport, Header, Line, LineHash, Verifier};

use crate::args::{Journal, JournalPlaces, JournalShow, JournalVerify};
use crate::fault::Fault;
use crate::files;
use crate::output::{Printer, printable, table};

/// The folder of the journal in a data folder.
const FOLDER: &str = "journal";
/// The largest file that is read: that of a node is smaller.
const FILE_BYTES_MAX: u64 = journal::FILE_BYTES_MAX * 2;
/// Files of one journal, at most; a node keeps far fewer, an archive may have more.
const FILES_MAX: usize = 10_000;
/// The longest line of an audit log that is read.
const AUDIT_LINE_BYTES_MAX: u64 = 64 << 20;
/// Faults of one audit log that are told, at most.
const AUDIT_FAULTS_MAX: usize = 100;
/// Exit code of a journal that is not as it was written.
const BROKEN: u8 = 2;
const CURE: &str = "keep all of it as it is; compare it with the audit log (-audit=FILE), copies and the other nodes' journals: \
                    docs/operate/journal.md says what each proves";

/// Runs one of them.
pub(crate) fn run(printer: &Printer, command: &Journal) -> Result<(), Fault> {
    match command {
        Journal::Verify(args) => verify(printer, args),
        Journal::Show(args) => show(printer, args),
    }
}

/// The files of one journal, oldest first.
struct Place {
    files: Vec<PathBuf>,
}

/// What is said of one journal.
#[derive(Default)]
struct Report {
    files: Vec<PathBuf>,
    header: Option<Header>,
    entries: u64,
    first: Option<(u64, String)>,
    last: Option<(u64, String)>,
    head: Option<LineHash>,
    torn_bytes: usize,
    /// The file's name, and what is wrong.
    faults: Vec<(String, String)>,
    /// Records of the audit log that agree; `None` when none was given.
    witnessed: Option<u64>,
}

impl Report {
    fn add(&mut self, file: &Path, report: &FileReport) {
        self.files.push(file.to_owned());
        if self.header.is_none() {
            self.header.clone_from(&report.header);
        } else if let (Some(known), Some(header)) = (&mut self.header, &report.header) {
            known.cluster = known.cluster.or(header.cluster);
        }
        self.entries += report.lines.len() as u64;
        let told = |line: &Line| (line.sequence, line.time.clone());
        self.first = self.first.take().or_else(|| report.lines.first().map(told));
        self.last = report.lines.last().map(told).or_else(|| self.last.take());
        self.head = report.head.or(self.head);
        self.torn_bytes = report.torn_bytes;
        self.faults.extend(report.faults.iter().map(|fault| (file.display().to_string(), fault.to_string())));
    }

    fn name(&self) -> String {
        match &self.header {
            Some(Header { node, cluster: Some(cluster), .. }) => format!("node {node}, cluster {cluster}"),
            Some(Header { node, .. }) => format!("node {node}"),
            None => "an unknown node".to_owned(),
        }
    }

    fn to_json(&self) -> Value {
        let end = |end: &Option<(u64, String)>| end.as_ref().map(|(sequence, time)| json!({"sequence": sequence, "time": time}));
        json!({
            "node": self.header.as_ref().map(|header| header.node.as_str()),
            "cluster": self.header.as_ref().and_then(|header| header.cluster).map(|cluster| cluster.to_string()),
            "whole": self.faults.is_empty(),
            "files": self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
            "entries": self.entries,
            "first": end(&self.first),
            "last": end(&self.last),
            "head": self.head.map(|head| head.to_string()),
            "torn_bytes": self.torn_bytes,
            "audit_records": self.witnessed,
            "faults": self.faults.iter().map(|(file, fault)| json!({"file": file, "fault": fault})).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let state = if self.faults.is_empty() { "whole" } else { "BROKEN" };
        let end =
            |end: &Option<(u64, String)>| end.as_ref().map_or_else(|| "n/a".to_owned(), |(sequence, time)| format!("{sequence}, {time}"));
        let files = match (self.files.first(), self.files.last()) {
            (Some(first), Some(last)) if first != last => format!("{} to {}", first.display(), last.display()),
            (Some(only), _) => only.display().to_string(),
            (None, _) => "n/a".to_owned(),
        };
        let mut rows = vec![
            ["Chain".to_owned(), state.to_owned()],
            ["Files".to_owned(), files],
            ["Entries".to_owned(), self.entries.to_string()],
            ["First".to_owned(), end(&self.first)],
            ["Last".to_owned(), end(&self.last)],
            ["Head".to_owned(), self.head.map_or_else(|| "n/a".to_owned(), |head| head.to_string())],
        ];
        if let Some(witnessed) = self.witnessed {
            rows.push(["Audit Records".to_owned(), format!("{witnessed} agree")]);
        }
        if self.torn_bytes > 0 {
            rows.push(["Torn End".to_owned(), format!("{} bytes, never reported written", self.torn_bytes)]);
        }
        let mut text = format!("Journal of {}\n\n{}", self.name(), table(["Key", "Value"], &rows));
        for (file, fault) in &self.faults {
            write!(text, "\nBROKEN: {}: {}\n", printable(file), printable(fault)).expect("writing to a String cannot fail");
        }
        text
    }
}

fn verify(printer: &Printer, args: &JournalVerify) -> Result<(), Fault> {
    let reports = reports(args)?;
    let is_whole = reports.iter().all(|report| report.faults.is_empty());
    let whole = json!({"whole": is_whole, "journals": reports.iter().map(Report::to_json).collect::<Vec<_>>()});
    printer.answer(&whole.as_object().cloned().unwrap_or_default(), &whole, || {
        reports.iter().map(Report::to_text).collect::<Vec<_>>().join("\n")
    })?;
    if is_whole { Ok(()) } else { Err(Fault::local("the journal is not as it was written").cure(CURE).with_code(BROKEN)) }
}

fn reports(args: &JournalVerify) -> Result<Vec<Report>, Fault> {
    let mut reports = Vec::new();
    for place in places(&args.places)? {
        let (mut report, mut hashes) = (Report::default(), HashMap::new());
        read(&place, |file, read| {
            report.add(file, &read);
            if !args.audit.is_empty() {
                hashes.extend(read.lines.iter().map(|line| (line.sequence, line.hash)));
            }
        })?;
        for audit in &args.audit {
            compare(audit, &mut report, &hashes)?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Compares what an audit log has of this journal with what it is now.
fn compare(audit: &Path, report: &mut Report, hashes: &HashMap<u64, LineHash>) -> Result<(), Fault> {
    let Some(node) = report.header.as_ref().map(|header| header.node.clone()) else { return Ok(()) };
    let mut reader = BufReader::new(File::open(audit).map_err(|error| files::fault("read", audit, &error))?);
    let (first, last) =
        (report.first.as_ref().map_or(u64::MAX, |(sequence, _)| *sequence), report.last.as_ref().map_or(0, |(sequence, _)| *sequence));
    let (mut agreed, mut faults) = (0, Vec::new());
    let mut fault = |number: u64, text: String| {
        if faults.len() < AUDIT_FAULTS_MAX {
            faults.push((audit.display().to_string(), format!("line {number}: {text}")));
        }
    };
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        reader.by_ref().take(AUDIT_LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(|error| files::fault("read", audit, &error))?;
        if bytes.is_empty() {
            break;
        }
        // What is cut off or of another kind is no record of the journal.
        let Some(record) = journal_record(&bytes).filter(|record| record["journal"]["node"] == node.as_str()) else { continue };
        if let Some(error) = record["error"].as_str() {
            fault(number, error.to_owned());
        }
        let (Some(sequence), Some(hash)) = (record["journal"]["sequence"].as_u64(), record["journal"]["hash"].as_str()) else { continue };
        match hashes.get(&sequence) {
            Some(found) if found.to_string() == hash => agreed += 1,
            Some(found) => fault(number, format!("entry {sequence} was recorded with the hash {hash}, and is {found} in the journal")),
            None if sequence > last => {
                fault(number, format!("entry {sequence} was recorded with the hash {hash}, and the journal ends with entry {last}"));
            }
            None if sequence > first => {
                fault(number, format!("entry {sequence} was recorded with the hash {hash}, and cannot be read in the journal"))
            }
            // In a file that was archived.
            None => {}
        }
    }
    report.witnessed = Some(report.witnessed.unwrap_or_default() + agreed);
    report.faults.extend(faults);
    Ok(())
}

/// A record of the journal in a line of an audit log, whatever the device's prefix.
fn journal_record(line: &[u8]) -> Option<Value> {
    let begin = line.iter().position(|byte| *byte == b'{')?;
    let record: Value = serde_json::from_slice(&line[begin..]).ok()?;
    (record["type"] == "journal").then_some(record)
}

fn show(printer: &Printer, args: &JournalShow) -> Result<(), Fault> {
    let last = usize::try_from(args.last).unwrap_or(usize::MAX);
    let (mut shown, mut is_whole, mut journals) = (Vec::new(), true, 0);
    for place in places(&args.places)? {
        let (mut lines, mut left_out) = (VecDeque::new(), 0_u64);
        read(&place, |_, read| {
            is_whole &= read.faults.is_empty();
            for line in read.lines {
                if lines.len() == last {
                    lines.pop_front();
                    left_out += 1;
                }
                lines.push_back(line);
            }
        })?;
        if left_out > 0 {
            eprintln!("{left_out} older entries are not shown (-last=N shows more).");
        }
        shown.extend(lines);
        journals += 1;
    }
    if journals > 1 {
        // One ceremony at several nodes, as far as their clocks agree. RFC 3339 in one form sorts as text.
        shown.sort_by(|a: &Line, b: &Line| a.time.cmp(&b.time));
    }
    let whole = Value::Array(shown.iter().map(entry).collect());
    if printer.wants_field() {
        return Err(Fault::local("a list has no fields").cure("leave -field out; -format=json shows all of it"));
    }
    printer.answer(&Map::new(), &whole, || table(COLUMNS, &shown.iter().map(row).collect::<Vec<_>>()))?;
    if is_whole {
        Ok(())
    } else {
        Err(Fault::local("the journal is not as it was written: not all of it is shown")
            .cure("`conclave operator journal verify` says where")
            .with_code(BROKEN))
    }
}

/// An entry as programs get it: its line, and its hash.
fn entry(line: &Line) -> Value {
    let mut entry = Map::new();
    entry.insert("sequence".into(), line.sequence.into());
    entry.insert("time".into(), line.time.as_str().into());
    entry.insert("node".into(), line.node.as_str().into());
    entry.insert("act".into(), line.act.as_str().into());
    entry.insert("outcome".into(), line.outcome.as_str().into());
    entry.extend(line.fields.clone());
    entry.insert("hash".into(), line.hash.to_string().into());
    Value::Object(entry)
}

const COLUMNS: [&str; 8] = ["Entry", "Time", "Node", "Act", "Who", "Share", "Outcome", "Details"];

fn row(line: &Line) -> [String; 8] {
    let who = ["holder", "actor"].into_iter().find_map(|name| line.text(name)).unwrap_or("-");
    let share = line.number("share").map_or_else(|| "-".to_owned(), |share| share.to_string());
    let others = line.fields.iter().filter(|(name, _)| !["holder", "share"].contains(&name.as_str()) && line.text(name) != Some(who));
    let details: Vec<String> = others.map(|(name, value)| format!("{name}={}", crate::output::shown(value))).collect();
    let text = |text: &str| text.to_owned();
    [
        line.sequence.to_string(),
        text(&line.time),
        text(line.node.as_str()),
        text(&line.act),
        text(who),
        share,
        text(&line.outcome),
        details.join(" "),
    ]
}

/// Reads the files of a place in order, one at a time.
fn read(place: &Place, mut take: impl FnMut(&Path, FileReport)) -> Result<(), Fault> {
    let mut verifier = Verifier::new();
    for file in &place.files {
        let bytes = files::read(file, FILE_BYTES_MAX)?.ok_or_else(|| Fault::local(format!("{} is not there", file.display())))?;
        take(file, verifier.file(&bytes));
    }
    Ok(())
}

/// The journals that are meant: each folder is one, and all files together are one.
fn places(args: &JournalPlaces) -> Result<Vec<Place>, Fault> {
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = args.files.iter().cloned().partition(|path| path.is_dir());
    let mut places = Vec::new();
    if !files.is_empty() {
        if files.len() > 1 {
            sort(&mut files)?;
        }
        places.push(Place { files });
    }
    for folder in folders.into_iter().chain(args.data.iter().cloned()) {
        let inner = folder.join(FOLDER);
        places.push(in_folder(if inner.is_dir() { &inner } else { &folder })?);
    }
    if places.is_empty() {
        return Err(Fault::local("no journal was named")
            .cure("name a node's data folder, -data=/var/lib/conclave, or a copy of a file of its journal"));
    }
    Ok(places)
}

/// In the order of their headers; a file without one comes where its name says.
fn sort(files: &mut [PathBuf]) -> Result<(), Fault> {
    let mut keys = HashMap::new();
    for file in &*files {
        let bytes = files::read(file, FILE_BYTES_MAX)?.ok_or_else(|| Fault::local(format!("{} is not there", file.display())))?;
        let named = || file.file_name().and_then(|name| journal::file_number(name.to_str()?));
        let number = journal::check(&bytes).header.map(|header| header.file).or_else(named).unwrap_or(u64::MAX);
        keys.insert(file.clone(), number);
    }
    files.sort_by_key(|file| (keys[file], file.clone()));
    Ok(())
}

fn in_folder(folder: &Path) -> Result<Place, Fault> {
    let entries = fs::read_dir(folder).map_err(|error| files::fault("read", folder, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| files::fault("read", folder, &error))?.file_name();
        if let Some(number) = name.to_str().and_then(journal::file_number) {
            found.push((number, folder.join(name)));
        }
        if found.len() > FILES_MAX {
            return Err(
                Fault::local(format!("{} holds more than {FILES_MAX} files of a journal", folder.display())).cure("name some of them")
            );
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Fault::local(format!("{} holds no journal", folder.display()))
            .cure("a node's journal is in the folder `journal` of its data folder: 00000001.jsonl and so on"));
    }
    Ok(Place { files: found.into_iter().map(|(_, file)| file).collect() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use storage::FsDisk;
    use storage::journal::{Appended, NewEntry};
    use types::{NodeId, SystemClock};

    use super::*;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        /// A data folder with a journal of `count` entries, and their hashes.
        fn new(count: usize) -> (Fixture, Vec<LineHash>) {
            let fixture = Fixture(tempfile::tempdir().unwrap());
            let node = NodeId::parse("n1").unwrap();
            let journal =
                storage::Journal::open(Arc::new(FsDisk), &fixture.0.path().join(FOLDER), &node, None, Arc::new(SystemClock)).unwrap();
            let written = (0..count).map(|_| {
                let Appended::Written { hash, .. } =
                    journal.append(NewEntry { act: "a", outcome: "done".into(), ..NewEntry::default() }).unwrap()
                else {
                    panic!("it is no refusal")
                };
                hash
            });
            let hashes = written.collect();
            (fixture, hashes)
        }

        fn file(&self) -> PathBuf {
            self.0.path().join(FOLDER).join("00000001.jsonl")
        }

        fn write(&self, name: &str, content: &[u8]) -> PathBuf {
            let file = self.0.path().join(name);
            files::replace(&file, content).unwrap();
            file
        }

        fn verify(&self, audit: &[PathBuf]) -> Report {
            verified(&JournalPlaces { files: Vec::new(), data: vec![self.0.path().to_owned()] }, audit)
        }
    }

    fn verified(places: &JournalPlaces, audit: &[PathBuf]) -> Report {
        let places = JournalPlaces { files: places.files.clone(), data: places.data.clone() };
        reports(&JournalVerify { places, audit: audit.to_vec() }).unwrap().remove(0)
    }

    fn faults(report: &Report) -> Vec<&str> {
        report.faults.iter().map(|(_, fault)| &**fault).collect()
    }

    #[test]
    fn a_whole_journal_is_told_with_its_ends_and_its_head() {
        let (fixture, hashes) = Fixture::new(3);
        let report = fixture.verify(&[]);
        assert_eq!(faults(&report), [""; 0]);
        let told = report.to_json();
        assert_eq!((&told["node"], &told["entries"], &told["whole"]), (&json!("n1"), &json!(3), &json!(true)));
        assert_eq!((&told["first"]["sequence"], &told["last"]["sequence"]), (&json!(1), &json!(3)));
        assert_eq!(told["head"], json!(hashes[2].to_string()));
        let text = report.to_text();
        assert!(text.contains("Journal of node n1") && text.contains("whole") && text.contains(&hashes[2].to_string()), "{text}");
        // A copy of a file, and one of the newest file while it was being written.
        let bytes = fs::read(fixture.file()).unwrap();
        let copy = fixture.write("copy", &[&bytes[..], b"{\"v\":1"].concat());
        let report = verified(&JournalPlaces { files: vec![copy], data: Vec::new() }, &[]);
        assert_eq!((report.entries, report.torn_bytes, faults(&report)), (3, 6, vec![]));
    }

    #[test]
    fn a_broken_line_is_named_with_its_file() {
        let (fixture, _) = Fixture::new(3);
        let changed = fs::read_to_string(fixture.file()).unwrap().replacen("\"done\"", "\"Done\"", 1);
        let copy = fixture.write("copy", changed.as_bytes());
        let report = verified(&JournalPlaces { files: vec![copy.clone()], data: Vec::new() }, &[]);
        assert_eq!((report.entries, report.faults.len()), (1, 1), "what comes before is read");
        assert!(faults(&report)[0].starts_with("line 3: it names "), "{:?}", report.faults);
        let told = format!("BROKEN: {}: line 3: ", copy.display());
        assert!(report.to_text().contains(&told), "{}", report.to_text());
    }

    #[test]
    fn files_are_put_in_order() {
        let (fixture, _) = Fixture::new(2);
        let first = fs::read(fixture.file()).unwrap();
        let head = journal::check(&first).head.unwrap();
        let second = format!("{{\"v\":1,\"format\":\"conclave journal\",\"file\":2,\"node\":\"n1\",\"next\":3,\"previous\":\"{head}\"}}\n");
        let (a, b) = (fixture.write("a", second.as_bytes()), fixture.write("b", &first));
        let report = verified(&JournalPlaces { files: vec![a.clone(), b.clone()], data: Vec::new() }, &[]);
        assert_eq!((report.files.clone(), faults(&report)), (vec![b, a], vec![]));
    }

    #[test]
    fn the_audit_log_is_a_witness() {
        let (fixture, hashes) = Fixture::new(2);
        let record = |node: &str, sequence: u64, hash: &str| {
            format!(
                "{{\"time\":\"t\",\"type\":\"journal\",\"journal\":{{\"node\":\"{node}\",\"sequence\":{sequence},\"hash\":\"{hash}\"}}}}\n"
            )
        };
        let (one, two, none) = (hashes[0].to_string(), hashes[1].to_string(), "0".repeat(64));
        let audit = |records: &[String]| fixture.write("audit.log", records.concat().as_bytes());
        let others = "{\"type\":\"request\",\"journal\":{\"node\":\"n1\",\"sequence\":1,\"hash\":\"x\"}}\n{cut off\n\n".to_owned();
        let agreeing =
            [record("n1", 1, &one), others, format!("@cee: {}", record("n1", 2, &two)), record("n2", 7, &none), record("n1", 2, &two)];
        let report = fixture.verify(&[audit(&agreeing)]);
        assert_eq!((faults(&report), report.witnessed), (vec![], Some(3)));
        let report = fixture.verify(&[audit(&[record("n1", 2, &none), record("n1", 3, &two)])]);
        let want = [
            format!("line 1: entry 2 was recorded with the hash {none}, and is {two} in the journal"),
            format!("line 2: entry 3 was recorded with the hash {two}, and the journal ends with entry 2"),
        ];
        assert_eq!(faults(&report), want);
        let error = "{\"type\":\"journal\",\"journal\":{\"node\":\"n1\"},\"error\":\"cut\\u001b[2J\"}\n".to_owned();
        let report = fixture.verify(&[audit(&[error])]);
        assert_eq!(faults(&report), ["line 1: cut\u{1b}[2J"]);
        assert!(!report.to_text().contains('\u{1b}'), "nothing drives the terminal");
        assert!(
            reports(&JournalVerify {
                places: JournalPlaces { files: Vec::new(), data: vec![fixture.0.path().to_owned()] },
                audit: vec![fixture.0.path().join("none")],
            })
            .is_err()
        );
    }

    #[test]
    fn what_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let places = |files: Vec<PathBuf>, data: Vec<PathBuf>| places(&JournalPlaces { files, data });
        assert!(places(Vec::new(), Vec::new()).is_err());
        assert!(places(Vec::new(), vec![folder.path().to_owned()]).is_err(), "no journal in it");
        let place = places(vec![folder.path().join("none")], Vec::new()).unwrap().remove(0);
        assert!(read(&place, |_, _| {}).is_err());
    }

    #[test]
    fn a_row_shows_who_and_what() {
        let fields = [("by", json!("shares")), ("holder", json!("alice")), ("share", json!(2)), ("left_out", json!(5))];
        let line = Line {
            sequence: 7,
            time: "2026-11-24T12:00:00.000Z".into(),
            node: NodeId::parse("n1").unwrap(),
            act: "share_accepted".into(),
            outcome: "done".into(),
            fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            hash: LineHash([0; 32]),
        };
        assert_eq!(row(&line), ["7", "2026-11-24T12:00:00.000Z", "n1", "share_accepted", "alice", "2", "done", "by=shares left_out=5"]);
        assert_eq!(entry(&line)["hash"], json!("0".repeat(64)));
    }
}
