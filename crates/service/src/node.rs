//! What the node around the service tells of itself. The service decides who may ask.

use engine::route::Outline;
use serde_json::Value;

/// The software that a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its own version, not the one of the API that it speaks.
    pub version: String,
    /// When its sources are from, RFC 3339; empty when the build does not say.
    pub source_date: String,
}

/// The node's facts. None holds a secret, a token, or a path beyond its mount.
pub trait Node: Send + Sync + 'static {
    /// The Vault-like version that clients are told.
    fn version(&self) -> String;

    /// What it runs.
    fn software(&self) -> Software;

    /// The machine.
    fn host_info(&self) -> Value;

    /// The requests under way, by id.
    fn in_flight(&self) -> Value;

    /// All metrics: media type and text. `format` as the query says it, `accept` as the header does. An error text for the caller.
    fn metrics(&self, format: Option<&str>, accept: Option<&str>) -> Result<(String, String), String>;

    /// The configuration without what is secret in it.
    fn configuration(&self) -> Value;

    /// Routes that the node serves by itself, below no mount, to everybody.
    fn routes(&self) -> Vec<Outline>;
}
