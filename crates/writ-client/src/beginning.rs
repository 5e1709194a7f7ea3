//! The two calls that begin a run, on one connection, blocking and without a runtime.
//!
//! The process closes every descriptor but this connection, is adopted, confines itself, and becomes the program; an
//! event loop would not survive that, so the little HTTP that is needed is written here.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use writ_control::Fault;
use writ_control::api::{JSON, Nothing, Operation, PREFIX, Prepared, RunOpen, RunOpened};
use writ_core::Layout;

use crate::error::ClientError;
use crate::wire::{trusted, unconnected};

/// Longer than the daemon takes before it gives up by itself.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A head and a body; the largest is a [`Prepared`] with many variables.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The connection on which a run begins. Closed on exec; closing it before [`Beginning::ready`] forgets the run.
#[derive(Debug)]
pub struct Beginning {
    stream: UnixStream,
}

impl Beginning {
    /// Connects to the daemon of this installation.
    pub fn new(layout: &Layout) -> Result<Self, ClientError> {
        let socket = layout.control_socket();
        let stream = UnixStream::connect(&socket).map_err(|source| unconnected(&socket, source))?;
        let peer =
            rustix::net::sockopt::socket_peercred(&stream).map_err(|e| broken(std::io::Error::from(e)))?;
        trusted(&socket, peer.uid.as_raw())?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(broken)?;
        Ok(Self { stream })
    }

    /// The connection's descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Makes this process a run. It reaches nothing when this answers.
    pub fn open(&mut self, ask: &RunOpen) -> Result<Prepared, ClientError> {
        self.call(Operation::RunOpen, ask)
    }

    /// Says that this process is confined. The session is open when this answers.
    pub fn ready(&mut self) -> Result<RunOpened, ClientError> {
        self.call(Operation::RunReady, &Nothing {})
    }

    fn call<Q: Serialize, T: DeserializeOwned>(
        &mut self,
        operation: Operation,
        ask: &Q,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(ask).map_err(broken)?;
        let length = body.len();
        let head = format!(
            "POST {PREFIX}{operation} HTTP/1.1\r\nhost: writ\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n"
        );
        let request = [head.as_bytes(), &body].concat();
        self.stream.write_all(&request).map_err(broken)?;
        let (status, answer) = self.answer()?;
        let unreadable = |error: serde_json::Error| ClientError::Unreadable(error.into());
        if status == 200 {
            return serde_json::from_slice(&answer).map_err(unreadable);
        }
        let fault: Fault = serde_json::from_slice(&answer).map_err(unreadable)?;
        Err(fault.into())
    }

    /// Status and body. Answers have a length; the daemon sends nothing unasked, so none are read into each other.
    fn answer(&mut self) -> Result<(u16, Vec<u8>), ClientError> {
        let mut bytes = Vec::new();
        let mut piece = [0u8; 4096];
        loop {
            if let Some((status, head, length)) = head(&bytes)? {
                if length > ANSWER_BYTES_MAX {
                    return Err(ClientError::Unreadable("the answer is too large".into()));
                }
                if bytes.len() >= head + length {
                    bytes.truncate(head + length);
                    return Ok((status, bytes.split_off(head)));
                }
            } else if bytes.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::Unreadable("the answer is too large".into()));
            }
            let read = self.stream.read(&mut piece).map_err(broken)?;
            let read = piece.get(..read).filter(|read| !read.is_empty());
            bytes.extend_from_slice(read.ok_or_else(|| ClientError::Broken("the daemon hung up".into()))?);
        }
    }
}

/// Status, length of the head and length of the body, once the head is whole.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| ClientError::Unreadable(error.into()))?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    match (response.code, length) {
        (Some(status), Some(length)) => Ok(Some((status, head, length))),
        _ => Err(ClientError::Unreadable("the answer has no length".into())),
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Broken(error.into())
}
