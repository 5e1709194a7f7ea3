//! What events are made of. Fields in alphabetical order, as in the events themselves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::argument::Arguments;
use crate::id::{ApprovalId, RunId, SessionId};
use crate::name::{AgentName, HumanId, OperationName, ServiceName};
use crate::obligation::Label;
use crate::service::Effect;
use crate::spiffe::SpiffeId;

/// Who acts, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The agent.
    pub agent: AgentName,
    /// The accountable human.
    pub human: HumanId,
    /// The run.
    pub run: RunId,
    /// The session.
    pub session: SessionId,
    /// The run's SPIFFE ID.
    pub spiffe_id: SpiffeId,
}

/// One of the two keys of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whether this key turned.
    pub permitted: bool,
    /// The policies that determined it, by id; empty when none spoke.
    pub policies: Vec<String>,
}

/// Both keys, and the policy set that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// May this agent do this?
    pub agent: Key,
    /// May this human do this?
    pub human: Key,
    /// SHA-256 of the policy set, hex.
    pub policy_digest: String,
}

/// What an action was permitted under, beside its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Labels that its session has from here on and did not have before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub acquired: BTreeSet<Label>,
    /// The approvals that it rests on. One that was given once is used up by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalId>,
    /// What it is counted against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<Counted>,
    /// The labels that its session had.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<Label>,
}

impl Terms {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        let Self { acquired, approvals, counted, labels } = self;
        acquired.is_empty() && approvals.is_empty() && counted.is_empty() && labels.is_empty()
    }
}

/// An amount that counts against the rate of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// How much: 1 against a limit, the argument against a budget.
    pub amount: u64,
    /// The limit or budget, as it is written.
    pub obligation: String,
    /// The policy that has it.
    pub policy: String,
}

/// What an approver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Yes, once.
    Approved,
    /// Yes, and for the rest of the session whenever it does this operation there.
    ApprovedForSession,
    /// No.
    Denied,
}

/// What was asked of which service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What it said of what it does, each with its value: text, a whole number, `true`, `false` or a list of texts. What is
    /// long is cut and ends in `...`.
    pub arguments: Arguments,
    /// What it does.
    pub effect: Effect,
    /// The host that was addressed.
    pub host: String,
    /// HTTP method, or `CONNECT` for an opaque connection.
    pub method: String,
    /// The operation.
    pub operation: OperationName,
    /// The path without its query.
    pub path: String,
    /// The service.
    pub service: ServiceName,
}

/// One step of the way that led to an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// How it is known.
    pub how: Known,
    /// `human`, `run`, `exec` or `mcp`.
    pub kind: HopKind,
    /// Its name: human id, run id, the path of the program that was executed, or the MCP server and what is asked of it.
    pub name: String,
}

/// The file that an interpreter was started on. Read again by the interpreter itself, so its digest is a claim of
/// less weight than the program's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// How it is known.
    pub how: Known,
    /// Its path as the kernel resolved it.
    pub path: String,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// What a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HopKind {
    /// The accountable human.
    Human,
    /// The run.
    Run,
    /// A program in the exec lineage.
    Exec,
    /// An MCP server, and the tool or other thing that is asked for there.
    Mcp,
}

/// How a fact is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Seen by Writ itself.
    Observed,
    /// Concluded from other facts.
    Inferred,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The service answered in full.
    Completed,
    /// The exchange broke; the reason says where.
    Failed,
    /// The session ended while the exchange ran, and it was cut.
    Cut,
    /// The daemon stopped before the end was known; written by recovery.
    Abandoned,
}

/// What became of the lent credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseFate {
    /// None was minted.
    NotMinted,
    /// A standing credential: it lives on at its issuer; only its non-disclosure to the agent is claimed.
    Standing,
    /// Standing, and the service echoed it: removed from the answer, to be treated as exposed there.
    Echoed,
    /// Whether one was minted is unknown, because the daemon stopped in between.
    Unknown,
}
