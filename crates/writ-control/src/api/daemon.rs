//! The daemon's own state.

use serde::{Deserialize, Serialize};
use writ_core::{Assurance, config};

use super::{Checkpoint, Time};

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How strongly runs are held; absent while it is not ready.
    pub assurance: Option<Assurance>,
    /// The latest checkpoint, if there is one yet.
    pub checkpoint: Option<Checkpoint>,
    /// SHA-256 over the configuration files in force, hex.
    pub config_digest: String,
    /// Governed connections open now.
    pub connections: u64,
    /// Settings in force that weaken safety.
    pub dangers: Vec<String>,
    /// Bytes of the evidence log on disk.
    pub log_bytes: u64,
    /// Leaves in the evidence log.
    pub log_leaves: u64,
    /// Connections that the kernel could not name, all of them refused.
    pub misses: u64,
    /// Why it is not ready; absent when it is.
    pub not_ready: Option<String>,
    /// SHA-256 of the policy set in force, hex.
    pub policy_digest: String,
    /// Sessions that are live.
    pub sessions: u64,
    /// When the daemon started.
    pub started: Time,
    /// The daemon's version.
    pub version: String,
}

impl Status {
    /// Whether runs may act.
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_none()
    }
}

/// The answer to `reload` when the configuration was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Agents in force.
    pub agents: u64,
    /// SHA-256 over the configuration files, hex.
    pub config_digest: String,
    /// Settings in force that weaken safety.
    pub dangers: Vec<String>,
    /// Policies in force.
    pub policies: u64,
    /// SHA-256 of the policy set, hex.
    pub policy_digest: String,
    /// Services in force.
    pub services: u64,
}

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    /// The column, from 1; 0 when it concerns the file.
    pub column: u64,
    /// The file.
    pub file: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The key; empty when it concerns none.
    pub key: String,
    /// The line, from 1; 0 when it concerns the file.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

impl From<&config::Problem> for FileProblem {
    fn from(problem: &config::Problem) -> Self {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            column: number(problem.place.column),
            file: problem.place.file.to_string(),
            hint: problem.hint.clone(),
            key: problem.place.key.clone(),
            line: number(problem.place.line),
            what: problem.what.clone(),
        }
    }
}

/// How an examination ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// As it should be.
    Good,
    /// Works, at a cost.
    Weaker,
    /// Could not be examined from here.
    Unknown,
    /// Writ cannot do its work.
    Bad,
}

/// One thing examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it costs, when it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What was examined.
    pub name: String,
    /// How it ended.
    pub state: CheckState,
}

/// The answer to `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// In the order in which they should be read.
    pub checks: Vec<Check>,
}
