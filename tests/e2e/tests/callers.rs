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
    // The record says enough of callers' sessions to ask all of it again.
    let replayed = corp.world.host.writ(["policy", "replay"]).ok();
    assert!(replayed.contains("0 would be refused, 0 would be permitted"), "{replayed}");
    assert!(!replayed.contains("not replayed"), "{replayed}");
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

const CALLED: &str = r#"
name = "api"
hosts = ["api.test"]
ports = [443]
protocol = "https"
[upstream]
address = "127.0.0.1:8601"
spiffe = "agent:service"
[[operation]]
name = "issues.list"
effect = "read"
methods = ["GET"]
path = "/api/repos/{owner}/{repo}/issues"
"#;

const CALLEE: &str = "owner = \"x\"\nacts_for = \"caller\"\n[[serve]]\nlisten = \"127.0.0.1:8601\"\nto = 8700\n\
    tls = \"spiffe\"\nagents = [\"agent:coder\"]\n";

const AMONG_AGENTS: &str = r#"
@id("agents-read")
permit (principal is Writ::Agent, action in Writ::Action::"read", resource);
@id("humans-read")
permit (principal is Writ::Human, action in Writ::Action::"read", resource);
@id("nothing-of-other-for-the-coder")
forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.list", resource)
when { context.session.chain.contains(Writ::Agent::"coder") && context.args.repo == "other" };
"#;

#[test]
fn runs_call_each_other_by_their_identities_without_knowing_it() {
    let test = "runs_call_each_other_by_their_identities_without_knowing_it";
    let Some(world) = World::configured(test, |host| {
        host.configure("agents/service.toml", CALLEE);
        host.configure("agents/stranger.toml", "owner = \"x\"\n");
        host.configure("services/api.toml", CALLED);
        host.configure("policies/world.cedar", AMONG_AGENTS);
    }) else {
        return;
    };
    let script = repository("tests/e2e/tests/people/service.py");
    let argv = ["/usr/bin/python3", script.to_str().unwrap(), "8700", "https://forge.test", "token"];
    let mut service = world.host.agent("service", argv);
    let _service = Service(service.stdin(Stdio::piped()).spawn().unwrap());
    let ask = |agent: &str, repo: &str| {
        let url = format!("https://api.test/api/repos/acme/{repo}/issues");
        world.host.run(agent, ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", &url]).stdout
    };
    wait::until("the callee listens", || (ask("coder", "site") == "200").then_some(()));
    assert_eq!(ask("coder", "other"), "403", "the callee's policy sees who called");
    assert_ne!(ask("stranger", "site"), "200", "an agent that the callee's file does not name");

    let opened = world.records("session.opened");
    let run_of =
        |agent: &str| opened.iter().rfind(|r| r["actor"]["agent"] == agent).unwrap()["actor"]["run"].clone();
    let refused = world.record("action.refused", |r| r["actor"]["agent"] == "service");
    assert_eq!(refused["reason"], "policy.agent_forbidden");
    let acted = world.record("action.intended", |r| r["actor"]["agent"] == "service");
    assert_eq!(acted["actor"]["human"], "unix:4242");
    assert_eq!(acted["actor"]["run"], run_of("service"));
    let runs: Vec<_> = acted["tool_path"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|hop| hop["kind"] == "run")
        .map(|hop| hop["name"].clone())
        .collect();
    assert_eq!(runs.len(), 2, "caller, then callee: {acted}");
    assert_eq!(runs[1], run_of("service"));
    // From outside, without an identity: not even a handshake.
    let outside = Command::new("curl").args(["-sSk", "-m", "5", "https://127.0.0.1:8601/"]).output().unwrap();
    assert!(!outside.status.success(), "{outside:?}");
    world.verify();
}
