//! What a connection costs while nothing happens on it.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use writ_core::Protocol;

use crate::origin::Origin;
use crate::world::{World, lending, service};

/// Bytes per idle connection: the budget is 16 KiB.
const BUDGET: u64 = 16 * 1024;
const COUNT: u64 = 400;

/// Opens connections, makes one request on each, says so after the first twenty and at the end, and keeps them.
const CLIENT: &str = r#"
import socket, ssl, sys
port, root, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=root)
held = []
for n in range(count + 20):
    if n == 20:
        print("warm", flush=True)
        sys.stdin.readline()
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="api.test")
    s.sendall(b"GET /json HTTP/1.1\r\nHost: api.test\r\n\r\n")
    said = b""
    while not said.endswith(b"}"):
        said += s.recv(4096)
    held.append(s)
print("done", flush=True)
sys.stdin.readline()
"#;

/// Resident bytes now.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn an_idle_connection_stays_within_its_budget() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let world =
        World::new(lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())))).await;
    let mut client = tokio::process::Command::new("python3")
        .args(["-c", CLIENT, &world.address.port().to_string()])
        .arg(&world.root_file)
        .arg(COUNT.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut go = client.stdin.take().unwrap();
    let mut says = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(says.next_line().await.unwrap().unwrap(), "warm");
    let before = resident();
    tokio::io::AsyncWriteExt::write_all(&mut go, b"\n").await.unwrap();
    assert_eq!(says.next_line().await.unwrap().unwrap(), "done");
    let each = resident().saturating_sub(before) / COUNT;
    println!("{each} bytes per idle connection");
    assert_eq!(world.relay.tally().open() as u64, COUNT + 20);
    assert!(each < BUDGET, "{each} bytes per idle connection");
}
