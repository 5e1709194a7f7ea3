//! The certificate that clients are shown, replaced in time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use writ_core::{Clock, SpiffeId, Timestamp};
use writ_host::durable;

use super::WebError;
use crate::Parts;
use crate::settings::Certificate;

/// How the listener proves who it is, and the TLS settings that follow from it.
pub(super) struct Proof {
    source: Source,
    clock: Arc<dyn Clock>,
    tls: Option<Arc<ServerConfig>>,
    /// When to look again.
    due: Timestamp,
}

enum Source {
    Files { chain: PathBuf, key: PathBuf, chain_held: Vec<u8> },
    Svid { id: SpiffeId, parts: Box<Parts>, beside: Vec<CertificateDer<'static>> },
}

/// Files are looked at this often.
const FILES: Duration = Duration::from_secs(30);
/// An identity that could not be issued is tried for this often.
const RETRY: Duration = Duration::from_secs(1);

impl Proof {
    /// Reads the files, which must be there and good; issues an identity, which may have to wait.
    pub(super) fn new(certificate: &Certificate, parts: &Parts) -> Result<Self, WebError> {
        let clock = Arc::clone(&parts.clock);
        let source = match certificate {
            Certificate::Files { chain, key } => {
                Source::Files { chain: chain.clone(), key: key.clone(), chain_held: Vec::new() }
            }
            Certificate::Svid(id) => {
                Source::Svid { id: id.clone(), parts: Box::new(parts.clone()), beside: Vec::new() }
            }
        };
        let mut proof = Self { source, clock, tls: None, due: Timestamp::default() };
        match proof.renew() {
            Err(WebError::Svid(writ_identity::Error::NotReady)) => Ok(proof),
            renewed => renewed.map(|()| proof),
        }
    }

    /// What a new connection is to use; none while there is no certificate.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Replaces the certificate if that is due. What was good stays in use until something better is.
    pub(super) fn refresh(&mut self) {
        if self.clock.now() < self.due && !self.roots_changed() {
            return;
        }
        if let Err(error) = self.renew() {
            self.due = self.clock.now().plus(RETRY);
            let error = &error as &dyn std::error::Error;
            tracing::warn!(target: "writ::workload", error, "the certificate could not be renewed");
        }
    }

    /// Whether our own identity was issued beside other roots than those of now, which may not vouch for it.
    fn roots_changed(&self) -> bool {
        match &self.source {
            Source::Svid { parts, beside, .. } => parts.bundles.borrow().own().x509() != *beside,
            Source::Files { .. } => false,
        }
    }

    fn renew(&mut self) -> Result<(), WebError> {
        let now = self.clock.now();
        match &mut self.source {
            Source::Files { chain, key, chain_held } => {
                let read = file(chain)?;
                if self.tls.is_none() || read != *chain_held {
                    self.tls = Some(from_files(chain, &read, key)?);
                    *chain_held = read;
                }
                self.due = now.plus(FILES);
            }
            Source::Svid { id, parts, beside } => {
                let bundles = Arc::clone(&parts.bundles.borrow());
                let issued = parts.x509(id, Timestamp::from_micros(u64::MAX), &bundles)?;
                let key = PrivateKeyDer::try_from(issued.key.expose().to_vec())
                    .map_err(|problem| rustls::Error::General(problem.to_owned()))?;
                self.due = issued.renew_at(parts.ids.as_ref()).max(now.plus(RETRY));
                self.tls = Some(settings(issued.chain, key)?);
                *beside = bundles.own().x509().to_vec();
            }
        }
        Ok(())
    }
}

fn from_files(chain: &Path, read: &[u8], key: &Path) -> Result<Arc<ServerConfig>, WebError> {
    let wrong = |path: &Path, what| WebError::Content { path: path.display().to_string(), what };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read).collect();
    let certificates = certificates.map_err(|_| wrong(chain, "certificates"))?;
    if certificates.is_empty() {
        return Err(wrong(chain, "certificates"));
    }
    let key_read = file(key)?;
    let private = PrivateKeyDer::from_pem_slice(&key_read).map_err(|_| wrong(key, "private key"))?;
    settings(certificates, private)
}

fn file(path: &Path) -> Result<Vec<u8>, WebError> {
    let shown = || path.display().to_string();
    // Certificates of ACME clients are links to the newest one.
    let target = std::fs::canonicalize(path).map_err(|_| WebError::Missing { path: shown() })?;
    let read = durable::read(&target).map_err(|source| WebError::File { path: shown(), source })?;
    read.ok_or_else(|| WebError::Missing { path: shown() })
}

/// No client certificate is asked for. No session is ever resumed: each handshake shows the certificate of its moment.
fn settings(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, WebError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(Arc::new(tls))
}
