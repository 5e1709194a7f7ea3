//! The id of a JSON-RPC request, so that its refusal can be told as its answer.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use writ_core::Reason;
use writ_gate::{Refusal, limits};

use super::aside::Aside;
use crate::refusal;

/// Who asks over MCP, as far as it is known: nothing until the body was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Echo {
    heard: Arc<OnceLock<Heard>>,
    in_place: bool,
}

/// What is known of one who asks over MCP.
#[derive(Debug)]
struct Heard {
    id: Option<Id>,
    /// The stream on which the answer is awaited.
    aside: Option<Aside>,
}

/// An id as JSON-RPC has it: text or a whole number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Id {
    Number(i64),
    Text(String),
}

/// What of a message is looked at.
#[derive(Deserialize)]
struct Message {
    jsonrpc: Version,
    id: Option<Asked>,
    method: Option<IgnoredAny>,
}

#[derive(Deserialize)]
enum Version {
    #[serde(rename = "2.0")]
    Two,
}

/// What stands where an id would be.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    Id(Id),
    Other(IgnoredAny),
}

impl Asked {
    fn id(self) -> Option<Id> {
        match self {
            Self::Id(id) => Some(id),
            Self::Other(_) => None,
        }
    }
}

impl Echo {
    /// A place for the id of a request that could have one.
    pub(crate) fn place(parts: &mut Parts) -> Option<Self> {
        let json =
            |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"application/json");
        if parts.method != Method::POST || !parts.headers.get(header::CONTENT_TYPE).is_some_and(json) {
            return None;
        }
        let echo = Self { heard: Arc::default(), in_place: answers_in_place(parts) };
        parts.extensions.insert(echo.clone());
        Some(echo)
    }

    /// It is a request with this body to a service that speaks MCP, and over MCP if it is JSON-RPC; `aside` is the stream that
    /// told where to send it.
    pub(crate) fn hear(parts: &Parts, body: &[u8], aside: Option<Aside>) {
        let Some(echo) = parts.extensions.get::<Self>() else { return };
        let Ok(Message { jsonrpc: Version::Two, id, method }) = serde_json::from_slice(body) else { return };
        let short = |id: &Id| match id {
            Id::Number(_) => true,
            Id::Text(text) => text.len() <= limits::MCP_ID_BYTES_MAX,
        };
        // It is asked once; a second answer would be the same.
        // What has no method is no request, and has no answer.
        let id = method.and(id).and_then(Asked::id).filter(short);
        drop(echo.heard.set(Heard { id, aside }));
    }

    /// The refusal in MCP's words, if it was MCP.
    ///
    /// A request is told in an answer, since some clients take another status than 200 for the end of all: but not what is
    /// malformed, which the protocol gives a status. A client of the older transport is told on its stream.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Option<Response<Bytes>> {
        let Heard { id, aside } = self.heard.get()?;
        let code = code(refusal.reason);
        let text = words(id.as_ref(), refusal);
        let mut response = if id.is_some() && aside.as_ref().is_some_and(|aside| aside.tell(&text)) {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        } else {
            let answered = self.in_place && id.is_some() && code > 0;
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = if answered { StatusCode::OK } else { refusal::status(refusal.reason) };
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        };
        refusal::mark(response.headers_mut(), refusal);
        Some(response)
    }
}

/// A refusal as the answer to the request with this id.
pub(crate) fn words(id: Option<&Id>, refusal: &Refusal) -> String {
    let answer = Answer {
        jsonrpc: "2.0",
        id,
        error: Error {
            code: code(refusal.reason),
            message: &format!("refused by Writ: {}", refusal.reason.public_text()),
            data: Data {
                reason: refusal.reason.code(),
                action: refusal.action.map(|id| id.to_string()),
                hint: &refusal::hint(refusal),
            },
        },
    };
    // Plain strings and numbers: this cannot fail, and an empty text would still be no answer.
    serde_json::to_string(&answer).unwrap_or_default()
}

/// What of a message says whose answer it is, or of which method. Nothing is decided by it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) id: Option<Id>,
    pub(crate) method: Option<String>,
    /// The request that a client takes back with it.
    pub(crate) cancels: Option<Id>,
}

impl Said {
    /// Whether it calls a tool.
    pub(crate) fn calls(&self) -> bool {
        self.method.as_deref() == Some("tools/call")
    }
}

/// Reads it; a message that cannot be read says nothing.
pub(crate) fn said(message: &[u8]) -> Said {
    #[derive(Deserialize)]
    struct Seen {
        id: Option<Asked>,
        #[serde(default)]
        method: Option<String>,
        #[serde(default)]
        params: Option<Value>,
    }

    let cancelled = |mut params: Value| {
        let id = params.get_mut("requestId").map(Value::take)?;
        serde_json::from_value::<Asked>(id).ok()?.id()
    };

    let seen: Option<Seen> = serde_json::from_slice(message).ok();
    seen.map_or_else(Said::default, |seen| {
        let cancels = seen.method.as_deref() == Some("notifications/cancelled");
        Said {
            id: seen.id.and_then(Asked::id),
            cancels: seen.params.filter(|_| cancels).and_then(cancelled),
            method: seen.method,
        }
    })
}

/// Whether the sender reads the answer to a request where it is sent (revision 2025-03-26, "Sending Messages to the Server").
fn answers_in_place(parts: &Parts) -> bool {
    let events = |value: &HeaderValue| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.windows(b"text/event-stream".len()).any(|window| window == b"text/event-stream")
    };
    parts.headers.get_all(header::ACCEPT).iter().any(events)
}

/// The code of the error: JSON-RPC's or MCP's where they have one, the HTTP status where not. Own codes lie outside of what
/// both keep for themselves (revision 2026-07-28, "Error Codes").
fn code(reason: Reason) -> i32 {
    let known = CODES.iter().find(|(own, _)| *own == reason);
    known.map_or_else(|| reason.http_status().into(), |(_, code)| *code)
}

const CODES: [(Reason, i32); 5] = [
    (Reason::AmbiguousRequest, -32600),
    (Reason::BodyRefused, -32600),
    (Reason::SeveralOperations, -32600),
    (Reason::ArgumentRefused, -32602),
    (Reason::McpHeaders, -32020),
];

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'a str,
    id: Option<&'a Id>,
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: i32,
    message: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    hint: &'a str,
}
