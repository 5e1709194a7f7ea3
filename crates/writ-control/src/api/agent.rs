//! Agents: as they are registered, and which digests are trusted for them.

use serde::{Deserialize, Serialize};
use writ_core::{ActsFor, AgentName};

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    /// For whom its runs act.
    pub acts_for: ActsFor,
    /// Digests that wait for somebody's approval, hex.
    pub held: Vec<String>,
    /// Its name.
    pub name: AgentName,
    /// Who answers for it.
    pub owner: String,
    /// Digests that are trusted, hex; empty when its file names none and trusts no first use.
    pub pinned: Vec<String>,
    /// Live sessions.
    pub sessions: u64,
}

/// The answer to `agent.list`, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agents {
    /// The agents.
    pub agents: Vec<AgentRow>,
}

/// `agent.approve`: trust a digest that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The agent.
    pub agent: AgentName,
    /// The digest as `agent.list` names it, or enough of its beginning to be the only one.
    pub digest: String,
}

/// The answer to `agent.approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The agent.
    pub agent: AgentName,
    /// The digest that is trusted now, hex.
    pub digest: String,
}
