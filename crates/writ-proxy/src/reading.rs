//! A request's body that is read before the request is decided, and sent on afterwards.
//!
//! Not here: what is read out of it. Invariant: the bytes and trailers that go to the service are those that were read,
//! and no more of them are held at once than there is room for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use writ_core::Reason;
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

/// All of a body.
#[derive(Debug)]
pub(crate) struct ReadBody {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether its length was said before it.
    measured: bool,
    _places: [OwnedSemaphorePermit; 2],
}

impl ReadBody {
    /// Reads a body to its end. `broken` says what it means if the agent breaks off.
    pub(crate) async fn read(
        incoming: Incoming,
        rooms: [&Room; 2],
        within: Duration,
        broken: impl Fn() -> Reason,
    ) -> Result<Self, Reason> {
        let [all, own] = rooms;
        let places = [own.enter()?, all.enter()?];
        let hint = incoming.size_hint();
        if hint.lower() > limits::ARGUMENT_BODY_BYTES_MAX as u64 {
            return Err(Reason::BodyTooLarge);
        }
        let read = tokio::time::timeout(within, collect(incoming)).await;
        let (data, trailers) = read.map_err(|_| Reason::BodyTimeout)?.map_err(|lost| match lost {
            Lost::Large => Reason::BodyTooLarge,
            Lost::Broken => broken(),
        })?;
        Ok(Self { data, trailers, measured: hint.exact().is_some(), _places: places })
    }

    /// Its bytes, as long as they are not sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Its bytes, which it then has no more; `None` if there are none.
    pub(crate) fn take_data(&mut self) -> Option<Bytes> {
        Some(std::mem::take(&mut self.data)).filter(|data| !data.is_empty())
    }

    /// Its trailers, once.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_sent(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    /// How many bytes are left, if their number may be said before them.
    pub(crate) fn measured(&self) -> Option<u64> {
        self.measured.then_some(self.data.len() as u64)
    }
}

enum Lost {
    Large,
    Broken,
}

async fn collect(mut incoming: Incoming) -> Result<(Bytes, Option<HeaderMap>), Lost> {
    let (mut data, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        match frame.map_err(|_| Lost::Broken)?.into_data() {
            Ok(more) if data.len() + more.len() > limits::ARGUMENT_BODY_BYTES_MAX => return Err(Lost::Large),
            Ok(more) => data.extend_from_slice(&more),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((data.freeze(), trailers))
}
