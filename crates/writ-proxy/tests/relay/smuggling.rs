//! What no honest client sends: each is refused, nothing of it arrives at the service, and nothing after it is read.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writ_core::{Protocol, Reason};

use crate::client::{connect, raw, trusting};
use crate::origin::Origin;
use crate::world::{HOST, World, lending, service};

/// Name, bytes, the status line's code and the recorded reason. Whatever follows the first head is a second request
/// that must never arrive.
const CORPUS: &[(&str, &[u8], &str, Reason)] = &[
    (
        "length and chunked",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        "400",
        Reason::BadRequest,
    ),
    (
        "chunked and length",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "two lengths",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "400",
        Reason::BadRequest,
    ),
    (
        "two lengths in one",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1, 1\r\n\r\nx",
        "400",
        Reason::BadRequest,
    ),
    (
        "signed length",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: +1\r\n\r\nx",
        "400",
        Reason::BadRequest,
    ),
    (
        "other coding",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "coding with a disguise",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "chunked twice",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "chunked in HTTP/1.0",
        b"POST /echo HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "space before colon",
        b"POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length : 1\r\n\r\nx",
        "400",
        Reason::BadRequest,
    ),
    (
        "obsolete fold",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nX-A: b\r\n c: d\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "bare line feed",
        b"GET /json HTTP/1.1\nHost: api.test\n\nGET /json HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "bare line feed inside",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nX-A: b\nX-C: d\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "bare carriage return",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nX-A: b\rX-C: d\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "zero byte",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nX-A: b\0c\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    ("no host", b"GET /json HTTP/1.1\r\nX-A: b\r\n\r\n", "400", Reason::BadRequest),
    (
        "two hosts",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    ("other host", b"GET /json HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n", "421", Reason::NameMismatch),
    (
        "userinfo",
        b"GET /json HTTP/1.1\r\nHost: api.test:x@evil.test\r\nConnection: close\r\n\r\n",
        "400",
        Reason::BadRequest,
    ),
    (
        "conflicting absolute form",
        b"GET https://evil.test/json HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
        "421",
        Reason::NameMismatch,
    ),
    (
        "connect",
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
        "405",
        Reason::MethodRefused,
    ),
    (
        "trace",
        b"TRACE /json HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
        "405",
        Reason::MethodRefused,
    ),
    (
        "h2c upgrade",
        b"GET /json HTTP/1.1\r\nHost: api.test\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "403",
        Reason::UpgradeRefused,
    ),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", Reason::BadRequest),
    ("empty lines first", b"\r\n\r\nGET /json HTTP/1.1\r\nHost: api.test\r\n\r\n", "400", Reason::BadRequest),
    ("two spaces", b"GET  /json HTTP/1.1\r\nHost: api.test\r\n\r\n", "400", Reason::BadRequest),
    ("HTTP/0.9", b"GET /json\r\n\r\n", "400", Reason::BadRequest),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n", "400", Reason::BadRequest),
];

async fn lent() -> (Origin, World) {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::new(service).await)
}

#[tokio::test]
async fn smuggling_corpus_is_refused_with_the_expected_reason() {
    for (name, bytes, status, reason) in CORPUS {
        let (origin, world) = lent().await;
        let answer = raw(&world, bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: more than one answer: {answer}");
        world.log.refused(*reason).await;
        assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0, "{name} arrived");
        assert_eq!(world.log.intents(), 0, "{name}");
    }
}

#[tokio::test]
async fn the_same_corpus_byte_by_byte() {
    for (name, bytes, status, _) in CORPUS {
        let (origin, world) = lent().await;
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
        for byte in *bytes {
            if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0, "{name} arrived");
    }
}

#[tokio::test]
async fn a_bad_request_after_a_good_one_leaves_the_good_one_alone() {
    let (origin, world) = lent().await;
    let good = "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\ngood";
    let bad = "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = raw(&world, format!("{good}{good}{bad}{good}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
    assert_eq!(answer.matches("good").count(), 2, "{answer}");
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn chunks_are_followed_strictly() {
    let chunked =
        "POST /count HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, good) in [
        ("3\r\nabc\r\n0\r\n\r\n", true),
        ("3\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: v\r\n\r\n", true),
        ("3;ext=1\r\nabc\r\n0\r\n\r\n", false),
        ("3 \r\nabc\r\n0\r\n\r\n", false),
        ("0x3\r\nabc\r\n0\r\n\r\n", false),
        ("+3\r\nabc\r\n0\r\n\r\n", false),
        ("3\nabc\r\n0\r\n\r\n", false),
        ("3\r\nabcd\r\n0\r\n\r\n", false),
        ("\r\nabc\r\n0\r\n\r\n", false),
        ("0\r\nX-T: v\r\n folded\r\n\r\n", false),
        ("0\r\nX-T: v\n\r\n", false),
        ("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", false),
    ] {
        let (_origin, world) = lent().await;
        let answer = raw(&world, format!("{chunked}{body}").as_bytes()).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), good, "{body:?}: {answer}");
        let receipt = world.log.receipt(0).await;
        assert_eq!(receipt.reason, (!good).then_some(Reason::BadRequest), "{body:?}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let (origin, world) = lent().await;
    let many = "X-A: b\r\n".repeat(101);
    let long = format!("X-A: {}\r\n", "b".repeat(70_000));
    for extra in [many, long] {
        let answer =
            raw(&world, format!("GET /json HTTP/1.1\r\nHost: api.test\r\n{extra}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    world.log.refused(Reason::TooLarge).await;
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
}
