//! HTTP/2: gRPC, trailers, translation, many streams.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use writ_core::event::Outcome;
use writ_core::{Protocol, Reason};

use crate::client::{connect, raw, trusting};
use crate::origin::Origin;
use crate::world::{HOST, World, lending, service};

pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

pub(crate) async fn client(world: &World) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = connect(world.address, trusting(&world.root_file, &[b"h2"]), HOST).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn lent(alpn: &[&[u8]]) -> (Origin, World) {
    let origin = Origin::start(alpn).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::new(service).await)
}

fn grpc(path: &str) -> Request<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "42".parse().unwrap());
    trailers.insert("authorization", "agent-own".parse().unwrap());
    let frames = [Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi")), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    Request::post(format!("https://{HOST}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(BodyExt::boxed(body))
        .unwrap()
}

#[tokio::test]
async fn grpc_passes_with_its_trailers_in_both_directions() {
    let (_origin, world) = lent(&[b"h2"]).await;
    let answer = client(&world).await.send_request(grpc("/grpc")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let collected = answer.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["te-arrived"], "true");
    assert_eq!(trailers["x-checksum"], "42");
    assert!(!trailers.contains_key("authorization"), "identity does not travel in trailers");
    assert_eq!(collected.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
    assert_eq!(world.log.receipt(0).await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn grpc_is_refused_as_grpc() {
    let (origin, world) = lent(&[b"h2"]).await;
    let answer = client(&world).await.send_request(grpc("/denied/Method")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "7");
    world.log.refused(Reason::AgentNotPermitted).await;
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn trailers_pass_from_http1_to_http2_and_back() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let ask = Request::get(format!("https://{HOST}/trailers")).header("te", "trailers");
    let ask = ask.body(Empty::new().boxed()).unwrap();
    let collected = client(&world).await.send_request(ask).await.unwrap().collect().await.unwrap();
    assert_eq!(
        collected.trailers().map(|trailers| trailers["grpc-status"].clone()),
        Some("0".parse().unwrap())
    );

    let (_origin, world) = lent(&[b"h2"]).await;
    let ask = b"GET /trailers HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n";
    let said = raw(&world, ask).await;
    assert!(said.contains("body") && said.contains("grpc-status: 0"), "{said}");
}

#[tokio::test]
async fn many_streams_share_one_connection_to_the_service() {
    let (origin, world) = lent(&[b"h2"]).await;
    let send = client(&world).await;
    let asked = (0..200).map(|_| {
        let mut send = send.clone();
        async move {
            let ask = Request::get(format!("https://{HOST}/json")).body(Empty::new().boxed()).unwrap();
            let answer = send.send_request(ask).await.unwrap();
            (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
        }
    });
    for (status, body) in futures_util::future::join_all(asked).await {
        assert_eq!((status, &body[..]), (200, &b"{\"ok\":true}"[..]));
    }
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 1);
    world.log.receipt(199).await;
}

#[tokio::test]
async fn authority_is_judged_for_each_stream() {
    let (origin, world) = lent(&[b"h2"]).await;
    let mut send = client(&world).await;
    for (uri, status) in [
        ("https://api.test/json", 200),
        ("https://other.test/json", 421),
        ("https://api.test:8443/json", 421),
        ("http://api.test/json", 421),
        ("https://API.TEST/json", 200),
    ] {
        let ask = Request::get(uri).body(Empty::new().boxed()).unwrap();
        assert_eq!(send.send_request(ask).await.unwrap().status(), status, "{uri}");
    }
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 2);
}
