//! How policy's word is taken: as law, or as advice while it is tried.

use serde::{Deserialize, Serialize};

/// Whether what policy refuses is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It is done all the same, and recorded with the reason for which it would have been refused. Everything else holds:
    /// what is no known operation, no grant covers or no session is alive for is refused.
    Observe,
}

impl Mode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}
