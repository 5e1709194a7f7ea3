//! One connection over TLS: bounded in time and size at every step.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use writ_gate::limits;

use super::router::{Router, plain};
use crate::streams::Streams;

pub(super) async fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    router: Arc<Router>,
    stop: CancellationToken,
) {
    let Ok(Ok(stream)) = timeout(limits::WEB_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await else {
        return;
    };
    let streams = Streams::default();
    let _cut = streams.cut();
    let service = service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(answer(&router, request).await.map(Full::new)) }
    });
    let window = u32::try_from(limits::WEB_BODY_BYTES_MAX).unwrap_or(u32::MAX);
    let mut builder = hyper_util::server::conn::auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::WEB_TIMEOUT)
        .max_buf_size(limits::WEB_HEAD_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .max_send_buf_size(limits::WEB_BODY_BYTES_MAX)
        .max_concurrent_streams(limits::WEB_STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::WEB_HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let http = builder.serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let ended = tokio::select! {
        ended = http.as_mut() => Ok(ended),
        _ = timeout(limits::WEB_CONNECTION_TIMEOUT, stop.cancelled()) => {
            http.as_mut().graceful_shutdown();
            timeout(limits::WEB_TIMEOUT, http).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(target: "writ::workload", error, "a connection over TLS broke");
    }
}

async fn answer(router: &Router, request: Request<Incoming>) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    let endpoint = router.find(request.method(), request.uri().path());
    let whole = async {
        let (head, body) = request.into_parts();
        // Also before a refusal: a connection that is closed with something unread takes the answer away.
        let body = match Limited::new(body, limits::WEB_BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return plain(StatusCode::PAYLOAD_TOO_LARGE, "too large\n");
            }
            Err(_) => return plain(StatusCode::BAD_REQUEST, "the body broke off\n"),
        };
        match endpoint {
            Ok(endpoint) => endpoint.answer(Request::from_parts(head, body)).await,
            Err(refusal) => *refusal,
        }
    };
    let answer = timeout(limits::WEB_TIMEOUT, whole).await;
    let answer = answer.unwrap_or_else(|_| plain(StatusCode::REQUEST_TIMEOUT, "too slow\n"));
    if is_head { without_body(answer) } else { answer }
}

/// The answer to `HEAD`: as long as the one to `GET` would be (RFC 9110, section 9.3.2).
fn without_body(mut answer: Response<Bytes>) -> Response<Bytes> {
    let length = std::mem::take(answer.body_mut()).len();
    answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    answer
}
