//! A whole cluster in one thread, under simulated network, disk, time and randomness: everything that goes wrong in it goes wrong
//! again from the same seed.
//!
//! Always: a simulation's decisions come from its seed alone; nothing of it touches files, sockets or the wall clock.
//! What it runs is the product's own code above its four seams: [`clock`], [`disk`], [`network`] and `crypto`'s seeded generator.
//! How to run and replay: `docs/testing.md`.

pub mod canary;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod history;
pub mod linearizability;
pub mod network;
pub mod node;
mod panics;
pub mod scenario;
pub mod trace;
pub mod witness;
pub mod workload;
