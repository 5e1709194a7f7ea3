//! The protocols of identity. On one Unix socket: the SPIFFE Workload API and Envoy's secret discovery, for processes
//! that the kernel names. Over TLS, for everybody: the trust bundle, the keys of tokens and their
//! discovery.
//!
//! What may be issued to whom is [`Workloads`]' to say, and how it is issued is `writ-identity`'s; here it is only
//! spoken. Tokens are exchanged on both by [`token`]. Not here either: fetching the bundles of others.
//!
//! Invariant: nothing secret is told but on the socket, to a process that was attested for that very call and is still
//! there; and nothing that is told is logged.

#![forbid(unsafe_code)]

mod api;
mod caller;
pub mod proto;
mod sds;
mod server;
pub mod settings;
mod standing;
mod streams;
pub mod token;
pub mod web;
mod workloads;

use std::sync::Arc;

use tokio::sync::watch;
use writ_core::{Clock, IdSource, SpiffeId, Timestamp};
use writ_identity::{Bundles, Error, Issuer, X509Svid, validate};

pub use server::{BindError, Server};
pub use workloads::{Entitled, Entitlements, NotAttested, Workloads};

/// What the protocols stand on.
#[derive(Clone)]
pub struct Parts {
    /// Says who a caller is.
    pub workloads: Arc<dyn Workloads>,
    /// Issues identities; WIT-SVIDs are served if it issues them.
    pub issuer: Arc<Issuer>,
    /// What is trusted, own and federated.
    pub bundles: watch::Receiver<Arc<Bundles>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, to spread renewals.
    pub ids: Arc<dyn IdSource>,
}

impl Parts {
    /// An X509-SVID that these bundles vouch for. While the authority begins anew there is a moment in which what
    /// signs is not what is trusted any more; that is [`Error::NotReady`].
    fn x509(&self, id: &SpiffeId, limit: Timestamp, bundles: &Bundles) -> Result<X509Svid, Error> {
        let issued = self.issuer.x509(id, limit)?;
        let vouched = validate::x509(&issued.chain, bundles, self.clock.now());
        vouched.map(|_| issued).map_err(|_| Error::NotReady)
    }
}
