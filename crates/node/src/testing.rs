//! For fuzzing: the border to HTTP without a connection. Of use to tests only.

use http::request::Parts;

/// What the service would be asked by a request with this head and body: the node's own routes are no exception here.
///
/// # Errors
/// The HTTP status with which the request is refused.
pub fn read_request(head: &Parts, body: &[u8]) -> Result<service::Request, u16> {
    crate::http::read_whole(head, body)
}
