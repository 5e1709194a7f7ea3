//! What the tests share: a `Keep` in memory, a clock that stands still, an authority that is ready.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use writ_core::clock::ManualClock;
use writ_core::config::{self, Problems};
use writ_core::{Clock, Secret, SpiffeId, Timestamp, TrustDomain};
use writ_host::{SystemClock, SystemIds};
use writ_identity::{Authority, IdentitySettings, KEYS, Keep, KeepError, Surroundings};

/// Values in memory, with a switch that makes storing fail.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    values: Mutex<HashMap<String, Vec<u8>>>,
    broken: std::sync::atomic::AtomicBool,
}

impl Memory {
    pub(crate) fn break_down(&self, broken: bool) {
        self.broken.store(broken, std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.values.lock().unwrap().get(name).cloned()
    }

    pub(crate) fn put(&self, name: &str, value: Vec<u8>) {
        self.values.lock().unwrap().insert(name.to_owned(), value);
    }
}

impl Keep for Memory {
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError> {
        let held = self.values.lock().unwrap().get(name).cloned();
        Ok(held.map(Secret::<[u8]>::new).transpose()?)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        assert!(value.len() < 16 * 1024, "a kept value must stay small");
        self.values.lock().unwrap().insert(name.to_owned(), value.to_vec());
        Ok(())
    }
}

/// A node: its storage, its clock, and how it is configured.
pub(crate) struct Node {
    pub(crate) keep: Arc<Memory>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) domain: TrustDomain,
    pub(crate) settings: IdentitySettings,
}

impl Node {
    /// The clock begins at the real time, so that other people's verifiers agree.
    pub(crate) fn new(domain: &str, toml: &str) -> Self {
        let now = Timestamp::from_micros(SystemClock.now().seconds() * 1_000_000);
        let domain = TrustDomain::new(domain).unwrap();
        Self {
            keep: Arc::default(),
            clock: Arc::new(ManualClock::new(now)),
            settings: read_for(toml, &domain).unwrap_or_else(|problems| panic!("{problems}")),
            domain,
        }
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            keep: Arc::clone(&self.keep) as Arc<dyn Keep>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ids: Arc::new(SystemIds::default()),
        }
    }

    pub(crate) async fn open(&self) -> Authority {
        let authority = self.try_open().await.unwrap();
        // What opening did is said by the first tick.
        authority.tick(self.now()).await.ok();
        authority
    }

    pub(crate) async fn try_open(&self) -> Result<Authority, writ_identity::Error> {
        Authority::open(self.domain.clone(), self.settings.clone(), self.surroundings()).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn in_an_hour(&self) -> Timestamp {
        self.now().plus(Duration::from_hours(1))
    }
}

/// Reads `[identity]`.
pub(crate) fn read_for(toml: &str, own: &TrustDomain) -> Result<IdentitySettings, String> {
    let mut problems = Problems::default();
    let read =
        config::read("writd.toml", toml, KEYS, &mut problems, |table| writ_identity::settings(table, own));
    read.ok_or_else(|| problems.to_string())
}

pub(crate) fn workload(domain: &str) -> SpiffeId {
    SpiffeId::new(&format!("spiffe://{domain}/agent/coder/run/01J0000000000000000000000A")).unwrap()
}

/// A ready authority of `example.org`.
pub(crate) async fn example() -> (Node, Authority) {
    let node = Node::new("example.org", "");
    let authority = node.open().await;
    (node, authority)
}

/// Runs `openssl`; the whole output if it succeeded.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    writ_host::durable::replace(path, bytes, 0o600).unwrap();
}

pub(crate) fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
