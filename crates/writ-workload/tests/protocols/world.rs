//! A trust domain with its authority and the socket, in a folder of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use writ_core::config::{self, Problems};
use writ_core::{Clock, Secret, SpiffeId, Timestamp, TrustDomain};
use writ_gate::BoxFuture;
use writ_host::{SystemClock, SystemIds};
use writ_identity::{Authority, IdentitySettings, Keep, KeepError, Surroundings};
use writ_session::Peer;
use writ_workload::proto::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use writ_workload::{Entitled, Entitlements, NotAttested, Parts, Server, Workloads};

pub(crate) const DOMAIN: &str = "example.org";
/// Longer than anything here takes, even on a machine that does other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) parts: Parts,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: Option<JoinHandle<()>>,
}

/// The processes that have an identity, as the daemon would know them.
#[derive(Default)]
pub(crate) struct Processes {
    by_pid: Mutex<HashMap<u32, watch::Sender<Arc<[Entitled]>>>>,
    not_ready: Mutex<bool>,
}

impl Processes {
    /// Gives a process these identities, now or again.
    pub(crate) fn entitle(&self, pid: u32, identities: &[Entitled]) {
        let mut all = self.by_pid.lock().unwrap();
        let sender = all.entry(pid).or_insert_with(|| watch::Sender::new(Arc::default()));
        sender.send_replace(identities.into());
    }

    /// Forgets a process without a word.
    pub(crate) fn forget(&self, pid: u32) {
        self.by_pid.lock().unwrap().remove(&pid);
    }

    pub(crate) fn starting(&self, is: bool) {
        *self.not_ready.lock().unwrap() = is;
    }
}

impl Workloads for Processes {
    fn attest<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Entitlements, NotAttested>> {
        Box::pin(async {
            if *self.not_ready.lock().unwrap() {
                return Err(NotAttested::NotReady);
            }
            let all = self.by_pid.lock().unwrap();
            let found = all.get(&peer.process().pid).map(watch::Sender::subscribe);
            found.filter(|_| peer.is_alive()).ok_or(NotAttested::NoIdentity)
        })
    }
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

pub(crate) fn settings(text: &str) -> IdentitySettings {
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let mut problems = Problems::default();
    config::read("writd.toml", text, writ_identity::KEYS, &mut problems, |table| {
        writ_identity::settings(table, &domain)
    })
    .unwrap_or_else(|| panic!("{problems}"))
}

pub(crate) async fn authority(domain: &str, settings: IdentitySettings) -> Authority {
    Authority::open(TrustDomain::new(domain).unwrap(), settings, surroundings()).await.unwrap()
}

pub(crate) fn surroundings() -> Surroundings {
    Surroundings {
        keep: Arc::new(Memory::default()),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds::default()),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(settings("")).await
    }

    pub(crate) async fn with(settings: IdentitySettings) -> Self {
        let authority = Arc::new(authority(DOMAIN, settings).await);
        let processes = Arc::new(Processes::default());
        let parts = Parts {
            workloads: Arc::clone(&processes) as Arc<dyn Workloads>,
            issuer: authority.issuer(),
            bundles: authority.bundles(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds::default()),
        };
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let mut world = Self { folder, authority, processes, parts, stop, serving: None };
        world.serve();
        world
    }

    pub(crate) fn serve(&mut self) {
        let server = Server::bind(&self.socket()).unwrap();
        self.serving = Some(tokio::spawn(server.serve(self.parts.clone(), self.stop.clone())));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("workload.sock")
    }

    /// As clients are told: `SPIFFE_ENDPOINT_SOCKET`.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Gives this very process one identity, and tells how to end its session.
    pub(crate) fn entitle_me(&self) -> CancellationToken {
        let identity = entitled("coder", 1);
        self.processes.entitle(std::process::id(), std::slice::from_ref(&identity));
        identity.ended
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint()).unwrap().connect().await.unwrap()
    }

    /// A client that sends what it is told to, and nothing else.
    pub(crate) async fn raw(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel().await)
    }

    pub(crate) async fn spiffe(&self) -> spiffe::WorkloadApiClient {
        spiffe::WorkloadApiClient::connect_to(self.endpoint()).await.unwrap()
    }

    /// Makes another trust domain known, and gives its authority.
    pub(crate) async fn federate(&self, domain: &str) -> Authority {
        let other = authority(domain, settings("")).await;
        let bundle = other.bundles().borrow().own().as_ref().clone();
        self.authority.publication().set(bundle);
        other
    }
}

/// A request as the standard wants it.
pub(crate) fn meant<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub(crate) fn run_id(agent: &str, run: u8) -> SpiffeId {
    SpiffeId::new(&format!("spiffe://{DOMAIN}/agent/{agent}/run/{run:026}")).unwrap()
}

/// An identity whose session lasts for a day.
pub(crate) fn entitled(agent: &str, run: u8) -> Entitled {
    Entitled {
        spiffe_id: run_id(agent, run),
        ended: CancellationToken::new(),
        expires: now().plus(Duration::from_hours(24)),
        hint: String::new(),
    }
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
