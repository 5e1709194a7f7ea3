//! One exchange on one connection.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;
use writ_control::Fault;
use writ_control::api::{self, Operation};

use crate::error::ClientError;

/// A whole answer, bytes. Far above any that is sent; a stream has no limit.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An answer whose head has arrived, and the connection that it comes on.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    /// Ends the connection when the answer is dropped.
    _connection: AbortOnDropHandle<()>,
}

/// A request with a JSON object as its body.
pub(crate) fn json<T: Serialize>(operation: Operation, ask: &T) -> Result<Request<Full<Bytes>>, ClientError> {
    let body = serde_json::to_vec(ask).map_err(|error| ClientError::Broken(error.into()))?;
    request(operation, api::JSON, body.into())
}

/// A request.
pub(crate) fn request(
    operation: Operation,
    content: &'static str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::post(format!("{}{operation}", api::PREFIX))
        .header(http::header::HOST, "writ")
        .header(http::header::CONTENT_TYPE, content)
        .body(Full::new(body))
        .map_err(|error| ClientError::Broken(error.into()))
}

/// Sends the request; a fault is an error.
pub(crate) async fn send(socket: &Path, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
    let stream = connect(socket).await?;
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, http) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // How the connection ended is seen by whoever reads the answer.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(http.await) }));
    let response = sender.send_request(request).await.map_err(broken)?;
    let answer = Answer { response, _connection: connection };
    if answer.response.status() == StatusCode::OK {
        return Ok(answer);
    }
    let fault: Fault = read(answer).await?;
    Err(fault.into())
}

/// Reads the whole answer.
pub(crate) async fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, ClientError> {
    let body = Limited::new(answer.response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map_err(ClientError::Broken)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Unreadable(error.into()))
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| unconnected(socket, source))?;
    let peer = stream.peer_cred().map_err(|error| ClientError::Broken(error.into()))?.uid();
    trusted(socket, peer)?;
    Ok(stream)
}

/// Why there is no connection.
pub(crate) fn unconnected(socket: &Path, source: io::Error) -> ClientError {
    let path = socket.to_owned();
    let kind = source.kind();
    if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        ClientError::NotRunning { path, source }
    } else if kind == io::ErrorKind::PermissionDenied {
        ClientError::Forbidden { path, source }
    } else {
        ClientError::Broken(source.into())
    }
}

/// What the kernel shows for a uid that the user namespace does not map (`/proc/sys/kernel/overflowuid`).
const UNMAPPED: u32 = 65_534;

/// Whether uid 0 means anything in this process's user namespace. What cannot be read is taken for the host's own.
fn maps_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first = |line: &str| line.split_whitespace().next().map(|uid| uid == "0");
    map.is_empty() || map.lines().filter_map(first).any(|zero| zero)
}

/// Refuses a listener that is neither root nor the caller's own user.
pub(crate) fn trusted(socket: &Path, uid: u32) -> Result<(), ClientError> {
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    // Inside a run root has no number: its user namespace maps the run's own user and nobody else. Whoever could pose as
    // the daemon in there is the agent itself, which can deceive only itself.
    if uid == UNMAPPED && !maps_root() {
        return Ok(());
    }
    Err(ClientError::Impostor { path: socket.to_owned(), uid })
}
