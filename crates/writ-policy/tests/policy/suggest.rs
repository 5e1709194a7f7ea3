//! Suggestions: what was done is permitted by them, and nothing that was not.

use std::sync::Arc;

use proptest::prelude::*;
use writ_core::argument::ArgumentKind;
use writ_core::{Argument, Arguments, Effect, Mode, Operation, Reason, Service};
use writ_gate::{Decide, Moment, Session};
use writ_policy::{Engine, LeftOut, Open, PolicySet, ReplayScope, Skipped, Suggest, SuggestScope, Suggested};

use crate::replay::{Book, numbered};
use crate::support::{argument, in_body, load, operation, service, services, session};

/// What is in force while the agents are observed: people may read, and nothing is written to the attic or deleted.
const IN_FORCE: &str = r#"
    @id("people-read") permit (principal is Writ::Human, action in Writ::Action::"read", resource);
    @id("not-to-the-attic") forbid (principal, action in Writ::Action::"write", resource)
        when { context.args has owner && context.args.owner == "attic" };
    @id("nothing-is-deleted") forbid (principal is Writ::Agent, action in Writ::Action::"delete", resource);
"#;

/// The forbids of it.
const FORBIDS: &str = r#"
    @id("not-to-the-attic") forbid (principal, action in Writ::Action::"write", resource)
        when { context.args has owner && context.args.owner == "attic" };
    @id("nothing-is-deleted") forbid (principal is Writ::Agent, action in Writ::Action::"delete", resource);
"#;

/// The services as the tests have them, observed only; an issue has a title.
fn observed() -> Vec<Arc<Service>> {
    let mut services = services();
    in_body(&mut services, "forge/issues.create")
        .insert("title".to_owned(), argument("title", ArgumentKind::String, true));
    for service in &mut services {
        Arc::make_mut(service).mode = Mode::Observe;
    }
    services
}

fn set(text: &str, services: &[Arc<Service>]) -> Arc<PolicySet> {
    let files = [("set.cedar".into(), text.to_owned())];
    Arc::new(PolicySet::load(&files, services).unwrap_or_else(|problems| panic!("{problems}\n{text}")))
}

fn asked(services: &[Arc<Service>], name: &str, arguments: &[(&str, Argument)]) -> (Arc<Service>, Operation) {
    let (service, mut operation) = operation(services, name);
    let given = arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    operation.arguments.extend(given);
    (service, operation)
}

fn suggest(
    book: &Book,
    in_force: &Arc<PolicySet>,
    services: &[Arc<Service>],
    scope: SuggestScope,
) -> Suggested {
    let mut suggest = Suggest::new(Arc::clone(in_force), services, scope);
    book.leaves.iter().for_each(|leaf| suggest.take(leaf));
    suggest.finish()
}

fn of(agent: &str) -> SuggestScope {
    SuggestScope { agent: agent.parse().unwrap(), human: None, since: None }
}

/// Alice, Bob and their agents.
struct People {
    alice: Session,
    bob: Session,
    writer: Session,
}

impl People {
    fn new() -> Self {
        Self {
            alice: session("coder", "unix:alice", &["unix:dev"]),
            bob: numbered(&session("coder", "unix:bob", &["unix:guests"]), 8),
            writer: numbered(&session("writer", "unix:alice", &["unix:dev"]), 9),
        }
    }
}

/// An hour of two agents for two people: nothing of it but the reading of people was permitted, and all of it is done.
fn hour(people: &People, services: &[Arc<Service>]) -> Book {
    let mut book = Book::of(set(IN_FORCE, services));
    for session in [&people.alice, &people.bob, &people.writer] {
        book.opened(session);
    }
    let kinds = ["site", "app", "docs"].iter().cycle().zip(["ui", "bug"].iter().cycle());
    for (minute, (repo, label)) in (0..60).zip(kinds) {
        let repo = || ("repo", Argument::from(*repo));
        let title = ("title", Argument::from(format!("a bug of minute {minute}")));
        let labels = Argument::Strings([(*label).to_owned()].into());
        let create = asked(services, "forge/issues.create", &[repo(), title, ("labels", labels)]);
        let mut act = |who: &Session, (service, operation): (Arc<Service>, Operation)| {
            book.decided(who, &service, &operation, None);
        };
        act(&people.alice, create);
        act(&people.alice, asked(services, "forge/issues.list", &[repo()]));
        act(&people.bob, asked(services, "forge/issues.list", &[repo()]));
        act(&people.writer, asked(services, "mail/send", &[("to", format!("p{minute}@example.org").into())]));
        act(&people.writer, asked(services, "forge/repo.push", &[repo()]));
    }
    // Forbidden, and done because it is observed.
    for name in ["forge/repo.delete", "forge/repo.push"] {
        let (service, operation) = asked(services, name, &[("owner", "attic".into())]);
        book.decided(&people.alice, &service, &operation, None);
    }
    // Refused where it was enforced.
    let (service, push) = asked(services, "forge/repo.push", &[]);
    let enforced = Service { mode: Mode::Enforce, ..Service::clone(&service) };
    book.decided(&people.alice, &enforced, &push, None);
    book
}

#[test]
fn what_was_recorded_is_permitted_and_what_was_not_is_refused() {
    let (services, people) = (observed(), People::new());
    let book = hour(&people, &services);
    let in_force = set(IN_FORCE, &services);
    let coder = suggest(&book, &in_force, &services, of("coder"));
    let writer = suggest(&book, &in_force, &services, of("writer"));
    assert_eq!((coder.actions, coder.suggested, writer.suggested), (183, 180, 120));
    let left: Vec<(LeftOut, u64)> = coder.left_out.iter().map(|left| (left.why, left.count)).collect();
    assert_eq!(left, [(LeftOut::Refused, 1), (LeftOut::Forbidden, 2)]);

    let candidate = format!("{FORBIDS}\n{}\n{}", coder.text, writer.text);
    let found = book.replay(&candidate, &services, ReplayScope::default());
    assert_eq!((found.actions, found.replayed), (303, 303));
    assert!(found.changes.iter().all(|change| change.now == writ_policy::Decided::Permitted), "{found:?}");
    assert_eq!(found.observed, 2, "only what is forbidden is done because it is observed: {found:?}");

    let engine = Engine::new(set(&candidate, &services));
    let refuses = |who: &Session, name: &str, arguments: &[(&str, Argument)]| {
        let (service, operation) = asked(&services, name, arguments);
        let verdict = engine.decide(who, &service, &operation, &Moment::default());
        assert!(!verdict.permits(), "{name} {arguments:?}: {verdict:?}");
        verdict.refusal()
    };
    let People { alice, bob, writer } = &people;
    let carol = numbered(&session("coder", "unix:carol", &["unix:dev"]), 10);
    let title = || ("title", Argument::from("a bug"));
    let site = || ("repo", Argument::from("site"));
    let ui = || ("labels", Argument::Strings(["ui".to_owned()].into()));
    let good = asked(&services, "forge/issues.create", &[site(), title(), ui()]);
    assert!(engine.decide(alice, &good.0, &good.1, &Moment::default()).permits(), "{candidate}");
    // Other arguments, an optional one that never was there, another label beside a known one.
    let both = ("labels", Argument::Strings(["ui".to_owned(), "security".to_owned()].into()));
    for attack in [
        &[title(), ui(), site(), ("owner", "evil".into())][..],
        &[title(), ui(), ("repo", "secrets".into())],
        &[title(), ui(), site(), ("draft", Argument::Boolean(true))],
        &[title(), ui(), site(), ("milestone", Argument::Integer(1))],
        &[title(), site()],
        &[title(), site(), both],
    ] {
        assert_eq!(refuses(alice, "forge/issues.create", attack), Reason::AgentNotPermitted);
    }
    // Operations that only another agent, or the agent for another human, did.
    assert_eq!(refuses(alice, "mail/send", &[("to", "p1@example.org".into())]), Reason::AgentNotPermitted);
    assert_eq!(refuses(alice, "forge/repo.push", &[site()]), Reason::AgentNotPermitted);
    assert_eq!(refuses(writer, "forge/issues.list", &[site()]), Reason::AgentNotPermitted);
    assert_eq!(refuses(bob, "forge/issues.create", &[site(), title(), ui()]), Reason::HumanNotPermitted);
    assert_eq!(refuses(&carol, "forge/issues.list", &[site()]), Reason::HumanNotPermitted);
    // What is forbidden stays it.
    assert_eq!(refuses(alice, "forge/repo.delete", &[("owner", "attic".into())]), Reason::AgentForbidden);
    let elsewhere = [("owner", "attic".into()), site()];
    assert_eq!(refuses(writer, "forge/repo.push", &elsewhere), Reason::AgentForbidden);
    assert_eq!(refuses(alice, "forge/repo.fetch", &[site()]), Reason::AgentNotPermitted);
}

#[test]
fn each_line_says_what_it_rests_on() {
    let (services, people) = (observed(), People::new());
    let book = hour(&people, &services);
    let coder = suggest(&book, &set(IN_FORCE, &services), &services, of("coder"));
    let created = coder.policies.iter().find(|p| p.operation.as_str() == "forge/issues.create").unwrap();
    let expected = format!(
        r#"// 60 actions, first {}, newest {}
// 60 of them done only because observed
// any `title`: free text
@id("suggested/coder/forge/issues.create")
permit (
  principal == Writ::Agent::"coder",
  action == Writ::Action::"forge/issues.create",
  resource == Writ::Service::"forge"
)
when {{
  !(context.args has draft) &&
  context.args has labels && ["bug", "ui"].containsAll(context.args.labels) &&
  !(context.args has milestone) &&
  context.args.owner == "acme" &&
  ["app", "docs", "site"].contains(context.args.repo)
}};
"#,
        created.first, created.newest
    );
    assert!(coder.text.contains(&expected), "{}", coder.text);
    assert!(coder.text.starts_with(
        "// Suggested for agent `coder`: 180 of 183 recorded actions, for 2 humans.\n\
         // Not suggested: 1 refused and not observed.\n\
         // Not suggested: 2 done because they were observed, and forbidden.\n"
    ));
    let human = "when {\n  context.session.agent == Writ::Agent::\"coder\" &&\n";
    assert_eq!(coder.text.matches(human).count(), 3, "{}", coder.text);
    assert!(!coder.text.contains("writer"), "one agent's record is no other's");
    assert_eq!(
        coder.policies.iter().map(|p| p.human.is_some()).collect::<Vec<_>>(),
        [false, false, true, true, true]
    );
    let mail = suggest(&book, &set(IN_FORCE, &services), &services, of("writer"));
    let mail = mail.policies.iter().find(|p| p.operation.as_str() == "mail/send").unwrap();
    assert_eq!(mail.open.iter().collect::<Vec<_>>(), [(&"to".to_owned(), &Open::ManyValues)]);

    let for_bob = SuggestScope { human: Some("unix:bob".parse().unwrap()), ..of("coder") };
    let for_bob = suggest(&book, &set(IN_FORCE, &services), &services, for_bob);
    assert_eq!((for_bob.actions, for_bob.policies.len()), (60, 2));
    assert_eq!(for_bob.policies[0].conditions[0], "context.session.human == Writ::Human::\"unix:bob\"");
    assert!(!for_bob.text.contains("alice"));
}

#[test]
fn what_is_forbidden_now_or_cannot_be_asked_is_not_suggested() {
    let (services, people) = (observed(), People::new());
    let mut book = Book::of(set("", &services));
    let unopened = numbered(&people.alice, 20);
    book.opened(&people.alice);
    let (forge, push) = asked(&services, "forge/repo.push", &[("owner", "attic".into())]);
    book.decided(&people.alice, &forge, &push, None);
    book.decided(&unopened, &forge, &push, None);
    let (mail, send) = asked(&services, "mail/send", &[]);
    book.decided(&people.alice, &mail, &send, None);
    let now: Vec<_> = services.iter().filter(|service| service.name.as_str() == "forge").cloned().collect();
    let found = suggest(&book, &set(IN_FORCE, &now), &now, of("coder"));
    let left: Vec<_> = found.left_out.iter().map(|left| (left.why, left.count)).collect();
    let unasked = |why| (LeftOut::Unasked(why), 1);
    assert_eq!(
        left,
        [(LeftOut::ForbiddenNow, 1), unasked(Skipped::NoOperation), unasked(Skipped::NoSession)]
    );
    assert!(found.policies.is_empty() && set(&found.text, &now).is_empty());
}

#[test]
fn a_cut_argument_is_free_text() {
    let (services, people) = (observed(), People::new());
    let mut book = Book::of(set("", &services));
    book.opened(&people.alice);
    let title = format!("{}...", "x".repeat(writ_gate::limits::RECORDED_ARGUMENT_BYTES_MAX));
    let (forge, create) = asked(&services, "forge/issues.create", &[("title", title.into())]);
    book.decided(&people.alice, &forge, &create, None);
    let found = suggest(&book, &set(IN_FORCE, &services), &services, of("coder"));
    assert_eq!(found.suggested, 1, "{found:?}");
    assert_eq!(found.policies[0].open.get("title"), Some(&Open::FreeText));
    assert!(load(FORBIDS).is_ok() && set(&found.text, &services).len() == 2);
}

#[test]
fn a_permit_with_obligations_is_not_replaced() {
    let (services, people) = (observed(), People::new());
    let owing = r#"
        @id("ten-lists") @limit("10/min") permit (principal is Writ::Agent, action == Writ::Action::"forge/issues.list", resource);
        @id("people") permit (principal is Writ::Human, action, resource);
        @id("few-writes") @limit("10/min") forbid (principal, action in Writ::Action::"write", resource);
        @id("not-too-many") forbid (principal, action, resource) when { context.session.done.write.hour > 100 };
    "#;
    let mut book = Book::of(set(owing, &services));
    book.opened(&people.alice);
    for name in ["forge/issues.list", "forge/repo.push"] {
        let (service, operation) = asked(&services, name, &[]);
        book.decided(&people.alice, &service, &operation, None);
    }
    let found = suggest(&book, &set(owing, &services), &services, of("coder"));
    assert_eq!(
        found.left_out.iter().map(|left| (left.why, left.count)).collect::<Vec<_>>(),
        [(LeftOut::Owing, 1)]
    );
    let names: Vec<_> = found.policies.iter().map(|policy| policy.operation.as_str()).collect();
    assert_eq!(names, ["forge/repo.push"; 2], "a forbid keeps its say, whatever it asks for: {}", found.text);
}

/// One operation with an argument of each kind, required and not, under names that Cedar has other uses for.
fn odd() -> Vec<Arc<Service>> {
    let mut services = vec![service("odd", &[("do", Effect::Write, &["in", "9x"])])];
    *in_body(&mut services, "odd/do") = [
        ("has", ArgumentKind::String, false),
        ("number", ArgumentKind::Integer, false),
        ("flag", ArgumentKind::Boolean, true),
        ("tags", ArgumentKind::Strings, true),
        ("more", ArgumentKind::Strings, false),
    ]
    .map(|(name, kind, required)| (name.to_owned(), argument(name, kind, required)))
    .into();
    for service in &mut services {
        Arc::make_mut(service).mode = Mode::Observe;
    }
    services
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(
            &["a", "b", "", "\"", "\\", "*", "$", "\u{e9}", "\u{202e}", "...", "a b", "\0"][..]
        )
        .prop_map(str::to_owned),
        "[^\u{202a}-\u{202d}\u{2066}-\u{2069}\n]{0,80}",
    ]
}

fn arguments() -> impl Strategy<Value = Arguments> {
    let texts = || prop::collection::btree_set(text(), 0..4);
    let number = prop_oneof![-3..3_i64, Just(-writ_core::argument::INTEGER_MAX)];
    let optional = (prop::option::of(text()), prop::option::of(number), prop::option::of(texts()));
    (text(), text(), any::<bool>(), texts(), optional).prop_map(
        |(place, nine, flag, tags, (has, number, more))| {
            let optional = [
                ("has", has.map(Argument::String)),
                ("number", number.map(Argument::Integer)),
                ("more", more.map(Argument::Strings)),
            ];
            let always = [
                ("in", Argument::String(place)),
                ("9x", Argument::String(nine)),
                ("flag", Argument::Boolean(flag)),
                ("tags", Argument::Strings(tags)),
            ];
            let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
            always.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value)).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_done_is_permitted_by_what_is_suggested(done in prop::collection::vec(arguments(), 1..14)) {
        let (services, alice) = (odd(), session("coder", "unix:alice", &[]));
        let mut book = Book::of(set("", &services));
        book.opened(&alice);
        let (service, mut operation) = operation(&services, "odd/do");
        for arguments in &done {
            operation.arguments.clone_from(arguments);
            book.decided(&alice, &service, &operation, None);
        }
        let found = suggest(&book, &set("", &services), &services, of("coder"));
        let hidden = |arguments: &Arguments| arguments.values().any(|argument| argument.to_string().contains('\u{202e}'));
        let left = found.left_out.iter().map(|left| left.count).sum::<u64>();
        prop_assert_eq!(found.suggested + left, done.len() as u64);
        prop_assert!(left <= done.iter().filter(|arguments| hidden(arguments)).count() as u64);
        let engine = Engine::new(set(&found.text, &services));
        for arguments in done.into_iter().filter(|arguments| !hidden(arguments)) {
            operation.arguments = arguments;
            let verdict = engine.decide(&alice, &service, &operation, &Moment::default());
            prop_assert!(verdict.permits(), "{:?}\n{}", operation.arguments, found.text);
        }
    }
}
