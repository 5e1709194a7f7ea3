//! What is relayed without being read: opaque services and WebSocket.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use writ_core::event::{LeaseFate, Outcome};
use writ_core::{Protocol, Reason};
use writ_gate::Cause;

use crate::client::{connect, trusting};
use crate::origin::Origin;
use crate::world::{HOST, SECRET, World, lending, service};

async fn opaque() -> (TcpListener, World) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new(service(Protocol::Tcp, listener.local_addr().unwrap(), None)).await;
    (listener, world)
}

#[tokio::test]
async fn an_opaque_connection_is_one_action_with_counted_bytes() {
    let (listener, world) = opaque().await;
    let mut agent = TcpStream::connect(world.address).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    agent.write_all(b"ping").await.unwrap();
    let mut buffer = [0; 4];
    service.read_exact(&mut buffer).await.unwrap();
    service.write_all(b"pong!").await.unwrap();
    service.shutdown().await.unwrap();
    let mut answer = String::new();
    agent.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&buffer, answer.as_str()), (b"ping", "pong!"));
    drop(agent);
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.bytes_up, receipt.bytes_down), (Outcome::Completed, 4, 5));
    assert_eq!(receipt.lease_fate, LeaseFate::NotMinted);
}

#[tokio::test]
async fn an_opaque_connection_is_cut_with_its_session() {
    let (listener, world) = opaque().await;
    let mut agent = TcpStream::connect(world.address).await.unwrap();
    let (mut service, _) = listener.accept().await.unwrap();
    agent.write_all(b"ping").await.unwrap();
    service.read_exact(&mut [0; 4]).await.unwrap();
    world.session.end(Cause::Revoked);
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(Reason::SessionRevoked)));
    assert_eq!(receipt.bytes_up, 4);
    drop(agent.read(&mut [0; 1]).await);
    assert!(matches!(service.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_websocket_is_relayed_and_cut() {
    let origin = Origin::start(&[b"h2", b"http/1.1"]).await;
    let world = World::new(service(Protocol::Https, origin.address, Some(origin.ca_file.clone()))).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(HANDSHAKE).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("permessage-deflate"), "{head}");
    for n in 0..3 {
        let message = format!("\u{81}\u{5}frame{n}\r\n\r\nGET / HTTP/1.1\r\n");
        stream.write_all(message.as_bytes()).await.unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, message.as_bytes());
    }
    world.session.end(Cause::Revoked);
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.status), (Outcome::Cut, Some(101)));
    assert!(receipt.bytes_up > 0 && receipt.bytes_down == receipt.bytes_up);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_credential_echoed_on_a_websocket_is_scrubbed() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let world = World::new(service).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(HANDSHAKE).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(!head.contains("permessage-deflate"), "compression would hide an echo: {head}");
    let mut said = Vec::new();
    while !said.ends_with(b"|") {
        said.push(stream.read_u8().await.unwrap());
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains(SECRET) && said.len() == format!("Bearer {SECRET}|").len(), "{said}");
    stream.write_all(b"bye").await.unwrap();
    stream.read_exact(&mut [0; 3]).await.unwrap();
    stream.shutdown().await.unwrap();
    let receipt = world.log.receipt(0).await;
    assert_eq!(receipt.lease_fate, LeaseFate::Echoed);
    assert!(receipt.scrubbed > 0);
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_websocket_that_the_service_refuses_is_an_ordinary_answer() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let world = World::new(service(Protocol::Https, origin.address, Some(origin.ca_file.clone()))).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    let ask = String::from_utf8(HANDSHAKE.to_vec()).unwrap().replace("/ws", "/nothing");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert_eq!(world.log.receipt(0).await.status, Some(404));
}
