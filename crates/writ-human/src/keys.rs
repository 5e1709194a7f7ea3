//! The keys of an issuer, fetched when needed: a token whose key id is unknown has the set fetched again, but not more
//! often than the pause allows, so that a flood of made-up key ids causes no flood of questions.

use std::future::Future;

use writ_core::Clock;

use crate::cache::{Cache, Cached};
use crate::claims::Claims;
use crate::error::Error;
use crate::jose::{Algorithm, KeySet, Signed};
use crate::refusal::Refusal;

/// The keys of one issuer.
pub(crate) struct Keys(Cache<KeySet>);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(Cache::new())
    }

    /// What a token says, once its signature is verified. `fetch` is called at most twice.
    pub(crate) async fn verified<F>(
        &self,
        clock: &dyn Clock,
        token: &Signed<'_>,
        paused: impl Fn() -> Error,
        fetch: impl Fn() -> F,
    ) -> Result<Claims, Error>
    where
        F: Future<Output = Result<KeySet, Error>>,
    {
        let keys = match self.0.get(clock, fetch()).await {
            Cached::Here(keys) => keys,
            Cached::Failed(error) => return Err(error),
            Cached::Paused => return Err(paused()),
        };
        let object = match token.verified(&keys) {
            Err(Refusal::Key) => match self.0.newer(clock, &keys, fetch()).await {
                Cached::Here(keys) => token.verified(&keys)?.clone(),
                // The old set is still right about all that it knows.
                Cached::Failed(_) | Cached::Paused => return Err(Refusal::KeyLater.into()),
            },
            other => other?.clone(),
        };
        Ok(Claims { object, algorithm: token.algorithm, kind: token.kind.clone() })
    }
}

/// Takes a token apart for [`Keys::verified`].
pub(crate) fn taken_apart<'t>(token: &'t str, allowed: &[Algorithm]) -> Result<Signed<'t>, Error> {
    Ok(Signed::parse(token, allowed)?)
}
