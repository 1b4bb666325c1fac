//! Peers over gRPC with mutual TLS: the client side ([`GrpcTransport`]), the server side ([`RaftService`]), and who is who
//! ([`PeerTls`], [`Admission`]).
//!
//! A node's certificate carries the name `<node_id>.<cluster_name>.conclave.internal`. The caller demands that name of
//! whoever answers; the callee reads the caller's name out of its certificate and admits only members. So a foreign,
//! expired or removed node is refused on both sides. Where the membership pins a member's key, both sides demand that key as well.

mod client;
mod identity;
mod incoming;
mod server;

pub use client::{Channels, GrpcTransport};
pub use identity::{
    Admission, Members, PeerIdentity, PeerTls, PeerTlsError, RefusedPeer, certificate_key, certificate_names, peer_name, pin,
};
pub use incoming::incoming;
pub use server::RaftService;

/// The largest message that a peer may send: a batch of the largest size and some more.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
