//! Two byte streams tied together, counted in both directions.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use writ_gate::limits;

use crate::body::Transfer;

/// Bytes held per direction: a quarter of the window, since a tunnel is either interactive or well served by it.
fn window() -> usize {
    limits::BODY_WINDOW.as_usize() / 4
}

/// Copies until both sides have ended; what the agent sends is counted up, what it is sent down.
///
/// The end of one direction is passed on. Back-pressure is that of the slower side.
pub(crate) async fn tie<A, S>(agent: A, service: Said<S>, transfer: &Arc<Transfer>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (agent_read, agent_write) = tokio::io::split(agent);
    let up = up(agent_read, service.write, transfer);
    let down = down(service.read, service.first, agent_write, transfer);
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

async fn down<R, W>(mut from: R, first: Bytes, mut to: W, transfer: &Transfer) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::with_capacity(window());
    buffer.extend_from_slice(&first);
    while !buffer.is_empty() || from.read_buf(&mut buffer).await? > 0 {
        to.write_all(&buffer).await?;
        to.flush().await?;
        transfer.add_down(buffer.len());
        buffer.clear();
    }
    to.shutdown().await
}
