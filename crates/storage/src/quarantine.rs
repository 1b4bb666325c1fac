//! Damaged parts of a data folder are moved aside, so that a node can begin anew with what its peers have.
//!
//! Always: what is to be moved is written down durably first ([`condemn`]) and carried out at the next [`carry_out`], which may be
//! cut off anywhere and called again; nothing is deleted but the oldest of what was moved aside before; when the log goes, the node
//! is noted as one that has lost what it had ([`crate::datadir::note_rejoining`]) before anyone can take it for whole.
//! Knows nothing of who has a copy: that is for the caller to know. Layout: `docs/storage-format.md`, "Quarantine".

use std::io;
use std::path::{Path, PathBuf};

use crate::datadir::note_rejoining;
use crate::disk::{Disk, parent, read_whole, write_whole};

/// Of what was moved aside so many are kept, the newest ones.
pub const QUARANTINES_MAX: usize = 2;
/// The folder, in the data folder.
pub const QUARANTINE_FOLDER: &str = "quarantine";

const NOTE_FILE: &str = "condemned";
const NOTE_BYTES_MAX: usize = 64 << 10;
const REASON_FILE: &str = "reason";
const TABLE_FILES: [&str; 2] = ["table.redb", "table.redb.failed"];
const LOG_FOLDER: &str = "log";
const SNAPSHOT_FOLDER: &str = "snapshots";

/// What cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Log, table and snapshot: this node has nothing left.
    Everything,
    /// The table: snapshot and log hold the same.
    Table,
    /// The kept snapshot: the table holds the same, and more.
    Snapshot,
}

impl Scope {
    const ALL: [Scope; 3] = [Scope::Everything, Scope::Table, Scope::Snapshot];

    fn name(self) -> &'static str {
        match self {
            Scope::Everything => "everything",
            Scope::Table => "table",
            Scope::Snapshot => "snapshot",
        }
    }
}

/// What was moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// How much.
    pub scope: Scope,
    /// Why, with file and offset.
    pub reason: String,
    /// Where it is now.
    pub place: PathBuf,
}

/// Writes down, durably, that `scope` is to be moved aside, and why. The files stay where they are for now: they may be open.
pub fn condemn(disk: &dyn Disk, folder: &Path, scope: Scope, reason: &str) -> io::Result<()> {
    write_whole(disk, &folder.join(NOTE_FILE), format!("{}\n{reason}\n", scope.name()).as_bytes())
}

/// Moves aside what was condemned, if anything was. No file of it may be open.
pub fn carry_out(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Quarantined>> {
    let note = folder.join(NOTE_FILE);
    if !disk.exists(&note)? {
        return Ok(None);
    }
    let text = read_whole(disk, &note, NOTE_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&text);
    let (first, reason) = text.split_once('\n').unwrap_or((&text, ""));
    // A note that is damaged itself leaves nothing to be trusted.
    let scope = Scope::ALL.into_iter().find(|scope| scope.name() == first).unwrap_or(Scope::Everything);
    let place = make_room(disk, folder)?;
    write_whole(disk, &place.join(REASON_FILE), reason.as_bytes())?;
    if scope == Scope::Everything {
        note_rejoining(disk, folder, true)?;
        move_folder(disk, &folder.join(LOG_FOLDER), &place.join(LOG_FOLDER))?;
    }
    if matches!(scope, Scope::Everything | Scope::Snapshot) {
        move_folder(disk, &folder.join(SNAPSHOT_FOLDER), &place.join(SNAPSHOT_FOLDER))?;
    }
    if matches!(scope, Scope::Everything | Scope::Table) {
        for name in TABLE_FILES {
            move_file(disk, &folder.join(name), &place.join(name))?;
        }
        disk.sync_dir(folder)?;
    }
    disk.sync_dir(&place)?;
    disk.remove(&note)?;
    disk.sync_dir(folder)?;
    Ok(Some(Quarantined { scope, reason: reason.trim_end().to_owned(), place }))
}

/// Keeps a copy of a small file that is about to be written anew.
pub fn copy_aside(disk: &dyn Disk, folder: &Path, name: &str, reason: &str) -> io::Result<PathBuf> {
    let place = make_room(disk, folder)?;
    write_whole(disk, &place.join(REASON_FILE), reason.as_bytes())?;
    write_whole(disk, &place.join(name), &read_whole(disk, &folder.join(name), NOTE_BYTES_MAX)?)?;
    Ok(place)
}

/// A new folder in the quarantine, in which the oldest made room.
fn make_room(disk: &dyn Disk, folder: &Path) -> io::Result<PathBuf> {
    let quarantine = folder.join(QUARANTINE_FOLDER);
    disk.create_dir_all(&quarantine)?;
    let mut next = 1;
    while exists(disk, &quarantine, next)? {
        next += 1;
    }
    for old in (1..next).rev().skip(QUARANTINES_MAX - 1) {
        let place = place(&quarantine, old);
        for part in [place.join(LOG_FOLDER), place.join(SNAPSHOT_FOLDER), place] {
            empty(disk, &part)?;
        }
    }
    let place = place(&quarantine, next);
    disk.create_dir_all(&place)?;
    disk.sync_dir(&quarantine)?;
    disk.sync_dir(folder)?;
    Ok(place)
}

fn place(quarantine: &Path, number: u32) -> PathBuf {
    quarantine.join(format!("{number:06}"))
}

/// Whether a number was taken. An emptied folder stays, so that numbers tell the order.
fn exists(disk: &dyn Disk, quarantine: &Path, number: u32) -> io::Result<bool> {
    disk.exists(&place(quarantine, number))
}

/// Removes the files of a folder, if there is one.
fn empty(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !disk.exists(dir)? {
        return Ok(());
    }
    for name in disk.list(dir)? {
        match disk.remove(&dir.join(name)) {
            // A folder within.
            Err(error) if matches!(error.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied) => {}
            other => other?,
        }
    }
    disk.sync_dir(dir)
}

fn move_folder(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    if !disk.exists(from)? {
        return Ok(());
    }
    disk.create_dir_all(to)?;
    for name in disk.list(from)? {
        move_file(disk, &from.join(&name), &to.join(&name))?;
    }
    disk.sync_dir(to)?;
    disk.sync_dir(parent(to))?;
    disk.sync_dir(from)
}

fn move_file(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    if disk.exists(from)? { disk.rename(from, to) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datadir::is_rejoining;
    use crate::disk::{Fault, FaultPoint, FsDisk, MemoryDisk, OpenMode};

    const FILES: [&str; 5] = ["identity", "log/00000000000000000001.log", "log/durable", "snapshots/1.snapshot", "table.redb"];

    fn fill(disk: &dyn Disk, folder: &Path) {
        for name in FILES {
            let path = folder.join(name);
            disk.create_dir_all(parent(&path)).unwrap();
            write_whole(disk, &path, name.as_bytes()).unwrap();
        }
    }

    fn read(disk: &dyn Disk, path: &Path) -> Option<String> {
        disk.open(path, OpenMode::Read).ok()?;
        Some(String::from_utf8(read_whole(disk, path, 4096).unwrap()).unwrap())
    }

    #[test]
    fn what_is_condemned_is_moved_and_nothing_else() {
        for (scope, gone, rejoins) in
            [(Scope::Everything, &FILES[1..], true), (Scope::Table, &FILES[4..], false), (Scope::Snapshot, &FILES[3..4], false)]
        {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path();
            fill(&FsDisk, folder);
            assert_eq!(carry_out(&FsDisk, folder).unwrap(), None);
            condemn(&FsDisk, folder, scope, "table.redb is corrupt at byte 7").unwrap();
            let done = carry_out(&FsDisk, folder).unwrap().unwrap();
            assert_eq!((done.scope, &done.reason[..]), (scope, "table.redb is corrupt at byte 7"));
            for name in FILES {
                let is_gone = gone.contains(&name);
                assert_eq!(folder.join(name).exists(), !is_gone, "{scope:?} {name}");
                assert_eq!(read(&FsDisk, &done.place.join(name)).is_some(), is_gone, "{scope:?} {name}");
            }
            assert_eq!(is_rejoining(&FsDisk, folder).unwrap(), rejoins);
            assert_eq!(carry_out(&FsDisk, folder).unwrap(), None, "once");
        }
    }

    #[test]
    fn the_newest_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut places = Vec::new();
        for round in 0..4 {
            fill(&FsDisk, folder);
            condemn(&FsDisk, folder, Scope::Everything, &round.to_string()).unwrap();
            places.push(carry_out(&FsDisk, folder).unwrap().unwrap().place);
        }
        let kept: Vec<_> = places.iter().map(|place| place.join("log/durable").exists()).collect();
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!(read(&FsDisk, &places[3].join(REASON_FILE)).as_deref(), Some("3\n"));
    }

    #[test]
    fn power_may_go_at_any_operation() {
        let folder = Path::new("/n1");
        let prepared = || {
            let disk = MemoryDisk::new();
            fill(&disk, folder);
            condemn(&disk, folder, Scope::Everything, "why").unwrap();
            disk
        };
        let whole = prepared();
        let before = whole.operations();
        carry_out(&whole, folder).unwrap();
        let operations = whole.operations() - before;
        assert!(operations > 8, "{operations}");
        for operation in 0..operations {
            let disk = prepared();
            disk.fail(Fault { point: FaultPoint::Change, after: operation, error: io::ErrorKind::Other, forever: true });
            _ = carry_out(&disk, folder);
            disk.crash(operation);
            // The next start does what is left; never is a log gone that nobody knows to be lost.
            let left = disk.exists(&folder.join("log/durable")).unwrap();
            assert!(left || is_rejoining(&disk, folder).unwrap(), "{operation}");
            carry_out(&disk, folder).unwrap();
            for name in &FILES[1..] {
                assert!(!disk.exists(&folder.join(name)).unwrap(), "{operation} {name}");
            }
            assert!(is_rejoining(&disk, folder).unwrap(), "{operation}");
        }
    }
}
