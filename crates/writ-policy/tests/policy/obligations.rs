//! What policies ask for beside their yes or no, and what they ask of the session's past.

use std::sync::Arc;

use writ_core::event::Request;
use writ_core::{Effect, Reason, Timestamp};
use writ_gate::{Decide, Ledger, Moment, Session, Standing, Verdict};
use writ_policy::{Engine, read_samples, run_samples};

use crate::support::{decide, load, operation, services, session};

const BOTH: &str = "permit (principal, action, resource);\n";

fn owed(verdict: &Verdict) -> Vec<String> {
    verdict.owed.iter().map(|owed| format!("{}: {}", owed.policy, owed.obligation)).collect()
}

fn alice() -> Session {
    session("coder", "unix:alice", &[])
}

#[test]
fn what_permits_owes_and_what_forbids_until_it_is_met_owes_too() {
    let text = r#"
        @id("plain") permit (principal is Writ::Human, action, resource);
        @id("labels") @label("b, a") @limit("3/min")
        permit (principal is Writ::Agent, action in Writ::Action::"read", resource);
        @id("writes") permit (principal is Writ::Agent, action in Writ::Action::"write", resource);
        @id("ask") @approve("owner") forbid (principal, action == Writ::Action::"forge/repo.push", resource);
        @id("ask-acme") @approve("unix:oncall, quorum 2") forbid (principal, action, resource)
            when { context.args has owner && context.args.owner == "acme" };
        @id("never") forbid (principal is Writ::Agent, action == Writ::Action::"forge/issues.create", resource);
    "#;
    let fetch = decide(text, &alice(), "forge/repo.fetch");
    assert!(fetch.permits() && fetch.asks());
    assert_eq!(fetch.keys.agent.policies, ["labels"], "what waits determines no key");
    assert_eq!(
        owed(&fetch),
        ["ask-acme: approve unix:oncall, 10m, quorum 2", "labels: label a, b", "labels: limit 3/min"]
    );
    let push = decide(text, &alice(), "forge/repo.push");
    assert_eq!(owed(&push), ["ask: approve owner, 10m", "ask-acme: approve unix:oncall, 10m, quorum 2"]);
    let inbox = decide(text, &alice(), "mail/inbox.read");
    assert!(inbox.permits() && !inbox.asks());
    let create = decide(text, &alice(), "forge/issues.create");
    assert_eq!(
        (create.refusal(), create.owed.len()),
        (Reason::AgentForbidden, 0),
        "what is refused owes nothing"
    );
    let delete = decide(text, &alice(), "forge/repo.delete");
    assert_eq!(delete.refusal(), Reason::AgentNotPermitted, "a yes would not permit what nothing permits");
}

#[test]
fn a_forbid_that_waits_closes_no_service_and_one_that_fails_refuses() {
    let text = format!("{BOTH} @approve(\"owner\") forbid (principal, action, resource);");
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    let engine = Engine::new(load(&text).unwrap());
    assert!(engine.reach(&alice(), &forge).permits());
    assert!(engine.decide(&alice(), &forge, &fetch, &Moment::default()).asks());
    let text = format!(
        "{BOTH} @approve(\"owner\") forbid (principal, action == Writ::Action::\"forge/repo.fetch\", resource) \
         when {{ context.session.age + 9223372036854775807 > 0 }};"
    );
    let engine = Engine::new(load(&text).unwrap());
    let later = Moment { at: Timestamp::from_micros(2_000_000), programs: &[] };
    assert!(engine.decide(&alice(), &forge, &fetch, &Moment::default()).permits());
    assert_eq!(engine.decide(&alice(), &forge, &fetch, &later).refusal(), Reason::PolicyError);
}

#[test]
fn conditions_see_labels_counts_age_approvals_and_programs() {
    let text = r#"
        @id("all") permit (principal, action, resource);
        @id("tainted") forbid (principal, action, resource)
            when { context.session.labels.contains("read:untrusted") };
        @id("many") forbid (principal, action, resource) when { context.session.done.write.minute > 2 };
        @id("old") forbid (principal, action, resource) when { context.session.age >= 60 };
        @id("approved") forbid (principal, action, resource)
            when { context.session.approved.contains("forge/repo.push") };
        @id("by-git") forbid (principal, action, resource) when { context.path.programs.contains("/usr/bin/git") };
    "#;
    let engine = Engine::new(load(text).unwrap());
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    let by = |session: &Session, moment: &Moment<'_>| {
        engine.decide(session, &forge, &fetch, moment).keys.agent.policies.join(" ")
    };
    let at = Timestamp::from_micros(1_000_000);
    let with = |ledger: Ledger| Session::sharing(alice().facts().clone(), Arc::new(ledger));
    let now = Moment { at, programs: &[] };
    assert_eq!(by(&alice(), &now), "all");
    let tainted = with(Ledger::assuming(["read:untrusted".parse().unwrap()].into(), &[].into(), at));
    assert_eq!(by(&tainted, &now), "tainted");
    let many = with(Ledger::assuming([].into(), &[(Effect::Write, 3)].into(), at));
    assert_eq!(by(&many, &now), "many");
    let later = Moment { at: Timestamp::from_micros(63_000_000), programs: &[] };
    assert_eq!(by(&many, &later), "old", "the minute is over");
    let git = ["/usr/bin/git".to_owned()];
    assert_eq!(by(&alice(), &Moment { at, programs: &git }), "by-git");
    let stood = with(Ledger::default());
    let request = Request {
        arguments: [].into(),
        effect: Effect::Write,
        host: "forge.test".to_owned(),
        method: "POST".to_owned(),
        operation: "forge/repo.push".parse().unwrap(),
        path: "/".to_owned(),
        service: "forge".parse().unwrap(),
    };
    let standing = Standing { approval: writ_core::ApprovalId::from_bits(1), rules: Vec::new() };
    stood.ledger().stand(&request, standing);
    assert_eq!(by(&stood, &now), "approved");
}

#[test]
fn an_annotation_that_cannot_bind_is_refused_where_it_stands() {
    for (annotation, effect, said) in [
        ("@aprove(\"owner\")", "permit", "test.cedar:1:1: `@aprove` is no annotation that means something"),
        ("@aprove(\"owner\")", "permit", "did you mean `@approve`?"),
        ("@approve(\"anybody\")", "permit", "`@approve`: `anybody` is not an approval"),
        ("@approve(\"oncall:\")", "permit", "`@approve`: `oncall:` is not an approval"),
        ("@approve(\"unix:a\\tb\")", "permit", "is not a group"),
        ("@limit(\"10\")", "forbid", "`@limit`: `10` is not a rate; hint: as in `10/min`"),
        ("@label(\"seen\")", "forbid", "`@label` on a forbid"),
        ("@budget(\"owner 10/day\")", "permit", "no operation has a whole number `owner`"),
    ] {
        let problems = load(&format!("{annotation} {effect} (principal, action, resource);")).unwrap_err();
        assert!(problems.contains(said), "{annotation}: {problems}");
    }
    let fine = "@description(\"why\") @budget(\"milestone 10/day\") permit (principal, action, resource);";
    assert!(load(fine).is_ok());
}

#[test]
fn obligations_change_the_digest_of_the_set() {
    let [plain, asks] = ["", "@approve(\"owner\")"]
        .map(|annotation| load(&format!("{annotation} permit (principal, action, resource);")).unwrap());
    assert_ne!(plain.digest(), asks.digest());
}

#[test]
fn samples_say_what_the_session_did_and_what_is_owed() {
    let policy = r#"
        permit (principal, action, resource);
        @approve("owner") forbid (principal, action in Writ::Action::"write", resource)
            when { context.session.labels.contains("read:untrusted") || context.session.done.write.hour > 2 };
    "#;
    let question = |more: &str| {
        format!(
            "[[sample]]\ntitle = \"t\"\nagent = \"coder\"\nhuman = \"unix:alice\"\noperation = \"mail/send\"\n\
             arguments = {{ to = \"x\" }}\n{more}\n"
        )
    };
    let samples = [
        "expect = \"permit\"",
        "labels = [\"read:untrusted\"]\nexpect = \"ask\"",
        "done = { write = 3 }\nexpect = \"ask\"\nowes = [\"approve owner, 10m\"]",
        "done = { write = 3 }\nexpect = \"permit\"",
        "done = { write = 3 }\nexpect = \"ask\"\nowes = [\"limit 1/min\"]",
    ];
    let text: String = samples.iter().map(|more| question(more)).collect();
    let read = read_samples(&[("s.toml".into(), text)], &services()).unwrap();
    let report = run_samples(&load(policy).unwrap(), &read);
    let passed: Vec<bool> = report.outcomes.iter().map(|outcome| outcome.passed).collect();
    assert_eq!(passed, [true, true, true, false, false]);
    let asked = &report.outcomes[1].explanation;
    assert!(asked.contains("It owes `approve owner, 10m`, by policy `test#2`."), "{asked}");
    let wrong = question("done = { writes = 3 }\nexpect = \"ask\"");
    let wrong = read_samples(&[("s.toml".into(), wrong)], &services()).unwrap_err().to_string();
    assert!(wrong.contains("`writes` is no effect"), "{wrong}");
}
