//! [`Unpacker`] and [`pack`]: the file that people keep, as Vault's tools know it: a gzipped tar of `meta.json`, `state.bin` (a snapshot),
//! `SHA256SUMS` and `SHA256SUMS.sealed`, in this order.
//!
//! Always: neither side holds more than a piece of it in memory; what is read is bounded before it is written anywhere (names, types,
//! lengths, how much a compressed byte may become), goes to a temporary file only, and is a [`Container`] only once every byte of it was
//! checked: sums, every record, counts, state hash, and that `meta.json` tells the same.
//! Knows no keys: `SHA256SUMS.sealed` is for who can check it. Layout: `docs/storage-format.md`, "Backup".

use std::io::{self, Write};

use crypto::digest::{Sha256, sha256};
use flate2::Compression;
use flate2::write::{GzDecoder, GzEncoder};
use serde_json::{Value, json};
use types::{Index, Position, Term};

use crate::snapshot::{Receiver, SNAPSHOT_BYTES_MAX, SnapshotError, SnapshotReader, write_state};
use crate::table::{ReadError, TableView};

/// The version of our part of `meta.json`.
pub const CONTAINER_FORMAT: u64 = 1;
/// The longest `meta.json`, in bytes.
pub const META_BYTES_MAX: usize = 64 << 10;
/// The longest `SHA256SUMS` and `SHA256SUMS.sealed`, in bytes.
pub const SUMS_BYTES_MAX: usize = 4 << 10;
/// How many bytes one compressed byte may become, beyond the first [`INFLATED_FREE_BYTES`]: ciphertext does not compress, so that an honest
/// file stays near 1.
pub const INFLATED_RATIO_MAX: u64 = 64;
/// So many bytes may come of whatever was sent.
pub const INFLATED_FREE_BYTES: u64 = 1 << 20;

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";
const SEALED: &str = "SHA256SUMS.sealed";
/// In the order in which they must come.
const MEMBERS: [&str; 4] = [META, STATE, SUMS, SEALED];
const BLOCK_BYTES: usize = 512;
/// What is handed to the decompressor at once: what it can become is bounded by this.
const PIECE_BYTES: usize = 4 << 10;

/// What a backup is of, as its `meta.json` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Names the file.
    pub id: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// Which node made it.
    pub node_id: String,
    /// By which version of the software.
    pub software: String,
    /// When, in milliseconds since 1970-01-01T00:00:00Z, by that node's clock.
    pub saved_ms: u64,
    /// The voters and learners of then: for people. Node id and the address for peers.
    pub members: Vec<(String, String)>,
}

/// A backup that was read, and found whole. Its state lies in a temporary file, which goes when this is dropped.
pub struct Container {
    /// What `meta.json` tells.
    pub about: About,
    /// `meta.json`, to the byte.
    pub meta: Vec<u8>,
    /// `SHA256SUMS`, to the byte.
    pub sums: Vec<u8>,
    /// `SHA256SUMS.sealed`, to the byte: not checked yet.
    pub sealed: Vec<u8>,
    /// The state.
    pub state: SnapshotReader,
}

/// How much was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Records in the state.
    pub records: u64,
    /// The length of the state, in bytes.
    pub state_bytes: u64,
    /// Where the state stood.
    pub position: Option<Position>,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The table could not be read, or its cells are not what its totals say.
    #[error("read the table")]
    Table(#[from] ReadError),
    /// It could not be sent on.
    #[error("write the snapshot")]
    Write(#[from] io::Error),
}

/// Why a file is no backup, or no whole one. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Not gzip, or damaged.
    #[error("not a snapshot, or damaged: {0}")]
    Gzip(String),
    /// Becomes far more than ciphertext can.
    #[error("refused: it unpacks to more than {INFLATED_RATIO_MAX} times its size, which no snapshot does")]
    Bomb,
    /// Not the tar that it should be.
    #[error("not a snapshot: {what} at byte {offset} of the unpacked file")]
    Tar {
        /// What is wrong.
        what: &'static str,
        /// Where.
        offset: u64,
    },
    /// Ends before all of it came.
    #[error("the snapshot is cut short: {0} is missing")]
    Short(&'static str),
    /// `meta.json` is not as it should be.
    #[error("meta.json of the snapshot: {0}")]
    Meta(String),
    /// Made by Vault or OpenBao.
    #[error("this is a snapshot of another program (Vault, OpenBao): its records cannot be read here")]
    OtherProgram,
    /// A sum does not fit.
    #[error("the snapshot is damaged: {0} has another SHA-256 than SHA256SUMS says")]
    Sum(&'static str),
    /// Written by a newer release.
    #[error("the snapshot has format {0}, this release reads up to {CONTAINER_FORMAT}")]
    Format(u64),
    /// `meta.json` and the state tell different things.
    #[error("the snapshot is put together from parts of others: meta.json and the state differ in {0}")]
    Differs(&'static str),
    /// The state itself.
    #[error(transparent)]
    State(#[from] SnapshotError),
}

/// Writes a backup of a view to `out`, without cells whose keys are `end` or greater. `seal` makes `SHA256SUMS.sealed` of `SHA256SUMS`.
pub fn pack(
    view: &dyn TableView,
    end: &[u8],
    about: &About,
    seal: &mut dyn FnMut(&[u8]) -> io::Result<Vec<u8>>,
    out: &mut dyn Write,
) -> Result<Packed, PackError> {
    let mut applied = view.applied()?;
    view.visit(std::ops::Bound::Included(end), std::ops::Bound::Unbounded, &mut |key, revision, value| {
        applied.keys -= 1;
        applied.bytes -= (key.len() + value.len()) as u64;
        applied.hash.remove(key, revision, value);
        std::ops::ControlFlow::Continue(())
    })?;
    let state_bytes = crate::snapshot::file_bytes(&applied);
    let meta = encode_meta(about, &applied, state_bytes);
    let seconds = about.saved_ms / 1000;
    // Ciphertext does not compress: the format asks for gzip, and stored blocks cost next to nothing.
    let mut out = GzEncoder::new(out, Compression::none());
    member(&mut out, META, meta.as_bytes(), seconds)?;
    out.write_all(&head(STATE, state_bytes, seconds))?;
    let state_sum = write_state(view, end, &applied, &mut out)?;
    pad(&mut out, state_bytes)?;
    let sums = encode_sums(&sha256(meta.as_bytes()), &state_sum);
    member(&mut out, SUMS, sums.as_bytes(), seconds)?;
    member(&mut out, SEALED, &seal(sums.as_bytes())?, seconds)?;
    out.write_all(&[0; 2 * BLOCK_BYTES])?;
    out.finish()?.flush()?;
    Ok(Packed { records: applied.keys, state_bytes, position: applied.position })
}

/// How long the backup of a table with these totals is at most, in bytes, but for a few.
pub fn packed_bytes_max(applied: &crate::table::Applied) -> u64 {
    let state = crate::snapshot::file_bytes(applied);
    // Stored blocks of deflate take five bytes each, of at most 65535; the rest is heads, padding and the small members.
    state + state / 65_535 * 5 + (META_BYTES_MAX + 2 * SUMS_BYTES_MAX) as u64
}

fn member(out: &mut impl Write, name: &str, content: &[u8], seconds: u64) -> io::Result<()> {
    out.write_all(&head(name, content.len() as u64, seconds))?;
    out.write_all(content)?;
    pad(out, content.len() as u64)
}

fn pad(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    out.write_all(&[0; BLOCK_BYTES][..padding(bytes)])
}

fn padding(bytes: u64) -> usize {
    usize::try_from(bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes).expect("less than a block")
}

/// A header of POSIX 1003.1 ("ustar"); a length that eleven octal digits cannot hold as GNU tar writes it, in base 256.
fn head(name: &str, bytes: u64, seconds: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let mut octal = |at: usize, digits: usize, number: u64| {
        let text = format!("{number:0digits$o}");
        block[at..at + digits].copy_from_slice(text.as_bytes());
    };
    octal(100, 7, 0o600);
    octal(108, 7, 0);
    octal(116, 7, 0);
    octal(136, 11, seconds & 0o77_777_777_777);
    if bytes < 1 << 33 {
        octal(124, 11, bytes);
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&bytes.to_be_bytes());
    }
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Of a header, its own field counted as spaces.
fn checksum(block: &[u8]) -> u32 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn encode_sums(meta: &[u8; 32], state: &[u8; 32]) -> String {
    format!("{}  {META}\n{}  {STATE}\n", hex::encode(meta), hex::encode(state))
}

fn encode_meta(about: &About, applied: &crate::table::Applied, state_bytes: u64) -> String {
    let position = applied.position.unwrap_or(Position { term: Term(0), index: Index(0) });
    let servers: Vec<Value> = about.members.iter().map(|(id, address)| json!({ "Suffrage": 0, "ID": id, "Address": address })).collect();
    let membership = applied.membership.as_ref().map_or(0, |(position, _)| position.index.0);
    let meta = json!({
        "Version": 1,
        "ID": about.id,
        "Index": position.index.0,
        "Term": position.term.0,
        "Peers": null,
        "Configuration": { "Servers": servers },
        "ConfigurationIndex": membership,
        "Size": state_bytes,
        "Conclave": {
            "Format": CONTAINER_FORMAT,
            "ClusterID": about.cluster_id,
            "ClusterName": about.cluster_name,
            "NodeID": about.node_id,
            "Software": about.software,
            "SavedMs": about.saved_ms,
            "Records": applied.keys,
            "Bytes": applied.bytes,
            "StateHash": applied.hash.to_string(),
        },
    });
    let mut text = meta.to_string();
    text.push('\n');
    text
}

fn number(value: &Value, name: &str) -> Result<u64, ContainerError> {
    value[name].as_u64().ok_or_else(|| ContainerError::Meta(format!("{name} is missing")))
}

fn text(value: &Value, name: &str) -> Result<String, ContainerError> {
    let text = value[name].as_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| ContainerError::Meta(format!("{name} is missing, or holds control characters")))
}

fn parse_meta(bytes: &[u8]) -> Result<Value, ContainerError> {
    let meta: Value = serde_json::from_slice(bytes).map_err(|_| ContainerError::Meta("not JSON".into()))?;
    let own = meta.get("Conclave").ok_or(ContainerError::OtherProgram)?;
    match number(own, "Format")? {
        CONTAINER_FORMAT => Ok(meta),
        format => Err(ContainerError::Format(format)),
    }
}

impl About {
    /// What a `meta.json` tells. Whether the state is the one that it is of is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<About, ContainerError> {
        let meta = parse_meta(bytes)?;
        let own = &meta["Conclave"];
        let servers = meta["Configuration"]["Servers"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(About {
            id: text(&meta, "ID")?,
            cluster_id: text(own, "ClusterID")?,
            cluster_name: text(own, "ClusterName")?,
            node_id: text(own, "NodeID")?,
            software: text(own, "Software")?,
            saved_ms: number(own, "SavedMs")?,
            members: servers
                .iter()
                .map(|server| Ok((text(server, "ID")?, text(server, "Address")?)))
                .collect::<Result<_, ContainerError>>()?,
        })
    }
}

/// Whether `SHA256SUMS` is that of this `meta.json`, whatever the state's sum is.
pub fn sums_fit_meta(sums: &[u8], meta: &[u8]) -> bool {
    sums.split(|byte| *byte == b'\n').next() == Some(format!("{}  {META}", hex::encode(sha256(meta))).as_bytes())
}

/// Compares what `meta.json` tells with the state.
fn compare(meta: &Value, state: &SnapshotReader) -> Result<(), ContainerError> {
    let own = &meta["Conclave"];
    let applied = state.applied();
    let position = applied.position.unwrap_or(Position { term: Term(0), index: Index(0) });
    for (name, told, found) in [
        ("Index", number(meta, "Index")?, position.index.0),
        ("Term", number(meta, "Term")?, position.term.0),
        ("Size", number(meta, "Size")?, state.info().file_bytes),
        ("Records", number(own, "Records")?, applied.keys),
        ("Bytes", number(own, "Bytes")?, applied.bytes),
    ] {
        if told != found {
            return Err(ContainerError::Differs(name));
        }
    }
    if text(own, "StateHash")? == applied.hash.to_string() { Ok(()) } else { Err(ContainerError::Differs("StateHash")) }
}

/// Makes a place for a state of so many bytes.
pub type Place<'a> = Box<dyn FnMut(u64) -> Result<Receiver, SnapshotError> + Send + 'a>;

/// Takes in a backup's bytes, in order. Dropped before [`Unpacker::finish`], or after an error, it leaves nothing behind.
pub struct Unpacker<'a> {
    gzip: GzDecoder<Tar<'a>>,
    received: u64,
}

impl<'a> Unpacker<'a> {
    /// Of a state of at most `bytes_max` bytes, which goes to where `place` says.
    pub fn new(bytes_max: u64, place: Place<'a>) -> Unpacker<'a> {
        let tar = Tar {
            place,
            bytes_max: bytes_max.min(SNAPSHOT_BYTES_MAX),
            allowance: 0,
            offset: 0,
            at: At::Head(Vec::with_capacity(BLOCK_BYTES)),
            next: 0,
            parts: Default::default(),
            state: None,
            state_sha: Sha256::new(),
            failed: None,
        };
        Unpacker { gzip: GzDecoder::new(tar), received: 0 }
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next piece.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContainerError> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.received += piece.len() as u64;
            self.gzip.get_mut().allowance = self.received.saturating_mul(INFLATED_RATIO_MAX).saturating_add(INFLATED_FREE_BYTES);
            if let Err(error) = self.gzip.write_all(piece) {
                return Err(self.failure(&error));
            }
        }
        Ok(())
    }

    /// Checks all of it.
    pub fn finish(mut self) -> Result<Container, ContainerError> {
        if self.received == 0 {
            return Err(ContainerError::Short(META));
        }
        if let Err(error) = self.gzip.try_finish() {
            let failure = self.failure(&error);
            // What is missing tells more than that the gzip ends early.
            let is_short = matches!(failure, ContainerError::Gzip(_));
            return Err(if is_short { self.gzip.get_mut().missing().map_or(failure, ContainerError::Short) } else { failure });
        }
        // After all that was written came through.
        let tar = self.gzip.get_mut();
        if let Some(missing) = tar.missing() {
            return Err(ContainerError::Short(missing));
        }
        let [meta, sums, sealed] = std::mem::take(&mut tar.parts);
        let state_sum = std::mem::take(&mut tar.state_sha).finish();
        let receiver = tar.state.take().ok_or(ContainerError::Short(STATE))?;
        if sums != encode_sums(&sha256(&meta), &state_sum).into_bytes() {
            return Err(ContainerError::Sum(if sums_fit_meta(&sums, &meta) { STATE } else { META }));
        }
        let about = About::decode(&meta)?;
        let state = receiver.finish()?;
        compare(&parse_meta(&meta)?, &state)?;
        Ok(Container { about, meta, sums, sealed, state })
    }

    fn failure(&mut self, error: &io::Error) -> ContainerError {
        match self.gzip.get_mut().failed.take() {
            Some(failed) => failed,
            None if error.kind() == io::ErrorKind::WriteZero => ContainerError::Gzip("bytes follow its end".into()),
            None => ContainerError::Gzip(error.to_string()),
        }
    }
}

/// Reads the tar as it comes out of the gzip.
struct Tar<'a> {
    place: Place<'a>,
    bytes_max: u64,
    /// Up to which offset what has been sent may become.
    allowance: u64,
    offset: u64,
    at: At,
    /// Which member comes next.
    next: usize,
    /// `meta.json`, `SHA256SUMS`, `SHA256SUMS.sealed`.
    parts: [Vec<u8>; 3],
    state: Option<Receiver>,
    state_sha: Sha256,
    /// What is wrong; kept because the gzip hands on an [`io::Error`] only.
    failed: Option<ContainerError>,
}

/// Where in the tar.
enum At {
    /// In a header, of which this has come.
    Head(Vec<u8>),
    /// In a member, of which so much is to come, and then padding.
    Body { member: usize, left: u64, padding: usize },
    /// In the zeros at the end, of which so many have come.
    End(usize),
}

impl Tar<'_> {
    fn wrong(&self, what: &'static str) -> ContainerError {
        ContainerError::Tar { what, offset: self.offset }
    }

    /// The first member that has not come whole.
    fn missing(&self) -> Option<&'static str> {
        match &self.at {
            At::Body { member, .. } => Some(MEMBERS[*member]),
            _ if self.next < MEMBERS.len() => Some(MEMBERS[self.next]),
            At::End(zeros) if *zeros >= 2 * BLOCK_BYTES => None,
            At::Head(_) | At::End(_) => Some("the end"),
        }
    }

    /// Takes some of `bytes`, and tells how many.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, ContainerError> {
        match &mut self.at {
            At::Head(head) => {
                let taken = bytes.len().min(BLOCK_BYTES - head.len());
                head.extend_from_slice(&bytes[..taken]);
                if head.len() == BLOCK_BYTES {
                    let head = std::mem::take(head);
                    self.at = self.begin(&head)?;
                }
                Ok(taken)
            }
            At::Body { left: 0, padding: 0, .. } => {
                self.at = At::Head(Vec::with_capacity(BLOCK_BYTES));
                Ok(0)
            }
            At::Body { left: 0, padding, .. } => {
                let taken = bytes.len().min(*padding);
                *padding -= taken;
                if bytes[..taken].iter().any(|byte| *byte != 0) { Err(self.wrong("padding that is not zero")) } else { Ok(taken) }
            }
            At::Body { member, left, .. } => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                match *member {
                    1 => {
                        self.state_sha.update(&bytes[..taken]);
                        self.state.as_mut().expect("made with the member").write(&bytes[..taken])?;
                    }
                    member => self.parts[member.saturating_sub(1)].extend_from_slice(&bytes[..taken]),
                }
                Ok(taken)
            }
            At::End(zeros) => {
                if bytes.iter().any(|byte| *byte != 0) {
                    return Err(self.wrong("something after the end"));
                }
                *zeros = zeros.saturating_add(bytes.len());
                Ok(bytes.len())
            }
        }
    }

    fn begin(&mut self, head: &[u8]) -> Result<At, ContainerError> {
        if head.iter().all(|byte| *byte == 0) {
            return if self.next == MEMBERS.len() { Ok(At::End(BLOCK_BYTES)) } else { Err(ContainerError::Short(MEMBERS[self.next])) };
        }
        let octal = |field: &[u8]| {
            let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
            u64::from_str_radix(text, 8).ok()
        };
        if octal(&head[148..156]) != Some(checksum(head).into()) {
            return Err(self.wrong("a header that fails its checksum"));
        }
        let name = head[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let member = self.next;
        let Some(wanted) = MEMBERS.get(member) else { return Err(self.wrong("a member too many")) };
        if name != wanted.as_bytes() || head[345..500].iter().any(|byte| *byte != 0) {
            return Err(self.wrong("a member of another name, or in another order"));
        }
        if !matches!(head[156], b'0' | 0) {
            return Err(self.wrong("a member that is no plain file"));
        }
        let size = match head[124] {
            0x80 if head[125..128] == [0; 3] => u64::from_be_bytes(head[128..136].try_into().expect("eight bytes")),
            _ => octal(&head[124..136]).ok_or_else(|| self.wrong("a length that is none"))?,
        };
        let most = match member {
            0 => META_BYTES_MAX as u64,
            1 => self.bytes_max,
            _ => SUMS_BYTES_MAX as u64,
        };
        if size > most {
            return Err(if member == 1 {
                SnapshotError::TooLong { bytes_max: most }.into()
            } else {
                self.wrong("a member that is too long")
            });
        }
        if member == 1 {
            self.state = Some((self.place)(size)?);
        }
        self.next += 1;
        Ok(At::Body { member, left: size, padding: padding(size) })
    }
}

impl Write for Tar<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let failed = |tar: &mut Self, error| {
            tar.failed = Some(error);
            Err(io::Error::other("refused"))
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.take(rest) {
                Ok(taken) => {
                    self.offset += taken as u64;
                    rest = &rest[taken..];
                }
                Err(error) => return failed(self, error),
            }
            if self.offset > self.allowance {
                return failed(self, ContainerError::Bomb);
            }
        }
        // A member that ends with what was written is whole.
        if let At::Body { left: 0, padding: 0, .. } = self.at {
            self.at = At::Head(Vec::with_capacity(BLOCK_BYTES));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Disk, MemoryDisk};
    use crate::snapshot::SnapshotStore;
    use crate::table::conformance::{batch, cells, history};
    use crate::table::{MemoryTable, Table};

    fn about() -> About {
        About {
            id: "test-1".into(),
            cluster_id: "00000000-0000-0000-0000-000000000001".into(),
            cluster_name: "conclave".into(),
            node_id: "n1".into(),
            software: "0.1.0".into(),
            saved_ms: 1_795_510_799_300,
            members: vec![("n1".into(), "127.0.0.1:8201".into())],
        }
    }

    fn packed(table: &dyn Table) -> Vec<u8> {
        let mut out = Vec::new();
        let mut seal = |sums: &[u8]| Ok(sha256(sums).to_vec());
        pack(&*table.view().unwrap(), b"\xf0", &about(), &mut seal, &mut out).unwrap();
        out
    }

    fn table() -> MemoryTable {
        let table = MemoryTable::new();
        history(3, 60).iter().for_each(|call| _ = table.apply(call).unwrap());
        table
    }

    struct Folder {
        disk: MemoryDisk,
        store: SnapshotStore,
    }

    impl Folder {
        fn new() -> Folder {
            let disk = MemoryDisk::new();
            Folder { store: SnapshotStore::open(Arc::new(disk.clone()), Path::new("/s")).unwrap(), disk }
        }

        fn files(&self) -> usize {
            self.disk.list(Path::new("/s")).unwrap().len()
        }

        fn unpack(&self, bytes: &[u8], piece: usize) -> Result<Container, ContainerError> {
            let mut unpacker = Unpacker::new(1 << 20, Box::new(|bytes| self.store.receive(bytes)));
            for piece in bytes.chunks(piece) {
                unpacker.write(piece)?;
            }
            unpacker.finish()
        }
    }

    /// The unpacked tar, and one of other bytes packed again.
    fn plain(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzDecoder::new(Vec::new());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        gzipped_at(bytes, Compression::fast())
    }

    fn gzipped_at(bytes: &[u8], level: Compression) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), level);
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn what_was_packed_comes_back_whole_in_whatever_pieces() {
        let (table, folder) = (table(), Folder::new());
        let bytes = packed(&table);
        for piece in [1, 7, 511, 512, 4096, usize::MAX] {
            let container = folder.unpack(&bytes, piece).unwrap();
            assert_eq!((&container.about, container.state.applied()), (&about(), &table.applied()), "{piece}");
            assert_eq!(container.sealed, sha256(&container.sums));
            let copy = MemoryTable::new();
            let Container { mut state, .. } = container;
            copy.replace(&mut state).unwrap();
            assert_eq!(cells(&*copy.view().unwrap()), cells(&*table.view().unwrap()));
            drop(state);
            assert_eq!(folder.files(), 0, "nothing is left behind");
        }
    }

    #[test]
    fn what_is_left_out_is_counted_out() {
        let (table, folder) = (MemoryTable::new(), Folder::new());
        table.apply(&[batch(0, &[], &[("a", Some("1")), ("b", Some("2"))])]).unwrap();
        let mut out = Vec::new();
        let packed = pack(&*table.view().unwrap(), b"b", &about(), &mut |_| Ok(vec![1]), &mut out).unwrap();
        assert_eq!(packed.records, 1);
        let container = folder.unpack(&out, 4096).unwrap();
        let keys: Vec<_> = container.state.records().unwrap().map(|record| record.unwrap().key).collect();
        assert_eq!(keys, ["a"]);
    }

    #[test]
    fn golden_bytes_of_format_1() {
        let table = MemoryTable::new();
        table.apply(&[batch(1, &[], &[("a", Some("1")), ("b/c", Some("three"))])]).unwrap();
        // What zlib makes of it is no promise; what is in it is.
        let golden = crate::golden::check("golden/storage/backup-v1.tar", &plain(&packed(&table)));
        let container = Folder::new().unpack(&gzipped(&golden), 4096).unwrap();
        assert_eq!((container.about, container.state.applied()), (about(), &table.applied()));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused_and_leaves_nothing() {
        let table = MemoryTable::new();
        table.apply(&[batch(1, &[], &[("a", Some("1")), ("b/c", Some("three"))])]).unwrap();
        let (bytes, folder) = (packed(&table), Folder::new());
        for length in 0..bytes.len() {
            let error = folder.unpack(&bytes[..length], 4096).err().unwrap_or_else(|| panic!("cut to {length}"));
            assert!(matches!(error, ContainerError::Short(_) | ContainerError::Gzip(_)), "cut to {length}: {error}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(folder.unpack(&longer, 4096).is_err());
        assert!(folder.unpack(&[&bytes[..], &bytes[..]].concat(), 4096).is_err(), "one after another");
        // Of the unpacked file: the gzip's own sum would hide what the rest finds.
        let plain = plain(&bytes);
        let sealed_at = plain.len() - 3 * BLOCK_BYTES;
        // Zeros between the parts are many, and alike.
        for at in (0..plain.len()).filter(|at| plain[*at] != 0 || at % 64 == 0) {
            let mut flipped = plain.clone();
            flipped[at] ^= 4;
            match folder.unpack(&gzipped_at(&flipped, Compression::none()), 4096) {
                // The seal is for who has keys; of a header some fields say nothing to us, but then its checksum fails.
                Ok(container) => assert!((sealed_at..sealed_at + 32).contains(&at), "{at} {:?}", container.about),
                Err(_) => assert!(!(sealed_at..sealed_at + 32).contains(&at), "{at}"),
            }
        }
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 16;
            // The head of a gzip holds a time and a system, which say nothing.
            assert!(at < 10 || folder.unpack(&flipped, 4096).is_err(), "{at}");
        }
        assert_eq!(folder.files(), 0);
    }

    #[test]
    fn cve_2026_39396_a_bomb_is_refused_before_it_is_written() {
        let folder = Folder::new();
        let mut tar = Vec::new();
        member(&mut tar, META, b"{}", 0).unwrap();
        tar.extend(head(STATE, 512 << 10, 0));
        tar.extend(vec![0; 512 << 10]);
        // Within what may come of anything; beyond that it must be about as long as what was sent.
        assert!(!matches!(folder.unpack(&gzipped(&tar), 4096), Err(ContainerError::Bomb)));
        let mut tar = Vec::new();
        member(&mut tar, META, b"{}", 0).unwrap();
        tar.extend(head(STATE, 1 << 33, 0));
        let error = folder.unpack(&gzipped(&tar), 4096).err().unwrap();
        assert!(matches!(error, ContainerError::State(SnapshotError::TooLong { .. })), "{error}");
        let mut tar = Vec::new();
        member(&mut tar, META, b"{}", 0).unwrap();
        tar.extend(head(STATE, 600 << 20, 0));
        tar.extend(vec![0; 8 << 20]);
        let mut unpacker = Unpacker::new(1 << 30, Box::new(|bytes| folder.store.receive(bytes)));
        let refused = unpacker.write(&gzipped(&tar));
        assert!(matches!(refused, Err(ContainerError::Bomb)), "{refused:?}");
        let written = folder.disk.open(&Path::new("/s").join(&folder.disk.list(Path::new("/s")).unwrap()[0]), crate::disk::OpenMode::Read);
        assert!(written.unwrap().len().unwrap() < 3 << 20);
        drop(unpacker);
        assert_eq!(folder.files(), 0);
    }

    #[test]
    fn members_that_do_not_belong_are_refused() {
        let tar = |members: &[(&str, &[u8])]| {
            let mut tar = Vec::new();
            members.iter().for_each(|(name, content)| member(&mut tar, name, content, 0).unwrap());
            tar.extend([0; 2 * BLOCK_BYTES]);
            gzipped(&tar)
        };
        let refused = |bytes: &[u8]| Folder::new().unpack(bytes, 4096).err().map(|error| error.to_string()).unwrap();
        for (members, want) in [
            (&[("../meta.json", &b"{}"[..])][..], "another name"),
            (&[(STATE, b"")], "another order"),
            (&[(META, b"{}"), (META, b"{}")], "another order"),
            (&[(META, b"{}")], "state.bin is missing"),
            (&[(META, &[b' '; META_BYTES_MAX + 1])], "too long"),
            (&[(META, b"{}"), (STATE, b""), (SUMS, b""), (SEALED, b""), ("more", b"")], "too many"),
            (&[(META, b"{}"), (STATE, b"xx"), (SUMS, b""), (SEALED, b"")], "meta.json has another SHA-256"),
        ] {
            let error = refused(&tar(members));
            assert!(error.contains(want), "{want}: {error}");
        }
        let sums = encode_sums(&sha256(b"{}"), &sha256(b"xx"));
        let other = |state: &'static [u8]| tar(&[(META, b"{}"), (STATE, state), (SUMS, sums.as_bytes()), (SEALED, b"")]);
        assert!(refused(&other(b"yy")).contains("state.bin has another SHA-256"));
        assert!(refused(&other(b"xx")).contains("another program"), "its meta.json is not ours");
        let link = {
            let mut block = head(META, 0, 0);
            block[156] = b'2';
            let sum = checksum(&block);
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            gzipped(&block)
        };
        assert!(refused(&link).contains("no plain file"));
        assert!(refused(b"no gzip at all, but some text").contains("not a snapshot"));
        assert!(refused(b"").contains("cut short"));
    }

    #[test]
    fn lengths_above_eight_gigabytes_are_written_as_gnu_tar_does() {
        let block = head(STATE, 20 << 30, 0);
        assert_eq!((block[124], u64::from_be_bytes(block[128..136].try_into().unwrap())), (0x80, 20 << 30));
        assert_eq!(&head(STATE, 8, 0)[124..136], b"00000000010\0");
    }
}
