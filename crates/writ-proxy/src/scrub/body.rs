//! A body that is searched while it streams, at the level of frames: the same for HTTP/1 and HTTP/2.
//!
//! Each frame that comes in goes out before the next is asked for, as far as it can, so that event streams keep
//! their pace. Memory is bounded: one frame, the longest form searched for, and one step of each decoder.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::coding::Decoding;
use super::flow::Flow;
use super::{Scrubber, Treatment};

/// The body as the agent gets it.
pub(crate) struct ScrubbedBody<B> {
    inner: B,
    scrubber: Scrubber,
    flow: Flow,
    decoding: Option<io::Result<Decoding>>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// The body cannot be passed on to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError<E> {
    /// The service broke off.
    #[error("the service broke off its answer")]
    Inner(#[source] E),
    /// It is not encoded as its head says, or cut short.
    #[error("the answer's encoding is broken")]
    Coding(#[source] io::Error),
}

impl<B> ScrubbedBody<B> {
    pub(super) fn new(inner: B, scrubber: Scrubber, treatment: Treatment) -> Self {
        let flow =
            Flow::new(Arc::clone(&scrubber.lent.needles), Arc::clone(&scrubber.hits), treatment.partial);
        let decoding = Some(treatment.codings).filter(|codings| !codings.is_empty());
        let decoding = decoding.map(|codings| Decoding::new(&codings));
        Self { inner, scrubber, flow, decoding, trailers: None, ended: false }
    }

    /// Decoded bytes that are ready, cleaned.
    fn decoded<E>(&mut self) -> Result<Option<Bytes>, BodyError<E>> {
        let Some(decoding) = &mut self.decoding else { return Ok(None) };
        let decoding = match decoding {
            Ok(decoding) => decoding,
            Err(error) => return Err(BodyError::Coding(error.kind().into())),
        };
        while let Some(bytes) = decoding.pull().map_err(BodyError::Coding)? {
            let out = self.flow.pass(bytes);
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }

    fn take<E>(&mut self, bytes: Bytes) -> Result<Option<Bytes>, BodyError<E>> {
        if let Some(Ok(decoding)) = &mut self.decoding {
            decoding.feed(bytes);
            return self.decoded();
        }
        Ok(Some(self.flow.pass(bytes)).filter(|out| !out.is_empty()))
    }

    fn end<E>(&mut self, trailers: Option<HeaderMap>) -> Result<Option<Bytes>, BodyError<E>> {
        self.ended = true;
        self.trailers = trailers;
        if let Some(trailers) = &mut self.trailers {
            self.scrubber.headers(trailers);
        }
        if let Some(Ok(decoding)) = &mut self.decoding {
            decoding.end().map_err(BodyError::Coding)?;
        }
        Ok(Some(self.flow.end()).filter(|out| !out.is_empty()))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ScrubbedBody<B> {
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if !this.ended
            && let Some(out) = this.decoded().transpose()
        {
            this.ended = out.is_err();
            return Poll::Ready(Some(out.map(Frame::data)));
        }
        while !this.ended {
            let out = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.take(bytes),
                    Err(frame) => this.end(frame.into_trailers().ok()),
                },
                Some(Err(error)) => Err(BodyError::Inner(error)),
                None => this.end(None),
            };
            if let Some(out) = out.transpose() {
                this.ended |= out.is_err();
                return Poll::Ready(Some(out.map(Frame::data)));
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        if self.ended {
            return self.trailers.is_none();
        }
        self.decoding.is_none() && self.inner.is_end_stream() && self.flow.waiting() == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.decoding.is_some() || self.ended {
            return SizeHint::default();
        }
        let (inner, waiting) = (self.inner.size_hint(), self.flow.waiting() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + waiting);
        }
        hint.set_lower(inner.lower() + waiting);
        hint
    }
}
