//! What the daemon gives this crate, and what it is told.

use std::time::Duration;

use futures_util::future::BoxFuture;
use writ_core::{Secret, SecretName};

use crate::signal::Signal;
use crate::signed_in::{Ended, SignedIn};

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the sealed store did not do it")]
pub struct KeepError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Lasting, sealed storage for this crate alone.
///
/// What `store` returned from is durable, and whole: a crash leaves the old value or the new one. Nothing is ever
/// readable unsealed. Calls may block for as long as a disk does, and come from threads that may be blocked.
pub trait Keep: Send + Sync {
    /// The value of this name; `None` if there is none.
    fn load(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError>;
    /// Stores or replaces it.
    fn store(&self, name: &SecretName, value: &Secret<[u8]>) -> Result<(), KeepError>;
    /// Removes it; that there is none is no error.
    fn remove(&self, name: &SecretName) -> Result<(), KeepError>;
    /// Every name that begins with `human-`.
    fn list(&self) -> Result<Vec<SecretName>, KeepError>;
}

/// The operators' secrets: client secrets and bearer tokens by the name that configuration gives. From memory where
/// it can; may block as [`Keep`] does.
pub trait Reveal: Send + Sync {
    /// The secret of this name; `None` if there is none.
    fn reveal(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, KeepError>;
}

/// Who is told. Calls must not block and must not call back; they come once for each thing, in its order, after it
/// is true: when `ended` is called, [`crate::People::who`] no longer answers.
pub trait Tell: Send + Sync {
    /// The proof of a human is gone. Sessions that stand on it must end now (G7).
    fn ended(&self, ended: &Ended);
    /// What the issuer says of a human has changed: groups, context. Sessions must be decided anew.
    fn changed(&self, signed_in: &SignedIn);
    /// A transmitter said something. What ends by it has already been told to `ended`.
    fn signalled(&self, signal: &Signal);
}

/// How this crate waits: a device flow between two questions, a refresher until the next is due. In tests time does
/// not pass by itself.
pub trait Pace: Send + Sync {
    /// Completes after this long.
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()>;
}

/// Waiting as tokio does it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealPace;

impl Pace for RealPace {
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(length))
    }
}
