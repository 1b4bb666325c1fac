//! The rows of the redb tables: cells, and what is kept about the whole.
//!
//! Always: a cell is answered only if its checksum, which covers its key, is right; each state has one form.

use ::redb::{ReadOnlyTable, TableDefinition};
use bytes::{BufMut, Bytes, BytesMut};
use types::{Position, Revision};

use crate::codec::{Malformed, POSITION_BYTES, Reader, put_position};
use crate::hash::StateHash;
use crate::table::{Applied, Cell, ReadError};

/// The version of the table's rows, in the state row.
pub const TABLE_VERSION: u8 = 1;

pub(super) const CELLS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("cells");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const STATE_ROW: &str = "state";
pub(super) const MEMBERSHIP_ROW: &str = "membership";

/// Checksum and revision in front of each value, in bytes.
const CELL_HEAD_BYTES: usize = 4 + 8;

/// Why the rows about the whole cannot be used.
pub(super) enum RowError {
    Version(u8),
    Corrupt(String),
}

pub(super) fn read_applied(meta: &ReadOnlyTable<&'static str, &'static [u8]>) -> Result<Applied, RowError> {
    let row = |name| match meta.get(name) {
        Ok(row) => Ok(row.map(|row| Bytes::copy_from_slice(row.value()))),
        Err(error) => Err(RowError::Corrupt(error.to_string())),
    };
    let malformed = |Malformed { what, offset }| RowError::Corrupt(format!("row about the whole: {what} at byte {offset}"));
    let state = row(STATE_ROW)?.ok_or_else(|| RowError::Corrupt("no row about the whole".to_owned()))?;
    if let Some(version) = state.first().copied().filter(|version| *version != TABLE_VERSION) {
        return Err(RowError::Version(version));
    }
    let mut applied = decode_state(&state).map_err(malformed)?;
    applied.membership = row(MEMBERSHIP_ROW)?.map(|row| decode_membership(&row)).transpose().map_err(malformed)?;
    Ok(applied)
}

/// version, applied position, keys, bytes, hash.
pub(super) fn encode_state(applied: &Applied) -> BytesMut {
    let mut row = BytesMut::with_capacity(66);
    row.put_u8(TABLE_VERSION);
    put_position(&mut row, applied.position);
    row.put_u64_le(applied.keys);
    row.put_u64_le(applied.bytes);
    row.put_slice(&applied.hash.to_bytes());
    row
}

pub(super) fn decode_state(row: &Bytes) -> Result<Applied, Malformed> {
    let mut reader = Reader::new(row);
    reader.u8("version")?;
    let applied = Applied {
        position: reader.position("applied position")?,
        membership: None,
        keys: reader.u64("count of keys")?,
        bytes: reader.u64("count of bytes")?,
        hash: StateHash::from_bytes(reader.array("state hash")?),
    };
    reader.finish()?;
    Ok(applied)
}

pub(super) fn encode_membership(position: Position, membership: &[u8]) -> BytesMut {
    let mut row = BytesMut::with_capacity(POSITION_BYTES + membership.len());
    put_position(&mut row, Some(position));
    row.put_slice(membership);
    row
}

pub(super) fn decode_membership(row: &Bytes) -> Result<(Position, Bytes), Malformed> {
    let mut reader = Reader::new(row);
    let missing = reader.malformed("membership's position");
    let position = reader.position("membership's position")?.ok_or(missing)?;
    Ok((position, reader.rest()))
}

pub(super) fn encode_cell(scratch: &mut Vec<u8>, key: &[u8], cell: &Cell) {
    scratch.clear();
    scratch.reserve_exact(CELL_HEAD_BYTES + cell.value.len());
    scratch.extend_from_slice(&cell_checksum(key, cell.revision, &cell.value).to_le_bytes());
    scratch.extend_from_slice(&cell.revision.0.to_le_bytes());
    scratch.extend_from_slice(&cell.value);
}

/// Covers the key too, so that a cell found under another key is noticed.
pub(super) fn cell_checksum(key: &[u8], revision: Revision, value: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &revision.0.to_le_bytes());
    crc32c::crc32c_append(crc, value)
}

pub(super) fn decode_cell<'a>(key: &[u8], stored: &'a [u8]) -> Result<(Revision, &'a [u8]), ReadError> {
    let corrupt = || ReadError::Corrupt(format!("a cell of {} bytes fails its checksum", stored.len()));
    let (head, value) = stored.split_at_checked(CELL_HEAD_BYTES).ok_or_else(corrupt)?;
    let (checksum, revision) = head.split_at(4);
    let revision = Revision(u64::from_le_bytes(revision.try_into().expect("split at the size of the head")));
    if checksum == cell_checksum(key, revision, value).to_le_bytes() { Ok((revision, value)) } else { Err(corrupt()) }
}
