//! Paths.
/// x
#[derive(Debug, Clone)]
pub struct Path;
