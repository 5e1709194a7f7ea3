//! A server over standard input and output and its client: what passes between them, and that neither waits for the other.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use writ_core::event::Outcome;
use writ_core::{ConnId, HostName, IdSource, Protocol, Timestamp};
use writ_gate::{Cause, Conn, Destination};
use writ_proxy::{Ends, ServedOver};

use crate::world::{HOST, World, service};

struct Side {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writes: OwnedWriteHalf,
}

impl Side {
    fn new(end: StdStream) -> Self {
        end.set_nonblocking(true).unwrap();
        let (reads, writes) = UnixStream::from_std(end).unwrap().into_split();
        Self { lines: BufReader::new(reads).lines(), writes }
    }

    async fn send(&mut self, line: &str) {
        self.writes.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Option<String> {
        self.lines.next_line().await.unwrap()
    }
}

struct Same;

impl IdSource for Same {
    fn random(&self) -> u128 {
        1
    }
}

/// A world, the client's side and the server's, and the conversation between them.
async fn talking() -> (World, Side, Side, JoinHandle<()>) {
    let world = World::new(service(Protocol::Http, "127.0.0.1:1".parse().unwrap(), None)).await;
    let (client, inner) = StdStream::pair().unwrap();
    let (server, daemon) = StdStream::pair().unwrap();
    let input: OwnedFd = inner.try_clone().unwrap().into();
    let ends = Ends::new((input, inner.into()), daemon).unwrap();
    let conn = Conn {
        id: ConnId::new(Timestamp::default(), &Same),
        run: Ok(world.session.facts().run.tag()),
        process: writ_core::Process { exec_generation: 0, pid: 1, start_us: 1 },
        exec: [].into(),
        destination: Destination {
            address: "198.18.0.1:80".parse().unwrap(),
            name: Some(HostName::new(HOST).unwrap()),
        },
    };
    let over = ServedOver { gate: world.gate.clone(), conn, server: world.session.clone(), ends };
    let serving = tokio::spawn(over.serve());
    (world, Side::new(client), Side::new(server), serving)
}

fn call(id: usize, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a","arguments":{{"x":"{more}"}}}}}}"#
    )
}

#[tokio::test]
async fn neither_side_keeps_the_other_from_being_read() {
    const EACH: usize = 40;
    let (world, mut client, mut server, serving) = talking().await;
    let large = "x".repeat(100_000);
    // More than any socket takes, both ways, before anybody reads.
    for id in 0..EACH {
        client.send(&call(id, &large)).await;
        server
            .send(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":"{large}"}}"#))
            .await;
    }
    for _ in 0..EACH {
        let asked: serde_json::Value = serde_json::from_str(&server.next().await.unwrap()).unwrap();
        server.send(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, asked["id"])).await;
    }
    for n in 0..2 * EACH {
        assert!(client.next().await.is_some(), "{n}");
    }
    let closed = world.log.receipt(0).await;
    assert_eq!(closed.outcome, Outcome::Completed);
    // The server's last word arrives, and then its end.
    server.send(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#).await;
    drop(server);
    assert!(client.next().await.unwrap().contains("notifications/message"));
    assert_eq!(client.next().await, None);
    serving.await.unwrap();
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_and_a_session_that_ends_cuts_both() {
    let (world, mut client, mut server, serving) = talking().await;
    client.send(&call(1, "a")).await;
    assert!(server.next().await.unwrap().contains(r#""id":1"#));
    // An id that is in use is refused, and what nobody asked for is nobody's.
    client.send(&call(1, "b")).await;
    let refused = client.next().await.unwrap();
    assert!(refused.contains("catalog.ambiguous_request"), "{refused}");
    server.send(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#).await;
    server.send(r#"{"jsonrpc":"2.0","method":"hidden"}"#).await;
    server.send(r#"{"jsonrpc":"2.0","id":1,"result":"unreadable"}"#).await;
    let told = client.next().await.unwrap();
    assert!(told.contains("mcp.") && told.contains(r#""id":1"#), "{told}");
    // What is taken back has its receipt, and its id is free.
    client.send(&call(3, "d")).await;
    assert!(server.next().await.is_some());
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#).await;
    assert!(server.next().await.unwrap().contains("requestId"));
    client.send(&call(3, "e")).await;
    assert!(server.next().await.unwrap().contains(r#""id":3"#));
    client.send(&call(2, "c")).await;
    assert!(server.next().await.is_some());
    world.session.end(Cause::Revoked);
    assert_eq!((client.next().await, server.next().await), (None, None));
    serving.await.unwrap();
}
