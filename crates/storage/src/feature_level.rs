//! The cluster's feature level as it is stored: [`LevelRecord`], a record in clear in the table, and so in every snapshot; and what
//! this release can read, [`FEATURE_LEVELS`].
//!
//! Always: a level only rises; a table, a snapshot or an entry of a level that this release does not know is refused before
//! anything is changed. Layout: `docs/storage-format.md`, "Feature level".

use bytes::{BufMut, Bytes, BytesMut};
use types::{FeatureLevel, FeatureLevels, UnknownLevel};

use crate::batch::Batch;
use crate::codec::{Malformed, Reader};
use crate::snapshot::{SnapshotError, SnapshotReader};
use crate::table::{Change, ReadError, TableView};

/// What this release reads.
///
/// - 1: the formats of 0.1 before it had levels.
/// - 2: the level itself, and a data folder's identity of version 2. Entries that put staged cells in the place of all others.
pub const FEATURE_LEVELS: FeatureLevels = FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(2) };

/// The record's key: in the area of what is in clear, so that a sealed node knows its level.
pub const FEATURE_LEVEL_KEY: &[u8] = b"\0feature-level";
/// The version byte of the record.
const RECORD_VERSION: u8 = 1;
/// The longest name of a release in the record, in bytes.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// The level, and which release raised the cluster to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelRecord {
    /// The level.
    pub level: FeatureLevel,
    /// The release of the node that asked for it: what an older one's refusal names as the cure.
    pub software: String,
}

/// Why a level is refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// This release does not know it.
    #[error("the cluster was raised by Conclave {software} to {unknown}: start Conclave {software} or newer here")]
    Newer {
        /// What was found.
        #[source]
        unknown: UnknownLevel,
        /// Which release raised it.
        software: String,
    },
    /// This release has left it behind.
    #[error(
        "the cluster is at {unknown}: start the release before this one on every node, and raise the level with `conclave operator upgrade raise`"
    )]
    Older {
        /// What was found.
        #[source]
        unknown: UnknownLevel,
    },
    /// The record is not as it was written.
    #[error("the record of the feature level is malformed: {what} at byte {offset}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Distance from its first byte.
        offset: usize,
    },
    /// The table cannot be read.
    #[error("read the feature level")]
    Table(#[from] ReadError),
    /// The snapshot cannot be read.
    #[error("read the feature level")]
    Snapshot(#[from] SnapshotError),
}

impl From<Malformed> for LevelError {
    fn from(Malformed { what, offset }: Malformed) -> LevelError {
        LevelError::Malformed { what, offset }
    }
}

impl LevelRecord {
    /// The stored form. A name of a release that is too long is cut.
    pub fn encode(&self) -> Bytes {
        let mut end = self.software.len().min(SOFTWARE_BYTES_MAX);
        while !self.software.is_char_boundary(end) {
            end -= 1;
        }
        let mut out = BytesMut::with_capacity(1 + 4 + 1 + end);
        out.put_u8(RECORD_VERSION);
        out.put_u32_le(self.level.0);
        out.put_u8(u8::try_from(end).expect("SOFTWARE_BYTES_MAX fits"));
        out.put_slice(&self.software.as_bytes()[..end]);
        out.freeze()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &Bytes) -> Result<LevelRecord, LevelError> {
        let mut reader = Reader::new(bytes);
        let version = reader.malformed("version");
        if reader.u8("version")? != RECORD_VERSION {
            return Err(version.into());
        }
        let level = FeatureLevel(reader.u32("level")?);
        let start = reader.malformed("release");
        let length = usize::from(reader.u8("length of the release")?);
        let software = String::from_utf8(reader.bytes(length, "release")?.to_vec()).ok();
        let plain = |text: &String| text.len() <= SOFTWARE_BYTES_MAX && text.chars().all(|character| !character.is_control());
        let software = software.filter(plain).ok_or(start)?;
        reader.finish()?;
        Ok(LevelRecord { level, software })
    }

    /// The level of a cluster that has no record: it was never raised.
    pub fn first() -> LevelRecord {
        LevelRecord { level: FeatureLevel::FIRST, software: String::new() }
    }

    /// The record in a table.
    pub fn of_table(view: &dyn TableView) -> Result<LevelRecord, LevelError> {
        match view.get(FEATURE_LEVEL_KEY)? {
            Some(cell) => LevelRecord::decode(&cell.value),
            None => Ok(LevelRecord::first()),
        }
    }

    /// The record in a snapshot: reads as far as its place among the keys, which is near the front.
    pub fn of_snapshot(reader: &SnapshotReader) -> Result<LevelRecord, LevelError> {
        for record in reader.records()? {
            let record = record?;
            if record.key == FEATURE_LEVEL_KEY {
                return LevelRecord::decode(&record.cell.value);
            }
            if record.key > FEATURE_LEVEL_KEY {
                break;
            }
        }
        Ok(LevelRecord::first())
    }

    /// The record that `batch` writes, if it raises the level.
    pub fn of_batch(batch: &Batch) -> Result<Option<LevelRecord>, LevelError> {
        let written = batch.writes.iter().rev().find(|write| write.key == FEATURE_LEVEL_KEY);
        written.and_then(|write| write.value.as_ref()).map(LevelRecord::decode).transpose()
    }

    /// Whether a binary of `levels` may go on.
    pub fn check(&self, levels: FeatureLevels) -> Result<(), LevelError> {
        levels.check(self.level).map_err(|unknown| match unknown {
            UnknownLevel::Newer { .. } => LevelError::Newer { unknown, software: self.software.clone() },
            UnknownLevel::Older { .. } => LevelError::Older { unknown },
        })
    }
}

/// The level from which on a change may be proposed.
pub fn needed_by(change: &Change) -> FeatureLevel {
    match change {
        Change::Blank | Change::Membership(_) | Change::Batch(_) => FeatureLevel::FIRST,
        Change::Adopt(_) => FeatureLevel(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Write;

    fn record() -> LevelRecord {
        LevelRecord { level: FeatureLevel(2), software: "0.1.0".into() }
    }

    #[test]
    fn golden_record_of_version_1() {
        let golden = crate::golden::check("golden/storage/feature-level-v1.bin", &record().encode());
        assert_eq!(LevelRecord::decode(&golden.into()).unwrap(), record());
    }

    #[test]
    fn every_cut_and_every_other_version_is_refused() {
        let bytes = record().encode();
        for length in 0..bytes.len() {
            assert!(LevelRecord::decode(&bytes.slice(..length)).is_err(), "{length}");
        }
        for bad in [&b"\x02\x02\0\0\0\x00"[..], b"\x01\x02\0\0\0\x01\xff", b"\x01\x02\0\0\0\x01\n", b"\x01\x02\0\0\0\x00\x00"] {
            assert!(LevelRecord::decode(&Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
        let long = LevelRecord { level: FeatureLevel(2), software: "ä".repeat(100) };
        assert_eq!(LevelRecord::decode(&long.encode()).unwrap().software, "ä".repeat(32));
    }

    #[test]
    fn a_batch_tells_the_level_it_raises_to() {
        let write = |key: &'static [u8], value| Write { key: Bytes::from_static(key), value };
        let batch =
            Batch { expectations: vec![], writes: vec![write(b"\0epoch", None), write(FEATURE_LEVEL_KEY, Some(record().encode()))] };
        assert_eq!(LevelRecord::of_batch(&batch).unwrap(), Some(record()));
        assert_eq!(LevelRecord::of_batch(&Batch::default()).unwrap(), None);
    }

    #[test]
    fn the_refusal_names_both_releases_and_the_cure() {
        let levels = FeatureLevels { min: FeatureLevel(1), max: FeatureLevel(1) };
        let error = LevelRecord { level: FeatureLevel(2), software: "0.2.0".into() }.check(levels).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the cluster was raised by Conclave 0.2.0 to feature level 2, of which this release knows nothing (it reads 1 to 1): start Conclave \
             0.2.0 or newer here"
        );
        let levels = FeatureLevels { min: FeatureLevel(3), max: FeatureLevel(4) };
        assert!(record().check(levels).unwrap_err().to_string().contains("operator upgrade raise"));
        assert!(record().check(FEATURE_LEVELS).is_ok());
    }
}
