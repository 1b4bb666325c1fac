//! The simulated cluster.

pub mod dice;
pub mod linearizability;
