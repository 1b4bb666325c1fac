//! Reading and writing of little-endian fields in a buffer, with the place of the first bad byte.
//!
//! Always: a length is compared with what is left before anything is allocated or sliced. Knows no format.

use bytes::{Buf, BufMut, Bytes};
use types::{Index, Position, Term};

/// Bytes of an encoded optional position: presence, term, index.
pub(crate) const POSITION_BYTES: usize = 17;

const NOWHERE: Position = Position { term: Term(0), index: Index(0) };

/// A field that is not there, or not as its format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(crate) struct Malformed {
    /// What was expected or is wrong.
    pub(crate) what: &'static str,
    /// Distance from the start of the buffer.
    pub(crate) offset: usize,
}

/// Takes fields off the front of a [`Bytes`] without copying.
pub(crate) struct Reader {
    rest: Bytes,
    length: usize,
}

impl Reader {
    pub(crate) fn new(bytes: &Bytes) -> Reader {
        Reader { rest: bytes.clone(), length: bytes.len() }
    }

    pub(crate) fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.offset() }
    }

    fn need(&self, bytes: usize, what: &'static str) -> Result<(), Malformed> {
        if self.rest.len() < bytes { Err(self.malformed(what)) } else { Ok(()) }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.need(1, what)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.need(4, what)?;
        Ok(self.rest.get_u32_le())
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.need(8, what)?;
        Ok(self.rest.get_u64_le())
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        self.need(N, what)?;
        let mut array = [0; N];
        self.rest.copy_to_slice(&mut array);
        Ok(array)
    }

    pub(crate) fn bytes(&mut self, length: usize, what: &'static str) -> Result<Bytes, Malformed> {
        self.need(length, what)?;
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        self.rest.split_to(self.rest.len())
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        self.need(1, what)?;
        match self.rest[0] {
            flag @ (0 | 1) => {
                self.rest.advance(1);
                Ok(flag == 1)
            }
            _ => Err(self.malformed(what)),
        }
    }

    pub(crate) fn position(&mut self, what: &'static str) -> Result<Option<Position>, Malformed> {
        let start = self.malformed(what);
        let present = self.flag(what)?;
        let position = Position { term: Term(self.u64(what)?), index: Index(self.u64(what)?) };
        match present {
            true => Ok(Some(position)),
            // One state has one form.
            false if position == NOWHERE => Ok(None),
            false => Err(start),
        }
    }

    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("trailing bytes")) }
    }
}

/// Writes presence, term and index: always [`POSITION_BYTES`].
pub(crate) fn put_position(out: &mut impl BufMut, position: Option<Position>) {
    let Position { term, index } = position.unwrap_or(NOWHERE);
    out.put_u8(u8::from(position.is_some()));
    out.put_u64_le(term.0);
    out.put_u64_le(index.0);
}

/// The length as a `u32` field. Callers bound it long before.
pub(crate) fn length_field(length: usize) -> u32 {
    u32::try_from(length).expect("lengths are checked against limits below 4 GiB before they are written")
}
