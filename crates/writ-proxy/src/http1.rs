//! One HTTP/1 connection of an agent. While it is quiet it is parked: the parser and its buffers are given up, and
//! only the TLS state stays. That is what keeps thousands of idle connections small.

use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use writ_gate::limits;

use crate::idle::{Idle, IdleWatch};
use crate::serving::{self, Serving};
use crate::strict::{Strict, Wire};

/// Serves the connection to its end.
pub(crate) async fn serve<L: Serving, S>(line: Arc<L>, io: S, wire: Arc<Wire>, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut idle = IdleWatch::new(&line, Some(Arc::clone(&wire)));
    let mut io = Strict::new(io, wire);
    loop {
        // On the heap while it lasts, so that a parked connection does not keep its room.
        let Some(quiet) = Box::pin(parse(&line, io, &mut idle, &drain)).await else { return };
        io = quiet;
        let _parked = line.common().tally.parked();
        if !parked(&mut io, &mut idle, &drain).await {
            return;
        }
    }
}

/// Parses and answers requests; gives the connection back when it is quiet.
async fn parse<L: Serving, S>(
    line: &Arc<L>,
    io: Strict<S>,
    idle: &mut IdleWatch<L>,
    drain: &CancellationToken,
) -> Option<Strict<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answering = Arc::clone(line);
    let service = service_fn(move |request| serving::answer(Arc::clone(&answering), request));
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut draining = false;
    let mut fell = pin!(line.pace().cut.fell());
    loop {
        tokio::select! {
            biased;
            // What was being answered is no longer anybody's: it ends here, in the middle of a body if need be.
            () = &mut fell => return None,
            result = &mut connection => {
                serving::ended(&**line, result);
                return None;
            }
            () = drain.cancelled(), if !draining => {
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            verdict = idle.next() => match verdict {
                Idle::Quiet if !draining && serving::quiet(&**line) => break,
                Idle::Busy | Idle::Quiet => {}
                Idle::TooLong => std::pin::Pin::new(&mut connection).graceful_shutdown(),
                Idle::TooSlow => return None,
            }
        }
    }
    let parts = connection.into_parts()?;
    let mut io = parts.io.into_inner();
    io.put_back(&parts.read_buf);
    Some(io)
}

/// Waits for the next byte; `false` if the connection is over.
async fn parked<L: Serving, S>(io: &mut Strict<S>, idle: &mut IdleWatch<L>, drain: &CancellationToken) -> bool
where
    S: AsyncRead + Unpin,
{
    loop {
        tokio::select! {
            biased;
            more = io.more() => return more,
            () = drain.cancelled() => return false,
            verdict = idle.next() => match verdict {
                Idle::Busy | Idle::Quiet => {}
                Idle::TooLong | Idle::TooSlow => return false,
            }
        }
    }
}
