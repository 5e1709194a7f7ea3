//! The ports: what the gate asks of the engines, with their contracts. Each has one conformance suite that every
//! implementation runs.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;

use writ_core::event::{ActionIntended, Event, Key, Keys, LeaseFate};
use writ_core::service::{OperationRule, RequestHead, Selection};
use writ_core::{
    ActsFor, HostName, Mode, Obligation, Operation, Placement, Reason, RunTag, Secret, Service, Timestamp,
};

use crate::conn::{Conn, Destination};
use crate::marks::Marks;
use crate::permit::{Lease, Permit};
use crate::session::Session;

/// A boxed future, so that ports can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who opened this accepted socket, and to where?
///
/// Answers from kernel facts kept with the socket: at once where the opener has a run; a governed process that has none
/// yet is looked at first, which may take as long as [`crate::limits::HELLO_TIMEOUT`]. `None` is a miss at the hand-off:
/// a stranger, or the daemon itself. The relay closes such a connection and counts it.
pub trait Handoff: Send + Sync {
    /// The connection behind an accepted socket.
    fn conn<'a>(&'a self, accepted: BorrowedFd<'a>) -> BoxFuture<'a, Option<Conn>>;
}

/// Which session does this run have?
///
/// Answers from memory, at once, and only for sessions that are live. An error is a refusal with that reason.
pub trait Identify: Send + Sync {
    /// The live session of the run.
    fn identify(&self, run: RunTag) -> Result<Arc<Session>, Reason>;
    /// The session in which a request with these marks acts, asked for sessions that act for callers
    /// ([`writ_core::ActsFor::Caller`]): that of the one caller whom all marks name, among those whose request the run was
    /// given.
    ///
    /// A handle that this run was never given is refused, whatever else the request carries; a trace that it was never
    /// given says nothing. Marks of two callers are [`Reason::TwoHumans`], none at all [`Reason::NoHuman`].
    fn acting(&self, session: &Arc<Session>, marks: &Marks<'_>) -> Result<Arc<Session>, Reason>;
}

/// Which service is there, and which operation is this request?
///
/// Pure. The catalog may be replaced between calls; a [`Service`] that was handed out stays valid.
pub trait Catalog: Send + Sync {
    /// The service at this destination: by name and port, or by a literal address that a service lists.
    fn service(&self, destination: &Destination) -> Result<Arc<Service>, Reason>;
    /// The rules that the head of this request leads to, at least one. Ambiguous heads are refused rather than guessed at.
    fn select(
        &self,
        service: &Service,
        host: &HostName,
        request: &RequestHead<'_>,
    ) -> Result<Selection, Reason>;
    /// The operation of a request: one of those that its head selected, with its arguments. `body` is as much of the body as
    /// [`Selection::needed`] says; it is looked at only where the selection reads it. One that could be read in two ways is refused.
    fn operation(
        &self,
        selected: Selection,
        request: &RequestHead<'_>,
        body: Option<&[u8]>,
    ) -> Result<Operation, Reason>;
    /// Whether what the operation is about is still what its rule approves: the tool of an MCP server whose definition was
    /// pinned. Asked once the operation is known, so that a refusal is recorded with it.
    fn approved(&self, _: &Operation) -> Result<(), Reason> {
        Ok(())
    }
    /// What a client may be shown of a message that an MCP server sent on what came of `asked`: lists without what `may`
    /// denies, and nothing that no rule of the service covers. What could be read in two ways is an error; to a catalog that
    /// knows no MCP everything is.
    fn shown(&self, _: &Service, _asked: &OperationRule, _: &[u8], _: May<'_>) -> Result<Shown, Reason> {
        Err(Reason::McpAnswer)
    }
}

/// Whether the session may see this, as far as policy goes.
pub type May<'m> = &'m dyn Fn(&Arc<OperationRule>, Sight) -> bool;

/// What it is that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Something that can be asked for, and is decided on then.
    Offer,
    /// Something that the server asks of the client. It is not decided on again.
    Request,
}

/// What may be shown of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// All of it, as it is.
    Whole,
    /// This, in its place.
    Part(String),
    /// Nothing.
    Nothing,
}

/// May this be done? Both keys are asked, always.
///
/// Pure and quick (microseconds); never cached across a policy change. Missing policies mean no.
pub trait Decide: Send + Sync {
    /// May this session open a connection to the service at all? True if some operation could be permitted.
    fn reach(&self, session: &Session, service: &Service) -> Verdict;
    /// Could this session be permitted this operation, with some arguments? Conditions count as fulfilled.
    fn could(&self, session: &Session, service: &Service, rule: &OperationRule) -> Verdict;
    /// May this session do this operation, at this moment?
    fn decide(
        &self,
        session: &Session,
        service: &Service,
        operation: &Operation,
        moment: &Moment<'_>,
    ) -> Verdict;
}

/// When and by which way something is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment<'a> {
    /// When.
    pub at: Timestamp,
    /// The programs that led to it, as paths, eldest first.
    pub programs: &'a [String],
}

/// An obligation with the policy that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owed {
    /// The policy's id.
    pub policy: String,
    /// What it asks for.
    pub obligation: Obligation,
}

/// What policy said. The gate, not the engine, draws the conclusion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Both keys with their determining policies.
    pub keys: Keys,
    /// Why not, when a key did not turn. The gate refuses if this is set *or* a key is not permitted.
    pub reason: Option<Reason>,
    /// What is owed if both keys turned: each must be met, or it is a refusal after all.
    pub owed: Vec<Owed>,
    /// Whether a refusal is to be obeyed. What is observed is done in spite of it, and recorded as such.
    pub mode: Mode,
}

impl Verdict {
    /// Whether both keys turned.
    pub fn permits(&self) -> bool {
        self.reason.is_none() && self.keys.agent.permitted && self.keys.human.permitted
    }

    /// Whether somebody must approve it first.
    pub fn asks(&self) -> bool {
        self.owed.iter().any(|owed| matches!(owed.obligation, Obligation::Approve(_)))
    }

    /// Whether a connection may be opened at all. For whom a session of callers acts is known with the request only, so
    /// there the agent's key is asked alone.
    pub fn reaches(&self, session: &Session) -> bool {
        if self.mode == Mode::Observe {
            return true;
        }
        match session.facts().delegation.acts_for {
            ActsFor::Caller => self.keys.agent.permitted,
            ActsFor::Starter | ActsFor::Owner => self.permits(),
        }
    }

    /// Why it would be refused, if it is done only because it is observed.
    pub fn observed(&self) -> Option<Reason> {
        (self.mode == Mode::Observe && !self.permits()).then(|| self.refusal())
    }

    /// The reason of a refusal; never missing, so that a contradictory verdict still refuses.
    pub fn refusal(&self) -> Reason {
        let by_key = |key: &Key, reason| (!key.permitted).then_some(reason);
        self.reason
            .or_else(|| by_key(&self.keys.agent, Reason::AgentNotPermitted))
            .or_else(|| by_key(&self.keys.human, Reason::HumanNotPermitted))
            .unwrap_or(Reason::PolicyError)
    }
}

/// The credential for one action.
///
/// * `mint` is called once per permit, after its intent is durable. It may wait for an issuer, at most
///   [`crate::limits::MINT_TIMEOUT`]. Dropping the future must leave nothing behind.
/// * `end` is called exactly once for every minted lease, in whatever way the action ended, and may not fail: what
///   could not be revoked is said in the fate.
pub trait Mint: Send + Sync {
    /// Mints for the permit, or says that the service needs nothing.
    fn mint<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<Minted, MintError>>;
    /// Ends the lease. `echoed` tells whether the service sent the credential back.
    fn end(&self, lease: &Lease, echoed: bool) -> LeaseFate;
}

/// What a provider made.
#[derive(Debug)]
pub struct Minted {
    /// Where each part goes; empty when the service needs no credential.
    pub credentials: Vec<Credential>,
}

/// One value and its place.
#[derive(Debug)]
pub struct Credential {
    /// Where it goes.
    pub place: Placement,
    /// The value.
    pub secret: Secret<str>,
}

/// No credential could be made.
#[derive(Debug, thiserror::Error)]
#[error("no credential: {detail}")]
pub struct MintError {
    /// What the agent is told.
    pub reason: Reason,
    /// What the operator is told; never the secret.
    pub detail: String,
}

/// The evidence log.
///
/// * `intent` completes when the event is durable, together with any that were recorded before it, and reserves
///   room for its receipt: `receipt` cannot fail for want of space. An error means "not durable": the action must
///   not happen. (If the event did reach the disk all the same, recovery closes it as abandoned.)
/// * `receipt` takes the event over at once and makes it durable with the next commit. It never blocks and never
///   drops. Events are durable in the order in which they were handed over.
/// * `fact` is for everything that must be durable before it takes effect (a session that opens).
/// * `note` is for what must not wait: refusals, executed programs. When the disk is refusing, notes may be
///   replaced by a count, which is itself recorded.
///
/// Cancelling a future does not take the event back; an intent whose future was cancelled gets its receipt from the
/// log ([`crate::abandoned`] with [`Reason::ClientGone`]), through the drop of its [`Ticket`].
pub trait Record: Send + Sync {
    /// Makes the intent durable.
    fn intent(&self, intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>>;
    /// Records the receipt of an intent.
    fn receipt(&self, ticket: Ticket, receipt: Event);
    /// Makes a fact durable.
    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>>;
    /// Records without waiting.
    fn note(&self, event: Event);
}

/// A reserved place for a receipt. [`Record::receipt`] spends it; dropped unspent (the future that waited for the
/// intent was cancelled, say) it tells the log, which then writes the receipt itself.
#[must_use = "an intent without a receipt is a gap"]
pub struct Ticket {
    seq: u64,
    unspent: Option<Box<dyn FnOnce(u64) + Send + Sync>>,
}

impl Ticket {
    /// The place of the intent with this sequence number; `unspent` is called if it is dropped without a receipt.
    /// For implementations of [`Record`].
    pub fn new(seq: u64, unspent: impl FnOnce(u64) + Send + Sync + 'static) -> Self {
        Self { seq, unspent: Some(Box::new(unspent)) }
    }

    /// Spends it and gives the sequence number of the intent. For implementations of [`Record`].
    pub fn spend(mut self) -> u64 {
        self.unspent = None;
        self.seq
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(unspent) = self.unspent.take() {
            unspent(self.seq);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.seq)
    }
}

/// The log took nothing.
#[derive(Debug, thiserror::Error)]
#[error("the event is not durable: {0}")]
pub struct RecordError(pub String);
