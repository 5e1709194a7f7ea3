//! A provider, a browser, and a node that knows the provider.

mod browser;
mod provider;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use writ_core::config::{self, Problems};
use writ_core::{Clock, Secret, SecretName, Timestamp};
use writ_host::{SystemClock, SystemIds, durable};
use writ_human::{
    Ended, Issuer, KEYS, Keep, KeepError, LoginOwner, Pace, People, Ports, Reveal, Signal, SignedIn, Tell,
    issuers,
};

pub(crate) use browser::{Browser, parameter};
pub(crate) use provider::Provider;

/// Where the browser comes back to; nobody listens there, the browser stops before it.
pub(crate) const REDIRECT: &str = "http://127.0.0.1:4711/callback";

/// Runs a test.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

pub(crate) fn owner(uid: u32, session: u32) -> LoginOwner {
    LoginOwner { uid, login_uid: Some(uid), audit_session: Some(session) }
}

/// The system's clock, moved by the test.
#[derive(Default)]
pub(crate) struct ShiftedClock(AtomicU64);

impl ShiftedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    fn shift(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.shift())
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.shift()
    }
}

/// Files in a folder, durable as the daemon's are; not sealed, so that tests can look.
pub(crate) struct Files {
    folder: PathBuf,
    /// Stores fail while this is not zero.
    pub(crate) broken: AtomicU64,
}

impl Files {
    fn path(&self, name: &SecretName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let bytes = durable::read(&self.folder.join(name)).unwrap()?;
        Some(String::from_utf8(bytes).unwrap())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> KeepError {
    KeepError(Box::new(error))
}

impl Keep for Files {
    fn load(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError> {
        let bytes = durable::read(&self.path(name)).map_err(failed)?;
        bytes.map(|bytes| Secret::<[u8]>::new(bytes).map_err(failed)).transpose()
    }

    fn store(&self, name: &SecretName, value: &Secret<[u8]>) -> Result<(), KeepError> {
        if self.broken.load(Ordering::SeqCst) > 0 {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::StorageFull)));
        }
        durable::replace(&self.path(name), value.expose(), 0o600).map_err(failed)
    }

    fn remove(&self, name: &SecretName) -> Result<(), KeepError> {
        durable::remove(&self.path(name)).map_err(failed)
    }

    fn list(&self) -> Result<Vec<SecretName>, KeepError> {
        let entries = std::fs::read_dir(&self.folder).map_err(failed)?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| SecretName::new(&name).ok()).collect())
    }
}

/// The operators' secrets of the tests.
struct Known(HashMap<&'static str, &'static str>);

impl Reveal for Known {
    fn reveal(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError> {
        let text = self.0.get(name.as_str());
        text.map(|text| Secret::<[u8]>::new(text.as_bytes().to_vec()).map_err(failed)).transpose()
    }
}

/// What was told, in order.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) ended: Mutex<Vec<Ended>>,
    pub(crate) changed: Mutex<Vec<SignedIn>>,
    pub(crate) signals: Mutex<Vec<Signal>>,
}

impl Tell for Told {
    fn ended(&self, ended: &Ended) {
        self.ended.lock().unwrap().push(ended.clone());
    }

    fn changed(&self, signed_in: &SignedIn) {
        self.changed.lock().unwrap().push(signed_in.clone());
    }

    fn signalled(&self, signal: &Signal) {
        self.signals.lock().unwrap().push(signal.clone());
    }
}

/// Waits as short as it can and remembers how long it should have been; moves the clock if told to.
#[derive(Default)]
pub(crate) struct Paces {
    pub(crate) asked: Mutex<Vec<Duration>>,
}

impl Pace for Paces {
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()> {
        self.asked.lock().unwrap().push(length);
        Box::pin(tokio::task::yield_now())
    }
}

/// A node that knows one provider.
pub(crate) struct Node {
    pub(crate) people: People,
    pub(crate) clock: Arc<ShiftedClock>,
    pub(crate) files: Arc<Files>,
    pub(crate) told: Arc<Told>,
    pub(crate) paces: Arc<Paces>,
    issuers: Vec<Issuer>,
    ports: Ports,
    _folder: tempfile::TempDir,
}

impl Node {
    /// Opens a node with the issuers of this configuration.
    pub(crate) async fn open(configuration: &str) -> Self {
        let mut problems = Problems::default();
        let issuers = config::read("writd.toml", configuration, KEYS, &mut problems, issuers)
            .unwrap_or_else(|| panic!("{problems}"));
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let files = Arc::new(Files { folder: folder.path().to_owned(), broken: AtomicU64::new(0) });
        let told = Arc::new(Told::default());
        let paces = Arc::new(Paces::default());
        let ports = Ports {
            clock: Arc::clone(&clock) as _,
            ids: Arc::new(SystemIds::default()),
            keep: Arc::clone(&files) as _,
            reveal: Arc::new(Known([("corp-oidc", "a secret & more"), ("ssf", "a-bearer-token")].into())),
            tell: Arc::clone(&told) as _,
            pace: Arc::clone(&paces) as _,
        };
        let people = People::open(issuers.clone(), ports.clone(), "boot-1".into()).await.unwrap();
        Self { people, clock, files, told, paces, issuers, ports, _folder: folder }
    }

    /// What the next start of the daemon finds.
    pub(crate) async fn restart(&mut self, boot: &str) {
        self.people = People::open(self.issuers.clone(), self.ports.clone(), boot.into()).await.unwrap();
    }

    /// Signs somebody in with a browser of their own.
    pub(crate) async fn sign_in(&self, provider: &Provider, user: &str, owner: LoginOwner) -> Arc<SignedIn> {
        let begun = self.people.logins().begin_browser(None, REDIRECT, owner).await.unwrap();
        let query = Browser::new(provider).log_in(&begun.url, user).await.unwrap();
        self.people.logins().finish(&begun.id, &owner, &query).await.unwrap()
    }

    /// The record of a sign-in on disk.
    pub(crate) fn record(&self, uid: u32, session: u32) -> Option<serde_json::Value> {
        let text = self.files.read(&format!("human-seat-{uid}-{session}"))?;
        Some(serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn ended(&self) -> Vec<(Option<LoginOwner>, &'static str)> {
        self.told.ended.lock().unwrap().iter().map(|ended| (ended.owner, ended.cause.as_str())).collect()
    }
}
