//! MCP servers and clients that are not ours: the official SDKs for Python and TypeScript, as a tracker of issues and as an
//! agent that does there what it can.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value};
use writ_testkit::{Host, program};

use crate::repository;

/// What the tracker lets in.
pub const TOKEN: &str = "tracker-token-0123456789abcdef";

/// In which SDK something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `mcp` of `PyPI`.
    Python,
    /// `@modelcontextprotocol/sdk` of npm.
    TypeScript,
}

/// A server outside of Writ; killed when this is dropped.
pub struct Tracker {
    child: Child,
    port: u16,
}

impl Tracker {
    /// Starts one: `stateful`, `stateless` or `sse`.
    #[must_use]
    pub fn start(sdk: Sdk, kind: &str, folder: &Path) -> Self {
        let mut child = command(sdk, "server", folder)
            .arg(kind)
            .env("TRACKER_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        let port = line.trim().parse().expect("a port");
        Self { child, port }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What one of its own pages says.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address());
        let out = Command::new("curl").args(["-sS", "--fail", &url]).output().expect("curl");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a client as the agent `coder`: what came of each thing that it tried.
#[must_use]
pub fn client(host: &Host, sdk: Sdk, kind: &str, url: &str) -> Map<String, Value> {
    told(host, &words(&command(sdk, "client", &host.home())), &[kind.to_owned(), url.to_owned()])
}

/// Runs a client as the agent `coder`, which starts a server over standard input and output with `writ mcp`, as the agent
/// `tracker`.
#[must_use]
pub fn client_of_program(host: &Host, sdk: Sdk, server: Sdk) -> Map<String, Value> {
    let (writ, root) = (program("writ").display().to_string(), host.path("").display().to_string());
    let mcp = ["stdio", &writ, "--root", &root, "mcp", "--agent", "tracker", "--"].map(str::to_owned);
    let program_words = words(&command(server, "server", &host.home()));
    let arguments: Vec<String> = mcp.into_iter().chain(program_words).chain(["stdio".to_owned()]).collect();
    told(host, &words(&command(sdk, "client", &host.home())), &arguments)
}

fn words(command: &Command) -> Vec<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn told(host: &Host, program: &[String], arguments: &[String]) -> Map<String, Value> {
    let out = host.run("coder", program.iter().chain(arguments)).ok();
    let lines = out.lines().map(|line| serde_json::from_str::<Map<String, Value>>(line).expect("JSON"));
    lines.flatten().collect()
}

/// A program of the SDK, in a place where it finds that.
fn command(sdk: Sdk, what: &str, folder: &Path) -> Command {
    match sdk {
        Sdk::Python => {
            let mut command = Command::new(python());
            command.arg(repository(&format!("tests/e2e/mcp/{what}.py")));
            command
        }
        Sdk::TypeScript => {
            let (source, place) = (repository(&format!("tests/e2e/mcp/{what}.mjs")), folder.join(what));
            std::fs::create_dir_all(&place).expect("folder");
            let script = place.join(format!("{what}.mjs"));
            std::fs::copy(source, &script).expect("script");
            let modules = place.join("node_modules");
            if !modules.exists() {
                let installed = repository(".cache/mcp/node_modules").canonicalize();
                std::os::unix::fs::symlink(installed.expect("scripts/setup test"), modules).expect("link");
            }
            let mut command = Command::new("node");
            command.arg(script);
            command
        }
    }
}

fn python() -> PathBuf {
    repository(".cache/mcp/venv/bin/python")
}
