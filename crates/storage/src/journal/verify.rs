//! [`Verifier`]: the chain over several files of one journal, oldest first.
//!
//! Always: a break is told where it is, and what comes after it is still read. Knows nothing of disks: whoever asks brings the bytes.

use types::{ClusterId, NodeId};

use super::line::{Broken, Checked, End, Header, Line, LineHash, check};

/// What is wrong with a file, or between it and the one before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// A line is not as it was written, or not in its place.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The end is torn, and yet another file follows.
    #[error("its end is torn, and yet another file goes on from it")]
    Torn,
    /// Files between are missing.
    #[error("line 1: it is file {found}, and file {wanted} was to come")]
    Missing {
        /// What its header says.
        found: u64,
        /// What comes after the file before it.
        wanted: u64,
    },
    /// It is another node's, or another cluster's.
    #[error("line 1: it is of node {found}, and the file before it of node {wanted}")]
    Node {
        /// Whose it is.
        found: NodeId,
        /// Whose the file before it is.
        wanted: NodeId,
    },
    /// It is another cluster's.
    #[error("line 1: it is of cluster {found}, and the file before it of cluster {wanted}")]
    Cluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose the file before it is.
        wanted: ClusterId,
    },
    /// It does not go on from the file before it as that is now.
    #[error("line 1: it goes on from a line or file with the hash {found}, and the file before it ends with {wanted}")]
    Link {
        /// What its header names.
        found: LineHash,
        /// What the file before it has.
        wanted: LineHash,
    },
    /// Entries between are missing or there twice.
    #[error("line 1: it begins with entry {found}, and entry {wanted} was to come")]
    Sequence {
        /// What its header says.
        found: u64,
        /// What comes after the file before it.
        wanted: u64,
    },
}

/// What was found in one file.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// `None`: already its first line is broken.
    pub header: Option<Header>,
    /// Its entries up to the first break.
    pub lines: Vec<Line>,
    /// The hash of its last line that is whole.
    pub head: Option<LineHash>,
    /// How many bytes at its end are a line that was being written.
    pub torn_bytes: usize,
    /// Everything that is wrong, in the order of the file.
    pub faults: Vec<FileFault>,
}

/// Checks the files of one journal, one after another.
#[derive(Debug, Default)]
pub struct Verifier {
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    header: Option<Header>,
    head: Option<LineHash>,
    whole: LineHash,
    next: u64,
    is_torn: bool,
    is_broken: bool,
}

impl Verifier {
    /// With no file yet.
    pub fn new() -> Verifier {
        Verifier::default()
    }

    /// Checks the next file, and whether it goes on from the one before.
    pub fn file(&mut self, bytes: &[u8]) -> FileReport {
        let checked = check(bytes);
        let mut faults = Vec::new();
        if let (Some(before), Some(header)) = (&self.before, &checked.header) {
            before.compare(header, &mut faults);
        }
        let next = checked.next();
        let Checked { header, lines, head, end, .. } = checked;
        let (mut torn_bytes, mut is_broken) = (0, false);
        match end {
            End::Whole => {}
            End::Torn { offset } => torn_bytes = bytes.len() - offset,
            End::Broken(broken) => {
                is_broken = true;
                faults.push(broken.into());
            }
        }
        let whole = LineHash::of(bytes);
        self.before = Some(Before { header: header.clone(), head, whole, next, is_torn: torn_bytes > 0, is_broken });
        FileReport { header, lines, head, torn_bytes, faults }
    }
}

impl Before {
    fn compare(&self, header: &Header, faults: &mut Vec<FileFault>) {
        if let Some(before) = &self.header {
            if header.node != before.node {
                return faults.push(FileFault::Node { found: header.node.clone(), wanted: before.node.clone() });
            }
            if let (Some(found), Some(wanted)) = (header.cluster, before.cluster)
                && found != wanted
            {
                return faults.push(FileFault::Cluster { found, wanted });
            }
            if header.file != before.file.saturating_add(1) {
                return faults.push(FileFault::Missing { found: header.file, wanted: before.file.saturating_add(1) });
            }
        }
        // A node that found the file broken names all of it as it was, and counts its lines as entries.
        let wanted = if header.broken.is_some() { Some(self.whole) } else { self.head };
        match (header.previous, wanted) {
            (Some(found), Some(wanted)) if found != wanted => faults.push(FileFault::Link { found, wanted }),
            (None, Some(_)) => faults.push(FileFault::Missing { found: header.file, wanted: 2 }),
            _ if header.broken.is_none() && self.is_torn => faults.push(FileFault::Torn),
            _ if header.broken.is_none() && !self.is_broken && header.next != self.next => {
                faults.push(FileFault::Sequence { found: header.next, wanted: self.next });
            }
            _ => {}
        }
    }
}
