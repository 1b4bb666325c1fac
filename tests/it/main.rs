//! What the whole product promises, tried on real processes: each test is named after its promise.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "test files need not be durable; a test may unwrap")]

mod abuse;
mod access;
mod audit;
mod availability;
mod bad_input;
mod bloat;
mod ceremony;
mod ceremony_faults;
mod failures;
mod full_disk;
mod join;
mod journal;
mod keys;
mod keys_faults;
mod listener;
mod members;
mod memory;
mod namespaces;
mod operator;
mod peers;
mod reads;
mod repair;
mod runbook;
mod seals;
mod secrecy;
mod snapshots;
mod startup;
mod upgrade;
mod watch;
