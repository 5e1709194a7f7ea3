//! Sessions: run, human, purpose and time limit bound together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use writ_core::event::{Actor, Hop, HopKind, Known};
use writ_core::{
    ActionId, ActsFor, AgentName, Assurance, Grants, HumanId, Reason, RunId, SessionId, SpiffeId, Timestamp,
};

use crate::ledger::Ledger;
use crate::limits;
use crate::recorded;

/// The accountable person, as the kernel or an issuer proved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Human {
    /// The id in records and policies.
    pub id: HumanId,
    /// How people call them, for the reader; nothing is decided by it.
    pub display: Option<String>,
    /// The groups: of the user as `unix:NAME`, of an issuer as its mapping says.
    pub groups: Vec<String>,
    /// The uid that the run has.
    pub uid: u32,
    /// The uid that logged in; `su` and `sudo` do not change it. Absent if the kernel keeps none.
    pub login_uid: Option<u32>,
    /// The audit session of that login.
    pub audit_session: Option<u32>,
}

impl Human {
    /// The groups for a record; `None` if they are more than it has room for.
    pub fn groups_on_record(&self) -> Option<Vec<String>> {
        recorded::groups(&self.groups)
    }
}

/// A run that started another one, and answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its agent.
    pub agent: AgentName,
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// The run's SPIFFE ID.
    pub spiffe_id: SpiffeId,
}

/// The facts of a session; fixed for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// The run it belongs to.
    pub run: RunId,
    /// The run's SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The agent.
    pub agent: AgentName,
    /// The human.
    pub human: Human,
    /// What it is for.
    pub purpose: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it ends at the latest, as it was said when it was opened; [`Session::expires`] is what counts.
    pub expires: Timestamp,
    /// How strongly it is enforced.
    pub assurance: Assurance,
    /// For whom, below whom, and how much of it.
    pub delegation: Delegation,
}

/// What a session was handed on. The default: it acts for who started it, for itself, with nothing narrowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// For whom it acts. A session that acts for callers does so only through sessions of theirs, for which this is
    /// [`ActsFor::Starter`] and `below` is set.
    pub acts_for: ActsFor,
    /// The run's own session, if this one is a caller's.
    pub below: Option<SessionId>,
    /// What it is narrowed to.
    pub grants: Grants,
    /// The runs that led to this one, eldest first.
    pub parents: Vec<Parent>,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its last process exited.
    Exited,
    /// Its time limit passed.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// Its human signed out, or an issuer said that they may no longer act.
    SignedOut,
}

impl Cause {
    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::SignedOut => "signed-out",
        }
    }

    /// The reason for refusing what comes after.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Exited => Reason::SessionEnded,
            Self::Expired => Reason::SessionExpired,
            Self::Revoked => Reason::SessionRevoked,
            Self::SignedOut => Reason::SignedOut,
        }
    }
}

/// A live session. Shared; ends once, and everything that waits on [`Session::ended`] is then cut (G7).
#[derive(Debug)]
pub struct Session {
    facts: SessionFacts,
    /// Microseconds; only grows.
    expires: AtomicU64,
    cause: OnceLock<Cause>,
    token: CancellationToken,
    ledger: Arc<Ledger>,
    /// What is asked of it as an MCP server and has no answer yet.
    calls: Mutex<BTreeMap<ActionId, Hop>>,
}

/// A call of an MCP server under way, until this is dropped.
#[derive(Debug)]
pub struct Call {
    server: Arc<Session>,
    action: ActionId,
}

impl Call {
    /// Begins one: what the server's run does until the end of it has this step on its way.
    pub fn begin(server: &Arc<Session>, action: ActionId, step: Hop) -> Self {
        server.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(action, step);
        Self { server: Arc::clone(server), action }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.server.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.action);
    }
}

impl Session {
    /// A session that begins now, with a ledger of its own.
    pub fn new(facts: SessionFacts) -> Self {
        Self::sharing(facts, Arc::default())
    }

    /// A session that shares the ledger of those that led to it.
    pub fn sharing(facts: SessionFacts, ledger: Arc<Ledger>) -> Self {
        let expires = AtomicU64::new(facts.expires.micros());
        Self {
            facts,
            expires,
            cause: OnceLock::new(),
            token: CancellationToken::new(),
            ledger,
            calls: Mutex::default(),
        }
    }

    /// The facts.
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// What it did, as far as decisions depend on it.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// When it ends at the latest.
    pub fn expires(&self) -> Timestamp {
        Timestamp::from_micros(self.expires.load(Ordering::Acquire))
    }

    /// Lets it go on until then, if that is later: its caller came with a newer token. To be recorded before.
    pub fn prolong(&self, until: Timestamp) {
        self.expires.fetch_max(until.micros(), Ordering::AcqRel);
    }

    /// Ends it. The first cause stays; returns whether this call was the first.
    pub fn end(&self, cause: Cause) -> bool {
        let first = self.cause.set(cause).is_ok();
        self.token.cancel();
        first
    }

    /// Why it ended, if it has.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().copied()
    }

    /// Completes when the session ends.
    pub async fn ended(&self) {
        self.token.cancelled().await;
    }

    /// Cancelled when the session ends. Cancelling it ends nothing.
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Who acts and for whom, as records say it.
    pub fn actor(&self) -> Actor {
        let facts = &self.facts;
        Actor {
            agent: facts.agent.clone(),
            human: facts.human.id.clone(),
            run: facts.run,
            session: facts.id,
            spiffe_id: facts.spiffe_id.clone(),
        }
    }

    /// The calls that it may be serving: the one that it is, or each of several that it may be.
    fn calls(&self) -> Vec<Hop> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let how = if calls.len() > 1 { Known::Inferred } else { Known::Observed };
        calls.values().take(limits::CALLS_ON_PATH_MAX).map(|step| Hop { how, ..step.clone() }).collect()
    }

    /// The tool path from the human to the program: `exec` is the lineage as paths, eldest first.
    pub fn tool_path(&self, exec: &[String]) -> Vec<Hop> {
        let hop = |kind, name| Hop { how: Known::Observed, kind, name };
        let human = hop(HopKind::Human, self.facts.human.id.to_string());
        let parents = self.facts.delegation.parents.iter().map(|parent| parent.run);
        let run = |run: RunId| hop(HopKind::Run, run.to_string());
        [human]
            .into_iter()
            .chain(parents.map(run))
            .chain(self.calls())
            .chain([run(self.facts.run)])
            .chain(exec.iter().map(|path| hop(HopKind::Exec, path.clone())))
            .collect()
    }
}
