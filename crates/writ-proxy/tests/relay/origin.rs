//! A real service: TLS with its own CA, HTTP/1.1 and HTTP/2, some pages that misbehave on request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::world::{HOST, SECRET};

type Body = BoxBody<Bytes, Infallible>;

/// One service and what it has seen.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) ca_file: PathBuf,
    pub(crate) seen: Arc<Seen>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    /// Released by tests that hold an answer back.
    pub(crate) go: Notify,
}

impl Origin {
    /// Serves `api.test` with these protocols.
    pub(crate) async fn start(alpn: &[&[u8]]) -> Self {
        Self::named(HOST, alpn).await
    }

    pub(crate) async fn named(name: &str, alpn: &[&[u8]]) -> Self {
        let (config, pem) = tls(name, alpn);
        let (origin, listener) = Self::bind(pem).await;
        let seen = origin.seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let (acceptor, seen) = (TlsAcceptor::from(config.clone()), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, seen.clone()));
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    drop(server.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
                });
            }
        });
        origin
    }

    /// Without TLS.
    pub(crate) async fn plain() -> Self {
        let (origin, listener) = Self::bind(String::new()).await;
        let seen = origin.seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let seen = seen.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, seen.clone()));
                    let server = hyper::server::conn::http1::Builder::new();
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        origin
    }

    /// Inside TLS, whatever `serve` does.
    pub(crate) async fn raw<F, T>(serve: F) -> Self
    where
        F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let (config, pem) = tls(HOST, &[b"http/1.1"]);
        let (origin, listener) = Self::bind(pem).await;
        let seen = origin.seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let Ok(stream) = TlsAcceptor::from(config.clone()).accept(stream).await else { continue };
                tokio::spawn(serve(stream));
            }
        });
        origin
    }

    async fn bind(pem: String) -> (Self, TcpListener) {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        writ_host::durable::replace(&ca_file, pem.as_bytes(), 0o600).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self { address, ca_file, seen: Arc::default(), _dir: dir }, listener)
    }
}

fn tls(name: &str, alpn: &[&[u8]]) -> (Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    (Arc::new(config), made.cert.pem())
}

fn text(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

async fn answer(mut request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Body>, Infallible> {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    // What is read before it is decided goes to the same pages.
    let page = ["/read", "/push"].iter().find_map(|read| path.strip_prefix(read));
    Ok(match page.unwrap_or(&path) {
        "/json" => {
            let lent = request.headers().get("authorization");
            if lent.is_some_and(|value| value.as_bytes() == format!("Bearer {SECRET}").as_bytes()) {
                text(200, "{\"ok\":true}")
            } else {
                text(401, "{\"ok\":false}")
            }
        }
        "/headers" => {
            let mut lines: Vec<_> = request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
                .collect();
            lines.sort();
            let first = format!("{} {} {:?}", request.method(), request.uri(), request.version());
            text(200, format!("{first}\n{}\n", lines.join("\n")))
        }
        "/redirect" => {
            let mut response = text(302, "");
            response.headers_mut().insert("location", "https://elsewhere.test/".parse().unwrap());
            response
        }
        "/echo" => {
            let body = request.into_body().map_err(|_| ()).boxed();
            Response::new(BodyExt::boxed(Lossy(body)))
        }
        "/count" => {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(Ok(frame)) = body.frame().await {
                total += frame.data_ref().map_or(0, Bytes::len);
            }
            text(200, total.to_string())
        }
        "/never" => std::future::pending().await,
        "/after" => {
            seen.go.notified().await;
            text(200, "after")
        }
        "/drip" => {
            let frames = futures_util::stream::unfold((seen, 0), |(seen, n)| async move {
                if n > 0 {
                    seen.go.notified().await;
                }
                Some((Ok(Frame::data(Bytes::from(format!("data: {n}\n\n")))), (seen, n + 1)))
            });
            Response::new(BodyExt::boxed(StreamBody::new(frames)))
        }
        "/big" => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let chunks = futures_util::stream::repeat(chunk).take(4096).map(|data| Ok(Frame::data(data)));
            Response::new(BodyExt::boxed(StreamBody::new(chunks)))
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)];
            let frames = futures_util::stream::iter(frames.map(Ok));
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            response.headers_mut().insert("trailer", "grpc-status".parse().unwrap());
            response
        }
        "/grpc" => {
            let te = request.headers().get("te").is_some_and(|te| te == "trailers");
            let collected = request.into_body().collect().await.unwrap();
            let sent = collected.trailers().cloned().unwrap_or_default();
            let data = collected.to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("te-arrived", te.to_string().parse().unwrap());
            trailers.extend(sent);
            let frames = futures_util::stream::iter([Frame::data(data), Frame::trailers(trailers)].map(Ok));
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response
        }
        "/trailed" => {
            let collected = request.into_body().collect().await.unwrap();
            let sum = collected.trailers().map(|trailers| trailers["x-sum"].clone());
            text(200, [&collected.to_bytes()[..], format!(" {sum:?}").as_bytes()].concat())
        }
        "/ws" => {
            let extensions = request.headers().get("sec-websocket-extensions").cloned();
            let lent = request.headers().get("authorization").cloned();
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let Ok(upgraded) = upgraded.await else { return };
                let mut stream = TokioIo::new(upgraded);
                if let Some(lent) = lent {
                    stream.write_all(lent.as_bytes()).await.unwrap();
                    stream.write_all(b"|").await.unwrap();
                }
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
            });
            let mut response = text(101, "");
            let headers = response.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "websocket".parse().unwrap());
            headers.insert("sec-websocket-accept", "x".parse().unwrap());
            if let Some(extensions) = extensions {
                headers.insert("sec-websocket-extensions", extensions);
            }
            response
        }
        _ => text(404, "no such page"),
    })
}

/// A body whose failure ends it.
struct Lossy(BoxBody<Bytes, ()>);

impl http_body::Body for Lossy {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.get_mut().0)
            .poll_frame(cx)
            .map(|frame| frame.and_then(Result::ok).map(Ok))
    }
}
