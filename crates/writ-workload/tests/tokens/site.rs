//! A trust domain whose endpoints listen on loopback, the sessions that live in it, and an issuer of humans beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use writ_core::clock::ManualClock;
use writ_core::config::{self, KeyDoc, Problems};
use writ_core::event::{ActionIntended, Event, IdentityIssued};
use writ_core::{
    ActsFor, AgentName, Assurance, Clock, Grants, HumanId, RunId, Secret, SessionId, SpiffeId, Timestamp,
    TrustDomain,
};
use writ_gate::{
    BoxFuture, Delegation, Handle, Human, Parent, Record, RecordError, Session, SessionFacts, Ticket,
};
use writ_host::{SystemClock, SystemIds};
use writ_identity::exchange::{Meant, Scopes, Subject, TokenSettings};
use writ_identity::{Authority, IdentitySettings, Invalid, Keep, KeepError, Surroundings, validate};
use writ_session::Peer;
use writ_workload::settings::{Certificate, Https};
use writ_workload::token::{NotProven, Sessions, Shown, SubjectKind, Subjects, TokenPorts, Tokens};
use writ_workload::web::{self, Web};
use writ_workload::{Entitled, Entitlements, NotAttested, Parts, Workloads};

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const ISSUER: &str = "https://localhost/idp";
pub(crate) const API: &str = "https://api.example";
pub(crate) const PEOPLE: &str = "https://id.example";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const TXN: &str = "urn:ietf:params:oauth:token-type:txn_token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const PATIENCE: Duration = Duration::from_mins(1);

const CONFIG: &str = r#"
[identity]
jwt_issuer = "https://localhost/idp"
[[tokens.audience]]
audience = "https://api.example"
scopes = ["read", "write"]
max_ttl = "10m"
workload = "spiffe://example.org/agent/api"
service = "github"
groups = true
[[tokens.audience]]
audience = "https://coders.example"
scopes = ["github:acme/site:read", "read"]
agents = ["coder"]
[[tokens.audience]]
audience = "example.org"
scopes = ["read", "write", "github:acme/site:read"]
max_ttl = "2m"
"#;

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) parts: Parts,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) live: Arc<Live>,
    pub(crate) log: Arc<Log>,
    pub(crate) people: Arc<People>,
    pub(crate) stop: CancellationToken,
    port: u16,
    _serving: JoinHandle<()>,
}

/// The form of a request, which tests change before they send it.
pub(crate) type Fields = Vec<(&'static str, String)>;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The token, of an exchange that succeeded.
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["access_token"].as_str().unwrap().to_owned()
    }

    /// Checks that it is this refusal, and that nothing of what was sent comes back.
    pub(crate) fn is_refused(&self, what: &str, status: u16, code: &str, fields: &Fields) {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(code)), "{what}: {self:?}");
        assert!(self.head.to_ascii_lowercase().contains("cache-control: no-store"), "{what}: {self:?}");
        let text = self.body.to_string();
        for (name, value) in fields {
            let sent = name.ends_with("token") || *name == "client_assertion";
            assert!(!sent || value.len() < 16 || !text.contains(value.as_str()), "{what}: {name} comes back");
        }
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        let start = Timestamp::from_micros(SystemClock.now().seconds() * 1_000_000);
        let clock = Arc::new(ManualClock::new(start));
        let (identity, settings) = read(CONFIG).unwrap_or_else(|problems| panic!("{problems}"));
        let authority = authority(DOMAIN, identity, &clock).await;
        let plain = read("").unwrap().0;
        let people = Arc::new(People {
            authority: authority_of_people(plain, &clock).await,
            clock: Arc::clone(&clock),
            handles: Mutex::default(),
            silent: AtomicBool::new(false),
        });
        let parts = Parts {
            workloads: Arc::new(Nobody),
            issuer: authority.issuer(),
            bundles: authority.bundles(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids: Arc::new(SystemIds::default()),
        };
        let (live, log) = (Arc::new(Live::default()), Arc::new(Log::default()));
        let around = TokenPorts {
            subjects: Arc::clone(&people) as Arc<dyn Subjects>,
            sessions: Arc::clone(&live) as Arc<dyn Sessions>,
            record: Arc::clone(&log) as Arc<dyn Record>,
        };
        let tokens = Tokens::new(&parts, around, settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        std::fs::write(&chain, signed.cert.pem()).unwrap();
        let certificate = Certificate::Files { chain, key };
        let https = Https { listen: "127.0.0.1:0".parse().unwrap(), certificate };
        let web = Web::bind(&https, &parts).await.unwrap();
        let (port, stop) = (web.address().unwrap().port(), CancellationToken::new());
        let router = tokens.add_to(web::documents(&parts, &[]));
        let serving = tokio::spawn(web.serve(router, stop.clone()));
        Self { folder, clock, parts, tokens, live, log, people, stop, port, _serving: serving }
    }

    /// With a run of `coder` that acts for Alice for an hour.
    pub(crate) async fn with_alice() -> (Self, Arc<Session>) {
        let site = Self::new().await;
        let session = site.live.open(&site.draft("coder", 1, "alice"));
        (site, session)
    }

    /// The facts of a session of an hour, not yet opened.
    pub(crate) fn draft(&self, agent: &str, run: u8, human: &str) -> SessionFacts {
        SessionFacts {
            id: SessionId::from_bits(1_000 + u128::from(run)),
            run: RunId::from_bits(u128::from(run)),
            spiffe_id: run_id(agent, run),
            agent: AgentName::new(agent).unwrap(),
            human: Human {
                id: human_id(human),
                display: None,
                groups: Vec::new(),
                uid: 1000,
                login_uid: None,
                audit_session: None,
            },
            purpose: String::new(),
            opened: self.clock.now(),
            expires: self.clock.now().plus(Duration::from_hours(1)),
            assurance: Assurance::Kernel,
            delegation: Delegation::default(),
        }
    }

    /// A JWT-SVID of a run, for the endpoints.
    pub(crate) fn svid(&self, id: &SpiffeId) -> String {
        self.svid_for(id, ISSUER)
    }

    pub(crate) fn svid_for(&self, id: &SpiffeId, audience: &str) -> String {
        let limit = self.clock.now().plus(Duration::from_hours(1));
        let svid = self.parts.issuer.jwt(id, &[audience.to_owned()], limit).unwrap();
        svid.token.expose().to_owned()
    }

    /// An exchange of Alice's own token by her run, as it should be.
    pub(crate) fn fields(&self) -> Fields {
        self.exchange(&self.people.token("alice"), &run_id("coder", 1))
    }

    pub(crate) fn exchange(&self, subject: &str, run: &SpiffeId) -> Fields {
        [
            ("grant_type", GRANT),
            ("subject_token", subject),
            ("subject_token_type", ACCESS),
            ("actor_token", &self.svid(run)),
            ("actor_token_type", JWT),
            ("audience", API),
            ("scope", "read"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }

    /// The same for a transaction token.
    pub(crate) fn transaction(&self, subject: &str, run: &SpiffeId) -> Fields {
        let fields = with(self.exchange(subject, run), "audience", DOMAIN);
        with(fields, "requested_token_type", TXN)
    }

    pub(crate) async fn token(&self, fields: &Fields) -> Answer {
        self.post("/idp/token", fields, &[]).await
    }

    /// Asks about a token, with a JWT-SVID as bearer token.
    pub(crate) async fn ask(&self, token: &str, svid: &str) -> Answer {
        let header = format!("Authorization: Bearer {svid}");
        self.post("/idp/introspect", &vec![("token", token.to_owned())], &["-H", &header]).await
    }

    pub(crate) async fn post(&self, path: &str, fields: &Fields, extra: &[&str]) -> Answer {
        let mut arguments: Vec<String> = extra.iter().map(|one| (*one).to_owned()).collect();
        for (name, value) in fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        self.curl(path, arguments).await
    }

    pub(crate) async fn curl(&self, path: &str, arguments: Vec<String>) -> Answer {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "30", "-D", "-", "--http1.1", "--cacert"]);
        command.arg(self.folder.path().join("chain.pem")).args(arguments);
        command.arg("--resolve").arg(format!("localhost:{}:127.0.0.1", self.port));
        command.arg(format!("https://localhost:{}{path}", self.port));
        run(command).await
    }
}

/// Runs curl, whose output begins with the head of the answer.
pub(crate) async fn run(mut command: Command) -> Answer {
    let done = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(PATIENCE, done).await.expect("an answer").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// The fields with this one changed, added, or, for an empty value, taken away.
pub(crate) fn with(mut fields: Fields, name: &'static str, value: &str) -> Fields {
    fields.retain(|(known, _)| *known != name);
    if !value.is_empty() {
        fields.push((name, value.to_owned()));
    }
    fields
}

pub(crate) fn run_id(agent: &str, run: u8) -> SpiffeId {
    let domain = TrustDomain::new(DOMAIN).unwrap();
    domain.run_id(&AgentName::new(agent).unwrap(), RunId::from_bits(u128::from(run)))
}

pub(crate) fn human_id(name: &str) -> HumanId {
    HumanId::oidc(PEOPLE, name).unwrap()
}

pub(crate) fn parent(facts: &SessionFacts) -> Parent {
    Parent {
        agent: facts.agent.clone(),
        run: facts.run,
        session: facts.id,
        spiffe_id: facts.spiffe_id.clone(),
    }
}

pub(crate) fn narrowed(mut facts: SessionFacts, grants: &[&str]) -> SessionFacts {
    let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    facts.delegation.grants = Grants::default().narrowed(grants);
    facts
}

/// The payload of a token, without any check.
pub(crate) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, part).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Reads the two tables that matter here.
fn read(text: &str) -> Result<(IdentitySettings, TokenSettings), String> {
    let keys: Vec<KeyDoc> = [writ_identity::KEYS, writ_identity::exchange::KEYS].concat();
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let mut problems = Problems::default();
    let read = config::read("writd.toml", text, Box::leak(keys.into()), &mut problems, |table| {
        let identity = writ_identity::settings(table, &domain);
        let tokens = writ_identity::exchange::token_settings(table, &domain);
        Some((identity?, tokens?))
    });
    read.ok_or_else(|| problems.to_string())
}

async fn authority(domain: &str, settings: IdentitySettings, clock: &Arc<ManualClock>) -> Authority {
    let surroundings = Surroundings {
        keep: Arc::new(Memory::default()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        ids: Arc::new(SystemIds::default()),
    };
    Authority::open(TrustDomain::new(domain).unwrap(), settings, surroundings).await.unwrap()
}

async fn authority_of_people(settings: IdentitySettings, clock: &Arc<ManualClock>) -> Authority {
    authority("id.example", settings, clock).await
}

/// Values in memory: what is kept is of no concern here.
#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Keep for Memory {
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError> {
        let held = self.0.lock().unwrap().get(name).cloned();
        Ok(held.map(Secret::<[u8]>::new).transpose()?)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError> {
        self.0.lock().unwrap().insert(name.to_owned(), value.to_vec());
        Ok(())
    }
}

struct Nobody;

impl Workloads for Nobody {
    fn attest<'a>(&'a self, _peer: &'a Peer) -> BoxFuture<'a, Result<Entitlements, NotAttested>> {
        Box::pin(async { Err(NotAttested::NoIdentity) })
    }
}

/// This process, as a run.
pub(crate) struct Me(pub(crate) tokio::sync::watch::Sender<Arc<[Entitled]>>);

impl Workloads for Me {
    fn attest<'a>(&'a self, _peer: &'a Peer) -> BoxFuture<'a, Result<Entitlements, NotAttested>> {
        Box::pin(async { Ok(self.0.subscribe()) })
    }
}

/// An issuer of humans' access tokens, and the handles that stand in their place. Signatures are real.
pub(crate) struct People {
    pub(crate) authority: Authority,
    clock: Arc<ManualClock>,
    handles: Mutex<HashMap<String, (SpiffeId, Arc<Session>)>>,
    pub(crate) silent: AtomicBool,
}

impl People {
    /// A token of ten minutes that is meant for the exchange, with all scopes.
    pub(crate) fn token(&self, name: &str) -> String {
        self.sign(&self.claims(name))
    }

    pub(crate) fn claims(&self, name: &str) -> Map<String, Value> {
        let now = self.clock.now().seconds();
        let claims = json!({
            "iss": PEOPLE, "sub": name, "aud": [ISSUER], "iat": now, "exp": now + 600, "scope": "read write admin",
        });
        claims.as_object().unwrap().clone()
    }

    pub(crate) fn sign(&self, claims: &Map<String, Value>) -> String {
        self.authority.issuer().sign("at+jwt", claims).unwrap().expose().to_owned()
    }

    pub(crate) fn handle(&self, session: &Arc<Session>) -> String {
        let handle = Handle::new(&[7; 32]).as_str().to_owned();
        let held = (session.facts().spiffe_id.clone(), Arc::clone(session));
        self.handles.lock().unwrap().insert(handle.clone(), held);
        handle
    }

    fn judge(&self, shown: Shown<'_>) -> Result<Subject, NotProven> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(NotProven::Unavailable);
        }
        if shown.kind == SubjectKind::Handle {
            let handles = self.handles.lock().unwrap();
            let (run, session) = handles.get(shown.token).ok_or(NotProven::Refused)?;
            if run != shown.run {
                return Err(NotProven::Refused);
            }
            return Ok(Subject {
                human: session.facts().human.id.clone(),
                groups: Vec::new(),
                scopes: None,
                expires: session.expires(),
                meant: Meant::Session(session.facts().id),
                may_act: None,
                actors: Vec::new(),
            });
        }
        if !matches!(shown.kind, SubjectKind::Access | SubjectKind::Jwt) {
            return Err(NotProven::Refused);
        }
        let bundles = self.authority.bundles();
        let own = Arc::clone(bundles.borrow().own());
        let believed = validate::token(shown.token, "at+jwt", &own, self.clock.now());
        let believed = believed.map_err(|invalid| match invalid {
            Invalid::Expired => NotProven::Expired,
            _ => NotProven::Refused,
        })?;
        let text = |name: &str| believed.claims.get(name).and_then(Value::as_str);
        let list = |name: &str| -> Vec<String> {
            let listed = believed.claims.get(name).and_then(Value::as_array);
            listed.into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        if !list("aud").iter().any(|named| shown.audiences.contains(named)) {
            return Err(NotProven::Audience);
        }
        Ok(Subject {
            human: human_id(text("sub").unwrap()),
            groups: list("groups"),
            scopes: text("scope").and_then(Scopes::read),
            expires: believed.expires,
            meant: Meant::For(list("aud")),
            may_act: text("may_act").map(str::to_owned),
            actors: Vec::new(),
        })
    }
}

impl Subjects for People {
    fn subject<'a>(&'a self, shown: Shown<'a>) -> BoxFuture<'a, Result<Subject, NotProven>> {
        Box::pin(async move { self.judge(shown) })
    }
}

/// The sessions that live.
#[derive(Default)]
pub(crate) struct Live(Mutex<Vec<Arc<Session>>>);

impl Live {
    pub(crate) fn open(&self, facts: &SessionFacts) -> Arc<Session> {
        let session = Arc::new(Session::new(facts.clone()));
        self.0.lock().unwrap().push(Arc::clone(&session));
        session
    }

    /// A caller's session below that of a run.
    pub(crate) fn join(&self, base: &SessionFacts, human: &str, id: u128) -> Arc<Session> {
        let mut facts = base.clone();
        facts.id = SessionId::from_bits(id);
        facts.human.id = human_id(human);
        facts.delegation.acts_for = ActsFor::Starter;
        facts.delegation.below = Some(base.id);
        self.open(&facts)
    }
}

impl Sessions for Live {
    fn live(&self, run: &SpiffeId) -> Vec<Arc<Session>> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|one| one.facts().spiffe_id == *run && one.cause().is_none()).cloned().collect()
    }
}

/// What was recorded, with a switch that makes recording fail.
#[derive(Default)]
pub(crate) struct Log {
    events: Mutex<Vec<Event>>,
    pub(crate) full: AtomicBool,
}

impl Log {
    pub(crate) fn issued(&self) -> Vec<IdentityIssued> {
        let events = self.events.lock().unwrap();
        let issued = |event: &Event| match event {
            Event::IdentityIssued(issued) => Some((**issued).clone()),
            _ => None,
        };
        events.iter().filter_map(issued).collect()
    }
}

impl Record for Log {
    fn intent(&self, _intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        Box::pin(async { Err(RecordError("no actions here".to_owned())) })
    }

    fn receipt(&self, _ticket: Ticket, _receipt: Event) {}

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        Box::pin(async move {
            if self.full.load(Ordering::SeqCst) {
                return Err(RecordError("the disk is full".to_owned()));
            }
            self.events.lock().unwrap().push(event);
            Ok(())
        })
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

/// The Python of the pinned clients, if it was set up.
pub(crate) fn python(script: &str) -> Option<Command> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = folder.join("../../.cache/venv/bin/python");
    if !python.exists() {
        println!("skipped: no Python clients; `scripts/setup test` installs them");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(folder.join("tests/tokens").join(script));
    Some(command)
}
