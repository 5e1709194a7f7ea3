//! What the exchange asks of the daemon.

use std::sync::Arc;

use writ_core::SpiffeId;
use writ_gate::{BoxFuture, Session};
use writ_identity::exchange::Subject;

/// A human's proof, as a run shows it. Not `Debug`: it holds a token.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The text.
    pub token: &'a str,
    /// What it is said to be.
    pub kind: SubjectKind,
    /// The run that shows it, which proved itself.
    pub run: &'a SpiffeId,
    /// The audiences that a token may be for: one of them.
    pub audiences: &'a [String],
}

/// What a human's proof is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// An ID token of an issuer.
    Id,
    /// An access token of an issuer.
    Access,
    /// A JWT of an issuer, of either kind.
    Jwt,
    /// A handle ([`writ_gate::Handle`]) in place of a caller's token: it has the form of one, and nothing else does.
    Handle,
}

/// Who is the human behind this?
///
/// * Verifies a token in full: signature, issuer, times, revocation, that it is of the kind that it is said to be, and
///   that it is for one of [`Shown::audiences`]; the audiences that it names are returned
///   ([`writ_identity::exchange::Meant::For`]), and looked at again.
/// * A handle is one that [`Shown::run`] was given, else it is refused; it is answered with the session that it is for
///   ([`writ_identity::exchange::Meant::Session`]), that session's end and its human.
/// * May wait for an issuer's keys. The token is never logged, and not kept beyond the call.
pub trait Subjects: Send + Sync {
    /// The human.
    fn subject<'a>(&'a self, shown: Shown<'a>) -> BoxFuture<'a, Result<Subject, NotProven>>;
}

/// Why a human is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// The token has ended.
    #[error("the subject token has expired")]
    Expired,
    /// The token is for none of the audiences.
    #[error("the subject token is for another audience")]
    Audience,
    /// The token is not good for any other reason, or the handle is not the run's.
    #[error("the subject token is not valid")]
    Refused,
    /// Nobody could be asked.
    #[error("the subject token cannot be judged now")]
    Unavailable,
}

/// Which sessions does this run have?
///
/// Answers from memory, at once: all that are live, those of callers included, and none of a human who was revoked.
/// Empty for a run that is not known. A session is one from the moment that its beginning is durable.
pub trait Sessions: Send + Sync {
    /// The live sessions of the run.
    fn live(&self, run: &SpiffeId) -> Vec<Arc<Session>>;
}
