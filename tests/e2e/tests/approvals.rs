//! What a session did decides what it may do next, and people are asked; both hold over a killed daemon.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};
use writ_e2e::World;
use writ_testkit::{Host, wait};

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";
const DEBUG: &str = "https://echo.test/debug/echo";

/// One run that asks whatever it is told to, so that daemons come and go below it.
struct Agent {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    fn start(host: &Host) -> Self {
        let ask = r#"while read -r url body; do
            if [ -n "$body" ]; then set -- -H 'Content-Type: application/json' -d "$body"; else set --; fi
            curl -sS -o /dev/null -w '%{http_code} %header{writ-reason}\n' "$@" "$url" || true
        done"#;
        let mut child = host
            .agent("coder", ["sh", "-c", ask])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv");
        let orders = child.stdin.take().expect("stdin");
        let answers = BufReader::new(child.stdout.take().expect("stdout"));
        Self { child, orders, answers }
    }

    /// Lets it ask, without waiting for the answer.
    fn begin(&mut self, url: &str, body: &str) {
        writeln!(self.orders, "{url} {body}").expect("an order");
    }

    /// The status of the answer, and the reason if it was refused.
    fn end(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }

    fn ask(&mut self, url: &str, body: &str) -> String {
        self.begin(url, body);
        self.end()
    }

    fn stop(self) {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        assert!(child.wait().expect("wait").success());
    }
}

fn questions(world: &World) -> Vec<Value> {
    world.host.json(["approvals"])[0]["questions"].as_array().expect("a list").clone()
}

/// Waits for a question that waits for an answer.
#[track_caller]
fn question(world: &World) -> Value {
    wait::until("a question", || questions(world).into_iter().find(|row| row["settled"] == false))
}

fn id(question: &Value) -> String {
    question["approval"].as_str().expect("an id").to_owned()
}

fn ask_first(rule: &str) -> String {
    format!(
        "@id(\"ask-first\") @approve(\"{rule}\")\n\
         forbid (principal is Writ::Agent, action == Writ::Action::\"forge/issues.create\", resource);\n"
    )
}

fn asking(test: &str, rule: &str) -> Option<World> {
    World::configured(test, |host| {
        host.configure("agents/coder.toml", "owner = \"platform\"\nowner_human = \"unix:root\"\n");
        host.configure("policies/approvals.cedar", &ask_first(rule));
    })
}

#[test]
fn an_action_waits_and_what_was_shown_is_what_is_sent() {
    let Some(world) = asking("an_action_waits_and_what_was_shown_is_what_is_sent", "owner, 5m") else {
        return;
    };
    let mut agent = Agent::start(&world.host);
    assert_eq!(agent.ask(ISSUES, ""), "200", "what asks for nobody goes on");

    let body = r#"{"title":"one"}"#;
    agent.begin(ISSUES, body);
    let asked = question(&world);
    assert_eq!((&asked["agent"], &asked["yours"]), (&"coder".into(), &true.into()), "{asked}");
    assert_eq!(asked["request"]["arguments"]["title"], "one");
    assert_eq!(asked["rules"], json!(["ask-first: approve owner, 5m"]));
    assert_eq!(asked["body_bytes"], body.len());
    let preview = asked["preview"].as_str().unwrap();
    assert!(
        preview.starts_with("POST /api/repos/acme/site/issues\n") && preview.ends_with(body),
        "{preview}"
    );
    let shown = world.host.writ(["approvals", &id(&asked)]).ok();
    assert!(shown.contains("coder wants forge/issues.create for ") && shown.contains(body), "{shown}");

    // Who is not asked sees the question of their own session, and cannot answer it; nor can the run.
    let listed = world.host.as_user(["approvals"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("asks others"), "{listed:?}");
    let refused = world.host.as_user(["approve", &id(&asked)]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let writ = writ_testkit::program("writ");
    let root = world.host.path("");
    let inside = ["--root", root.to_str().unwrap(), "approve", &id(&asked)];
    let inside = world.host.run("coder", std::iter::once(writ.to_str().unwrap()).chain(inside));
    assert_ne!(inside.code, 0, "{}", inside.all());
    assert!(world.records("action.intended").iter().all(|done| done["request"]["method"] == "GET"));

    let said = world.host.writ(["approve", &id(&asked), "--note", "looks right"]).ok();
    assert_eq!(said.trim(), "approved as unix:root");
    assert_eq!(agent.end(), "201");
    let done = world.record("action.intended", |done| done["request"]["method"] == "POST");
    assert_eq!(done["terms"]["approvals"], json!([id(&asked)]));
    let answered = world.record("approval.answered", |_| true);
    assert_eq!((&answered["by"], &answered["note"]), (&"unix:root".into(), &"looks right".into()));

    // It held once. The next is asked anew, and a no holds for the same request until its time is over.
    agent.begin(ISSUES, body);
    let again = question(&world);
    assert_ne!(id(&again), id(&asked));
    world.host.writ(["deny", &id(&again), "--reason", "twice"]).ok();
    assert_eq!(agent.end(), "403 approval.denied");
    assert_eq!(agent.ask(ISSUES, body), "403 approval.denied");

    // For the session: the same operation at the same place, whatever it says.
    agent.begin(ISSUES, r#"{"title":"two"}"#);
    world.host.writ(["approve", &id(&question(&world)), "--session"]).ok();
    assert_eq!(agent.end(), "201");
    assert_eq!(agent.ask(ISSUES, r#"{"title":"three"}"#), "201");
    agent.begin("https://forge.test/api/repos/acme/other/issues", body);
    let elsewhere = question(&world);
    world.host.writ(["deny", &id(&elsewhere), "--reason", "not there"]).ok();
    assert_eq!(agent.end(), "403 approval.denied");
    agent.stop();
    wait::until("its questions to go with the session", || questions(&world).is_empty().then_some(()));
    world.verify();
}

#[test]
fn an_approval_outlives_the_daemon_and_is_spent_once() {
    let name = "an_approval_outlives_the_daemon_and_is_spent_once";
    let Some(mut world) = asking(name, "owner, 5m") else { return };
    let mut agent = Agent::start(&world.host);
    let body = r#"{"title":"one"}"#;
    agent.begin(ISSUES, body);
    let asked = question(&world);
    world.host.kill();
    assert!(agent.end().starts_with("000"), "the connection goes with the daemon");
    world.host.start();
    let kept = question(&world);
    assert_eq!((id(&kept), &kept["preview"]), (id(&asked), &Value::Null));
    assert_eq!(kept["body_sha256"], asked["body_sha256"]);

    // Answered while nobody waits, and killed again: the same request goes on, once, and another does not.
    world.host.writ(["approve", &id(&asked)]).ok();
    let twice = world.host.writ(["approve", &id(&asked)]);
    assert!(twice.code == 64 && twice.all().contains("it was approved before"), "{}", twice.all());
    world.host.kill();
    world.host.start();
    agent.begin(ISSUES, r#"{"title":"another"}"#);
    let other = question(&world);
    assert_ne!(id(&other), id(&asked));
    world.host.writ(["deny", &id(&other), "--reason", "no"]).ok();
    assert_eq!(agent.end(), "403 approval.denied");
    assert_eq!(agent.ask(ISSUES, body), "201");
    world.host.kill();
    world.host.start();
    agent.begin(ISSUES, body);
    assert_ne!(id(&question(&world)), id(&asked), "it was spent before the daemon was killed");
    world.host.writ(["deny", &id(&question(&world)), "--reason", "no"]).ok();
    agent.end();
    agent.stop();
    world.verify();
}

#[test]
fn of_two_answers_that_cross_one_counts_and_what_nobody_answers_expires() {
    let name = "of_two_answers_that_cross_one_counts_and_what_nobody_answers_expires";
    let Some(world) = asking(name, "owner, 5s") else { return };
    let mut agent = Agent::start(&world.host);
    for round in 0..8 {
        agent.begin(ISSUES, &format!(r#"{{"title":"{round}"}}"#));
        let asked = id(&question(&world));
        let answers = [vec!["approve", &asked], vec!["deny", &asked, "--reason", "no"]];
        let running =
            answers.map(|args| world.host.writ_command(args).stdout(Stdio::null()).spawn().unwrap());
        let codes = running.map(|mut child| child.wait().unwrap().code());
        let answered = world.records("approval.answered");
        let counted: Vec<_> = answered.iter().filter(|answer| answer["approval"] == asked.as_str()).collect();
        let [counted] = counted.as_slice() else { panic!("{counted:?}") };
        let approved = counted["answer"] == "approved";
        assert_eq!(codes[usize::from(!approved)], Some(0), "{codes:?} {counted}");
        assert_ne!(codes[usize::from(approved)], Some(0), "{codes:?} {counted}");
        assert_eq!(agent.end(), if approved { "201" } else { "403 approval.denied" });
    }
    let body = r#"{"title":"late"}"#;
    assert_eq!(agent.ask(ISSUES, body), "403 approval.expired");
    let late = world.record("approval.requested", |asked| asked["request"]["arguments"]["title"] == "late");
    let closed = world.record("approval.closed", |closed| closed["approval"] == late["approval"]);
    assert_eq!(closed["cause"], "expired");
    let answer = world.host.writ(["approve", late["approval"].as_str().unwrap()]);
    assert!(answer.code != 0 && answer.all().contains("nobody asks for this"), "{}", answer.all());
    agent.stop();
    world.verify();
}

const FACTS: &str = r#"
@id("echoes-are-untrusted") @label("read:untrusted")
permit (principal == Writ::Agent::"coder", action == Writ::Action::"echo/debug", resource);
@id("nothing-out-after")
forbid (principal is Writ::Agent, action in Writ::Action::"write", resource)
when { context.session.labels.contains("read:untrusted") };
@id("few-lists") @limit("3/day")
forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.list", resource);
@id("one-write-an-hour")
forbid (principal is Writ::Agent, action in Writ::Action::"write", resource)
when { context.session.done.write.hour >= 1 };
"#;

#[test]
fn what_a_session_did_decides_what_it_may_do_and_is_not_forgotten() {
    let name = "what_a_session_did_decides_what_it_may_do_and_is_not_forgotten";
    let configure = |host: &Host| host.configure("policies/facts.cedar", FACTS);
    let Some(mut world) = World::configured(name, configure) else { return };
    let mut agent = Agent::start(&world.host);
    let body = r#"{"title":"one"}"#;
    assert_eq!(agent.ask(ISSUES, ""), "200");
    assert_eq!(agent.ask(ISSUES, body), "201");
    assert_eq!(agent.ask(ISSUES, body), "403 policy.agent_forbidden", "one write an hour");
    assert_eq!(agent.ask(ISSUES, ""), "200");
    world.host.kill();
    world.host.start();
    assert_eq!(agent.ask(ISSUES, body), "403 policy.agent_forbidden", "counted over the restart");
    assert_eq!(agent.ask(ISSUES, ""), "200");
    assert_eq!(agent.ask(ISSUES, ""), "429 policy.limit_reached");

    // A run of its own has a ledger of its own; a label once acquired stays.
    let mut other = Agent::start(&world.host);
    assert_eq!(other.ask(DEBUG, ""), "200");
    assert_eq!(other.ask(ISSUES, body), "403 policy.agent_forbidden");
    world.host.kill();
    world.host.start();
    assert_eq!(other.ask(ISSUES, body), "403 policy.agent_forbidden");
    let read = world.record("action.intended", |done| done["request"]["operation"] == "echo/debug");
    assert_eq!(read["terms"], json!({"acquired": ["read:untrusted"]}));
    let refused = world.records("action.refused").pop().unwrap();
    assert_eq!(refused["labels"], json!(["read:untrusted"]));
    let action = refused["action"].as_str().unwrap();
    let why = world.host.writ(["why", action]).ok();
    assert!(why.contains("read:untrusted"), "{why}");
    for agent in [agent, other] {
        agent.stop();
    }
    world.verify();
}

#[test]
fn what_a_sub_agent_read_its_parent_knows() {
    let configure = |host: &Host| {
        host.configure("agents/coder.toml", "owner = \"x\"\nmay_start = [\"helper\"]\n");
        host.configure("agents/helper.toml", "owner = \"x\"\n");
        let helper = "@id(\"helper-reads\") @label(\"read:untrusted\")\n\
                      permit (principal == Writ::Agent::\"helper\", action in Writ::Action::\"read\", resource);\n";
        host.configure("policies/facts.cedar", &format!("{helper}{FACTS}"));
    };
    let Some(world) = World::configured("what_a_sub_agent_read_its_parent_knows", configure) else { return };
    let (writ, root) = (writ_testkit::program("writ"), world.host.path(""));
    let post = format!(
        "curl -sS -o /dev/null -w '%{{http_code}} %header{{writ-reason}}\\n' \
         -H 'Content-Type: application/json' -d '{{\"title\":\"x\"}}' {ISSUES}"
    );
    let script = format!(
        "{} --root {} run --agent helper -- curl -sSf -o /dev/null {DEBUG} && {post}",
        writ.display(),
        root.display()
    );
    let said = world.host.run("coder", ["sh", "-c", &script]);
    assert_eq!(said.stdout.trim(), "403 policy.agent_forbidden", "{}", said.all());
    let refused = world.record("action.refused", |_| true);
    assert_eq!(
        (&refused["actor"]["agent"], &refused["labels"]),
        (&"coder".into(), &json!(["read:untrusted"]))
    );
    world.verify();
}
