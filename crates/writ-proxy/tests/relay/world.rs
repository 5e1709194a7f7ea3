//! A whole gate in memory for the relay to ask: one session, some services, a log that keeps everything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use writ_core::argument::{ArgumentKind, ArgumentRule, ArgumentSource, Pushed};
use writ_core::event::{ActionClosed, ActionIntended, Event, Key, Keys, LeaseFate};
use writ_core::mcp::{McpAsk, McpRule};
use writ_core::service::{
    Conditions, CredentialRule, HostPattern, OperationRule, PathTemplate, RequestHead, Selection, Upstream,
    UpstreamAddress,
};
use writ_core::{
    AgentName, ApprovalId, Assurance, Clock, ConnId, Effect, HostName, HumanId, Obligation, Operation,
    OperationName, Placement, Process, Protocol, Reason, RunId, RunTag, Secret, SecretName, Service,
    ServiceName, SessionId, TrustDomain,
};
use writ_gate::{
    Approve, BoxFuture, Catalog, Conn, Credential, Decide, Delegation, Destination, Gate, Handoff, Human,
    Identify, Lease, Marks, May, Mint, MintError, Minted, Moment, Owed, Permit, Ports, Record, RecordError,
    Session, SessionFacts, Shown, Ticket, Verdict, Wanted, abandoned,
};
use writ_host::{SystemClock, SystemIds};
use writ_proxy::{Authorities, Relay, RelaySettings};
use writ_session::Registry;

pub(crate) const SECRET: &str = "tok-3f9a7c51b2e84d06";
pub(crate) const HOST: &str = "api.test";

/// Everything a test needs to drive one relay.
pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) gate: Gate,
    pub(crate) address: SocketAddr,
    pub(crate) session: Arc<Session>,
    /// Another session of the same node.
    pub(crate) stranger: Arc<Session>,
    pub(crate) names: Vec<HostPattern>,
    pub(crate) log: Arc<Log>,
    pub(crate) root_pem: String,
    pub(crate) root_file: PathBuf,
    pub(crate) drain: CancellationToken,
    pub(crate) handoff: Arc<Fixed>,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) serving: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// Who acts in a world.
pub(crate) struct Acting {
    pub(crate) session: Arc<Session>,
    /// Knows the callers of the session, if it acts for some.
    pub(crate) registry: Option<Arc<Registry>>,
    pub(crate) log: Arc<Log>,
}

/// A service at `api.test` that is really at `upstream`.
pub(crate) fn service(protocol: Protocol, upstream: SocketAddr, ca_file: Option<PathBuf>) -> Service {
    Service {
        name: ServiceName::new("api").unwrap(),
        hosts: vec![HostPattern::Exact(HostName::new(HOST).unwrap())],
        addresses: Vec::new(),
        ports: vec![443, 80],
        protocol,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream: Upstream {
            address: Some(UpstreamAddress::Socket(upstream)),
            ca_file,
            danger_plaintext_credential: false,
            peer: None,
        },
        credential: None,
        operations: Vec::new(),
    }
}

/// The same, and the relay lends it a bearer token.
pub(crate) fn lending(mut service: Service) -> Service {
    let secret = SecretName::new("api-token").unwrap();
    service.credential = Some(CredentialRule { secret, place: Placement::Bearer });
    service
}

impl World {
    pub(crate) async fn new(service: Service) -> Self {
        Self::with(service, RelaySettings::default(), 443).await
    }

    pub(crate) async fn with(service: Service, settings: RelaySettings, port: u16) -> Self {
        Self::serving(vec![service], settings, port, "127.0.0.1:0").await
    }

    pub(crate) async fn serving(
        services: Vec<Service>,
        settings: RelaySettings,
        port: u16,
        listen: &str,
    ) -> Self {
        let session = Arc::new(Session::new(facts(&SystemClock)));
        Self::acting(
            Acting { session, registry: None, log: Arc::default() },
            services,
            settings,
            port,
            listen,
        )
        .await
    }

    /// A world whose session is this one.
    pub(crate) async fn acting(
        acting: Acting,
        services: Vec<Service>,
        settings: RelaySettings,
        port: u16,
        listen: &str,
    ) -> Self {
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds::default()));
        let Acting { session, registry, log } = acting;
        let stranger = Arc::new(Session::new(facts(&*clock)));
        let names: Vec<_> = services.iter().flat_map(|service| service.hosts.clone()).collect();
        let services: Vec<_> = services.into_iter().map(Arc::new).collect();
        let secret = Secret::<str>::new(SECRET.to_owned()).unwrap();
        let memory = Arc::new(Memory {
            sessions: [Arc::clone(&session), Arc::clone(&stranger)],
            registry,
            services,
            secret,
        });
        let gate = Gate::new(Ports {
            approve: memory.clone(),
            identify: memory.clone(),
            catalog: memory.clone(),
            decide: memory.clone(),
            mint: memory,
            record: log.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
        });
        let authorities = Arc::new(Authorities::new(clock, ids));
        let files = authorities.open(session.facts(), &names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root_file = dir.path().join("root.pem");
        writ_host::durable::replace(&root_file, files.root_pem.as_bytes(), 0o600).unwrap();
        let handoff = Arc::new(Fixed {
            run: Mutex::new(session.facts().run.tag()),
            destination: Mutex::new(Some(Destination {
                address: format!("198.18.0.1:{port}").parse().unwrap(),
                name: Some(HostName::new(HOST).unwrap()),
            })),
        });
        let relay = Relay::new(settings, gate.clone(), handoff.clone(), authorities.clone());
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let serving = tokio::spawn({
            let (relay, drain) = (relay.clone(), drain.clone());
            async move { relay.serve(listener, drain).await }
        });
        Self {
            relay,
            gate,
            address,
            session,
            stranger,
            names,
            log,
            root_pem: files.root_pem,
            root_file,
            drain,
            handoff,
            authorities,
            serving,
            _dir: dir,
        }
    }
}

fn facts(clock: &dyn Clock) -> SessionFacts {
    let now = clock.now();
    let run = RunId::new(now, &SystemIds::default());
    let agent = AgentName::new("tester").unwrap();
    SessionFacts {
        id: SessionId::new(now, &SystemIds::default()),
        run,
        spiffe_id: TrustDomain::new("writ.test").unwrap().run_id(&agent, run),
        agent,
        human: Human {
            id: HumanId::new("unix:someone").unwrap(),
            display: None,
            groups: Vec::new(),
            uid: 1000,
            login_uid: None,
            audit_session: None,
        },
        purpose: "a test".into(),
        opened: now,
        expires: now.plus(Duration::from_hours(1)),
        assurance: Assurance::Kernel,
        delegation: Delegation::default(),
    }
}

/// Says of every socket that it goes to the same place; of none, when there is no place.
pub(crate) struct Fixed {
    pub(crate) run: Mutex<RunTag>,
    pub(crate) destination: Mutex<Option<Destination>>,
}

impl Handoff for Fixed {
    fn conn<'a>(&'a self, _: BorrowedFd<'a>) -> BoxFuture<'a, Option<Conn>> {
        let conn = self.destination.lock().unwrap().clone().map(|destination| Conn {
            id: ConnId::new(SystemClock.now(), &SystemIds::default()),
            run: Ok(*self.run.lock().unwrap()),
            process: Process { exec_generation: 0, pid: 1, start_us: 1 },
            exec: Arc::from([]),
            destination,
        });
        Box::pin(std::future::ready(conn))
    }
}

/// One session; services by name; every operation permitted but those under `/denied`.
struct Memory {
    sessions: [Arc<Session>; 2],
    registry: Option<Arc<Registry>>,
    services: Vec<Arc<Service>>,
    secret: Secret<str>,
}

impl Identify for Memory {
    fn identify(&self, run: RunTag) -> Result<Arc<Session>, Reason> {
        let is = |session: &&Arc<Session>| session.facts().run.tag() == run;
        self.sessions.iter().find(is).cloned().ok_or(Reason::NoRun)
    }

    fn acting(&self, session: &Arc<Session>, marks: &Marks<'_>) -> Result<Arc<Session>, Reason> {
        self.registry.as_ref().ok_or(Reason::NoHuman)?.acting(session, marks)
    }
}

impl Catalog for Memory {
    fn service(&self, destination: &Destination) -> Result<Arc<Service>, Reason> {
        let serves = |service: &&Arc<Service>| match &destination.name {
            Some(name) => service.hosts.iter().any(|pattern| pattern.matches(name)),
            None => service.addresses.contains(&destination.address.ip()),
        };
        self.services.iter().find(serves).cloned().ok_or(Reason::NoService)
    }

    fn select(&self, service: &Service, _: &HostName, head: &RequestHead<'_>) -> Result<Selection, Reason> {
        let mut rule = rule(service, head.method, head.path);
        if head.query == Some("approve") {
            rule.name = OperationName::new(&format!("{}/approved", service.name)).unwrap();
        }
        let read = ["/read/", "/push/"].iter().any(|read| head.path.starts_with(read));
        let reads_body = read || rule.mcp.is_some() && head.method == "POST";
        let operation = Operation { rule: Arc::new(rule), arguments: BTreeMap::default() };
        Ok(Selection { candidates: vec![operation], reads_body })
    }

    /// Where the body is read, what was read of it is the operation's one argument.
    fn operation(
        &self,
        selected: Selection,
        _: &RequestHead<'_>,
        body: Option<&[u8]>,
    ) -> Result<Operation, Reason> {
        assert_eq!(selected.reads_body, body.is_some());
        let mut operation = selected.candidates.into_iter().next().ok_or(Reason::NoOperation)?;
        let body = body.map(|body| String::from_utf8_lossy(body).into_owned());
        operation.arguments.extend(body.map(|body| ("body".to_owned(), body.into())));
        Ok(operation)
    }

    fn shown(&self, _: &Service, _: &OperationRule, message: &[u8], _: May<'_>) -> Result<Shown, Reason> {
        shown(message)
    }
}

/// The operation of every request, which its path alone tells.
pub(crate) fn rule(service: &Service, method: &str, path: &str) -> OperationRule {
    let kind = if path.starts_with("/denied") { "denied" } else { "any" };
    OperationRule {
        name: OperationName::new(&format!("{}/{kind}", service.name)).unwrap(),
        effect: if method == "GET" { Effect::Read } else { Effect::Write },
        methods: Vec::new(),
        path: PathTemplate { text: "/{rest...}".into(), segments: Vec::new() },
        when: Conditions::default(),
        arguments: if path.starts_with("/push/") { pushed() } else { BTreeMap::default() },
        graphql: None,
        labels: std::collections::BTreeSet::new(),
        mcp: path.contains("/mcp").then_some(McpRule { ask: McpAsk::Session, digest: None }),
    }
}

/// What is shown of the messages of an MCP server, as their texts say themselves.
fn shown(message: &[u8]) -> Result<Shown, Reason> {
    match std::str::from_utf8(message).unwrap() {
        text if text.contains("unreadable") => Err(Reason::McpAnswer),
        text if text.contains("hidden") => Ok(Shown::Nothing),
        text if text.contains("cut") => Ok(Shown::Part(text.replace("cut", ""))),
        _ => Ok(Shown::Whole),
    }
}

/// The argument of a git push, whose commands alone are read.
fn pushed() -> BTreeMap<String, ArgumentRule> {
    let source = ArgumentSource::Push(Pushed::Refs);
    [("refs".to_owned(), ArgumentRule { source, kind: ArgumentKind::Strings, required: true })].into()
}

fn verdict(permitted: bool) -> Verdict {
    let key = Key { permitted, policies: vec!["test".into()] };
    let keys = Keys { agent: key.clone(), human: key, policy_digest: "00".into() };
    Verdict { keys, reason: None, owed: Vec::new(), mode: writ_core::Mode::Enforce }
}

impl Decide for Memory {
    fn reach(&self, _: &Session, _: &Service) -> Verdict {
        verdict(true)
    }

    fn could(&self, _: &Session, _: &Service, rule: &OperationRule) -> Verdict {
        verdict(!rule.name.as_str().ends_with("/denied"))
    }

    fn decide(&self, _: &Session, _: &Service, operation: &Operation, _: &Moment<'_>) -> Verdict {
        let name = operation.rule.name.as_str();
        let obligation = Obligation::read("approve", "owner").unwrap().unwrap();
        let owed = name.ends_with("/approved").then(|| Owed { policy: "test".to_owned(), obligation });
        Verdict { owed: owed.into_iter().collect(), ..verdict(!name.ends_with("/denied")) }
    }
}

/// Says yes to what is seen to its end.
impl Approve for Memory {
    fn ask<'a>(&'a self, wanted: &'a Wanted<'a>) -> BoxFuture<'a, Result<ApprovalId, Reason>> {
        let whole = wanted.body.ends_with(b"end");
        let answer = if whole { Ok(ApprovalId::from_bits(1)) } else { Err(Reason::ApprovalRequired) };
        Box::pin(std::future::ready(answer))
    }
}

impl Mint for Memory {
    fn mint<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<Minted, MintError>> {
        let rule = permit.service().credential.as_ref();
        let credentials = rule
            .map(|rule| Credential { place: rule.place.clone(), secret: self.secret.share() })
            .into_iter()
            .collect();
        Box::pin(std::future::ready(Ok(Minted { credentials })))
    }

    fn end(&self, _: &Lease, echoed: bool) -> LeaseFate {
        if echoed { LeaseFate::Echoed } else { LeaseFate::Standing }
    }
}

/// Keeps every event; tests wait for the one they want.
pub(crate) struct Log {
    events: Arc<watch::Sender<Vec<Event>>>,
    pub(crate) keep: std::sync::atomic::AtomicBool,
}

impl Default for Log {
    fn default() -> Self {
        Self { events: Arc::new(watch::Sender::new(Vec::new())), keep: true.into() }
    }
}

impl Log {
    fn push(&self, event: Event) {
        if self.keep.load(std::sync::atomic::Ordering::Relaxed) {
            self.events.send_modify(|events| events.push(event));
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until `find` finds something among the events.
    pub(crate) async fn wait<T>(&self, find: impl Fn(&[Event]) -> Option<T>) -> T {
        let mut changes = self.events.subscribe();
        let found = async {
            loop {
                if let Some(found) = find(&changes.borrow_and_update()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), found).await.ok();
        in_time.unwrap_or_else(|| panic!("never recorded; there is {:#?}", self.events()))
    }

    /// The n-th receipt, from 0.
    pub(crate) async fn receipt(&self, n: usize) -> ActionClosed {
        self.wait(|events| {
            let closed = |event: &Event| {
                if let Event::ActionClosed(closed) = event { Some((**closed).clone()) } else { None }
            };
            events.iter().filter_map(closed).nth(n)
        })
        .await
    }

    /// Waits for a refusal of a connection or an action with this reason.
    pub(crate) async fn refused(&self, reason: Reason) {
        self.wait(|events| {
            let refused = |event: &Event| {
                matches!(event, Event::ConnectionRefused(refused) if refused.reason == reason)
                    || matches!(event, Event::ActionRefused(refused) if refused.reason == reason)
            };
            events.iter().any(refused).then_some(())
        })
        .await;
    }

    /// How many actions were intended.
    pub(crate) fn intents(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::ActionIntended(_))).count()
    }
}

impl Record for Log {
    fn intent(&self, intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        self.push(intent.clone().into());
        let events = self.events.clone();
        let ticket = Ticket::new(0, move |_| {
            let closed = abandoned(&intent, Reason::ClientGone);
            events.send_modify(|events| events.push(closed.into()));
        });
        Box::pin(std::future::ready(Ok(ticket)))
    }

    fn receipt(&self, ticket: Ticket, receipt: Event) {
        ticket.spend();
        self.push(receipt);
    }

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        self.push(event);
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, event: Event) {
        self.push(event);
    }
}
