//! The world of the end-to-end tests: one host with the daemon, the forge behind it, an agent `coder` that may read and
//! write there and delete nothing. See `tests/` for what must hold in it.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod disk;
pub mod docker;
pub mod mcp;
pub mod place;
pub mod provider;
pub mod systemd;

use std::path::{Path, PathBuf};

use serde_json::Value;
use writ_testkit::{Forge, Host, wait};

/// A host with everything running.
pub struct World {
    /// The forge. Ends first: it lies below the host's folder.
    pub forge: Forge,
    /// Writ.
    pub host: Host,
}

/// The services that the forge appears as.
const FORGE: &str = r#"
name = "forge"
hosts = ["forge.test"]
ports = [443]
protocol = "https"
[upstream]
address = "@ADDRESS@"
ca_file = "@CA@"
[credential]
secret = "forge-token"
place = { basic = "x-access-token" }
[[operation]]
name = "repo.fetch"
effect = "read"
methods = ["GET"]
path = "/{owner}/{repo}.git/info/refs"
query = { service = "git-upload-pack" }
[[operation]]
name = "repo.fetch"
effect = "read"
methods = ["POST"]
path = "/{owner}/{repo}.git/git-upload-pack"
[[operation]]
name = "repo.push.discover"
effect = "read"
methods = ["GET"]
path = "/{owner}/{repo}.git/info/refs"
query = { service = "git-receive-pack" }
[[operation]]
name = "repo.push"
effect = "write"
methods = ["POST"]
path = "/{owner}/{repo}.git/git-receive-pack"
arguments = { refs = "push:refs strings", deletes = "push:deletes strings" }
[[operation]]
name = "issues.list"
effect = "read"
methods = ["GET"]
path = "/api/repos/{owner}/{repo}/issues"
[[operation]]
name = "issues.create"
effect = "write"
methods = ["POST"]
path = "/api/repos/{owner}/{repo}/issues"
arguments = { title = "body:/title string", draft = "body:/draft boolean?", labels = "body:/labels strings?" }
[[operation]]
name = "repo.delete"
effect = "delete"
methods = ["DELETE"]
path = "/api/repos/{owner}/{repo}"
"#;

const ECHO: &str = r#"
name = "echo"
hosts = ["echo.test"]
ports = [443]
protocol = "https"
[upstream]
address = "@ADDRESS@"
ca_file = "@CA@"
[credential]
secret = "forge-token"
place = "bearer"
[[operation]]
name = "debug"
effect = "read"
methods = ["GET", "POST", "PUT"]
path = "/debug/{rest...}"
"#;

const POLICY: &str = r#"
@id("coder-reads-and-writes")
permit (principal == Writ::Agent::"coder", action in [Writ::Action::"read", Writ::Action::"write"], resource);
@id("humans-read-and-write")
permit (principal is Writ::Human, action in [Writ::Action::"read", Writ::Action::"write", Writ::Action::"delete"], resource);
@id("no-agent-deletes")
forbid (principal is Writ::Agent, action in Writ::Action::"delete", resource);
"#;

impl World {
    /// Isolates the calling thread and starts everything; `None` (with the reason printed) where that may not be.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        Self::configured(test, |_| {})
    }

    /// The same with more configuration, written before the daemon starts.
    #[must_use]
    pub fn configured(test: &str, configure: impl FnOnce(&Host)) -> Option<Self> {
        if !writ_testkit::isolation::enter(test) {
            return None;
        }
        let mut host = Host::new();
        let forge = Forge::start(&host.path("forge"));
        let fill = |text: &str| {
            text.replace("@ADDRESS@", &forge.address())
                .replace("@CA@", &forge.ca_file().display().to_string())
        };
        host.configure("services/forge.toml", &fill(FORGE));
        host.configure("services/echo.toml", &fill(ECHO));
        host.configure("agents/coder.toml", "owner = \"platform\"\n");
        host.configure("policies/world.cedar", POLICY);
        configure(&host);
        host.start();
        host.secret("forge-token", &forge.token());
        Some(Self { forge, host })
    }

    /// Records of one kind, oldest first: their bodies.
    pub fn records(&self, kind: &str) -> Vec<Value> {
        self.host
            .log()
            .iter()
            .filter(|leaf| kind_is(leaf, kind))
            .filter_map(|leaf| leaf.get("body").cloned())
            .collect()
    }

    /// Waits until there is a record of the kind that `wanted` accepts; its body.
    #[track_caller]
    pub fn record(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until(kind, || self.records(kind).into_iter().find(&wanted))
    }

    /// Asserts that the whole log verifies.
    #[track_caller]
    pub fn verify(&self) {
        self.host.writ(["verify"]).ok();
    }

    /// Asserts that the planted secret is in none of these bytes, in none of its usual disguises.
    #[track_caller]
    pub fn assert_clean(&self, what: &str, bytes: &[u8]) {
        for form in self.disguises() {
            let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!found, "{what} holds the planted secret as `{}...`", form.get(..6).unwrap_or_default());
        }
    }

    /// The planted secret as it is, and in base64 of the Basic credential and of itself.
    fn disguises(&self) -> Vec<String> {
        let token = self.forge.token();
        let tail = token.get(6..).expect("a token").to_owned();
        vec![base64(format!("x-access-token:{token}").as_bytes()), base64(token.as_bytes()), tail, token]
    }
}

fn kind_is(leaf: &Value, kind: &str) -> bool {
    leaf.get("kind").and_then(Value::as_str) == Some(kind)
}

/// RFC 4648 base64 without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..=chunk.len() {
            let index = usize::try_from(word >> (18 - 6 * position) & 63).expect("six bits");
            out.push(char::from(*ALPHABET.get(index).expect("six bits")));
        }
    }
    out
}

/// A file of the repository, by its path below the root.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The Python of the test clients (requests, httpx).
#[must_use]
pub fn python() -> PathBuf {
    repository(".cache/venv/bin/python")
}
