//! Real clients judge real nodes: `bao` (OpenBao's command line), hvac (Python), node-vault and vaultrs drive clusters of three
//! processes.
//!
//! Always: neighbouring checks speak to different nodes, so that each also shows that every node serves; a check that finds
//! something else than it wants is named with all that was said; without the clients nothing is tested, and that is said ([`needs`]).
//! Knows nothing of the server's crates.

#![allow(clippy::disallowed_methods, reason = "test files need not be durable")]

mod area;
mod bao;
mod ceremony;
mod check;
mod clients;
mod compare;
mod dev;
mod differences;
mod hvac;
mod members;
mod needs;
mod openapi;
mod openbao;
mod operate;
mod pgp;
mod snapshots;
mod step;
mod subject;
mod tls;
