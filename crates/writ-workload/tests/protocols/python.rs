//! The Python package `spiffe` against the socket.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::world::{World, entitled, now, run_id, soon};

struct Python {
    process: Child,
    stdin: ChildStdin,
    said: Option<Lines<BufReader<ChildStdout>>>,
}

impl Python {
    fn start(socket: &Path) -> Option<Self> {
        // Python looks for its packages beside the path by which it is called.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
        let python = folder.ancestors().nth(2).unwrap().join(".cache/venv/bin/python");
        if !python.exists() {
            println!("skipped: no Python clients; `scripts/setup test` installs them");
            return None;
        }
        let mut process = Command::new(python)
            .arg(folder.join("tests/protocols/python.py"))
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let said = Some(BufReader::new(process.stdout.take().unwrap()).lines());
        Some(Self { process, stdin, said })
    }

    async fn says(&mut self) -> Value {
        let mut said = self.said.take().unwrap();
        let read = tokio::task::spawn_blocking(move || (said.next().map(Result::unwrap), said));
        let (line, said) = soon("a word of the client", read).await.unwrap();
        self.said = Some(said);
        serde_json::from_str(&line.expect("the client goes on")).unwrap()
    }

    fn go_on(&mut self) {
        writeln!(self.stdin).unwrap();
    }
}

#[tokio::test]
async fn the_python_client_fetches_streams_and_validates() {
    let world = World::new().await;
    world.federate("other.example").await;
    let Some(mut python) = Python::start(&world.socket()) else { return };
    let pid = u32::try_from(python.says().await["pid"].as_u64().unwrap()).unwrap();
    python.go_on();
    let denied = python.says().await;
    assert!(denied["error"].as_str().unwrap().contains("no identity issued"), "{denied}");
    world.processes.entitle(pid, &[entitled("coder", 1)]);
    python.go_on();
    let svid = python.says().await;
    assert_eq!(svid["id"], run_id("coder", 1).as_str());
    assert_eq!((&svid["chain"], &svid["domains"]), (&json!(2), &json!(["example.org", "other.example"])));
    let jwt = python.says().await;
    assert_eq!(
        (&jwt["id"], &jwt["audience"]),
        (&json!(run_id("coder", 1).as_str()), &json!(["db.internal"]))
    );
    assert!(jwt["wrong"].is_string(), "{jwt}");
    assert_eq!(python.says().await, json!({"streaming": true}));
    world.authority.replace(now()).await.unwrap();
    python.go_on();
    assert_eq!(python.says().await, json!({"rotated": true}));
    world.processes.entitle(pid, &[]);
    let failed = python.says().await;
    assert!(failed["failed"].is_string(), "{failed}");
    python.go_on();
    let mut process = python.process;
    let ended = tokio::task::spawn_blocking(move || process.wait().unwrap());
    assert!(soon("the client's end", ended).await.unwrap().success());
}
