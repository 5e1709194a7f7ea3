//! G1: the planted secret is in no memory, environment, file, log line or response that an agent can reach.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use writ_e2e::World;

/// Uses the credential in every way there is, then waits, so that its memory can be searched.
const AGENT: &str = "
set -e
git clone -q https://forge.test/acme/site.git work
curl -sS https://forge.test/api/repos/acme/site/issues
for form in echo split gzip deflate; do curl -sS --compressed -D - https://echo.test/debug/$form; done
curl -sS -o /dev/null -D - https://echo.test/debug/redirect
env
echo done
exec cat >/dev/null";

#[test]
fn the_planted_secret_is_nowhere_that_the_agent_can_look() {
    let Some(world) = World::start("the_planted_secret_is_nowhere_that_the_agent_can_look") else { return };
    let mut agent = world.host.agent("coder", ["sh", "-c", AGENT]);
    let mut child =
        agent.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        seen.push_str(&line);
        seen.push('\n');
        if line == "done" {
            break;
        }
    }
    assert!(seen.contains("you sent: "), "the echo answered:\n{seen}");
    world.assert_clean("a response", seen.as_bytes());

    let pids = run_processes(&world);
    assert!(!pids.is_empty());
    for pid in pids {
        let (bytes, regions) = memory(pid);
        assert!(regions > 5, "the memory of {pid} was readable to the test");
        world.assert_clean(&format!("the memory of {pid}"), &bytes);
        world.assert_clean("the environment", &std::fs::read(format!("/proc/{pid}/environ")).unwrap());
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());

    for (path, bytes) in world.host.written_down() {
        world.assert_clean(&path.display().to_string(), &bytes);
    }
    let closed = world.records("action.closed");
    let echoed = closed.iter().filter(|r| r["lease_fate"] == "echoed").count();
    assert_eq!(echoed, 5, "each echo was found and recorded");
    let log = world.host.writ(["log"]).all();
    world.assert_clean("writ log", log.as_bytes());
}

#[test]
fn an_agents_own_credential_does_not_travel() {
    let Some(world) = World::start("an_agents_own_credential_does_not_travel") else { return };
    let headers =
        ["Authorization: Bearer mine", "X-Api-Key: mine", "Cookie: sid=mine", "X-Forwarded-For: 1.2.3.4"];
    let mut argv = vec!["curl", "-sS", "https://echo.test/debug/echo"];
    for header in headers {
        argv.extend(["-H", header]);
    }
    let out = world.host.run("coder", argv).ok();
    assert!(!out.contains("mine") && !out.contains("1.2.3.4"), "{out}");
}

/// Every process in the one run there is.
fn run_processes(world: &World) -> Vec<u32> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let cgroup2 =
        mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2")).unwrap().split(' ').nth(1).unwrap();
    let runs = std::path::Path::new(cgroup2).join(world.host.cgroup_name()).join("run");
    let procs = std::fs::read_dir(runs).unwrap().flatten().filter(|e| e.path().is_dir());
    let lists = procs.map(|run| std::fs::read_to_string(run.path().join("cgroup.procs")).unwrap());
    lists.flat_map(|list| list.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

/// All readable memory of a process, and how many regions there were.
fn memory(pid: u32) -> (Vec<u8>, usize) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mem = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let (mut all, mut regions) = (Vec::new(), 0);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with('r'))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0u8; usize::try_from(end - start).unwrap()];
        if mem.read_at(&mut bytes, start).is_ok() {
            all.extend(bytes);
            regions += 1;
        }
    }
    (all, regions)
}
