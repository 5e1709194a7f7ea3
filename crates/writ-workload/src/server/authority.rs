//! What clients write as `:authority` on a Unix socket, made readable.
//!
//! gRPC's C core, and with it Python, C++, Ruby and PHP, sends the percent-encoded path of the socket
//! (`run%2Fwrit%2Fworkload.sock`). That is no authority (RFC 3986, section 3.2 would do, RFC 9110 and the `http` crate would
//! not), and the HTTP/2 library ends the stream. Nothing here ever looks at the authority, so each `%` in it becomes a
//! `-`: as many bytes as before, so that neither the lengths of frames nor the size of the header table (RFC 7541,
//! section 4.1) change. Everything else passes as it is; what is malformed is left to be refused.
//!
//! Invariant: as many bytes come out as went in, in their order, and only bytes of an `:authority` differ.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose reading side is put right.
pub(super) struct Readable<S> {
    stream: S,
    /// What was read. Its first `ready` bytes may be handed on.
    held: BytesMut,
    ready: usize,
    next: Next,
}

/// What comes after the bytes that are ready.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// So much of something that passes as it is: the preface of a connection, or the payload of a frame.
    Plain(usize),
    /// The head of a frame.
    Frame,
}

const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
/// The largest frame that a client may send as long as nobody allows it more (RFC 9113, section 6.5.2).
const FRAME_BYTES_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

impl<S> Readable<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, held: BytesMut::new(), ready: 0, next: Next::Plain(PREFACE_BYTES) }
    }

    /// Looks at what is held and not ready.
    fn look(&mut self) {
        loop {
            let rest = self.held.get_mut(self.ready..).unwrap_or_default();
            match self.next {
                Next::Plain(0) => self.next = Next::Frame,
                Next::Plain(_) if rest.is_empty() => return,
                Next::Plain(left) => {
                    let passed = left.min(rest.len());
                    self.ready += passed;
                    self.next = Next::Plain(left - passed);
                }
                Next::Frame => {
                    let Some((head, rest)) = rest.split_first_chunk_mut::<FRAME_HEAD_BYTES>() else { return };
                    let [high, middle, low, kind, flags, ..] = *head;
                    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                    if kind == HEADERS && length <= FRAME_BYTES_MAX {
                        // Whole or not at all: it is at most a few kilobytes.
                        let Some(payload) = rest.get_mut(..length) else { return };
                        put_right(block(payload, flags));
                        self.ready += FRAME_HEAD_BYTES + length;
                    } else {
                        self.ready += FRAME_HEAD_BYTES;
                        self.next = Next::Plain(length);
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.ready > 0 {
                let passed = this.ready.min(buffer.remaining());
                buffer.put_slice(this.held.get(..passed).unwrap_or_default());
                this.held.advance(passed);
                this.ready -= passed;
                return Poll::Ready(Ok(()));
            }
            let mut room = [0; 4_096];
            let mut read = ReadBuf::new(&mut room);
            match Pin::new(&mut this.stream).poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    if this.held.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    // It broke off within a frame: that is for the library to say.
                    this.ready = this.held.len();
                }
                Poll::Ready(Ok(())) => {
                    this.held.extend_from_slice(read.filled());
                    this.look();
                }
                waits @ (Poll::Pending | Poll::Ready(Err(_))) => return waits,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Readable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}

/// The header block in the payload of a HEADERS frame (RFC 9113, section 6.2).
fn block(payload: &mut [u8], flags: u8) -> &mut [u8] {
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        begin += 1;
        end = end.saturating_sub(payload.first().copied().map_or(0, usize::from));
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    payload.get_mut(begin..end).unwrap_or_default()
}

/// Walks over a header block (RFC 7541, section 6), as far as it makes sense.
fn put_right(mut block: &mut [u8]) {
    while let Some((rest, authority)) = field(block) {
        for byte in authority.iter_mut().filter(|byte| **byte == b'%') {
            *byte = b'-';
        }
        block = rest;
    }
}

/// What follows the first field of a block, and the field's value if it is an `:authority` in plain text.
fn field(block: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let first = *block.first()?;
    let prefix = match first {
        0x80.. => 7,
        0x40..0x80 => 6,
        0x20..0x40 => 5,
        0..0x20 => 4,
    };
    let (index, block) = integer(block, prefix)?;
    if prefix == 7 || prefix == 5 {
        // A field of a table, or the size of the table.
        return Some((block, &mut []));
    }
    // 1 is `:authority` in the static table.
    let (is_authority, block) = match index {
        0 => {
            let (name, block) = string(block)?;
            (name.is_some_and(|name| *name == *b":authority"), block)
        }
        index => (index == 1, block),
    };
    let (value, block) = string(block)?;
    Some((block, value.filter(|_| is_authority).unwrap_or_default()))
}

/// An integer (section 5.1). One above what a frame can hold makes no sense.
fn integer(block: &mut [u8], prefix: u32) -> Option<(usize, &mut [u8])> {
    let (first, mut block) = block.split_first_mut()?;
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        for shift in (0..21).step_by(7) {
            let (next, rest) = block.split_first_mut()?;
            value += (usize::from(*next) & 0x7f) << shift;
            block = rest;
            if *next & 0x80 == 0 {
                return Some((value, block));
            }
        }
        return None;
    }
    Some((value, block))
}

/// A string (section 5.2); none in the place of one that is Huffman-coded.
fn string(block: &mut [u8]) -> Option<(Option<&mut [u8]>, &mut [u8])> {
    let coded = *block.first()? & 0x80 != 0;
    let (length, block) = integer(block, 7)?;
    let (text, rest) = block.split_at_mut_checked(length)?;
    Some(((!coded).then_some(text), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// As gRPC's C core writes it: the path indexed, then the authority, both in plain text.
    fn headers(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x44, 2, b'/', b'%', 0x41, u8::try_from(authority.len()).unwrap()];
        block.extend_from_slice(authority);
        block.extend_from_slice(&[0x40, 1, b'x', 1, b'%']);
        block
    }

    fn passed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(piece);
            let sending = async {
                tokio::io::AsyncWriteExt::write_all(&mut client, bytes).await.unwrap();
                drop(client);
            };
            let mut out = Vec::new();
            let mut server = Readable::new(server);
            let (read, ()) = tokio::join!(server.read_to_end(&mut out), sending);
            read.unwrap();
            out
        })
    }

    #[test]
    fn only_the_authority_changes_however_it_arrives() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let data = frame(0, 0, b"\x41\x03a%b");
        let whole = |authority: &[u8]| {
            let plain = headers(authority);
            let padded = [&[3, 0, 0, 0, 0, 9], plain.as_slice(), b"\x41\x01%"].concat();
            [&preface[..], &frame(4, 0, &[]), &frame(1, 4, &plain), &data, &frame(1, 0x2c, &padded)].concat()
        };
        for piece in [1, 7, 4_096] {
            assert_eq!(passed(&whole(b"run%2Fwrit.sock"), piece), whole(b"run-2Fwrit.sock"), "{piece}");
        }
    }

    #[test]
    fn a_name_that_is_spelled_out_is_known_too() {
        let mut block = [&[0x10, 10][..], b":authority", &[3], b"a%b"].concat();
        put_right(&mut block);
        assert!(block.ends_with(b"a-b"));
    }

    proptest! {
        #[test]
        fn whatever_comes_comes_out_but_for_percent_signs(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            kinds in prop::collection::vec((0u8..4, any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..6),
            piece in 1usize..64,
        ) {
            let frames: Vec<u8> = kinds.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let all = [&[0; PREFACE_BYTES][..], &frames, &bytes].concat();
            let out = passed(&all, piece);
            prop_assert_eq!(out.len(), all.len());
            for (before, after) in all.iter().zip(&out) {
                prop_assert!(before == after || (*before == b'%' && *after == b'-'));
            }
        }
    }
}
