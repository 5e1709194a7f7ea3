//! Who a caller is, as the daemon knows it. The one port of this crate.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use writ_core::{SpiffeId, Timestamp};
use writ_gate::BoxFuture;
use writ_session::Peer;

/// Which identities may this process have?
///
/// Asked once for every call on the Workload API, with the peer that the kernel names: held by its pidfd since the
/// connection was accepted, so a pid that was reused meanwhile names nobody. The answer rests on what the process is
/// (its run, its registration), never on what it sends, and takes milliseconds at most; the call is dropped when the
/// caller goes away. Whoever implements it looks at [`Peer::is_alive`] after it has inspected the process.
///
/// The answer is a watch: it is kept up to date for as long as somebody reads it, in the order in which the
/// identities are to be shown, the default one first. An empty list, like a sender that is gone, means that the process
/// has no identity any more; its streams end with `PermissionDenied`.
pub trait Workloads: Send + Sync {
    /// The identities of this process, now and from now on.
    fn attest<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Entitlements, NotAttested>>;
}

/// Identities that are kept up to date.
pub type Entitlements = watch::Receiver<Arc<[Entitled]>>;

/// One identity that a process may have.
#[derive(Debug, Clone)]
pub struct Entitled {
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// Cancelled when the session behind it ends, for whatever reason.
    pub ended: CancellationToken,
    /// When the session's time is up. Nothing that is issued for it is valid for longer.
    pub expires: Timestamp,
    /// Guidance for a workload that has several identities; empty for none.
    pub hint: String,
}

/// Why a process gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAttested {
    /// It has no identity: it belongs to no live run. `PermissionDenied`.
    #[error("no identity issued")]
    NoIdentity,
    /// Nobody can say yet: the daemon starts or stops. `Unavailable`.
    #[error("identities are not known yet")]
    NotReady,
}
