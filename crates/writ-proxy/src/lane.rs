//! What the connections of one session share: the pool, the TLS state towards services, the count.
//!
//! Nothing in a lane is ever reached from another session. When the session ends, the lane is emptied.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri, Version};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writ_core::units::ByteSize;
use writ_core::{Clock, Reason, SessionId};
use writ_gate::{Session, limits};

use crate::body::{AgentBody, Transfer, UpstreamBody};
use crate::mcp::Store;
use crate::mcp::aside::Asides;
use crate::reading::Room;
use crate::relay::RelaySettings;
use crate::searches::Searches;
use crate::serving::{Common, Cuts, Streams};
use crate::upstream::io::Io;
use crate::upstream::pool::{Alpn, Pool};
use crate::upstream::wire::Wire;
use crate::upstream::{Target, Way};

/// The shared part of one session.
pub(crate) struct Lane {
    pub(crate) session: Arc<Session>,
    pub(crate) way: Way,
    pub(crate) pool: Pool,
    pub(crate) searches: Searches,
    /// Open connections of the session.
    pub(crate) connections: AtomicUsize,
    /// For bodies that are read before they are sent.
    pub(crate) room: Room,
    /// Streams of MCP servers that are told of refusals.
    pub(crate) asides: Arc<Asides>,
    /// For messages of MCP servers that are looked at before they go on.
    pub(crate) store: Store,
    /// Held while HTTP/2 is being established, so that many streams at once make one connection.
    establishing: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
    settings: Arc<RelaySettings>,
    tasks: TaskTracker,
}

/// A request on its way: what it needs to be sent, and sent again.
pub(crate) struct Outgoing {
    pub(crate) parts: Parts,
    pub(crate) body: AgentBody,
    pub(crate) transfer: Arc<Transfer>,
    pub(crate) wants: Alpn,
}

/// How an attempt failed.
enum Attempt {
    /// Nothing was sent; here it is back.
    Unsent(Box<Request<AgentBody>>),
    /// Something may have been sent.
    Broken(Reason),
}

impl Attempt {
    fn reason(self) -> Reason {
        match self {
            Self::Unsent(_) => Reason::UpstreamBroken,
            Self::Broken(reason) => reason,
        }
    }
}

impl Lane {
    fn new(session: Arc<Session>, way: Way, common: &Common) -> Self {
        Self {
            session,
            way,
            pool: Pool::default(),
            searches: Searches::default(),
            connections: AtomicUsize::new(0),
            room: Room::of(limits::ARGUMENT_BODIES_PER_SESSION_MAX),
            asides: Arc::default(),
            store: common.store.for_session(),
            establishing: tokio::sync::Mutex::new(()),
            clock: Arc::clone(&common.gate.ports().clock),
            settings: Arc::clone(&common.settings),
            tasks: common.tasks.clone(),
        }
    }

    /// Connections of the session that are open now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes a place among the session's connections.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Seat> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (before < self.settings.connections_per_session_max).then_some(seat)
    }

    /// Gives an HTTP/1 connection back after its answer is complete.
    pub(crate) fn give_back(&self, target: &Target, wire: Box<Wire>) {
        if self.session.cause().is_none() {
            self.pool.give(target, wire, self.clock.monotonic());
        }
    }

    /// Drops what was idle too long; everything, once the session is over. Returns whether the lane is needed.
    pub(crate) fn sweep(&self) -> bool {
        if self.session.cause().is_some() {
            self.pool.clear();
            self.searches.clear();
            return self.connections.load(Ordering::Relaxed) > 0;
        }
        self.pool.sweep(self.clock.monotonic(), self.settings.upstream_idle_timeout);
        true
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// A kept connection that turns out to be dead is tried once more with a new one, but only if nothing was sent,
    /// or if the request changes nothing and has no body.
    pub(crate) async fn send(
        self: &Arc<Self>,
        target: &Target,
        outgoing: Outgoing,
    ) -> Result<Response<UpstreamBody>, Reason> {
        let Outgoing { mut parts, mut body, transfer, wants } = outgoing;
        if let Some(wire) = self.pool.take(target) {
            let again = repeatable(&parts, &body).then(|| parts.clone());
            let request = Request::from_parts(for_http1(parts, target), body);
            match self.on_wire(target, wire, request, &transfer).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Unsent(request)) => (parts, body) = request.into_parts(),
                Err(Attempt::Broken(reason)) => {
                    parts = again.filter(|_| reason == Reason::UpstreamBroken).ok_or(reason)?;
                    body = AgentBody::empty(Arc::clone(&transfer));
                }
            }
        } else if let Some(shared) = self.pool.shared(target) {
            let request = Request::from_parts(for_http2(parts, target)?, body);
            match self.on_shared(target, shared, request, &transfer).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Unsent(request)) => (parts, body) = request.into_parts(),
                Err(Attempt::Broken(reason)) => return Err(reason),
            }
        }
        let attempt = match Box::pin(self.establish(target, wants)).await? {
            Established::Wire(wire) => {
                let request = Request::from_parts(for_http1(parts, target), body);
                self.on_wire(target, wire, request, &transfer).await
            }
            Established::Shared(shared) => {
                let request = Request::from_parts(for_http2(parts, target)?, body);
                self.on_shared(target, shared, request, &transfer).await
            }
        };
        attempt.map_err(Attempt::reason)
    }

    /// Sends a request on a connection of its own, over HTTP/1: for one that wants to become something else.
    pub(crate) async fn send_alone(
        self: &Arc<Self>,
        target: &Target,
        parts: Parts,
        transfer: &Arc<Transfer>,
    ) -> Result<Response<UpstreamBody>, Reason> {
        let Established::Wire(wire) = Box::pin(self.establish(target, Alpn::Http1)).await? else {
            return Err(Reason::UpgradeRefused);
        };
        let request = Request::from_parts(for_http1(parts, target), AgentBody::empty(Arc::clone(transfer)));
        self.on_wire(target, wire, request, transfer).await.map_err(Attempt::reason)
    }

    async fn establish(self: &Arc<Self>, target: &Target, wants: Alpn) -> Result<Established, Reason> {
        let alone = wants == Alpn::Http1 || self.pool.speaks(target) == Some(Alpn::Http1);
        let _turn = if alone { None } else { Some(self.establishing.lock().await) };
        if let Some(shared) = self.pool.shared(target).filter(|_| !alone) {
            return Ok(Established::Shared(shared));
        }
        let within = self.settings.upstream_connect_timeout;
        let (io, speaks) = self.way.dial(target, wants, within).await?;
        if speaks == Alpn::Http1 {
            if wants == Alpn::Http2 {
                self.pool.learn(target, Alpn::Http1);
            }
            return Ok(Established::Wire(Box::new(Wire::new(io).await?)));
        }
        let send = self.http2(io).await?;
        self.pool.share(target, send.clone());
        Ok(Established::Shared(send))
    }

    /// An HTTP/2 connection; its task ends with the session.
    async fn http2(self: &Arc<Self>, io: Io) -> Result<SendRequest<AgentBody>, Reason> {
        let window = |size: ByteSize| u32::try_from(size.get()).unwrap_or(u32::MAX);
        let streams =
            Streams { tasks: self.tasks.clone(), stop: CancellationToken::new(), cuts: Cuts::Together };
        let cut = streams.stop.clone().drop_guard();
        let (send, connection) = hyper::client::conn::http2::Builder::new(streams)
            .initial_stream_window_size(window(limits::H2_STREAM_WINDOW))
            .initial_connection_window_size(window(limits::H2_CONNECTION_WINDOW))
            .max_header_list_size(u32::try_from(limits::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Reason::UpstreamBroken)?;
        let session = Arc::clone(&self.session);
        self.tasks.spawn(async move {
            let _cut = cut;
            tokio::select! {
                result = connection => {
                    if let Err(error) = result {
                        tracing::debug!(target: "writ::proxy", %error, "an HTTP/2 connection to a service ended");
                    }
                }
                () = session.ended() => {}
            }
        });
        Ok(send)
    }

    async fn on_wire(
        self: &Arc<Self>,
        target: &Target,
        mut wire: Box<Wire>,
        request: Request<AgentBody>,
        transfer: &Transfer,
    ) -> Result<Response<UpstreamBody>, Attempt> {
        let answer = self.in_time(transfer, wire.send(request)).await?;
        Ok(answer.map(|incoming| UpstreamBody::on_wire(incoming, wire, target.clone(), Arc::clone(self))))
    }

    async fn on_shared(
        &self,
        target: &Target,
        mut shared: SendRequest<AgentBody>,
        request: Request<AgentBody>,
        transfer: &Transfer,
    ) -> Result<Response<UpstreamBody>, Attempt> {
        let answer = self.in_time(transfer, shared.try_send_request(request)).await;
        if matches!(answer, Err(Attempt::Unsent(_))) {
            self.pool.unshare(target);
        }
        Ok(answer?.map(UpstreamBody::shared))
    }

    /// Waits for the head of an answer; the time counts from the end of the request.
    async fn in_time<R>(
        &self,
        transfer: &Transfer,
        sent: impl Future<Output = Result<R, TrySendError<Request<AgentBody>>>>,
    ) -> Result<R, Attempt> {
        let mut sent = pin!(sent);
        loop {
            let uploading = !transfer.upload_ended();
            match tokio::time::timeout(self.settings.upstream_answer_timeout, sent.as_mut()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(mut error)) => {
                    let reason = transfer.blame();
                    tracing::info!(target: "writ::proxy", error = error.error() as &dyn std::error::Error, "no answer");
                    return Err(match error.take_message() {
                        Some(request) => Attempt::Unsent(Box::new(request)),
                        None => Attempt::Broken(reason),
                    });
                }
                Err(_) if uploading => {}
                Err(_) => return Err(Attempt::Broken(Reason::UpstreamTimeout)),
            }
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("session", &self.session.facts().id).finish_non_exhaustive()
    }
}

/// The lanes of live sessions.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<HashMap<SessionId, Arc<Lane>>>);

impl Lanes {
    /// The lane of a session; `way` is asked when there is none yet.
    pub(crate) fn of(&self, session: &Arc<Session>, common: &Common, way: impl FnOnce() -> Way) -> Arc<Lane> {
        let new = || Arc::new(Lane::new(Arc::clone(session), way(), common));
        Arc::clone(self.lock().entry(session.facts().id).or_insert_with(new))
    }

    /// Connections of one session that are open now.
    pub(crate) fn connections_of(&self, session: SessionId) -> usize {
        self.lock().get(&session).map_or(0, |lane| lane.connections())
    }

    /// Drops what was idle too long, and the lanes of sessions that are over.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, lane| lane.sweep());
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Lane>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Established {
    Wire(Box<Wire>),
    Shared(SendRequest<AgentBody>),
}

/// A place among the connections of a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Lane>);

impl Seat {
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a request may be sent twice: safe or idempotent (RFC 9110 section 9.2.2), and nothing to send but a head.
fn repeatable(parts: &Parts, body: &AgentBody) -> bool {
    use http_body::Body;
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    idempotent.contains(&parts.method) && body.is_end_stream()
}

/// The head as HTTP/1 says it: the path alone, and one `Host` written here.
fn for_http1(mut parts: Parts, target: &Target) -> Parts {
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    parts.version = Version::HTTP_11;
    // The agent can take trailers; that is said for one hop (RFC 9110 section 10.1.4).
    if parts.headers.contains_key(header::TE) && !parts.headers.contains_key(header::CONNECTION) {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if let Ok(host) = target.authority() {
        parts.headers.insert(header::HOST, host);
    }
    parts
}

/// The head as HTTP/2 says it: scheme and authority in the target, no `Host`.
fn for_http2(mut parts: Parts, target: &Target) -> Result<Parts, Reason> {
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(if target.verified() { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    uri.authority = Some(target.authority()?.as_bytes().try_into().map_err(|_| Reason::BadRequest)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| Reason::BadRequest)?;
    parts.version = Version::HTTP_2;
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONNECTION);
    Ok(parts)
}
