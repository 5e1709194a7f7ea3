//! Token exchange (RFC 8693), its logic: from the proofs of a human and of a run to a token that others can check.
//!
//! Two forms are made. An access token (RFC 9068) is for one audience outside; a transaction token
//! (draft-ietf-oauth-transaction-tokens) is for the workloads of this trust domain, which replace it hop by hop. In both
//! `sub` is the human and `act` the run, with the runs that led to it nested inside, the newest outermost.
//!
//! No I/O, no HTTP, and no verifying of other people's tokens: who the human is comes in as a [`Subject`]. Our own earlier
//! tokens are read here ([`Earlier`]), and so are proofs of a key ([`proof`]).
//!
//! Invariant: what is made names a human and a run that one live session binds together, is for an audience that the
//! configuration lists, says no more than the subject token did, and ends with whichever of subject, actor and session
//! ends first. A transaction token is never taken for an access token, nor the other way round.

mod audience;
mod chain;
mod draft;
mod earlier;
pub mod proof;
mod refusal;
mod scopes;
mod subject;

use serde_json::{Map, Value};

use crate::{Invalid, json};
pub use audience::{Audience, Audiences, KEYS, TokenSettings, token_settings};
pub use draft::{Asked, Draft, Form};
pub use earlier::{Earlier, Ground};
pub use refusal::Refusal;
pub use scopes::Scopes;
pub use subject::{Actor, Basis, Meant, Subject, session};

/// Reads one JSON object in which no member stands twice, at any depth.
pub fn object(text: &str) -> Result<Map<String, Value>, Invalid> {
    json::object(text.as_bytes())
}
