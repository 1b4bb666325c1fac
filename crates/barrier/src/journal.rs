//! [`Journal`]: where each act on the cluster's keys is written down, sealed or not; and what an act is.
//!
//! Always: an entry holds names, numbers and public digests, never a share, a key, a token or an OTP. In a node the entries go to a
//! hash-chained file ([`FileJournal`]), in tests to memory ([`MemoryJournal`]).
//! Knows nothing of how acts are carried out, or of the audit log that they join later.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crypto::ShareDigest;
use storage::disk::Disk;
use storage::journal::{self, Field, NewEntry};
use types::{Clock, ClusterId, NodeId};

pub use storage::journal::{Line as JournalLine, LineHash as JournalHash};

/// Entries that a [`MemoryJournal`] keeps.
pub const MEMORY_ENTRIES_MAX: usize = 10_000;
/// Of a share's digest so much is shown: enough to tell shares apart, in bytes.
const DIGEST_BYTES_SHOWN: usize = 8;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The cluster got its keys.
    Initialized {
        /// Shares in all.
        shares: u8,
        /// Shares that open it.
        threshold: u8,
    },
    /// A share was taken: towards opening the cluster, or towards the attempt of the entry's nonce.
    ShareAccepted,
    /// A share was not taken. Anybody can cause this, so the file limits how many are written.
    ShareRefused {
        /// Why, without anything of the share.
        reason: String,
    },
    /// The shares that had come were thrown away.
    CeremonyReset,
    /// This node opened.
    Opened {
        /// By what.
        by: OpenedBy,
    },
    /// This node was sealed.
    Sealed {
        /// What else was.
        scope: SealScope,
    },
    /// An attempt began.
    AttemptStarted {
        /// At what.
        attempt: Attempt,
    },
    /// An attempt was given up.
    AttemptCancelled {
        /// At what.
        attempt: Attempt,
    },
    /// An attempt reached its end.
    AttemptCompleted {
        /// At what.
        attempt: Attempt,
    },
    /// A holder showed that a share is still right, without opening anything.
    ShareVerified,
    /// The keyring has a new value key.
    KeyringRotated {
        /// Its version.
        version: u32,
    },
    /// Another seal opens the cluster from now on.
    SealAdded {
        /// Its name.
        name: String,
    },
    /// A seal no longer opens the cluster.
    SealRemoved {
        /// Its name.
        name: String,
    },
    /// This node was opened after a restart by another that was open.
    Rejoined {
        /// By which.
        from: NodeId,
    },
    /// This node gave a restarted one the keys.
    RejoinGranted {
        /// Which.
        to: NodeId,
    },
    /// This node gave one that asked no keys. Who has a member's certificate can cause this, so the file limits how many are written.
    RejoinRefused {
        /// Which.
        to: NodeId,
        /// Why.
        reason: String,
    },
    /// A snapshot took the place of every record.
    Restored {
        /// Which.
        snapshot: String,
        /// Whether it was another cluster's: then its shares open this one from now on.
        is_foreign: bool,
    },
    /// The keys of another cluster's snapshot have looked at it.
    RestoreFinished {
        /// Which.
        snapshot: String,
    },
}

/// What opened a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenedBy {
    /// A quorum of shares, at this node.
    Shares,
    /// A seal that needs nobody.
    StaticSeal {
        /// Its name.
        name: String,
    },
    /// The node at which the quorum came together.
    HandOver {
        /// Its id.
        from: NodeId,
    },
}

/// How far a seal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealScope {
    /// Every node.
    Cluster,
    /// This one.
    Node,
}

/// A ceremony that has a beginning and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// New shares.
    Rekey,
    /// The verification of new shares.
    RekeyVerification,
    /// A new root token.
    GenerateRoot,
    /// A change of the seals.
    SealChange,
}

impl Attempt {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Attempt::Rekey => "rekey",
            Attempt::RekeyVerification => "rekey_verification",
            Attempt::GenerateRoot => "generate_root",
            Attempt::SealChange => "seal_change",
        }
    }
}

impl Act {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Initialized { .. } => "initialized",
            Act::ShareAccepted => "share_accepted",
            Act::ShareRefused { .. } => "share_refused",
            Act::CeremonyReset => "ceremony_reset",
            Act::Opened { .. } => "opened",
            Act::Sealed { .. } => "sealed",
            Act::AttemptStarted { .. } => "attempt_started",
            Act::AttemptCancelled { .. } => "attempt_cancelled",
            Act::AttemptCompleted { .. } => "attempt_completed",
            Act::ShareVerified => "share_verified",
            Act::KeyringRotated { .. } => "keyring_rotated",
            Act::SealAdded { .. } => "seal_added",
            Act::SealRemoved { .. } => "seal_removed",
            Act::Rejoined { .. } => "rejoined",
            Act::RejoinGranted { .. } => "rejoin_granted",
            Act::RejoinRefused { .. } => "rejoin_refused",
            Act::Restored { .. } => "restored",
            Act::RestoreFinished { .. } => "restore_finished",
        }
    }

    fn is_refusal(&self) -> bool {
        matches!(self, Act::ShareRefused { .. } | Act::RejoinRefused { .. })
    }

    fn fields(&self) -> Vec<(&'static str, Field)> {
        let text = |text: &str| Field::Text(text.to_owned());
        match self {
            Act::Initialized { shares, threshold } => {
                vec![("shares", Field::Number((*shares).into())), ("threshold", Field::Number((*threshold).into()))]
            }
            Act::ShareRefused { reason } => vec![("reason", text(reason))],
            Act::Opened { by: OpenedBy::Shares } => vec![("by", text("shares"))],
            Act::Opened { by: OpenedBy::StaticSeal { name } } => vec![("by", text("static_seal")), ("seal", text(name))],
            Act::Opened { by: OpenedBy::HandOver { from } } => vec![("by", text("hand_over")), ("from", text(from.as_str()))],
            Act::Sealed { scope: SealScope::Cluster } => vec![("scope", text("cluster"))],
            Act::Sealed { scope: SealScope::Node } => vec![("scope", text("node"))],
            Act::AttemptStarted { attempt } | Act::AttemptCancelled { attempt } | Act::AttemptCompleted { attempt } => {
                vec![("attempt", text(attempt.as_str()))]
            }
            Act::KeyringRotated { version } => vec![("version", Field::Number((*version).into()))],
            Act::SealAdded { name } | Act::SealRemoved { name } => vec![("seal", text(name))],
            Act::Rejoined { from } => vec![("from", text(from.as_str()))],
            Act::RejoinGranted { to } => vec![("to", text(to.as_str()))],
            Act::RejoinRefused { to, reason } => vec![("to", text(to.as_str())), ("reason", text(reason))],
            Act::Restored { snapshot, is_foreign } => {
                vec![("snapshot", text(snapshot)), ("of", text(if *is_foreign { "another_cluster" } else { "this_cluster" }))]
            }
            Act::RestoreFinished { snapshot } => vec![("snapshot", text(snapshot))],
            Act::ShareAccepted | Act::CeremonyReset | Act::ShareVerified => Vec::new(),
        }
    }
}

/// An act, and what is known of who did it and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub act: Act,
    /// What came of it, for people: "done" unless said otherwise.
    pub outcome: String,
    /// Whose share it is, where shares have names.
    pub holder: Option<String>,
    /// The share's number.
    pub share: Option<u8>,
    /// The beginning of the share's salted digest, which is public: 16 hexadecimal digits.
    pub digest: Option<String>,
    /// Names the attempt.
    pub nonce: Option<String>,
    /// Who did it, where a token says so: its display name.
    pub actor: Option<String>,
    /// Where the request came from, where that is known.
    pub remote: Option<SocketAddr>,
    /// The node that passed it on, when it came to another one.
    pub caller: Option<NodeId>,
}

impl Entry {
    /// An act of which nothing else is known, and which was done.
    pub fn new(act: Act) -> Entry {
        let outcome = if act.is_refusal() { "refused" } else { "done" };
        Entry {
            act,
            outcome: outcome.into(),
            holder: None,
            share: None,
            digest: None,
            nonce: None,
            actor: None,
            remote: None,
            caller: None,
        }
    }

    /// What came of it, for people: never a share, a key or a token.
    #[must_use]
    pub fn outcome(mut self, outcome: impl Into<String>) -> Entry {
        self.outcome = outcome.into();
        self
    }

    /// The share's number, and its digest if it is one of the cluster's. That of a wrong share is left out: it may be somebody's secret
    /// for something else.
    #[must_use]
    pub fn share(mut self, number: u8, digest: Option<&ShareDigest>) -> Entry {
        self.share = Some(number);
        self.digest = digest.map(|digest| hex::encode(&digest.0[..DIGEST_BYTES_SHOWN]));
        self
    }

    /// Whose share it is; an empty name is none.
    #[must_use]
    pub fn holder(mut self, holder: &str) -> Entry {
        self.holder = (!holder.is_empty()).then(|| holder.to_owned());
        self
    }

    /// The attempt that it belongs to; an empty nonce is none.
    #[must_use]
    pub fn nonce(mut self, nonce: &str) -> Entry {
        self.nonce = (!nonce.is_empty()).then(|| nonce.to_owned());
        self
    }

    /// Who did it; an empty name is none.
    #[must_use]
    pub fn actor(mut self, actor: &str) -> Entry {
        self.actor = (!actor.is_empty()).then(|| actor.to_owned());
        self
    }

    /// Where the request came from.
    #[must_use]
    pub fn remote(mut self, remote: Option<SocketAddr>) -> Entry {
        self.remote = remote;
        self
    }

    /// The node that passed it on.
    #[must_use]
    pub fn caller(mut self, caller: &NodeId) -> Entry {
        self.caller = Some(caller.clone());
        self
    }

    fn written(self) -> NewEntry {
        let mut fields = self.act.fields();
        let texts = [
            ("holder", self.holder),
            ("digest", self.digest),
            ("nonce", self.nonce),
            ("actor", self.actor),
            ("remote", self.remote.map(|remote| remote.to_string())),
            ("caller", self.caller.map(|caller| caller.to_string())),
        ];
        fields.extend(self.share.map(|share| ("share", Field::Number(share.into()))));
        fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, Field::Text(text?)))));
        NewEntry { act: self.act.name(), outcome: self.outcome, fields, is_refusal: self.act.is_refusal() }
    }
}

/// Why an entry is not surely written, or why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk took no entry.
    #[error(transparent)]
    Append(#[from] journal::AppendError),
    /// The disk gave none.
    #[error(transparent)]
    Read(#[from] journal::ReadError),
    /// Told to fail, in a test.
    #[error("the journal was told to fail")]
    Told,
}

/// Where acts are written down, in order.
pub trait Journal: Send + Sync + 'static {
    /// Writes an entry; returns once it is durable, or was left out as one refusal too many. It takes one write to the disk, and the call
    /// blocks for that.
    ///
    /// After an error the entry may be there or not. The caller decides what becomes of the act: a cluster that cannot be opened because a
    /// disk is full helps nobody.
    fn record(&self, entry: Entry) -> Result<(), JournalError>;

    /// The cluster's id is known now.
    fn bind_cluster(&self, cluster: ClusterId);

    /// The number of the last entry; 0 for none.
    fn last(&self) -> u64;

    /// Up to `count_max` entries after number `sequence`, in order.
    fn after(&self, sequence: u64, count_max: usize) -> Result<Vec<JournalLine>, JournalError>;

    /// Entries that could not be written since the start.
    fn failures(&self) -> u64;
}

/// The journal in a node's data folder.
pub struct FileJournal(journal::Journal);

impl FileJournal {
    /// Opens it in the folder `dir`, or makes it. Damage is traced and noted in it, and is no error.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: &NodeId,
        cluster: Option<ClusterId>,
        clock: Arc<dyn Clock>,
    ) -> Result<FileJournal, journal::OpenError> {
        journal::Journal::open(disk, dir, node, cluster, clock).map(FileJournal)
    }
}

impl Journal for FileJournal {
    fn record(&self, entry: Entry) -> Result<(), JournalError> {
        self.0.append(entry.written())?;
        Ok(())
    }

    fn bind_cluster(&self, cluster: ClusterId) {
        self.0.bind_cluster(cluster);
    }

    fn last(&self) -> u64 {
        self.0.last()
    }

    fn after(&self, sequence: u64, count_max: usize) -> Result<Vec<JournalLine>, JournalError> {
        Ok(self.0.after(sequence, count_max)?)
    }

    fn failures(&self) -> u64 {
        self.0.failures()
    }
}

/// A journal in memory, for tests and simulation: a [`FileJournal`]'s bytes on a disk in memory, and the entries as they came.
pub struct MemoryJournal {
    file: FileJournal,
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    entries: Vec<Entry>,
    fails: bool,
    failures: u64,
}

impl MemoryJournal {
    /// Empty.
    ///
    /// # Panics
    /// When the disk in memory fails, which does not happen.
    pub fn new(node: &NodeId, clock: Arc<dyn Clock>) -> MemoryJournal {
        let file = FileJournal::open(Arc::new(storage::RamDisk::new()), Path::new("/journal"), node, None, clock);
        MemoryJournal { file: file.expect("a disk in memory works"), state: Mutex::default() }
    }

    /// The entries so far, oldest first; of more than [`MEMORY_ENTRIES_MAX`], the first ones.
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// Whether every further entry is refused, as by a disk that is full.
    pub fn set_failing(&self, fails: bool) {
        self.state().fails = fails;
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn record(&self, entry: Entry) -> Result<(), JournalError> {
        {
            let mut state = self.state();
            if state.fails {
                state.failures += 1;
                return Err(JournalError::Told);
            }
            if state.entries.len() < MEMORY_ENTRIES_MAX {
                state.entries.push(entry.clone());
            }
        }
        self.file.record(entry)
    }

    fn bind_cluster(&self, cluster: ClusterId) {
        self.file.bind_cluster(cluster);
    }

    fn last(&self) -> u64 {
        self.file.last()
    }

    fn after(&self, sequence: u64, count_max: usize) -> Result<Vec<JournalLine>, JournalError> {
        self.file.after(sequence, count_max)
    }

    fn failures(&self) -> u64 {
        self.state().failures
    }
}

#[cfg(test)]
mod tests {
    use types::SystemClock;

    use super::*;

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    fn acts() -> Vec<Act> {
        let from = node("n2");
        let attempts = [Attempt::Rekey, Attempt::RekeyVerification, Attempt::GenerateRoot, Attempt::SealChange];
        let mut acts = vec![
            Act::Initialized { shares: 5, threshold: 3 },
            Act::ShareAccepted,
            Act::ShareRefused { reason: "of an earlier split".into() },
            Act::CeremonyReset,
            Act::Opened { by: OpenedBy::Shares },
            Act::Opened { by: OpenedBy::StaticSeal { name: "key-1".into() } },
            Act::Opened { by: OpenedBy::HandOver { from: from.clone() } },
            Act::Sealed { scope: SealScope::Cluster },
            Act::Sealed { scope: SealScope::Node },
            Act::ShareVerified,
            Act::KeyringRotated { version: 2 },
            Act::SealAdded { name: "key-1".into() },
            Act::SealRemoved { name: "key-1".into() },
            Act::Rejoined { from: from.clone() },
            Act::RejoinGranted { to: from.clone() },
            Act::RejoinRefused { to: from, reason: "too late".into() },
        ];
        for attempt in attempts {
            acts.extend([Act::AttemptStarted { attempt }, Act::AttemptCancelled { attempt }, Act::AttemptCompleted { attempt }]);
        }
        acts
    }

    /// Every act with all that can be known of it, so that no two fields have one name and none is lost.
    #[test]
    fn each_act_is_written_with_all_that_is_known() {
        let journal = MemoryJournal::new(&node("n1"), Arc::new(SystemClock));
        for act in acts() {
            let entry = Entry::new(act.clone())
                .holder("alice")
                .share(3, Some(&ShareDigest([0xab; 32])))
                .nonce("nonce")
                .actor("root")
                .remote(Some("192.0.2.7:4711".parse().unwrap()))
                .caller(&node("n3"));
            let fields = act.fields().len();
            journal.record(entry.clone()).unwrap();
            let lines = journal.after(journal.last() - 1, 10).unwrap();
            let [line] = &*lines else { panic!("{act:?}: {lines:?}") };
            let refused = act.is_refusal();
            assert_eq!((&*line.act, &*line.outcome), (act.name(), if refused { "refused" } else { "done" }));
            for (name, want) in [
                ("holder", "alice"),
                ("digest", "abababababababab"),
                ("nonce", "nonce"),
                ("actor", "root"),
                ("remote", "192.0.2.7:4711"),
                ("caller", "n3"),
            ] {
                assert_eq!(line.text(name), Some(want), "{act:?}");
            }
            assert_eq!(line.number("share"), Some(3), "{act:?}");
            assert_eq!(line.fields.len(), 7 + fields, "{act:?}: {:?}", line.fields);
            for (name, field) in act.fields() {
                match field {
                    Field::Text(text) => assert_eq!(line.text(name), Some(&*text), "{act:?}"),
                    Field::Number(number) => assert_eq!(line.number(name), Some(number), "{act:?}"),
                }
            }
            assert_eq!(journal.entries().last(), Some(&entry));
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let journal = MemoryJournal::new(&node("n1"), Arc::new(SystemClock));
        let entry = Entry::new(Act::ShareRefused { reason: "it is wrong".into() }).share(3, None).holder("").nonce("").actor("");
        journal.record(entry).unwrap();
        let line = journal.after(0, 1).unwrap().remove(0);
        assert_eq!(line.fields.keys().collect::<Vec<_>>(), ["reason", "share"]);
        journal.set_failing(true);
        assert!(matches!(journal.record(Entry::new(Act::CeremonyReset)), Err(JournalError::Told)));
        assert_eq!((journal.failures(), journal.last(), journal.entries().len()), (1, 1, 1));
    }
}
