//! Refusals, each in the voice of the protocol that was spoken.
//!
//! HTTP gets a problem document (RFC 9457), gRPC a status without messages, git a text that it prints to its user,
//! and a connection that never came to HTTP either bytes of HTTP/1.1 or a TLS alert. Invariant: what is said depends
//! on the reason and the action's id alone; nothing of the request is ever reflected but the id of a JSON-RPC request, which
//! [`crate::mcp::echo`] answers.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use writ_core::{Origin, Reason};
use writ_gate::Refusal;

const REASON: HeaderName = HeaderName::from_static("writ-reason");
const ACTION: HeaderName = HeaderName::from_static("writ-action");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Whose voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// HTTP/1.1 or HTTP/2: a problem document.
    Http,
    /// A client that shows plain text only: git, which prints it as `remote: ...`.
    Text,
    /// gRPC over HTTP/2.
    Grpc,
}

impl Voice {
    /// The voice that the sender of this request understands.
    pub(crate) fn of(parts: &Parts) -> Self {
        let starts = |name: HeaderName, with: &str| {
            let value = parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        if starts(header::CONTENT_TYPE, "application/grpc") {
            return Self::Grpc;
        }
        let path = parts.uri.path();
        let git = path.ends_with("/git-upload-pack")
            || path.ends_with("/git-receive-pack")
            || (path.ends_with("/info/refs")
                && parts.uri.query().is_some_and(|query| query.contains("service=git-")));
        if git || starts(header::ACCEPT, "text/plain") { Self::Text } else { Self::Http }
    }

    /// The answer.
    pub(crate) fn refuse(self, refusal: &Refusal) -> Response<Bytes> {
        let body = match self {
            Self::Http => problem(refusal),
            Self::Text => Bytes::from(text(refusal)),
            Self::Grpc => Bytes::new(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = if self == Self::Grpc { StatusCode::OK } else { status(refusal.reason) };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        mark(headers, refusal);
        if self == Self::Grpc {
            grpc(headers, refusal);
        } else if status(refusal.reason) == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        response
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Http => "application/problem+json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Grpc => "application/grpc",
        }
    }
}

/// What the head of every refusal says.
pub(crate) fn mark(headers: &mut HeaderMap, refusal: &Refusal) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REASON, HeaderValue::from_static(refusal.reason.code()));
    if let Some(id) = refusal.action.and_then(|id| HeaderValue::try_from(id.to_string()).ok()) {
        headers.insert(ACTION, id);
    }
}

/// The bytes of a refusal on a plain connection that ends with it.
pub(crate) fn raw(refusal: &Refusal) -> Vec<u8> {
    let body = problem(refusal);
    let status = status(refusal.reason);
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         writ-reason: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Refused"),
        Voice::Http.content_type(),
        body.len(),
        refusal.reason.code(),
    );
    [head.as_bytes(), &body].concat()
}

/// RFC 9457. `title` is the same for every problem of a kind; `detail` is the public text of the reason.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    hint: &'a str,
}

fn problem(refusal: &Refusal) -> Bytes {
    let reason = refusal.reason;
    let action = refusal.action.map(|id| id.to_string());
    let problem = Problem {
        r#type: &format!("urn:writ:reason:{}", reason.code()),
        title: title(reason),
        status: status(reason).as_u16(),
        detail: reason.public_text(),
        code: reason.code(),
        action: action.as_deref(),
        hint: &hint(refusal),
    };
    // Plain strings and a number: this cannot fail, and an empty body would still be a refusal.
    Bytes::from(serde_json::to_vec(&problem).unwrap_or_default())
}

fn text(refusal: &Refusal) -> String {
    let reason = refusal.reason;
    format!("{}: {} ({})\nhint: {}\n", title(reason), reason.public_text(), reason.code(), hint(refusal))
}

const fn title(reason: Reason) -> &'static str {
    match reason.origin() {
        Origin::Agent => "refused by Writ",
        Origin::Upstream => "the service failed",
        Origin::Local => "Writ cannot do this now",
    }
}

/// What the operator can do: have the decision explained, or what the reason advises.
pub(crate) fn hint(refusal: &Refusal) -> String {
    match refusal.action {
        Some(id) => format!("run `writ why {id}`"),
        None => refusal.reason.hint().to_owned(),
    }
}

/// Never 401 to an agent: it would ask its user for a credential, or send one that it has. To a caller of one it is.
pub(crate) fn status(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::FORBIDDEN)
}

/// Status and message in the head of an answer without messages (gRPC over HTTP/2, `Trailers-Only`).
fn grpc(headers: &mut HeaderMap, refusal: &Refusal) {
    let code = match refusal.reason.http_status() {
        401 => "16",
        400 | 405 | 413 | 421 | 431 => "3",
        408 | 504 => "4",
        502 | 503 => "14",
        499 => "1",
        500 => "13",
        _ => "7",
    };
    headers.insert(GRPC_STATUS, HeaderValue::from_static(code));
    let message = format!("{} ({}); {}", refusal.reason.public_text(), refusal.reason.code(), hint(refusal));
    // The specification's percent-encoding: printable ASCII but `%` stands for itself.
    let encoded = percent_encoding::utf8_percent_encode(&message, GRPC_ENCODED).to_string();
    if let Ok(value) = HeaderValue::try_from(encoded) {
        headers.insert(GRPC_MESSAGE, value);
    }
}

const GRPC_ENCODED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');

#[cfg(test)]
mod tests;
