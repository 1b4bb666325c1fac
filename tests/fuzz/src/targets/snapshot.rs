//! Backups that are uploaded, and proposals of the log: whoever may restore can send any bytes, and a peer any proposal.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use storage::container::{Container, ContainerError, Unpacker};
use storage::{Change, Disk, MemoryDisk, SnapshotStore};

use crate::driver::Subject;

const TAR: &[u8] = include_bytes!("../../../golden/storage/backup-v1.tar");
const ADOPTION: &[u8] = include_bytes!("../../../golden/storage/adoption-v2.bin");
const BATCH: &[u8] = include_bytes!("../../../golden/storage/batch-v1.bin");
/// The state of a small backup is smaller than this.
const STATE_BYTES_MAX: u64 = 1 << 20;
const FOLDER: &str = "/fuzz";

pub(super) fn seeds() -> Vec<Vec<u8>> {
    // The first byte says what the rest is: a tar that is packed first, a file as it is, or a proposal.
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let cuts = [512, 1024, 2048, TAR.len() - 1024].map(|length| with(0, &TAR[..length.min(TAR.len())]));
    let whole = [with(0, TAR), with(1, &gzipped(TAR)), with(2, ADOPTION), with(2, BATCH)];
    whole.into_iter().chain(cuts).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::none());
    out.write_all(bytes).and_then(|()| out.finish()).expect("memory takes what is written")
}

pub(super) fn subject() -> Box<Subject> {
    Box::new(|input| match input.split_first() {
        None => "nothing".into(),
        Some((kind, rest)) if kind % 3 == 2 => proposal(rest),
        Some((kind, rest)) => {
            let file = if kind % 3 == 0 { gzipped(rest) } else { rest.to_vec() };
            let disk = MemoryDisk::new();
            let store = SnapshotStore::open(Arc::new(disk.clone()), Path::new(FOLDER)).expect("a folder in memory");
            let found = unpack(&store, &file);
            let outcome = match &found {
                Ok(container) => {
                    let records = container.state.records().map(Iterator::count).expect("it was verified");
                    assert_eq!(records as u64, container.state.applied().keys, "it was found whole");
                    "a backup".to_owned()
                }
                Err(error) => error.to_string(),
            };
            drop(found);
            assert!(disk.list(Path::new(FOLDER)).expect("is there").is_empty(), "files are left behind");
            outcome
        }
    })
}

fn unpack(store: &SnapshotStore, file: &[u8]) -> Result<Container, ContainerError> {
    let mut unpacker = Unpacker::new(STATE_BYTES_MAX, Box::new(|bytes| store.receive(bytes)));
    for piece in file.chunks(1000) {
        unpacker.write(piece)?;
    }
    unpacker.finish()
}

fn proposal(bytes: &[u8]) -> String {
    let bytes = bytes.to_vec().into();
    match Change::decode(&bytes) {
        Ok(Change::Adopt(adoption)) => {
            assert_eq!(adoption.encode().ok(), Some(bytes), "one form for each adoption");
            "an adoption".into()
        }
        Ok(Change::Batch(batch)) => {
            assert_eq!(batch.encode().ok(), Some(bytes), "one form for each batch");
            "a batch".into()
        }
        Ok(Change::Blank | Change::Membership(_)) => unreachable!("neither is proposed"),
        Err(error) => error.to_string(),
    }
}
