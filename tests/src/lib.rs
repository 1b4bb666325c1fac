//! The harness of tests that drive real processes: it builds `conclave`, starts clusters of it, and speaks to them.
//!
//! Always: every wait is bounded and says what it waited for; nodes die with the test, however it ends; when a test fails,
//! the ends of all traces are printed and the cluster's folder is kept; one test at a time holds the machine ([`turn`]).
//! Knows nothing of the server's crates: only the binary, its files and its sockets.

#![allow(clippy::disallowed_methods, reason = "test files need not be durable, and test tasks are joined by their test")]

mod binary;
mod capture;
mod cluster;
mod command;
pub mod h2;
mod load;
mod network;
mod node;
pub mod raw;
mod steady;
mod terminal;
mod wait;

pub use binary::{Turn, conclave, turn};
pub use capture::Capture;
pub use cluster::{Builder, Cluster, Keys, SHARES, THRESHOLD, fields, seal_status};
pub use command::{Command, Output};
pub use load::{Load, Report, Write};
pub use network::Network;
pub use node::Node;
pub use steady::{Sample, Samples, Steady};
pub use terminal::Terminal;
pub use wait::{eventually, within};
