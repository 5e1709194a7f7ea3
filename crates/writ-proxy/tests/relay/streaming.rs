//! Bodies that take their time: bounded memory, back-pressure, and the cut when the session ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use writ_core::event::Outcome;
use writ_core::{Protocol, Reason};
use writ_gate::Cause;
use writ_proxy::RelaySettings;

use crate::client::{connect, curl, trusting};
use crate::origin::Origin;
use crate::world::{HOST, World, lending, service};

async fn lent(alpn: &[&[u8]]) -> (Origin, World) {
    let origin = Origin::start(alpn).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    (origin, World::new(service).await)
}

/// Highest resident size so far, KiB.
fn resident_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn large_bodies_pass_both_ways_in_bounded_memory() {
    const SIZE: usize = 256 << 20;
    for version in ["--http1.1", "--http2"] {
        let (_origin, world) = lent(&[b"h2", b"http/1.1"]).await;
        let before = resident_peak();
        let url = "https://api.test/big";
        let (text, code) = curl(&world, &[version, "-o", "/dev/null", "-w", "%{size_download}", url]).await;
        assert_eq!((text, code), (SIZE.to_string(), 0), "{version}");
        let up = format!("head -c {SIZE} /dev/zero");
        let connect = format!("{HOST}:443:{}", world.address);
        let root = world.root_file.display();
        let command = format!(
            "{up} | curl -sS {version} --cacert {root} --connect-to {connect} -T - -X POST https://api.test/count"
        );
        let output = tokio::process::Command::new("sh").args(["-c", &command]).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), SIZE.to_string(), "{version} {output:?}");
        let receipt = world.log.receipt(1).await;
        assert_eq!((receipt.outcome, receipt.bytes_up), (Outcome::Completed, SIZE as u64));
        assert!(resident_peak() - before < 48 * 1024, "{version}: {} KiB more", resident_peak() - before);
    }
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(b"GET /drip HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    for n in 0..5 {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if line == format!("data: {n}") {
                break;
            }
        }
        origin.seen.go.notify_one();
    }
}

#[tokio::test]
async fn revocation_cuts_in_the_middle_of_a_body_and_the_receipt_says_so() {
    for (version, cause, reason) in [
        ("--http1.1", Cause::Revoked, Reason::SessionRevoked),
        ("--http2", Cause::Expired, Reason::SessionExpired),
    ] {
        let (origin, world) = lent(&[b"h2", b"http/1.1"]).await;
        let connect = format!("{HOST}:443:{}", world.address);
        let mut child = tokio::process::Command::new("curl")
            .args(["-sSN", version, "--connect-to", &connect, "--cacert"])
            .arg(&world.root_file)
            .arg("https://api.test/drip")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 9];
        out.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"data: 0\n\n");
        world.session.end(cause);
        let receipt = world.log.receipt(0).await;
        assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(reason)));
        assert_eq!((receipt.status, receipt.bytes_down), (Some(200), 9));
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
        assert!(!status.success(), "a cut must not look like an end");
        drop(origin);
    }
}

#[tokio::test]
async fn revocation_cuts_an_exchange_that_waits_and_an_idle_connection() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let mut idle = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    idle.write_all(b"GET /json HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    world.log.receipt(0).await;
    let mut waiting = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    waiting.write_all(b"GET /never HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    world.log.wait(|events| (events.len() >= 3).then_some(())).await;
    world.session.end(Cause::Revoked);
    let receipt = world.log.receipt(1).await;
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(Reason::SessionRevoked)));
    for stream in [&mut idle, &mut waiting] {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "still open");
    }
    drop(origin);
}

#[tokio::test]
async fn a_client_that_goes_away_is_in_the_receipt() {
    let (_origin, world) = lent(&[b"http/1.1"]).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(b"GET /drip HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).await.unwrap();
    drop(stream);
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Failed, Some(Reason::ClientGone)));
}

#[tokio::test]
async fn one_hundred_continue_comes_after_the_permit_only() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let ask = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(ask("/count").as_bytes()).await.unwrap();
    let mut line = [0; 25];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(world.log.intents(), 1);
    stream.write_all(b"body").await.unwrap();
    assert_eq!(world.log.receipt(0).await.bytes_up, 4);
    let mut refused = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    refused.write_all(ask("/denied").as_bytes()).await.unwrap();
    refused.read_exact(&mut line).await.unwrap();
    assert!(line.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&line));
    assert_eq!(origin.seen.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn draining_finishes_what_is_under_way() {
    let (origin, mut world) = lent(&[b"http/1.1"]).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(b"GET /after HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    world.log.wait(|events| (!events.is_empty()).then_some(())).await;
    world.drain.cancel();
    origin.seen.go.notify_one();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("after"), "{answer}");
    (&mut world.serving).await.unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_cut() {
    let origin = Origin::start(&[b"h2", b"http/1.1"]).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let settings = RelaySettings { drain_grace: Duration::from_millis(50), ..RelaySettings::default() };
    let mut world = World::with(service, settings, 443).await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nHost: api.test\r\n\r\n").await.unwrap();
    world.log.wait(|events| (!events.is_empty()).then_some(())).await;
    world.drain.cancel();
    (&mut world.serving).await.unwrap();
    let receipt = world.log.receipt(0).await;
    assert_eq!((receipt.outcome, receipt.reason), (Outcome::Cut, Some(Reason::Abandoned)));
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
