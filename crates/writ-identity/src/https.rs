//! One HTTPS request and its answer, bounded in time and size. What bundle endpoints and upstream authorities are asked
//! with; the request path of agents is another crate's.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use writ_gate::limits;

use crate::Error;

/// Why another server gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL names no `https` server.
    #[error("its address is no https URL without user information")]
    Address,
    /// No connection, or no TLS that could be verified.
    #[error("there is no verified connection")]
    Connect(#[source] std::io::Error),
    /// The answer broke off or is no HTTP.
    #[error("its answer broke off")]
    Http(#[from] hyper::Error),
    /// The answer is too large, or broke off.
    #[error("its answer is too large or broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("it took longer than {} s", limits::FEDERATION_TIMEOUT.as_secs())]
    Timeout,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
}

/// Asks once, on a connection of its own.
pub(crate) async fn send(
    tls: Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, FetchError> {
    let asked = ask(tls, request);
    tokio::time::timeout(limits::FEDERATION_TIMEOUT, asked).await.unwrap_or(Err(FetchError::Timeout))
}

/// The host and port of a URL that may be asked: `https`, no user information.
pub(crate) fn place(uri: &Uri) -> Result<(&str, u16), FetchError> {
    let authority = uri.authority().ok_or(FetchError::Address)?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(FetchError::Address);
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok((host, authority.port_u16().unwrap_or(443)))
}

/// Trust in the web's authorities, or in those of a file: by name, as browsers do.
pub(crate) fn web_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => roots.add_parsable_certificates(crate::authority::certificates(path)?),
        None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

async fn ask(tls: Arc<ClientConfig>, mut request: Request<Full<Bytes>>) -> Result<Answer, FetchError> {
    let uri = request.uri().clone();
    let (host, port) = place(&uri)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Address)?;
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority).map_err(|_| FetchError::Address)?);
    *request.uri_mut() = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
        .parse()
        .map_err(|_| FetchError::Address)?;
    let tcp = TcpStream::connect((host, port)).await.map_err(FetchError::Connect)?;
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(FetchError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut exchange = pin!(async move {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let location = head.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.map(str::to_owned);
        let body = Limited::new(body, limits::BUNDLE_BYTES_MAX).collect().await.map_err(FetchError::Body)?;
        Ok(Answer { status: head.status, location, body: body.to_bytes() })
    });
    // The connection is driven here and ends here: no task is left behind.
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}
