//! Answers of both endpoints: JSON that nobody keeps.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use writ_identity::exchange::Refusal;

use crate::web;

/// Nothing is issued or told.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum Failure {
    /// The client is told why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something here does not work at the moment; the operator is told elsewhere.
    #[error("not now")]
    Unavailable,
}

impl Failure {
    /// RFC 6749 section 5.2.
    pub(super) fn response(self) -> Response<Bytes> {
        let (status, body) = match self {
            Self::Refused(refusal) => {
                let is_client = matches!(refusal, Refusal::Client(_));
                let status = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
                (status, json!({ "error": refusal.code(), "error_description": refusal.to_string() }))
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "temporarily_unavailable" }))
            }
        };
        let mut response = answer(status, &body);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer of JSON.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = web::json(status, body.to_string());
    response.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
