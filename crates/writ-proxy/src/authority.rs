//! Certificate authorities, one per session: what lets the relay speak for a service inside that session alone.
//!
//! A session's clients trust one root. The root signs nothing but intermediates; the intermediate carries critical
//! name constraints (RFC 5280 section 4.2.1.10) with the names that the session may reach and no addresses at all,
//! because constraints on a root are ignored by some clients. Leaves are minted per name when a client asks.
//!
//! The root's key is kept, sealed, rather than thrown away: when a reload changes what the session may reach a new
//! intermediate is signed, and after a restart the clients' trust must still hold. It is not in use in between.
//!
//! Invariant: no certificate is made for a name outside the session's names, none outlives the session by more than
//! [`issue::SLACK`], and neither tickets nor resumption state are shared between sessions.

mod issue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use writ_core::service::HostPattern;
use writ_core::{Clock, HostName, IdSource, Secret, SessionId, Timestamp};
use writ_gate::{SessionFacts, limits};

pub use issue::AuthorityError;
use issue::{Issuing, Root};

/// What a run needs of its session's authority.
#[derive(Debug)]
pub struct CaFiles {
    /// The root certificate, PEM: what the run's clients are told to trust.
    pub root_pem: String,
    /// What [`Authorities::restore`] takes after a restart; to be sealed wherever it is kept.
    pub material: Secret<[u8]>,
}

/// The authorities of all live sessions. Shared; every method may be called from any thread.
pub struct Authorities {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    sessions: RwLock<HashMap<SessionId, Arc<Authority>>>,
}

impl Authorities {
    /// No authorities yet.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) -> Self {
        Self { clock, ids, sessions: RwLock::default() }
    }

    /// Makes the authority of a new session, good for these names and nothing else.
    pub fn open(&self, session: &SessionFacts, names: &[HostPattern]) -> Result<CaFiles, AuthorityError> {
        let root = Root::generate(&self.validity(session), &*self.ids)?;
        self.enter(session, names, root)
    }

    /// Brings the authority of a session back after a restart: the same root, a new intermediate.
    pub fn restore(
        &self,
        session: &SessionFacts,
        names: &[HostPattern],
        material: &Secret<[u8]>,
    ) -> Result<CaFiles, AuthorityError> {
        self.enter(session, names, Root::read(material)?)
    }

    /// Replaces the names of a session after a reload. Connections that are open keep their certificate; the gate
    /// decides about their requests as always. A session that is not here is no error.
    pub fn change(&self, session: SessionId, names: &[HostPattern]) -> Result<(), AuthorityError> {
        let Some(authority) = self.get(session) else { return Ok(()) };
        let changed = authority.with_names(names, self)?;
        self.write().entry(session).and_modify(|held| *held = Arc::new(changed));
        Ok(())
    }

    /// Forgets a session's authority.
    pub fn close(&self, session: SessionId) {
        self.write().remove(&session);
    }

    /// How many sessions have an authority.
    pub fn len(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether no session has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<Arc<Authority>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    fn enter(
        &self,
        session: &SessionFacts,
        names: &[HostPattern],
        root: Root,
    ) -> Result<CaFiles, AuthorityError> {
        let files = CaFiles { root_pem: root.pem().to_owned(), material: root.material()? };
        let authority = Authority::new(Arc::new(root), self.validity(session), names, self)?;
        self.write().insert(session.id, Arc::new(authority));
        Ok(files)
    }

    fn validity(&self, session: &SessionFacts) -> Validity {
        Validity { session: session.id, from: self.clock.now(), to: session.expires }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<SessionId, Arc<Authority>>> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").field("sessions", &self.len()).finish_non_exhaustive()
    }
}

/// Whose certificates, and between which moments they hold.
#[derive(Debug, Clone, Copy)]
struct Validity {
    session: SessionId,
    from: Timestamp,
    to: Timestamp,
}

/// One session's authority with the TLS settings that go with it.
pub(crate) struct Authority {
    root: Arc<Root>,
    validity: Validity,
    leaves: Arc<Leaves>,
    config: Arc<ServerConfig>,
}

impl Authority {
    fn new(
        root: Arc<Root>,
        validity: Validity,
        names: &[HostPattern],
        shared: &Authorities,
    ) -> Result<Self, AuthorityError> {
        let issuing = Issuing::new(&root, validity, names, Arc::clone(&shared.ids))?;
        let leaves = Arc::new(Leaves { issuing, made: Mutex::default() });
        let config = Arc::new(server_config(Arc::clone(&leaves) as Arc<dyn ResolvesServerCert>)?);
        Ok(Self { root, validity, leaves, config })
    }

    fn with_names(&self, names: &[HostPattern], shared: &Authorities) -> Result<Self, AuthorityError> {
        let validity = Validity { from: shared.clock.now(), ..self.validity };
        Self::new(Arc::clone(&self.root), validity, names, shared)
    }

    /// The settings for every connection of the session: one ticketer, leaves by the name asked for.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Settings that show the leaf of `name` whatever the client asked for: to tell a client that named no server
    /// why it is refused.
    pub(crate) fn config_for(&self, name: &HostName) -> Option<Arc<ServerConfig>> {
        let leaf = self.leaves.leaf(name)?;
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(leaf));
        Some(Arc::new(config))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("session", &self.validity.session).finish_non_exhaustive()
    }
}

/// The leaves made so far. Bounded: when it is full it starts anew.
struct Leaves {
    issuing: Issuing,
    made: Mutex<HashMap<HostName, Arc<CertifiedKey>>>,
}

impl Leaves {
    fn leaf(&self, name: &HostName) -> Option<Arc<CertifiedKey>> {
        let held = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if held.is_some() {
            return held;
        }
        // Made outside the lock; two hellos at once cost one leaf too many and nothing else.
        let leaf = match self.issuing.leaf(name) {
            Ok(leaf) => Arc::new(leaf?),
            Err(error) => {
                tracing::warn!(target: "writ::proxy", %error, "no leaf certificate");
                return None;
            }
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= limits::LEAVES_PER_SESSION_MAX {
            made.clear();
        }
        made.insert(name.clone(), Arc::clone(&leaf));
        Some(leaf)
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(&HostName::new(hello.server_name()?).ok()?)
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaves")
    }
}

fn server_config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, AuthorityError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(limits::LEAVES_PER_SESSION_MAX);
    config.send_tls13_tickets = 1;
    // No early data (it can be replayed) and no key log, whatever SSLKEYLOGFILE says: both are the defaults, and
    // stand here so that nobody turns them on.
    config.max_early_data_size = 0;
    config.key_log = Arc::new(rustls::NoKeyLog);
    Ok(config)
}
