//! The evidence as it streams in.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use writ_control::Fault;
use writ_core::event::{Leaf, LeafError};

use crate::error::ClientError;
use crate::wire::Answer;

/// One line: a leaf, and the frame around it, with room to spare.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Leaves of a `log.query`, oldest first. Dropping it hangs up.
pub struct Leaves {
    answer: Answer,
    buffer: BytesMut,
    ended: bool,
}

#[derive(Deserialize)]
struct Broken {
    fault: Fault,
}

impl Leaves {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, buffer: BytesMut::new(), ended: false }
    }

    /// The next leaf; `None` at the end. Waits for ever on a query that follows. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Leaf>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return parse(&line).map(Some);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::Unreadable("a line is too long".into()));
            }
            if self.ended {
                let whole = self.buffer.is_empty();
                return if whole {
                    Ok(None)
                } else {
                    Err(ClientError::Broken("in the middle of a line".into()))
                };
            }
            match self.answer.response.body_mut().frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(ClientError::Broken(error.into())),
                None => self.ended = true,
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Leaf, ClientError> {
    if let Ok(Broken { fault }) = serde_json::from_slice(line) {
        return Err(fault.into());
    }
    Leaf::decode(line).map_err(|error: LeafError| ClientError::Unreadable(error.into()))
}
