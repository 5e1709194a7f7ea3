//! What a governed program may not do does not happen, and is written down.

use writ_e2e::World;

#[test]
fn an_unlisted_host_is_not_even_resolved() {
    let Some(world) = World::start("an_unlisted_host_is_not_even_resolved") else { return };
    let ran = world.host.run("coder", ["curl", "-sS", "--max-time", "5", "https://collector.evil.test/"]);
    assert_eq!(ran.code, 6, "curl cannot resolve: {}", ran.stderr);
    let lookup = world.record("connection.refused", |r| r["transport"] == "dns");
    assert_eq!(lookup["reason"], "capture.name_refused");
    assert_eq!(lookup["destination"], "collector.evil.test");
    assert_eq!(lookup["actor"]["agent"], "coder");
}

#[test]
fn a_literal_address_is_refused_in_the_kernel() {
    let Some(world) = World::start("a_literal_address_is_refused_in_the_kernel") else { return };
    for url in [
        "http://203.0.113.9/",
        "https://203.0.113.9/",
        "http://[2001:db8::9]/",
        "http://[::ffff:203.0.113.9]/",
    ] {
        let ran = world.host.run("coder", ["curl", "-sS", "-k", "--max-time", "5", url]);
        assert_eq!(ran.code, 7, "{url}: {}", ran.stderr);
    }
    // The forge itself, around the relay.
    let direct = format!("https://{}/api/health", world.forge.address());
    assert_eq!(world.host.run("coder", ["curl", "-sSk", "--max-time", "5", &direct]).code, 7);
    let refused = world.records("connection.refused");
    assert!(
        refused
            .iter()
            .any(|r| r["reason"] == "capture.unknown_destination" && r["destination"] == "203.0.113.9:80")
    );
}

#[test]
fn deleting_needs_the_agents_key_too() {
    let Some(world) = World::start("deleting_needs_the_agents_key_too") else { return };
    let url = "https://forge.test/api/repos/acme/site";
    let out = world.host.run("coder", ["curl", "-sS", "-X", "DELETE", "-w", "%{http_code}", url]).ok();
    assert!(out.ends_with("403") && out.contains("policy.agent_forbidden"), "{out}");
    assert!(world.forge.repository().exists());
    let refused = world.record("action.refused", |_| true);
    assert_eq!(refused["reason"], "policy.agent_forbidden");
    assert_eq!(refused["keys"]["agent"]["policies"][0], "no-agent-deletes");
    assert_eq!(refused["keys"]["human"]["permitted"], true, "the human alone may");
    assert_eq!(refused["request"]["operation"], "forge/repo.delete");
    let why = world.host.writ(["why", refused["action"].as_str().unwrap()]).ok();
    assert!(why.contains("no-agent-deletes") && why.contains("coder"), "{why}");
}

#[test]
fn an_unknown_operation_is_refused() {
    let Some(world) = World::start("an_unknown_operation_is_refused") else { return };
    for path in [
        "/api/health",
        "/acme/site.git/config",
        "/api/repos/acme/site/../site/issues",
        "/api//repos/a/b/issues",
    ] {
        let url = format!("https://forge.test{path}");
        let out = world.host.run("coder", ["curl", "-sS", "--path-as-is", "-w", "%{http_code}", &url]).ok();
        assert!(out.ends_with("403") || out.ends_with("400"), "{path}: {out}");
    }
    assert_eq!(world.records("action.refused").len(), 4);
    assert_eq!(world.records("action.intended").len(), 0);
}

#[test]
fn twelve_runs_with_varying_arguments_are_one_agent() {
    let Some(world) = World::start("twelve_runs_with_varying_arguments_are_one_agent") else { return };
    for n in 0..12 {
        world.host.run("coder", ["sh", "-c", "exit 0", &format!("argument-{n}")]).ok();
    }
    let opened = world.records("session.opened");
    let agents: std::collections::BTreeSet<_> =
        opened.iter().map(|r| r["actor"]["agent"].to_string()).collect();
    let runs: std::collections::BTreeSet<_> =
        opened.iter().map(|r| r["actor"]["spiffe_id"].to_string()).collect();
    assert_eq!((agents.len(), runs.len()), (1, 12));
    assert_eq!(world.records("session.ended").len(), 12, "each ended with its last process");
}

#[test]
fn exit_code_and_signals_are_the_programs_own() {
    let Some(world) = World::start("exit_code_and_signals_are_the_programs_own") else { return };
    assert_eq!(world.host.run("coder", ["sh", "-c", "exit 42"]).code, 42);
    assert_eq!(world.host.run("coder", ["sh", "-c", "kill -TERM $$"]).code, -1);
    let missing = world.host.run("coder", ["/no/such/program"]);
    assert!(missing.code != 0 && missing.stderr.contains("/no/such/program"), "{missing:?}");
}

#[test]
fn what_is_observed_is_done_and_recorded_with_what_it_would_have_been_refused_for() {
    let test = "what_is_observed_is_done_and_recorded_with_what_it_would_have_been_refused_for";
    let trial = "owner = \"x\"\nmode = \"observe\"\n";
    let Some(world) = World::configured(test, |host| host.configure("agents/trial.toml", trial)) else {
        return;
    };
    let issues = "https://forge.test/api/repos/acme/site/issues";
    // No policy speaks of this agent, so its own key never turns.
    assert_eq!(world.host.run("trial", ["curl", "-sS", issues]).ok(), "[]\n");
    let intended = world.record("action.intended", |_| true);
    assert_eq!(intended["observed"], "policy.agent_not_permitted");
    assert_eq!(intended["keys"]["agent"]["permitted"], false);
    let why = world.host.writ(["why", intended["action"].as_str().unwrap()]).ok();
    assert!(why.contains("observed only") && !why.contains("It was permitted"), "{why}");
    let started = world.record("node.started", |_| true);
    assert!(started["dangers"].to_string().contains("agent trial: observe"), "{started}");

    // Only policy is observed: what is no operation is refused, and nobody else is let do more.
    let odd = ["curl", "-sS", "-w", "%{http_code}", "https://forge.test/api/health"];
    assert!(world.host.run("trial", odd).ok().ends_with("403"));
    let delete =
        ["curl", "-sS", "-X", "DELETE", "-w", "%{http_code}", "https://forge.test/api/repos/acme/site"];
    assert!(world.host.run("coder", delete).ok().ends_with("403"));
    world.host.configure("agents/trial.toml", "owner = \"x\"\n");
    world.host.writ(["reload"]).ok();
    assert_eq!(world.host.run("trial", ["curl", "-sS", issues]).code, 6, "not even the name is told");

    // A service may be observed for all who use it.
    let forge = std::fs::read_to_string(world.host.path("etc/writ/services/forge.toml")).unwrap();
    world.host.configure("services/forge.toml", &format!("mode = \"observe\"\n{forge}"));
    world.host.writ(["reload"]).ok();
    assert!(!world.host.run("coder", delete).ok().ends_with("403"));
    let deleted = world.record("action.intended", |r| r["request"]["operation"] == "forge/repo.delete");
    assert_eq!(deleted["observed"], "policy.agent_forbidden");
    world.verify();
}
