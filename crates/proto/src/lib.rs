//! Shapes that cross a process: the gRPC types of `/proto` and the JSON bodies of the HTTP API. No behaviour.

pub mod http;

/// Between nodes: Raft and the ceremony.
#[expect(missing_docs, clippy::allow_attributes_without_reason, reason = "generated; the comments stand in /proto")]
pub mod peer {
    tonic::include_proto!("conclave.peer.v1");
}

/// Kept on disk and in the log.
#[expect(missing_docs, reason = "generated; the comments stand in /proto")]
pub mod stored {
    tonic::include_proto!("conclave.stored.v1");
}

/// The native KV API.
#[expect(missing_docs, clippy::allow_attributes_without_reason, reason = "generated; the comments stand in /proto")]
pub mod kv {
    tonic::include_proto!("conclave.kv.v1");
}
