//! The search across chunk borders.
//!
//! What could be the beginning of a find is held back until the next chunk decides. Invariant: bytes go out once, in
//! order, as many as came in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use super::needles::Needles;

/// Fewer bytes than this are not held back.
pub(crate) const HOLD_BYTES_MIN: usize = 3;

/// A stream of bytes that is searched.
pub(crate) struct Flow {
    needles: Arc<Needles>,
    hits: Arc<AtomicU64>,
    /// The end of what came in that may be the beginning of a find, as it came.
    held: Zeroizing<Vec<u8>>,
    /// The same as it goes out.
    image: Zeroizing<Vec<u8>>,
    /// How many of the held bytes went out already.
    sent: usize,
    /// The stream is part of another, and may begin or end inside a find.
    partial: Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partial {
    No,
    /// Its beginning is still being gathered.
    Begins,
    Goes,
}

impl Flow {
    pub(super) fn new(needles: Arc<Needles>, hits: Arc<AtomicU64>, partial: bool) -> Self {
        let partial = if partial { Partial::Begins } else { Partial::No };
        Self { needles, hits, held: Zeroizing::default(), image: Zeroizing::default(), sent: 0, partial }
    }

    /// How many bytes are held back.
    pub(crate) fn waiting(&self) -> usize {
        self.image.len() - self.sent
    }

    /// Takes a chunk, and gives what may go out. Without a find it is the chunk itself, not a copy.
    pub(crate) fn pass(&mut self, chunk: Bytes) -> Bytes {
        if self.partial != Partial::Begins && self.held.is_empty() && self.needles.find(&chunk, 0).is_none() {
            return self.pass_clean(chunk);
        }
        let known = self.held.len();
        self.held.extend_from_slice(&chunk);
        self.image.extend_from_slice(&chunk);
        if self.partial == Partial::Begins {
            if self.held.len() < self.needles.longest() {
                return Bytes::new();
            }
            self.begin();
        }
        self.sift(known)
    }

    fn pass_clean(&mut self, chunk: Bytes) -> Bytes {
        let begun = self.needles.begun(&chunk);
        if begun == 0 {
            return chunk;
        }
        let border = chunk.len() - begun;
        let tail = chunk.get(border..).unwrap_or_default();
        self.held.extend_from_slice(tail);
        self.image.extend_from_slice(tail);
        if begun < HOLD_BYTES_MIN {
            self.sent = begun;
            return chunk;
        }
        chunk.slice(..border)
    }

    /// Masks finds in what is held, and lets go of all that cannot be the beginning of another.
    fn sift(&mut self, known: usize) -> Bytes {
        let hits = self.needles.mask_new(&self.held, &mut self.image, known);
        self.count(hits);
        let begun = self.needles.begun(&self.held);
        let border = self.held.len() - begun;
        let until = if begun < HOLD_BYTES_MIN { self.held.len() } else { border.max(self.sent) };
        let out = Bytes::copy_from_slice(self.image.get(self.sent..until).unwrap_or_default());
        self.sent = until - border;
        drain(&mut self.held, border);
        drain(&mut self.image, border);
        out
    }

    /// The stream is over: gives what was held back.
    pub(crate) fn end(&mut self) -> Bytes {
        let partial = self.partial != Partial::No;
        if self.partial == Partial::Begins {
            self.begin();
            let hits = self.needles.mask(&self.held, &mut self.image);
            self.count(hits);
        }
        if partial {
            let begun = self.needles.begun(&self.held);
            let border = self.held.len() - begun;
            if begun >= HOLD_BYTES_MIN
                && let Some(tail) = self.image.get_mut(border..)
            {
                tail.fill(b'*');
                self.count(1);
            }
        }
        let out = Bytes::copy_from_slice(self.image.get(self.sent..).unwrap_or_default());
        self.held.zeroize();
        self.image.zeroize();
        self.sent = 0;
        out
    }

    fn begin(&mut self) {
        self.partial = Partial::Goes;
        let ended = self.needles.ended(&self.held);
        if ended >= HOLD_BYTES_MIN
            && let Some(head) = self.image.get_mut(..ended)
        {
            head.fill(b'*');
            self.count(1);
        }
    }

    fn count(&self, hits: u64) {
        if hits > 0 {
            self.hits.fetch_add(hits, Ordering::Relaxed);
        }
    }
}

fn drain(buffer: &mut Vec<u8>, until: usize) {
    let left = buffer.len() - until;
    buffer.copy_within(until.., 0);
    if let Some(rest) = buffer.get_mut(left..) {
        rest.zeroize();
    }
    buffer.truncate(left);
}
