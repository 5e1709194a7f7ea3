//! Heads of HTTP/2 that no honest client sends, frame by frame: what could name another host, path or method than was decided
//! on never arrives (RFC 9113 sections 8.2 and 8.3).

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{connect, trusting};
use crate::reading::lent;
use crate::world::{HOST, World};

type Lines = &'static [(&'static str, &'static str)];

const GET: (&str, &str) = (":method", "GET");
const TLS: (&str, &str) = (":scheme", "https");
const HERE: (&str, &str) = (":authority", HOST);
const PATH: (&str, &str) = (":path", "/json");

/// What arrives: the same request in its plain forms.
const PLAIN: &[(&str, Lines)] = &[
    ("plain", &[GET, TLS, HERE, PATH]),
    ("in another order", &[PATH, HERE, TLS, GET]),
    ("with a host that agrees", &[GET, TLS, HERE, PATH, ("host", "API.test")]),
];

/// What does not.
const TRICKS: &[(&str, Lines)] = &[
    ("a host that disagrees", &[GET, TLS, HERE, PATH, ("host", "other.test")]),
    ("two hosts", &[GET, TLS, PATH, ("host", HOST), ("host", "other.test")]),
    ("another authority", &[GET, TLS, (":authority", "other.test"), PATH, ("host", HOST)]),
    ("two authorities", &[GET, TLS, HERE, (":authority", "other.test"), PATH]),
    ("an authority with a user", &[GET, TLS, (":authority", "api.test@other.test"), PATH]),
    ("an authority with a path", &[GET, TLS, (":authority", "api.test/denied"), PATH]),
    ("another port", &[GET, TLS, (":authority", "api.test:8443"), PATH]),
    ("no authority and no host", &[GET, TLS, PATH]),
    ("another scheme", &[GET, (":scheme", "http"), HERE, PATH]),
    ("two schemes", &[GET, TLS, (":scheme", "http"), HERE, PATH]),
    ("no scheme", &[GET, HERE, PATH]),
    ("two paths", &[GET, TLS, HERE, PATH, (":path", "/denied")]),
    ("a path after the headers", &[GET, TLS, HERE, ("x-a", "b"), PATH]),
    ("no path", &[GET, TLS, HERE]),
    ("an empty path", &[GET, TLS, HERE, (":path", "")]),
    ("a path that is none", &[GET, TLS, HERE, (":path", "json")]),
    ("a path of another host", &[GET, TLS, HERE, (":path", "https://other.test/json")]),
    ("an asterisk", &[("x-a", "b"), GET, TLS, HERE, (":path", "*")]),
    ("a second line in the path", &[GET, TLS, HERE, (":path", "/json HTTP/1.1\r\nhost: other.test\r\n\r\n")]),
    ("a space in the path", &[GET, TLS, HERE, (":path", "/js on")]),
    ("two methods", &[GET, (":method", "DELETE"), TLS, HERE, PATH]),
    ("a method with a path", &[(":method", "GET /denied"), TLS, HERE, PATH]),
    ("no method", &[TLS, HERE, PATH]),
    ("connect", &[(":method", "CONNECT"), HERE]),
    ("an extended connect", &[(":method", "CONNECT"), (":protocol", "websocket"), TLS, HERE, PATH]),
    ("trace", &[(":method", "TRACE"), TLS, HERE, PATH]),
    ("an answer's pseudo-header", &[GET, TLS, HERE, PATH, (":status", "200")]),
    ("one that is not known", &[GET, TLS, HERE, PATH, (":other", "1")]),
    ("a name in upper case", &[GET, TLS, HERE, PATH, ("X-A", "b")]),
    ("a name with a colon", &[GET, TLS, HERE, PATH, ("x:host", "other.test")]),
    ("a name with a space", &[GET, TLS, HERE, PATH, ("host ", "other.test")]),
    ("a second line in a value", &[GET, TLS, HERE, PATH, ("x-a", "b\r\nhost: other.test")]),
    ("NUL in a value", &[GET, TLS, HERE, PATH, ("x-a", "b\0c")]),
    ("a connection", &[GET, TLS, HERE, PATH, ("connection", "x-a")]),
    ("a coding of the transfer", &[GET, TLS, HERE, PATH, ("transfer-encoding", "chunked")]),
    ("an upgrade", &[GET, TLS, HERE, PATH, ("upgrade", "websocket")]),
    ("a length without a body", &[GET, TLS, HERE, PATH, ("content-length", "5")]),
    ("another method in a header", &[GET, TLS, HERE, PATH, ("x-http-method-override", "DELETE")]),
    ("another path in a header", &[GET, TLS, HERE, PATH, ("x-original-url", "/denied")]),
];

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head as one frame, each line a literal that is not indexed (RFC 7541 section 6.2.2).
fn head(lines: Lines) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let literal = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    let block: Vec<u8> = lines.iter().flat_map(literal).collect();
    frame(1, 0x5, 1, &block)
}

/// Whether the request is answered with 200. Everything else refuses it: another status, the stream or the connection reset.
async fn arrives(world: &World, lines: Lines) -> bool {
    let mut stream = connect(world.address, trusting(&world.root_file, &[b"h2"]), HOST).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..], &head(lines)[..]].concat();
    stream.write_all(&hello).await.unwrap();
    let answered = async {
        loop {
            let mut header = [0; 9];
            if stream.read_exact(&mut header).await.is_err() {
                return false;
            }
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            match header[3] {
                // `:status: 200` is entry 8 of the static table.
                1 => return payload.first() == Some(&0x88),
                3 | 7 => return false,
                _ => {}
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), answered).await.unwrap()
}

#[tokio::test]
async fn a_head_that_is_not_strict_never_arrives() {
    for upstream in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let (origin, world) = lent(upstream).await;
        for (trick, lines) in TRICKS {
            assert!(!arrives(&world, lines).await, "{trick}");
            assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0, "{trick}");
        }
        for (form, lines) in PLAIN {
            assert!(arrives(&world, lines).await, "{form}");
        }
        assert_eq!(origin.seen.requests.load(Ordering::Relaxed), PLAIN.len());
    }
}
