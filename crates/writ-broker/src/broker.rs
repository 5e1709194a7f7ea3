//! The broker: which provider lends for a service, and the time it may take.

use std::sync::Arc;

use writ_core::Reason;
use writ_core::event::LeaseFate;
use writ_core::service::CredentialRule;
use writ_gate::{BoxFuture, Lease, Mint, MintError, Minted, Permit, limits};

use crate::provider::{Provider, StaticSecret};
use crate::store::Store;

/// Mints for permits and ends leases. A service without a credential rule gets nothing, and that is no error.
pub struct Broker {
    static_secret: StaticSecret,
}

impl Broker {
    /// A broker that lends from this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { static_secret: StaticSecret::new(store) }
    }

    /// A rule names a secret of the store today; further kinds of rule choose further providers here.
    fn provider(&self, _rule: &CredentialRule) -> &dyn Provider {
        &self.static_secret
    }

    async fn lend(&self, permit: &Permit) -> Result<Minted, MintError> {
        // The rule is the one of the permit's own service: a credential cannot be had for any other.
        let Some(rule) = &permit.service().credential else { return Ok(Minted { credentials: Vec::new() }) };
        let lend = self.provider(rule).lend(permit, rule);
        match tokio::time::timeout(limits::MINT_TIMEOUT, lend).await {
            Ok(credentials) => Ok(Minted { credentials: credentials? }),
            Err(_) => Err(MintError {
                reason: Reason::BrokerFailed,
                detail: format!("no credential for `{}` in time", permit.service().name),
            }),
        }
    }
}

impl Mint for Broker {
    fn mint<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<Minted, MintError>> {
        Box::pin(async move {
            let minted = self.lend(permit).await;
            if let Err(MintError { reason, detail }) = &minted {
                let service = &permit.service().name;
                tracing::warn!(target: "writ::broker", %service, reason = reason.code(), detail, "not minted");
            }
            minted
        })
    }

    fn end(&self, lease: &Lease, echoed: bool) -> LeaseFate {
        let service = lease.permit().service();
        if echoed {
            let service = &service.name;
            tracing::warn!(target: "writ::broker", %service, "the service sent back the credential it was lent");
        }
        match &service.credential {
            Some(rule) => self.provider(rule).end(lease, echoed),
            None => LeaseFate::NotMinted,
        }
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Broker")
    }
}
