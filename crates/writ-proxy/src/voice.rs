//! In which protocol's voice a refusal is spoken, and how it becomes an answer.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use writ_gate::Refusal;

use crate::body::Answer;

/// The voice of one request's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Voice {
    Http1,
    Http2,
    Grpc,
}

impl Voice {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let grpc = || {
            let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
        };
        match request.version() {
            Version::HTTP_2 if grpc() => Self::Grpc,
            Version::HTTP_2 => Self::Http2,
            _ => Self::Http1,
        }
    }

    pub(crate) fn refuse(self, refusal: Refusal) -> Response<Answer> {
        let body = format!("{{\"reason\":\"{}\"}}", refusal.reason.code());
        let mut response = Response::new(Answer::Own(Some(Bytes::from(body))));
        *response.status_mut() =
            StatusCode::from_u16(refusal.reason.http_status()).unwrap_or(StatusCode::FORBIDDEN);
        response
    }
}

/// The bytes of a refusal on a plain connection that ends with it.
pub(crate) fn plain(refusal: Refusal) -> Vec<u8> {
    format!(
        "HTTP/1.1 {} Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        refusal.reason.http_status()
    )
    .into_bytes()
}
