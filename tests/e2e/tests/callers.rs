//! One service agent, many humans: every action is its caller's, whatever the service knows of it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use writ_e2e::provider::Provider;
use writ_e2e::{World, repository};
use writ_testkit::wait;

const DOOR: &str = "http://127.0.0.1:8600";

const POLICY: &str = r#"
@id("service-reads")
permit (principal == Writ::Agent::"service", action in Writ::Action::"read", resource);
@id("staff-reads")
permit (principal in Writ::Group::"corp:staff", action in Writ::Action::"read", resource);
"#;

const AGENT: &str = "owner = \"x\"\nacts_for = \"caller\"\n[[serve]]\nlisten = \"127.0.0.1:8600\"\nto = 8700\naudience = \"api\"\n";

struct Corp {
    world: World,
    provider: Provider,
}

impl Corp {
    fn start(test: &str) -> Option<Self> {
        let mut provider = None;
        let world = World::configured(test, |host| {
            let started = Provider::start();
            host.configure("writd.toml", &started.settings(host, ""));
            host.configure("agents/service.toml", AGENT);
            host.configure("policies/world.cedar", POLICY);
            provider = Some(started);
        })?;
        Some(Self { world, provider: provider.unwrap() })
    }

    /// The service as a run; answers when it listens.
    fn serve(&self, mode: &str) -> Service {
        let script = repository("tests/e2e/tests/people/service.py");
        let script = script.to_str().unwrap();
        let mut command = self
            .world
            .host
            .agent("service", ["/usr/bin/python3", script, "8700", "https://forge.test", mode]);
        let service = Service(command.stdin(Stdio::piped()).spawn().unwrap());
        let url = format!("{DOOR}/api/repos/acme/site/issues");
        wait::until("the service listens", || {
            (status(&url, &self.provider.access_token("alice", "api")) != "503").then_some(())
        });
        service
    }

    /// By repository, the humans for whom it was asked.
    fn humans(&self) -> BTreeMap<String, Vec<String>> {
        let mut humans = BTreeMap::<String, Vec<String>>::new();
        for intent in self.world.records("action.intended") {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            humans
                .entry(text(&intent["request"]["arguments"]["repo"]))
                .or_default()
                .push(text(&intent["actor"]["human"]));
        }
        humans
    }
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn status(url: &str, token: &str) -> String {
    let authorization = format!("authorization: Bearer {token}");
    let out = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", &authorization, url])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn two_humans_a_thousand_requests(test: &str, mode: &str) {
    let Some(corp) = Corp::start(test) else { return };
    let _service = corp.serve(mode);
    let mut callers = Command::new("python3")
        .arg(repository("tests/e2e/tests/people/callers.py"))
        .args([DOOR, "500"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tokens =
        ["alice", "bob"].map(|user| format!("{user} {}\n", corp.provider.access_token(user, "api"))).concat();
    callers.stdin.take().unwrap().write_all(tokens.as_bytes()).unwrap();
    let out = callers.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "alice 200 500\nbob 200 500\n");

    let humans = corp.humans();
    for user in ["alice", "bob"] {
        let expected = format!("oidc:{}#{user}", corp.provider.url);
        let of = &humans[user];
        assert_eq!((of.len(), of.iter().filter(|human| **human == expected).count()), (500, 500), "{user}");
    }
    let joined = corp.world.records("session.joined");
    assert!(joined.len() >= 2);
    let written = corp.world.host.written_down();
    let token = corp.provider.access_token("alice", "api");
    let signature = token.rsplit_once('.').unwrap().0.as_bytes();
    for (path, bytes) in written {
        assert!(!bytes.windows(signature.len()).any(|w| w == signature), "{} holds a token", path.display());
    }
    corp.world.verify();
}

#[test]
fn two_humans_a_thousand_requests_each_its_own_human_by_handle() {
    two_humans_a_thousand_requests("two_humans_a_thousand_requests_each_its_own_human_by_handle", "token");
}

#[test]
fn two_humans_a_thousand_requests_each_its_own_human_by_trace() {
    two_humans_a_thousand_requests("two_humans_a_thousand_requests_each_its_own_human_by_trace", "trace");
}

#[test]
fn who_is_not_proven_is_not_let_in_and_what_names_nobody_is_refused() {
    let test = "who_is_not_proven_is_not_let_in_and_what_names_nobody_is_refused";
    let Some(corp) = Corp::start(test) else { return };
    let _service = corp.serve("nothing");
    let url = format!("{DOOR}/api/repos/acme/site/issues");
    // Let in, and the service names nobody in what it does: it may do nothing.
    assert_eq!(status(&url, &corp.provider.access_token("alice", "api")), "403");
    let refused = corp.world.record("action.refused", |_| true);
    assert_eq!(refused["reason"], "session.no_human");
    // Not for this audience, not by this issuer's keys, not a token at all.
    let other = corp.provider.access_token("alice", "elsewhere");
    let (head, signature) = other.rsplit_once('.').unwrap();
    let good = corp.provider.access_token("alice", "api");
    let forged = format!("{}.{signature}", good.rsplit_once('.').unwrap().0);
    for token in
        [other.as_str(), &forged, head, "nonsense", "wrh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    {
        assert_eq!(status(&url, token), "401", "{token}");
    }
    corp.world.verify();
}
