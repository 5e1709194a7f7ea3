//! I8: what is missing to decide means no, with a reason. And the order of reasons when both keys refuse.

use std::sync::Arc;

use crate::support::{decide, led_by, load, operation, service, services, session};
use writ_core::{Effect, Mode, Reason, Service};
use writ_gate::{Decide, Moment, Verdict};
use writ_policy::{Engine, Observed, PolicySet, explain};

const AGENT: &str = "@id(\"agent\") permit (principal == Writ::Agent::\"coder\", action, resource);";
const HUMAN: &str = "@id(\"human\") permit (principal == Writ::Human::\"unix:alice\", action, resource);";
const OVERFLOW: &str = "when { 9223372036854775807 + 1 == 0 };";

fn alice() -> writ_gate::Session {
    session("coder", "unix:alice", &["unix:developers"])
}

#[track_caller]
fn refused(verdict: &Verdict, reason: Reason) {
    assert!(!verdict.permits());
    assert_eq!(verdict.reason, Some(reason), "{verdict:?}");
}

#[test]
fn both_keys_turn_or_nothing_does() {
    let verdict = decide(&format!("{AGENT}{HUMAN}"), &alice(), "forge/repo.fetch");
    assert!(verdict.permits());
    assert_eq!(verdict.keys.agent.policies, ["agent"]);
    assert_eq!(verdict.keys.human.policies, ["human"]);
    assert_eq!(verdict.keys.policy_digest.len(), 64);
}

#[test]
fn empty_policy_means_refuse() {
    for text in ["", "// nothing\n"] {
        let verdict = decide(text, &alice(), "forge/repo.fetch");
        refused(&verdict, Reason::AgentNotPermitted);
        assert!(!verdict.keys.agent.permitted && !verdict.keys.human.permitted);
        assert_eq!(
            explain(&verdict),
            "Refused, because no policy permits this agent to do this (policy.agent_not_permitted). \
             No policy permits the agent. No policy permits the human. \
             Next: see `writ why`; add a permit for the agent."
        );
    }
    let none = PolicySet::load(&[], &services()).unwrap();
    assert!(none.is_empty());
    let (service, operation) = operation(&services(), "forge/repo.fetch");
    let engine = Engine::new(Arc::new(none));
    refused(&engine.decide(&alice(), &service, &operation, &Moment::default()), Reason::AgentNotPermitted);
    refused(&engine.reach(&alice(), &service), Reason::AgentNotPermitted);
}

#[test]
fn one_missing_key_refuses() {
    let verdict = decide(HUMAN, &alice(), "forge/repo.fetch");
    refused(&verdict, Reason::AgentNotPermitted);
    assert!(verdict.keys.human.permitted, "the other key is recorded as it is");
    let verdict = decide(AGENT, &alice(), "forge/repo.fetch");
    refused(&verdict, Reason::HumanNotPermitted);
    assert!(verdict.keys.agent.permitted);
}

#[test]
fn an_unknown_agent_or_human_is_refused() {
    let text = format!("{AGENT}{HUMAN}");
    refused(
        &decide(&text, &session("other", "unix:alice", &[]), "forge/repo.fetch"),
        Reason::AgentNotPermitted,
    );
    refused(
        &decide(&text, &session("coder", "unix:bob", &[]), "forge/repo.fetch"),
        Reason::HumanNotPermitted,
    );
    // A human is never mistaken for an agent of the same name, nor a group for a human.
    let verdict =
        decide("permit (principal == Writ::Agent::\"alice\", action, resource);", &alice(), "mail/send");
    refused(&verdict, Reason::AgentNotPermitted);
}

#[test]
fn an_operation_that_the_set_was_not_checked_against_is_refused() {
    let engine = Engine::new(load("permit (principal, action, resource);").unwrap());
    let other = [service("wiki", &[("page.read", Effect::Read, &[])])];
    let (wiki, read) = operation(&other, "wiki/page.read");
    refused(&engine.decide(&alice(), &wiki, &read, &Moment::default()), Reason::AgentNotPermitted);
    refused(&engine.reach(&alice(), &wiki), Reason::AgentNotPermitted);
}

#[test]
fn an_operation_with_other_facts_than_the_sets_is_refused() {
    let engine = Engine::new(load("permit (principal, action, resource);").unwrap());
    let other = [service("forge", &[("repo.delete", Effect::Read, &["owner", "repo"])])];
    let (forge, read) = operation(&other, "forge/repo.delete");
    refused(&engine.decide(&alice(), &forge, &read, &Moment::default()), Reason::PolicyError);
    let (_, send) = operation(&services(), "mail/send");
    let (forge, _) = operation(&services(), "forge/repo.fetch");
    refused(&engine.decide(&alice(), &forge, &send, &Moment::default()), Reason::PolicyError);
}

#[test]
fn a_missing_or_surplus_argument_is_refused_even_without_conditions() {
    let engine = Engine::new(load(&format!("{AGENT}{HUMAN}")).unwrap());
    let (forge, mut fetch) = operation(&services(), "forge/repo.fetch");
    fetch.arguments.insert("more".to_owned(), "".into());
    refused(&engine.decide(&alice(), &forge, &fetch, &Moment::default()), Reason::PolicyError);
    fetch.arguments.clear();
    refused(&engine.decide(&alice(), &forge, &fetch, &Moment::default()), Reason::PolicyError);
}

#[test]
fn an_evaluation_error_refuses() {
    let failing =
        format!("{AGENT}{HUMAN} @id(\"f\") forbid (principal is Writ::Agent, action, resource) {OVERFLOW}");
    let verdict = decide(&failing, &alice(), "forge/repo.fetch");
    refused(&verdict, Reason::PolicyError);
    assert_eq!(verdict.keys.agent.policies, ["f"]);
    assert!(!verdict.keys.agent.permitted && verdict.keys.human.permitted);
    assert!(explain(&verdict).contains("evaluation failed in policy `f`"), "{}", explain(&verdict));

    let failing = format!("{AGENT} permit (principal is Writ::Human, action, resource) {OVERFLOW}");
    refused(&decide(&failing, &alice(), "forge/repo.fetch"), Reason::PolicyError);
}

#[test]
fn what_is_certain_wins_over_what_failed() {
    let agent_failed = format!("permit (principal is Writ::Agent, action, resource) {OVERFLOW}");
    let refusal = |more: &str| decide(&format!("{agent_failed}{more}"), &alice(), "forge/repo.fetch").reason;
    assert_eq!(refusal(HUMAN), Some(Reason::PolicyError));
    assert_eq!(refusal(""), Some(Reason::HumanNotPermitted));
    assert_eq!(refusal("forbid (principal is Writ::Human, action, resource);"), Some(Reason::HumanForbidden));
    assert_eq!(refusal("forbid (principal is Writ::Agent, action, resource);"), Some(Reason::AgentForbidden));
    // A forbid that fails cannot help an agent that nothing permits.
    let forbid_failed = format!("{HUMAN} forbid (principal is Writ::Agent, action, resource) {OVERFLOW}");
    refused(&decide(&forbid_failed, &alice(), "forge/repo.fetch"), Reason::AgentNotPermitted);
}

#[test]
fn any_forbid_wins_and_the_agents_reason_comes_first() {
    let text = format!(
        "{AGENT}{HUMAN} @id(\"no\") forbid (principal, action == Writ::Action::\"forge/repo.delete\", resource);"
    );
    let verdict = decide(&text, &alice(), "forge/repo.delete");
    refused(&verdict, Reason::AgentForbidden);
    assert_eq!(
        (&*verdict.keys.agent.policies, &*verdict.keys.human.policies),
        (&["no".to_owned()][..], &["no".to_owned()][..])
    );
    let text = format!(
        "{AGENT}{HUMAN} forbid (principal is Writ::Human, action in Writ::Action::\"delete\", resource);"
    );
    refused(&decide(&text, &alice(), "forge/repo.delete"), Reason::HumanForbidden);
    assert!(decide(&text, &alice(), "forge/repo.fetch").permits());
}

#[test]
fn conditions_see_arguments_groups_and_the_session() {
    let text = "permit (principal == Writ::Agent::\"coder\", action, resource == Writ::Service::\"forge\")
        when { context.args has owner && context.args.owner == \"acme\"
            && context.session.human in Writ::Group::\"unix:developers\"
            && context.session.agent == principal && context.session.purpose == \"tests\"
            && context.session.assurance == \"kernel\" };
      permit (principal in Writ::Group::\"unix:developers\", action, resource)
        unless { context.session.id == \"\" };";
    assert!(decide(text, &alice(), "forge/repo.fetch").permits());
    refused(
        &decide(text, &session("coder", "unix:alice", &[]), "forge/repo.fetch"),
        Reason::AgentNotPermitted,
    );
    let engine = Engine::new(load(text).unwrap());
    let (forge, mut fetch) = operation(&services(), "forge/repo.fetch");
    fetch.arguments.insert("owner".to_owned(), "other".into());
    refused(&engine.decide(&alice(), &forge, &fetch, &Moment::default()), Reason::AgentNotPermitted);
}

#[test]
fn groups_are_the_sessions_and_not_those_of_an_earlier_one() {
    let text = format!("{AGENT} permit (principal in Writ::Group::\"unix:developers\", action, resource);");
    let engine = Engine::new(load(&text).unwrap());
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    for _ in 0..2 {
        assert!(engine.decide(&alice(), &forge, &fetch, &Moment::default()).permits());
        let without = session("coder", "unix:alice", &["unix:alice"]);
        refused(&engine.decide(&without, &forge, &fetch, &Moment::default()), Reason::HumanNotPermitted);
    }
}

#[test]
fn what_is_observed_is_decided_all_the_same_and_only_for_whom_it_is() {
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    let agent = alice().facts().agent.clone();
    let engine = Engine::observing(load(AGENT).unwrap(), Observed::from([agent]));
    let verdict = engine.decide(&alice(), &forge, &fetch, &Moment::default());
    assert!(!verdict.permits() && engine.reach(&alice(), &forge).reaches(&alice()));
    assert_eq!((verdict.mode, verdict.observed()), (Mode::Observe, Some(Reason::HumanNotPermitted)));
    // The next set enforces again.
    engine.replace(load(AGENT).unwrap(), Observed::from(["another".parse().unwrap()]));
    let verdict = engine.decide(&alice(), &forge, &fetch, &Moment::default());
    assert_eq!((verdict.mode, verdict.observed()), (Mode::Enforce, None));
    assert!(!engine.reach(&alice(), &forge).reaches(&alice()));
    // Of a service, for everybody; and what both keys permit is nothing to speak of.
    let observed = Service { mode: Mode::Observe, ..Service::clone(&forge) };
    let verdict = engine.decide(&alice(), &observed, &fetch, &Moment::default());
    assert_eq!(verdict.observed(), Some(Reason::HumanNotPermitted));
    engine.replace(load(&format!("{AGENT}{HUMAN}")).unwrap(), Observed::new());
    assert_eq!(engine.decide(&alice(), &observed, &fetch, &Moment::default()).observed(), None);
}

#[test]
fn a_replaced_set_holds_for_the_next_decision() {
    let engine = Engine::new(load(&format!("{AGENT}{HUMAN}")).unwrap());
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    let before = engine.decide(&alice(), &forge, &fetch, &Moment::default());
    assert!(before.permits());
    engine.replace(load(AGENT).unwrap(), Observed::new());
    let after = engine.decide(&alice(), &forge, &fetch, &Moment::default());
    refused(&after, Reason::HumanNotPermitted);
    assert_ne!(before.keys.policy_digest, after.keys.policy_digest);
    assert_eq!(after.keys.policy_digest, engine.set().digest());
}

#[test]
fn more_principals_than_are_kept_are_decided_all_the_same() {
    let engine =
        Engine::new(load(&format!("{AGENT} permit (principal is Writ::Human, action, resource);")).unwrap());
    let (forge, fetch) = operation(&services(), "forge/repo.fetch");
    for n in 0..=writ_gate::limits::POLICY_VIEWS_MAX * 2 {
        assert!(
            engine
                .decide(&session("coder", &format!("unix:u{n}"), &[]), &forge, &fetch, &Moment::default())
                .permits()
        );
    }
}

#[test]
fn a_record_has_room_for_the_determining_policies() {
    let text = "permit (principal, action, resource);".repeat(100);
    let verdict = decide(&text, &alice(), "forge/repo.fetch");
    assert!(verdict.permits());
    assert_eq!(verdict.keys.agent.policies.len(), writ_gate::limits::DETERMINING_POLICIES_MAX + 1);
    assert_eq!(verdict.keys.agent.policies.last().unwrap(), "and 68 more");
}

#[test]
fn reach_never_says_no_where_a_decision_says_yes() {
    let texts = [
        format!("{AGENT}{HUMAN}"),
        AGENT.to_owned(),
        HUMAN.to_owned(),
        String::new(),
        format!("{AGENT}{HUMAN} forbid (principal, action, resource);"),
        format!(
            "{AGENT}{HUMAN} forbid (principal, action, resource) when {{ context.session.purpose != \"tests\" }};"
        ),
        format!(
            "{AGENT}{HUMAN} forbid (principal is Writ::Agent, action in Writ::Action::\"delete\", resource);"
        ),
        format!(
            "{HUMAN} permit (principal, action == Writ::Action::\"mail/send\", resource) when {{ context.args.to == \"acme\" }};"
        ),
        "permit (principal is Writ::Agent, action in Writ::Action::\"read\", resource);
         permit (principal is Writ::Human, action in Writ::Action::\"write\", resource);"
            .to_owned(),
    ];
    let (mut yes, mut no) = (0, 0);
    for text in &texts {
        let engine = Engine::new(load(text).unwrap());
        for who in [alice(), session("other", "unix:alice", &[]), session("coder", "unix:bob", &[])] {
            for service in services() {
                let reach = engine.reach(&who, &service);
                let mut some =
                    service.operations.iter().map(|rule| operation(&services(), rule.name.as_str()).1);
                let permitted = some
                    .any(|operation| engine.decide(&who, &service, &operation, &Moment::default()).permits());
                assert!(reach.permits() || !permitted, "{text}\n{who:?}\n{}", service.name);
                assert_eq!(reach.permits(), reach.reason.is_none());
                // What is offered of a service is some of it exactly if it is reached at all.
                let hopes: Vec<_> = service
                    .operations
                    .iter()
                    .filter(|rule| engine.could(&who, &service, rule).permits())
                    .collect();
                assert_eq!(reach.permits(), !hopes.is_empty(), "{text}\n{who:?}\n{}", service.name);
                for rule in &service.operations {
                    let operation = operation(&services(), rule.name.as_str()).1;
                    let verdict = engine.decide(&who, &service, &operation, &Moment::default());
                    assert!(hopes.contains(&rule) || !verdict.permits(), "{text}\n{}", rule.name);
                }
                if reach.permits() { yes += 1 } else { no += 1 }
            }
        }
    }
    assert!(yes > 5 && no > 5, "{yes} {no}");
    let engine = Engine::new(load(&texts[4]).unwrap());
    let verdict = engine.reach(&alice(), &services()[0]);
    refused(&verdict, Reason::AgentForbidden);
    refused(&engine.could(&alice(), &services()[0], &services()[0].operations[0]), Reason::AgentForbidden);
    assert_eq!(verdict.keys.agent.policies, ["test#3"]);
    // A forbid of something else is not why a stranger may do nothing.
    let engine = Engine::new(load(&texts[6]).unwrap());
    refused(&engine.reach(&session("other", "unix:alice", &[]), &services()[0]), Reason::AgentNotPermitted);
}

#[test]
fn policy_sees_through_whom_it_came() {
    let by_agent = "when { context.session.chain.contains(Writ::Agent::\"planner\") };";
    let by_run = "when { context.session.runs.contains(\"spiffe://example.org/agent/planner/run/00000000000000000000000009\") };";
    for condition in [by_agent, by_run] {
        let text = format!(
            "{AGENT}{HUMAN}@id(\"not-for-the-planner\") forbid (principal is Writ::Agent, action, resource) {condition}"
        );
        let fetched =
            |chain: &[&str]| decide(&text, &led_by(chain, "coder", "unix:alice", &[]), "forge/repo.fetch");
        assert!(fetched(&[]).permits() && fetched(&["reviewer"]).permits(), "{condition}");
        for chain in [&["planner"][..], &["planner", "reviewer"], &["reviewer", "planner"]] {
            let verdict = fetched(chain);
            refused(&verdict, Reason::AgentForbidden);
            assert_eq!(verdict.keys.agent.policies, ["not-for-the-planner"]);
        }
    }
}
