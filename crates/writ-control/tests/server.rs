//! The server over a real socket, spoken to in raw HTTP: what the typed client would never send.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that goes wrong ends there; lints know only test functions"
)]

#[path = "support/memory.rs"]
mod memory;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use writ_control::api::Operation;
use writ_control::{Access, BindError, Server};
use writ_gate::limits;

struct Running {
    daemon: Arc<Memory>,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, stop) = (Arc::new(Memory::default()), CancellationToken::new());
        let server = Server::bind(&folder.path().join("control.sock")).unwrap();
        let task = tokio::spawn(server.serve(Arc::clone(&daemon) as _, Access::default(), stop.clone()));
        Self { daemon, folder, stop, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Sends one request on a connection of its own and reads to the end.
    async fn send(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        exchange(&mut stream, &format!("{head}connection: close\r\n"), body).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        parse(&answer)
    }

    async fn post(&self, operation: &str, body: &str) -> (u16, String) {
        self.send(&format!("POST /v1/{operation} HTTP/1.1\r\n"), body.as_bytes()).await
    }
}

async fn exchange(stream: &mut UnixStream, head: &str, body: &[u8]) {
    let head = format!("{head}host: writ\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a large body early may have hung up by now.
    stream.write_all(body).await.ok();
}

fn parse(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn code(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body).unwrap()["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_operation_is_routed_and_reads_its_request() {
    let running = Running::start();
    let uid = rustix::process::geteuid().as_raw();
    for operation in Operation::ALL {
        // Nobody's request has this member, so it is refused by whoever reads it.
        let (status, body) = running.post(operation.name(), r#"{"unknown":1}"#).await;
        let administrators = operation.rule() == writ_control::Rule::Administrators;
        let denied = *operation == Operation::RunReady || (uid != 0 && administrators);
        let expected = if denied { 403 } else { 400 };
        assert_eq!(status, expected, "{operation}: {body}");
    }
    let (status, body) = running.post("status", "{}").await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""version":"1.2.3""#));
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_words() {
    let running = Running::start();
    for (head, status, expected) in [
        ("GET /v1/status HTTP/1.1\r\n", 400, "control.bad_request"),
        ("POST /v1/secret.get HTTP/1.1\r\n", 404, "control.no_operation"),
        ("POST /v2/status HTTP/1.1\r\n", 404, "control.no_operation"),
        ("POST /v1/status/ HTTP/1.1\r\n", 404, "control.no_operation"),
    ] {
        let (found, body) = running.send(head, b"{}").await;
        assert_eq!((found, code(&body).as_str()), (status, expected), "{head}");
    }
    let large = vec![b' '; limits::CONTROL_BODY_BYTES_MAX + 1];
    let (status, body) = running.send("POST /v1/status HTTP/1.1\r\n", &large).await;
    assert_eq!((status, code(&body).as_str()), (400, "control.bad_request"));
}

#[tokio::test]
async fn a_governed_process_is_refused_everything() {
    let running = Running::start();
    running.daemon.governed.lock().unwrap().insert(std::process::id());
    for operation in Operation::ALL {
        // A run may be asked for, as a sub-agent's; this one's agent may start none.
        let ask = if *operation == Operation::RunOpen { OPEN } else { "{}" };
        let (status, body) = running.post(operation.name(), ask).await;
        assert_eq!((status, code(&body).as_str()), (403, "control.denied"), "{operation}");
    }
}

const OPEN: &str = r#"{"agent":"coder","command":["x"],"files":{"program":3,"script":null}}"#;

#[tokio::test]
async fn a_run_begins_in_two_steps_on_one_connection() {
    let running = Running::start();
    let mut stream = UnixStream::connect(running.socket()).await.unwrap();
    let mut next = async |operation: &str, body: &str| {
        exchange(&mut stream, &format!("POST /v1/{operation} HTTP/1.1\r\n"), body.as_bytes()).await;
        let mut answer = vec![0; 8192];
        let length = stream.read(&mut answer).await.unwrap();
        parse(&answer[..length])
    };
    assert_eq!(next("run.open", OPEN).await.0, 200);
    assert_eq!(running.daemon.openings.load(Ordering::SeqCst), 1);
    assert_eq!(next("run.list", "{}").await.0, 403, "between the steps nothing else is answered");
    assert_eq!(next("run.open", OPEN).await.0, 403);
    assert_eq!(running.post("run.ready", "{}").await.0, 403, "nor may another connection end it");
    let (status, body) = next("run.ready", "{}").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(running.daemon.openings.load(Ordering::SeqCst), 0);
    assert_eq!(next("run.ready", "{}").await.0, 403);
    assert_eq!(next("status", "{}").await.0, 403, "the process is governed now");
}

#[tokio::test]
async fn a_launcher_that_dies_is_forgotten() {
    let running = Running::start();
    let mut stream = UnixStream::connect(running.socket()).await.unwrap();
    exchange(&mut stream, "POST /v1/run.open HTTP/1.1\r\n", OPEN.as_bytes()).await;
    let mut answer = vec![0; 8192];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    assert_eq!(running.daemon.openings.load(Ordering::SeqCst), 1);
    drop(stream);
    while running.daemon.openings.load(Ordering::SeqCst) != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_secret_comes_as_the_body_itself() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may store secrets");
        return;
    }
    let running = Running::start();
    let head = "POST /v1/secret.set HTTP/1.1\r\ncontent-type: application/octet-stream\r\n";
    let named = format!("{head}writ-secret-name: forge\r\n");
    assert_eq!(running.send(&named, b"planted-value").await.0, 200);
    let name = "forge".parse().unwrap();
    assert_eq!(running.daemon.secrets.lock().unwrap().get(&name).unwrap().expose(), "planted-value");
    for (head, value) in [
        (head.to_owned(), &b"planted-value"[..]),
        (format!("{head}writ-secret-name: ../x\r\n"), b"planted-value"),
        ("POST /v1/secret.set HTTP/1.1\r\nwrit-secret-name: forge\r\n".into(), b"planted-value"),
        (named.clone(), b""),
        (named.clone(), b"planted-\xff-value"),
    ] {
        let (status, body) = running.send(&head, value).await;
        assert_eq!(status, 400, "{body}");
        assert!(!body.contains("planted"), "an answer never says the value: {body}");
    }
    let (_, body) = running.post("secret.list", "{}").await;
    assert_eq!(body, r#"{"names":["forge"]}"#);
}

#[tokio::test]
async fn one_user_cannot_keep_others_out_by_holding_connections() {
    let running = Running::start();
    let mut open = Vec::new();
    for _ in 0..limits::CONTROL_CONNECTIONS_PER_UID_MAX {
        let mut stream = UnixStream::connect(running.socket()).await.unwrap();
        exchange(&mut stream, "POST /v1/status HTTP/1.1\r\n", b"{}").await;
        let mut answer = vec![0; 8192];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        open.push(stream);
    }
    let mut one_more = UnixStream::connect(running.socket()).await.unwrap();
    let mut answer = Vec::new();
    // Hung up on: an end, or a reset if a byte was under way.
    assert!(!matches!(one_more.read_to_end(&mut answer).await, Ok(length) if length > 0));
    drop(open.pop());
    // The place is free again as soon as the server has seen the end.
    loop {
        let mut stream = UnixStream::connect(running.socket()).await.unwrap();
        let request =
            "POST /v1/status HTTP/1.1\r\nhost: writ\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        let sent = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        if sent.is_ok() && matches!(stream.read_to_end(&mut answer).await, Ok(length) if length > 0) {
            break;
        }
    }
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_followers() {
    let running = Running::start();
    running.daemon.record(1, writ_core::event::NodeStopped { cut: 7 });
    let mut idle = UnixStream::connect(running.socket()).await.unwrap();
    let mut follower = UnixStream::connect(running.socket()).await.unwrap();
    exchange(&mut follower, "POST /v1/log.query HTTP/1.1\r\n", br#"{"follow":true}"#).await;
    let mut head = vec![0; 4096];
    let length = follower.read(&mut head).await.unwrap();
    assert!(head[..length].starts_with(b"HTTP/1.1 200"));
    running.stop.cancel();
    running.task.await.unwrap();
    let mut rest = Vec::new();
    follower.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends in good order");
    assert_eq!(idle.read(&mut head).await.unwrap(), 0);
}

#[tokio::test]
async fn a_socket_of_a_killed_daemon_is_replaced_and_a_live_one_is_not() {
    let running = Running::start();
    assert!(matches!(Server::bind(&running.socket()), Err(BindError::InUse(_))));
    running.stop.cancel();
    running.task.await.unwrap();
    let path = running.folder.path().join("control.sock");
    assert!(path.exists(), "as a kill would leave it");
    Server::bind(&path).unwrap();
    let file = running.folder.path().join("file");
    std::fs::File::create(&file).unwrap();
    assert!(matches!(Server::bind(&file), Err(BindError::NoSocket(_))), "only sockets are removed");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o666, "everyone may connect; what they may do is decided per operation");
}
