//! For whom: signing in at a real provider, being the human of a run, and no longer being it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use writ_e2e::disk::{self, Ballast};
use writ_e2e::provider::{Provider, TRANSMITTER, unix_seconds};
use writ_e2e::{World, repository};
use writ_testkit::{AGENT_UID, wait};

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";
/// The endpoints over TLS.
const HTTPS: &str = r#"
[identity]
jwt_issuer = "https://id.corp.test"
[workload.https]
listen = "127.0.0.1:8543"
spiffe_id = "spiffe://corp.test/writ/web"
[[tokens.audience]]
audience = "https://api.test"
scopes = ["read"]
[[tokens.audience]]
audience = "corp.test"
scopes = ["read"]
"#;

/// A world whose people sign in at a provider.
struct Corp {
    world: World,
    provider: Provider,
}

impl Corp {
    fn start(test: &str) -> Option<Self> {
        let mut provider = None;
        let world = World::configured(test, |host| {
            let started = Provider::start();
            host.configure("writd.toml", &started.settings(host, HTTPS));
            host.configure("policies/world.cedar", POLICY);
            provider = Some(started);
        })?;
        Some(Self { world, provider: provider.unwrap() })
    }

    /// Signs the agents' user in from a device, as `user`; what `writ login` printed.
    fn sign_in(&self, user: &str) -> String {
        let out = self.try_sign_in(user);
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn try_sign_in(&self, user: &str) -> Output {
        let mut login = self.world.host.as_user(["login", "--device"]);
        let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut asked = String::new();
        BufReader::new(login.stderr.as_mut().unwrap()).read_line(&mut asked).unwrap();
        let words: Vec<&str> = asked.split_whitespace().collect();
        let (url, code) = (words[2], words[7]);
        browse(&[url, user, code]);
        login.wait_with_output().unwrap()
    }

    fn human(&self, user: &str) -> String {
        format!("oidc:{}#{user}", self.provider.url)
    }

    /// Nothing that the agent could do would be permitted for the human, so not even the name is told.
    fn is_nobody(&self) {
        let refused = self.world.host.run("coder", ["curl", "-sS", ISSUES]);
        assert_eq!(refused.code, 6, "{}", refused.all());
    }

    /// A program that streams until somebody cuts it; its first piece has come.
    fn stream(&self) -> Child {
        let mut agent = self.world.host.agent("coder", ["curl", "-sSN", "https://echo.test/debug/slow"]);
        let mut child = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0u8; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"tick\n");
        child
    }
}

const POLICY: &str = r#"
@id("coder-reads")
permit (principal == Writ::Agent::"coder", action in Writ::Action::"read", resource);
@id("engineers-read")
permit (principal in Writ::Group::"corp:engineering", action in Writ::Action::"read", resource);
"#;

fn browse(arguments: &[&str]) -> String {
    let script = repository("tests/e2e/tests/people/browser.py");
    let out = Command::new("python3").arg(script).args(arguments).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn who_signed_in_is_the_human_of_the_runs_that_they_start() {
    let Some(corp) = Corp::start("who_signed_in_is_the_human_of_the_runs_that_they_start") else { return };
    let host = &corp.world.host;
    // Known by the login on this host alone, they are in no group that may read.
    corp.is_nobody();

    let said = corp.sign_in("alice");
    assert!(said.starts_with(&format!("{} (Alice Example)", corp.human("alice"))), "{said}");
    assert_eq!(host.run("coder", ["curl", "-sS", ISSUES]).ok().trim(), "[]");
    let opened = corp.world.record("session.opened", |r| r["display"] == "Alice Example");
    assert_eq!(opened["actor"]["human"], corp.human("alice"));
    assert_eq!(opened["uid"], AGENT_UID);

    // Nobody else's login is hers: root has not signed in.
    let root = host.json(["whoami"]);
    assert_eq!((root[0]["human"].as_str(), root[0]["issuer"].is_null()), (Some("unix:root"), true));

    // It survives a restart, and a sign-out ends it, at the issuer too.
    let mut corp = corp;
    corp.world.host.stop();
    corp.world.host.start();
    let out: writ_testkit::Ran = corp.world.host.as_user(["whoami"]).output().unwrap().into();
    assert!(out.ok().starts_with(&corp.human("alice")));
    let out: writ_testkit::Ran = corp.world.host.as_user(["logout"]).output().unwrap().into();
    assert!(out.ok().contains("is signed out"));
    assert!(corp.provider.count("/token/revocation") >= 1);
    corp.is_nobody();
    corp.world
        .record("human.signed_out", |r| r["cause"] == "signed_out" && r["human"] == corp.human("alice"));
    corp.world.verify();
}

#[test]
fn a_browser_signs_in_whoever_began_and_a_query_of_another_login_signs_in_nobody() {
    let test = "a_browser_signs_in_whoever_began_and_a_query_of_another_login_signs_in_nobody";
    let Some(corp) = Corp::start(test) else { return };
    let begin = || {
        let mut login = corp.world.host.as_user(["login"]);
        let mut child = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
        let url = lines.nth(1).unwrap().unwrap().trim().to_owned();
        (child, url)
    };
    let (child, url) = begin();
    assert!(url.contains("code_challenge_method=S256") && url.contains("nonce="), "{url}");
    let page = browse(&[&url, "bob"]);
    assert!(page.contains("Signed in"), "{page}");
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stdout).starts_with(&corp.human("bob")));

    // Another login gets the query of a third one: its state is not this login's.
    let (child, url) = begin();
    let port = url.split("127.0.0.1%3A").nth(1).unwrap().split("%2F").next().unwrap();
    let forged = format!(
        "http://127.0.0.1:{port}/callback?code=stolen&state=somebody-elses&iss={}",
        corp.provider.url
    );
    let answer = Command::new("curl").args(["-sS", &forged]).output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("failed"), "{answer:?}");
    let out = child.wait_with_output().unwrap();
    assert!(!out.status.success());
    assert_eq!(corp.world.records("human.signed_in").len(), 1);
    corp.world.verify();
}

#[test]
fn a_sign_in_that_cannot_be_recorded_does_not_stand() {
    let Some(mut corp) = Corp::start("a_sign_in_that_cannot_be_recorded_does_not_stand") else { return };
    corp.sign_in("alice");
    disk::shrink(&mut corp.world);
    let ballast = Ballast::drop_in(&corp.world);
    let out = corp.try_sign_in("alice");
    assert!(!out.status.success(), "{out:?}");
    ballast.remove();
    let who = || corp.world.host.as_user(["whoami"]).output().unwrap();
    assert!(String::from_utf8_lossy(&who().stdout).contains("not signed in"), "{:?}", who());
    let signed_in = || corp.world.records("human.signed_in").len();
    assert_eq!(signed_in(), 1);
    wait::until("there is room again", || corp.try_sign_in("alice").status.success().then_some(()));
    assert!(signed_in() == 2 && String::from_utf8_lossy(&who().stdout).starts_with(&corp.human("alice")));
    corp.world.host.stop();
    corp.world.verify();
}

#[test]
fn a_signal_about_a_human_cuts_their_live_stream() {
    let Some(corp) = Corp::start("a_signal_about_a_human_cuts_their_live_stream") else { return };
    corp.sign_in("alice");
    let mut child = corp.stream();
    let claims = json!({
        "iss": TRANSMITTER, "aud": "writ-node", "iat": unix_seconds(), "jti": "1",
        "sub_id": { "format": "iss_sub", "iss": corp.provider.url, "sub": "alice" },
        "events": { "https://schemas.openid.net/secevent/risc/event-type/account-disabled": { "reason": "hijacking" } },
    });
    let set = corp.provider.sign("RS256", &json!({ "typ": "secevent+jwt" }), &claims);
    let mut push = Command::new("curl")
        .args([
            "-sSk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "content-type: application/secevent+jwt",
        ])
        .args(["--data-binary", "@-", "https://127.0.0.1:8543/signals"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    let began = Instant::now();
    push.stdin.take().unwrap().write_all(set.as_bytes()).unwrap();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    let last_byte = began.elapsed();
    assert!(!child.wait().unwrap().success() && rest.lines().count() < 400, "cut, not finished");
    let answer = push.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "202");
    println!("from the transmitter's first byte to the stream's last: {} ms", last_byte.as_millis());
    assert!(last_byte < Duration::from_secs(5), "{last_byte:?}");

    let receipt = corp.world.record("action.closed", |r| r["outcome"] == "cut");
    assert_eq!(receipt["reason"], "session.signed_out");
    corp.world.record("session.ended", |r| r["cause"] == "signed-out");
    corp.world.record("human.signal", |r| r["event"] == "account-disabled");
    // And nothing new: the sign-in is gone.
    corp.is_nobody();
    corp.world.verify();
}

#[test]
fn revoking_a_human_cuts_every_session_of_theirs_and_no_other() {
    let Some(corp) = Corp::start("revoking_a_human_cuts_every_session_of_theirs_and_no_other") else {
        return;
    };
    corp.sign_in("alice");
    let (mut one, mut two) = (corp.stream(), corp.stream());
    let human = corp.human("alice");
    let revoked = corp.world.host.json(["revoke", "human", &human]);
    assert_eq!(revoked[0]["sessions"].as_array().unwrap().len(), 2);
    for child in [&mut one, &mut two] {
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert!(!child.wait().unwrap().success());
    }
    let ordered = corp.world.record("revocation.ordered", |_| true);
    assert_eq!((ordered["by"].as_str(), ordered["sessions"].as_u64()), (Some("uid:0"), Some(2)));
    assert_eq!(ordered["target"], format!("human:{human}"));
    let who = corp.world.host.as_user(["whoami"]).output().unwrap();
    assert!(String::from_utf8_lossy(&who.stdout).contains("not signed in"), "{who:?}");
    corp.world.verify();
}

/// A run exchanges what its human's session is worth, on the socket where the kernel says who asks.
const EXCHANGE: &str = r#"
import json, os, subprocess, sys
socket = os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://")
def post(path, fields):
    command = ["curl", "-sS", "--http2-prior-knowledge", "--unix-socket", socket, "-H", "workload.spiffe.io: true"]
    for name, value in fields.items():
        command += ["--data-urlencode", f"{name}={value}"]
    return json.loads(subprocess.check_output(command + [f"http://localhost{path}"]))
urn = "urn:ietf:params:oauth:token-type:"
human, audience, how = sys.argv[1:4]
token = post("/token", {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": audience, "scope": "read",
    "subject_token": human if how == "jwt" else json.dumps({"sub": human}),
    "subject_token_type": urn + ("access_token" if how == "jwt" else "unsigned_json"),
    "requested_token_type": urn + ("access_token" if audience.startswith("https") else "txn_token"),
})
print(json.dumps(token), flush=True)
sys.stdin.readline()
"#;

#[test]
fn a_run_gets_tokens_for_its_human_that_others_can_check_and_that_die_with_the_session() {
    let test = "a_run_gets_tokens_for_its_human_that_others_can_check_and_that_die_with_the_session";
    let Some(corp) = Corp::start(test) else { return };
    corp.sign_in("alice");
    let alice = corp.human("alice");
    let ask = |human: &str, audience: &str, how: &str| {
        let mut command = corp.world.host.agent("coder", ["python3", "-c", EXCHANGE, human, audience, how]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, serde_json::from_str::<serde_json::Value>(&line).unwrap())
    };
    let end = |mut child: Child| {
        drop(child.stdin.take());
        child.wait().unwrap();
    };
    // A human whose session it is not, and an audience that is not listed.
    let (child, refused) = ask(&corp.human("bob"), "https://api.test", "named");
    assert_eq!(refused["error"], "invalid_grant", "{refused}");
    end(child);
    let (child, refused) = ask(&alice, "https://other.test", "named");
    assert_eq!(refused["error"], "invalid_target", "{refused}");
    end(child);

    // The provider's own token of another human, and one that is meant for somebody else.
    for token in [
        corp.provider.access_token("bob", "https://id.corp.test"),
        corp.provider.access_token("alice", "https://elsewhere.test"),
    ] {
        let (child, refused) = ask(&token, "https://api.test", "jwt");
        assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("invalid_")), "{refused}");
        end(child);
    }
    let token = corp.provider.access_token("alice", "https://id.corp.test");
    let (child, exchanged) = ask(&token, "https://api.test", "jwt");
    assert_eq!(
        (&exchanged["token_type"], &exchanged["scope"]),
        (&"Bearer".into(), &"read".into()),
        "{exchanged}"
    );
    end(child);
    // What names no scope is worth none.
    let token = corp.provider.access_token_for("alice", "https://id.corp.test", &json!({ "scope": null }));
    let (child, refused) = ask(&token, "https://api.test", "jwt");
    assert_eq!(refused["error"], "invalid_scope", "{refused}");
    end(child);

    let (first, access) = ask(&alice, "https://api.test", "named");
    let (second, txn) = ask(&alice, "corp.test", "named");
    let keys = curl(&["https://127.0.0.1:8543/keys"]);
    let opened = corp.world.records("session.opened");
    let runs: Vec<_> = opened.iter().map(|r| r["actor"]["spiffe_id"].as_str().unwrap()).collect();
    let [.., first_run, second_run] = runs[..] else { panic!("{runs:?}") };
    for (issued, typ, run) in [(&access, "at+jwt", first_run), (&txn, "txntoken+jwt", second_run)] {
        let token = issued["access_token"].as_str().unwrap_or_else(|| panic!("{issued}"));
        let said = checked(&keys, token);
        assert_eq!(
            (said["header"]["typ"].as_str(), said["claims"]["sub"].as_str()),
            (Some(typ), Some(alice.as_str()))
        );
        assert_eq!(said["claims"]["act"]["sub"], run, "{said}");
    }
    assert_eq!(
        corp.world.records("identity.issued").iter().filter(|r| r["form"] == "access-token").count(),
        2
    );
    corp.world.host.json(["revoke", "human", &alice]);
    for child in [first, second] {
        end(child);
    }
    corp.world.verify();
}

/// What `joserfc` makes of a token: its header and claims, if the signature is that of one of the keys.
fn checked(keys: &str, token: &str) -> serde_json::Value {
    const CHECK: &str = "import json,sys\nfrom joserfc import jwt\nfrom joserfc.jwk import KeySet\n\
        t=jwt.decode(sys.argv[2], KeySet.import_key_set(json.loads(sys.argv[1])))\n\
        print(json.dumps({'header': t.header, 'claims': t.claims}))";
    let out = Command::new(writ_e2e::python()).args(["-c", CHECK, keys, token]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn curl(arguments: &[&str]) -> String {
    let out = Command::new("curl").args(["-sSk"]).args(arguments).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}
