//! The conformance suite of the `Mint` port. Every provider runs it: it needs a constructor that makes a broker
//! over a store in which the fixture's secret is, or is not.
//!
//! Permits come from a real gate over the smallest real ports, so the order that the types enforce is exercised too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use writ_core::clock::ManualClock;
use writ_core::event::{ActionClosed, ActionIntended, Event, Key, Keys, LeaseFate};
use writ_core::service::{
    Conditions, CredentialRule, Headers, OperationRule, PathTemplate, RequestHead, Selection, Upstream,
};
use writ_core::{
    AgentName, Assurance, ConnId, Effect, HostName, HumanId, IdSource, Operation, OperationName, Placement,
    Process, Protocol, Reason, RunId, RunTag, Secret, SecretName, Service, ServiceName, SessionId, Timestamp,
    TrustDomain,
};
use writ_gate::{
    Asked, BoxFuture, Catalog, Conn, Decide, Delegation, Destination, Ended, Exchange, Gate, Human, Identify,
    Marks, Mint, Moment, NoBody, Nobody, Ports, Record, RecordError, Session, SessionFacts, Ticket, Verdict,
};

use crate::{Broker, Store, StoreKey};

/// What a provider under test is made of.
pub(crate) struct Made {
    pub(crate) mint: Arc<dyn Mint>,
    /// Values that may be lent, one for each part.
    pub(crate) expected: Vec<String>,
    /// Takes the source of the credential away.
    pub(crate) remove: Box<dyn Fn()>,
    /// Puts another value in its place, and says which.
    pub(crate) rotate: Box<dyn Fn() -> String>,
    /// What a lease becomes that nothing went wrong with.
    pub(crate) fate: LeaseFate,
}

/// Runs every rule of the port against providers made by `make` in a fresh folder.
pub(crate) async fn suite(build: &dyn Fn(&Path) -> Made) {
    lends_what_is_stored_and_says_what_became_of_it(build).await;
    a_service_without_a_rule_gets_nothing(build).await;
    a_missing_secret_is_a_refusal_with_its_reason(build).await;
    a_removed_or_replaced_secret_is_never_lent_again(build).await;
    a_cancelled_mint_leaves_nothing_and_one_receipt(build).await;
    errors_and_debug_never_show_the_value(build).await;
}

async fn lends_what_is_stored_and_says_what_became_of_it(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    for (scrubbed, fate) in [(0, made.fate), (3, LeaseFate::Echoed)] {
        let world = World::new(&made.mint, Some(rule()));
        let exchange = world.act().await.unwrap();
        assert_eq!(values(&exchange), made.expected);
        assert_eq!(exchange.credentials()[0].place, Placement::Bearer);
        exchange.finish(Ended { scrubbed, ..Ended::completed(Some(200)) });
        let receipt = world.only_receipt();
        assert_eq!(receipt.lease_fate, fate);
        assert!(receipt.lease.is_some());
    }
}

async fn a_service_without_a_rule_gets_nothing(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    let world = World::new(&made.mint, None);
    let exchange = world.act().await.unwrap();
    assert!(exchange.credentials().is_empty());
    exchange.finish(Ended::completed(Some(200)));
    let receipt = world.only_receipt();
    assert_eq!((receipt.lease, receipt.lease_fate), (None, LeaseFate::NotMinted));
}

async fn a_missing_secret_is_a_refusal_with_its_reason(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    (made.remove)();
    let world = World::new(&made.mint, Some(rule()));
    assert_eq!(world.act().await.unwrap_err(), Reason::NoSecret);
    let receipt = world.only_receipt();
    assert_eq!((receipt.reason, receipt.lease_fate), (Some(Reason::NoSecret), LeaseFate::NotMinted));
}

async fn a_removed_or_replaced_secret_is_never_lent_again(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    let world = World::new(&made.mint, Some(rule()));
    world.act().await.unwrap().finish(Ended::completed(None));
    let fresh = (made.rotate)();
    let exchange = world.act().await.unwrap();
    assert_eq!(values(&exchange), [fresh]);
    exchange.finish(Ended::completed(None));
    (made.remove)();
    assert_eq!(world.act().await.unwrap_err(), Reason::NoSecret);
}

async fn a_cancelled_mint_leaves_nothing_and_one_receipt(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    let world = World::new(&made.mint, Some(rule()));
    // Polled once and dropped: either it was ready at once, or it was cancelled while it waited.
    let mut act = Box::pin(world.act());
    if let std::task::Poll::Ready(exchange) = futures_poll(act.as_mut()).await {
        drop(exchange);
    }
    drop(act);
    let receipt = world.only_receipt();
    assert_eq!(receipt.reason, Some(Reason::ClientGone));
    world.act().await.unwrap().finish(Ended::completed(None));
}

async fn errors_and_debug_never_show_the_value(build: &dyn Fn(&Path) -> Made) {
    let dir = tempfile::tempdir().unwrap();
    let made = build(dir.path());
    let world = World::new(&made.mint, Some(rule()));
    let exchange = world.act().await.unwrap();
    let shown = format!("{:?} {exchange:?}", exchange.credentials());
    exchange.finish(Ended::completed(None));
    let recorded = format!("{:?}", world.log.0.lock().unwrap());
    for value in &made.expected {
        assert!(!shown.contains(value) && !recorded.contains(value));
    }
}

fn values(exchange: &Exchange) -> Vec<String> {
    exchange.credentials().iter().map(|c| c.secret.expose().to_owned()).collect()
}

async fn futures_poll<F: Future + Unpin>(mut future: F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(context)))
        .await
}

fn rule() -> CredentialRule {
    CredentialRule { secret: SecretName::new("forge-token").unwrap(), place: Placement::Bearer }
}

/// One session that may do everything at one service.
struct World {
    gate: Gate,
    log: Arc<Log>,
    admitted: Arc<writ_gate::Admitted>,
    host: HostName,
}

impl World {
    fn new(mint: &Arc<dyn Mint>, credential: Option<CredentialRule>) -> Self {
        let host = HostName::new("forge.test").unwrap();
        let one = Arc::new(One { session: session(), service: Arc::new(service(credential)) });
        let log = Arc::new(Log::default());
        let gate = Gate::new(Ports {
            approve: Arc::new(Nobody),
            identify: Arc::clone(&one) as _,
            catalog: Arc::clone(&one) as _,
            decide: one,
            mint: Arc::clone(mint),
            record: Arc::clone(&log) as _,
            clock: Arc::new(ManualClock::new(Timestamp::from_micros(1))),
            ids: Arc::new(Counted::default()),
        });
        let conn = Conn {
            id: ConnId::from_bits(1),
            run: Ok(RunId::from_bits(1).tag()),
            process: Process { exec_generation: 0, pid: 1, start_us: 1 },
            exec: Arc::default(),
            destination: Destination { address: ([198, 18, 0, 1], 443).into(), name: Some(host.clone()) },
        };
        let admitted = Arc::new(gate.admit(conn).unwrap());
        Self { gate, log, admitted, host }
    }

    async fn act(&self) -> Result<Exchange, Reason> {
        let head = RequestHead { method: "GET", path: "/x", query: None, headers: Headers::default() };
        let asked = Asked { host: &self.host, head, marks: Marks::default(), body: &mut NoBody };
        self.gate.action(&self.admitted, asked).await.map_err(|refusal| refusal.reason)
    }

    fn only_receipt(&self) -> ActionClosed {
        let receipts = self.log.0.lock().unwrap();
        assert_eq!(receipts.len(), 1, "exactly one receipt");
        receipts[0].clone()
    }
}

fn session() -> Arc<Session> {
    let (agent, run) = (AgentName::new("coder").unwrap(), RunId::from_bits(1));
    Arc::new(Session::new(SessionFacts {
        id: SessionId::from_bits(1),
        run,
        spiffe_id: TrustDomain::new("test").unwrap().run_id(&agent, run),
        agent,
        human: Human {
            id: HumanId::new("unix:ada").unwrap(),
            display: None,
            groups: Vec::new(),
            uid: 1000,
            login_uid: None,
            audit_session: None,
        },
        purpose: String::new(),
        opened: Timestamp::default(),
        expires: Timestamp::default().plus(Duration::from_mins(1)),
        assurance: Assurance::Kernel,
        delegation: Delegation::default(),
    }))
}

fn service(credential: Option<CredentialRule>) -> Service {
    Service {
        name: ServiceName::new("forge").unwrap(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![443],
        protocol: Protocol::Https,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream: Upstream::default(),
        credential,
        operations: Vec::new(),
    }
}

struct One {
    session: Arc<Session>,
    service: Arc<Service>,
}

impl Identify for One {
    fn identify(&self, _run: RunTag) -> Result<Arc<Session>, Reason> {
        Ok(Arc::clone(&self.session))
    }

    fn acting(&self, _: &Arc<Session>, _: &Marks<'_>) -> Result<Arc<Session>, Reason> {
        Err(Reason::NoHuman)
    }
}

impl Catalog for One {
    fn service(&self, _destination: &Destination) -> Result<Arc<Service>, Reason> {
        Ok(Arc::clone(&self.service))
    }

    fn select(&self, _: &Service, _: &HostName, _: &RequestHead<'_>) -> Result<Selection, Reason> {
        let rule = OperationRule {
            name: OperationName::new("forge/any").unwrap(),
            effect: Effect::Read,
            methods: Vec::new(),
            path: PathTemplate { text: "/x".into(), segments: Vec::new() },
            when: Conditions::default(),
            arguments: BTreeMap::new(),
            graphql: None,
            labels: std::collections::BTreeSet::new(),
            mcp: None,
        };
        Ok(Operation { rule: Arc::new(rule), arguments: BTreeMap::new() }.into())
    }

    fn operation(
        &self,
        selected: Selection,
        _: &RequestHead<'_>,
        _: Option<&[u8]>,
    ) -> Result<Operation, Reason> {
        selected.candidates.into_iter().next().ok_or(Reason::NoOperation)
    }
}

impl Decide for One {
    fn reach(&self, _: &Session, _: &Service) -> Verdict {
        let key = Key { permitted: true, policies: vec!["test".into()] };
        let keys = Keys { agent: key.clone(), human: key, policy_digest: String::new() };
        Verdict { keys, reason: None, owed: Vec::new(), mode: writ_core::Mode::Enforce }
    }

    fn could(&self, session: &Session, service: &Service, _: &OperationRule) -> Verdict {
        self.reach(session, service)
    }

    fn decide(&self, session: &Session, service: &Service, _: &Operation, _: &Moment<'_>) -> Verdict {
        self.reach(session, service)
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<ActionClosed>>);

impl Record for Log {
    fn intent(&self, _: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        Box::pin(async { Ok(Ticket::new(0, |_| ())) })
    }

    fn receipt(&self, ticket: Ticket, receipt: Event) {
        ticket.spend();
        if let Event::ActionClosed(closed) = receipt {
            self.0.lock().unwrap().push(*closed);
        }
    }

    fn fact(&self, _: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async { Ok(()) })
    }

    fn note(&self, _: Event) {}
}

#[derive(Default)]
struct Counted(std::sync::atomic::AtomicU64);

impl IdSource for Counted {
    fn random(&self) -> u128 {
        u128::from(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

#[tokio::test]
async fn the_static_provider_conforms() {
    suite(&|folder| {
        let key = StoreKey::from_file(&folder.join("store.key")).unwrap();
        let store = Arc::new(Store::open(folder.join("secrets"), key).unwrap());
        let put = {
            let store = Arc::clone(&store);
            move |value: &str| {
                let secret = Secret::<[u8]>::new(value.as_bytes().to_vec()).unwrap();
                store.set(&rule().secret, &secret, Timestamp::default()).unwrap();
            }
        };
        put("tok-planted-secret");
        let taken = Arc::clone(&store);
        Made {
            mint: Arc::new(Broker::new(store)),
            expected: vec!["tok-planted-secret".to_owned()],
            remove: Box::new(move || assert!(taken.remove(&rule().secret).unwrap())),
            rotate: Box::new(move || {
                put("tok-rotated-secret");
                "tok-rotated-secret".to_owned()
            }),
            fate: LeaseFate::Standing,
        }
    })
    .await;
}

#[tokio::test]
async fn a_damaged_secret_is_a_failure_and_not_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let key = StoreKey::from_file(&dir.path().join("store.key")).unwrap();
    let store = Arc::new(Store::open(dir.path().join("secrets"), key).unwrap());
    writ_host::durable::replace(&dir.path().join("secrets/user/forge-token.sealed"), b"spoilt", 0o600)
        .unwrap();
    let mint: Arc<dyn Mint> = Arc::new(Broker::new(store));
    let world = World::new(&mint, Some(rule()));
    assert_eq!(world.act().await.unwrap_err(), Reason::BrokerFailed);
    assert_eq!(world.only_receipt().reason, Some(Reason::BrokerFailed));
}
