//! A service that sends the credential back: the agent never sees it, and the receipt says that it happened.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writ_core::event::LeaseFate;
use writ_core::{Protocol, Reason};

use crate::client::curl;
use crate::origin::Origin;
use crate::world::{SECRET, World, lending, service};

#[tokio::test]
async fn upstream_echo_is_scrubbed_from_bodies_over_both_protocols() {
    for alpn in [&[b"h2".as_slice()][..], &[b"http/1.1".as_slice()][..]] {
        for version in ["--http2", "--http1.1"] {
            let origin = Origin::start(alpn).await;
            let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
            let world = World::new(service).await;
            let own = ["-H", "Authorization: Bearer agent-own", "-H", "X-Forwarded-For: 1.2.3.4"];
            let mut ask = vec![version, "https://api.test/headers", "-H", "Cookie: a=b", "-H", "X-Kept: yes"];
            ask.extend(own);
            let (text, code) = curl(&world, &ask).await;
            assert_eq!(code, 0, "{text}");
            assert!(!text.contains(SECRET) && text.contains("authorization: Bearer ***"), "{text}");
            assert!(
                !text.contains("agent-own") && !text.contains("1.2.3.4") && !text.contains("a=b"),
                "{text}"
            );
            assert!(text.contains("x-kept: yes"), "{text}");
            let receipt = world.log.receipt(0).await;
            assert_eq!((receipt.lease_fate, receipt.scrubbed), (LeaseFate::Echoed, 1));
        }
    }
}

async fn answering(head: &str, body: Vec<u8>) -> (Origin, World) {
    let answer = [head.as_bytes(), &body].concat();
    let origin = Origin::raw(move |mut stream| {
        let answer = answer.clone();
        async move {
            drop(stream.read(&mut [0; 4096]).await);
            // Byte by byte, so that no find lies in one piece.
            for byte in answer {
                if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            drop(stream.shutdown().await);
        }
    })
    .await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let world = World::new(service).await;
    (origin, world)
}

#[tokio::test]
async fn upstream_echo_is_scrubbed_from_heads_and_encoded_bodies_across_chunk_borders() {
    let text = format!("token={SECRET};");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    for (encoding, body) in [("identity", text.clone().into_bytes()), ("gzip", gzip.finish().unwrap())] {
        let head = format!(
            "HTTP/1.1 401 No {SECRET}\r\nContent-Encoding: {encoding}\r\nLocation: https://x.test/?t={SECRET}\r\n\
             Set-Cookie: s={SECRET}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let head =
            if encoding == "identity" { head.replace("Content-Encoding: identity\r\n", "") } else { head };
        let (_origin, world) = answering(&head, body).await;
        let (said, code) = curl(&world, &["--http1.1", "-i", "https://api.test/x"]).await;
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains(SECRET), "{said}");
        assert!(said.starts_with("HTTP/1.1 401 ") && said.contains("token=*"), "{said}");
        let receipt = world.log.receipt(0).await;
        assert_eq!(receipt.lease_fate, LeaseFate::Echoed);
        assert!(receipt.scrubbed >= 3, "{receipt:?}");
    }
}

#[tokio::test]
async fn an_encoding_that_cannot_be_searched_is_refused() {
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\nContent-Length: 3\r\n\r\n";
    let (_origin, world) = answering(head, b"abc".to_vec()).await;
    let (said, _) = curl(&world, &["-w", " %{http_code}", "https://api.test/x"]).await;
    assert!(said.ends_with(" 502") && said.contains("proxy.echo_unreadable"), "{said}");
    assert_eq!(world.log.receipt(0).await.reason, Some(Reason::EchoUnreadable));
}
