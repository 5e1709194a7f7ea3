//! kill -9 under load, again and again: nothing reaches an upstream without a durable intent, and nothing that was
//! acknowledged is lost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use writ_e2e::World;

/// How often the daemon is killed.
const KILLS: u32 = 200;
/// Clients at once.
const CLIENTS: u32 = 4;

/// Each request has a path of its own, so that evidence, forge and client can be compared. A client prints the path of
/// every request that was answered by the forge (which says 404 to these), and ends when there is a file `stop`.
const CLIENT: &str = r#"
for client in $(seq "$1"); do
  (n=0; while [ ! -e stop ]; do
    n=$((n + 1))
    code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 5 "https://echo.test/debug/c$client-$n")
    [ "$code" = 404 ] && echo "/debug/c$client-$n"
  done) &
done
wait"#;

#[test]
fn killed_two_hundred_times_under_load_nothing_is_missing() {
    let Some(mut world) = World::start("killed_two_hundred_times_under_load_nothing_is_missing") else {
        return;
    };
    let mut agent = world.host.agent("coder", ["sh", "-c", CLIENT, "sh", &CLIENTS.to_string()]);
    let mut child = agent.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answered = BTreeSet::new();

    let mut random = 0x5eed_u64;
    for kill in 0..KILLS {
        // A point under load chosen by a fixed seed: after so many answers, in the middle of others.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..=(random >> 33) % 12 {
            answered.insert(lines.next().unwrap_or_else(|| panic!("the run ended at kill {kill}")).unwrap());
        }
        world.host.kill();
        world.host.start();
    }
    drop(std::fs::File::create(world.host.home().join("stop")).unwrap());
    answered.extend(lines.map(Result::unwrap));
    assert!(child.wait().unwrap().success());
    world.record("session.ended", |body| body["cause"] == "exited");

    let intended: BTreeSet<String> = paths(&world.records("action.intended"));
    let reached: BTreeSet<String> = world
        .forge
        .access_log()
        .lines()
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("/debug/")).map(str::to_owned))
        .collect();
    let unrecorded: Vec<_> = reached.difference(&intended).collect();
    assert!(unrecorded.is_empty(), "reached the forge without an intent: {unrecorded:?}");
    let missing: Vec<_> = answered.difference(&intended).collect();
    assert!(missing.is_empty(), "answered, but the record is missing: {missing:?}");
    assert!(answered.len() > usize::try_from(KILLS).unwrap(), "there was load: {} answers", answered.len());
    assert_eq!(world.records("node.started").len(), usize::try_from(KILLS).unwrap() + 1);
    world.host.stop();
    world.verify();
}

fn paths(intents: &[serde_json::Value]) -> BTreeSet<String> {
    intents.iter().filter_map(|body| body.get("request")?.get("path")?.as_str().map(str::to_owned)).collect()
}
