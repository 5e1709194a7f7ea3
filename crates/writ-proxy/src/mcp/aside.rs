//! Refusals on a stream that is already open.
//!
//! A client of the older transport (revision 2024-11-05) sends a request in one place and has its answer in another: on the
//! stream that told it where to send. A refusal where it was sent ends some clients altogether, so it goes where they look.
//! Nothing is decided by this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use writ_core::ServiceName;

/// Refusals that wait for a stream to take them; past it they are told where the request was sent.
const WAITING_MAX: usize = 16;

/// The streams of one session that wait for refusals.
#[derive(Debug, Default)]
pub(crate) struct Asides(Mutex<HashMap<Place, mpsc::Sender<Bytes>>>);

/// Where messages of a stream are sent: the service, and path and query.
type Place = (ServiceName, String);

/// The way to one stream.
#[derive(Debug, Clone)]
pub(crate) struct Aside(mpsc::Sender<Bytes>);

/// A stream's end of it.
#[derive(Debug)]
pub(crate) struct Awaited {
    all: Arc<Asides>,
    place: Place,
    refusals: mpsc::Receiver<Bytes>,
}

impl Asides {
    /// The stream whose messages are sent there.
    pub(crate) fn find(&self, service: &ServiceName, path_and_query: &str) -> Option<Aside> {
        self.lock().get(&(service.clone(), path_and_query.to_owned())).cloned().map(Aside)
    }

    /// Has a stream get the refusals of what is sent to the place that it named.
    pub(crate) fn wait(self: &Arc<Self>, service: &ServiceName, named: &str) -> Option<Awaited> {
        let path = match named.split_once("://") {
            Some((_, rest)) => rest.get(rest.find('/')?..)?,
            None => named,
        };
        let place = (service.clone(), Some(path).filter(|path| path.starts_with('/'))?.to_owned());
        let (sender, refusals) = mpsc::channel(WAITING_MAX);
        self.lock().insert(place.clone(), sender);
        Some(Awaited { all: Arc::clone(self), place, refusals })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Aside {
    /// Sends a message on the stream; whether it took it.
    pub(crate) fn tell(&self, message: &str) -> bool {
        self.0.try_send(format!("event: message\ndata: {message}\n\n").into()).is_ok()
    }
}

impl Awaited {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        // It never ends before the stream, which is in the map until then; another of the same place takes over.
        match self.refusals.poll_recv(cx) {
            Poll::Ready(Some(refusal)) => Poll::Ready(refusal),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.refusals.close();
        self.all.lock().retain(|place, sender| *place != self.place || !sender.is_closed());
    }
}
