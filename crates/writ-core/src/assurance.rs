//! How strongly a decision was enforced; written into every record.

use serde::{Deserialize, Serialize};

/// What stood between the agent and the network when a decision was made. Never claims more than was probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assurance {
    /// Kernel hooks and, beside them, BPF LSM hooks.
    KernelLsm,
    /// Kernel hooks: cgroup programs, sockops, egress filter, labels. No LSM.
    Kernel,
}

impl Assurance {
    /// The word in records and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelLsm => "kernel-lsm",
            Self::Kernel => "kernel",
        }
    }
}
