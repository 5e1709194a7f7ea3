//! What can be wrong with a log.

use std::io;
use std::path::PathBuf;

use crate::note::NoteError;

/// The log cannot be opened or read. Nothing is acknowledged on a log that is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("the evidence cannot be {verb}")]
    Disk {
        /// `read`, `written`.
        verb: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The key file is not the log's.
    #[error("the evidence key `{}` is not usable: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The checkpoint is not one, or not this log's.
    #[error(
        "the evidence checkpoint is not usable; hint: run `writ verify`, and put back the key or the log that belong together"
    )]
    Checkpoint(#[source] NoteError),
    /// A part is not what the checkpoint says.
    #[error(
        "the evidence is damaged: {what}; hint: run `writ verify` for the exact place, keep a copy, and move the folder aside to begin a new log"
    )]
    Damaged {
        /// What, with its place.
        what: String,
    },
}

impl Error {
    pub(crate) fn read(source: io::Error) -> Self {
        Self::Disk { verb: "read", source }
    }

    pub(crate) fn written(source: io::Error) -> Self {
        Self::Disk { verb: "written", source }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}
