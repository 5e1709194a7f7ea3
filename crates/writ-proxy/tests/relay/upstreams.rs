//! Services that are down, slow, lying or odd: the right reason, and a receipt.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use writ_core::event::Outcome;
use writ_core::service::{HostPattern, UpstreamAddress};
use writ_core::{HostName, Protocol, Reason, Service};
use writ_gate::Destination;
use writ_proxy::RelaySettings;

use crate::client::{connect, curl, raw, trusting};
use crate::origin::Origin;
use crate::world::{HOST, World, lending, service};

fn quick() -> RelaySettings {
    RelaySettings {
        upstream_connect_timeout: Duration::from_millis(300),
        upstream_answer_timeout: Duration::from_millis(300),
        ..RelaySettings::default()
    }
}

/// Asks for a page and expects a failure with this reason, in the answer and in the receipt.
async fn fails(service: Service, path: &str, reason: Reason) {
    let world = World::with(service, quick(), 443).await;
    let url = format!("https://api.test{path}");
    let (text, _) = curl(&world, &["-w", " %{http_code}", &url]).await;
    assert!(text.contains(reason.code()), "{text}");
    assert!(text.ends_with(&format!(" {}", reason.http_status())), "{text}");
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Failed, Some(reason)));
    assert_eq!(receipt.status, None);
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_service_that_is_down() {
    let origin = Origin::start(&[]).await;
    let ca = Some(origin.ca_file.clone());
    fails(lending(service(Protocol::Https, nobody().await, ca)), "/json", Reason::UpstreamRefused).await;
}

#[tokio::test]
async fn a_service_that_never_answers() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let ca = Some(origin.ca_file.clone());
    fails(lending(service(Protocol::Https, origin.address, ca)), "/never", Reason::UpstreamTimeout).await;
}

#[tokio::test]
async fn a_service_that_never_speaks_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin::start(&[]).await;
    let service = service(Protocol::Https, listener.local_addr().unwrap(), Some(origin.ca_file.clone()));
    fails(service, "/json", Reason::UpstreamTimeout).await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_or_another_name() {
    let (origin, stranger) = (Origin::start(&[]).await, Origin::start(&[]).await);
    let ca = Some(stranger.ca_file.clone());
    fails(lending(service(Protocol::Https, origin.address, ca)), "/json", Reason::UpstreamTls).await;
    fails(lending(service(Protocol::Https, origin.address, None)), "/json", Reason::UpstreamTls).await;
    let misnamed = Origin::named("other.test", &[]).await;
    let ca = Some(misnamed.ca_file.clone());
    fails(lending(service(Protocol::Https, misnamed.address, ca)), "/json", Reason::UpstreamTls).await;
    for each in [&origin, &misnamed] {
        assert_eq!(each.seen.requests.load(Ordering::Relaxed), 0, "the credential left");
    }
}

#[tokio::test]
async fn a_name_that_leads_into_private_networks_or_nowhere() {
    let origin = Origin::start(&[]).await;
    for (host, reason) in [
        ("localhost", Reason::UpstreamAddressRefused),
        ("does-not-exist.invalid", Reason::UpstreamUnresolved),
    ] {
        let mut service = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
        let name = HostName::new(host).unwrap();
        service.hosts = vec![HostPattern::Exact(name.clone())];
        service.upstream.address = None;
        let world = World::with(service, quick(), 443).await;
        *world.handoff.destination.lock().unwrap() =
            Some(Destination { address: "198.18.0.2:443".parse().unwrap(), name: Some(name) });
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), host).await.unwrap();
        let ask = format!("GET /json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(reason.code()), "{answer}");
        assert_eq!(world.log.receipt(0).await.reason, Some(reason));
        assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn an_upstream_given_by_name_is_looked_up_and_verified_as_the_service() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let mut service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let localhost = HostName::new("localhost").unwrap();
    service.upstream.address = Some(UpstreamAddress::Name(localhost, origin.address.port()));
    let world = World::new(service).await;
    let (text, _) = curl(&world, &["https://api.test/json"]).await;
    assert_eq!(text, "{\"ok\":true}");
}

async fn answering(answer: &'static [u8]) -> (Origin, World) {
    let origin = Origin::raw(move |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        drop(stream.write_all(answer).await);
        drop(stream.flush().await);
        drop(stream.shutdown().await);
    })
    .await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::with(service, quick(), 443).await)
}

const ASK: &[u8] = b"GET /a HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_malformed_answer_is_the_services_fault() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nBroken Header\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 OK\r\n\r\n",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
        b"",
    ] {
        let (_origin, world) = answering(answer).await;
        let said = raw(&world, ASK).await;
        assert!(said.starts_with("HTTP/1.1 502 ") && said.contains("proxy.upstream_broken"), "{said}");
        let receipt = world.log.receipt(0).await;
        assert_eq!(receipt.reason, Some(Reason::UpstreamBroken), "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let (_origin, world) = answering(answer).await;
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said).await);
        let said = String::from_utf8_lossy(&said);
        // Broken off before anything was sent on, the agent gets nothing at all.
        let head = said.starts_with("HTTP/1.1 200 ") && !said.ends_with("0\r\n\r\n");
        assert!(said.is_empty() || head, "{said}");
        assert!(said.is_empty() || said.contains("content-length: 10") || said.contains("chunked"), "{said}");
        let receipt = world.log.receipt(0).await;
        assert_eq!((receipt.outcome, receipt.reason), (Outcome::Failed, Some(Reason::UpstreamBroken)));
        assert_eq!(receipt.status, Some(200));
    }
}

#[tokio::test]
async fn bytes_after_an_answer_end_the_connection_and_reach_nobody() {
    let smuggled =
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (origin, world) = answering(smuggled).await;
    let ask = "GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let last = "GET /a HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let said = raw(&world, format!("{ask}{last}").as_bytes()).await;
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    assert!(!said.contains("evil"), "{said}");
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 2, "the connection was used again");
}

#[tokio::test]
async fn a_stale_connection_is_tried_again_only_when_that_is_safe() {
    // Serves one answer per connection without saying so, then closes.
    let (origin, world) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    for n in 1..=5 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"ok") {
            said.push(stream.read_u8().await.unwrap());
        }
        assert!(said.starts_with(b"HTTP/1.1 200 "), "{n}: {}", String::from_utf8_lossy(&said));
        world.log.receipt(n - 1).await;
    }
    assert!(origin.seen.connections.load(Ordering::Relaxed) >= 5);
}

#[tokio::test]
async fn a_credential_does_not_travel_without_tls_unless_the_service_says_so() {
    let origin = Origin::plain().await;
    let mut service = lending(service(Protocol::Http, origin.address, None));
    let world = World::with(service.clone(), quick(), 80).await;
    let (text, _) = curl(&world, &["http://api.test/json"]).await;
    assert!(text.contains("broker.unsafe_channel"), "{text}");
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 0);
    assert_eq!(world.log.receipt(0).await.reason, Some(Reason::UnsafeChannel));
    service.upstream.danger_plaintext_credential = true;
    let world = World::with(service, quick(), 80).await;
    let (text, _) = curl(&world, &["http://api.test/json"]).await;
    assert_eq!(text, "{\"ok\":true}");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let short = Duration::from_millis(50);
    let settings = RelaySettings { hello_timeout: short, idle_timeout: short, ..RelaySettings::default() };
    let world = World::with(service, settings, 443).await;
    for sent in [&b"GET /json HTTP/1.1\r\nHost: api.test\r\n\r\n"[..], b"GET /json HTT", b""] {
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "still open after {:?}", String::from_utf8_lossy(sent));
    }
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_per_session() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
    let settings = RelaySettings { connections_per_session_max: 2, ..RelaySettings::default() };
    let world = World::with(service.clone(), settings, 443).await;
    let config = trusting(&world.root_file, &[]);
    let held = [
        connect(world.address, config.clone(), HOST).await,
        connect(world.address, config.clone(), HOST).await,
    ];
    assert!(held.iter().all(Result::is_ok));
    assert!(connect(world.address, config.clone(), HOST).await.is_err());
    world.log.refused(Reason::Busy).await;
    let settings = RelaySettings { connections_max: 1, ..RelaySettings::default() };
    let world = World::with(service, settings, 443).await;
    let config = trusting(&world.root_file, &[]);
    let _held = connect(world.address, config.clone(), HOST).await.unwrap();
    assert!(connect(world.address, config, HOST).await.is_err());
}
