//! What lends a credential. Each kind is one file below, and runs the suite in `conformance`.

mod static_secret;

use writ_core::event::LeaseFate;
use writ_core::service::CredentialRule;
use writ_gate::{BoxFuture, Credential, Lease, MintError, Permit};

pub(crate) use static_secret::StaticSecret;

/// One way to come by a credential.
///
/// The contract of [`writ_gate::Mint`] holds for each part: `lend` is called once per permit, may be cancelled at
/// any await and must then leave nothing behind; `end` is called once per lease, does not fail, and claims no more
/// than it knows. The time limit is the broker's business.
pub(crate) trait Provider: Send + Sync {
    /// The credential for this permit, as the service's rule asks.
    fn lend<'a>(
        &'a self,
        permit: &'a Permit,
        rule: &'a CredentialRule,
    ) -> BoxFuture<'a, Result<Vec<Credential>, MintError>>;

    /// Ends a lease that this provider made.
    fn end(&self, lease: &Lease, echoed: bool) -> LeaseFate;
}
