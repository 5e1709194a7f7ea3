//! Two byte streams tied together, counted in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use writ_gate::limits;

use crate::body::Transfer;

/// Copies until both sides have ended; what the agent sends is counted up, what it is sent down.
///
/// Back-pressure is that of the slower side; at most a window per direction is held.
pub(crate) async fn tie<A, B>(agent: A, service: &mut B, transfer: &Arc<Transfer>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let window = limits::BODY_WINDOW.as_usize() / 4;
    let mut agent = Counted { stream: agent, transfer: Arc::clone(transfer) };
    copy_bidirectional_with_sizes(&mut agent, service, window, window).await?;
    Ok(())
}

/// The agent's side, counted.
struct Counted<S> {
    stream: S,
    transfer: Arc<Transfer>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.transfer.add_up(buf.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            this.transfer.add_down(*length);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
