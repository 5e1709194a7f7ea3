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
