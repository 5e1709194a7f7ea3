//! What can go wrong between the caller and the daemon.

use std::io;
use std::path::PathBuf;

use writ_control::{Class, Fault};

/// A call that brought no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no daemon listens on `{}`", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket may not be opened.
    #[error("no permission to connect to `{}`", path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another user listens on the socket: it is not told anything.
    #[error("`{}` is served by uid {uid}, which is neither root nor you", path.display())]
    Impostor {
        /// The socket.
        path: PathBuf,
        /// The uid that listens.
        uid: u32,
    },
    /// The connection broke, or could not be made.
    #[error("the connection to the daemon broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what this version understands.
    #[error("the daemon's answer cannot be understood")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon answered, and the answer is no.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ClientError {
    /// The kind of failure.
    pub fn class(&self) -> Class {
        match self {
            Self::Fault(fault) => fault.class,
            Self::Forbidden { .. } | Self::Impostor { .. } => Class::Denied,
            Self::NotRunning { .. } => Class::Unavailable,
            Self::Broken(_) | Self::Unreadable(_) => Class::Failed,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Fault(fault) => &fault.code,
            Self::NotRunning { .. } => "client.not_running",
            Self::Forbidden { .. } => "client.forbidden",
            Self::Impostor { .. } => "client.impostor",
            Self::Broken(_) => "client.broken",
            Self::Unreadable(_) => "client.unreadable",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Fault(fault) => fault.hint.as_deref(),
            Self::NotRunning { .. } => {
                Some("start it with `systemctl start writd`, or name the right installation with `--root`")
            }
            Self::Forbidden { .. } => Some("run `writ doctor`: everyone must be able to reach the socket"),
            Self::Impostor { .. } => Some("do not use this installation; somebody may be posing as Writ"),
            Self::Broken(_) => Some("run `writ status`; the daemon's log says more"),
            Self::Unreadable(_) => Some("`writ` and `writd` may be of different versions; see `writ status`"),
        }
    }
}
