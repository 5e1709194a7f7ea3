//! TLS towards the agent: names, authorities, hellos.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use writ_core::service::HostPattern;
use writ_core::{HostName, Protocol, Reason, Service, ServiceName};
use writ_gate::{Destination, limits};
use writ_proxy::RelaySettings;

use crate::client::{connect, curl, trusting};
use crate::origin::Origin;
use crate::world::{HOST, World, service};

fn other(origin: &Origin) -> Service {
    let mut other = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
    other.name = ServiceName::new("other").unwrap();
    other.hosts = vec![
        HostPattern::Exact(HostName::new("other.test").unwrap()),
        HostPattern::Below(HostName::new("wild.test").unwrap()),
    ];
    other
}

async fn two_services() -> (Origin, World) {
    let origin = Origin::start(&[b"h2", b"http/1.1"]).await;
    let api = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
    let services = vec![api, other(&origin)];
    let world = World::serving(services, RelaySettings::default(), 443, "127.0.0.1:0").await;
    (origin, world)
}

async fn get(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), host: &str) -> String {
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    answer
}

#[tokio::test]
async fn a_hello_that_names_no_server_is_told_so_inside_tls() {
    let (_origin, world) = two_services().await;
    let mut config = Arc::unwrap_or_clone(trusting(&world.root_file, &[]));
    config.enable_sni = false;
    let mut stream = connect(world.address, Arc::new(config), HOST).await.unwrap();
    let answer = get(&mut stream, HOST).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("proxy.no_server_name"), "{answer}");
    world.log.refused(Reason::NoServerName).await;
}

#[tokio::test]
async fn sni_of_another_service_of_the_session_is_misdirected() {
    let (origin, world) = two_services().await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), "other.test").await.unwrap();
    let answer = get(&mut stream, "other.test").await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("proxy.name_mismatch"), "{answer}");
    world.log.refused(Reason::NameMismatch).await;
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn sni_outside_the_session_gets_an_alert_and_no_certificate() {
    let (_origin, world) = two_services().await;
    let error = connect(world.address, trusting(&world.root_file, &[]), "evil.test").await.unwrap_err();
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    world.log.refused(Reason::NameMismatch).await;
}

#[tokio::test]
async fn http2_coalescing_is_refused_with_421() {
    let (origin, world) = two_services().await;
    let url = "https://api.test/x";
    let (text, _) = curl(&world, &["--http2", "-H", "Host: other.test", "-w", " %{http_code}", url]).await;
    assert!(text.ends_with(" 421"), "{text}");
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_not_tls_is_told_so_in_plain_text() {
    let (_origin, world) = two_services().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let answer = get(&mut stream, HOST).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("proxy.not_tls"), "{answer}");
    world.log.refused(Reason::NotTls).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
}

#[tokio::test]
async fn hellos_are_bounded_in_size_and_time() {
    let (_origin, world) = two_services().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // A handshake message that says it is a hello of 60,000 bytes, in records of 16 KiB.
    let mut hello = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60];
    hello.resize(limits::HELLO_BYTES_MAX + 64, 0);
    drop(stream.write_all(&hello).await);
    drop(stream.read_to_end(&mut Vec::new()).await);
    world.log.refused(Reason::TooLarge).await;

    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = service(Protocol::Https, origin.address, Some(origin.ca_file.clone()));
    let hello_timeout = std::time::Duration::from_millis(50);
    let world = World::with(service, RelaySettings { hello_timeout, ..RelaySettings::default() }, 443).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(&[0x16]).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn the_relay_refuses_a_socket_that_the_kernel_does_not_know() {
    let (_origin, world) = two_services().await;
    *world.handoff.destination.lock().unwrap() = None;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
    assert_eq!(world.relay.tally().missed(), 3);
    world.log.refused(Reason::UnknownPeer).await;
}

#[tokio::test]
async fn a_connection_that_is_not_admitted_is_told_in_its_own_voice() {
    let (_origin, world) = two_services().await;
    *world.handoff.destination.lock().unwrap() = Some(Destination {
        address: "198.18.0.9:443".parse().unwrap(),
        name: Some(HostName::new("nobody.test").unwrap()),
    });
    let error = connect(world.address, trusting(&world.root_file, &[]), "nobody.test").await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let answer = get(&mut stream, "nobody.test").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("catalog.no_service"), "{answer}");
    world.log.refused(Reason::NoService).await;
}

#[tokio::test]
async fn resumption_works_within_one_session_and_not_across() {
    let (_origin, world) = two_services().await;
    let (_other_origin, stranger) = two_services().await;
    let config = trusting(&world.root_file, &[b"http/1.1"]);
    let kind =
        |stream: &tokio_rustls::client::TlsStream<TcpStream>| stream.get_ref().1.handshake_kind().unwrap();
    let mut first = connect(world.address, config.clone(), HOST).await.unwrap();
    get(&mut first, HOST).await;
    let mut second = connect(world.address, config.clone(), HOST).await.unwrap();
    get(&mut second, HOST).await;
    assert_eq!(kind(&first), rustls::HandshakeKind::Full);
    assert_eq!(kind(&second), rustls::HandshakeKind::Resumed);
    // The other session's relay does not take the ticket, and its certificate is not trusted.
    assert!(connect(stranger.address, config, HOST).await.is_err());
}

fn chain(stream: &tokio_rustls::client::TlsStream<TcpStream>) -> Vec<Vec<u8>> {
    stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect()
}

#[tokio::test]
async fn the_authority_survives_a_restart_and_grows_with_a_reload() {
    let (_origin, world) = two_services().await;
    let config = trusting(&world.root_file, &[]);
    let session = world.session.facts();
    let names = |names: &[&str]| -> Vec<HostPattern> {
        names.iter().map(|name| HostPattern::Exact(HostName::new(name).unwrap())).collect()
    };
    let first = chain(&connect(world.address, config.clone(), HOST).await.unwrap());
    assert_eq!(first.len(), 2, "leaf and intermediate");

    world.authorities.change(session.id, &names(&[HOST, "new.test"])).unwrap();
    *world.handoff.destination.lock().unwrap() = Some(Destination {
        address: "198.18.0.1:443".parse().unwrap(),
        name: Some(HostName::new(HOST).unwrap()),
    });
    assert_ne!(chain(&connect(world.address, config.clone(), "new.test").await.unwrap()), first);
    assert!(connect(world.address, config.clone(), "other.test").await.is_err());

    let files = world.authorities.open(session, &names(&[HOST])).unwrap();
    assert!(connect(world.address, config.clone(), HOST).await.is_err(), "a new root is not the old one");
    world.authorities.close(session.id);
    let restored = world.authorities.restore(session, &names(&[HOST]), &files.material).unwrap();
    assert_eq!(restored.root_pem, files.root_pem);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.pem");
    writ_host::durable::replace(&path, restored.root_pem.as_bytes(), 0o600).unwrap();
    connect(world.address, trusting(&path, &[]), HOST).await.unwrap();
    let broken = writ_core::Secret::<[u8]>::new(b"\x01broken".to_vec()).unwrap();
    assert!(world.authorities.restore(session, &[], &broken).is_err());
    world.authorities.close(session.id);
    assert!(world.authorities.is_empty());
}

/// What OpenSSL, an independent verifier, thinks of certificates: trusted root, chain, name.
fn openssl_accepts(root_pem: &str, chain: &[Vec<u8>], leaf: &str, name: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        writ_host::durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        path
    };
    let pem = |der: &Vec<u8>| {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let root = file("root.pem", root_pem.to_owned());
    let intermediate = file("intermediate.pem", chain.iter().skip(1).map(pem).collect());
    let leaf = file("leaf.pem", if leaf.is_empty() { pem(&chain[0]) } else { leaf.to_owned() });
    let output = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .args([intermediate, leaf])
        .output()
        .unwrap();
    output.status.success()
}

#[tokio::test]
async fn the_chain_is_strict_and_constrained_to_the_session() {
    let (_origin, world) = two_services().await;
    let stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    let chain = chain(&stream);
    assert!(openssl_accepts(&world.root_pem, &chain, "", HOST));
    assert!(!openssl_accepts(&world.root_pem, &chain, "", "other.test"));
    let text = std::process::Command::new("sh")
        .args(["-c", "openssl x509 -inform der -noout -text -ext nameConstraints,basicConstraints"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().unwrap().write_all(&chain[1])?;
            child.wait_with_output()
        })
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("Name Constraints: critical"), "{text}");
    for name in ["DNS:api.test", "DNS:other.test", "DNS:wild.test", "IP:0.0.0.0/0.0.0.0"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(text.contains("pathlen:0"), "{text}");
}
