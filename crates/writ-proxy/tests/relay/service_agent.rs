//! A service agent: a governed run that serves callers, with the real registry, its door, and its own server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use writ_core::config::Problems;
use writ_core::serve::{ServeTls, TokenPlace};
use writ_core::{
    ActsFor, AgentName, Assurance, Clock, HumanId, Process, Reason, Secret, Serve, Service, TrustDomain,
};
use writ_gate::{BoxFuture, Caller, Callers, Delegation, Human, Joined, Served, Session};
use writ_host::{SystemClock, SystemIds};
use writ_proxy::{Identities, Inbound, InboundPorts, RelaySettings, Servers};
use writ_session::{Agent, Confinement, OpenRequest, Program, Registry};

use crate::client::{connect, trusting};
use crate::world::{Acting, HOST, Log, World};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// The run, its relay and its registry.
pub(crate) struct ServiceAgent {
    pub(crate) world: World,
    pub(crate) registry: Arc<Registry>,
    pub(crate) identities: Option<Identities>,
    _dir: tempfile::TempDir,
}

/// Believes `token-NAME`.
pub(crate) struct Tokens;

impl Callers for Tokens {
    fn caller<'a>(&'a self, served: Served<'a>, token: Secret<str>) -> BoxFuture<'a, Result<Caller, Reason>> {
        assert_eq!(served.audience, "api://tester");
        let name = token.expose().strip_prefix("token-").ok_or(Reason::CallerRefused).map(str::to_owned);
        Box::pin(async { Ok(caller(&name?)) })
    }
}

pub(crate) fn caller(name: &str) -> Caller {
    Caller {
        human: human(name),
        display: Some(name.to_owned()),
        groups: Vec::new(),
        expires: SystemClock.now().plus(Duration::from_mins(10)),
        parents: Vec::new(),
    }
}

pub(crate) fn human(name: &str) -> HumanId {
    HumanId::oidc("https://id.test", name).unwrap()
}

impl ServiceAgent {
    pub(crate) async fn new(service: Service) -> Self {
        let (log, dir) = (Arc::new(Log::default()), tempfile::tempdir().unwrap());
        let ports = writ_session::Ports {
            record: log.clone(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds::default()),
        };
        let domain = TrustDomain::new("writ.test").unwrap();
        let registry = Arc::new(Registry::new(dir.path(), domain, ports).unwrap());
        let session = open(&registry).await;
        let acting = Acting { session, registry: Some(registry.clone()), log };
        let world = World::acting(acting, vec![service], RelaySettings::default(), 443, "127.0.0.1:0").await;
        Self { world, registry, identities: None, _dir: dir }
    }

    pub(crate) async fn join(&self, name: &str) -> Joined {
        self.registry.serve(&self.world.session, caller(name)).await.unwrap()
    }

    /// An HTTP/2 connection of the agent to the relay.
    pub(crate) async fn http2(&self) -> SendRequest<Body> {
        let config = trusting(&self.world.root_file, &[b"h2"]);
        let stream = connect(self.world.address, config, HOST).await.unwrap();
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        send
    }

    /// Opens a door to the server on this port, which this test process owns.
    pub(crate) async fn door(&self, serve: Serve) -> SocketAddr {
        let session = self.world.session.clone();
        self.door_to(serve, move |_| vec![(session.clone(), own_group())]).await
    }

    pub(crate) async fn door_to<F>(&self, serve: Serve, runs: F) -> SocketAddr
    where
        F: Fn(&AgentName) -> Vec<(Arc<Session>, PathBuf)> + Send + Sync + 'static,
    {
        let ports = InboundPorts {
            callers: Arc::new(Tokens),
            join: self.registry.clone(),
            behind: Arc::new(Servers::new(runs)),
        };
        let gate = self.world.gate.clone();
        let inbound = Inbound::new(RelaySettings::default(), gate, ports, self.identities.clone());
        let door = inbound.door(&AgentName::new("tester").unwrap(), &serve).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = self.world.drain.clone();
        tokio::spawn(async move { inbound.serve(door, listener, drain).await });
        address
    }
}

/// A door that leads to this port.
pub(crate) fn serve(to: u16) -> Serve {
    Serve {
        listen: "127.0.0.1:1".parse().unwrap(),
        to,
        tls: ServeTls::None,
        audience: Some("api://tester".into()),
        issuer: None,
        token: TokenPlace::Bearer,
        open: Vec::new(),
        agents: Vec::new(),
        ungoverned: false,
    }
}

/// The control group of this process.
pub(crate) fn own_group() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    PathBuf::from(format!("/sys/fs/cgroup{path}"))
}

/// A live session that acts for callers.
pub(crate) async fn open(registry: &Registry) -> Arc<Session> {
    let agent = Agent::read("tester", "tester.toml", "owner = \"team\"", &mut Problems::default()).unwrap();
    let human = Human {
        id: HumanId::new("unix:operator").unwrap(),
        display: None,
        groups: Vec::new(),
        uid: 1000,
        login_uid: None,
        audit_session: None,
    };
    let request = OpenRequest {
        agent: &agent,
        run: registry.new_run(),
        session: registry.new_session(),
        human,
        purpose: String::new(),
        ttl: None,
        assurance: Assurance::Kernel,
        process: Process { exec_generation: 0, pid: 1, start_us: 1 },
        program: Program { path: "/bin/agent".into(), sha256: "00".into(), script: None },
        confinement: Confinement { namespaces: true, uid: 1000 },
        delegation: Delegation { acts_for: ActsFor::Caller, ..Delegation::default() },
    };
    Arc::clone(&registry.open(request).await.unwrap().session)
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

/// A server on loopback, HTTP/1 and HTTP/2, that answers with this function.
pub(crate) async fn server<F, T>(answer: F) -> u16
where
    F: Fn(Request<Incoming>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async { Ok::<_, Infallible>(answering.await) }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
            });
        }
    });
    port
}

/// A server that answers with its request's head, as sorted lines.
pub(crate) async fn mirror() -> u16 {
    server(|request| async move {
        let lines: BTreeMap<_, _> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let first = format!("{} {} {:?}", request.method(), request.uri(), request.version());
        let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        Response::new(Full::new(Bytes::from(format!("{first} {length}\n{lines:#?}"))).boxed())
    })
    .await
}

/// An HTTP/1 connection to a door.
pub(crate) async fn visitor(door: SocketAddr) -> hyper::client::conn::http1::SendRequest<Body> {
    let stream = TcpStream::connect(door).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    send
}
