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
