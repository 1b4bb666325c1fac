//! Policies: who may do what, where. Pure: from texts to rules, and from rules to decisions.

pub mod acl;
pub mod builtin;
pub mod capabilities;
pub mod decision;
#[cfg(test)]
mod differential;
pub mod filter;
pub mod mistake;
#[cfg(test)]
mod openbao;
#[cfg(test)]
mod oracle;
pub mod parameter;
pub mod password;
pub mod pattern;
pub mod text;
