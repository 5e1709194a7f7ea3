//! What was recorded is asked again before a policy is in force.

use serde_json::Value;
use writ_e2e::World;

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

/// The world's, but for the agent's writing; and the human's key asks for a group, which the record must tell.
const NARROWER: &str = r#"
@id("coder-reads")
permit (principal == Writ::Agent::"coder", action in Writ::Action::"read", resource);
@id("humans-read-and-write")
permit (principal is Writ::Human, action in [Writ::Action::"read", Writ::Action::"write", Writ::Action::"delete"], resource);
@id("nobody-of-that-group")
forbid (principal in Writ::Group::"unix:no-such-group", action, resource);
@id("no-agent-deletes")
forbid (principal is Writ::Agent, action in Writ::Action::"delete", resource);
"#;

#[test]
fn a_narrower_policy_is_tried_on_what_was_recorded_before_it_bites() {
    let Some(world) = World::start("a_narrower_policy_is_tried_on_what_was_recorded_before_it_bites") else {
        return;
    };
    let ask = |arguments: &[&str]| {
        let fixed = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"];
        world.host.run("coder", [&fixed[..], arguments].concat()).ok()
    };
    assert_eq!(ask(&[ISSUES]), "200");
    let json = "Content-Type: application/json";
    assert_eq!(ask(&["-H", json, "-d", r#"{"title":"a bug","labels":["ui"]}"#, ISSUES]), "201");
    assert_eq!(ask(&["-X", "DELETE", "https://forge.test/api/repos/acme/site"]), "403");
    assert_eq!(ask(&["https://forge.test/api/health"]), "403");
    world.record("action.refused", |refused| refused["keys"].is_null());
    let created = world.record("action.intended", |r| r["request"]["operation"] == "forge/issues.create");
    assert!(world.records("session.opened").iter().all(|opened| opened["groups"].is_array()));

    let same = world.host.writ(["policy", "replay"]).ok();
    assert!(same.starts_with("3 of 4 recorded actions replayed: 0 would be refused, 0 would be"), "{same}");
    assert!(same.contains("not replayed: 1 refused before policy was asked"), "{same}");

    let folder = world.host.path("etc/writ/candidate");
    std::fs::create_dir(&folder).unwrap();
    world.host.configure("candidate/narrower.cedar", NARROWER);
    let folder = folder.to_str().unwrap();
    let ran = world.host.writ(["policy", "replay", folder, "--since", "1d", "--agent", "coder", "--json"]);
    assert_eq!(ran.code, 4, "{}", ran.all());
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&found["actions"], &found["replayed"]), (&4.into(), &3.into()), "{found}");
    let [change] = found["changes"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!(change["operation"], "forge/issues.create");
    assert_eq!(
        (&change["was"], &change["now"], &change["count"]),
        (&"permitted".into(), &"refused".into(), &1.into())
    );
    assert_eq!(change["policies_before"], serde_json::json!(["coder-reads-and-writes"]));
    assert_eq!(change["example"], created["action"]);
    let why = world.host.writ(["why", change["example"].as_str().unwrap()]).ok();
    assert!(why.contains("forge/issues.create") && why.contains("It was permitted."), "{why}");

    let ran = world.host.writ(["policy", "diff", folder]);
    assert_eq!(ran.code, 4, "{}", ran.all());
    assert!(
        ran.stdout.contains("+ coder-reads: permit (principal == Writ::Agent::\"coder\","),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("- coder-reads-and-writes: permit"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("no-agent-deletes"), "what is the same is not told: {}", ran.stdout);
    let in_force = world.host.path("etc/writ/policies");
    assert_eq!(world.host.writ(["policy", "diff", in_force.to_str().unwrap()]).ok(), "");
    let human = created["actor"]["human"].as_str().unwrap();
    let who = world.host.writ(["policy", "who-can", "forge/issues.create", "--policies", folder]).ok();
    assert!(who.contains("coder may for nobody") && who.contains(human), "{who}");
    let who = world.host.writ(["policy", "who-can", "forge/issues.create"]).ok();
    assert!(who.contains(&format!("coder may for {human}, anybody else")), "{who}");

    // Trying it changed nothing: what would be refused is still done.
    assert_eq!(ask(&["-H", json, "-d", r#"{"title":"another"}"#, ISSUES]), "201");
    world.verify();
}
