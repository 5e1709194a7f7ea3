//! A process as the kernel reported it.

use serde::{Deserialize, Serialize};

/// Names one process of this boot: the pair of pid and start time is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// How often the process has called exec since it was labelled; 0 before the first.
    pub exec_generation: u32,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Start of the thread group leader: microseconds since boot.
    pub start_us: u64,
}
