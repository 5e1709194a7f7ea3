//! Bodies that are read before their request is decided: what arrives at the service is what the agent sent.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writ_core::event::{Event, Outcome};
use writ_core::{Argument, Protocol, Reason};
use writ_gate::limits;
use writ_proxy::RelaySettings;

use crate::client::{connect, curl, raw, trusting};
use crate::http2::{Body, client};
use crate::origin::Origin;
use crate::world::{HOST, World, lending, service};

async fn with(alpn: &[&[u8]], settings: RelaySettings) -> (Origin, World) {
    let origin = Origin::start(alpn).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::with(service, settings, 443).await)
}

pub(crate) async fn lent(alpn: &[&[u8]]) -> (Origin, World) {
    with(alpn, RelaySettings::default()).await
}

/// What the gate was told of the n-th body.
pub(crate) async fn told(world: &World, n: usize) -> Argument {
    world
        .log
        .wait(|events| {
            let mut intended = events.iter().filter_map(|event| {
                if let Event::ActionIntended(intent) = event {
                    intent.request.arguments.get("body")
                } else {
                    None
                }
            });
            intended.nth(n).cloned()
        })
        .await
}

fn pieces(pieces: &[&'static [u8]], trailers: Option<HeaderMap>) -> Body {
    let data: Vec<_> = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece))).collect();
    let frames = data.into_iter().chain(trailers.map(Frame::trailers)).map(Ok::<_, Infallible>);
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())))
}

#[tokio::test]
async fn a_body_with_a_length_arrives_as_it_was_sent() {
    for upstream in [&[&b"http/1.1"[..]][..], &[b"h2"]] {
        let (_origin, world) = lent(upstream).await;
        let said = raw(
            &world,
            b"POST /read/echo HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{\"a\":  \"\xc3\xa9\"}",
        )
        .await;
        assert!(
            said.ends_with("{\"a\":  \"\u{e9}\"}") || said.contains("{\"a\":  \"\u{e9}\"}\r\n0\r\n"),
            "{said}"
        );
        assert_eq!(told(&world, 0).await, "{\"a\":  \"\u{e9}\"}".into());
        assert_eq!(world.log.receipt(0).await.bytes_up, 12);
    }
    // Bytes that are not text at all, of every value and more than one window of them.
    let (_origin, world) = lent(&[b"h2", b"http/1.1"]).await;
    let dir = tempfile::tempdir().unwrap();
    let body: Vec<u8> =
        (0..limits::ARGUMENT_BODY_BYTES_MAX).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect();
    let (sent, back) = (dir.path().join("sent"), dir.path().join("back"));
    writ_host::durable::replace(&sent, &body, 0o600).unwrap();
    for version in ["--http1.1", "--http2"] {
        for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
            let data = format!("@{}", sent.display());
            let out = back.display().to_string();
            let url = format!("https://{HOST}/read/echo");
            let fixed = [version, "-o", &out, "--data-binary", &data, "-H", "Content-Type: x/y", &url];
            let arguments = [&fixed[..], chunked].concat();
            assert_eq!(curl(&world, &arguments).await, (String::new(), 0));
            assert!(std::fs::read(&back).unwrap() == body, "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn a_chunked_body_arrives_with_its_trailers() {
    let ask = "POST /read/trailed HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nConnection: TE, close\r\nTrailer: x-sum\r\n\
        Transfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n4\r\na\":1\r\n1\r\n}\r\n0\r\nx-sum: 42\r\n\r\n";
    for upstream in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let (_origin, world) = lent(upstream).await;
        let said = raw(&world, ask.as_bytes()).await;
        assert!(said.contains("{\"a\":1} Some(\"42\")"), "{said}");
        assert_eq!(told(&world, 0).await, "{\"a\":1}".into());
        assert_eq!(world.log.receipt(0).await.outcome, Outcome::Completed);
    }
    // What came in chunks is sent in chunks, where there are any.
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let said = raw(&world, ask.replace("/trailed", "/headers").as_bytes()).await;
    assert!(said.contains("\ntransfer-encoding: chunked\n") && !said.contains("content-length: 7"), "{said}");
}

#[tokio::test]
async fn an_http2_body_arrives_with_its_trailers() {
    for upstream in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let (_origin, world) = lent(upstream).await;
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())]);
        let ask = Request::post(format!("https://{HOST}/read/trailed")).header("trailer", "x-sum");
        let ask = ask.body(pieces(&[b"{\"a\"", b"", b":1}"], Some(trailers))).unwrap();
        let answer = client(&world).await.send_request(ask).await.unwrap().collect().await.unwrap();
        assert_eq!(answer.to_bytes(), "{\"a\":1} Some(\"42\")");
        assert_eq!(told(&world, 0).await, "{\"a\":1}".into());
    }
}

#[tokio::test]
async fn an_empty_body_stays_none() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let said =
        raw(&world, b"POST /read/headers HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
    assert!(
        said.starts_with("HTTP/1.1 200") && !said.contains("transfer-encoding: chunked\r\nhost"),
        "{said}"
    );
    assert_eq!(told(&world, 0).await, "".into());
    assert_eq!(world.log.receipt(0).await.bytes_up, 0);
}

#[tokio::test]
async fn who_waits_to_be_asked_for_the_body_is_asked_before_the_decision() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    let ask =
        b"POST /read/count HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut line = [0; 25];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!((&line, world.log.intents()), (b"HTTP/1.1 100 Continue\r\n\r\n", 0));
    stream.write_all(b"body").await.unwrap();
    assert_eq!(world.log.receipt(0).await.bytes_up, 4);
    assert_eq!(told(&world, 0).await, "body".into());
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_and_nothing_is_sent() {
    let settings = RelaySettings { body_timeout: Duration::from_millis(200), ..RelaySettings::default() };
    let (origin, world) = with(&[b"h2", b"http/1.1"], settings).await;
    let too_large = limits::ARGUMENT_BODY_BYTES_MAX + 1;
    let head = format!("POST /read/echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: {too_large}\r\n\r\n");
    assert!(raw(&world, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
    world.log.refused(Reason::BodyTooLarge).await;
    let whole: &'static [u8] = Vec::leak(vec![b'x'; too_large]);
    let ask = Request::post(format!("https://{HOST}/read/echo")).body(pieces(&[whole], None)).unwrap();
    assert_eq!(client(&world).await.send_request(ask).await.unwrap().status(), 413);

    let slow = b"POST /read/echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\nhalf";
    assert!(raw(&world, slow).await.starts_with("HTTP/1.1 408"));
    world.log.refused(Reason::BodyTimeout).await;

    let not_strict =
        b"POST /read/echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\nhalf\r\n";
    raw(&world, not_strict).await;
    world.log.refused(Reason::BadRequest).await;
    assert_eq!((world.log.intents(), origin.seen.requests.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn no_more_bodies_are_held_than_there_is_room_for() {
    let (_origin, world) = lent(&[b"h2", b"http/1.1"]).await;
    let half = format!("POST /read/echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf");
    let mut waiting = Vec::new();
    for _ in 0..limits::ARGUMENT_BODIES_PER_SESSION_MAX {
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let busy = async {
        loop {
            let ask =
                Request::post(format!("https://{HOST}/read/echo")).body(Full::from("x").boxed()).unwrap();
            if client(&world).await.send_request(ask).await.unwrap().status() == 503 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), busy).await.unwrap();
    world.log.refused(Reason::Busy).await;
    // Who is not read is not held up.
    let json = format!("https://{HOST}/json");
    assert_eq!(curl(&world, &[&json]).await.0, "{\"ok\":true}");
    waiting[0].write_all(b" more").await.unwrap();
    let mut answer = [0; 15];
    waiting[0].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}
