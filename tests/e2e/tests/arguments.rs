//! What a request's body says decides, and what is decided is what the service gets.

use serde_json::json;
use writ_e2e::World;

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

const POLICY: &str = r#"
@id("no-drafts")
forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.create", resource)
when { context.args has draft && context.args.draft == true };
@id("security-is-for-people")
forbid (principal is Writ::Agent, action in Writ::Action::"write", resource)
when { context.args has labels && context.args.labels.contains("security") };
"#;

/// Posts a body with curl from a run of the agent; the answer's body with its status at the end.
fn post(world: &World, more: &[&str], body: &str) -> String {
    let fixed = ["curl", "-sS", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-d", body];
    world.host.run("coder", [&fixed[..], more, &[ISSUES]].concat()).ok()
}

#[test]
fn a_policy_on_the_body_permits_one_request_and_refuses_another() {
    let test = "a_policy_on_the_body_permits_one_request_and_refuses_another";
    let configure = |host: &writ_testkit::Host| host.configure("policies/arguments.cedar", POLICY);
    let Some(world) = World::configured(test, configure) else { return };

    let good = r#"{"title": "a \u0022small\u0022 bug", "draft": false, "labels": ["ui", "bug"]}"#;
    let ways: [&[&str]; 3] = [
        &["--http1.1"],
        &["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
        &["--http2"],
    ];
    for (n, way) in ways.iter().enumerate() {
        let out = post(&world, way, good);
        assert!(out.ends_with("201") && out.contains(r#"a \"small\" bug"#), "{out}");
        let intended = world.record("action.intended", |r| r["request"]["arguments"]["draft"] == false);
        let arguments = json!({"draft": false, "labels": ["bug", "ui"], "owner": "acme", "repo": "site",
            "title": "a \"small\" bug"});
        assert_eq!(intended["request"]["arguments"], arguments);
        let closed = world.record("action.closed", |_| world.records("action.closed").len() > n);
        assert_eq!(closed["bytes_up"], good.len());
    }
    for (body, policy) in [
        (r#"{"title":"later","draft":true}"#, "no-drafts"),
        (r#"{"title":"hole","labels":["bug","security"]}"#, "security-is-for-people"),
    ] {
        let out = post(&world, &[], body);
        assert!(out.ends_with("403") && out.contains("policy.agent_forbidden"), "{out}");
        let refused = world.record("action.refused", |r| r["keys"]["agent"]["policies"][0] == policy);
        let why = world.host.writ(["why", refused["action"].as_str().unwrap()]).ok();
        assert!(why.contains("Its arguments: ") && why.contains("owner = \"acme\""), "{why}");
    }
    for (body, more, code) in [
        (r#"{"title":"x","draft":false,"draft":true}"#, &[][..], "catalog.ambiguous_request"),
        (r#"{"title":"x","Draft":true}"#, &[], "catalog.ambiguous_request"),
        (r#"{"title":"x","draft":"false"}"#, &[], "catalog.argument_refused"),
        (r#"{"title":"x"}"#, &["-H", "X-HTTP-Method-Override: DELETE"], "catalog.ambiguous_request"),
        (r#"{"title":"x"}"#, &["-H", "Content-Encoding: gzip"], "catalog.body_refused"),
    ] {
        let out = post(&world, more, body);
        assert!(out.ends_with("400") && out.contains(code), "{out}");
    }
    let listed = world.host.run("coder", ["curl", "-sS", ISSUES]).ok();
    assert_eq!(listed.matches("number").count(), 3, "nothing that was refused reached the forge: {listed}");
    let log = world.host.writ(["log", "--denied"]).ok();
    assert!(log.contains("draft=true") && log.contains(r#"labels=["bug","security"]"#), "{log}");
    world.verify();
}

const BRANCHES: &str = r#"
@id("own-branches-only")
forbid (principal is Writ::Agent, action == Writ::Action::"forge/repo.push", resource)
unless { ["refs/heads/agent", "refs/heads/agent-2"].containsAll(context.args.refs) };
@id("branches-stay")
forbid (principal is Writ::Agent, action == Writ::Action::"forge/repo.push", resource)
when { !context.args.deletes.isEmpty() };
"#;

#[test]
fn a_policy_on_references_decides_what_git_may_push() {
    let test = "a_policy_on_references_decides_what_git_may_push";
    let configure = |host: &writ_testkit::Host| host.configure("policies/branches.cedar", BRANCHES);
    let Some(world) = World::configured(test, configure) else { return };
    // The pack is larger than what git sends at once and than what is held here: git asks with no commands, then streams.
    let script = "
        git clone -q https://forge.test/acme/site.git work && cd work || exit 9
        git config user.name a && git config user.email a@b
        head -c 4000000 /dev/urandom > large && git add large && git commit -qm large
        git push -q origin HEAD:agent 2>&1; echo large $?
        git commit -q --allow-empty -m empty
        git push -q origin HEAD:agent HEAD:agent-2 2>&1; echo two $?
        git push -q origin HEAD:agent HEAD:main >said 2>&1; echo main $?; grep -c '403' said
        git push -q origin :agent-2 >said 2>&1; echo delete $?; grep -c '403' said
        git rev-parse HEAD HEAD~2";
    let out = world.host.run("coder", ["sh", "-c", script]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..6], ["large 0", "two 0", "main 1", "1", "delete 1", "1"], "{out}");
    let at = |name: &str| {
        let git = std::process::Command::new("git")
            .args(["rev-parse", "--verify", name])
            .current_dir(world.forge.repository())
            .output()
            .unwrap();
        String::from_utf8(git.stdout).unwrap().trim().to_owned()
    };
    let (head, before) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    assert_eq!([at("agent"), at("agent-2"), at("main")], [head, head, before], "{out}");
    let pushed = |arguments: &serde_json::Value| {
        world.record("action.intended", |r| r["request"]["arguments"]["refs"] == *arguments)
    };
    pushed(&json!([]));
    let both = pushed(&json!(["refs/heads/agent", "refs/heads/agent-2"]));
    assert_eq!(both["request"]["operation"], "forge/repo.push");
    let large = world.record("action.closed", |r| r["bytes_up"].as_u64() > Some(4_000_000));
    assert_eq!(large["outcome"], "completed");
    for policy in ["own-branches-only", "branches-stay"] {
        world.record("action.refused", |r| r["keys"]["agent"]["policies"][0] == policy);
    }
    world.verify();
}
