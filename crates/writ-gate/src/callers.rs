//! Callers: humans whose requests a governed server answers, and the sessions in which it then acts for them.

use std::sync::Arc;

use writ_core::service::AgentPeer;
use writ_core::{AgentName, HumanId, Reason, Secret, SpiffeId, Timestamp};

use crate::marks::{Handle, TraceId};
use crate::port::BoxFuture;
use crate::session::{Parent, Session};

/// A human as their token proved them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub human: HumanId,
    /// How people call them.
    pub display: Option<String>,
    /// Their groups, as the issuer's mapping says.
    pub groups: Vec<String>,
    /// When the token ends.
    pub expires: Timestamp,
    /// The runs through which they call, eldest first; none for who calls by themselves.
    pub parents: Vec<Parent>,
}

/// For what a token must be meant.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The agent that is called.
    pub agent: &'a AgentName,
    /// The only issuer whose tokens are taken; absent for every issuer that the node knows.
    pub issuer: Option<&'a str>,
    /// The audience that the token must be for.
    pub audience: &'a str,
}

/// Who is the human behind this token?
///
/// Verifies it in full: signature, issuer, audience, times, revocation. May wait for an issuer's keys. An error is a refusal
/// with that reason: [`Reason::CallerRefused`] for a token that is not good, [`Reason::CallerUnverified`] when nobody could
/// be asked. The token is never logged and not kept beyond the call.
pub trait Callers: Send + Sync {
    /// The caller.
    fn caller<'a>(&'a self, served: Served<'a>, token: Secret<str>) -> BoxFuture<'a, Result<Caller, Reason>>;
}

/// For which human does a run call another one?
///
/// Said by the node of the calling run and believed by the node of the called one; no agent sees or can write it. Both ends
/// are bound to the runs whose identities the connection between them proved.
pub trait Vouch: Send + Sync {
    /// Says it of this session to that peer, signed, in the characters of a header.
    fn vouch(&self, session: &Session, to: &AgentPeer) -> Result<String, Reason>;
    /// The human and the chain that ends with `from`, which was proven, as said to `to`. [`Reason::CallerRefused`] if it is
    /// not signed for these two, or no longer good.
    fn believe(&self, said: &str, from: &SpiffeId, to: &Session) -> Result<Caller, Reason>;
}

/// A caller who is served.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The session in which the run acts for them.
    pub session: Arc<Session>,
    /// What the run is given in place of their token.
    pub handle: Handle,
}

/// In which session does a run act for this caller?
///
/// * `join` completes when the session's beginning is durable. One caller has one session below a run's, which goes on while
///   newer tokens come. What cannot be recorded, or is too much, is refused.
/// * `note` binds a trace to a session, from memory and at once. A trace that is bound to somebody else stays so, and `false`
///   is the answer: the request then gets another trace.
pub trait Join: Send + Sync {
    /// The session of the caller below `base`, the live session of the run that serves them.
    fn join<'a>(&'a self, base: &'a Arc<Session>, caller: Caller) -> BoxFuture<'a, Result<Joined, Reason>>;
    /// Whether the trace is this session's now.
    fn note(&self, session: &Arc<Session>, trace: TraceId) -> bool;
}

/// Whose server is this?
///
/// Answers from kernel facts about the listening socket, at once: what a process says of itself counts for nothing.
pub trait Behind: Send + Sync {
    /// The live session of this agent whose run, and nobody else, listens on the loopback port;
    /// [`Reason::NoServer`] if there is none.
    fn behind(&self, agent: &AgentName, port: u16) -> Result<Arc<Session>, Reason>;
}
