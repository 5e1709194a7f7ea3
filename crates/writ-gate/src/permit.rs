//! The positive decision for one action, and the credential minted for it.
//!
//! A [`Permit`] has no public constructor, no `Clone` and no `Deserialize`; minting consumes it into a [`Lease`].

use std::sync::Arc;

use writ_core::event::Keys;
use writ_core::{ActionId, LeaseId, Operation, Reason, Service};

use crate::port::{Credential, Minted};
use crate::session::Session;

/// Permission for exactly one action, whose intent is durable.
///
/// ```compile_fail
/// fn copy(permit: &writ_gate::Permit) -> writ_gate::Permit { permit.clone() }
/// ```
/// ```compile_fail
/// fn forge() -> writ_gate::Permit { writ_gate::Permit { .. } }
/// ```
#[derive(Debug)]
pub struct Permit {
    pub(crate) action: ActionId,
    pub(crate) session: Arc<Session>,
    pub(crate) service: Arc<Service>,
    pub(crate) operation: Operation,
    pub(crate) keys: Keys,
    pub(crate) observed: Option<Reason>,
}

impl Permit {
    /// The action it is for.
    pub fn action(&self) -> ActionId {
        self.action
    }

    /// The session that acts.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The service it is for, and no other.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// For what policy would have refused it, if it is given only because agent or service is observed.
    pub fn observed(&self) -> Option<Reason> {
        self.observed
    }

    /// The operation it is for.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Both keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// The credential minted for a permit, bound to it.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    permit: Permit,
    credentials: Vec<Credential>,
}

impl Lease {
    pub(crate) fn new(id: LeaseId, permit: Permit, minted: Minted) -> Self {
        Self { id, permit, credentials: minted.credentials }
    }

    /// Its id; `None` when nothing was minted because the service needs nothing.
    pub fn id(&self) -> Option<LeaseId> {
        (!self.credentials.is_empty()).then_some(self.id)
    }

    /// What it was minted for.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What to place where.
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }
}
