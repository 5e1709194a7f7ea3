//! One HTTP/1 connection to a service, driven by whoever uses it.
//!
//! The connection is polled by the task of the agent's connection itself: no task of its own and no wake-up across
//! threads. While it waits in the pool nobody polls it; [`Wire::alive`] looks before it is used again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use writ_core::Reason;
use writ_gate::limits;

use super::io::Io;
use crate::body::AgentBody;

/// An HTTP/1 connection with nothing or one request on it.
pub(crate) struct Wire {
    send: SendRequest<AgentBody>,
    connection: Connection<TokioIo<Io>, AgentBody>,
    ended: bool,
}

impl Wire {
    pub(crate) async fn new(io: Io) -> Result<Self, Reason> {
        let (send, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(limits::HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Reason::UpstreamBroken)?;
        Ok(Self { send, connection, ended: false })
    }

    /// Moves the connection on.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Whether the next request can be sent: the last answer is complete, the service keeps the connection, and
    /// nothing has come that was not asked for.
    pub(crate) fn ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && self.send.is_ready()
    }

    /// The same, outside a task.
    pub(crate) fn alive(&mut self) -> bool {
        self.ready(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<AgentBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<AgentBody>>> {
        let mut answer = pin!(self.send.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The bare connection after the service agreed to another protocol, with what it already said in it.
    pub(crate) async fn into_io(mut self) -> (Io, Bytes) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}
