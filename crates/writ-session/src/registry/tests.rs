//! The registry against a log in memory and real files.

mod callers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use writ_core::clock::ManualClock;
use writ_core::config::Problems;
use writ_core::event::{ActionIntended, Event};
use writ_gate::{BoxFuture, Delegation, RecordError, Ticket};

use super::*;

/// Keeps events in memory, and refuses when told to, as a full disk would.
#[derive(Default)]
struct Log {
    events: std::sync::Mutex<Vec<Event>>,
    full: AtomicBool,
}

impl Log {
    fn kinds(&self) -> Vec<&'static str> {
        self.events.lock().unwrap().iter().map(Event::kind).collect()
    }

    fn causes(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter_map(|event| if let Event::SessionEnded(e) = event { Some(e.cause.clone()) } else { None })
            .collect()
    }
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
            if self.full.load(Ordering::Relaxed) {
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
struct Counted(AtomicU64);

impl IdSource for Counted {
    fn random(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    ids: Arc<Counted>,
    log: Arc<Log>,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_000_000)));
        let (ids, log) = (Arc::new(Counted::default()), Arc::new(Log::default()));
        let registry = registry(dir.path(), &clock, &ids, &log);
        Self { dir, clock, ids, log, registry }
    }

    fn restart(&mut self) -> Restored {
        self.registry = registry(self.dir.path(), &self.clock, &self.ids, &self.log);
        self.registry.restore().unwrap()
    }

    async fn open(&self, agent: &Agent) -> Result<Arc<Live>, Error> {
        self.registry.open(request(agent, self.registry.new_run())).await
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }
}

fn registry(
    folder: &std::path::Path,
    clock: &Arc<ManualClock>,
    ids: &Arc<Counted>,
    log: &Arc<Log>,
) -> Registry {
    let ports =
        Ports { record: Arc::clone(log) as _, clock: Arc::clone(clock) as _, ids: Arc::clone(ids) as _ };
    Registry::new(folder, TrustDomain::new("example.org").unwrap(), ports).unwrap()
}

fn agent(text: &str) -> Agent {
    let text = format!("owner = \"platform\"\n{text}");
    Agent::read("coder", "coder.toml", &text, &mut Problems::default()).unwrap()
}

fn request(agent: &Agent, run: RunId) -> OpenRequest<'_> {
    OpenRequest {
        agent,
        run,
        session: SessionId::from_bits(run.bits()),
        human: Human {
            id: HumanId::new("unix:ada").unwrap(),
            display: None,
            groups: vec!["unix:dev".into()],
            uid: 1000,
            login_uid: Some(1000),
            audit_session: Some(3),
        },
        purpose: "fix the build".into(),
        ttl: None,
        assurance: Assurance::Kernel,
        process: Process { exec_generation: 0, pid: 7, start_us: 8 },
        program: Program { path: "/usr/bin/coder".into(), sha256: "ab".into(), script: None },
        confinement: Confinement { namespaces: true, uid: 1000 },
        delegation: Delegation::default(),
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_run_until_it_ends_and_then_everything_is_cut() {
    let world = World::new();
    let live = world.open(&agent("")).await.unwrap();
    let facts = live.session.facts().clone();
    let found = world.registry.identify(facts.run.tag()).unwrap();
    assert_eq!(found.facts(), &facts);
    assert_eq!(world.log.kinds(), ["session.opened"]);
    assert_eq!(world.files(), 1);

    assert!(world.registry.end(facts.id, Cause::Exited).unwrap());
    assert!(!world.registry.end(facts.id, Cause::Revoked).unwrap(), "ends once");
    found.ended().await;
    assert_eq!(world.registry.identify(facts.run.tag()).unwrap_err(), Reason::SessionEnded);
    assert_eq!((world.log.causes(), world.files()), (vec!["exited".to_owned()], 0));
}

#[tokio::test]
async fn one_agent_and_twelve_runs_whatever_their_arguments_are() {
    let (world, agent) = (World::new(), agent(""));
    for n in 0..12 {
        let mut request = request(&agent, world.registry.new_run());
        request.purpose = format!("--variant {n}");
        world.registry.open(request).await.unwrap();
    }
    let list = world.registry.list();
    let runs: std::collections::BTreeSet<_> = list.iter().map(|live| live.session.facts().run).collect();
    let agents: std::collections::BTreeSet<_> =
        list.iter().map(|live| live.session.facts().agent.clone()).collect();
    assert_eq!((runs.len(), agents.len()), (12, 1));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_opened() {
    let world = World::new();
    world.log.full.store(true, Ordering::Relaxed);
    assert!(matches!(world.open(&agent("")).await, Err(Error::Unrecorded(_))));
    assert!(world.registry.list().is_empty());
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_opened_and_its_end_is_recorded() {
    let world = World::new();
    std::fs::remove_dir_all(world.dir.path()).unwrap();
    assert!(matches!(world.open(&agent("")).await, Err(Error::File(_))));
    assert!(world.registry.list().is_empty());
    assert_eq!(world.log.kinds(), ["session.opened", "session.ended"]);
}

#[tokio::test]
async fn sessions_survive_a_restart_with_all_that_they_need() {
    let mut world = World::new();
    let agent = agent("unix_sockets = [\"/run/db.sock\"]");
    let live = world.open(&agent).await.unwrap();
    let (facts, start) = (live.session.facts().clone(), live.start.clone());
    let restored = world.restart();
    assert_eq!(restored.live.len(), 1);
    assert_eq!(restored.live[0].session.facts(), &facts);
    assert_eq!(restored.live[0].start, start);
    assert_eq!(start.terms.unix_sockets, [PathBuf::from("/run/db.sock")]);
    assert_eq!(world.registry.identify(facts.run.tag()).unwrap().facts(), &facts);
}

#[tokio::test]
async fn a_session_that_ended_or_expired_does_not_come_back() {
    let mut world = World::new();
    let agent = agent("ttl_max = \"10m\"");
    let revoked = world.open(&agent).await.unwrap().session.facts().id;
    let expired = world.open(&agent).await.unwrap().session.facts().clone();
    assert_eq!(world.registry.revoke(&Revoked::Session(revoked), Cause::Revoked).unwrap(), [revoked]);
    world.clock.advance(Duration::from_mins(10));
    let restored = world.restart();
    assert!(restored.live.is_empty());
    assert_eq!(restored.expired, [expired.id]);
    assert_eq!(world.registry.identify(expired.run.tag()).unwrap_err(), Reason::SessionExpired);
    assert_eq!(world.log.causes(), ["revoked", "expired"]);
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_kept_and_its_run_is_refused() {
    let mut world = World::new();
    let good = world.open(&agent("")).await.unwrap().session.facts().clone();
    let bad = world.open(&agent("")).await.unwrap().session.facts().clone();
    let path = world.dir.path().join(format!("{}.json", bad.id));
    let text = std::fs::read_to_string(&path).unwrap();
    let forged = world.dir.path().join(format!("{}.json", SessionId::from_bits(9)));
    durable::replace(&forged, text.as_bytes(), 0o600).unwrap();
    durable::replace(&path, text.replace("\"uid\": 1000", "\"uid\": 0").as_bytes(), 0o600).unwrap();
    let restored = world.restart();
    assert_eq!(restored.live.len(), 1);
    assert_eq!(restored.damaged.len(), 2);
    assert!(path.exists());
    assert!(world.registry.identify(good.run.tag()).is_ok());
    assert_eq!(world.registry.identify(bad.run.tag()).unwrap_err(), Reason::NoRun);
}

#[tokio::test]
async fn time_limits_hold_and_are_never_stretched() {
    let world = World::new();
    let agent = agent("ttl_max = \"30m\"");
    let ask = |ttl| OpenRequest { ttl, ..request(&agent, world.registry.new_run()) };
    let live = world.registry.open(ask(None)).await.unwrap();
    let start = live.session.facts().opened;
    assert_eq!(live.session.facts().expires, start.plus(Duration::from_mins(30)));
    let error = world.registry.open(ask(Some(Duration::from_mins(31)))).await.unwrap_err().to_string();
    assert!(error.contains("31m") && error.contains("at most 30m"), "{error}");
    assert!(matches!(world.registry.open(ask(Some(Duration::ZERO))).await, Err(Error::TtlZero)));

    world.registry.open(ask(Some(Duration::from_mins(1)))).await.unwrap();
    assert_eq!(world.registry.next_expiry(), Some(start.plus(Duration::from_mins(1))));
    assert!(world.registry.expire_due(start.plus(Duration::from_secs(59))).unwrap().is_empty());
    assert_eq!(world.registry.expire_due(start.plus(Duration::from_mins(1))).unwrap().len(), 1);
    assert_eq!(world.registry.expire_due(start.plus(Duration::from_mins(30))).unwrap().len(), 1);
    assert_eq!(world.registry.next_expiry(), None);
}

#[tokio::test]
async fn an_agent_has_no_more_runs_than_it_may() {
    let world = World::new();
    let agent = agent("concurrent_runs_max = 2");
    let (one, two) = tokio::join!(world.open(&agent), world.open(&agent));
    let first = one.unwrap().session.facts().id;
    two.unwrap();
    let error = world.open(&agent).await.unwrap_err().to_string();
    assert!(error.contains("has 2 runs"), "{error}");
    world.registry.end(first, Cause::Exited).unwrap();
    world.open(&agent).await.unwrap();
}

#[tokio::test]
async fn revocation_reaches_by_agent_and_by_human() {
    let world = World::new();
    let agent = agent("");
    for _ in 0..3 {
        world.open(&agent).await.unwrap();
    }
    let nobody = Revoked::Human(HumanId::new("unix:bob").unwrap());
    assert!(world.registry.revoke(&nobody, Cause::Revoked).unwrap().is_empty());
    let list = world.registry.list();
    let ada = Revoked::Human(HumanId::new("unix:ada").unwrap());
    assert_eq!(world.registry.revoke(&ada, Cause::SignedOut).unwrap().len(), 3);
    for live in list {
        live.session.ended().await;
        assert_eq!(live.session.cause(), Some(Cause::SignedOut));
    }
    world.open(&agent).await.unwrap();
    assert_eq!(world.registry.revoke(&Revoked::Agent(agent.name.clone()), Cause::Revoked).unwrap().len(), 1);
}

#[tokio::test]
async fn root_odd_purposes_and_unseen_confinement_are_refused() {
    let world = World::new();
    let agent = agent("");
    let base = || request(&agent, world.registry.new_run());
    let mut root = base();
    (root.human.uid, root.confinement.uid) = (0, 0);
    assert!(matches!(world.registry.open(root).await, Err(Error::Root { .. })));
    let other = OpenRequest { confinement: Confinement { namespaces: true, uid: 7 }, ..base() };
    assert!(world.registry.open(other).await.is_err());
    for purpose in ["a\u{1b}[2J", "a\nb", &"x".repeat(limits::PURPOSE_BYTES_MAX + 1)] {
        let odd = OpenRequest { purpose: purpose.to_owned(), ..base() };
        assert!(matches!(world.registry.open(odd).await, Err(Error::Purpose { .. })));
    }
    assert!(world.log.kinds().is_empty());
}

#[tokio::test]
async fn a_run_without_namespaces_says_so_in_its_record() {
    let world = World::new();
    let agent = agent("[danger]\nwithout_namespaces = true\nio_uring = true");
    let confinement = Confinement { namespaces: false, uid: 1000 };
    let request = OpenRequest { confinement, ..request(&agent, world.registry.new_run()) };
    world.registry.open(request).await.unwrap();
    let events = world.log.events.lock().unwrap();
    let Event::SessionOpened(opened) = &events[0] else { panic!("{events:?}") };
    assert_eq!(opened.dangers, ["io_uring", "without_namespaces"]);
    assert_eq!(opened.groups.as_deref(), Some(&["unix:dev".to_owned()][..]));
}

#[tokio::test]
async fn a_run_and_those_that_it_starts_share_what_they_did_over_a_restart_too() {
    let mut world = World::new();
    let agent = agent("");
    let open = async |parents: &[&Arc<Live>]| {
        let mut request = request(&agent, world.registry.new_run());
        let parent = |live: &&Arc<Live>| {
            let facts = live.session.facts();
            let (agent, run, session) = (facts.agent.clone(), facts.run, facts.id);
            writ_gate::Parent { agent, run, session, spiffe_id: facts.spiffe_id.clone() }
        };
        request.delegation.parents = parents.iter().map(parent).collect();
        world.registry.open(request).await.unwrap()
    };
    let eldest = open(&[]).await;
    let middle = open(&[&eldest]).await;
    let youngest = open(&[&eldest, &middle]).await;
    let stranger = open(&[]).await;
    let same = |one: &Live, other: &Live| Arc::ptr_eq(one.session.ledger(), other.session.ledger());
    assert!(same(&eldest, &middle) && same(&eldest, &youngest) && !same(&eldest, &stranger));
    // An eldest that exits leaves its ledger to the others.
    world.registry.end(eldest.session.facts().id, Cause::Exited).unwrap();
    let restored = world.restart().live;
    let find = |live: &Live| {
        let id = live.session.facts().id;
        Arc::clone(restored.iter().find(|restored| restored.session.facts().id == id).unwrap())
    };
    assert!(same(&find(&middle), &find(&youngest)) && !same(&find(&middle), &find(&stranger)));
}
