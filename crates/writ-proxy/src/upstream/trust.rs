//! Whom the relay believes: the system's roots, or the roots that a service names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use writ_core::Reason;

use super::pool::Alpn;

/// TLS sessions with services that are kept for resumption, per session of ours and protocol offer.
const RESUMPTIONS_MAX: usize = 32;

/// Roots could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The file is not there or not readable.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The file has no certificate in it.
    #[error("`{}` holds no certificate; hint: it must be PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// TLS refused the settings.
    #[error("the TLS settings for services could not be made")]
    Tls(#[from] rustls::Error),
}

/// The roots in use. A service's file is read again when it changes.
#[derive(Debug)]
pub(crate) struct Trust {
    system: Arc<RootCertStore>,
    files: Mutex<HashMap<PathBuf, Roots>>,
}

#[derive(Debug, Clone)]
struct Roots {
    /// Length and time of the file that they were read from.
    stamp: (u64, Option<SystemTime>),
    store: Arc<RootCertStore>,
}

impl Trust {
    /// Reads the system's roots. None at all is no error here: every service without roots of its own then fails.
    pub(crate) fn system() -> Self {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(target: "writ::proxy", %error, "some system roots could not be read");
        }
        store.add_parsable_certificates(found.certs);
        Self { system: Arc::new(store), files: Mutex::default() }
    }

    fn roots(&self, file: Option<&Path>) -> Result<Arc<RootCertStore>, TrustError> {
        let Some(path) = file else { return Ok(Arc::clone(&self.system)) };
        let failed = |source| TrustError::File { path: path.to_owned(), source };
        let about = std::fs::metadata(path).map_err(failed)?;
        let stamp = (about.len(), about.modified().ok());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(path).filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.store));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
        if store.is_empty() {
            return Err(TrustError::Empty { path: path.to_owned() });
        }
        let store = Arc::new(store);
        files.insert(path.to_owned(), Roots { stamp, store: Arc::clone(&store) });
        Ok(store)
    }
}

/// One session's TLS settings towards services. Resumption state is never shared between sessions.
#[derive(Debug)]
pub(crate) struct SessionTrust {
    trust: Arc<Trust>,
    configs: Mutex<Vec<Offered>>,
}

/// Settings made for these roots and this offer.
type Offered = (Arc<RootCertStore>, Alpn, Arc<ClientConfig>);

impl SessionTrust {
    pub(crate) fn new(trust: Arc<Trust>) -> Self {
        Self { trust, configs: Mutex::default() }
    }

    /// The settings for these roots and this offer.
    pub(crate) fn client_config(
        &self,
        file: Option<&Path>,
        offer: Alpn,
    ) -> Result<Arc<ClientConfig>, Reason> {
        self.try_client_config(file, offer).map_err(|error| {
            tracing::warn!(target: "writ::proxy", error = &error as &dyn std::error::Error, "no trust in a service");
            Reason::UpstreamTls
        })
    }

    fn try_client_config(&self, file: Option<&Path>, offer: Alpn) -> Result<Arc<ClientConfig>, TrustError> {
        let roots = self.trust.roots(file)?;
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = configs.iter().find(|(store, alpn, _)| Arc::ptr_eq(store, &roots) && *alpn == offer);
        if let Some((.., config)) = known {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        config.alpn_protocols = offer.protocols();
        config.resumption = Resumption::in_memory_sessions(RESUMPTIONS_MAX);
        // Both are the defaults; a credential must not be replayable and keys are never written down.
        config.enable_early_data = false;
        config.key_log = Arc::new(rustls::NoKeyLog);
        let config = Arc::new(config);
        if configs.len() >= RESUMPTIONS_MAX {
            configs.clear();
        }
        configs.push((roots, offer, Arc::clone(&config)));
        Ok(config)
    }
}
