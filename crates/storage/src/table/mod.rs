//! [`Table`]: an ordered map with a revision per key, to which committed entries are applied in order.
//!
//! Always: the same entries give the same table, bit for bit, on every replica; a batch changes all it says or, if an
//! expectation fails, nothing but the applied position; the applied position, the membership, the counts and the state
//! hash change in the same step as the cells.
//! Knows nothing of what keys and values mean, nor of terms beyond storing them.

use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use types::{Position, Revision};

use crate::adoption::Adoption;
use crate::batch::Batch;
use crate::hash::StateHash;
use crate::snapshot::{SnapshotError, SnapshotReader};

pub mod conformance;
mod layer;
mod memory;
mod overlay;
mod redb;
#[cfg(feature = "sled")]
mod sled;

pub use self::memory::MemoryTable;
pub use self::redb::{LAYER_BYTES_MAX, OpenError, RedbTable, RedbTableOptions, TABLE_VERSION};
#[cfg(feature = "sled")]
pub use self::sled::SledTable;

/// The longest encoded membership, in bytes.
pub const MEMBERSHIP_BYTES_MAX: usize = 1 << 20;

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Of the entry that last wrote the key.
    pub revision: Revision,
    /// The ciphertext.
    pub value: Bytes,
}

/// What a committed entry changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing but the applied position.
    Blank,
    /// The cluster's membership, opaque here; kept with the position of its entry.
    Membership(Bytes),
    /// Cells.
    Batch(Batch),
    /// All cells at once.
    Adopt(Adoption),
}

/// An entry that Raft says will never change, to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub position: Position,
    /// Its content.
    pub change: Change,
}

/// What became of one applied entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Applied,
    /// An expectation did not hold, so nothing was done.
    Conflict {
        /// The first one that failed, from 0. Of an adoption, one more than there are: something else is staged than it says.
        expectation: usize,
        /// The revision the key had instead.
        found: Revision,
    },
}

/// What a table is the result of, and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The last applied entry.
    pub position: Option<Position>,
    /// The last applied membership and the position of its entry.
    pub membership: Option<(Position, Bytes)>,
    /// How many keys there are.
    pub keys: u64,
    /// The sum of the lengths of all keys and values.
    pub bytes: u64,
    /// Over all cells.
    pub hash: StateHash,
}

/// A consistent state of a table that later changes do not touch.
pub trait TableView: Send + Sync {
    /// What this state is the result of.
    fn applied(&self) -> Result<Applied, ReadError>;
    /// The cell of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Cell>, ReadError>;
    /// Lends the cells between two keys in order to `visit` until it breaks, without collecting them.
    fn visit(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), ReadError>;

    /// The first `limit` cells between two keys, in order. An empty or reversed range has none.
    fn scan(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Cell)>, ReadError> {
        let mut cells = Vec::new();
        if limit > 0 {
            self.visit(start, end, &mut |key, revision, value| {
                cells.push((Bytes::copy_from_slice(key), Cell { revision, value: Bytes::copy_from_slice(value) }));
                if cells.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(cells)
    }

    /// Computes counts and hash anew from all cells and compares them with the kept ones: finds bit rot. Reads everything.
    fn verify(&self) -> Result<Applied, ReadError> {
        let kept = self.applied()?;
        let mut found = Applied { position: kept.position, membership: kept.membership.clone(), ..Applied::default() };
        self.visit(Bound::Unbounded, Bound::Unbounded, &mut |key, revision, value| {
            found.keys += 1;
            found.bytes += (key.len() + value.len()) as u64;
            found.hash.add(key, revision, value);
            ControlFlow::Continue(())
        })?;
        if found == kept { Ok(found) } else { Err(ReadError::Diverged { kept: Box::new(kept), found: Box::new(found) }) }
    }
}

/// Is lent key, revision and value of each cell.
pub type Visitor<'a> = dyn FnMut(&[u8], Revision, &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map with a revision per key. Calls may come from several threads; one changes at a time.
pub trait Table: Send + Sync + 'static {
    /// The state after the last finished [`Table::apply`]. Cheap; holding it makes nobody wait, but keeps old cells from being
    /// forgotten. Once the table is dropped, reading a view may fail.
    fn view(&self) -> Result<Arc<dyn TableView>, ReadError>;

    /// Applies entries in order, in one step: all of them or, on an error, none; after an error other than
    /// [`ApplyError::Order`] the table must not be used any more. Later batches see what earlier ones did. Not durable
    /// by itself. Positions must rise; the caller sees to it that none is left out.
    fn apply(&self, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError>;

    /// What the table is the result of now. Answered from memory.
    fn applied(&self) -> Applied;

    /// Makes everything applied so far durable and returns up to where that is, see [`Table::durable`].
    fn flush(&self) -> Result<Option<Position>, FlushError>;

    /// Up to where a power loss takes nothing: the log may be purged through it. A volatile table answers the last snapshot
    /// it was told of.
    fn durable(&self) -> Option<Position>;

    /// Tells that a durable snapshot file holds the state at `position`, so that a volatile table can be rebuilt from there.
    fn note_snapshot(&self, position: Position);

    /// How much of the disk it takes, in bytes.
    fn disk_bytes(&self) -> u64 {
        0
    }

    /// Gives the disk back what deletes and overwrites have left unused, if it can: rewrites the table. Applies, flushes and reads
    /// go on meanwhile. Answers whether it did; a table that is not on disk has nothing to give back.
    ///
    /// # Errors
    /// The table goes on as it was, unless it fails by itself.
    fn compact(&self) -> Result<bool, CompactError> {
        Ok(false)
    }

    /// Puts a snapshot's content in the place of everything; all or nothing; durable on return (a volatile table relies on
    /// the snapshot's file). Views taken before keep their state.
    fn replace(&self, snapshot: &mut SnapshotReader) -> Result<(), ReplaceError>;
}

/// The engine's own words for what went wrong. Holds no keys or values.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk failed, or a file is not as it was written.
    #[error("table: {0}")]
    Engine(String),
    /// The disk failed.
    #[error("table file")]
    Io(#[source] io::Error),
    /// An earlier error left the table unusable until it is opened again.
    #[error("table failed before")]
    Failed,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The engine or disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A cell or row is not as it was written. The table must be rebuilt from a snapshot and the log, or from a peer.
    #[error("table is corrupt: {0}")]
    Corrupt(String),
    /// Cells and kept totals disagree. The table must be rebuilt.
    #[error("table is corrupt: {found} found, {kept} kept")]
    Diverged {
        /// What apply kept up to date.
        kept: Box<Applied>,
        /// What the cells add up to.
        found: Box<Applied>,
    },
}

/// Why entries were not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The caller's mistake: the entry is not after the last applied one. Nothing was changed.
    #[error("entry {entry} does not follow the applied {applied}")]
    Order {
        /// The entry that was to be applied.
        entry: Position,
        /// The last applied one.
        applied: Position,
    },
    /// The caller's mistake: a membership longer than [`MEMBERSHIP_BYTES_MAX`]. Nothing was changed.
    #[error("membership of {bytes} bytes (at most {MEMBERSHIP_BYTES_MAX})")]
    Membership {
        /// Its length.
        bytes: usize,
    },
    /// What is stored could not be read. Nothing was changed.
    #[error("read")]
    Read(#[from] ReadError),
    /// The engine or disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why the table could not be made durable. Nothing may be taken as durable that was not before.
#[derive(Debug, thiserror::Error)]
#[error("make the table durable")]
pub struct FlushError(#[from] pub EngineError);

/// Why a table was not made smaller. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// What is stored could not be read, or is damaged: see the cause.
    #[error("read the table")]
    Read(#[from] ReadError),
    /// The copy could not be written.
    #[error("write the table anew")]
    Write(#[source] EngineError),
}

/// Why a snapshot did not take the table's place. The table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The snapshot file.
    #[error("read the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The engine or disk.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} keys, {} bytes, hash {} at {position}", self.keys, self.bytes, self.hash),
            None => write!(f, "{} keys, {} bytes, hash {} before any entry", self.keys, self.bytes, self.hash),
        }
    }
}

/// What an engine offers to [`apply_all`]: cells, read and changed one by one within one step.
trait Cells {
    fn revision(&self, key: &[u8]) -> Result<Revision, ApplyError>;
    /// Puts a cell and lends the old one, if any, to `old`.
    fn put(&mut self, key: &Bytes, cell: &Cell, old: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError>;
    /// Deletes a cell and lends the old one, if any, to `old`.
    fn delete(&mut self, key: &Bytes, old: &mut dyn FnMut(Revision, &[u8])) -> Result<(), ApplyError>;
}

/// Runs of ordinary entries, and adoptions between them, in turn: an engine does each in its own way. Nothing is begun when the order
/// is wrong.
fn apply_in_turn(
    applied: Option<Position>,
    committed: &[Committed],
    run: &mut impl FnMut(&[Committed]) -> Result<Vec<Outcome>, ApplyError>,
    adopt: &mut impl FnMut(Position, &Adoption) -> Result<Outcome, ApplyError>,
) -> Result<Vec<Outcome>, ApplyError> {
    let is_adoption = |entry: &Committed| matches!(entry.change, Change::Adopt(_));
    if !committed.iter().any(is_adoption) {
        return run(committed);
    }
    check_order(applied, committed)?;
    let mut outcomes = Vec::with_capacity(committed.len());
    for part in committed.chunk_by(|one, next| !is_adoption(one) && !is_adoption(next)) {
        match &part[0] {
            Committed { position, change: Change::Adopt(adoption) } => outcomes.push(adopt(*position, adoption)?),
            _ => outcomes.extend(run(part)?),
        }
    }
    Ok(outcomes)
}

/// The state machine itself, the same for every engine: entries over cells, keeping `applied` up to date.
fn apply_all(cells: &mut impl Cells, applied: &mut Applied, committed: &[Committed]) -> Result<Vec<Outcome>, ApplyError> {
    check_order(applied.position, committed)?;
    let mut outcomes = Vec::with_capacity(committed.len());
    for Committed { position, change } in committed {
        outcomes.push(match change {
            Change::Blank => Outcome::Applied,
            Change::Membership(membership) => {
                applied.membership = Some((*position, membership.clone()));
                Outcome::Applied
            }
            Change::Batch(batch) => apply_batch(cells, applied, *position, batch)?,
            Change::Adopt(_) => unreachable!("apply_in_turn takes adoptions out"),
        });
        applied.position = Some(*position);
    }
    Ok(outcomes)
}

fn check_order(mut applied: Option<Position>, committed: &[Committed]) -> Result<(), ApplyError> {
    for Committed { position, change } in committed {
        match applied {
            Some(applied) if position.index <= applied.index || position.term < applied.term => {
                return Err(ApplyError::Order { entry: *position, applied });
            }
            _ => applied = Some(*position),
        }
        match change {
            Change::Membership(membership) if membership.len() > MEMBERSHIP_BYTES_MAX => {
                return Err(ApplyError::Membership { bytes: membership.len() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn apply_batch(cells: &mut impl Cells, applied: &mut Applied, position: Position, batch: &Batch) -> Result<Outcome, ApplyError> {
    for (expectation, expected) in batch.expectations.iter().enumerate() {
        let found = cells.revision(&expected.key)?;
        if found != expected.revision {
            return Ok(Outcome::Conflict { expectation, found });
        }
    }
    let revision = Revision::at(position.index);
    for write in &batch.writes {
        let key_bytes = write.key.len() as u64;
        let Applied { keys, bytes, hash, .. } = applied;
        let mut old = |revision, value: &[u8]| {
            hash.remove(&write.key, revision, value);
            *bytes -= key_bytes + value.len() as u64;
            *keys -= 1;
        };
        match &write.value {
            None => cells.delete(&write.key, &mut old)?,
            Some(value) => {
                cells.put(&write.key, &Cell { revision, value: value.clone() }, &mut old)?;
                hash.add(&write.key, revision, value);
                *bytes += key_bytes + value.len() as u64;
                *keys += 1;
            }
        }
    }
    Ok(Outcome::Applied)
}

/// Whether no key can lie between two bounds.
fn is_empty_range(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        _ => false,
    }
}
