//! The node: its configuration, and in time its listeners, peers, telemetry, start and stop.

pub mod config;
