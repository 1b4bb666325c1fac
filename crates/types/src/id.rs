//! Ids: of a node, of a cluster, of a request.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// The longest node id, in bytes: it must fit one DNS label of a certificate.
pub const NODE_ID_BYTES_MAX: usize = 32;

/// A node's name for life: 1 to 32 of `a-z 0-9 -`, not starting or ending with `-`.
///
/// Never given to another node: reuse on an empty log could split the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is no [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no node id (use 1 to {NODE_ID_BYTES_MAX} of a-z, 0-9 and '-', not at either end)")]
pub struct NodeIdError {
    text: String,
}

impl NodeId {
    /// Checks and keeps `text`.
    pub fn parse(text: &str) -> Result<NodeId, NodeIdError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=NODE_ID_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-') {
            Ok(NodeId(Arc::from(text)))
        } else {
            Err(NodeIdError { text: text.chars().take(80).collect() })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u64> for NodeId {
    /// The number as text; for simulations and test suites that count their nodes.
    fn from(number: u64) -> NodeId {
        NodeId(Arc::from(number.to_string()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster's id: drawn once, at init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A request's id, as answered in `request_id` and written in each audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// A new random id.
    pub fn generate() -> RequestId {
        RequestId(Uuid::new_v4())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_fit_a_dns_label() {
        for (text, fits) in [("n1", true), ("a-b", true), ("", false), ("-a", false), ("a-", false), ("N1", false), ("a.b", false)] {
            assert_eq!(NodeId::parse(text).is_ok(), fits, "{text}");
        }
        assert!(NodeId::parse(&"a".repeat(33)).is_err());
    }
}
