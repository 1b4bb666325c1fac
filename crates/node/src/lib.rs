//! node

pub mod config;
