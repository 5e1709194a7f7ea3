//! Restart, revocation, reload, broken logs and full disks: what the operator does, and what must hold meanwhile.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use writ_e2e::World;
use writ_e2e::disk::{self, Ballast};
use writ_testkit::wait;

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

#[test]
fn a_run_outlives_a_restart_and_trusts_the_same_ca() {
    let Some(mut world) = World::start("a_run_outlives_a_restart_and_trusts_the_same_ca") else { return };
    let script =
        format!("set -e; curl -sS {ISSUES}; echo; echo first; read line; curl -sS {ISSUES}; echo second");
    let mut agent = world.host.agent("coder", ["sh", "-c", &script]);
    let mut child = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap() == "first").unwrap().unwrap();

    world.host.kill();
    world.host.start();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest, ["[]", "second"]);
    let started = world.records("node.started").len();
    assert_eq!((started, world.records("node.stopped").len()), (2, 0), "the crash is visible");
    world.verify();
}

#[test]
fn while_the_daemon_is_down_a_run_reaches_nothing() {
    let Some(mut world) = World::start("while_the_daemon_is_down_a_run_reaches_nothing") else { return };
    // Tries everything once the daemon is gone; each try is bounded and says what came of it.
    let script = format!(
        "curl -sS -o /dev/null {ISSUES} && echo up; read line
        curl -s -o /dev/null --max-time 2 {ISSUES} && echo reached
        curl -sk -o /dev/null --max-time 2 https://{}/api/health && echo reached
        curl -s -o /dev/null --max-time 2 http://203.0.113.9/ && echo reached
        getent hosts echo.test && echo reached
        echo end",
        world.forge.address()
    );
    let mut agent = world.host.agent("coder", ["sh", "-c", &script]);
    let mut child = agent.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    let before = world.forge.access_log().lines().count();

    world.host.kill();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["end"]);
    assert!(child.wait().unwrap().success());
    assert_eq!(world.forge.access_log().lines().count(), before);
    world.host.start();
    world.record("session.ended", |r| r["cause"] == "exited");
    world.verify();
}

#[test]
fn revoking_a_session_cuts_its_live_connection() {
    let Some(world) = World::start("revoking_a_session_cuts_its_live_connection") else { return };
    let mut agent = world.host.agent("coder", ["curl", "-sSN", "https://echo.test/debug/slow"]);
    let mut child = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0u8; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"tick\n");

    let session = world.records("session.opened")[0]["actor"]["session"].as_str().unwrap().to_owned();
    world.host.writ(["revoke", "session", &session]).ok();
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.lines().count() < 400, "the stream was cut, not finished");
    assert!(!child.wait().unwrap().success());
    let receipt = world.record("action.closed", |_| true);
    assert_eq!(
        (receipt["outcome"].as_str(), receipt["reason"].as_str()),
        (Some("cut"), Some("session.revoked"))
    );
    assert_eq!(world.record("session.ended", |_| true)["cause"], "revoked");
    world.verify();
}

#[test]
fn a_bad_configuration_is_refused_whole_and_the_old_one_stays() {
    let Some(world) = World::start("a_bad_configuration_is_refused_whole_and_the_old_one_stays") else {
        return;
    };
    let refused = |parts: &[&str]| {
        let refused = world.host.writ(["reload"]);
        assert_eq!(refused.code, 3, "{refused:?}");
        for part in parts {
            assert!(refused.stderr.contains(part), "{part} is missing in:\n{}", refused.stderr);
        }
    };
    let policy = "permit (principal, action == Writ::Action::\"forge/no.such\", resource);";
    world.host.configure("policies/bad.cedar", policy);
    world.host.configure("agents/worse.toml", "owner = \"x\"\nttl_max = 30\n");
    refused(&["bad.cedar:1", "worse.toml:2", "length of time"]);
    // Policies are checked against the services, so theirs come again once those are good.
    world.host.configure("services/extra.toml", "name = \"extra\"\nhosts = [\"extra.test\"]\nport = [443]\n");
    refused(&["extra.toml:3", "did you mean `ports`", "worse.toml:2"]);
    assert_eq!(world.host.run("coder", ["curl", "-sS", ISSUES]).ok(), "[]\n", "the old set is in force");

    for file in ["services/extra.toml", "policies/bad.cedar", "agents/worse.toml"] {
        std::fs::remove_file(world.host.path("etc/writ").join(file)).unwrap();
    }
    world.host.configure("policies/world.cedar", "// nobody may do anything\n");
    world.host.writ(["reload"]).ok();
    let out = world.host.run("coder", ["curl", "-sS", "--max-time", "5", ISSUES]);
    assert_ne!(out.code, 0, "an empty policy permits nothing: {out:?}");
    assert_eq!(world.records("config.refused").len(), 2);
    world.verify();
}

#[test]
fn a_broken_log_is_named_and_the_daemon_refuses_to_start() {
    let Some(mut world) = World::start("a_broken_log_is_named_and_the_daemon_refuses_to_start") else {
        return;
    };
    world.host.run("coder", ["curl", "-sS", ISSUES]).ok();
    world.host.stop();
    world.verify();
    let bundle = entries(&world.host.path("var/lib/writ/evidence/tile/entries"));
    let mut bytes = std::fs::read(&bundle).unwrap();
    let at = bytes.windows(5).position(|w| w == b"coder").unwrap();
    bytes[at] = b'k';
    std::io::Write::write_all(&mut std::fs::File::create(&bundle).unwrap(), &bytes).unwrap();

    let verify = world.host.writ(["verify"]);
    assert_eq!(verify.code, 1, "{verify:?}");
    assert!(verify.all().contains("leaf"), "{verify:?}");
    let writd = Command::new(writ_testkit::host::program("writd"))
        .arg("--root")
        .arg(world.host.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&writd.stderr);
    assert!(!writd.status.success() && said.contains("writ verify"), "{said}");
}

/// The first entry bundle; of one that grew, the newest: older partial ones count for nothing.
fn entries(folder: &std::path::Path) -> std::path::PathBuf {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    let leaves = |path: &std::path::PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    paths.sort_by_key(|path| (path.is_dir(), std::cmp::Reverse(leaves(path)), path.clone()));
    let first = paths.swap_remove(0);
    if first.is_dir() { entries(&first) } else { first }
}

#[test]
fn a_full_disk_refuses_actions_loses_nothing_and_heals() {
    let Some(mut world) = World::start("a_full_disk_refuses_actions_loses_nothing_and_heals") else { return };
    disk::shrink(&mut world);
    assert_eq!(world.host.run("coder", ["curl", "-sS", ISSUES]).ok(), "[]\n");

    let before = world.forge.access_log().lines().count();
    let ballast = Ballast::drop_in(&world);
    let reached = world.forge.access_log().lines().count() - before;

    ballast.remove();
    wait::until("service resumes", || {
        (world.host.run("coder", ["curl", "-sS", ISSUES]).stdout == "[]\n").then_some(())
    });
    let closed = world.records("action.closed").iter().filter(|r| r["outcome"] == "completed").count();
    assert!(closed > reached, "every request that reached the forge has its receipt: {closed} > {reached}");
    world.host.stop();
    world.verify();
}
