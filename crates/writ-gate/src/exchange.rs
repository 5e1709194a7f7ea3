//! An action under way: holds its lease, and closes with exactly one receipt.

use std::sync::Arc;
use std::time::Duration;

use writ_core::event::{ActionClosed, Hop, LeaseFate, Outcome};
use writ_core::service::{OperationRule, PathSegment};
use writ_core::{ActionId, LeaseId, Mode, Operation, Reason};

use crate::conn::OpenAction;
use crate::gate::Ports;
use crate::permit::{Lease, Permit};
use crate::port::{Credential, Moment, Shown, Sight, Ticket};
use crate::session::Session;

/// How an exchange ended, as the relay saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why it failed or was cut.
    pub reason: Option<Reason>,
    /// The status of the service's answer.
    pub status: Option<u16>,
    /// Body bytes from the agent.
    pub bytes_up: u64,
    /// Body bytes to the agent.
    pub bytes_down: u64,
    /// How often the credential was found in the answer and removed.
    pub scrubbed: u64,
}

impl Ended {
    const NOTHING: Self = Self {
        outcome: Outcome::Failed,
        reason: None,
        status: None,
        bytes_up: 0,
        bytes_down: 0,
        scrubbed: 0,
    };

    /// The service answered in full.
    pub const fn completed(status: Option<u16>) -> Self {
        Self { outcome: Outcome::Completed, status, ..Self::NOTHING }
    }

    /// The exchange broke.
    pub const fn failed(reason: Reason) -> Self {
        Self { reason: Some(reason), ..Self::NOTHING }
    }

    /// The session ended while the exchange ran.
    pub const fn cut(reason: Reason) -> Self {
        Self { outcome: Outcome::Cut, reason: Some(reason), ..Self::NOTHING }
    }
}

/// One permitted action between its durable intent and its receipt.
///
/// [`Exchange::finish`] writes the receipt. If the exchange is dropped instead (the client went away, a task was
/// cancelled) the receipt says so: there is no way out without one (I3).
#[must_use = "an exchange that is dropped records that the client went away"]
pub struct Exchange {
    ports: Ports,
    /// `None` only after the receipt.
    held: Option<Held>,
    action: ActionId,
    session: Arc<Session>,
    started: Duration,
    open: OpenAction,
}

struct Held {
    ticket: Ticket,
    state: State,
}

enum State {
    Permitted(Permit),
    Leased(Lease),
}

impl Exchange {
    pub(crate) fn new(ports: Ports, permit: Permit, ticket: Ticket, open: OpenAction) -> Self {
        let (action, session) = (permit.action, Arc::clone(&permit.session));
        let started = ports.clock.monotonic();
        Self {
            ports,
            held: Some(Held { ticket, state: State::Permitted(permit) }),
            action,
            session,
            started,
            open,
        }
    }

    /// Turns the permit into a lease. The permit stays where it is until the credential is there, so that a
    /// cancelled mint still ends in a receipt.
    pub(crate) async fn mint(&mut self, id: LeaseId) -> Result<(), Reason> {
        let Some(Held { state: State::Permitted(permit), .. }) = &self.held else {
            return Err(Reason::BrokerFailed);
        };
        let minted = self.ports.mint.mint(permit).await.map_err(|error| error.reason)?;
        let Some(Held { ticket, state: State::Permitted(permit) }) = self.held.take() else {
            return Err(Reason::BrokerFailed);
        };
        self.held = Some(Held { ticket, state: State::Leased(Lease::new(id, permit, minted)) });
        Ok(())
    }

    /// The action.
    pub fn action(&self) -> ActionId {
        self.action
    }

    /// The session; whoever relays must stop when it ends.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What to place where; empty when the service needs no credential.
    pub fn credentials(&self) -> &[Credential] {
        match &self.held {
            Some(Held { state: State::Leased(lease), .. }) => lease.credentials(),
            _ => &[],
        }
    }

    /// Whether it is one of an MCP server, so that what comes back is to be asked about with [`Exchange::shown`].
    pub fn speaks_mcp(&self) -> bool {
        self.permit().is_some_and(|permit| permit.operation.rule.mcp.is_some())
    }

    /// What it asks of an MCP server, as a step of the way to what that does meanwhile.
    pub fn mcp_hop(&self) -> Option<Hop> {
        self.permit().and_then(|permit| crate::gate::mcp_hop(&permit.service, &permit.operation))
    }

    /// What the session may be shown of a message that came back: of lists, what it could be permitted to ask for.
    pub fn shown(&self, message: &[u8]) -> Result<Shown, Reason> {
        let permit = self.permit().ok_or(Reason::McpAnswer)?;
        let (service, decide) = (&permit.service, &self.ports.decide);
        let moment = Moment { at: self.ports.clock.now(), programs: self.open.programs() };
        let may = |rule: &Arc<OperationRule>, sight| {
            let operation = sharing_path(rule, &permit.operation);
            let verdict = match sight {
                Sight::Offer => decide.could(&self.session, service, rule),
                Sight::Request => decide.decide(&self.session, service, &operation, &moment),
            };
            // What is owed is met when it is asked for; by what a server asks nothing can be met or acquired any more.
            let owes = !verdict.owed.is_empty() || !rule.labels.is_empty();
            let clear = sight == Sight::Offer || !owes || verdict.mode == Mode::Observe;
            let granted = self.session.facts().delegation.grants.cover(&operation);
            granted && clear && (verdict.permits() || verdict.observed().is_some())
        };
        self.ports.catalog.shown(service, &permit.operation.rule, message, &may)
    }

    fn permit(&self) -> Option<&Permit> {
        self.held.as_ref().map(|held| match &held.state {
            State::Permitted(permit) => permit,
            State::Leased(lease) => lease.permit(),
        })
    }

    /// Ends the lease and writes the receipt.
    pub fn finish(mut self, ended: Ended) {
        self.close(ended);
    }

    fn close(&mut self, ended: Ended) {
        let Some(Held { ticket, state }) = self.held.take() else { return };
        let (lease_id, lease_fate) = match &state {
            State::Permitted(_) => (None, LeaseFate::NotMinted),
            State::Leased(lease) if lease.id().is_none() => (None, LeaseFate::NotMinted),
            State::Leased(lease) => (lease.id(), self.ports.mint.end(lease, ended.scrubbed > 0)),
        };
        let permit = match &state {
            State::Permitted(permit) => permit,
            State::Leased(lease) => lease.permit(),
        };
        let took = self.ports.clock.monotonic().saturating_sub(self.started);
        let receipt = ActionClosed {
            action: self.action,
            actor: self.session.actor(),
            bytes_down: ended.bytes_down,
            bytes_up: ended.bytes_up,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            lease: lease_id,
            lease_fate,
            operation: permit.operation.rule.name.clone(),
            outcome: ended.outcome,
            reason: ended.reason,
            scrubbed: ended.scrubbed,
            service: permit.service.name.clone(),
            status: ended.status,
        };
        self.ports.record.receipt(ticket, receipt.into());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let ended = match self.session.cause() {
            Some(cause) => Ended::cut(cause.reason()),
            None => Ended::failed(Reason::ClientGone),
        };
        self.close(ended);
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("action", &self.action).finish_non_exhaustive()
    }
}

/// An operation of this rule at the path of another: of its arguments, those of the path are known.
fn sharing_path(rule: &Arc<OperationRule>, other: &Operation) -> Operation {
    let of_path = |name: &str| {
        rule.path.segments.iter().any(|segment| match segment {
            PathSegment::Literal(_) => false,
            PathSegment::Argument { name: own, .. } | PathSegment::Encoded(own) | PathSegment::Rest(own) => {
                own == name
            }
            PathSegment::Pair(first, second) => first == name || second == name,
        })
    };
    let known = other.arguments.iter().filter(|(name, _)| of_path(name));
    let arguments = known.map(|(name, value)| (name.clone(), value.clone())).collect();
    Operation { rule: Arc::clone(rule), arguments }
}

/// Builds the receipt for an intent whose exchange nobody holds any more: the log writes it when a ticket is
/// dropped, and recovery writes it after a crash.
pub fn abandoned(intent: &writ_core::event::ActionIntended, reason: Reason) -> ActionClosed {
    ActionClosed {
        action: intent.action,
        actor: intent.actor.clone(),
        bytes_down: 0,
        bytes_up: 0,
        duration_us: 0,
        lease: None,
        lease_fate: if reason == Reason::Abandoned { LeaseFate::Unknown } else { LeaseFate::NotMinted },
        operation: intent.request.operation.clone(),
        outcome: Outcome::Abandoned,
        reason: Some(reason),
        scrubbed: 0,
        service: intent.request.service.clone(),
        status: None,
    }
}
