//! What an MCP server sends, on its way to a client: looked at message by message, as the gate says.
//!
//! An answer in JSON is read to its end before its head goes on, so that it can still be refused; a stream of events goes on
//! event by event. What can be read as neither is not passed on: of an answer that accepts a notification or reports an error
//! the status is left, of any other nothing.

pub(crate) mod aside;
pub(crate) mod echo;
mod events;

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use writ_core::{Reason, ServiceName};
use writ_gate::{Exchange, Shown, limits};

pub(crate) use events::Events;

use aside::Asides;

use crate::body::{Answer, Source};
use crate::running::Running;

/// What is needed to look at what a server sends.
#[derive(Debug, Clone)]
pub(crate) struct Looking {
    /// Where messages are held meanwhile.
    pub(crate) store: Store,
    /// Streams that are told of refusals.
    pub(crate) asides: Arc<Asides>,
    /// Whose messages they are.
    pub(crate) service: ServiceName,
}

/// Room for messages that are held, in bytes: of all sessions, and of one.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Default for Store {
    fn default() -> Self {
        Self::within(Arc::new(Semaphore::new(limits::MCP_HELD_BYTES_MAX)))
    }
}

impl Store {
    /// Room of its own for one more session.
    pub(crate) fn for_session(&self) -> Self {
        Self::within(Arc::clone(&self.all))
    }

    fn within(all: Arc<Semaphore>) -> Self {
        Self { all, own: Arc::new(Semaphore::new(limits::MCP_HELD_BYTES_PER_SESSION_MAX)) }
    }

    fn enter(&self, bytes: usize) -> Result<[OwnedSemaphorePermit; 2], Reason> {
        let bytes = u32::try_from(bytes).map_err(|_| Reason::McpAnswer)?;
        let take =
            |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| Reason::Busy);
        Ok([take(&self.own)?, take(&self.all)?])
    }
}

/// Bytes of one message, held in a [`Store`].
#[derive(Debug)]
pub(crate) struct Held {
    store: Store,
    bytes: BytesMut,
    places: Option<[OwnedSemaphorePermit; 2]>,
}

impl Held {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, bytes: BytesMut::new(), places: None }
    }

    /// Holds more.
    pub(crate) fn extend(&mut self, more: &[u8]) -> Result<(), Reason> {
        if self.bytes.len() + more.len() > limits::MCP_MESSAGE_BYTES_MAX {
            return Err(Reason::McpAnswer);
        }
        let more_places = self.store.enter(more.len())?;
        match &mut self.places {
            Some(places) => places.iter_mut().zip(more_places).for_each(|(place, more)| place.merge(more)),
            None => self.places = Some(more_places),
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes = BytesMut::new();
        self.places = None;
    }
}

/// How an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Events,
    Other,
}

fn kind(headers: &HeaderMap) -> Kind {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let coded = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|it| !it.as_bytes().eq_ignore_ascii_case(b"identity"));
    let Some(Ok(value)) = first.filter(|_| second.is_none() && !coded).map(HeaderValue::to_str) else {
        return Kind::Other;
    };
    let mut parts = value.split(';').map(str::trim);
    let word = parts.next().unwrap_or_default().to_ascii_lowercase();
    // A client that goes by another character set would read another text.
    let other_set = |parameter: &str| {
        let (name, set) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.trim().eq_ignore_ascii_case("charset")
            && !set.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    if parts.any(other_set) {
        return Kind::Other;
    }
    match word.as_str() {
        "application/json" => Kind::Message,
        "text/event-stream" => Kind::Events,
        _ => Kind::Other,
    }
}

/// Has the service answer in what can be read.
pub(crate) fn ask_plainly(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// The answer as the client is shown it.
pub(crate) async fn relay(
    method: &Method,
    mut parts: Parts,
    (mut source, looking): (Source, Looking),
    running: Running,
) -> Result<Response<Answer>, Reason> {
    // What would be said of a body that may not be the one that goes on.
    for name in ["content-length", "content-md5", "digest", "content-digest", "repr-digest", "etag"] {
        parts.headers.remove(name);
    }
    if source.ended() || method == Method::HEAD {
        running.complete();
        return Ok(Response::from_parts(parts, Answer::own(Bytes::new())));
    }
    let kind = kind(&parts.headers);
    if kind == Kind::Events {
        return Ok(Response::from_parts(parts, Answer::events(source, Events::new(looking), running)));
    }
    let bytes = if kind == Kind::Message || parts.status.is_success() && parts.status != StatusCode::ACCEPTED
    {
        message(&mut source, (kind, looking.store), &running).await
    } else {
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_ENCODING);
        Ok(Bytes::new())
    };
    match bytes {
        Ok(bytes) => {
            running.transfer().add_down(bytes.len());
            running.complete();
            Ok(Response::from_parts(parts, Answer::own(bytes)))
        }
        Err(reason) => {
            running.fail(reason);
            Err(reason)
        }
    }
}

/// A whole answer: nothing, or a message in JSON.
async fn message(
    source: &mut Source,
    (kind, store): (Kind, Store),
    running: &Running,
) -> Result<Bytes, Reason> {
    let mut held = Held::new(store);
    while let Some(frame) = poll_fn(|cx| source.poll(cx)).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => held.extend(&bytes)?,
            Ok(Err(_trailers)) => {}
            Err(broken) => return Err(broken.reason()),
        }
    }
    let bytes = held.bytes();
    if bytes.trim_ascii().is_empty() {
        return Ok(Bytes::new());
    }
    if kind != Kind::Message {
        return Err(Reason::McpAnswer);
    }
    let exchange: &Exchange = running.exchange().ok_or(Reason::McpAnswer)?;
    match exchange.shown(bytes)? {
        Shown::Whole => Ok(Bytes::copy_from_slice(bytes)),
        Shown::Part(text) => Ok(text.into()),
        // What was asked has an answer, and this is none.
        Shown::Nothing => Err(Reason::McpAnswer),
    }
}
