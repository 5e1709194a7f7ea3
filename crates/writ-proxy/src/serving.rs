//! One HTTP connection that is served, whoever is at its ends: requests are counted, answered, and cut.
//!
//! An agent's connection to a service ([`crate::line`]) and a caller's to an agent ([`crate::inbound`]) differ in what they
//! do with a request, and in nothing else. Invariant: whatever becomes of a request, it gets one answer or its connection
//! or stream ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writ_core::Reason;
use writ_core::units::ByteSize;
use writ_gate::{Gate, Refusal, Session, limits};

use crate::body::Answer;
use crate::cut::{Cut, Following};
use crate::idle::{Idle, IdleWatch};
use crate::mcp::Store;
use crate::mcp::echo::Echo;
use crate::reading::Room;
use crate::refusal::Voice;
use crate::relay::{RelaySettings, Tally};
use crate::strict;

/// What all connections of one relay share.
pub(crate) struct Common {
    pub(crate) settings: Arc<RelaySettings>,
    pub(crate) gate: Gate,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when exchanges are no longer waited for.
    pub(crate) stop: CancellationToken,
    pub(crate) tally: Arc<Tally>,
    /// For bodies that are read before they are sent.
    pub(crate) room: Room,
    /// For messages of MCP servers that are looked at before they go on.
    pub(crate) store: Store,
}

impl Common {
    pub(crate) fn new(settings: RelaySettings, gate: Gate) -> Self {
        Self::sharing(Arc::new(settings), gate, Arc::default())
    }

    /// With tasks of its own, and the rest as others have it.
    pub(crate) fn sharing(settings: Arc<RelaySettings>, gate: Gate, tally: Arc<Tally>) -> Self {
        Self {
            settings,
            gate,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            tally,
            room: Room::of(limits::ARGUMENT_BODIES_MAX),
            store: Store::default(),
        }
    }

    /// Waits for what is under way, and cuts it when the grace has passed.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.settings.drain_grace, self.tasks.wait()).await.is_err() {
            self.stop.cancel();
            self.tasks.wait().await;
        }
    }
}

/// One connection, with what it does with a request.
pub(crate) trait Serving: Send + Sync + 'static {
    /// What it shares with others.
    fn common(&self) -> &Common;
    /// Its counts.
    fn pace(&self) -> &Pace;
    /// Whether exchanges are under way beyond those whose request is being answered.
    fn busy(&self) -> bool;
    /// The parser met something that the strict reader let through.
    fn malformed(&self);
    /// Answers the request with this number on the connection, from 0.
    fn act(
        self: Arc<Self>,
        number: u64,
        parts: Parts,
        incoming: Incoming,
    ) -> impl Future<Output = Result<Response<Answer>, Refusal>> + Send;
    /// The words of a refusal.
    fn refuse(&self, voice: Voice, refusal: &Refusal) -> Response<Answer> {
        voice.refuse(refusal).map(Answer::own)
    }
}

/// How a connection is used.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The strict reader, on an HTTP/1 connection.
    pub(crate) wire: Option<Arc<strict::Wire>>,
    /// What cuts it while one of its requests is served, on an HTTP/1 connection.
    pub(crate) cut: Arc<Cut>,
    /// Held once more by each answer that follows a session.
    followed: Arc<()>,
    /// Requests so far.
    requests: AtomicU64,
    /// Requests under way.
    under_way: AtomicUsize,
}

impl Pace {
    pub(crate) fn new(wire: Option<Arc<strict::Wire>>) -> Self {
        Self { wire, ..Self::default() }
    }

    /// Has what is answered now end with this session.
    pub(crate) fn follow(&self, session: &Arc<Session>) -> Following {
        let cut = Cut::of_stream().unwrap_or_else(|| Arc::clone(&self.cut));
        cut.follow(session, Arc::clone(&self.followed))
    }

    /// Whether some answer still follows a session.
    pub(crate) fn following(&self) -> bool {
        Arc::strong_count(&self.followed) > 1
    }

    /// Whether the request with this number is strict HTTP/1.
    pub(crate) fn verdict(&self, number: u64) -> Result<(), Reason> {
        self.wire.as_ref().map_or(Ok(()), |wire| wire.verdict(number))
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Takes back the count of a request.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one request, whatever becomes of it.
pub(crate) async fn answer<L: Serving>(
    line: Arc<L>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let pace = line.pace();
    let number = pace.requests.fetch_add(1, Ordering::Relaxed);
    pace.under_way.fetch_add(1, Ordering::Relaxed);
    let _done = Done(&pace.under_way);
    let (mut parts, body) = request.into_parts();
    let voice = Voice::of(&parts);
    let echo = Echo::place(&mut parts);
    Ok(match Arc::clone(&line).act(number, parts, body).await {
        Ok(answer) => answer,
        Err(refusal) => match echo.and_then(|echo| echo.refuse(&refusal)) {
            Some(answer) => answer.map(Answer::own),
            None => line.refuse(voice, &refusal),
        },
    })
}

/// Whether nothing is under way, neither a request nor an answer.
pub(crate) fn idle(line: &impl Serving) -> bool {
    line.pace().under_way.load(Ordering::Relaxed) == 0 && !line.busy()
}

/// Whether it is idle and all that was answered has left.
pub(crate) fn quiet(line: &impl Serving) -> bool {
    idle(line) && line.pace().wire.as_ref().is_some_and(|wire| wire.flushed())
}

/// Serves an HTTP/2 connection to its end. `cuts` says that its streams may follow sessions other than its own.
pub(crate) async fn serve_http2<L: Serving, S>(line: Arc<L>, io: S, cuts: Cuts, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut idle = IdleWatch::new(&line, None);
    let streams = Streams { tasks: line.common().tasks.clone(), stop: CancellationToken::new(), cuts };
    // The streams have tasks of their own, which must not outlive the connection.
    let _cut = streams.stop.clone().drop_guard();
    let serving = Arc::clone(&line);
    let service = service_fn(move |request| answer(Arc::clone(&serving), request));
    let window = |size: ByteSize| u32::try_from(size.get()).unwrap_or(u32::MAX);
    let mut connection = pin!(
        hyper::server::conn::http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .initial_stream_window_size(window(limits::BODY_WINDOW))
            .initial_connection_window_size(window(limits::H2_CONNECTION_WINDOW))
            .max_send_buf_size(limits::BODY_WINDOW.as_usize())
            .max_concurrent_streams(limits::H2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits::HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(io), service)
    );
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => return ended(&*line, result),
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            verdict = idle.next() => match verdict {
                Idle::Busy | Idle::Quiet => {}
                Idle::TooLong | Idle::TooSlow => connection.as_mut().graceful_shutdown(),
            }
        }
    }
}

/// After the parser let go of a connection.
pub(crate) fn ended(line: &impl Serving, result: hyper::Result<()>) {
    let Err(error) = result else { return };
    // What the strict reader let through and the parser still did not take.
    if error.is_parse() {
        line.malformed();
    }
    tracing::debug!(target: "writ::proxy", error = &error as &dyn std::error::Error, "a connection broke");
}

/// Whether streams may be cut one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cuts {
    /// All end with the connection.
    Together,
    /// Each may follow a session of its own.
    EachAlone,
}

/// Runs the streams of one HTTP/2 connection, and cuts them when it ends.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) cuts: Cuts,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let stop = self.stop.clone();
        match self.cuts {
            Cuts::Together => drop(self.tasks.spawn(stop.run_until_cancelled_owned(stream))),
            Cuts::EachAlone => drop(self.tasks.spawn(stop.run_until_cancelled_owned(Cut::stream(stream)))),
        }
    }
}
