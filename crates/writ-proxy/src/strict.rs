//! A reader before the HTTP/1 parser that lets only strictly formed requests through.
//!
//! The parser behind it (hyper) repairs or quietly drops what can be read in two ways: a length beside chunked
//! framing, a repeated length, a bare LF. Two readers that repair differently are how requests are smuggled, so
//! here nothing is repaired. The reader follows the framing of each request on the connection; a head that is not
//! strict never reaches the parser: a harmless one stands in its place, and [`Wire::verdict`] tells the relay to
//! refuse that request. It is not a parser: what it lets through is still parsed, once, by hyper.
//!
//! Invariant: no byte of a request that is not strict, and none after it, is handed on.

mod body;
mod head;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use writ_core::Reason;

use body::Framing;

/// Stands in place of a head that is refused. Asks for the end of the connection, so nothing follows it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// What the reader tells the relay. Shared between the two.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Heads handed on.
    heads: AtomicU64,
    /// One more than the number of the head that was refused; zero while none was.
    refused: AtomicU64,
    /// It was refused for its size.
    too_large: AtomicBool,
    /// A head has begun and is not complete.
    partial: AtomicBool,
    /// HTTP is over: everything passes as it is.
    tunnel: AtomicBool,
    /// Bytes moved, in either direction.
    moved: AtomicU64,
    /// Something was written and has not been flushed.
    unflushed: AtomicBool,
}

impl Wire {
    /// Why the request with this number (from 0) is refused, if it is.
    pub(crate) fn verdict(&self, number: u64) -> Result<(), Reason> {
        let refused = self.refused.load(Ordering::Acquire);
        if refused == 0 || number + 1 < refused {
            return Ok(());
        }
        let too_large = self.too_large.load(Ordering::Relaxed);
        Err(if too_large { Reason::TooLarge } else { Reason::BadRequest })
    }

    /// Whether something that is not strict was met, in a head or in a body.
    pub(crate) fn broken(&self) -> bool {
        self.refused.load(Ordering::Acquire) != 0
    }

    /// From here on bytes pass as they are.
    pub(crate) fn become_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    /// Whether a head has begun and is not complete.
    pub(crate) fn partial(&self) -> bool {
        self.partial.load(Ordering::Relaxed)
    }

    /// Bytes moved so far: unchanged means idle.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether everything that was written has left.
    pub(crate) fn flushed(&self) -> bool {
        !self.unflushed.load(Ordering::Relaxed)
    }

    fn writing(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.unflushed.store(true, Ordering::Relaxed);
    }

    fn refuse(&self, reason: Reason) {
        self.too_large.store(reason == Reason::TooLarge, Ordering::Relaxed);
        self.refused.store(self.heads.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// The reader. Writes pass through.
pub(crate) struct Strict<S> {
    io: S,
    wire: Arc<Wire>,
    at: At,
    /// The beginning of a head that is not complete.
    held: Vec<u8>,
    /// Checked bytes that wait to be handed on, from this offset.
    checked: (Vec<u8>, usize),
}

/// Where in the stream the reader is.
enum At {
    Head,
    Body(Framing),
    /// A body was refused: what is left is an error.
    Broken,
    /// A head was refused: nothing more is read.
    End,
}

impl<S> Strict<S> {
    pub(crate) fn new(io: S, wire: Arc<Wire>) -> Self {
        Self { io, wire, at: At::Head, held: Vec::new(), checked: (Vec::new(), 0) }
    }

    /// Checks as much of `bytes` as is complete. Returns how much may be handed on, and what is wrong after it.
    fn check(&mut self, bytes: &[u8]) -> (usize, Option<Reason>) {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(reason) => return (done, Some(reason)),
            }
        }
        (done, None)
    }

    /// Checks one head, or what there is of a body; nothing, if a head is not complete.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let (length, framing) = match &mut self.at {
            At::Head => {
                let Some(length) = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
                    return head::check_beginning(bytes).map(|()| 0);
                };
                let framing = head::check(bytes.get(..length).unwrap_or_default())?;
                self.wire.heads.fetch_add(1, Ordering::Relaxed);
                (length, framing)
            }
            At::Body(framing) => (framing.advance(bytes)?, *framing),
            At::Broken | At::End => return Ok(0),
        };
        self.at = if framing.ended() { At::Head } else { At::Body(framing) };
        Ok(length)
    }

    /// Takes what was read into `buf` after `before`; leaves there only what may be handed on.
    fn take(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let reason = if self.held.is_empty() {
            let (done, reason) = self.check(fresh);
            self.held = fresh.get(done..).unwrap_or_default().to_vec();
            buf.set_filled(before + done);
            reason
        } else {
            self.held.extend_from_slice(fresh);
            buf.set_filled(before);
            let mut held = std::mem::take(&mut self.held);
            let (done, reason) = self.check(&held);
            self.held = held.split_off(done);
            self.checked = (held, 0);
            reason
        };
        if let Some(reason) = reason {
            self.stop(reason);
        }
        self.wire.partial.store(!self.held.is_empty(), Ordering::Relaxed);
    }

    /// After a bad head the relay gets to answer. A bad body breaks the connection: the answer may be under way.
    fn stop(&mut self, reason: Reason) {
        self.held = Vec::new();
        self.wire.refuse(reason);
        if matches!(self.at, At::Head) {
            self.checked.0.extend_from_slice(STAND_IN);
            self.at = At::End;
        } else {
            self.at = At::Broken;
        }
    }

    /// Takes back what was handed on and not parsed.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        let (checked, from) = &self.checked;
        let rest = checked.get(*from..).unwrap_or_default();
        self.checked = ([bytes, rest].concat(), 0);
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (bytes, from) = &mut self.checked;
        let rest = bytes.get(*from..).unwrap_or_default();
        let (now, _) = rest.split_at(rest.len().min(buf.remaining()));
        buf.put_slice(now);
        *from += now.len();
        let some = !now.is_empty();
        if *from >= bytes.len() && !bytes.is_empty() {
            self.checked = (Vec::new(), 0);
        }
        some
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Waits until there is something for the parser; `false` if there never will be.
    pub(crate) async fn more(&mut self) -> bool {
        poll_fn(|cx| self.poll_more(cx)).await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Small, and only for a moment: a parked connection holds no buffer.
        let mut room = [0u8; 512];
        let mut buf = ReadBuf::new(&mut room);
        if self.checked.0.is_empty() {
            let read = ready!(Pin::new(&mut *self).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(false);
            }
            self.put_back(buf.filled());
        }
        Poll::Ready(true)
    }
}

fn not_strict() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the request's body is not strict HTTP/1")
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_on(buf) || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match this.at {
                At::Head | At::Body(_) => {}
                At::Broken => return Poll::Ready(Err(not_strict())),
                // The answer to the stand-in ends the connection.
                At::End => return Poll::Pending,
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = buf.filled().len() - before;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            this.wire.moved.fetch_add(read as u64, Ordering::Relaxed);
            if this.wire.tunnel.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            this.take(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wire.writing();
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.wire.unflushed.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wire.writing();
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What the parser would see of `sent`, when it arrives in pieces of these sizes; and the verdicts.
    fn seen(sent: &[u8], sizes: &[usize]) -> (Vec<u8>, Arc<Wire>) {
        let (mut client, server) = tokio::io::duplex(sent.len() + 1);
        let wire = Arc::new(Wire::default());
        let mut strict = Strict::new(server, Arc::clone(&wire));
        let (mut out, mut rest, mut sizes) = (Vec::new(), sent, sizes.iter().cycle());
        let mut room = [0; 256];
        while !rest.is_empty() && !wire.broken() {
            let (now, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            client.write_all(now).now_or_never().unwrap().unwrap();
            rest = later;
            while let Some(Ok(read @ 1..)) = strict.read(&mut room).now_or_never() {
                out.extend_from_slice(&room[..read]);
            }
        }
        (out, wire)
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let chunk = proptest::collection::vec(any::<u8>(), 1..40);
        let chunks = proptest::collection::vec(chunk, 0..5).prop_map(|chunks| {
            let mut body =
                b"POST /a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(&chunk);
                body.extend_from_slice(b"\r\n");
            }
            [&body[..], b"0\r\nX-T: v\r\n\r\n"].concat()
        });
        let sized = proptest::collection::vec(any::<u8>(), 0..200).prop_map(|body| {
            let head = format!("PUT /a HTTP/1.1\r\nHost: api.test\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), &body].concat()
        });
        prop_oneof![Just(b"GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n".to_vec()), chunks, sized]
    }

    proptest! {
        #[test]
        fn strict_requests_pass_unchanged_however_they_are_cut(
            requests in proptest::collection::vec(request(), 1..5),
            sizes in proptest::collection::vec(1usize..64, 1..8),
        ) {
            let sent = requests.concat();
            let (out, wire) = seen(&sent, &sizes);
            prop_assert!(!wire.broken());
            prop_assert_eq!(out, sent);
        }

        #[test]
        fn nothing_after_a_bad_head_is_handed_on(
            requests in proptest::collection::vec(request(), 0..4),
            sizes in proptest::collection::vec(1usize..64, 1..8),
        ) {
            let (good, number) = (requests.concat(), requests.len() as u64);
            let bad = b"POST /a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\nContent-Length: 9\r\n\r\nGET /evil";
            let (out, wire) = seen(&[&good[..], bad].concat(), &sizes);
            prop_assert_eq!(out, [&good[..], STAND_IN].concat());
            prop_assert_eq!(wire.verdict(number), Err(Reason::BadRequest));
            prop_assert!(number == 0 || wire.verdict(number - 1).is_ok());
        }

        #[test]
        fn arbitrary_bytes_never_panic(sent in proptest::collection::vec(any::<u8>(), 0..400)) {
            seen(&sent, &[7, 64, 1]);
        }
    }
}
