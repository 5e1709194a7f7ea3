//! The everyday: real clients, permitted and refused.

use std::sync::atomic::Ordering;

use writ_core::event::{LeaseFate, Outcome};
use writ_core::{Protocol, Reason};

use crate::client::curl;
use crate::origin::Origin;
use crate::world::{World, lending, service};

async fn lent(alpn: &[&[u8]]) -> (Origin, World) {
    let origin = Origin::start(alpn).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::new(service).await)
}

#[tokio::test]
async fn curl_gets_an_answer_that_needed_the_credential() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let (text, code) = curl(&world, &["--http1.1", "https://api.test/json"]).await;
    assert_eq!((text.as_str(), code), ("{\"ok\":true}", 0));
    let receipt = world.log.receipt(0).await;
    assert_eq!(receipt.outcome, Outcome::Completed);
    assert_eq!((receipt.status, receipt.bytes_down), (Some(200), 11));
    assert_eq!(receipt.lease_fate, LeaseFate::Standing);
}

#[tokio::test]
async fn curl_speaks_http2_to_both_kinds_of_service() {
    for alpn in [&[b"h2".as_slice(), b"http/1.1"][..], &[b"http/1.1".as_slice()][..], &[b"h2".as_slice()][..]]
    {
        let (_origin, world) = lent(alpn).await;
        for version in ["--http2", "--http1.1"] {
            let (text, code) = curl(&world, &[version, "https://api.test/json"]).await;
            assert_eq!((text.as_str(), code), ("{\"ok\":true}", 0), "{version} {alpn:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_client_and_the_record_and_nothing_else() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    for version in ["--http2", "--http1.1"] {
        let (text, code) = curl(&world, &[version, "-w", " %{http_code}", "https://api.test/denied/x"]).await;
        assert!(text.ends_with(" 403") && text.contains("policy.agent_not_permitted"), "{text}");
        assert_eq!(code, 0);
    }
    world.log.refused(Reason::AgentNotPermitted).await;
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let urls = ["https://api.test/json"; 10];
    let (text, code) = curl(&world, &[&["--http1.1"], &urls[..]].concat()).await;
    assert_eq!((text, code), ("{\"ok\":true}".repeat(10), 0));
    assert_eq!(world.relay.tally().accepted(), 1);
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 1);
    world.log.receipt(9).await;
}

#[tokio::test]
async fn redirects_are_relayed_and_not_followed() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let (text, _) = curl(&world, &["-w", "%{http_code} %{redirect_url}", "https://api.test/redirect"]).await;
    assert_eq!(text, "302 https://elsewhere.test/");
}

#[tokio::test]
async fn python_requests_works_unchanged() {
    let (_origin, world) = lent(&[b"h2", b"http/1.1"]).await;
    // Python resolves the name itself, so it is told an address; everything else is as ever.
    let program = r#"
import socket, sys
try:
    import requests
except ImportError:
    print("skipped: no requests")
    raise SystemExit
real, port = socket.getaddrinfo, int(sys.argv[1])
socket.getaddrinfo = lambda host, _, *rest, **more: real("127.0.0.1", port, *rest, **more)
with requests.Session() as session:
    for n in range(3):
        answer = session.get("https://api.test/json", verify=sys.argv[2])
        assert answer.json() == {"ok": True}, answer.text
    answer = session.post("https://api.test/echo", data=b"x" * 300000, verify=sys.argv[2])
    assert answer.content == b"x" * 300000
    answer = session.get("https://api.test/denied", verify=sys.argv[2])
    assert answer.status_code == 403 and answer.json()["code"] == "policy.agent_not_permitted", answer.text
print("done")
"#;
    let output = tokio::process::Command::new("python3")
        .args(["-c", program, &world.address.port().to_string()])
        .arg(&world.root_file)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(text.starts_with("done") || text.starts_with("skipped"), "{text}");
}

#[tokio::test]
async fn nothing_is_shared_between_sessions() {
    let (origin, world) = lent(&[b"h2", b"http/1.1"]).await;
    for version in ["--http1.1", "--http2"] {
        let (text, _) = curl(&world, &[version, "https://api.test/json"]).await;
        assert_eq!(text, "{\"ok\":true}");
    }
    let before = origin.seen.connections.load(Ordering::Relaxed);
    *world.handoff.run.lock().unwrap() = world.stranger.facts().run.tag();
    // The first session's root is not trusted in the second.
    world.authorities.open(world.stranger.facts(), &world.names).unwrap();
    let (_, code) = curl(&world, &["https://api.test/json"]).await;
    assert_eq!(code, 60);
    let files = world.authorities.open(world.stranger.facts(), &world.names).unwrap();
    writ_host::durable::replace(&world.root_file, files.root_pem.as_bytes(), 0o600).unwrap();
    let (text, _) = curl(&world, &["--http1.1", "https://api.test/json"]).await;
    assert_eq!(text, "{\"ok\":true}");
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), before + 1, "a connection was shared");
    // The end of one session is not the end of another.
    world.session.end(writ_gate::Cause::Revoked);
    let (text, _) = curl(&world, &["--http1.1", "https://api.test/json"]).await;
    assert_eq!(text, "{\"ok\":true}");
}

#[tokio::test]
async fn a_session_that_has_ended_reaches_nothing() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    world.session.end(writ_gate::Cause::Revoked);
    let (_, code) = curl(&world, &["https://api.test/json"]).await;
    assert_ne!(code, 0);
    world.log.refused(Reason::SessionRevoked).await;
    assert_eq!(origin.seen.connections.load(Ordering::Relaxed), 0);
}
