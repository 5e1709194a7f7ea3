//! The path that every action takes: identify, decide, mint, relay, record, each a value that the next cannot be
//! built without.
//!
//! ```text
//! Conn --admit--> Admitted --action--> Exchange(Lease(Permit)) --finish--> receipt
//!                    |                    `-- the intent is durable before the credential exists
//!                    `-- Refusal -----------------------------------------> receipt
//! ```
//!
//! The crate holds the ports that engines implement ([`Handoff`], [`Identify`], [`Catalog`], [`Decide`], [`Mint`], [`Record`])
//! and the order in which they are asked. It does no I/O and reads no clock. Invariants: no [`Lease`] without a
//! [`Permit`], which only this crate makes (I1); no credential before its intent is durable (I2); exactly one
//! receipt for every admitted or refused action (I3); what is missing to decide means no (I8).
#![forbid(unsafe_code)]

mod approval;
mod callers;
mod conn;
mod exchange;
mod gate;
mod ledger;
pub mod limits;
mod marks;
mod permit;
mod port;
mod recorded;
mod session;
mod terms;

pub use approval::{Approve, Nobody, Wanted};
pub use callers::{Behind, Caller, Callers, Join, Joined, Served, Vouch};
pub use conn::{Admitted, Conn, Destination};
pub use exchange::{Ended, Exchange, abandoned};
pub use gate::{Asked, Body, Gate, NoBody, Ports, Refusal};
pub use ledger::{Facts, Ledger, Standing};
pub use marks::{Handle, Marks, TraceId};
pub use permit::{Lease, Permit};
pub use port::{
    BoxFuture, Catalog, Credential, Decide, Handoff, Identify, May, Mint, MintError, Minted, Moment, Owed,
    Record, RecordError, Shown, Sight, Ticket, Verdict,
};
/// Whether arguments on record are surely all that the request had.
pub fn is_whole(recorded: &writ_core::Arguments) -> bool {
    recorded::is_whole(recorded)
}

pub use session::{Call, Cause, Delegation, Human, Parent, Session, SessionFacts};
