//! A run that acts for callers: each action in the session of the human whom its request names, and cut with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writ_core::event::{Event, Outcome};
use writ_core::{Clock, Protocol, Reason};
use writ_gate::{Cause, Joined, TraceId};
use writ_host::SystemClock;

use crate::client::{connect, raw, trusting};
use crate::origin::Origin;
use crate::service_agent::{self, Body, ServiceAgent, empty, human, mirror, serve, visitor};
use crate::world::{HOST, lending, service};

async fn agent(alpn: &[&[u8]]) -> (Origin, ServiceAgent) {
    let origin = Origin::start(alpn).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, ServiceAgent::new(service).await)
}

fn asking(path: &str, marks: &[(&str, &str)]) -> Request<Body> {
    let builder = Request::get(format!("https://{HOST}{path}"));
    let builder = marks.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(empty()).unwrap()
}

fn bearer(joined: &Joined) -> String {
    format!("Bearer {}", joined.handle.as_str())
}

fn parent(n: u8) -> (TraceId, String) {
    let trace = TraceId::new([n; 16]).unwrap();
    (trace, format!("00-{trace}-00f067aa0ba902b7-01"))
}

/// Whose session each action was in, by the path that was asked for.
fn actors(agent: &ServiceAgent) -> Vec<(String, String)> {
    let actor = |event: &Event| {
        let Event::ActionIntended(intent) = event else { return None };
        Some((intent.request.path.clone(), intent.actor.human.to_string()))
    };
    agent.world.log.events().iter().filter_map(actor).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_service_agent_serves_two_humans_and_every_action_carries_the_right_one() {
    const REQUESTS: usize = 1_000;
    let (_origin, agent) = agent(&[b"h2", b"http/1.1"]).await;
    let agent = Arc::new(agent);
    // All that the agent does goes out on one connection, interleaved.
    let out = agent.http2().await;
    let port = service_agent::server({
        let out = out.clone();
        move |request| {
            let mut out = out.clone();
            async move {
                let path = request.uri().path().to_owned();
                // As services do: the token of the caller is sent on, or tracing carries on the trace, or both.
                let n: usize = path.rsplit('/').next().unwrap().parse().unwrap();
                let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
                let (token, trace) = (header("authorization"), header("traceparent"));
                let marks = match n % 3 {
                    0 => vec![("authorization", token.as_str())],
                    1 => vec![("traceparent", trace.as_str())],
                    _ => vec![("x-user-token", token.as_str()), ("traceparent", trace.as_str())],
                };
                let answer = out.send_request(asking(&path, &marks)).await.unwrap();
                let status = answer.status();
                drop(answer.into_body().collect().await.unwrap());
                http::Response::builder().status(status).body(empty()).unwrap()
            }
        }
    })
    .await;
    let door = agent.door(serve(port)).await;
    let visits = (0..20).map(|visit| async move {
        let mut send = visitor(door).await;
        for n in (visit..REQUESTS).step_by(20) {
            let name = if (n / 20 + visit) % 2 == 0 { "ann" } else { "bob" };
            let request = Request::get(format!("/for/{name}/{n}"))
                .header("host", "agent.test")
                .header("authorization", format!("Bearer token-{name}"))
                .body(empty())
                .unwrap();
            send.ready().await.unwrap();
            let answer = send.send_request(request).await.unwrap();
            // The service knows no such page; the action was done all the same.
            assert_eq!(answer.status(), 404);
            drop(answer.into_body().collect().await.unwrap());
        }
    });
    futures_util::future::join_all(visits).await;
    let actors = actors(&agent);
    assert_eq!(actors.len(), REQUESTS);
    let mut counted = std::collections::BTreeMap::<_, usize>::new();
    for (path, actor) in actors {
        let name = path.split('/').nth(2).unwrap();
        assert_eq!(actor, human(name).to_string(), "{path}");
        *counted.entry(actor).or_default() += 1;
    }
    assert_eq!(counted.into_values().collect::<Vec<_>>(), [REQUESTS / 2, REQUESTS / 2]);
    let joined = |event: &&Event| matches!(event, Event::SessionJoined(_));
    assert_eq!(agent.world.log.events().iter().filter(joined).count(), 2);
    let refused = |event: &&Event| event.denied();
    assert_eq!(agent.world.log.events().iter().filter(refused).count(), 0);
}

#[tokio::test]
async fn contradictory_missing_forged_and_swapped_marks_are_refused() {
    let (origin, agent) = agent(&[b"h2"]).await;
    let (ann, bob) = (agent.join("ann").await, agent.join("bob").await);
    let other = service_agent::open(&agent.registry).await;
    let swapped = agent.registry.serve(&other, service_agent::caller("ann")).await.unwrap();
    let (trace, of_bob) = parent(7);
    assert!(agent.registry.note_trace(&bob.session, trace));
    let (_, of_nobody) = parent(8);
    let forged = format!("Bearer wrh_{}", "A".repeat(43));
    let mut send = agent.http2().await;
    for (marks, reason) in [
        (vec![], Reason::NoHuman),
        (vec![("traceparent", of_nobody.clone())], Reason::NoHuman),
        (vec![("authorization", forged.clone())], Reason::NoHuman),
        (vec![("authorization", forged), ("traceparent", of_bob.clone())], Reason::NoHuman),
        (vec![("authorization", bearer(&swapped))], Reason::NoHuman),
        (vec![("authorization", bearer(&ann)), ("traceparent", of_bob.clone())], Reason::TwoHumans),
        (vec![("authorization", bearer(&ann)), ("x-also", bearer(&bob))], Reason::TwoHumans),
        (vec![("traceparent", of_bob.clone()), ("traceparent", of_nobody)], Reason::NoHuman),
    ] {
        let marks: Vec<_> = marks.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = send.send_request(asking("/json", &marks)).await.unwrap();
        assert_eq!(answer.status(), 403, "{marks:?}");
        assert_eq!(answer.headers()["writ-reason"], reason.code(), "{marks:?}");
    }
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
    agent.registry.end(bob.session.facts().id, Cause::SignedOut).unwrap();
    let answer = send.send_request(asking("/json", &[("authorization", &bearer(&bob))])).await.unwrap();
    assert_eq!(answer.headers()["writ-reason"], Reason::SignedOut.code());
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("x-access-token:{}", ann.handle.as_str()),
    );
    let answer =
        send.send_request(asking("/json", &[("authorization", &format!("Basic {basic}"))])).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(actors(&agent), [("/json".to_owned(), human("ann").to_string())]);
}

#[tokio::test]
async fn no_service_is_told_a_handle_and_no_connection_is_shared_between_humans() {
    for alpn in [&[b"http/1.1".as_slice()][..], &[b"h2".as_slice()][..]] {
        let (origin, agent) = agent(alpn).await;
        let (ann, bob) = (agent.join("ann").await, agent.join("bob").await);
        let mut send = agent.http2().await;
        for _ in 0..3 {
            for joined in [&ann, &bob] {
                let marks = [
                    ("x-token", bearer(joined)),
                    ("authorization", bearer(joined)),
                    ("x-keep", "kept".into()),
                ];
                let marks: Vec<_> = marks.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = send.send_request(asking("/headers", &marks)).await.unwrap();
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                let text = String::from_utf8_lossy(&text).into_owned();
                assert!(!text.contains("wrh_") && text.contains("x-keep: kept"), "{text}");
            }
        }
        assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 2, "one for each human");
    }
}

/// Reads a body until this text has come.
async fn until(body: &mut hyper::body::Incoming, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        let frame = body.frame().await.unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
    }
}

#[tokio::test]
async fn only_the_stream_of_the_caller_who_is_revoked_is_cut() {
    let (origin, agent) = agent(&[b"h2", b"http/1.1"]).await;
    let (ann, bob) = (agent.join("ann").await, agent.join("bob").await);
    let mut send = agent.http2().await;
    let mut bodies = Vec::new();
    for joined in [&ann, &bob] {
        let answer = send.send_request(asking("/drip", &[("authorization", &bearer(joined))])).await.unwrap();
        let mut body = answer.into_body();
        until(&mut body, "data: 0").await;
        bodies.push(body);
    }
    let waiting =
        tokio::spawn(send.clone().send_request(asking("/never", &[("authorization", &bearer(&ann))])));
    agent
        .world
        .log
        .wait(|events| {
            (events.iter().filter(|e| matches!(e, Event::ActionIntended(_))).count() == 3).then_some(())
        })
        .await;
    let begun = SystemClock.monotonic();
    agent.registry.revoke(&writ_session::Revoked::Human(human("ann")), Cause::SignedOut).unwrap();
    let broken = bodies[0].frame().await.unwrap().unwrap_err();
    println!("from the event to the end of the stream: {:?}", SystemClock.monotonic().saturating_sub(begun));
    assert!(SystemClock.monotonic().saturating_sub(begun) < Duration::from_millis(500));
    assert!(
        broken.to_string().contains("stream") || std::error::Error::source(&broken).is_some(),
        "{broken:?}"
    );
    assert!(waiting.await.unwrap().is_err(), "what waits for its answer is cut too");
    for n in 0..2 {
        let receipt = agent.world.log.receipt(n).await;
        assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(Reason::SignedOut)));
        assert_eq!(receipt.actor.human, human("ann"));
    }
    origin.seen.go.notify_waiters();
    until(&mut bodies[1], "data: 1").await;
    assert_eq!(
        send.send_request(asking("/json", &[("authorization", &bearer(&bob))])).await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn an_http1_connection_ends_with_the_caller_who_is_being_served_even_if_nobody_reads() {
    let (_origin, agent) = agent(&[b"http/1.1"]).await;
    let (ann, bob) = (agent.join("ann").await, agent.join("bob").await);
    let mut stream = connect(agent.world.address, trusting(&agent.world.root_file, &[]), HOST).await.unwrap();
    let ask = |path: &str, joined: &Joined| {
        format!("GET {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: {}\r\n\r\n", bearer(joined))
    };
    // The connection outlives a caller who is not being served.
    stream.write_all(ask("/json", &bob).as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    agent.world.log.receipt(0).await;
    agent.registry.end(bob.session.facts().id, Cause::Revoked).unwrap();
    stream.write_all(ask("/big", &ann).as_bytes()).await.unwrap();
    agent
        .world
        .log
        .wait(|events| {
            (events.iter().filter(|e| matches!(e, Event::ActionIntended(_))).count() == 2).then_some(())
        })
        .await;
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    let begun = SystemClock.monotonic();
    agent.registry.end(ann.session.facts().id, Cause::Revoked).unwrap();
    let receipt = agent.world.log.receipt(1).await;
    println!(
        "from the event to the receipt of a stalled answer: {:?}",
        SystemClock.monotonic().saturating_sub(begun)
    );
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(Reason::SessionRevoked)));
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.len() < 64 << 20, "the rest of the body did not come");
}

#[tokio::test]
async fn a_websocket_ends_with_its_caller() {
    let (_origin, agent) = agent(&[b"http/1.1"]).await;
    let ann = agent.join("ann").await;
    let mut stream = connect(agent.world.address, trusting(&agent.world.root_file, &[]), HOST).await.unwrap();
    let ask = format!(
        "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: {}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        bearer(&ann)
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"|") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    agent.registry.end(ann.session.facts().id, Cause::Revoked).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let receipt = agent.world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.status), (Outcome::Cut, Some(101)));
}

#[tokio::test]
async fn an_opaque_connection_of_a_service_agent_has_no_human() {
    let origin = Origin::plain().await;
    let agent = ServiceAgent::new(service(Protocol::Tcp, origin.address, None)).await;
    let mut stream = tokio::net::TcpStream::connect(agent.world.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    agent.world.log.refused(Reason::NoHuman).await;
}

#[tokio::test]
async fn all_callers_end_with_the_run() {
    let (_origin, agent) = agent(&[b"http/1.1"]).await;
    let ann = agent.join("ann").await;
    let port = mirror().await;
    let door = agent.door(serve(port)).await;
    let mut send = visitor(door).await;
    let ask = || {
        Request::get("/")
            .header("host", "a")
            .header("authorization", "Bearer token-ann")
            .body(empty())
            .unwrap()
    };
    assert_eq!(send.send_request(ask()).await.unwrap().status(), 200);
    agent.registry.end(agent.world.session.facts().id, Cause::Exited).unwrap();
    assert_eq!(ann.session.cause(), Some(Cause::Exited));
    let mut send = visitor(door).await;
    let answer = send.send_request(ask()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["writ-reason"], Reason::NoServer.code());
}

#[tokio::test]
async fn the_requests_of_others_are_not_searched_for_marks() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
    let world = crate::world::World::new(service).await;
    let ask = format!(
        "GET /headers HTTP/1.1\r\nHost: api.test\r\nX-Mine: wrh_{}\r\nConnection: close\r\n\r\n",
        "A".repeat(43)
    );
    assert!(raw(&world, ask.as_bytes()).await.contains("x-mine: wrh_"));
}
