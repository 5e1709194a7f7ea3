//! Bodies of which the beginning is read: a git push is decided by its commands, and its pack streams.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use writ_core::event::Outcome;
use writ_core::{Argument, Reason};
use writ_gate::limits;

use crate::client::{connect, curl, raw, trusting};
use crate::reading::{lent, told};
use crate::world::HOST;

const COMMANDS: &str = "000bcommand0000";

fn begins_with_commands(argument: &Argument) -> bool {
    argument.as_str().is_some_and(|read| read.starts_with(COMMANDS) && read.len() < 1 << 20)
}

#[tokio::test]
async fn a_pack_larger_than_what_is_held_arrives_as_it_was_sent() {
    let pack: Vec<u8> =
        (0..8 * limits::ARGUMENT_BODY_BYTES_MAX).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect();
    let body = [COMMANDS.as_bytes(), &pack].concat();
    let dir = tempfile::tempdir().unwrap();
    let (sent, back) = (dir.path().join("sent"), dir.path().join("back"));
    writ_host::durable::replace(&sent, &body, 0o600).unwrap();
    for upstream in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let (_origin, world) = lent(upstream).await;
        let mut n = 0;
        for version in ["--http1.1", "--http2"] {
            for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
                let data = format!("@{}", sent.display());
                let out = back.display().to_string();
                let url = format!("https://{HOST}/push/echo");
                let fixed = [version, "-o", &out, "--data-binary", &data, "-H", "Content-Type: x/y", &url];
                let arguments = [&fixed[..], chunked].concat();
                assert_eq!(curl(&world, &arguments).await, (String::new(), 0));
                assert!(std::fs::read(&back).unwrap() == body, "{arguments:?}");
                assert!(begins_with_commands(&told(&world, n).await), "{arguments:?}");
                let receipt = world.log.receipt(n).await;
                assert_eq!((receipt.outcome, receipt.bytes_up), (Outcome::Completed, body.len() as u64));
                n += 1;
            }
        }
    }
}

#[tokio::test]
async fn the_commands_decide_before_the_pack_is_there_and_leave_room_for_others() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let length = COMMANDS.len() + 4;
    let begun =
        format!("POST /push/count HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{COMMANDS}");
    let mut pushing = Vec::new();
    for _ in 0..=limits::ARGUMENT_BODIES_PER_SESSION_MAX {
        let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        pushing.push(stream);
        // It is on its way to the service, with nothing of its pack sent.
        told(&world, pushing.len() - 1).await;
        while origin.seen.requests.load(Ordering::Relaxed) < pushing.len() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(curl(&world, &["-d", "x", &format!("https://{HOST}/read/echo")]).await, ("x".into(), 0));
    pushing[0].write_all(b"PACK").await.unwrap();
    let mut answer = [0; 15];
    pushing[0].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn commands_that_never_end_are_refused() {
    let (origin, world) = lent(&[b"http/1.1"]).await;
    let line = format!("fff0{}", "x".repeat(0xfff0 - 4));
    let body = line.repeat(limits::ARGUMENT_BODY_BYTES_MAX / line.len() + 1);
    let head = format!(
        "POST /push/echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len() + 4
    );
    assert!(raw(&world, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
    world.log.refused(Reason::BodyTooLarge).await;
    assert_eq!((world.log.intents(), origin.seen.requests.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn what_people_approve_is_the_whole_push() {
    for upstream in [&[&b"h2"[..]][..], &[b"http/1.1"]] {
        let (_origin, world) = lent(upstream).await;
        let body = format!("{COMMANDS}{}end", "x".repeat(500_000));
        let dir = tempfile::tempdir().unwrap();
        let (sent, large) = (dir.path().join("sent"), dir.path().join("large"));
        writ_host::durable::replace(&sent, body.as_bytes(), 0o600).unwrap();
        let too_large = format!("{COMMANDS}{}end", "x".repeat(limits::ARGUMENT_BODY_BYTES_MAX));
        writ_host::durable::replace(&large, too_large.as_bytes(), 0o600).unwrap();
        let url = format!("https://{HOST}/push/count?approve");
        for version in ["--http1.1", "--http2"] {
            let push = async |file: &std::path::Path| {
                let data = format!("@{}", file.display());
                let kind = "Content-Type: x/y";
                curl(&world, &[version, "-w", " %{http_code}", "--data-binary", &data, "-H", kind, &url])
                    .await
                    .0
            };
            assert_eq!(push(&sent).await, format!("{} 200", body.len()));
            push(&large).await;
        }
        world.log.refused(Reason::BodyTooLarge).await;
        assert_eq!(world.log.intents(), 2);
    }
}
