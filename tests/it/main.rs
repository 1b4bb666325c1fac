//! What the whole product promises, tried on real processes: each test is named after its promise.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "test files need not be durable; a test may unwrap")]

mod access;
mod audit;
mod bad_input;
mod ceremony;
mod failures;
mod full_disk;
mod listener;
mod memory;
mod namespaces;
mod peers;
mod secrecy;
mod startup;
