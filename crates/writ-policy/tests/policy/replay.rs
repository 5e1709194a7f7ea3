//! Replays: what is asked again and found, and what the record says too little of.

use std::sync::Arc;

use writ_core::event::{ActionIntended, ActionRefused, Event, Leaf, Request, SessionJoined, SessionOpened};
use writ_core::{
    ActionId, ActsFor, Argument, Assurance, ConnId, Grants, Mode, Operation, Process, Reason, RunId, Service,
    SessionId, Timestamp,
};
use writ_gate::{Decide, Moment, Session};
use writ_policy::{Decided, Engine, PolicySet, Replay, ReplayScope, Replayed, Skipped};

use crate::support::{led_by, load, operation, services, session};

const POLICY: &str = r#"
    @id("agents") permit (principal is Writ::Agent, action in [Writ::Action::"read", Writ::Action::"write"], resource);
    @id("devs") permit (principal in Writ::Group::"unix:dev", action, resource);
    @id("not-for-planner") forbid (principal is Writ::Agent, action in Writ::Action::"write", resource)
        when { context.session.chain.contains(Writ::Agent::"planner") };
"#;

/// A log, written as the gate writes it.
pub(crate) struct Book {
    engine: Engine,
    pub(crate) leaves: Vec<Leaf>,
}

impl Book {
    pub(crate) fn new(policy: &str) -> Self {
        Self::of(load(policy).unwrap())
    }

    pub(crate) fn of(set: Arc<PolicySet>) -> Self {
        Self { engine: Engine::new(set), leaves: Vec::new() }
    }

    fn write(&mut self, event: impl Into<Event>) {
        let seq = self.leaves.len() as u64;
        self.leaves.push(Leaf { event: event.into(), seq, time: Timestamp::from_micros(seq) });
    }

    fn open(&mut self, session: &Session, groups: Option<Vec<String>>) {
        let facts = session.facts();
        self.write(SessionOpened {
            actor: session.actor(),
            acts_for: ActsFor::Starter,
            assurance: facts.assurance,
            audit_session: None,
            dangers: Vec::new(),
            display: None,
            exe: String::new(),
            exe_sha256: String::new(),
            expires_us: facts.expires,
            grants: Grants::default(),
            groups,
            login_uid: None,
            parents: Vec::new(),
            process: process(),
            purpose: facts.purpose.clone(),
            script: None,
            uid: 1000,
        });
    }

    pub(crate) fn opened(&mut self, session: &Session) {
        self.open(session, Some(session.facts().human.groups.clone()));
    }

    pub(crate) fn act(&mut self, session: &Session, name: &str) -> ActionId {
        let (service, operation) = operation(&services(), name);
        self.decided(session, &service, &operation, None)
    }

    /// Decides and records, as refused for `other` if policy permits and that is given.
    pub(crate) fn decided(
        &mut self,
        session: &Session,
        service: &Service,
        operation: &Operation,
        other: Option<Reason>,
    ) -> ActionId {
        let verdict = self.engine.decide(session, service, operation, &Moment::default());
        let action = ActionId::from_bits(self.leaves.len() as u128);
        let request = Request {
            arguments: operation.arguments.clone(),
            effect: operation.rule.effect,
            host: "forge.test".to_owned(),
            method: "GET".to_owned(),
            operation: operation.rule.name.clone(),
            path: "/".to_owned(),
            service: service.name.clone(),
        };
        let (actor, conn, tool_path) = (session.actor(), ConnId::from_bits(0), session.tool_path(&[]));
        let assurance = Assurance::Kernel;
        match other.or((!verdict.permits()).then(|| verdict.refusal())) {
            None => self.write(ActionIntended {
                action,
                actor,
                assurance,
                conn,
                keys: verdict.keys,
                observed: None,
                process: process(),
                request,
                tool_path,
                terms: writ_core::event::Terms::default(),
            }),
            Some(_) if other.is_none() && service.mode == Mode::Observe => self.write(ActionIntended {
                action,
                actor,
                assurance,
                conn,
                observed: Some(verdict.refusal()),
                keys: verdict.keys,
                process: process(),
                request,
                tool_path,
                terms: writ_core::event::Terms::default(),
            }),
            Some(reason) => self.write(ActionRefused {
                action,
                actor,
                assurance,
                conn,
                keys: Some(verdict.keys),
                process: process(),
                reason,
                request: Some(request),
                tool_path,
                labels: std::collections::BTreeSet::new(),
            }),
        }
        action
    }

    pub(crate) fn replay(&self, candidate: &str, services: &[Arc<Service>], scope: ReplayScope) -> Replayed {
        let files = [("candidate.cedar".into(), candidate.to_owned())];
        let set = PolicySet::load(&files, services).unwrap_or_else(|problems| panic!("{problems}"));
        let mut replay = Replay::new(Arc::new(set), services, scope);
        self.leaves.iter().for_each(|leaf| replay.take(leaf));
        replay.finish()
    }

    fn all(&self, candidate: &str) -> Replayed {
        self.replay(candidate, &services(), ReplayScope::default())
    }
}

fn process() -> Process {
    Process { exec_generation: 0, pid: 1, start_us: 0 }
}

pub(crate) fn numbered(session: &Session, number: u128) -> Session {
    let mut facts = session.facts().clone();
    facts.id = SessionId::from_bits(number);
    facts.run = RunId::from_bits(number);
    Session::new(facts)
}

fn skipped(replayed: &Replayed) -> Vec<(Skipped, u64)> {
    replayed.skipped.iter().map(|skipped| (skipped.why, skipped.count)).collect()
}

fn texts<'t>(set: impl IntoIterator<Item = &'t String>) -> Vec<&'t str> {
    set.into_iter().map(String::as_str).collect()
}

#[test]
fn an_unchanged_set_changes_nothing() {
    let mut book = Book::new(POLICY);
    let alice = session("coder", "unix:alice", &["unix:dev"]);
    let bob = numbered(&session("coder", "unix:bob", &["unix:guests"]), 8);
    let planner = numbered(&session("planner", "unix:alice", &["unix:dev"]), 9);
    let led = numbered(&led_by(&["planner"], "coder", "unix:alice", &["unix:dev"]), 10);
    for session in [&alice, &bob, &planner, &led] {
        book.opened(session);
        for name in ["forge/repo.fetch", "forge/issues.create", "forge/repo.delete", "mail/send"] {
            book.act(session, name);
        }
    }
    let found = book.all(POLICY);
    assert_eq!((found.actions, found.replayed), (16, 16), "{found:?}");
    assert!(found.changes.is_empty() && found.skipped.is_empty(), "{found:?}");
    let refused = book.leaves.iter().filter(|leaf| leaf.event.denied()).count();
    assert_eq!(refused, 1 + 4 + 1 + 3, "groups and chain had their say when it was recorded");
}

#[test]
fn what_would_be_refused_and_permitted_is_counted_by_agent_and_operation() {
    let mut book = Book::new(POLICY);
    let alice = session("coder", "unix:alice", &["unix:dev"]);
    book.opened(&alice);
    book.act(&alice, "forge/issues.create");
    let newest = book.act(&alice, "forge/issues.create");
    book.act(&alice, "forge/repo.fetch");
    let deleted = book.act(&alice, "forge/repo.delete");
    let candidate = r#"
        @id("reads-and-deletes") permit (principal is Writ::Agent, action, resource)
            unless { context.args has draft && context.args.draft };
        @id("devs") permit (principal in Writ::Group::"unix:dev", action, resource);
        @id("no-issues") forbid (principal is Writ::Human, action == Writ::Action::"forge/issues.create", resource);
    "#;
    let found = book.all(candidate);
    let [refused, permitted] = found.changes.as_slice() else { panic!("{found:?}") };
    assert_eq!((refused.was, refused.now, refused.count), (Decided::Permitted, Decided::Refused, 2));
    assert_eq!((refused.agent.as_str(), refused.operation.as_str()), ("coder", "forge/issues.create"));
    assert_eq!(refused.example, newest);
    assert_eq!(texts(&refused.policies), ["no-issues"]);
    assert_eq!(texts(&refused.policies_before), ["devs"]);
    assert_eq!(refused.reasons.iter().copied().collect::<Vec<_>>(), ["policy.human_forbidden"]);
    assert_eq!((permitted.was, permitted.now, permitted.count), (Decided::Refused, Decided::Permitted, 1));
    assert_eq!(permitted.example, deleted);
    assert_eq!(texts(&permitted.policies), ["reads-and-deletes"]);
    assert_eq!(permitted.reasons.iter().copied().collect::<Vec<_>>(), ["policy.agent_not_permitted"]);
    assert_eq!((found.actions, found.replayed), (4, 4));
}

#[test]
fn an_empty_set_refuses_all_and_what_was_not_granted_stays_refused() {
    let mut book = Book::new(POLICY);
    let alice = session("coder", "unix:alice", &["unix:dev"]);
    book.opened(&alice);
    let (service, fetch) = operation(&services(), "forge/repo.fetch");
    book.decided(&alice, &service, &fetch, Some(Reason::NotGranted));
    book.decided(&alice, &service, &fetch, Some(Reason::Busy));
    let found = book.all("");
    let [change] = found.changes.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (change.count, found.replayed),
        (1, 2),
        "policy had said yes to the one for which there was no room"
    );
    assert!(change.policies.is_empty());
    assert_eq!(texts(&change.policies_before), ["agents", "devs"]);
}

#[test]
fn scope_is_time_and_agent_and_sessions_from_before_it_are_known() {
    let mut book = Book::new(POLICY);
    let alice = session("coder", "unix:alice", &["unix:dev"]);
    let other = numbered(&session("writer", "unix:alice", &["unix:dev"]), 8);
    book.opened(&alice);
    book.opened(&other);
    book.act(&alice, "forge/repo.fetch");
    let since = Some(Timestamp::from_micros(book.leaves.len() as u64));
    book.act(&alice, "forge/repo.fetch");
    book.act(&other, "forge/repo.fetch");
    let agent = Some("coder".parse().unwrap());
    let count = |scope| book.replay("", &services(), scope).replayed;
    assert_eq!(count(ReplayScope { since, agent: None }), 2);
    assert_eq!(count(ReplayScope { since: None, agent: agent.clone() }), 2);
    assert_eq!(count(ReplayScope { since, agent }), 1);
}

#[test]
fn what_the_record_does_not_say_is_not_guessed() {
    let mut book = Book::new(POLICY);
    let known = session("coder", "unix:alice", &["unix:dev"]);
    let unopened = numbered(&known, 20);
    let groupless = numbered(&known, 21);
    let led = numbered(&led_by(&["stranger"], "coder", "unix:alice", &["unix:dev"]), 22);
    book.opened(&known);
    book.open(&groupless, None);
    book.opened(&led);
    for session in [&unopened, &groupless, &led] {
        book.act(session, "forge/repo.fetch");
    }
    let (service, mut create) = operation(&services(), "forge/issues.create");
    create.arguments.insert("labels".to_owned(), Argument::Strings(["and 3 more".to_owned()].into()));
    book.decided(&known, &service, &create, None);
    book.act(&known, "forge/repo.push");
    book.act(&known, "mail/send");
    let undecided = ActionRefused {
        action: ActionId::from_bits(99),
        actor: known.actor(),
        assurance: Assurance::Kernel,
        conn: ConnId::from_bits(0),
        keys: None,
        process: process(),
        reason: Reason::AmbiguousRequest,
        request: None,
        tool_path: known.tool_path(&[]),
        labels: std::collections::BTreeSet::new(),
    };
    book.write(undecided);

    // The catalog has no mail any more, and `repo.push` another argument.
    let mut now = services();
    now.retain(|service| service.name.as_str() != "mail");
    crate::support::in_body(&mut now, "forge/repo.push").insert(
        "branch".to_owned(),
        crate::support::argument("branch", writ_core::argument::ArgumentKind::String, true),
    );
    let found = book.replay(POLICY, &now, ReplayScope::default());
    let expected = [
        (Skipped::NotDecided, 1),
        (Skipped::NoOperation, 1),
        (Skipped::OtherArguments, 1),
        (Skipped::ArgumentsCut, 1),
        (Skipped::NoSession, 1),
        (Skipped::NoGroups, 1),
        (Skipped::NoChain, 1),
    ];
    assert_eq!(skipped(&found), expected);
    assert_eq!((found.actions, found.replayed), (7, 0));

    let groups_do_not_matter = r#"@id("all") permit (principal, action, resource);"#;
    let found = book.replay(groups_do_not_matter, &now, ReplayScope::default());
    assert!(skipped(&found).iter().all(|(why, _)| *why != Skipped::NoGroups), "{found:?}");
    assert_eq!(found.replayed, 1);
}

#[test]
fn a_callers_session_is_known_by_its_joining() {
    let mut book = Book::new(POLICY);
    let base = session("coder", "unix:owner", &[]);
    let guest = {
        let mut facts = session("coder", "unix:alice", &["unix:dev"]).facts().clone();
        facts.id = SessionId::from_bits(30);
        Session::new(facts)
    };
    book.opened(&base);
    book.write(SessionJoined {
        actor: guest.actor(),
        below: base.facts().id,
        display: None,
        expires_us: Timestamp::from_micros(1),
        groups: Some(vec!["unix:dev".to_owned()]),
    });
    book.act(&guest, "forge/repo.fetch");
    let found = book.all(POLICY);
    assert_eq!((found.replayed, found.changes.len()), (1, 0), "{found:?}");
}

#[test]
fn what_was_done_because_it_was_observed_was_refused_by_policy_all_the_same() {
    let mut book = Book::new(POLICY);
    let alice = session("coder", "unix:alice", &["unix:dev"]);
    book.opened(&alice);
    let (service, delete) = operation(&services(), "forge/repo.delete");
    let observed = Service { mode: Mode::Observe, ..Service::clone(&service) };
    book.decided(&alice, &observed, &delete, None);
    assert!(!book.leaves.last().unwrap().event.denied(), "it was done");
    let same = book.all(POLICY);
    assert_eq!((same.replayed, same.changes.len(), same.observed), (1, 0, 1));
    let wider = book.all(r#"@id("all") permit (principal, action, resource);"#);
    let [change] = wider.changes.as_slice() else { panic!("{wider:?}") };
    assert_eq!((change.now, wider.observed), (Decided::Permitted, 0));
    assert_eq!(change.reasons.iter().copied().collect::<Vec<_>>(), ["policy.agent_not_permitted"]);
}
