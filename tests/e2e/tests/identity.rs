//! What a process is: attested, matched and pinned; and the identity that it can show to others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use writ_e2e::World;

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

fn sha256(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// A copy of a program that anybody may execute.
fn copy(world: &World, program: &str, to: &str) -> PathBuf {
    let path = world.host.path(to);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(program, &path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_hundred_starts_with_different_arguments_are_one_agent_and_a_hundred_runs() {
    let test = "a_hundred_starts_with_different_arguments_are_one_agent_and_a_hundred_runs";
    let digest = sha256(Path::new("/bin/true").canonicalize().unwrap().as_path());
    let matching = format!("owner = \"x\"\n[[match]]\nselectors = [\"exe:sha256:{digest}\"]\n");
    let Some(world) = World::configured(test, |host| host.configure("agents/worker.toml", &matching)) else {
        return;
    };
    for n in 0..100 {
        let argument = format!("--task={n}");
        world.host.run("worker", ["/bin/true", &argument, "as somebody else"]).ok();
    }
    let opened = world.records("session.opened");
    let each = |key: &str| opened.iter().map(|r| r["actor"][key].to_string()).collect::<HashSet<_>>();
    assert_eq!((opened.len(), each("agent").len(), each("run").len()), (100, 1, 100));
    assert_eq!(each("spiffe_id").len(), 100);
    assert!(opened.iter().all(|r| r["exe_sha256"] == digest.as_str()));
    world.verify();
}

#[test]
fn an_impostor_gets_nothing_and_is_on_record() {
    let test = "an_impostor_gets_nothing_and_is_on_record";
    let (curl, python) = ("/usr/bin/curl", "/usr/bin/python3");
    let digest = sha256(Path::new(curl).canonicalize().unwrap().as_path());
    let rules = format!("owner = \"x\"\n[[match]]\nselectors = [\"exe:sha256:{digest}\"]\n");
    let Some(world) = World::configured(test, |host| {
        host.configure("agents/worker.toml", &rules);
        host.configure("policies/worker.cedar", "@id(\"worker-reads\")\npermit (principal == Writ::Agent::\"worker\", action in Writ::Action::\"read\", resource);\n");
    }) else {
        return;
    };
    assert_eq!(world.host.run("worker", [curl, "-sS", ISSUES]).ok().trim(), "[]");
    // The same bytes under another name are the same program.
    let renamed = copy(&world, curl, "bin/renamed");
    assert_eq!(world.host.run("worker", [renamed.to_str().unwrap(), "-sS", ISSUES]).ok().trim(), "[]");

    // One byte more: another program, whatever its name and arguments.
    let changed = copy(&world, curl, "other/curl");
    let mut bytes = std::fs::read(&changed).unwrap();
    bytes.push(0);
    writ_host::durable::replace(&changed, &bytes, 0o755).unwrap();
    let impostors: [&[&str]; 3] = [
        &[changed.to_str().unwrap(), "-sS", ISSUES],
        &[python, "-c", "print('curl')"],
        &["sh", "-c", "exec -a curl /usr/bin/curl"],
    ];
    for argv in impostors {
        let refused = world.host.run("worker", argv.iter().copied());
        assert_eq!(refused.code, 2, "{}", refused.all());
        assert!(refused.stdout.is_empty() && refused.stderr.contains("exe:sha256"), "{}", refused.all());
        assert!(!refused.stderr.contains(&digest), "a value of a rule was told: {}", refused.stderr);
    }
    let refused = world.records("agent.refused");
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|r| r["agent"] == "worker" && r["uid"] == writ_testkit::AGENT_UID));
    assert_eq!(refused[0]["exe"], changed.to_str().unwrap());
    assert_eq!(world.records("session.opened").len(), 2);
    world.verify();
}

#[test]
fn what_was_trusted_on_first_use_is_held_when_it_changes_until_somebody_approves() {
    let test = "what_was_trusted_on_first_use_is_held_when_it_changes_until_somebody_approves";
    let Some(world) = World::configured(test, |host| {
        host.configure("agents/tool.toml", "owner = \"x\"\npin = \"first-use\"\n");
    }) else {
        return;
    };
    let tool = copy(&world, "/bin/true", "bin/tool");
    let tool = tool.to_str().unwrap();
    world.host.run("tool", [tool]).ok();
    world.host.run("tool", [tool, "again"]).ok();
    let first = world.records("agent.pinned");
    assert_eq!(first.len(), 1);
    assert!(first[0]["uid"].is_null());

    let other = std::fs::read("/bin/false").unwrap();
    writ_host::durable::replace(Path::new(tool), &other, 0o755).unwrap();
    let held = world.host.run("tool", [tool]);
    assert_eq!(held.code, 2, "{}", held.all());
    assert!(held.stderr.contains("writ agent approve"), "{}", held.stderr);
    let agents = world.host.json(["agent", "list"]);
    let row = agents[0]["agents"].as_array().unwrap().iter().find(|row| row["name"] == "tool").unwrap();
    let digest = row["held"][0].as_str().unwrap().to_owned();
    world.host.writ(["agent", "approve", "tool", digest.get(..12).unwrap()]).ok();
    assert_eq!(world.host.run("tool", [tool]).code, 1, "`false` runs now");
    assert_eq!(world.records("agent.pinned")[1]["uid"], 0);
    world.verify();
}

const SVID: &str = r#"
import os, sys
from spiffe import WorkloadApiClient
with WorkloadApiClient() as client:
    x509 = client.fetch_x509_svid()
    jwt = client.fetch_jwt_svid(audience={"peer"})
    checked = client.validate_jwt_svid(jwt.token, "peer")
    print(x509.spiffe_id, jwt.spiffe_id, checked.spiffe_id, os.environ["WRIT_SPIFFE_ID"])
"#;

#[test]
fn a_run_shows_its_own_identity_and_nobody_else_has_one() {
    let Some(world) = World::start("a_run_shows_its_own_identity_and_nobody_else_has_one") else { return };
    let python = writ_e2e::python();
    let python = python.to_str().unwrap();
    let shown = world.host.run("coder", [python, "-c", SVID]).ok();
    let ids: HashSet<&str> = shown.split_whitespace().collect();
    assert_eq!(ids.len(), 1, "{shown}");
    let opened = world.record("session.opened", |_| true);
    assert_eq!(opened["actor"]["spiffe_id"], *ids.iter().next().unwrap());

    let socket = format!("unix://{}", world.host.path("run/writ/workload.sock").display());
    let outside = Command::new(python)
        .args(["-c", SVID])
        .env("SPIFFE_ENDPOINT_SOCKET", socket)
        .env("WRIT_SPIFFE_ID", "none")
        .output()
        .unwrap();
    assert!(!outside.status.success());
    assert!(String::from_utf8_lossy(&outside.stderr).contains("PERMISSION_DENIED"));
    world.verify();
}

#[test]
fn a_sub_agent_has_a_run_of_its_own_and_at_most_what_its_parent_has() {
    let test = "a_sub_agent_has_a_run_of_its_own_and_at_most_what_its_parent_has";
    let Some(world) = World::configured(test, |host| {
        host.configure("agents/coder.toml", "owner = \"x\"\nmay_start = [\"helper\"]\n");
        host.configure("agents/helper.toml", "owner = \"x\"\n");
        host.configure("agents/other.toml", "owner = \"x\"\n");
        host.configure("policies/helper.cedar", "@id(\"helper-reads\")\npermit (principal == Writ::Agent::\"helper\", action in Writ::Action::\"read\", resource);\n");
    }) else {
        return;
    };
    let writ = writ_testkit::program("writ");
    let root = world.host.path("");
    let start = format!("{} --root {} run", writ.display(), root.display());
    let (site, other) = (ISSUES, "https://forge.test/api/repos/acme/other/issues");
    let script = format!(
        "set -e
        curl -sS {site} >/dev/null && echo parent
        {start} --agent helper -- curl -sS {site} >/dev/null && echo child
        {start} --agent helper -- curl -sSf {other} || echo child refused
        {start} --agent helper --grant forge:acme/none -- curl -sSf {site} || echo narrowed
        {start} --agent other -- true || echo not started
        curl -sS {site} >/dev/null && echo still there"
    );
    let mut command = world.host.as_user(["run", "--agent", "coder", "--grant", "forge:acme/site", "--"]);
    let ran: writ_testkit::Ran = command.args(["sh", "-c", &script]).output().unwrap().into();
    let said: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        said,
        ["parent", "child", "child refused", "narrowed", "not started", "still there"],
        "{}",
        ran.all()
    );

    let opened = world.records("session.opened");
    let parent = opened.iter().find(|r| r["actor"]["agent"] == "coder").unwrap();
    let children: Vec<_> = opened.iter().filter(|r| r["actor"]["agent"] == "helper").collect();
    assert_eq!((opened.len(), children.len()), (4, 3));
    for child in &children {
        assert_eq!(child["parents"][0], parent["actor"]["run"]);
        assert_eq!(child["actor"]["human"], parent["actor"]["human"]);
        assert_eq!(child["grants"][0][0], "forge:acme/site");
        assert!(child["expires_us"].as_u64() <= parent["expires_us"].as_u64());
    }
    let refused = world.records("action.refused");
    assert!(refused.iter().filter(|r| r["reason"] == "session.not_granted").count() >= 2, "{refused:?}");
    let path = &world
        .records("action.intended")
        .into_iter()
        .find(|r| r["actor"]["agent"] == "helper")
        .unwrap()["tool_path"];
    let kinds: Vec<_> = path.as_array().unwrap().iter().map(|hop| hop["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["human", "run", "run"], "{path}");
    world.verify();
}
