//! Doors: callers are proven, their tokens kept back, and their requests reach the agent's own server alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use writ_core::event::Event;
use writ_core::serve::{OpenPath, ServeTls, TokenPlace};
use writ_core::{Clock, Protocol, Serve};
use writ_gate::{Cause, TraceId};
use writ_host::SystemClock;

use crate::origin::Origin;
use crate::service_agent::{self, ServiceAgent, caller, empty, human, mirror, own_group, serve, visitor};
use crate::world::service;

async fn agent() -> ServiceAgent {
    ServiceAgent::new(service(Protocol::Https, "127.0.0.1:1".parse().unwrap(), None)).await
}

/// What comes back for a request with these header lines, raw.
async fn ask(door: std::net::SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(door).await.unwrap();
    stream.write_all(format!("{lines}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_server_gets_a_handle_in_the_place_of_the_token_and_a_trace() {
    let agent = agent().await;
    let port = mirror().await;
    for (token, line) in [
        (TokenPlace::Bearer, "Authorization: Bearer token-ann"),
        (TokenPlace::Header("x-user".into()), "X-User: token-ann"),
    ] {
        let door = agent.door(Serve { token, ..serve(port) }).await;
        let head =
            format!("GET /a?b=c HTTP/1.1\r\nHost: Agent.test:8443\r\n{line}\r\nX-Copy: a token-ann b\r\n");
        let said = ask(door, &head).await;
        let handle = agent.join("ann").await.handle;
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("GET /a?b=c HTTP/1.1 0"), "{said}");
        assert!(said.contains(handle.as_str()) && said.contains("\"host\": \"Agent.test:8443\""), "{said}");
        assert!(!said.contains("token-ann") && !said.contains("x-copy"), "{said}");
        assert!(said.contains("\"traceparent\": \"00-"), "{said}");
    }
    let joined =
        |event: &&Event| matches!(event, Event::SessionJoined(joined) if joined.actor.human == human("ann"));
    assert_eq!(agent.world.log.events().iter().filter(joined).count(), 1);
}

#[tokio::test]
async fn who_brings_no_good_token_is_told_so_and_reaches_nothing() {
    let agent = agent().await;
    let reached = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let port = service_agent::server({
        let reached = reached.clone();
        move |_| {
            reached.fetch_add(1, Ordering::Relaxed);
            async { Response::new(empty()) }
        }
    })
    .await;
    let open = vec![OpenPath::Exact("/health".into())];
    let door = agent.door(Serve { open, ..serve(port) }).await;
    let handle = agent.join("ann").await.handle;
    for (line, error) in [
        (String::new(), ""),
        ("Authorization: Basic eDp5\r\n".into(), ""),
        (format!("Authorization: Bearer {}\r\n", handle.as_str()), ""),
        ("Authorization: Bearer nonsense\r\n".into(), ", error=\"invalid_token\""),
    ] {
        let said = ask(door, &format!("GET / HTTP/1.1\r\nHost: a\r\n{line}")).await;
        assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
        assert!(said.contains(&format!("www-authenticate: Bearer realm=\"tester\"{error}\r\n")), "{said}");
    }
    let twice = "Authorization: Bearer token-ann\r\nAuthorization: Bearer token-bob\r\n";
    assert!(ask(door, &format!("GET / HTTP/1.1\r\nHost: a\r\n{twice}")).await.starts_with("HTTP/1.1 400 "));
    for head in [
        "GET /../x HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://b/health HTTP/1.1\r\nHost: a\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n",
    ] {
        let said = ask(door, head).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
    assert!(ask(door, "GET /health HTTP/1.1\r\nHost: a\r\n").await.starts_with("HTTP/1.1 200 "));
    assert!(
        ask(door, "GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nonsense\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(reached.load(Ordering::Relaxed), 2);
    let refused = |event: &Event| {
        let Event::ConnectionRefused(refused) = event else { return None };
        (refused.transport == "inbound").then(|| refused.destination.clone())
    };
    let refused: Vec<_> = agent.world.log.events().iter().filter_map(refused).collect();
    assert!(!refused.is_empty() && refused.len() < 9, "strangers cannot fill the log: {refused:?}");
    assert_eq!(refused[0], "tester at 127.0.0.1:1");
}

#[tokio::test]
async fn nobody_can_have_their_request_run_in_the_trace_of_another() {
    let agent = agent().await;
    let port = mirror().await;
    let open = vec![OpenPath::Exact("/open".into())];
    let door = agent.door(Serve { open, ..serve(port) }).await;
    let trace = TraceId::new([9; 16]).unwrap();
    let line = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n");
    let get = |path: &str, name: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {name}\r\n{line}")
    };
    // Without a human a trace cannot be taken in advance.
    let said = ask(door, &get("/open", "nonsense")).await;
    assert!(said.contains("traceparent") && !said.contains(&trace.to_string()), "{said}");
    for _ in 0..2 {
        let said = ask(door, &get("/", "token-ann")).await;
        assert!(
            said.contains(&format!("00-{trace}-00f067aa0ba902b7-01")) && said.contains("tracestate"),
            "{said}"
        );
    }
    let said = ask(door, &get("/", "token-bob")).await;
    assert!(
        said.contains("traceparent") && !said.contains(&trace.to_string()) && !said.contains("tracestate"),
        "{said}"
    );
    let fresh = said.split("00-").nth(1).unwrap().get(..32).unwrap();
    let fresh: TraceId = format!("00-{fresh}-00f067aa0ba902b7-01").parse().unwrap();
    let marks = writ_gate::Marks { handles: &[], trace: Some(fresh) };
    let acting = writ_gate::Identify::acting(&*agent.registry, &agent.world.session, &marks).unwrap();
    assert_eq!(acting.facts().human.id, human("bob"));
}

#[tokio::test]
async fn a_process_outside_the_run_that_takes_the_port_gets_nothing() {
    let agent = agent().await;
    let port = mirror().await;
    let line = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer token-ann\r\n";
    // The run's control group is another than that of the process that listens.
    let session = agent.world.session.clone();
    let door = agent.door_to(serve(port), move |_| vec![(session.clone(), "/sys/fs/cgroup".into())]).await;
    let said = ask(door, line).await;
    if own_group() == std::path::Path::new("/sys/fs/cgroup/") {
        println!("skipped: this test runs in the root control group");
        return;
    }
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("caller.no_server"), "{said}");
    // Nor is there anything behind a port where nobody listens.
    let door = agent.door(serve(1)).await;
    assert!(ask(door, line).await.starts_with("HTTP/1.1 503 "));
    let joined = |event: &&Event| matches!(event, Event::SessionJoined(_));
    assert_eq!(agent.world.log.events().iter().filter(joined).count(), 0);
}

#[tokio::test]
async fn real_clients_pass_over_tls_in_both_versions_with_large_bodies() {
    const SIZE: usize = 64 << 20;
    let agent = agent().await;
    let port = service_agent::server(|request| async move {
        if request.method() == "POST" {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(Ok(frame)) = body.frame().await {
                total += frame.data_ref().map_or(0, Bytes::len);
            }
            return Response::new(Full::new(Bytes::from(total.to_string())).boxed());
        }
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let chunks =
            futures_util::stream::iter((0..SIZE / chunk.len()).map(move |_| Ok(Frame::data(chunk.clone()))));
        Response::new(BodyExt::boxed(StreamBody::new(chunks)))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["agent.test".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    writ_host::durable::replace(&certificate, made.cert.pem().as_bytes(), 0o600).unwrap();
    writ_host::durable::replace(&key, made.signing_key.serialize_pem().as_bytes(), 0o600).unwrap();
    let tls = ServeTls::Files { certificate: certificate.clone(), key };
    let door = agent.door(Serve { tls, ..serve(port) }).await;
    for version in ["--http1.1", "--http2"] {
        let curl = format!(
            "curl -sS {version} --max-time 60 --cacert {} --connect-to agent.test:443:{door} -H 'Authorization: Bearer token-ann'",
            certificate.display()
        );
        let command = format!(
            "{curl} https://agent.test/ -o /dev/null -w '%{{http_version}} %{{size_download}} ' && \
             head -c {SIZE} /dev/zero | {curl} -T - -X POST https://agent.test/up"
        );
        let output = tokio::process::Command::new("sh").args(["-c", &command]).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let spoken = if version == "--http2" { "2" } else { "1.1" };
        assert_eq!(text, format!("{spoken} {SIZE} {SIZE}"), "{output:?}");
    }
}

#[tokio::test]
async fn grpc_reaches_a_server_that_speaks_http2_alone() {
    let agent = agent().await;
    let port = service_agent::server(|request| async move {
        let version = format!("{:?}", request.version());
        let handle = request.headers()["authorization"].to_str().unwrap().starts_with("Bearer wrh_");
        let te = request.headers().get("te").is_some_and(|te| te == "trailers");
        let data = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-seen", format!("{version} {handle} {te}").parse().unwrap());
        let frames = futures_util::stream::iter([Frame::data(data), Frame::trailers(trailers)].map(Ok));
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response
    })
    .await;
    let door = agent.door(serve(port)).await;
    // Without TLS, as gRPC clients on one host speak: HTTP/2 with prior knowledge.
    let stream = TcpStream::connect(door).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let ask = |token: &str| {
        Request::post("http://agent.test/s/M")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from_static(b"\0\0\0\0\x02hi")).boxed())
            .unwrap()
    };
    let answer = send.send_request(ask("token-ann")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let collected = answer.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-seen"], "HTTP/2.0 true true");
    assert_eq!(collected.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
    let answer = send.send_request(ask("nonsense")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "16");
}

#[tokio::test]
async fn events_and_websockets_pass_and_end_with_their_caller() {
    let agent = agent().await;
    let origin = Origin::plain().await;
    // The service of the outbound tests stands in as the agent's own server.
    let port = origin.address.port();
    let door = agent.door(serve(port)).await;
    let mut send = visitor(door).await;
    let ask = Request::get("/drip")
        .header("host", "a")
        .header("authorization", "Bearer token-ann")
        .body(empty())
        .unwrap();
    let mut body = send.send_request(ask).await.unwrap().into_body();
    for n in 0..3 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, format!("data: {n}\n\n"));
        origin.seen.go.notify_one();
    }
    while tokio::time::timeout(Duration::from_millis(100), body.frame()).await.is_ok() {}
    let begun = SystemClock.monotonic();
    agent.registry.revoke(&writ_session::Revoked::Human(human("ann")), Cause::SignedOut).unwrap();
    let ended = body.frame().await;
    println!(
        "from the event to the end of what the caller reads: {:?}",
        SystemClock.monotonic().saturating_sub(begun)
    );
    assert!(ended.is_none_or(|frame| frame.is_err()));

    let bob = agent.registry.serve(&agent.world.session, caller("bob")).await.unwrap();
    let port = service_agent::server(|mut request| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut buffer = [0; 64];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..read]).await.unwrap();
            }
        });
        let builder =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        builder.body(empty()).unwrap()
    })
    .await;
    let door = agent.door(serve(port)).await;
    let mut stream = TcpStream::connect(door).await.unwrap();
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer token-bob\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"ping").await.unwrap();
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await.unwrap();
    agent.registry.end(bob.session.facts().id, Cause::Revoked).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
