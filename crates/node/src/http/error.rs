//! The one border where refusals become status codes and texts.

use engine::AskError;
use http::StatusCode;
use service::Refusal;
use types::PathError;
use types::json::JsonLimitError;

use crate::room::BodyError;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The path has no canonical form.
    #[error("{0}")]
    Path(#[from] PathError),
    /// Not a path of this API.
    #[error("no such page (the API is under /v1/)")]
    NotFound,
    /// A method that no path has, or that this path does not have.
    #[error("unsupported operation")]
    Method,
    /// A header says what cannot be.
    #[error("{0}")]
    Header(String),
    /// A header is too long.
    #[error("header {0} is too long")]
    HeaderTooLong(&'static str),
    /// Scripts of this page may not call.
    #[error("origin not allowed")]
    Origin,
    /// The body was not taken.
    #[error("{0}")]
    Upload(BodyError),
    /// The body is JSON of an unreasonable shape.
    #[error("{0}")]
    JsonLimit(#[from] JsonLimitError),
    /// The body is not what is needed.
    #[error("{0}")]
    Body(String),
    /// Patches need their own media type.
    #[error("PATCH requires Content-Type of application/merge-patch+json, provided {0}")]
    MediaType(String),
    /// The barrier is sealed.
    #[error("Vault is sealed")]
    Sealed,
    /// Took longer than allowed; a write may have been done.
    #[error("the request took too long; if it was a write, read before you try again")]
    TookTooLong,
    /// What the ceremony or init refuses.
    #[error("{0}")]
    Ceremony(String),
    /// Too often: later.
    #[error("{0}")]
    TooMany(String),
    /// No leader.
    #[error("{0}")]
    Unavailable(String),
    /// Our fault.
    #[error("internal error")]
    Internal,
}

/// The status of a failure of the edge itself.
pub(crate) fn status_of_failure(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Path(_) | Failure::Header(_) | Failure::Body(_) | Failure::JsonLimit(_) | Failure::Ceremony(_) => StatusCode::BAD_REQUEST,
        Failure::NotFound => StatusCode::NOT_FOUND,
        Failure::Origin => StatusCode::FORBIDDEN,
        Failure::Method => StatusCode::METHOD_NOT_ALLOWED,
        Failure::HeaderTooLong(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Failure::Upload(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::Upload(BodyError::NoRoom) => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Upload(BodyError::UnknownCaller) => StatusCode::FORBIDDEN,
        Failure::Upload(BodyError::Lost) => StatusCode::BAD_REQUEST,
        Failure::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Failure::Sealed | Failure::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Failure::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Failure::TookTooLong => StatusCode::GATEWAY_TIMEOUT,
        Failure::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status of a refusal, and its text for clients. `Contended`, `NoLeader` and `Sealed` may be tried again; `Indeterminate`
/// only by who has read first.
pub(crate) fn status_of_refusal(refusal: &Refusal) -> (StatusCode, String) {
    let text = refusal.to_string();
    match refusal {
        Refusal::Denied => (StatusCode::FORBIDDEN, format!("1 error occurred:\n\t* {text}\n\n")),
        Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, text),
        Refusal::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, text),
        Refusal::NoRoute(_) | Refusal::NoSuch(_) => (StatusCode::NOT_FOUND, text),
        Refusal::Ask(AskError::UnsupportedPath) => (StatusCode::NOT_FOUND, format!("1 error occurred:\n\t* {text}\n\n")),
        Refusal::Ask(AskError::UnsupportedOperation) => (StatusCode::METHOD_NOT_ALLOWED, format!("1 error occurred:\n\t* {text}\n\n")),
        Refusal::Ask(AskError::Invalid(_)) | Refusal::Refused(_) => (StatusCode::BAD_REQUEST, text),
        Refusal::Ask(AskError::UnsupportedMediaType(_)) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, text),
        Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, text),
        Refusal::Contended | Refusal::Sealed | Refusal::NoLeader | Refusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, text),
        Refusal::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, text),
        Refusal::Indeterminate | Refusal::Audit | Refusal::Internal => (StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}
