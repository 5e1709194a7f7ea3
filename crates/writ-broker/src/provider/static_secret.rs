//! A standing secret from the store, lent as it is.
//!
//! Survival class S4: it lives on at its issuer whatever happens here, so the only claim is that the agent never
//! had it. Preferred last, for services that offer nothing better.

use std::sync::Arc;

use writ_core::event::LeaseFate;
use writ_core::service::CredentialRule;
use writ_core::{Reason, Secret, SecretName};
use writ_gate::{BoxFuture, Credential, Lease, MintError, Permit};

use super::Provider;
use crate::error::Error;
use crate::store::Store;

/// Lends entries of the store.
pub(crate) struct StaticSecret {
    store: Arc<Store>,
}

impl StaticSecret {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    async fn open(&self, name: &SecretName) -> Result<Secret<[u8]>, MintError> {
        if let Some(secret) = self.store.opened(name) {
            return Ok(secret);
        }
        let (store, wanted) = (Arc::clone(&self.store), name.clone());
        // The first use reads a file; a slow disk must not hold up other connections. Cancelled, the read ends by
        // itself and leaves an opened secret, which is no lease.
        let read = tokio::task::spawn_blocking(move || store.get(&wanted)).await;
        match read {
            Ok(Ok(Some(secret))) => Ok(secret),
            Ok(Ok(None)) => Err(missing(name)),
            Ok(Err(error)) => Err(broken(name, &error)),
            Err(_) => Err(failed(format!("reading the secret `{name}` was broken off"))),
        }
    }
}

impl Provider for StaticSecret {
    fn lend<'a>(
        &'a self,
        _permit: &'a Permit,
        rule: &'a CredentialRule,
    ) -> BoxFuture<'a, Result<Vec<Credential>, MintError>> {
        Box::pin(async move {
            let secret = self.open(&rule.secret).await?;
            let text = secret.into_text();
            let secret = text.ok_or_else(|| failed(format!("the secret `{}` is not text", rule.secret)))?;
            Ok(vec![Credential { place: rule.place.clone(), secret }])
        })
    }

    fn end(&self, _lease: &Lease, echoed: bool) -> LeaseFate {
        if echoed { LeaseFate::Echoed } else { LeaseFate::Standing }
    }
}

fn missing(name: &SecretName) -> MintError {
    MintError { reason: Reason::NoSecret, detail: format!("no secret is stored as `{name}`") }
}

fn broken(name: &SecretName, error: &Error) -> MintError {
    tracing::error!(target: "writ::broker", secret = %name, %error, "a secret cannot be opened");
    failed(error.to_string())
}

fn failed(detail: String) -> MintError {
    MintError { reason: Reason::BrokerFailed, detail }
}
