//! Bodies on their way through the relay: counted, filtered, and held only if they were read for arguments.
//!
//! Invariant: an [`Answer`] finishes its exchange exactly once, and says honestly how: complete, broken by the
//! service, cut with the session, or abandoned by the client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use writ_core::Reason;

use crate::head;
use crate::lane::Lane;
use crate::mcp::Events;
use crate::reading::ReadBody;
use crate::running::Running;
use crate::scrub::Treatment;
use crate::scrub::body::{BodyError, ScrubbedBody};
use crate::strict;
use crate::upstream::Target;
use crate::upstream::wire::Wire;

/// What has passed so far in one exchange.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    up: AtomicU64,
    down: AtomicU64,
    /// The request's body was sent to its end.
    upload_ended: AtomicBool,
    /// The request's body broke off on the agent's side.
    agent_broke: AtomicBool,
    /// The strict reader of the agent's connection, if it speaks HTTP/1.
    wire: Option<Arc<strict::Wire>>,
}

impl Transfer {
    pub(crate) fn new(wire: Option<Arc<strict::Wire>>) -> Self {
        Self { wire, ..Self::default() }
    }

    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn add_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn upload_ended(&self) -> bool {
        self.upload_ended.load(Ordering::Relaxed)
    }

    /// Whose fault it is that the exchange broke.
    pub(crate) fn blame(&self) -> Reason {
        match &self.wire {
            _ if !self.agent_broke.load(Ordering::Relaxed) => Reason::UpstreamBroken,
            Some(wire) if wire.broken() => Reason::BadRequest,
            _ => Reason::ClientGone,
        }
    }
}

/// Where the body of a request comes from.
pub(crate) enum Upload {
    /// There is none.
    Nothing,
    /// From the agent, as it comes.
    Streamed(Incoming),
    /// It was read before, or its beginning was.
    Read(ReadBody),
}

impl Upload {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Streamed(incoming) => incoming.is_end_stream(),
            Self::Read(read) => read.is_sent(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Nothing => Poll::Ready(None),
            Self::Streamed(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Read(read) => read.poll(cx),
        }
    }
}

/// The body of a request, from the agent to the service.
pub(crate) struct AgentBody {
    upload: Upload,
    transfer: Arc<Transfer>,
}

impl AgentBody {
    pub(crate) fn new(upload: Upload, transfer: Arc<Transfer>) -> Self {
        let upload = if upload.is_end_stream() { Upload::Nothing } else { upload };
        transfer.upload_ended.store(upload.is_end_stream(), Ordering::Relaxed);
        Self { upload, transfer }
    }

    pub(crate) fn empty(transfer: Arc<Transfer>) -> Self {
        Self { upload: Upload::Nothing, transfer }
    }
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(this.upload.poll(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.transfer.add_up(frame.data_ref().map_or(0, Bytes::len));
                this.transfer.upload_ended.store(this.upload.is_end_stream(), Ordering::Relaxed);
            }
            Some(Err(_)) => this.transfer.agent_broke.store(true, Ordering::Relaxed),
            None => this.transfer.upload_ended.store(true, Ordering::Relaxed),
        }
        Poll::Ready(frame.map(|frame| frame.map(without_refused_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upload {
            Upload::Nothing => SizeHint::with_exact(0),
            Upload::Streamed(incoming) => incoming.size_hint(),
            Upload::Read(read) => read.measured().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

fn without_refused_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(allowed_trailers(trailers)),
        Err(data) => data,
    }
}

fn allowed_trailers(mut trailers: HeaderMap) -> HeaderMap {
    let refused: Vec<_> = trailers.keys().filter(|name| !head::trailer_allowed(name)).cloned().collect();
    for name in refused {
        trailers.remove(name);
    }
    trailers
}

/// The body of an answer as the service sends it. Drives the connection that it comes on, and gives it back.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    held: Option<Held>,
}

struct Held {
    wire: Box<Wire>,
    target: Target,
    lane: Arc<Lane>,
}

impl UpstreamBody {
    /// On an HTTP/1 connection of its own.
    pub(crate) fn on_wire(incoming: Incoming, wire: Box<Wire>, target: Target, lane: Arc<Lane>) -> Self {
        Self { incoming, held: Some(Held { wire, target, lane }) }
    }

    /// On an HTTP/2 connection, which has a task of its own.
    pub(crate) fn shared(incoming: Incoming) -> Self {
        Self { incoming, held: None }
    }

    /// The connection itself, to become something else.
    pub(crate) fn into_wire(self) -> Option<Box<Wire>> {
        self.held.map(|held| held.wire)
    }

    /// The answer is complete: the connection may serve the next request, if it is clean.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut held) = self.held.take()
            && held.wire.ready(cx)
        {
            held.lane.give_back(&held.target, held.wire);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(held) = &mut this.held
        {
            held.wire.drive(cx);
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        let frame = ready!(frame);
        match &frame {
            None => this.give_back(cx),
            Some(Ok(_)) if this.incoming.is_end_stream() => this.give_back(cx),
            Some(Ok(_)) => {}
            Some(Err(_)) => this.held = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of an answer as the agent gets it.
#[expect(clippy::large_enum_variant, reason = "boxed, it would cost an allocation per answer")]
pub(crate) enum Answer {
    /// Written here: a refusal, or nothing.
    Own(Option<Bytes>),
    /// Relayed from the service.
    Relayed(Relayed),
}

/// A body that is relayed, with the exchange that ends when it does.
pub(crate) struct Relayed {
    source: Source,
    /// `None` once the exchange is finished.
    running: Option<Running>,
    /// Bytes that are still to come, where the service said how many.
    left: Option<u64>,
    /// Reads the events of an MCP server.
    events: Option<Events>,
}

#[expect(clippy::large_enum_variant, reason = "boxed, it would cost an allocation per answer")]
pub(crate) enum Source {
    Plain(UpstreamBody),
    Scrubbed(ScrubbedBody<UpstreamBody>),
}

impl Answer {
    /// These bytes.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::Own(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Relays the body. An answer without one ends the exchange at once.
    pub(crate) fn relay(
        mut body: UpstreamBody,
        treatment: Option<Treatment>,
        running: Running,
        cx: &mut Context<'_>,
    ) -> Self {
        if body.is_end_stream() {
            body.give_back(cx);
            running.complete();
            return Self::Own(None);
        }
        let source = Source::new(body, treatment, &running);
        let left = source.size_hint().exact();
        Self::Relayed(Relayed { source, running: Some(running), left, events: None })
    }

    /// Relays events of an MCP server, as far as they may be shown.
    pub(crate) fn events(source: Source, events: Events, running: Running) -> Self {
        Self::Relayed(Relayed { source, running: Some(running), left: None, events: Some(events) })
    }
}

impl Source {
    /// The body, cleaned of what was lent.
    pub(crate) fn new(body: UpstreamBody, treatment: Option<Treatment>, running: &Running) -> Self {
        match (running.scrubber(), treatment) {
            (Some(scrubber), Some(treatment)) => Self::Scrubbed(scrubber.body(body, treatment)),
            _ => Self::Plain(body),
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Plain(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|_| Broken(Reason::UpstreamBroken))))
            }
            Self::Scrubbed(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Broken::from(&error))))
            }
        }
    }

    pub(crate) fn ended(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Scrubbed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Scrubbed(body) => body.size_hint(),
        }
    }
}

/// The service broke off; the agent's side must break off too, so that it is not taken for an end.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be passed on to its end")]
pub(crate) struct Broken(Reason);

impl Broken {
    pub(crate) fn reason(&self) -> Reason {
        self.0
    }
}

impl<E> From<&BodyError<E>> for Broken {
    fn from(error: &BodyError<E>) -> Self {
        match error {
            BodyError::Inner(_) => Self(Reason::UpstreamBroken),
            BodyError::Coding(_) => Self(Reason::EchoUnreadable),
        }
    }
}

impl Relayed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let Some(events) = &mut self.events else { return self.source.poll(cx) };
            if let Poll::Ready(refusal) = events.poll_refusal(cx) {
                return Poll::Ready(Some(Ok(Frame::data(refusal))));
            }
            let frame = ready!(self.source.poll(cx));
            let chunk = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => chunk,
                    // Of such a stream nothing is said in trailers.
                    Err(_trailers) => continue,
                },
                over => return Poll::Ready(over),
            };
            let exchange = self.running.as_ref().and_then(Running::exchange);
            let shown = |message: &[u8]| match exchange {
                Some(exchange) => exchange.shown(message),
                None => Err(Reason::McpAnswer),
            };
            match events.pass(&chunk, shown) {
                Ok(out) if out.is_empty() && !self.source.ended() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(reason) => return Poll::Ready(Some(Err(Broken(reason)))),
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let relayed = match self.get_mut() {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed(relayed) => relayed,
        };
        let frame = ready!(relayed.poll(cx));
        let over = match &frame {
            None => true,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if let Some(running) = &relayed.running {
                    running.transfer().add_down(length);
                }
                relayed.left = relayed.left.map(|left| left.saturating_sub(length as u64));
                relayed.left == Some(0) || relayed.source.ended()
            }
            Some(Err(Broken(reason))) => {
                if let Some(running) = relayed.running.take() {
                    running.fail(*reason);
                }
                false
            }
        };
        if over && let Some(running) = relayed.running.take() {
            running.complete();
        }
        Poll::Ready(frame.map(|frame| frame.map(without_refused_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed(relayed) => relayed.running.is_none() && relayed.source.ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Relayed(relayed) => relayed.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
