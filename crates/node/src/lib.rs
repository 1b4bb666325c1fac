//! A node: configuration, listeners, start and stop. Puts the floors together and knows nothing of what a body means.

mod boot;
pub mod config;
pub mod facts;
mod grpc;
mod harden;
mod http;
mod lifecycle;
mod listener;
mod peers;
mod recovery;
mod room;
mod supervisor;
mod telemetry;
pub mod testing;

pub use boot::{RunError, Signals, run};
pub use config::Config;
pub use facts::Facts;
pub use harden::{LockObstacle, lock_obstacle};
pub use peers::OwnError;

/// The software's version, in the form on which Vault's clients gate features.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version that the HTTP API reports unless the configuration says another: clients gate features on it, so it is a
/// Vault-like one.
pub const API_VERSION: &str = "1.17.0";
