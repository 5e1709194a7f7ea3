//! One question to a container runtime or kubelet, over HTTP/1.1.
//!
//! Runs on the caller's thread, which may wait, with a small runtime of its own for as long as the question takes. Never
//! follows a redirect, reads at most [`limits::RUNTIME_ANSWER_BYTES_MAX`] and waits at most [`limits::RUNTIME_TIMEOUT`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use writ_gate::limits;

/// Who is asked.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// At a Unix socket.
    Unix(PathBuf),
    /// Over TLS, verified.
    Tls { address: SocketAddr, name: ServerName<'static>, config: Arc<ClientConfig> },
}

/// No answer that can be used. Says what, and never what was in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("it cannot be reached")]
    Unreached(#[from] std::io::Error),
    #[error("it broke off")]
    Broken(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is too large, or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer is not what was asked for")]
    Shape(#[from] serde_json::Error),
    #[error("it did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the question cannot be asked")]
    Question(#[from] http::Error),
}

/// Asks for a JSON document. `token` is sent as a bearer token.
pub(super) fn get_json<T: DeserializeOwned>(
    server: &Server,
    path: &str,
    token: Option<&HeaderValue>,
) -> Result<T, Unanswered> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bytes = runtime.block_on(async {
        tokio::time::timeout(limits::RUNTIME_TIMEOUT, get(server, path, token)).await
    })??;
    Ok(serde_json::from_slice(&bytes)?)
}

async fn get(server: &Server, path: &str, token: Option<&HeaderValue>) -> Result<Bytes, Unanswered> {
    match server {
        Server::Unix(socket) => ask(UnixStream::connect(socket).await?, "localhost", path, token).await,
        Server::Tls { address, name, config } => {
            let stream = TcpStream::connect(address).await?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
            let stream = connector.connect(name.clone(), stream).await?;
            ask(stream, &name.to_str(), path, token).await
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    token: Option<&HeaderValue>,
) -> Result<Bytes, Unanswered> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, token.clone());
    }
    let answer = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Unanswered::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), limits::RUNTIME_ANSWER_BYTES_MAX);
        Ok(body.collect().await.map_err(Unanswered::Body)?.to_bytes())
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    let mut closed = false;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            // Its end alone says nothing: the answer may have come before it.
            _ = &mut connection, if !closed => closed = true,
        }
    }
}
