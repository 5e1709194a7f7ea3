//! Asking an issuer over HTTP: one request on one connection, verified, bounded, and never led elsewhere.
//!
//! A redirect is an answer like any other and never followed: it could carry a code or secret to somebody else. Bodies
//! and times are bounded; what came is zeroed when dropped, since it may hold tokens.

use std::future::pending;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use writ_gate::limits;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::issuer::{Endpoint, Issuer, IssuerName};
use crate::json::Object;

/// The way to one issuer.
#[derive(Clone)]
pub(crate) struct Web {
    issuer: IssuerName,
    tls: Arc<ClientConfig>,
}

/// A question.
pub(crate) struct Question<'q> {
    pub(crate) to: &'q Endpoint,
    pub(crate) authorization: Option<HeaderValue>,
    /// Content type and content; a GET if absent.
    pub(crate) body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    pub(crate) within: Duration,
}

impl<'q> Question<'q> {
    /// A plain GET.
    pub(crate) fn get(to: &'q Endpoint) -> Self {
        Self { to, authorization: None, body: None, within: limits::ISSUER_TIMEOUT }
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) json: bool,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The object in an answer that says it is JSON.
    pub(crate) fn object(&self) -> Option<Object> {
        if self.json { Object::parse(&self.body) } else { None }
    }
}

impl Web {
    /// Reads the roots. Bad ones are an error now, not at the first login.
    pub(crate) fn new(issuer: &Issuer) -> Result<Self, Error> {
        let failed = |what: String| Error::Roots { issuer: Arc::clone(&issuer.name), what };
        let mut roots = RootCertStore::empty();
        match &issuer.ca_file {
            Some(path) => roots.add_parsable_certificates(certificates(path).map_err(failed)?),
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        if let (Some(path), true) = (&issuer.ca_file, roots.is_empty()) {
            return Err(failed(format!("`{}` holds no certificate in PEM form", path.display())));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { issuer: Arc::clone(&issuer.name), tls: Arc::new(tls) })
    }

    /// Asks and reads the whole answer.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Answer, Error> {
        let (to, within) = (question.to, question.within);
        // Boxed: TLS and HTTP together are large, and whoever asks waits anyway.
        let asked = Box::pin(async {
            let place = (to.host(), to.port());
            let tcp =
                TcpStream::connect(place).await.map_err(|error| self.away(to, "no connection", error))?;
            if !to.secure() {
                return self.exchange(tcp, question).await;
            }
            let name = ServerName::try_from(to.host().to_owned())
                .map_err(|_| self.wrong("its host is no name that a certificate could have"))?;
            let connected = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
            let tls = connected.map_err(|error| self.away(to, "no TLS that is trusted", error))?;
            self.exchange(tls, question).await
        });
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.away(to, "it took too long", std::io::ErrorKind::TimedOut.into())),
        }
    }

    /// Asks and wants an object with status 200.
    pub(crate) async fn object(&self, to: &Endpoint) -> Result<Object, Error> {
        let answer = self.ask(Question::get(to)).await?;
        if answer.status != StatusCode::OK {
            return Err(self.wrong(format!("status {} instead of a document", answer.status.as_u16())));
        }
        Object::parse(&answer.body).ok_or_else(|| self.wrong("a document that is no JSON object"))
    }

    /// The issuer answered wrongly.
    pub(crate) fn wrong(&self, what: impl Into<String>) -> Error {
        Error::Answer { issuer: Arc::clone(&self.issuer), what: what.into() }
    }

    fn away(&self, to: &Endpoint, what: &'static str, source: std::io::Error) -> Error {
        let place = format!("{}:{}", to.host(), to.port());
        Error::Unreachable { issuer: Arc::clone(&self.issuer), what, place, source: Some(source) }
    }

    async fn exchange<S>(&self, stream: S, question: Question<'_>) -> Result<Answer, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let to = question.to;
        let broken = |error: hyper::Error| self.away(to, "it broke off", std::io::Error::other(error));
        let request = self.request(question)?;
        let (mut send, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(limits::HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answered = pin!(async {
            let (head, body) = send.send_request(request).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, limits::ISSUER_BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|_| self.wrong("its answer broke off, or is too long"))?.to_bytes();
            let json = head.headers.get(CONTENT_TYPE).is_some_and(is_json);
            Ok(Answer { status: head.status, json, body: Zeroizing::new(body.to_vec()) })
        });
        // The connection is driven here, by nobody else. It may end before its last bytes have been looked at.
        let driven = pin!(async {
            if let Err(error) = connection.await {
                tracing::debug!(target: "writ::human", %error, "a connection to an issuer ended");
            }
            pending::<()>().await;
        });
        tokio::select! {
            answer = answered => answer,
            () = driven => Err(self.wrong("its answer broke off")),
        }
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Full<Bytes>>, Error> {
        let method = if question.body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(method)
            .uri(question.to.path())
            .header(HOST, question.to.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "writ");
        if let Some(value) = question.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let body = match question.body {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                Bytes::from_owner(body)
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|_| self.wrong("its URL cannot be asked"))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|error| failed(&error))
}

fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}
