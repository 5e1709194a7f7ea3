//! What an MCP server sends is looked at before a client has it, and a refusal is told where the client looks for it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_rustls::server::TlsStream;
use writ_core::event::Outcome;
use writ_core::{Protocol, Reason};

use crate::client::{connect, raw, trusting};
use crate::origin::Origin;
use crate::world::{HOST, SECRET, World, lending, rule, service};

/// Answers each request with what its path asks for.
async fn serve(stream: TlsStream<tokio::net::TcpStream>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut path, mut length, mut line) = (String::new(), 0, String::new());
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            let lower = line.to_ascii_lowercase();
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap().to_owned();
            } else if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            assert!(!lower.starts_with("accept-encoding:") || lower.contains(" identity"), "{line}");
            line.clear();
        }
        if path.is_empty() {
            return;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let answer = answer(&path);
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        if path == "/mcp/sse" {
            std::future::pending::<()>().await;
        }
    }
}

fn answer(path: &str) -> String {
    let whole = |status: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nETag: \"x\"\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let stream = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"
        )
    };
    match path.trim_start_matches("/mcp/") {
        "whole" => whole("200 OK", "application/json; charset=utf-8", &format!("{{\"a\": \"{SECRET}\"}}")),
        "cut" => whole("200 OK", "application/json", r#"{"cut":"cut"}"#),
        "hidden" => whole("200 OK", "application/json", r#"{"hidden":1}"#),
        "unreadable" => whole("200 OK", "application/json", "unreadable"),
        "html" => whole("200 OK", "text/html", "<tools>"),
        "gone" => whole("404 Not Found", "text/html", "<tools>"),
        "large" => whole("200 OK", "application/json", &" ".repeat(4 * 1024 * 1024 + 1)),
        "charset" => whole("200 OK", "application/json; charset=utf-7", "{}"),
        "coded" => {
            whole("200 OK", "application/json", "{}").replace("ETag: \"x\"", "Content-Encoding: rot13")
        }
        "accepted" => whole("202 Accepted", "text/plain", "Accepted"),
        "none" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "events" => {
            stream("data: {\"a\":1}\n\ndata: {\"hidden\":1}\n\ndata: {\"cut\":\"cut\"}\n\n") + "0\r\n\r\n"
        }
        "broken" => stream("data: {\"a\":1}\n\ndata: unreadable\n\ndata: {\"a\":2}\n\n") + "0\r\n\r\n",
        "sse" => stream("event: endpoint\ndata: /denied/mcp?s=1\n\n"),
        other => panic!("{other}"),
    }
}

async fn world() -> (Origin, World) {
    let origin = Origin::raw(serve).await;
    let mut service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    service.operations = vec![Arc::new(rule(&service, "POST", "/mcp"))];
    (origin, World::new(service).await)
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":"n-7","method":"tools/call"}"#;
const IN_PLACE: &str = "Accept: application/json, text/event-stream\r\n";

/// The answer to a message that is posted there: its head and its body.
async fn post(world: &World, path: &str, headers: &str, message: &str) -> (String, String) {
    let length = message.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}\
         Accept-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n{message}"
    );
    let said = raw(world, request.as_bytes()).await;
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_message_goes_on_as_it_may_be_shown() {
    let (_origin, world) = world().await;
    let stars = "*".repeat(SECRET.len());
    for (path, status, body) in [
        ("whole", 200, format!("{{\"a\": \"{stars}\"}}")),
        ("cut", 200, r#"{"":""}"#.to_owned()),
        ("gone", 404, String::new()),
        ("accepted", 202, String::new()),
        ("none", 200, String::new()),
    ] {
        let (head, said) = post(&world, &format!("/mcp/{path}"), IN_PLACE, CALL).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path}: {head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())) && !head.contains("etag"),
            "{path}: {head}"
        );
        assert_eq!(said, body, "{path}");
    }
    for n in 0..5 {
        assert_eq!(world.log.receipt(n).await.outcome, Outcome::Completed);
    }
    assert_eq!(world.log.receipt(0).await.scrubbed, 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_in_the_words_of_mcp() {
    let (_origin, world) = world().await;
    for (n, path) in ["hidden", "unreadable", "html", "large", "charset", "coded"].into_iter().enumerate() {
        let (head, said) = post(&world, &format!("/mcp/{path}"), IN_PLACE, CALL).await;
        assert!(
            head.starts_with("http/1.1 200 ") && head.contains("content-type: application/json"),
            "{path}: {head}"
        );
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&said["id"], &said["error"]["code"]), (&json!("n-7"), &json!(502)), "{path}: {said}");
        let receipt = world.log.receipt(n).await;
        assert_eq!(receipt.outcome, Outcome::Failed, "{path}");
        let reason = if path == "coded" { Reason::EchoUnreadable } else { Reason::McpAnswer };
        assert_eq!(receipt.reason, Some(reason), "{path}");
        assert_eq!(said["error"]["data"]["action"], receipt.action.to_string());
    }
}

#[tokio::test]
async fn events_go_on_until_one_cannot_be_read() {
    let (_origin, world) = world().await;
    let (_, said) = post(&world, "/mcp/events", IN_PLACE, CALL).await;
    assert!(said.contains("data: {\"a\":1}\n\n:\n\ndata: {\"\":\"\"}\n\n"), "{said}");
    assert!(said.ends_with("0\r\n\r\n"), "{said}");
    assert_eq!(world.log.receipt(0).await.outcome, Outcome::Completed);

    // How much of what came before is still sent is the connection's.
    let request = format!("GET /mcp/broken HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let said = raw(&world, request.as_bytes()).await;
    assert!(
        !said.contains("unreadable") && !said.contains("{\"a\":2}") && !said.ends_with("0\r\n\r\n"),
        "{said}"
    );
    assert_eq!(world.log.receipt(1).await.reason, Some(Reason::McpAnswer));
}

#[tokio::test]
async fn a_refusal_has_the_id_of_the_request_and_nothing_else_of_it() {
    let (_origin, world) = world().await;
    let asked = async |headers: &'static str, message: &str| {
        let (head, said) = post(&world, "/denied/mcp", headers, message).await;
        let said: Value = serde_json::from_str(&said).unwrap();
        let reason = "policy.agent_not_permitted";
        assert!(head.contains(&format!("writ-reason: {reason}")) && head.contains("cache-control: no-store"));
        assert_eq!(
            (&said["jsonrpc"], &said["error"]["data"]["reason"]),
            (&json!("2.0"), &json!(reason)),
            "{said}"
        );
        assert_eq!(said["error"]["code"], 403);
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, said["id"].clone())
    };
    let with = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m","params":{{"id":1}}}}"#);
    assert_eq!(asked(IN_PLACE, &with("\"n-7\"")).await, (200, json!("n-7")));
    assert_eq!(asked(IN_PLACE, &with("-3")).await, (200, json!(-3)));
    assert_eq!(
        asked("", &with("-3")).await,
        (403, json!(-3)),
        "a client of the older transport without a stream"
    );
    let long = format!("\"{}\"", "x".repeat(257));
    for id in [&long, "null", "1.5", "true", "[1]", "{\"a\":1}"] {
        assert_eq!(asked(IN_PLACE, &with(id)).await, (403, Value::Null), "{id:.40}");
    }
    let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    assert_eq!(asked(IN_PLACE, told).await, (403, Value::Null));
    assert_eq!(asked(IN_PLACE, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await, (403, Value::Null));
    // What is no message of JSON-RPC is refused as any request is.
    for message in ["", "[]", "no JSON", "{}", &with("1,\"id\":2"), &format!("[{}]", with("1"))] {
        let (head, said) = post(&world, "/denied/mcp", IN_PLACE, message).await;
        assert!(
            head.starts_with("http/1.1 403 ") && head.contains("application/problem+json"),
            "{message}: {head}"
        );
        assert!(said.contains("policy.agent_not_permitted"), "{message}: {said}");
    }
}

#[tokio::test]
async fn a_client_of_the_older_transport_is_refused_on_its_stream() {
    let (_origin, world) = world().await;
    let mut stream = connect(world.address, trusting(&world.root_file, &[]), HOST).await.unwrap();
    let request = format!("GET /mcp/sse HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut until = async |end: &str| loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.starts_with(end) {
            return line;
        }
    };
    until("data: /denied/mcp?s=1").await;
    let (head, said) = post(&world, "/denied/mcp?s=1", "", CALL).await;
    assert!(head.starts_with("http/1.1 202 ") && said.is_empty(), "{head}");
    let told: Value = serde_json::from_str(until("data: {").await.trim_start_matches("data: ")).unwrap();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!("n-7"), &json!(403)), "{told}");
    let (head, _) = post(&world, "/denied/mcp?s=2", "", CALL).await;
    assert!(head.starts_with("http/1.1 403 "), "another stream's messages are not told here: {head}");
}
