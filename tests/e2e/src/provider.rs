//! An `OpenID` provider made by others (npm `oidc-provider`), as a process of its own on loopback.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use writ_testkit::Host;

use crate::repository;

/// A running provider; ends when dropped.
pub struct Provider {
    /// Its identifier.
    pub url: String,
    process: Child,
    /// Kept open: it says more than where it listens.
    _said: BufReader<ChildStdout>,
}

/// The transmitter of signals that [`Provider::settings`] names; the provider's keys are its keys.
pub const TRANSMITTER: &str = "https://signals.test";

impl Provider {
    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start() -> Self {
        let mut process = Command::new("node")
            .arg(repository("crates/writ-human/tests/provider/provider.mjs"))
            .arg(repository(".cache/npm/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("stdout"));
        out.read_line(&mut line).expect("where it listens");
        let said: Value = serde_json::from_str(&line).expect("where it listens");
        let port = said.get("port").and_then(Value::as_u64).expect("a port");
        Self { url: format!("http://127.0.0.1:{port}"), process, _said: out }
    }

    /// The settings of a daemon whose people sign in here.
    #[must_use]
    pub fn settings(&self, host: &Host, more: &str) -> String {
        let url = &self.url;
        format!(
            "trust_domain = \"corp.test\"\n[capture]\ncgroup = \"{}\"\n{more}\n\
             [[human.issuer]]\nname = \"corp\"\nissuer = \"{url}\"\nclient_id = \"writ\"\naudiences = [\"api\", \"https://id.corp.test\"]\n\
             scopes = [\"openid\", \"offline_access\", \"profile\", \"email\", \"groups\"]\n\
             danger = {{ plain_loopback = true }}\n\
             [human.issuer.signals]\nissuer = \"{TRANSMITTER}\"\njwks = \"{url}/jwks\"\naudience = \"writ-node\"\n",
            host.cgroup_name()
        )
    }

    /// Asks one of the paths that tests have.
    #[must_use]
    pub fn ask(&self, path: &str, what: &Value) -> Value {
        let url = format!("{}/test/{path}", self.url);
        let out = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-H", "content-type: application/json"])
            .args(["-d", &what.to_string(), &url])
            .output()
            .expect("curl");
        assert!(out.status.success(), "{path}: {out:?}");
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    /// A token signed with one of its keys.
    #[must_use]
    pub fn sign(&self, key: &str, header: &Value, claims: &Value) -> String {
        let signed = self.ask("sign", &json!({ "key": key, "header": header, "claims": claims }));
        signed.get("token").and_then(Value::as_str).expect("a token").to_owned()
    }

    /// An access token (RFC 9068) for a human, signed with the provider's key.
    #[must_use]
    pub fn access_token(&self, user: &str, audience: &str) -> String {
        self.access_token_for(user, audience, &json!({ "scope": "read" }))
    }

    /// The same with other claims in it; those that are null are left out.
    #[must_use]
    pub fn access_token_for(&self, user: &str, audience: &str, more: &Value) -> String {
        let now = unix_seconds();
        let mut claims = json!({
            "iss": self.url, "sub": user, "aud": audience, "iat": now, "exp": now + 600, "jti": user,
            "client_id": "app", "groups": ["staff"], "name": user,
        });
        let more = more.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let more = more.map(|(name, value)| (name.clone(), value.clone()));
        claims.as_object_mut().expect("an object").extend(more);
        self.sign("RS256", &json!({ "typ": "at+jwt" }), &claims)
    }

    /// How often a path was asked for.
    #[must_use]
    pub fn count(&self, path: &str) -> u64 {
        let counted = self.ask("count", &json!({ "path": path }));
        counted.get("count").and_then(Value::as_u64).expect("a count")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Seconds since 1970, as tokens have them.
#[must_use]
pub fn unix_seconds() -> u64 {
    let out = Command::new("date").arg("+%s").output().expect("date");
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("a number")
}
