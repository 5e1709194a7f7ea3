//! Runs and sessions.

use serde::{Deserialize, Serialize};
use writ_core::units::Span;
use writ_core::{AgentName, Assurance, Grant, HumanId, RunId, SecretName, SessionId, SpiffeId};
pub use writ_session::launch::{Ask, Prepared};

use super::Time;

/// `run.open`: make the calling process the first process of a run.
///
/// Who asks, and for whom, is not said here: the kernel says it. The answer is a [`Prepared`]: when it arrives the
/// process is in the run's cgroup and labelled, and reaches nothing, as there is no session yet. On the same
/// connection `run.ready` opens the session; if the connection closes before, the run is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOpen {
    /// Which agent this is meant to be; the daemon checks the program against the agent's match rule.
    pub agent: AgentName,
    /// The command line, for the table of live runs only: never recorded, never used to decide.
    pub command: Vec<String>,
    /// The caller's own descriptors of what it is about to execute, so that what is hashed is what runs.
    pub files: Ask,
    /// What the session is narrowed to; nothing is narrowed when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// What it is for, in the human's words.
    #[serde(default)]
    pub purpose: String,
    /// How long it may last; the agent's or the daemon's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

/// The answer to `run.ready`: the session is open, and the opening durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOpened {
    /// How strongly the run is held.
    pub assurance: Assurance,
    /// When the session ends at the latest.
    pub expires: Time,
    /// The human who is accountable.
    pub human: HumanId,
    /// The run.
    pub run: RunId,
    /// The session.
    pub session: SessionId,
    /// The run's SPIFFE ID.
    pub spiffe_id: SpiffeId,
}

/// One live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Actions decided so far.
    pub actions: u64,
    /// The agent.
    pub agent: AgentName,
    /// How strongly it is enforced.
    pub assurance: Assurance,
    /// The run's own session, if this one is a caller's.
    #[serde(default)]
    pub below: Option<SessionId>,
    /// The command line it was started with; shown, never recorded.
    #[serde(default)]
    pub command: Vec<String>,
    /// Connections open now.
    pub connections: u64,
    /// How people call the human.
    #[serde(default)]
    pub display: Option<String>,
    /// When it ends at the latest.
    pub expires: Time,
    /// The accountable human.
    pub human: HumanId,
    /// When it was opened.
    pub opened: Time,
    /// The first process.
    pub pid: u32,
    /// What it is for.
    pub purpose: String,
    /// Refusals so far.
    pub refused: u64,
    /// The run.
    pub run: RunId,
    /// The session.
    pub session: SessionId,
    /// The run's SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The uid that the run has.
    pub uid: u32,
}

/// The answer to `run.list`, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions that the caller may see.
    pub sessions: Vec<SessionRow>,
}

/// `secret.remove`: which secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Its name.
    pub name: SecretName,
}
