//! A request's body that is read before the request is decided, and sent on afterwards: all of it, or its beginning, after
//! which the rest streams.
//!
//! Not here: what is read out of it. Invariant: the bytes and trailers that go to the service are those that were read,
//! and no more of them are held at once than there is room for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use writ_core::Reason;
use writ_core::pkt::Lines;
use writ_core::service::Needed;
use writ_gate::limits;

/// Places for bodies that are held.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Room for this many.
    pub(crate) fn of(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Reason> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| Reason::Busy)
    }
}

/// What was read of a body, and the rest of it, if it was not read to its end.
#[derive(Debug)]
pub(crate) struct ReadBody {
    data: Bytes,
    trailers: Option<HeaderMap>,
    rest: Option<Incoming>,
    /// Whether its length was said before it.
    measured: bool,
    /// Until what was read is on its way.
    places: Option<[OwnedSemaphorePermit; 2]>,
}

impl ReadBody {
    /// Reads as much of a body as is needed. `broken` says what it means if the agent breaks off.
    pub(crate) async fn read(
        (incoming, needed): (Incoming, Needed),
        rooms: [&Room; 2],
        within: Duration,
        broken: impl Fn() -> Reason,
    ) -> Result<Self, Reason> {
        let [all, own] = rooms;
        let places = Some([own.enter()?, all.enter()?]);
        let measured = incoming.size_hint().exact().is_some();
        let nothing = Self { data: Bytes::new(), trailers: None, rest: Some(incoming), measured, places };
        nothing.go_on(needed, within, broken).await
    }

    /// Reads on, if more is needed than was read.
    pub(crate) async fn go_on(
        mut self,
        needed: Needed,
        within: Duration,
        broken: impl Fn() -> Reason,
    ) -> Result<Self, Reason> {
        let Some(rest) = &mut self.rest else { return Ok(self) };
        let length = rest.size_hint().lower().saturating_add(self.data.len() as u64);
        if needed == Needed::All && length > limits::ARGUMENT_BODY_BYTES_MAX as u64 {
            return Err(Reason::BodyTooLarge);
        }
        let began = BytesMut::from(&*self.data);
        let read = tokio::time::timeout(within, collect(began, rest, needed)).await;
        let collected = read.map_err(|_| Reason::BodyTimeout)?.map_err(|lost| match lost {
            Lost::Large => Reason::BodyTooLarge,
            Lost::Broken => broken(),
        })?;
        (self.data, self.trailers) = (collected.data, collected.trailers);
        if collected.ended {
            self.rest = None;
        }
        Ok(self)
    }

    /// The bytes that were read, as long as they are not sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The next of it to send: what was read, then the rest as it comes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(self.trailers.take().map(Frame::trailers).map(Ok));
        };
        // Its beginning is on its way: others may be read while it streams, for however long.
        self.places = None;
        Poll::Ready(ready!(Pin::new(rest).poll_frame(cx)))
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_sent(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    /// How many bytes are left, if their number may be said before them.
    pub(crate) fn measured(&self) -> Option<u64> {
        let rest = self.rest.as_ref().map_or(Some(0), |rest| rest.size_hint().exact());
        rest.filter(|_| self.measured).map(|rest| rest + self.data.len() as u64)
    }
}

/// What was collected.
struct Collected {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether it is the whole body.
    ended: bool,
}

enum Lost {
    Large,
    Broken,
}

/// Collects what is needed. A frame that goes on behind it is kept whole, so no more than the bound and a frame is held.
async fn collect(mut data: BytesMut, incoming: &mut Incoming, needed: Needed) -> Result<Collected, Lost> {
    let (mut trailers, mut lines) = (None, Lines::default());
    loop {
        if needed == Needed::PushCommands && trailers.is_none() && lines.are_over(&data) {
            return Ok(Collected { data: data.freeze(), trailers, ended: false });
        }
        if data.len() > limits::ARGUMENT_BODY_BYTES_MAX {
            return Err(Lost::Large);
        }
        let Some(frame) = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await else {
            return Ok(Collected { data: data.freeze(), trailers, ended: true });
        };
        match frame.map_err(|_| Lost::Broken)?.into_data() {
            Ok(more) => data.extend_from_slice(&more),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
}
