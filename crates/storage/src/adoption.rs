//! [`Adoption`]: cells that were staged below a prefix take the place of all others, in one entry.
//!
//! Always: all of it happens or none; what was staged must be, to the last byte, what the adoption says it is; the same entry leaves
//! the same cells on every replica; an encoded adoption decodes to itself.
//! Knows nothing of what is staged or why. Layout: `docs/storage-format.md`, "Adoption".

use std::ops::{Bound, ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};
use types::{Position, Revision};

use crate::batch::{BATCH_BYTES_MAX, Batch, DecodeError, EncodeError, KEY_BYTES_MAX};
use crate::codec::{Reader, length_field};
use crate::hash::StateHash;
use crate::table::{Applied, Change, EngineError, Outcome, ReadError, TableView};

/// The version byte that [`Adoption::encode`] writes. A [`Batch`] begins with another one.
pub const ADOPTION_VERSION: u8 = 2;
/// The most prefixes that are kept.
pub const KEPT_MAX: usize = 1024;

/// The staged cells below `from` become the table: each under its key without the prefix, with the entry's revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The prefix that they are staged below; not empty.
    pub from: Bytes,
    /// What must be staged.
    pub staged: Staged,
    /// Cells below these prefixes stay as they are, in place of what was staged for them.
    pub kept: Vec<Bytes>,
    /// What must hold before, and what is written after.
    pub batch: Batch,
}

/// How much is staged, and what: keys without the prefix, and no revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Staged {
    /// How many cells.
    pub keys: u64,
    /// The sum of the lengths of their keys and values.
    pub bytes: u64,
    /// Over all of them, at [`Revision::ABSENT`].
    pub hash: StateHash,
}

impl Staged {
    /// Counts a cell in, by the key that it is to have.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.keys += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.hash.add(key, Revision::ABSENT, value);
    }
}

impl Change {
    /// Reads what was proposed: a batch or an adoption, told by the first byte.
    pub fn decode(bytes: &Bytes) -> Result<Change, DecodeError> {
        match bytes.first() {
            Some(&ADOPTION_VERSION) => Adoption::decode(bytes).map(Change::Adopt),
            _ => Batch::decode(bytes).map(Change::Batch),
        }
    }
}

impl Adoption {
    /// The stored and sent form.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        for (item, prefix) in std::iter::once(&self.from).chain(&self.kept).enumerate() {
            if prefix.is_empty() || prefix.len() > KEY_BYTES_MAX {
                return Err(EncodeError::Key { item, bytes: prefix.len() });
            }
        }
        if self.kept.len() > KEPT_MAX {
            return Err(EncodeError::Items { expectations: self.batch.expectations.len(), writes: self.kept.len() });
        }
        let batch = self.batch.encode()?;
        let mut out = BytesMut::new();
        out.put_u8(ADOPTION_VERSION);
        out.put_u32_le(length_field(self.from.len()));
        out.put_slice(&self.from);
        out.put_u64_le(self.staged.keys);
        out.put_u64_le(self.staged.bytes);
        out.put_slice(&self.staged.hash.to_bytes());
        out.put_u32_le(length_field(self.kept.len()));
        for prefix in &self.kept {
            out.put_u32_le(length_field(prefix.len()));
            out.put_slice(prefix);
        }
        out.put_slice(&batch);
        match out.len() {
            bytes if bytes > BATCH_BYTES_MAX => Err(EncodeError::Batch { bytes }),
            _ => Ok(out.freeze()),
        }
    }

    /// Reads the stored form.
    pub fn decode(bytes: &Bytes) -> Result<Adoption, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("version")? {
            ADOPTION_VERSION => {}
            version => return Err(DecodeError::Version { version }),
        }
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(reader.malformed("more bytes than a batch may have").into());
        }
        let from = prefix(&mut reader)?;
        let staged = Staged {
            keys: reader.u64("count of staged cells")?,
            bytes: reader.u64("bytes of staged cells")?,
            hash: StateHash::from_bytes(reader.array("hash of staged cells")?),
        };
        let start = reader.malformed("count of kept prefixes");
        let count = reader.u32("count of kept prefixes")? as usize;
        // A prefix takes at least five bytes.
        if count > KEPT_MAX || count > reader.remaining() / 5 {
            return Err(start.into());
        }
        let kept = (0..count).map(|_| prefix(&mut reader)).collect::<Result<_, _>>()?;
        let offset = reader.offset();
        let batch = Batch::decode(&reader.rest()).map_err(|error| match error {
            DecodeError::Malformed { what, offset: within } => DecodeError::Malformed { what, offset: offset + within },
            version => version,
        })?;
        Ok(Adoption { from, staged, kept, batch })
    }

    /// Whether it is done at this state, or why not: an expectation that does not hold or, counted after the last of them, that
    /// something else is staged.
    pub(crate) fn check(&self, view: &dyn TableView) -> Result<Outcome, ReadError> {
        for (expectation, expected) in self.batch.expectations.iter().enumerate() {
            let found = view.get(&expected.key)?.map_or(Revision::ABSENT, |cell| cell.revision);
            if found != expected.revision {
                return Ok(Outcome::Conflict { expectation, found });
            }
        }
        let mut found = Staged::default();
        self.visit_staged(view, &mut |key, value| {
            found.add(key, value);
            Ok(())
        })
        .map_err(|error| match error {
            AdoptError::Read(error) => error,
            AdoptError::Engine(error) => error.into(),
        })?;
        if found == self.staged {
            return Ok(Outcome::Applied);
        }
        Ok(Outcome::Conflict { expectation: self.batch.expectations.len(), found: Revision::ABSENT })
    }

    /// Hands each cell that there is afterwards to `put`, in no order, and tells the totals. `before` is the state that was checked.
    pub(crate) fn carry_out(
        &self,
        view: &dyn TableView,
        before: &Applied,
        position: Position,
        put: &mut Put<'_>,
    ) -> Result<Applied, AdoptError> {
        let mut after = Applied { position: Some(position), membership: before.membership.clone(), ..Applied::default() };
        let revision = Revision::at(position.index);
        // Of two writes to one key the last stands.
        let written: std::collections::BTreeMap<&[u8], Option<&Bytes>> =
            self.batch.writes.iter().map(|write| (&write.key[..], write.value.as_ref())).collect();
        let mut counted = |key: &[u8], revision: Revision, value: &[u8]| {
            after.keys += 1;
            after.bytes += (key.len() + value.len()) as u64;
            after.hash.add(key, revision, value);
            put(key, revision, value)
        };
        self.visit_staged(view, &mut |key, value| {
            if self.is_kept(key) || written.contains_key(key) { Ok(()) } else { counted(key, revision, value) }
        })?;
        let mut kept: Vec<&Bytes> = self.kept.iter().collect();
        kept.sort_unstable();
        // One that another covers would be handed out twice.
        kept.dedup_by(|longer, shorter| longer.starts_with(shorter));
        for prefix in kept {
            visit_below(view, prefix, true, &mut |key, revision, value| {
                let is_hidden = key.starts_with(&self.from) || written.contains_key(key);
                if is_hidden { Ok(()) } else { counted(key, revision, value) }
            })?;
        }
        for (key, value) in written {
            if let Some(value) = value {
                counted(key, revision, value)?;
            }
        }
        Ok(after)
    }

    fn is_kept(&self, key: &[u8]) -> bool {
        self.kept.iter().any(|prefix| key.starts_with(prefix))
    }

    fn visit_staged(
        &self,
        view: &dyn TableView,
        visit: &mut impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
    ) -> Result<(), AdoptError> {
        visit_below(view, &self.from, false, &mut |key, _, value| visit(&key[self.from.len()..], value))
    }
}

/// Takes a cell: its key, revision and value.
pub(crate) type Put<'a> = dyn FnMut(&[u8], Revision, &[u8]) -> Result<(), EngineError> + 'a;

/// Why an adoption was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<AdoptError> for crate::table::ApplyError {
    fn from(error: AdoptError) -> Self {
        match error {
            AdoptError::Read(error) => error.into(),
            AdoptError::Engine(error) => error.into(),
        }
    }
}

fn visit_below(view: &dyn TableView, prefix: &[u8], with_itself: bool, visit: &mut Put<'_>) -> Result<(), AdoptError> {
    let start = if with_itself { Bound::Included(prefix) } else { Bound::Excluded(prefix) };
    let mut failed = None;
    view.visit(start, Bound::Unbounded, &mut |key, revision, value| {
        if !key.starts_with(prefix) {
            return ControlFlow::Break(());
        }
        match visit(key, revision, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn prefix(reader: &mut Reader) -> Result<Bytes, DecodeError> {
    let start = reader.malformed("prefix");
    let length = reader.u32("prefix")? as usize;
    if length == 0 || length > KEY_BYTES_MAX {
        return Err(start.into());
    }
    Ok(reader.bytes(length, "prefix")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Expectation, Write};

    fn sample() -> Adoption {
        let mut staged = Staged::default();
        staged.add(b"name-1", b"value");
        Adoption {
            from: Bytes::from_static(b"\xf0"),
            staged,
            kept: vec![Bytes::from_static(b"kept/"), Bytes::from_static(b"here")],
            batch: Batch {
                expectations: vec![Expectation { key: Bytes::from_static(b"header"), revision: Revision(7) }],
                writes: vec![
                    Write { key: Bytes::from_static(b"epoch"), value: Some(Bytes::from_static(b"2")) },
                    Write { key: Bytes::from_static(b"gone"), value: None },
                ],
            },
        }
    }

    #[test]
    fn golden_bytes_of_version_2() {
        let bytes = sample().encode().unwrap();
        let golden = crate::golden::check("golden/storage/adoption-v2.bin", &bytes);
        assert_eq!(Change::decode(&golden.into()).unwrap(), Change::Adopt(sample()));
    }

    #[test]
    fn every_cut_and_every_trailing_byte_is_refused_and_a_flipped_bit_is_another_adoption() {
        let bytes = sample().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Adoption::decode(&bytes.slice(..length)).is_err(), "{length}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Adoption::decode(&longer.into()).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(adoption) = Adoption::decode(&flipped.clone().into()) {
                assert_ne!(adoption, sample());
                assert_eq!(adoption.encode().unwrap(), flipped, "one form per adoption");
            }
        }
    }

    #[test]
    fn limits_hold() {
        let with = |from: &'static [u8], kept: usize| Adoption {
            from: Bytes::from_static(from),
            kept: vec![Bytes::from_static(b"k"); kept],
            ..sample()
        };
        assert!(with(b"f", KEPT_MAX).encode().is_ok());
        assert!(matches!(with(b"", 0).encode(), Err(EncodeError::Key { item: 0, .. })));
        assert!(matches!(with(b"f", KEPT_MAX + 1).encode(), Err(EncodeError::Items { .. })));
        let huge = Bytes::from_static(&[2, 1, 0, 0, 0, b'f', 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(Adoption::decode(&huge), Err(DecodeError::Malformed { .. })));
    }
}
