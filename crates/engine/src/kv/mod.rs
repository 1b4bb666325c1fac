//! KV.
/// x
pub struct Kv;
impl Kv {
    /// x
    pub fn new() -> Kv {
        Kv
    }
}
impl crate::Engine for Kv {
    fn kind(&self) -> &'static str {
        "kv"
    }
    fn parse(&self, _ask: crate::Ask) -> Result<Box<dyn crate::Operation>, crate::AskError> {
        Err(crate::AskError::UnsupportedPath)
    }
}
