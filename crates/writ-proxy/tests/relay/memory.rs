//! What a connection costs while nothing happens on it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use writ_core::Protocol;
use writ_proxy::RelaySettings;

use crate::origin::Origin;
use crate::world::{World, lending, service};

/// Bytes per idle connection.
const BUDGET: u64 = 16 * 1024;
/// Connections opened at a time, and how often; the first time is for caches, pool and allocator.
const WAVE: u64 = 40;
const WAVES: u64 = 11;

/// Opens a wave of connections for each line it reads, makes a request on each, and keeps them all.
const CLIENT: &str = r#"
import socket, ssl, sys
port, root, wave = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=root)
held = []
def ask(s):
    s.sendall(b"GET /json HTTP/1.1\r\nHost: api.test\r\n\r\n")
    said = b""
    while not said.endswith(b"}"):
        more = s.recv(4096)
        if not more:
            raise SystemExit("closed")
        said += more
for line in sys.stdin:
    if line == "again\n":
        for s in held:
            ask(s)
        print("all", flush=True)
        continue
    for n in range(wave):
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="api.test")
        ask(s)
        held.append(s)
"#;

/// Resident bytes now.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it never happened");
}

#[tokio::test]
async fn an_idle_connection_stays_within_its_budget_and_wakes_up_again() {
    let origin = Origin::start(&[b"http/1.1"]).await;
    let service = lending(service(Protocol::Https, origin.address, Some(origin.ca_file.clone())));
    let settings = RelaySettings { hello_timeout: Duration::from_millis(500), ..RelaySettings::default() };
    let world = World::with(service, settings, 443).await;
    let mut client = tokio::process::Command::new("python3")
        .args(["-c", CLIENT, &world.address.port().to_string()])
        .arg(&world.root_file)
        .arg(WAVE.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut tell = client.stdin.take().unwrap();
    let mut before = 0;
    for wave in 1..=WAVES {
        tell.write_all(b"more\n").await.unwrap();
        until(|| world.relay.tally().quiet() as u64 == wave * WAVE).await;
        if wave == 1 {
            before = resident();
        }
    }
    let each = resident().saturating_sub(before) / ((WAVES - 1) * WAVE);
    println!("{each} bytes per idle connection");
    assert!(each < BUDGET, "{each} bytes per idle connection");

    tell.write_all(b"again\n").await.unwrap();
    let mut says = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(says.next_line().await.unwrap().unwrap(), "all");
    assert_eq!(world.relay.tally().accepted(), WAVES * WAVE);
}
