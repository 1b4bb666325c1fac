//! [`Batch`]: the state machine's only words – what must hold, what to put, what to delete.
//!
//! Always: an encoded batch decodes to itself, byte for byte one form per batch; every length is bounded and checked before
//! it is used; decoded keys and values are slices of the encoded bytes.
//! Keys and values are ciphertext; nothing here looks inside. Layout: `docs/storage-format.md`, "Batch".

use bytes::{BufMut, Bytes, BytesMut};
use types::Revision;

use crate::codec::{Malformed, Reader, length_field};

/// The version byte that [`Batch::encode`] writes.
pub const BATCH_VERSION: u8 = 1;
/// The longest key, in bytes. The shortest is one byte.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// The longest value, in bytes. A value may be empty.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// The most expectations in a batch.
pub const EXPECTATIONS_MAX: usize = 64 << 10;
/// The most writes in a batch.
pub const WRITES_MAX: usize = 64 << 10;
/// The longest encoded batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 32 << 20;

/// Writes that happen together, if and only if all expectations hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// What must hold before the first write; all are compared with the state before this batch.
    pub expectations: Vec<Expectation>,
    /// Applied in order, so that of two writes to one key the last stands.
    pub writes: Vec<Write>,
}

/// That a key has a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The encrypted name.
    pub key: Bytes,
    /// The revision it must have; [`Revision::ABSENT`] says that it must not be there.
    pub revision: Revision,
}

/// A put or a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The encrypted name.
    pub key: Bytes,
    /// The encrypted value; `None` deletes.
    pub value: Option<Bytes>,
}

/// Why a batch cannot be stored: it breaks a limit. Names the item, never its bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("key {item} has {bytes} bytes (must be 1 to {KEY_BYTES_MAX})")]
    Key {
        /// Which, counting expectations first, then writes, from 0.
        item: usize,
        /// Its length.
        bytes: usize,
    },
    /// A value is longer than [`VALUE_BYTES_MAX`].
    #[error("value of write {write} has {bytes} bytes (at most {VALUE_BYTES_MAX})")]
    Value {
        /// Which write, from 0.
        write: usize,
        /// The value's length.
        bytes: usize,
    },
    /// Too many expectations or writes.
    #[error("{expectations} expectations and {writes} writes (at most {EXPECTATIONS_MAX} and {WRITES_MAX})")]
    Items {
        /// How many expectations there are.
        expectations: usize,
        /// How many writes there are.
        writes: usize,
    },
    /// All together is longer than [`BATCH_BYTES_MAX`].
    #[error("batch has {bytes} bytes (at most {BATCH_BYTES_MAX})")]
    Batch {
        /// The encoded length.
        bytes: usize,
    },
}

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release.
    #[error("batch version {version} is not known (this release reads up to {BATCH_VERSION})")]
    Version {
        /// The version byte found.
        version: u8,
    },
    /// Cut short, too long, or with a field outside its limits.
    #[error("malformed batch: {what} at byte {offset}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Distance from the first byte.
        offset: usize,
    },
}

impl From<Malformed> for DecodeError {
    fn from(Malformed { what, offset }: Malformed) -> DecodeError {
        DecodeError::Malformed { what, offset }
    }
}

impl Batch {
    /// The length of the encoded form, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        let expectations: usize = self.expectations.iter().map(|e| 4 + e.key.len() + 8).sum();
        let writes: usize = self.writes.iter().map(|w| 4 + w.key.len() + 1 + w.value.as_ref().map_or(0, |v| 4 + v.len())).sum();
        1 + 4 + expectations + 4 + writes
    }

    /// Whether the batch keeps all limits, that is, whether [`Batch::encode`] will succeed.
    pub fn check(&self) -> Result<(), EncodeError> {
        if self.expectations.len() > EXPECTATIONS_MAX || self.writes.len() > WRITES_MAX {
            return Err(EncodeError::Items { expectations: self.expectations.len(), writes: self.writes.len() });
        }
        let keys = self.expectations.iter().map(|e| &e.key).chain(self.writes.iter().map(|w| &w.key));
        for (item, key) in keys.enumerate() {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(EncodeError::Key { item, bytes: key.len() });
            }
        }
        for (write, bytes) in self.writes.iter().map(|w| w.value.as_ref().map_or(0, Bytes::len)).enumerate() {
            if bytes > VALUE_BYTES_MAX {
                return Err(EncodeError::Value { write, bytes });
            }
        }
        match self.encoded_bytes() {
            bytes if bytes > BATCH_BYTES_MAX => Err(EncodeError::Batch { bytes }),
            _ => Ok(()),
        }
    }

    /// The stored and sent form.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        self.check()?;
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        out.put_u8(BATCH_VERSION);
        out.put_u32_le(length_field(self.expectations.len()));
        for Expectation { key, revision } in &self.expectations {
            out.put_u32_le(length_field(key.len()));
            out.put_slice(key);
            out.put_u64_le(revision.0);
        }
        out.put_u32_le(length_field(self.writes.len()));
        for Write { key, value } in &self.writes {
            out.put_u32_le(length_field(key.len()));
            out.put_slice(key);
            out.put_u8(u8::from(value.is_some()));
            if let Some(value) = value {
                out.put_u32_le(length_field(value.len()));
                out.put_slice(value);
            }
        }
        Ok(out.freeze())
    }

    /// Reads the stored form. Keys and values share `bytes`' memory.
    pub fn decode(bytes: &Bytes) -> Result<Batch, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("version")? {
            BATCH_VERSION => {}
            version => return Err(DecodeError::Version { version }),
        }
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(reader.malformed("more bytes than a batch may have").into());
        }
        // An expectation takes at least 13 bytes and a write 6, so that a count is bounded by what is there.
        let count = count(&mut reader, EXPECTATIONS_MAX, 13, "count of expectations")?;
        let mut expectations = Vec::with_capacity(count);
        for _ in 0..count {
            expectations.push(Expectation { key: key(&mut reader)?, revision: Revision(reader.u64("expected revision")?) });
        }
        let count = self::count(&mut reader, WRITES_MAX, 6, "count of writes")?;
        let mut writes = Vec::with_capacity(count);
        for _ in 0..count {
            let key = key(&mut reader)?;
            let value = match reader.flag("mark of a value")? {
                true => Some(field(&mut reader, 0, VALUE_BYTES_MAX, "value")?),
                false => None,
            };
            writes.push(Write { key, value });
        }
        reader.finish()?;
        Ok(Batch { expectations, writes })
    }
}

fn count(reader: &mut Reader, most: usize, bytes_each: usize, what: &'static str) -> Result<usize, Malformed> {
    let start = reader.malformed(what);
    let count = reader.u32(what)? as usize;
    if count > most || count > reader.remaining() / bytes_each { Err(start) } else { Ok(count) }
}

fn key(reader: &mut Reader) -> Result<Bytes, Malformed> {
    field(reader, 1, KEY_BYTES_MAX, "key")
}

fn field(reader: &mut Reader, least: usize, most: usize, what: &'static str) -> Result<Bytes, Malformed> {
    let start = reader.malformed(what);
    let length = reader.u32(what)? as usize;
    if length < least || length > most {
        return Err(start);
    }
    reader.bytes(length, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Batch {
        Batch {
            expectations: vec![
                Expectation { key: Bytes::from_static(b"name-1"), revision: Revision::ABSENT },
                Expectation { key: Bytes::from_static(b"name-2"), revision: Revision(7) },
            ],
            writes: vec![
                Write { key: Bytes::from_static(b"name-1"), value: Some(Bytes::from_static(b"value")) },
                Write { key: Bytes::from_static(b"name-2"), value: None },
                Write { key: Bytes::from_static(b"name-3"), value: Some(Bytes::new()) },
            ],
        }
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let golden = include_bytes!("../../../tests/golden/storage/batch-v1.bin");
        assert_eq!(sample().encode().unwrap(), &golden[..]);
        assert_eq!(Batch::decode(&Bytes::from_static(golden)).unwrap(), sample());
        let empty = include_bytes!("../../../tests/golden/storage/batch-empty-v1.bin");
        assert_eq!(Batch::default().encode().unwrap(), &empty[..]);
    }

    #[test]
    fn decoding_shares_memory() {
        let bytes = sample().encode().unwrap();
        let value = Batch::decode(&bytes).unwrap().writes[0].value.clone().unwrap();
        let range = bytes.as_ptr_range();
        assert!(range.contains(&value.as_ptr()));
    }

    #[test]
    fn every_cut_and_every_trailing_byte_is_refused() {
        let bytes = sample().encode().unwrap();
        assert_eq!(sample().encoded_bytes(), bytes.len());
        for length in 0..bytes.len() {
            let error = Batch::decode(&bytes.slice(..length)).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed { offset, .. } if offset <= length), "{length}: {error}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        let error = Batch::decode(&longer.into()).unwrap_err();
        assert_eq!(error, DecodeError::Malformed { what: "trailing bytes", offset: bytes.len() });
    }

    #[test]
    fn any_flipped_byte_gives_an_error_or_another_batch() {
        let bytes = sample().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                if let Ok(batch) = Batch::decode(&flipped.clone().into()) {
                    assert_ne!(batch, sample());
                    assert_eq!(batch.encode().unwrap(), flipped, "one form per batch");
                }
            }
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let write = |key: usize, value: usize| Batch {
            expectations: vec![],
            writes: vec![Write { key: vec![1; key].into(), value: Some(vec![2; value].into()) }],
        };
        for (key, value, fits) in [
            (1, 0, true),
            (0, 0, false),
            (KEY_BYTES_MAX, VALUE_BYTES_MAX, true),
            (KEY_BYTES_MAX + 1, 0, false),
            (1, VALUE_BYTES_MAX + 1, false),
        ] {
            let encoded = write(key, value).encode();
            assert_eq!(encoded.is_ok(), fits, "{key} {value}");
            if let Ok(bytes) = encoded {
                assert_eq!(Batch::decode(&bytes).unwrap(), write(key, value));
            }
        }
        let many = Batch { expectations: vec![], writes: vec![Write { key: vec![1].into(), value: None }; WRITES_MAX + 1] };
        assert!(matches!(many.encode(), Err(EncodeError::Items { .. })));
        let big = Batch { expectations: vec![], writes: vec![write(1, VALUE_BYTES_MAX).writes[0].clone(); 2] };
        assert!(matches!(big.encode(), Err(EncodeError::Batch { .. })));
    }

    #[test]
    fn huge_counts_cost_nothing() {
        // Version, then 2^32 - 1 expectations in nine bytes.
        let bytes = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(Batch::decode(&bytes).unwrap_err(), DecodeError::Malformed { what: "count of expectations", offset: 1 });
        let version = Bytes::from_static(&[2]);
        assert_eq!(Batch::decode(&version).unwrap_err(), DecodeError::Version { version: 2 });
    }
}
