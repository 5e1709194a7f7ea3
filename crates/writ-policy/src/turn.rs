//! How one key turned, and what follows from two of them.

use std::sync::Arc;

use cedar_policy::Effect;
use writ_core::Reason;
use writ_core::event::Key;
use writ_gate::limits::DETERMINING_POLICIES_MAX;

/// How a key turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A permit spoke, and no forbid.
    Permitted,
    /// No permit spoke, and none that failed could have changed the answer.
    NotPermitted,
    /// A forbid spoke.
    Forbidden,
    /// A policy that could have changed the answer failed to evaluate, or the question contradicts the set.
    Failed,
}

/// What the policies said to one key's question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Satisfied permits; incomplete when a forbid is satisfied, because they no longer matter.
    pub(crate) permits: Vec<Arc<str>>,
    /// Satisfied forbids.
    pub(crate) forbids: Vec<Arc<str>>,
    /// Satisfied forbids that wait for an obligation.
    pub(crate) waiting: Vec<Arc<str>>,
    /// Policies that failed to evaluate, with their effect.
    pub(crate) failed: Vec<(Arc<str>, Effect)>,
}

impl Answer {
    /// The conclusion for this key. A failed policy never helps: if it could have mattered the key fails.
    pub(crate) fn turn(&self) -> Turn {
        let permit_failed = self.failed.iter().any(|(_, effect)| *effect == Effect::Permit);
        if !self.forbids.is_empty() {
            Turn::Forbidden
        } else if self.permits.is_empty() && !permit_failed {
            Turn::NotPermitted
        } else if self.failed.is_empty() {
            Turn::Permitted
        } else {
            Turn::Failed
        }
    }

    /// The policies whose obligations are owed if the key turned.
    pub(crate) fn binding(&self) -> impl Iterator<Item = &Arc<str>> {
        self.permits.iter().chain(&self.waiting)
    }

    /// The key as it is recorded, and how it turned.
    pub(crate) fn key(&self) -> (Key, Turn) {
        let turn = self.turn();
        let policies = match turn {
            Turn::Permitted => recorded(self.permits.iter()),
            Turn::Forbidden => recorded(self.forbids.iter()),
            Turn::Failed => recorded(self.failed.iter().map(|(id, _)| id)),
            Turn::NotPermitted => Vec::new(),
        };
        (Key { permitted: turn == Turn::Permitted, policies }, turn)
    }
}

/// Policy ids for a record: sorted, each once, and no more than a leaf has room for.
pub(crate) fn recorded<'i>(ids: impl Iterator<Item = &'i Arc<str>>) -> Vec<String> {
    let mut ids: Vec<&Arc<str>> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let more = ids.len().saturating_sub(DETERMINING_POLICIES_MAX);
    let mut kept: Vec<String> = ids.iter().take(DETERMINING_POLICIES_MAX).map(ToString::to_string).collect();
    if more > 0 {
        kept.push(format!("and {more} more"));
    }
    kept
}

/// Why not, if not: the agent's own reason first, and what is certain before what failed.
pub(crate) fn reason(agent: Turn, human: Turn) -> Option<Reason> {
    match (agent, human) {
        (Turn::Forbidden, _) => Some(Reason::AgentForbidden),
        (Turn::NotPermitted, _) => Some(Reason::AgentNotPermitted),
        (_, Turn::Forbidden) => Some(Reason::HumanForbidden),
        (_, Turn::NotPermitted) => Some(Reason::HumanNotPermitted),
        (Turn::Failed, _) | (_, Turn::Failed) => Some(Reason::PolicyError),
        (Turn::Permitted, Turn::Permitted) => None,
    }
}
