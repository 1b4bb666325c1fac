//! [`MemoryDisk`]: files in memory that lose, in a crash, what a real disk may lose.
//!
//! Always: what was synced before [`MemoryDisk::crash`] is there after it; of the rest, each written sector, each change of
//! length and each change of a folder may be kept or lost by itself, decided by the seed alone. A failed sync loses what
//! it should have written while reads still show it, as Linux' page cache does. Handles from before a crash are dead.
//! Knows no format.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, DiskLock, OpenMode, parent};

/// What is kept or lost as one in a crash, in bytes.
const SECTOR_BYTES: usize = 512;

/// An operation that a [`Fault`] can make fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// A write to a file, or a change of its length; a part of the data may have been written.
    Write,
    /// A file's sync: what it should have made durable is lost for good.
    Sync,
    /// A folder's sync, a create, rename or remove.
    Dir,
    /// A read.
    Read,
    /// Any of these but reads.
    Change,
}

/// An error to be answered in place of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Which operations count.
    pub point: FaultPoint,
    /// How many of them succeed first.
    pub after: u64,
    /// What the next one answers.
    pub error: io::ErrorKind,
    /// Whether all later ones fail too, as from a disk that is gone; else only one does.
    pub forever: bool,
}

/// Files in memory, for simulation and tests. Clones share the files.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Counts crashes; a handle of an earlier life is dead.
    life: u64,
    files: BTreeMap<u64, FileState>,
    file_next: u64,
    /// What the running process sees.
    names: BTreeMap<PathBuf, Node>,
    /// What a crash leaves, before the dice are thrown over `changes`.
    names_durable: BTreeMap<PathBuf, Node>,
    /// Changes of folders since their last sync, oldest first.
    changes: Vec<Change>,
    locks: BTreeSet<(u64, PathBuf)>,
    faults: Vec<Fault>,
    capacity: Option<u64>,
    operations: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

enum Change {
    Create(PathBuf, Node),
    Rename(PathBuf, PathBuf, u64),
    Remove(PathBuf),
}

#[derive(Default)]
struct FileState {
    /// What reads see.
    content: Vec<u8>,
    /// What a crash leaves, before the dice are thrown over `pending`.
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

enum Pending {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// A small deterministic generator (SplitMix64; Steele, Lea, Flood, OOPSLA 2014). Never for secrets.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, of_256: u64) -> bool {
        self.below(256) < of_256
    }
}

impl MemoryDisk {
    /// An empty disk without limits or faults.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds the disk")
    }

    /// Cuts the power: what was not synced is kept, lost or torn, as `seed` decides, and every open file and lock is dead.
    ///
    /// One seed in four loses everything unsynced and one in eight keeps all of it.
    pub fn crash(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        let keep = match dice.below(8) {
            0 | 1 => 0,
            2 => 256,
            _ => 1 + dice.below(255),
        };
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        state.faults.clear();
        for change in std::mem::take(&mut state.changes) {
            if dice.chance(keep) {
                change.make(&mut state.names_durable);
            }
        }
        // A name whose folder was lost is lost with it.
        let names = &state.names_durable;
        let rooted = |path: &Path| path.ancestors().skip(1).all(|above| above.parent().is_none() || names.contains_key(above));
        let kept: BTreeMap<_, _> = names.iter().filter(|(path, _)| rooted(path)).map(|(path, node)| (path.clone(), *node)).collect();
        state.names = kept.clone();
        state.names_durable = kept;
        for file in state.files.values_mut() {
            for pending in std::mem::take(&mut file.pending) {
                pending.make_partly(&mut file.durable, &mut dice, keep);
            }
            file.content.clone_from(&file.durable);
        }
        state.drop_unnamed();
    }

    /// Ends the process but keeps the power on: nothing is lost, but every open file and lock is dead.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.locks.clear();
        state.faults.clear();
    }

    /// Arms a fault. Several may be armed; each counts by itself. A crash or kill disarms all.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Disarms all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Limits the sum of all files' lengths; writes beyond it answer [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How many operations that change something were asked for so far: places where [`Fault::after`] can strike.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.iter().filter(|(_, node)| matches!(node, Node::File(_))).map(|(path, _)| path.clone()).collect()
    }

    /// What a file holds, as a running process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.names.get(path)? {
            Node::File(id) => Some(state.files[id].content.clone()),
            Node::Dir => None,
        }
    }

    /// Puts `content` into a file behind everyone's back, durably: bit rot, or an operator's hand. Makes the file if needed.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state();
        let id = match state.names.get(path) {
            Some(Node::File(id)) => *id,
            _ => {
                let id = state.new_file();
                for above in parent(path).ancestors() {
                    state.names.insert(above.to_owned(), Node::Dir);
                    state.names_durable.insert(above.to_owned(), Node::Dir);
                }
                state.names.insert(path.to_owned(), Node::File(id));
                id
            }
        };
        state.names_durable.insert(path.to_owned(), Node::File(id));
        state.files.insert(id, FileState { durable: content.clone(), content, pending: Vec::new() });
    }

    /// A copy of all that is durable or visible, sharing nothing: to try several futures of one state.
    pub fn fork(&self) -> MemoryDisk {
        let state = self.state();
        MemoryDisk(Arc::new(Mutex::new(State {
            life: state.life,
            files: state.files.iter().map(|(id, file)| (*id, file.fork())).collect(),
            file_next: state.file_next,
            names: state.names.clone(),
            names_durable: state.names_durable.clone(),
            changes: state.changes.iter().map(Change::fork).collect(),
            locks: BTreeSet::new(),
            faults: Vec::new(),
            capacity: state.capacity,
            operations: state.operations,
        })))
    }
}

impl State {
    /// Counts an operation and answers the fault that hits it, if any.
    fn strike(&mut self, point: FaultPoint) -> io::Result<()> {
        if point != FaultPoint::Read {
            self.operations += 1;
        }
        let hit = |fault: &Fault| fault.point == point || (fault.point == FaultPoint::Change && point != FaultPoint::Read);
        let mut error = None;
        self.faults.retain_mut(|fault| {
            if !hit(fault) {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            error = error.or(Some(fault.error));
            fault.forever
        });
        match error {
            Some(kind) => Err(io::Error::new(kind, "injected fault")),
            None => Ok(()),
        }
    }

    fn room_for(&self, id: u64, length: usize) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let others: usize = self.files.iter().filter(|(other, _)| **other != id).map(|(_, file)| file.content.len()).sum();
        let now = self.files.get(&id).map_or(0, |file| file.content.len());
        if length > now && (others + length) as u64 > capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        Ok(())
    }

    fn new_file(&mut self) -> u64 {
        self.file_next += 1;
        self.files.insert(self.file_next, FileState::default());
        self.file_next
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.names);
        self.changes.push(change);
    }

    /// Forgets files that no name leads to. Only when no handle can be alive.
    fn drop_unnamed(&mut self) {
        let named: BTreeSet<u64> = self.names.values().filter_map(|n| if let Node::File(id) = n { Some(*id) } else { None }).collect();
        self.files.retain(|id, _| named.contains(id));
    }

    fn dir_exists(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir == Path::new(".") || self.names.get(dir) == Some(&Node::Dir)
    }
}

impl Change {
    fn make(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Create(path, node) => _ = names.insert(path.clone(), *node),
            Change::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), Node::File(*id));
            }
            Change::Remove(path) => _ = names.remove(path),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Change::Create(path, _) | Change::Rename(_, path, _) | Change::Remove(path) => parent(path),
        }
    }

    fn fork(&self) -> Change {
        match self {
            Change::Create(path, node) => Change::Create(path.clone(), *node),
            Change::Rename(from, to, id) => Change::Rename(from.clone(), to.clone(), *id),
            Change::Remove(path) => Change::Remove(path.clone()),
        }
    }
}

impl FileState {
    fn fork(&self) -> FileState {
        let pending = self.pending.iter().map(|pending| match pending {
            Pending::Write { offset, data } => Pending::Write { offset: *offset, data: data.clone() },
            Pending::SetLen(length) => Pending::SetLen(*length),
        });
        FileState { content: self.content.clone(), durable: self.durable.clone(), pending: pending.collect() }
    }
}

impl Pending {
    fn make(&self, content: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, data } => put(content, *offset, data),
            Pending::SetLen(length) => content.resize(*length, 0),
        }
    }

    /// As a crash does: each sector by itself, the length by itself.
    fn make_partly(&self, content: &mut Vec<u8>, dice: &mut Dice, keep: u64) {
        match self {
            Pending::Write { offset, data } => {
                let mut from = 0;
                while from < data.len() {
                    let sector_end = ((offset + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                    let to = sector_end.min(data.len());
                    if dice.chance(keep) {
                        put(content, offset + from, &data[from..to]);
                    }
                    from = to;
                }
                // The length may be written though the data was not.
                if content.len() < offset + data.len() && dice.chance(keep / 2) {
                    content.resize(offset + data.len(), 0);
                }
            }
            Pending::SetLen(length) => {
                if dice.chance(keep) {
                    content.resize(*length, 0);
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let missing: Vec<PathBuf> = dir.ancestors().take_while(|above| !state.dir_exists(above)).map(Path::to_owned).collect();
        for dir in missing.into_iter().rev() {
            state.strike(FaultPoint::Dir)?;
            if matches!(state.names.get(&dir), Some(Node::File(_))) {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "is not a folder"));
            }
            // Folders are made once at first boot and synced at once, as FsDisk does.
            state.names.insert(dir.clone(), Node::Dir);
            state.names_durable.insert(dir, Node::Dir);
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let id = match (state.names.get(path), mode) {
            (Some(Node::Dir), _) => return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder")),
            (Some(Node::File(_)), OpenMode::Create) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there already")),
            (Some(Node::File(id)), _) => *id,
            (None, OpenMode::Create) => {
                if !state.dir_exists(parent(path)) {
                    return Err(not_found(parent(path)));
                }
                state.strike(FaultPoint::Dir)?;
                let id = state.new_file();
                state.change(Change::Create(path.to_owned(), Node::File(id)));
                id
            }
            (None, _) => return Err(not_found(path)),
        };
        Ok(Arc::new(MemoryFile { disk: self.clone(), life: state.life, id, writable: mode != OpenMode::Read }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state().names.contains_key(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.dir_exists(dir) {
            return Err(not_found(dir));
        }
        let within = state.names.keys().filter(|path| path.parent().is_some() && parent(path) == dir);
        Ok(within.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let Some(Node::File(id)) = state.names.get(from).copied() else { return Err(not_found(from)) };
        state.strike(FaultPoint::Dir)?;
        if parent(from) == parent(to) {
            state.change(Change::Rename(from.to_owned(), to.to_owned(), id));
        } else {
            if !state.dir_exists(parent(to)) {
                return Err(not_found(parent(to)));
            }
            // Each folder's part by itself.
            state.change(Change::Create(to.to_owned(), Node::File(id)));
            state.change(Change::Remove(from.to_owned()));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !matches!(state.names.get(path), Some(Node::File(_))) {
            return Err(not_found(path));
        }
        state.strike(FaultPoint::Dir)?;
        state.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.dir_exists(dir) {
            return Err(not_found(dir));
        }
        state.strike(FaultPoint::Dir)?;
        let (of_dir, others) = std::mem::take(&mut state.changes).into_iter().partition(|change| change.dir() == dir);
        state.changes = others;
        for change in &of_dir as &Vec<Change> {
            change.make(&mut state.names_durable);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        let used: usize = state.files.values().map(|file| file.content.len()).sum();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used as u64)))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<DiskLock>> {
        if !self.exists(path)? {
            self.open(path, OpenMode::Create)?;
        }
        let mut state = self.state();
        let key = (state.life, path.to_owned());
        match state.locks.insert(key.clone()) {
            true => Ok(Some(DiskLock::new(MemoryLock { disk: self.clone(), key }))),
            false => Ok(None),
        }
    }
}

struct MemoryLock {
    disk: MemoryDisk,
    key: (u64, PathBuf),
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.key);
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    life: u64,
    id: u64,
    writable: bool,
}

impl MemoryFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("the process that opened this file is gone")) }
    }

    fn change(&self, change: Pending, length: usize) -> io::Result<()> {
        let mut state = self.state()?;
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading"));
        }
        state.strike(FaultPoint::Write)?;
        state.room_for(self.id, length)?;
        let file = state.files.get_mut(&self.id).expect("files live as long as their handles");
        change.make(&mut file.content);
        file.pending.push(change);
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.strike(FaultPoint::Read)?;
        let content = &state.files[&self.id].content;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = out.len().min(content.len() - start);
        out[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "offset"))?;
        let now = self.state()?.files[&self.id].content.len();
        let write = |data: &[u8]| self.change(Pending::Write { offset, data: data.to_vec() }, now.max(offset + data.len()));
        match write(data) {
            // A disk that is full takes what it can.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && data.len() > 1 => {
                _ = write(&data[..data.len() / 2]);
                Err(error)
            }
            other => other,
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[&self.id].content.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "length"))?;
        self.change(Pending::SetLen(length), length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let struck = state.strike(FaultPoint::Sync);
        let file = state.files.get_mut(&self.id).expect("files live as long as their handles");
        let pending = std::mem::take(&mut file.pending);
        struck?;
        for pending in pending {
            pending.make(&mut file.durable);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::disk::{read_whole, remove_temporary, write_whole};

    /// What every [`Disk`] must do while nothing fails.
    pub(crate) fn disk_contract(disk: &dyn Disk, root: &Path) {
        let dir = root.join("x/y");
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        let path = dir.join("one");
        assert!(disk.open(&path, OpenMode::Read).is_err());
        let file = disk.open(&path, OpenMode::Create).unwrap();
        assert!(disk.open(&path, OpenMode::Create).is_err());
        file.write_at(b"hello", 3).unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut out = [9; 16];
        assert_eq!(file.read_at(&mut out, 1).unwrap(), 7);
        assert_eq!(&out[..7], b"\0\0hello");
        assert_eq!(file.read_at(&mut out, 100).unwrap(), 0);
        assert!(file.read_exact_at(&mut out, 0).is_err());
        file.set_len(4).unwrap();
        file.set_len(6).unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_whole(disk, &path, 6).unwrap(), b"\0\0\0h\0\0");
        assert_eq!(read_whole(disk, &path, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(disk.open(&path, OpenMode::Read).unwrap().write_at(b"x", 0).is_err());

        let other = dir.join("two");
        write_whole(disk, &other, b"old").unwrap();
        write_whole(disk, &other, b"new").unwrap();
        disk.rename(&path, &other).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["two"]);
        assert_eq!(read_whole(disk, &other, 100).unwrap(), b"\0\0\0h\0\0");
        disk.open(&dir.join("three.tmp"), OpenMode::Create).unwrap();
        remove_temporary(disk, &dir).unwrap();
        disk.remove(&other).unwrap();
        assert!(disk.remove(&other).is_err());
        assert!(!disk.exists(&other).unwrap());
        assert_eq!(disk.list(&dir).unwrap(), [""; 0]);
        file.write_at(b"still there", 0).unwrap();
        assert_eq!(file.len().unwrap(), 11, "an open file outlives its name");
    }

    fn dir() -> (MemoryDisk, PathBuf) {
        let disk = MemoryDisk::new();
        let dir = PathBuf::from("/data");
        disk.create_dir_all(&dir).unwrap();
        (disk, dir)
    }

    #[test]
    fn keeps_the_contract() {
        disk_contract(&MemoryDisk::new(), Path::new("/root"));
    }

    #[test]
    fn synced_stays_and_unsynced_may_go() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let (disk, dir) = dir();
            let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
            file.write_at(&[1; 1024], 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(&dir).unwrap();
            file.write_at(&[2; 1024], 512).unwrap();
            disk.crash(seed);
            let content = disk.content(&dir.join("f")).expect("its name was synced");
            assert_eq!(content[..512], [1; 512]);
            assert!(content.len() >= 1024);
            outcomes.insert(content);
            assert!(file.write_at(b"x", 0).is_err(), "a handle dies with its process");
        }
        assert!(outcomes.len() >= 4, "lost, kept, torn either way: {}", outcomes.len());
    }

    #[test]
    fn names_need_a_synced_folder() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let (disk, dir) = dir();
            write_whole(&disk, &dir.join("kept"), b"1").unwrap();
            let file = disk.open(&dir.join("new"), OpenMode::Create).unwrap();
            file.write_at(b"2", 0).unwrap();
            file.sync_data().unwrap();
            disk.remove(&dir.join("kept")).unwrap();
            disk.crash(seed);
            seen.insert(disk.list(&dir).unwrap());
        }
        assert_eq!(seen.len(), 4, "each change of a folder by itself: {seen:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_crash() {
        let run = |seed| {
            let (disk, dir) = dir();
            let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
            file.write_at(&[7; 5000], 100).unwrap();
            disk.sync_dir(&dir).unwrap();
            disk.crash(seed);
            disk.content(&dir.join("f"))
        };
        for seed in 0..50 {
            assert_eq!(run(seed), run(seed));
        }
    }

    #[test]
    fn a_failed_sync_loses_what_a_later_one_cannot_bring_back() {
        let (disk, dir) = dir();
        let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
        disk.sync_dir(&dir).unwrap();
        file.write_at(b"lost", 0).unwrap();
        disk.fail(Fault { point: FaultPoint::Sync, after: 0, error: io::ErrorKind::Other, forever: false });
        assert!(file.sync_data().is_err());
        assert_eq!(disk.content(&dir.join("f")).unwrap(), b"lost", "the page cache still shows it");
        file.sync_data().unwrap();
        disk.crash(2);
        assert_eq!(disk.content(&dir.join("f")).unwrap(), b"");
    }

    #[test]
    fn faults_strike_when_told_and_capacity_holds() {
        let (disk, dir) = dir();
        let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
        disk.fail(Fault { point: FaultPoint::Write, after: 1, error: io::ErrorKind::StorageFull, forever: false });
        file.write_at(b"a", 0).unwrap();
        assert_eq!(file.write_at(b"b", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.heal();
        file.write_at(b"c", 1).unwrap();
        disk.set_capacity(Some(10));
        assert_eq!(file.write_at(&[0; 20], 2).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.set_capacity(None);
        file.write_at(&[0; 20], 2).unwrap();
    }
}
