//! MCP servers of both official SDKs, asked by clients of both through Writ: what is permitted works, and what is not is
//! neither listed nor done.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may")]

use serde_json::{Map, Value, json};
use writ_e2e::World;
use writ_e2e::mcp::{Sdk, TOKEN, Tracker, client, client_of_program};
use writ_testkit::Host;

const SERVICE: &str = r#"
name = "tracker"
hosts = ["tracker.test"]
ports = [80]
protocol = "http"
[upstream]
address = "@ADDRESS@"
danger_plaintext_credential = true
[credential]
secret = "tracker-token"
place = "bearer"
@STREAM@
[[operation]]
name = "session"
effect = "read"
path = "@PATH@"
mcp = "session"
[[operation]]
name = "tools.list"
effect = "read"
path = "@PATH@"
mcp = "tools/list"
[[operation]]
name = "resources.list"
effect = "read"
path = "@PATH@"
mcp = "resources/list"
[[operation]]
name = "readme"
effect = "read"
path = "@PATH@"
mcp = "resources/read file:///readme"
[[operation]]
name = "issues.list"
effect = "read"
path = "@PATH@"
mcp = "tools/call list_issues"
@DIGEST@
[[operation]]
name = "issues.create"
effect = "write"
path = "@PATH@"
mcp = "tools/call create_issue"
arguments = { title = "mcp:/title string", labels = "mcp:/labels strings?" }
[[operation]]
name = "issues.delete"
effect = "delete"
path = "@PATH@"
mcp = "tools/call delete_issue"
"#;

/// The stream of the older transport has a path of its own.
const STREAM: &str = r#"
[[operation]]
name = "stream"
effect = "read"
path = "/sse"
mcp = "GET"
"#;

const POLICY: &str = r#"
@id("security-is-for-people")
forbid (principal is Writ::Agent, action == Writ::Action::"tracker/issues.create", resource)
when { context.args has labels && context.args.labels.contains("security") };
"#;

fn service(tracker: &Tracker, kind: &str, digest: &str) -> String {
    let (path, stream) = match kind {
        "sse" => ("/messages/", STREAM),
        _ => ("/mcp", ""),
    };
    let digest = if digest.is_empty() { String::new() } else { format!("digest = \"{digest}\"") };
    [("@ADDRESS@", tracker.address().as_str()), ("@PATH@", path), ("@STREAM@", stream), ("@DIGEST@", &digest)]
        .iter()
        .fold(SERVICE.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// A world with a tracker in it.
fn world(test: &str, sdk: Sdk, kind: &str) -> Option<(World, Tracker)> {
    let mut tracker = None;
    let configure = |host: &Host| {
        let started = Tracker::start(sdk, kind, &host.path("tracker"));
        host.configure("services/tracker.toml", &service(&started, kind, ""));
        host.configure("policies/tracker.cedar", POLICY);
        tracker = Some(started);
    };
    let world = World::configured(test, configure)?;
    world.host.secret("tracker-token", TOKEN);
    tracker.map(|tracker| (world, tracker))
}

/// What a client did must be what policy says, whoever wrote it and whatever it speaks.
fn judge(told: &Map<String, Value>, token: &str) {
    assert_eq!(told["tools"], json!(["list_issues", "create_issue"]), "{told:?}");
    assert_eq!(told["resources"], json!(["file:///readme"]), "{told:?}");
    assert_eq!(told["read"], "read me");
    let listed = format!("one issue, and the token {token}");
    assert_eq!(told["list"], json!({"text": [listed], "error": false}), "{told:?}");
    let created = told["create"]["text"][0].as_str().unwrap_or_default();
    assert!(created.starts_with("created a \u{2028} bug"), "{told:?}");
    for (what, reason) in [
        ("forbidden", "policy.agent_forbidden"),
        ("delete", "policy.agent_forbidden"),
        ("unlisted", "catalog.no_operation"),
    ] {
        let told = &told[what];
        assert_eq!((&told["code"], &told["data"]["reason"]), (&json!(403), &json!(reason)), "{what}: {told}");
        let action = told["data"]["action"].as_str().unwrap_or_default();
        assert_eq!(told["data"]["hint"], format!("run `writ why {action}`"));
    }
}

fn through(test: &str, server: Sdk, kind: &str) {
    let Some((world, tracker)) = world(test, server, kind) else { return };
    let url = if kind == "sse" { "http://tracker.test/sse" } else { "http://tracker.test/mcp" };
    let clients = match kind {
        "sse" => [(Sdk::Python, "sse"), (Sdk::TypeScript, "sse")].as_slice(),
        _ => &[(Sdk::Python, "http"), (Sdk::Python, "legacy"), (Sdk::TypeScript, "http")],
    };
    for (sdk, how) in clients {
        let told = client(&world.host, *sdk, how, url);
        judge(&told, &"*".repeat(TOKEN.len()));
        // The newest revision is spoken where both sides know it. TypeScript's older transport does not tell.
        let revision = match (server, sdk, *how) {
            (_, Sdk::TypeScript, "sse") => Value::Null,
            (Sdk::Python, Sdk::Python, "http" | "sse") => json!("2026-07-28"),
            _ => json!("2025-11-25"),
        };
        assert_eq!(told["version"], revision);
    }
    let calls: Vec<String> = serde_json::from_str(&tracker.page("/calls")).unwrap();
    let wanted = ["list_issues", "create_issue"].repeat(clients.len());
    assert_eq!(calls, wanted, "nothing that was refused reached the server");

    let made = world.record("action.intended", |it| it["request"]["operation"] == "tracker/issues.create");
    assert_eq!(made["request"]["arguments"], json!({"labels": ["bug", "ui"], "title": "a \u{2028} bug"}));
    let hop = json!({"how": "observed", "kind": "mcp", "name": "tracker: tools/call create_issue"});
    assert_eq!(made["tool_path"].as_array().unwrap().last(), Some(&hop));
    let refused = world.record("action.refused", |it| it["request"]["operation"] == "tracker/issues.delete");
    assert_eq!(
        refused["tool_path"].as_array().unwrap().last().unwrap()["name"],
        "tracker: tools/call delete_issue"
    );
    let why = world.host.writ(["why", refused["action"].as_str().unwrap()]).ok();
    assert!(why.contains("tracker: tools/call delete_issue"), "{why}");
    for (path, bytes) in world.host.written_down() {
        let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!found, "the token is in {}", path.display());
    }
    world.verify();
}

#[test]
fn a_python_server_with_sessions() {
    through("a_python_server_with_sessions", Sdk::Python, "stateful");
}

#[test]
fn a_python_server_without_sessions_that_answers_in_json() {
    through("a_python_server_without_sessions_that_answers_in_json", Sdk::Python, "stateless");
}

#[test]
fn a_python_server_of_the_older_transport() {
    through("a_python_server_of_the_older_transport", Sdk::Python, "sse");
}

#[test]
fn a_typescript_server_with_sessions() {
    through("a_typescript_server_with_sessions", Sdk::TypeScript, "stateful");
}

#[test]
fn a_typescript_server_without_sessions_that_answers_in_json() {
    through("a_typescript_server_without_sessions_that_answers_in_json", Sdk::TypeScript, "stateless");
}

#[test]
fn a_typescript_server_of_the_older_transport() {
    through("a_typescript_server_of_the_older_transport", Sdk::TypeScript, "sse");
}

/// What an import of the tracker says, as a service behind Writ.
fn imported(world: &World, tracker: &Tracker) -> String {
    let token = world.host.path("token");
    writ_host::durable::replace(&token, TOKEN.as_bytes(), 0o600).unwrap();
    let (_, port) =
        tracker.address().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    let url = format!("http://localhost:{port}/mcp");
    let import = ["service", "import", "--mcp", &url, "--token", token.to_str().unwrap()];
    let text = world.host.writ(import).ok();
    assert!(text.contains("name = \"tracker\"") && text.contains("effect = \"delete\""), "{text}");
    let upstream = format!(
        "protocol = \"http\"\n[upstream]\naddress = \"{}\"\ndanger_plaintext_credential = true\n\
         [credential]\nsecret = \"tracker-token\"\nplace = \"bearer\"\n",
        tracker.address()
    );
    text.replace("localhost", "tracker.test")
        .replace(&format!("ports = [{port}]"), "ports = [80]")
        .replace("protocol = \"http\"\n", &upstream)
}

#[test]
fn a_tool_that_is_changed_after_it_was_approved_is_gone_until_it_is_approved_again() {
    let test = "a_tool_that_is_changed_after_it_was_approved_is_gone_until_it_is_approved_again";
    let Some((mut world, tracker)) = world(test, Sdk::Python, "stateful") else { return };
    let approve = |world: &World| {
        world.host.configure("services/tracker.toml", &imported(world, &tracker));
        world.host.writ(["reload"]).ok();
    };
    let act = |world: &World, sdk| client(&world.host, sdk, "http", "http://tracker.test/mcp");
    // The policy of this world names an operation as the imported file does not.
    world.host.configure("policies/tracker.cedar", "");
    approve(&world);
    // Approved as asked in one revision, used in others.
    for sdk in [Sdk::Python, Sdk::TypeScript] {
        let told = act(&world, sdk);
        assert_eq!(told["tools"], json!(["list_issues", "create_issue", "unlisted"]), "{told:?}");
        assert_eq!(told["list"]["error"], false, "{told:?}");
    }
    assert_eq!(tracker.page("/change"), "changed");
    let gone = |told: &Map<String, Value>| {
        assert_eq!(told["tools"], json!(["create_issue", "unlisted"]), "{told:?}");
        assert_eq!(told["list"]["data"]["reason"], "mcp.tool_changed", "{told:?}");
        assert_eq!(told["create"]["error"], false, "{told:?}");
    };
    gone(&act(&world, Sdk::Python));
    let refused = world.record("action.refused", |it| it["reason"] == "mcp.tool_changed");
    assert_eq!(
        refused["tool_path"].as_array().unwrap().last().unwrap()["name"],
        "tracker: tools/call list_issues"
    );

    world.host.stop();
    world.host.start();
    gone(&act(&world, Sdk::TypeScript));
    let calls = tracker.page("/calls");
    assert_eq!(calls.matches("list_issues").count(), 2, "{calls}");

    approve(&world);
    let told = act(&world, Sdk::Python);
    assert_eq!(told["list"]["error"], false, "{told:?}");
    world.verify();
}

/// The tracker as a program: its operations have no path, and it is nowhere on the network.
fn program() -> String {
    let (_, operations) = SERVICE.split_once("@STREAM@").unwrap_or_default();
    let operations = operations.replace("path = \"@PATH@\"\n", "").replace("@DIGEST@", "");
    format!("name = \"tracker\"\nprotocol = \"stdio\"\n{operations}")
}

const TRACKER_READS: &str = r#"
@id("the-tracker-reads-the-forge")
permit (principal == Writ::Agent::"tracker", action in Writ::Action::"read", resource == Writ::Service::"forge");
@id("only-when-it-is-called")
forbid (principal == Writ::Agent::"tracker", action, resource)
unless { context.session.chain.contains(Writ::Agent::"coder") };
"#;

fn over_stdio(test: &str, server: Sdk) {
    let configure = |host: &Host| {
        host.configure("services/tracker.toml", &program());
        host.configure("policies/tracker.cedar", &format!("{POLICY}{TRACKER_READS}"));
        host.configure("agents/coder.toml", "owner = \"x\"\nmay_start = [\"tracker\"]\n");
        host.configure("agents/tracker.toml", "owner = \"x\"\nmcp = \"tracker\"\n");
    };
    let Some(world) = World::configured(test, configure) else { return };
    for sdk in [Sdk::Python, Sdk::TypeScript] {
        let told = client_of_program(&world.host, sdk, server);
        judge(&told, "");
    }
    let called = world.record("action.intended", |it| it["request"]["operation"] == "tracker/issues.create");
    assert_eq!(called["actor"]["agent"], "coder");
    let closed = world.record("action.closed", |it| it["action"] == called["action"]);
    assert_eq!(closed["outcome"], "completed");
    // What the server does meanwhile is its own, and says which call it is for.
    let fetched: Vec<_> = world
        .records("action.intended")
        .into_iter()
        .filter(|it| it["request"]["operation"] == "forge/issues.list")
        .collect();
    assert_eq!(fetched.len(), 2);
    for fetched in fetched {
        assert_eq!(fetched["actor"]["agent"], "tracker");
        let path = fetched["tool_path"].as_array().unwrap();
        let kinds: Vec<_> = path.iter().map(|hop| hop["kind"].as_str().unwrap()).take(4).collect();
        assert_eq!(kinds, ["human", "run", "mcp", "run"], "{path:?}");
        assert_eq!(
            path[2],
            json!({"how": "observed", "kind": "mcp", "name": "tracker: tools/call create_issue"})
        );
    }
    // Started otherwise it would be spoken to undecided.
    let refused = world.host.run("tracker", ["true"]);
    assert!(refused.code != 0 && refused.all().contains("start it with `writ mcp`"), "{}", refused.all());
    let other = world.host.as_user(["mcp", "--agent", "coder", "--", "true"]).output().unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("`coder` is no MCP server"), "{other:?}");
    world.verify();
}

#[test]
fn a_python_server_over_standard_input_and_output() {
    over_stdio("a_python_server_over_standard_input_and_output", Sdk::Python);
}

#[test]
fn a_typescript_server_over_standard_input_and_output() {
    over_stdio("a_typescript_server_over_standard_input_and_output", Sdk::TypeScript);
}
