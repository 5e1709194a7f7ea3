//! Who signs intermediates: a root of our own, or an upstream authority.

mod csr;
mod file;
mod own;
mod vault;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use writ_core::{Secret, Timestamp, TrustDomain};

use super::Surroundings;
use crate::facts::Facts;
use crate::{Error, KeyKind};

/// Which authority signs intermediates.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaSettings {
    /// A root of our own, made at the first start; its key is kept sealed.
    Own {
        /// How long the root holds.
        root_ttl: Duration,
    },
    /// A certificate and key of an authority, in files.
    File {
        /// The authority's certificate and whatever leads to its root, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
        /// The roots, PEM, if they are not in `certificate`.
        bundle: Option<PathBuf>,
    },
    /// The operator signs a request by hand.
    Csr {
        /// Where the request is written, PEM.
        request: PathBuf,
        /// Where the operator puts what was signed: the intermediate and whatever leads to its root, PEM.
        certificate: PathBuf,
    },
    /// A PKI secrets engine of Vault or `OpenBao`.
    Vault(VaultSettings),
}

/// Where a Vault or `OpenBao` is and how it knows us.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultSettings {
    /// `https://host:port`.
    pub address: String,
    /// The path of the PKI secrets engine.
    pub mount: String,
    /// The namespace, where there is one.
    pub namespace: Option<String>,
    /// The roots that its server certificate is checked with, PEM; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// How we log in.
    pub login: VaultLogin,
}

/// How we are known to a Vault. The files are read anew for each request, so that they can be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VaultLogin {
    /// A file with a token.
    Token(PathBuf),
    /// A file with a JWT for an auth method of type `jwt`.
    Jwt {
        /// The file.
        file: PathBuf,
        /// The path of the auth method.
        mount: String,
        /// The role to log in as.
        role: String,
    },
}

/// An intermediate that was signed, with its key.
pub(super) struct Signed {
    pub(super) source: String,
    pub(super) kind: KeyKind,
    pub(super) key: Secret<[u8]>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// What asking gave.
pub(super) enum Origin {
    /// A signed intermediate.
    Signed(Signed),
    /// The operator must sign this request first.
    Waiting(PathBuf),
}

/// An authority that can be asked for intermediates.
pub(super) struct Source {
    settings: CaSettings,
    domain: TrustDomain,
    kind: KeyKind,
    surroundings: Surroundings,
}

impl Source {
    pub(super) fn new(
        settings: &CaSettings,
        domain: TrustDomain,
        kind: KeyKind,
        surroundings: Surroundings,
    ) -> Self {
        Self { settings: settings.clone(), domain, kind, surroundings }
    }

    /// What generations remember about where they come from.
    pub(super) fn name(&self) -> &'static str {
        match self.settings {
            CaSettings::Own { .. } => "self",
            CaSettings::File { .. } => "file",
            CaSettings::Csr { .. } => "csr",
            CaSettings::Vault(_) => "vault",
        }
    }

    /// Asks for an intermediate that holds for `ttl`, or less if its authority ends sooner or allows less.
    pub(super) async fn obtain(&self, now: Timestamp, ttl: Duration) -> Result<Origin, Error> {
        match &self.settings {
            CaSettings::Own { root_ttl } => own::obtain(self, now, ttl, *root_ttl).await,
            CaSettings::File { certificate, key, bundle } => {
                file::obtain(self, now, ttl, &file::Files { certificate, key, bundle: bundle.as_deref() })
            }
            CaSettings::Csr { request, certificate } => csr::obtain(self, now, request, certificate).await,
            CaSettings::Vault(vault) => vault::obtain(self, ttl, vault).await,
        }
    }

    /// Forgets the key that signs one intermediate after the other, because it may be known to others. Where it is
    /// an upstream's, that is the upstream's to do.
    pub(super) async fn forget(&self) -> Result<(), Error> {
        match self.settings {
            CaSettings::Own { .. } => own::forget(self).await,
            CaSettings::File { .. } | CaSettings::Csr { .. } | CaSettings::Vault(_) => Ok(()),
        }
    }

    /// What was obtained last is stored as a generation.
    pub(super) async fn adopted(&self) -> Result<(), Error> {
        match self.settings {
            CaSettings::Csr { .. } => csr::forget(self).await,
            CaSettings::Own { .. } | CaSettings::File { .. } | CaSettings::Vault(_) => Ok(()),
        }
    }

    fn load(&self, name: &'static str) -> Result<Option<Secret<[u8]>>, Error> {
        let loaded = self.surroundings.keep.load(name);
        loaded.map_err(|source| Error::Keep { name, verb: "loaded", source })
    }

    async fn store(&self, name: &'static str, value: zeroize::Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let keep = std::sync::Arc::clone(&self.surroundings.keep);
        let stored = tokio::task::spawn_blocking(move || keep.store(name, &value)).await;
        let stored = stored.unwrap_or_else(|error| Err(error.into()));
        stored.map_err(|source| Error::Keep { name, verb: "stored", source })
    }

    fn signed(
        &self,
        key: Secret<[u8]>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Signed {
        Signed { source: self.name().to_owned(), kind: self.kind, key, chain, roots }
    }
}

/// Roots are what is issued by itself; everything else leads to them, in the order given.
fn arrange(
    certificates: Vec<CertificateDer<'static>>,
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), Error> {
    let (mut chain, mut roots) = (Vec::new(), Vec::new());
    for certificate in certificates {
        let facts = Facts::read(&certificate).map_err(|source| {
            super::unusable(&path.display().to_string(), source, "write PEM certificates")
        })?;
        if facts.self_issued { roots.push(certificate) } else { chain.push(certificate) }
    }
    Ok((chain, roots))
}

/// All certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let content = |problem, hint| Error::Content { path: path.to_owned(), problem, hint };
    let text = writ_host::durable::read(path)?;
    let text = text.ok_or_else(|| content("does not exist", "write the certificates there, PEM"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|_| content("is no PEM file", "write the certificates there, PEM"))?;
    if read.is_empty() {
        return Err(content("holds no certificate", "write the certificates there, PEM"));
    }
    Ok(read)
}
