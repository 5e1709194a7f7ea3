//! The certificate of a door, from files that are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// The file is not there or not readable.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold what it must.
    #[error("`{}` holds no {what}; hint: it must be PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
    },
    /// Certificate and key cannot be used.
    #[error("the certificate in `{}` cannot be used; hint: does the key belong to it?", path.display())]
    Tls {
        /// The certificate's file.
        path: PathBuf,
        /// What TLS said.
        #[source]
        source: rustls::Error,
    },
    /// The agent's name leaves no room.
    #[error("the agent's name is too long to serve callers; hint: use at most 120 letters")]
    NameTooLong,
    /// Nothing is there to present.
    #[error("`tls = \"spiffe\"` needs the identities of runs, and this node has none")]
    NoIdentities,
}

/// Files, and what was made of them last.
#[derive(Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    made: Mutex<Option<(Stamp, Arc<ServerConfig>)>>,
}

/// Lengths and times of the files.
type Stamp = [(u64, Option<SystemTime>); 2];

impl Certificate {
    pub(super) fn new(chain: PathBuf, key: PathBuf) -> Self {
        Self { chain, key, made: Mutex::default() }
    }

    /// The settings with the certificate as it is now. While changed files cannot be used, the last good ones stay.
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>, DoorError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.stamp().and_then(|stamp| match &*made {
            Some((known, config)) if *known == stamp => Ok((stamp, Arc::clone(config))),
            Some(_) | None => Ok((stamp, self.read()?)),
        });
        match (fresh, &*made) {
            (Ok((stamp, config)), _) => {
                *made = Some((stamp, Arc::clone(&config)));
                Ok(config)
            }
            (Err(error), Some((_, config))) => {
                tracing::error!(target: "writ::proxy", error = &error as &dyn std::error::Error, "a certificate is not renewed");
                Ok(Arc::clone(config))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn stamp(&self) -> Result<Stamp, DoorError> {
        let of = |path: &Path| {
            let about = std::fs::metadata(path)
                .map_err(|source| DoorError::File { path: path.to_owned(), source })?;
            Ok((about.len(), about.modified().ok()))
        };
        Ok([of(&self.chain)?, of(&self.key)?])
    }

    fn read(&self) -> Result<Arc<ServerConfig>, DoorError> {
        let bytes = |path: &Path| {
            std::fs::read(path).map_err(|source| DoorError::File { path: path.to_owned(), source })
        };
        let lacks = |path: &Path, what| DoorError::Pem { path: path.to_owned(), what };
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&bytes(&self.chain)?).filter_map(Result::ok).collect();
        if chain.is_empty() {
            return Err(lacks(&self.chain, "certificate"));
        }
        let key = zeroize::Zeroizing::new(bytes(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| lacks(&self.key, "key"))?;
        let failed = |source| DoorError::Tls { path: self.chain.clone(), source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
