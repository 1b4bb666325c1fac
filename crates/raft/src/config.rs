//! Openraft's types, chosen for Conclave. Nothing of openraft leaves this crate.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use types::{NodeId, Timestamp};

use crate::runtime::Runtime;

openraft::declare_raft_types!(
    /// The types that openraft is instantiated with.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = NodeId,
        Node = Member,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, NodeId>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// Where a member of the cluster is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// URL of the peers' listener: `https://host:port`.
    pub cluster_address: String,
    /// URL that clients use.
    pub api_address: String,
    /// The key that the node must show to its peers; `None` where operators bring the certificates, and the name in them says all.
    pub key: Option<KeyPin>,
    /// It replicates without a vote until somebody promotes it; `false` for a learner that votes once it has caught up, and for voters.
    pub non_voter: bool,
}

/// SHA-256 of a public key's `SubjectPublicKeyInfo` (RFC 5280, section 4.1), DER: one key, whatever certificates it is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyPin(pub [u8; 32]);

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A batch and the time at which the leader took it. The batch stays encoded: Raft cannot read it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) time: Timestamp,
    pub(crate) batch: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.batch.len())
    }
}

/// What applying an entry came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A blank or a membership: there was nothing to decide.
    Nothing,
    /// Everything in the batch was done.
    Applied,
    /// Nothing in the batch was done.
    Conflict { expectation: usize, found: types::Revision },
}
