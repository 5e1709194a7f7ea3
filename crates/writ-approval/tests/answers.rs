//! Questions and answers against a log in memory: who counts, how often, and what is spent.

#![expect(
    clippy::unwrap_used,
    clippy::default_trait_access,
    reason = "a test fails by panicking, and names no empty map's type"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use writ_approval::{Answerer, Approvals, NotAnswered, Ports, Question};
use writ_core::clock::ManualClock;
use writ_core::event::{ActionIntended, Answer, Event, Leaf, Request};
use writ_core::obligation::Approve as Rule;
use writ_core::service::{Headers, OperationRule, PathTemplate, RequestHead};
use writ_core::{
    ActionId, ApprovalId, Assurance, Clock, Effect, HostName, IdSource, Operation, Reason, RunId, SessionId,
    Timestamp, TrustDomain,
};
use writ_gate::{
    Approve, BoxFuture, Cause, Delegation, Human, Record, RecordError, Session, SessionFacts, Ticket, Wanted,
};

#[derive(Default)]
struct Log {
    events: Mutex<Vec<Event>>,
    full: std::sync::atomic::AtomicBool,
}

impl Record for Log {
    fn intent(&self, _: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        Box::pin(async { Err(RecordError("not here".into())) })
    }

    fn receipt(&self, ticket: Ticket, _: Event) {
        ticket.spend();
    }

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            if self.full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(RecordError("no space".into()));
            }
            self.events.lock().unwrap().push(event);
            Ok(())
        })
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

#[derive(Default)]
struct Counted(std::sync::atomic::AtomicU64);

impl IdSource for Counted {
    fn random(&self) -> u128 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into()
    }
}

struct World {
    log: Arc<Log>,
    clock: Arc<ManualClock>,
    approvals: Arc<Approvals>,
    session: Arc<Session>,
    operation: Operation,
}

const RULES: &[(&str, &str)] = &[("two", "unix:oncall, 10m, quorum 2, not self"), ("own", "owner, 1h")];

fn person(name: &str, groups: &[&str], owns: &[&str]) -> Answerer {
    Answerer {
        human: name.parse().unwrap(),
        groups: groups.iter().map(ToString::to_string).collect(),
        owns: owns.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<_>>(),
    }
}

fn rules(rules: &[(&str, &str)]) -> Vec<(String, Rule)> {
    rules.iter().map(|(policy, rule)| ((*policy).to_owned(), rule.parse().unwrap())).collect()
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000)));
        let log = Arc::new(Log::default());
        let agent: writ_core::AgentName = "coder".parse().unwrap();
        let run = RunId::from_bits(7);
        let session = Session::new(SessionFacts {
            id: SessionId::from_bits(7),
            run,
            spiffe_id: TrustDomain::new("example.org").unwrap().run_id(&agent, run),
            agent,
            human: Human {
                id: "unix:alice".parse().unwrap(),
                display: None,
                groups: Vec::new(),
                uid: 1000,
                login_uid: None,
                audit_session: None,
            },
            purpose: String::new(),
            opened: clock.now(),
            expires: clock.now().plus(Duration::from_hours(2)),
            assurance: Assurance::Kernel,
            delegation: Delegation::default(),
        });
        let rule = OperationRule {
            name: "forge/issues.create".parse().unwrap(),
            effect: Effect::Write,
            methods: Vec::new(),
            path: PathTemplate { text: String::new(), segments: Vec::new() },
            when: Default::default(),
            arguments: Default::default(),
            graphql: None,
            mcp: None,
            labels: BTreeSet::new(),
        };
        let approvals = Self::daemon(&log, &clock);
        let operation = Operation { rule: Arc::new(rule), arguments: Default::default() };
        Self { log, clock, approvals, session: Arc::new(session), operation }
    }

    fn daemon(log: &Arc<Log>, clock: &Arc<ManualClock>) -> Arc<Approvals> {
        let ports = Ports {
            record: Arc::clone(log) as _,
            clock: Arc::clone(clock) as _,
            ids: Arc::new(Counted::default()),
        };
        // No time at all: who asks is told at once how far it is.
        Arc::new(Approvals::waiting(ports, Duration::ZERO))
    }

    fn request(&self) -> Request {
        Request {
            arguments: Default::default(),
            effect: Effect::Write,
            host: "forge.test".to_owned(),
            method: "POST".to_owned(),
            operation: self.operation.rule.name.clone(),
            path: "/issues".to_owned(),
            service: "forge".parse().unwrap(),
        }
    }

    async fn ask(&self, asked: &[(&str, &str)], body: &str, header: &[u8]) -> Result<ApprovalId, Reason> {
        let (request, rules) = (self.request(), rules(asked));
        let host = HostName::new("forge.test").unwrap();
        let lines: [(&str, &[u8]); 2] = [("Authorization", b"Bearer mine"), ("if-match", header)];
        let head = RequestHead { method: "POST", path: "/issues", query: None, headers: Headers(&lines) };
        let wanted = Wanted {
            action: ActionId::from_bits(1),
            session: &self.session,
            operation: &self.operation,
            request: &request,
            host: &host,
            head: &head,
            body: body.as_bytes(),
            rules: &rules,
        };
        self.approvals.ask(&wanted).await
    }

    async fn only(&self) -> Question {
        let mut all = self.approvals.list(None).await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    async fn answer(&self, by: &Answerer, answer: Answer) -> Result<bool, NotAnswered> {
        let id = self.only().await.id;
        self.approvals.answer(id, by, answer, None).await.map(|answered| answered.settled)
    }

    fn recorded(&self, kind: &str) -> usize {
        self.log.events.lock().unwrap().iter().filter(|event| event.kind() == kind).count()
    }

    /// Another daemon that knows what is on record.
    fn restarted(mut self) -> Self {
        self.approvals = Self::daemon(&self.log, &self.clock);
        let events = self.log.events.lock().unwrap().clone();
        let (approvals, session, time) =
            (Arc::clone(&self.approvals), Arc::clone(&self.session), self.clock.now());
        let recall = move || {
            for (seq, event) in (0..).zip(events) {
                approvals.recall(&Leaf { event, seq, time }, &session);
            }
        };
        std::thread::spawn(recall).join().unwrap();
        self
    }
}

#[tokio::test]
async fn all_rules_must_be_met_by_as_many_people_as_they_say() {
    let mut world = World::new();
    assert_eq!(world.ask(RULES, "a", b"1").await, Err(Reason::ApprovalPending));
    let alice = person("unix:alice", &["unix:oncall"], &[]);
    let bob = person("unix:bob", &["unix:oncall"], &[]);
    let carol = person("unix:carol", &["unix:oncall"], &["coder"]);
    let dave = person("unix:dave", &["unix:dev"], &["other"]);
    let not_asked = |result| matches!(result, Err(NotAnswered::NotAsked(_)));
    assert!(not_asked(world.answer(&alice, Answer::Approved).await), "not for oneself");
    assert!(not_asked(world.answer(&dave, Answer::Denied).await), "nor by somebody else");
    assert_eq!(world.answer(&bob, Answer::Approved).await, Ok(false));
    assert_eq!(world.answer(&bob, Answer::Approved).await, Err(NotAnswered::Twice));
    assert_eq!(world.ask(RULES, "a", b"1").await, Err(Reason::ApprovalPending));
    // Half the answers outlive the daemon too.
    world = world.restarted();
    assert_eq!(world.answer(&bob, Answer::Approved).await, Err(NotAnswered::Twice));
    assert_eq!(world.answer(&carol, Answer::Approved).await, Ok(true));
    assert_eq!(world.answer(&carol, Answer::Denied).await, Err(NotAnswered::Settled("approved")));
    let id = world.only().await.id;
    assert_eq!(world.ask(RULES, "a", b"1").await, Ok(id));
    assert_eq!(world.ask(RULES, "a", b"1").await, Err(Reason::ApprovalPending), "once");
    assert_eq!((world.recorded("approval.requested"), world.recorded("approval.answered")), (2, 2));
}

#[tokio::test]
async fn a_yes_is_for_what_was_sent_and_nothing_else() {
    let world = World::new();
    let owner: &[(&str, &str)] = &[("own", "owner, once")];
    let carol = person("unix:carol", &[], &["coder"]);
    assert_eq!(world.ask(owner, "a", b"1").await, Err(Reason::ApprovalPending));
    let shown = world.only().await.preview.unwrap();
    assert_eq!(shown, "POST /issues\nAuthorization: (not shown)\nif-match: 1\n\na");
    assert_eq!(world.answer(&carol, Answer::ApprovedForSession).await, Err(NotAnswered::OnceOnly));
    assert_eq!(world.answer(&carol, Answer::Approved).await, Ok(true));
    for (rules, body, header) in [
        (owner, "b", b"1".as_slice()),
        (owner, "a", b"2"),
        (&[("own", "owner, 5m, once")], "a", b"1"),
        (&[("other", "owner, once")], "a", b"1"),
    ] {
        assert_eq!(world.ask(rules, body, header).await, Err(Reason::ApprovalPending), "{body} {rules:?}");
    }
    assert!(world.ask(owner, "a", b"1").await.is_ok());
}

#[tokio::test]
async fn a_no_holds_until_the_time_is_over_and_then_it_is_asked_anew() {
    let world = World::new();
    let carol = person("unix:carol", &[], &["coder"]);
    let owner: &[(&str, &str)] = &[("own", "owner, 5m")];
    assert_eq!(world.ask(owner, "a", b"").await, Err(Reason::ApprovalPending));
    assert_eq!(world.answer(&carol, Answer::Denied).await, Ok(true));
    assert_eq!(world.ask(owner, "a", b"").await, Err(Reason::ApprovalDenied));
    let world = world.restarted();
    assert_eq!(world.ask(owner, "a", b"").await, Err(Reason::ApprovalDenied));
    world.clock.advance(Duration::from_mins(5));
    assert_eq!(world.ask(owner, "a", b"").await, Err(Reason::ApprovalPending));
    assert_eq!((world.recorded("approval.requested"), world.recorded("approval.closed")), (2, 0));
    world.clock.advance(Duration::from_mins(5));
    world.approvals.expire_due().await;
    assert_eq!(world.recorded("approval.closed"), 1, "nobody answered the second");
    assert!(world.approvals.list(None).await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_recorded_is_neither_asked_nor_answered() {
    let world = World::new();
    let carol = person("unix:carol", &[], &["coder"]);
    let full = |full| world.log.full.store(full, std::sync::atomic::Ordering::Relaxed);
    full(true);
    assert_eq!(world.ask(RULES, "a", b"").await, Err(Reason::EvidenceUnavailable));
    assert!(world.approvals.list(None).await.is_empty());
    full(false);
    assert_eq!(world.ask(&[("own", "owner")], "a", b"").await, Err(Reason::ApprovalPending));
    full(true);
    assert!(matches!(world.answer(&carol, Answer::Approved).await, Err(NotAnswered::Unrecorded(_))));
    assert!(!world.only().await.is_settled);
}

#[tokio::test]
async fn one_session_cannot_bury_the_questions_of_others_and_takes_its_own_with_it() {
    let world = World::new();
    let owner: &[(&str, &str)] = &[("own", "owner")];
    for n in 0..writ_gate::limits::APPROVALS_PER_SESSION_MAX {
        assert_eq!(world.ask(owner, &n.to_string(), b"").await, Err(Reason::ApprovalPending));
    }
    assert_eq!(world.ask(owner, "more", b"").await, Err(Reason::Busy));
    assert_eq!(
        world.ask(owner, "0", b"").await,
        Err(Reason::ApprovalPending),
        "what is asked already is not more"
    );
    world.session.end(Cause::Revoked);
    assert!(world.approvals.list(None).await.is_empty());
    assert_eq!(world.recorded("approval.closed"), writ_gate::limits::APPROVALS_PER_SESSION_MAX);
}
