//! The port through which people are asked.

use std::sync::Arc;

use writ_core::event::Request;
use writ_core::obligation::Approve as Rule;
use writ_core::service::RequestHead;
use writ_core::{ActionId, ApprovalId, HostName, Operation, Reason};

use crate::port::BoxFuture;
use crate::session::Session;

/// Has somebody said yes to this?
///
/// Waits for people, as long as the rules and [`crate::limits::APPROVAL_WAIT`] let it; dropping the future takes nothing
/// back: what is approved afterwards waits for the same request to come again. A yes that was given for one action is spent
/// by answering `Ok` once. Every request, answer and end is on record before it has an effect.
pub trait Approve: Send + Sync {
    /// The approval that meets all rules of this request.
    fn ask<'a>(&'a self, wanted: &'a Wanted<'a>) -> BoxFuture<'a, Result<ApprovalId, Reason>>;
}

/// What needs an approval: all that is sent.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The action that asks.
    pub action: ActionId,
    /// Who acts.
    pub session: &'a Arc<Session>,
    /// The operation with its arguments.
    pub operation: &'a Operation,
    /// The same, as it is recorded.
    pub request: &'a Request,
    /// The host.
    pub host: &'a HostName,
    /// The head.
    pub head: &'a RequestHead<'a>,
    /// All of the body.
    pub body: &'a [u8],
    /// The policies that ask for it, each with whom it asks.
    pub rules: &'a [(String, Rule)],
}

impl Wanted<'_> {
    /// A rule as it is recorded: `ID: approve owner, 10m`.
    pub fn rule_text((policy, rule): &(String, Rule)) -> String {
        format!("{policy}: approve {rule}")
    }
}

/// Nobody is there to ask: whatever needs an approval is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Approve for Nobody {
    fn ask<'a>(&'a self, _: &'a Wanted<'a>) -> BoxFuture<'a, Result<ApprovalId, Reason>> {
        Box::pin(std::future::ready(Err(Reason::ApprovalRequired)))
    }
}
