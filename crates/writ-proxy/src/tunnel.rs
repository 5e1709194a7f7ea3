//! Two byte streams tied together, counted in both directions.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use writ_gate::limits;

use crate::body::Transfer;
use crate::scrub::Flow;

/// Bytes held per direction: a quarter of the window, since a tunnel is either interactive or well served by it.
fn window() -> usize {
    limits::BODY_WINDOW.as_usize() / 4
}

/// Copies until both sides have ended; what the agent sends is counted up, what it is sent down.
///
/// What the service says is searched for what was lent. The end of one direction is passed on. Back-pressure is that of the slower side.
pub(crate) async fn tie<A, S>(
    agent: A,
    service: Said<S>,
    transfer: &Arc<Transfer>,
    search: Option<Flow>,
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (agent_read, agent_write) = tokio::io::split(agent);
    let up = up(agent_read, service.write, transfer);
    let down = down(service.read, service.first, agent_write, Passing { transfer, search });
    tokio::try_join!(up, down)?;
    Ok(())
}

/// A service's side, with what it has said already.
pub(crate) struct Said<S> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    first: Bytes,
}

impl<S: AsyncRead + AsyncWrite> Said<S> {
    pub(crate) fn new(stream: S, first: Bytes) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read, write, first }
    }
}

async fn up<R, W>(mut from: R, mut to: W, transfer: &Transfer) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::with_capacity(window());
    while from.read_buf(&mut buffer).await? > 0 {
        transfer.add_up(buffer.len());
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
    }
    to.shutdown().await
}

async fn down<R, W>(mut from: R, first: Bytes, mut to: W, mut passing: Passing<'_>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::from(&*first);
    loop {
        if buffer.is_empty() {
            buffer.reserve(window());
            if from.read_buf(&mut buffer).await? == 0 {
                break;
            }
        }
        let clean = passing.clean(buffer.split().freeze());
        to.write_all(&clean).await?;
        to.flush().await?;
        passing.transfer.add_down(clean.len());
    }
    let rest = passing.search.as_mut().map(Flow::end).unwrap_or_default();
    to.write_all(&rest).await?;
    passing.transfer.add_down(rest.len());
    to.shutdown().await
}

/// What happens to bytes on their way to the agent.
struct Passing<'a> {
    transfer: &'a Transfer,
    search: Option<Flow>,
}

impl Passing<'_> {
    fn clean(&mut self, bytes: Bytes) -> Bytes {
        match &mut self.search {
            Some(search) => search.pass(bytes),
            None => bytes,
        }
    }
}
