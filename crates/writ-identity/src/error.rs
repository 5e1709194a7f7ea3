//! What can go wrong, in the operator's words. No variant carries a key or a token.

use std::path::PathBuf;

use writ_core::secret::MemoryError;
use writ_host::durable::FileError;

use crate::keep::KeepError;

/// Something could not be issued, or the authority could not do what was due. What was issued before still holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no signing certificate yet, or it has ended.
    #[error("the authority cannot sign yet; hint: `writ doctor` says what it waits for")]
    NotReady,
    /// The session that the identity is for has ended, or ends too soon to be worth a certificate.
    #[error("the session ends before an identity could begin")]
    Ended,
    /// An identity was asked for that is not of this trust domain, or that names no workload.
    #[error("`{id}` is no workload of the trust domain `{trust_domain}`")]
    Foreign {
        /// What was asked for.
        id: String,
        /// The authority's own.
        trust_domain: String,
    },
    /// A token was asked for with claims that are not to be signed.
    #[error("a token cannot be signed: {problem}")]
    Claims {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A certificate could not be built or signed.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A certificate that was just made, or given to us, does not pass our own checks.
    #[error("the certificate from {origin} cannot be used; hint: {hint}")]
    Unusable {
        /// Where it comes from.
        origin: String,
        /// What is wrong with it.
        #[source]
        source: Invalid,
        /// What to do.
        hint: &'static str,
    },
    /// The cryptographic library refused to work.
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
    /// TLS refused the settings or the key.
    #[error("the TLS settings could not be made")]
    Tls(#[from] rustls::Error),
    /// There is no memory for a key.
    #[error("a key could not be kept in memory")]
    Memory(#[from] MemoryError),
    /// The sealed storage failed.
    #[error("the authority's `{name}` cannot be {verb}")]
    Keep {
        /// Which value.
        name: &'static str,
        /// `loaded` or `stored`.
        verb: &'static str,
        /// What it said.
        #[source]
        source: KeepError,
    },
    /// What was kept is not what this version writes.
    #[error(
        "the authority's kept `{name}` is malformed; hint: restore it from a backup, or remove it and accept that \
         all identities are issued anew by a new root"
    )]
    Kept {
        /// Which value.
        name: &'static str,
    },
    /// A file of the configuration cannot be used.
    #[error("`{}` {problem}; hint: {hint}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file could not be read or written.
    #[error("a file of the authority cannot be used")]
    File(#[from] FileError),
    /// Another server could not be asked.
    #[error("`{url}` cannot be asked")]
    Fetch {
        /// Who.
        url: String,
        /// Why not.
        #[source]
        source: crate::https::FetchError,
    },
    /// Another server's answer cannot be used.
    #[error("the answer of `{url}` cannot be used: {problem}")]
    Answer {
        /// Who.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why a certificate, token or bundle is not believed. Tells nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It is not of its format.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// It has a member twice.
    #[error("it names `{0}` twice")]
    Duplicate(String),
    /// It is signed in a way that is not allowed, or that does not fit the key.
    #[error("its algorithm is not allowed here")]
    Algorithm,
    /// Its header says what it must not, or lacks what it must say.
    #[error("its header {0}")]
    Header(&'static str),
    /// It names no workload.
    #[error("its SPIFFE ID {0}")]
    Subject(&'static str),
    /// Nobody here trusts its trust domain.
    #[error("its trust domain is not trusted here")]
    UnknownTrustDomain,
    /// Its trust domain has no such key.
    #[error("its key is not in its trust domain's bundle")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("its signature does not verify")]
    Signature,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It has not begun.
    #[error("it is not valid yet")]
    NotYet,
    /// It is for others.
    #[error("it is for another audience")]
    Audience,
    /// A claim is missing or of the wrong form.
    #[error("its claim {0}")]
    Claim(&'static str),
    /// A certificate breaks a rule of X509-SVIDs.
    #[error("its certificate {0}")]
    Certificate(&'static str),
    /// No path leads from it to a root of its trust domain.
    #[error("no path leads to a root of its trust domain")]
    Path(#[source] webpki::Error),
}
