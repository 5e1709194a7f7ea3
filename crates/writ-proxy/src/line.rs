//! One HTTP connection of an agent: TLS or not, HTTP/1 or HTTP/2, until it ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writ_core::units::ByteSize;
use writ_core::{HostName, Reason};
use writ_gate::{Admitted, limits};

use crate::body::Answer;
use crate::head::Place;
use crate::http1;
use crate::idle::{Idle, IdleWatch};
use crate::lane::{Lane, Seat};
use crate::refusal::{self, Voice};
use crate::relay::Shared;
use crate::strict;
use crate::tls::{self, NoTls};
use crate::upstream::Target;

/// What the requests of one connection share.
pub(crate) struct Line {
    pub(crate) shared: Arc<Shared>,
    pub(crate) admitted: Arc<Admitted>,
    pub(crate) target: Target,
    /// What every request is told, if the connection itself was not acceptable.
    pub(crate) refused: Option<Reason>,
    /// The strict reader, on an HTTP/1 connection.
    pub(crate) wire: Option<Arc<strict::Wire>>,
    seat: Seat,
    /// Requests so far.
    requests: AtomicU64,
    /// Requests under way.
    under_way: AtomicUsize,
}

impl Line {
    /// The shared part of the session.
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        self.seat.lane()
    }

    /// Answers one request, whatever becomes of it.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.under_way);
        let (parts, body) = request.into_parts();
        let voice = Voice::of(&parts);
        Ok(match self.act(number, parts, body).await {
            Ok(answer) => answer,
            Err(refusal) => voice.refuse(&refusal).map(Answer::own),
        })
    }

    /// Whether nothing is under way, neither a request nor an answer.
    pub(crate) fn idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0 && self.admitted.actions_open() == 0
    }

    /// Whether it is idle and all that was answered has left.
    pub(crate) fn quiet(&self) -> bool {
        self.idle() && self.wire.as_ref().is_some_and(|wire| wire.flushed())
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

/// A connection to an `https` service.
pub(crate) async fn serve_https(
    shared: Arc<Shared>,
    stream: TcpStream,
    admitted: Arc<Admitted>,
    seat: Seat,
    drain: CancellationToken,
) {
    let Some(authority) = shared.authorities.get(admitted.session().facts().id) else {
        tracing::warn!(target: "writ::proxy", "a session without a certificate authority");
        shared.gate.reject(&admitted, Reason::NotReady);
        return;
    };
    // On the heap while it lasts: a connection keeps the size of its largest state for its whole life.
    let accepted = Box::pin(tls::accept(stream, &admitted, &authority));
    let secured = match tokio::time::timeout(shared.settings.hello_timeout, accepted).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(no_tls)) => return without_tls(&shared, &admitted, no_tls).await,
        Err(_) => return,
    };
    drop(authority);
    if let Some(reason) = secured.refused {
        shared.gate.reject(&admitted, reason);
    }
    let h2 = secured.stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let place = place(&admitted, secured.host, true);
    let (io, refused) = (secured.stream, secured.refused);
    let opened = Opened { shared, admitted, place, refused, seat };
    if h2 {
        Box::pin(serve_http2(opened, io, drain)).await;
    } else {
        let wire = Arc::new(strict::Wire::default());
        http1::serve(opened.line(Some(Arc::clone(&wire))), io, wire, drain).await;
    }
}

/// A connection to an `http` service.
pub(crate) async fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    admitted: Arc<Admitted>,
    seat: Seat,
    drain: CancellationToken,
) {
    let Some(host) = some_name(&admitted) else {
        shared.gate.reject(&admitted, Reason::UnknownDestination);
        return;
    };
    let place = place(&admitted, host, false);
    let opened = Opened { shared, admitted, place, refused: None, seat };
    let wire = Arc::new(strict::Wire::default());
    http1::serve(opened.line(Some(Arc::clone(&wire))), stream, wire, drain).await;
}

async fn without_tls(shared: &Arc<Shared>, admitted: &Arc<Admitted>, no_tls: NoTls) {
    match no_tls {
        NoTls::Refused(reason) => {
            shared.gate.reject(admitted, reason);
        }
        NoTls::Plain(mut stream, first) => {
            let refusal = shared.gate.reject(admitted, Reason::NotTls);
            if first.is_ascii_uppercase() {
                let told = async {
                    stream.write_all(&refusal::raw(&refusal)).await?;
                    stream.shutdown().await?;
                    tls::discard(&mut stream).await
                };
                let within = shared.settings.hello_timeout;
                drop(tokio::time::timeout(within, told).await);
            }
        }
        NoTls::Gone(error) => {
            tracing::debug!(target: "writ::proxy", %error, "a client ended the TLS handshake");
        }
    }
}

/// The name of the destination; for a literal address, a name of the service that lists it.
pub(crate) fn some_name(admitted: &Admitted) -> Option<HostName> {
    use writ_core::service::HostPattern;
    let service = admitted.service();
    let first = service.hosts.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Below(_) => None,
    });
    let named = || HostName::new(service.name.as_str()).ok();
    admitted.conn().destination.name.clone().or(first).or_else(named)
}

pub(crate) fn place(admitted: &Admitted, host: HostName, tls: bool) -> Place {
    let destination = &admitted.conn().destination;
    let literal = destination.name.is_none().then_some(destination.address);
    Place { host, literal, port: destination.address.port(), tls }
}

/// A connection whose destination is known.
struct Opened {
    shared: Arc<Shared>,
    admitted: Arc<Admitted>,
    place: Place,
    refused: Option<Reason>,
    seat: Seat,
}

impl Opened {
    fn line(self, wire: Option<Arc<strict::Wire>>) -> Arc<Line> {
        let Self { shared, admitted, place, refused, seat } = self;
        let target = Target { service: Arc::clone(admitted.service()), place };
        let (requests, under_way) = (AtomicU64::new(0), AtomicUsize::new(0));
        Arc::new(Line { shared, admitted, target, refused, wire, seat, requests, under_way })
    }
}

async fn serve_http2<S>(opened: Opened, io: S, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = opened.line(None);
    let mut idle = IdleWatch::new(&line, None);
    let streams = Streams { tasks: line.shared.tasks.clone(), stop: CancellationToken::new() };
    // The streams have tasks of their own, which must not outlive the connection.
    let _cut = streams.stop.clone().drop_guard();
    let serving = Arc::clone(&line);
    let service = service_fn(move |request| Arc::clone(&serving).answer(request));
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
            result = connection.as_mut() => return ended(&line, result),
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
pub(crate) fn ended(line: &Line, result: hyper::Result<()>) {
    let Err(error) = result else { return };
    // What the strict reader let through and the parser still did not take.
    if error.is_parse() {
        line.shared.gate.reject(&line.admitted, Reason::BadRequest);
    }
    tracing::debug!(target: "writ::proxy", error = &error as &dyn std::error::Error, "a connection broke");
}

/// Runs the streams of one HTTP/2 connection, and cuts them when it ends.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(stream));
    }
}
