//! What can go wrong with sessions on the daemon's side.

use std::path::PathBuf;

use writ_core::units::Span;
use writ_host::durable::FileError;

use crate::account::AccountError;

/// A session could not be opened, kept or ended, or a peer not be proven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel did not say who is at the other end.
    #[error(
        "the caller cannot be identified: {what}; hint: call from the host's own pid namespace, and stay alive"
    )]
    Unproven {
        /// What was missing.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A user or group could not be looked up.
    #[error("a user cannot be looked up")]
    Account(#[from] AccountError),
    /// The run would be root.
    #[error(
        "a run may not be root; hint: call `writ run` as another user, or set `user` in the file of agent `{agent}`"
    )]
    Root {
        /// The agent.
        agent: String,
    },
    /// It is not the agent that it must be.
    #[error(transparent)]
    Refused(#[from] crate::attest::Refusal),
    /// The process is not confined as it must be.
    #[error("the process is not confined: {what}; hint: start it with `writ run` of this version")]
    Unconfined {
        /// What was missing.
        what: &'static str,
    },
    /// The agent allows no such time limit.
    #[error("a time limit of {asked} is longer than agent `{agent}` allows; hint: ask for at most {max}")]
    TtlTooLong {
        /// The agent.
        agent: String,
        /// What was asked for.
        asked: Span,
        /// What is allowed.
        max: Span,
    },
    /// The time limit is nothing.
    #[error("a time limit of nothing; hint: ask for at least a second")]
    TtlZero,
    /// The purpose cannot be recorded as it is.
    #[error("the purpose is longer than {max} bytes or holds control characters; hint: write one short line")]
    Purpose {
        /// The bound.
        max: usize,
    },
    /// As many sessions as may be are open.
    #[error("{open} sessions are open, which is the limit; hint: see `writ ps`")]
    Busy {
        /// How many.
        open: usize,
    },
    /// As many runs of the agent as may be are under way.
    #[error(
        "agent `{agent}` has {open} runs, which is its limit; hint: wait for one to end, or raise \
         `concurrent_runs_max` in its file"
    )]
    AgentBusy {
        /// The agent.
        agent: String,
        /// How many.
        open: usize,
    },
    /// The agent's runs do not act for callers.
    #[error("runs of agent `{agent}` do not act for callers; hint: say `acts_for = \"caller\"` in its file")]
    NotServing {
        /// The agent.
        agent: String,
    },
    /// The session, or what it should be opened from, is over.
    #[error("it is over: {}", .0.as_str())]
    Over(writ_gate::Cause),
    /// The opening could not be recorded.
    #[error(
        "the session cannot be recorded, so it is not opened; hint: free disk space, or see `writ status`"
    )]
    Unrecorded(#[from] writ_gate::RecordError),
    /// The file of a session could not be written or removed.
    #[error("a session cannot be kept")]
    File(#[from] FileError),
    /// A file of pinned digests is damaged.
    #[error("the pinned digests in `{}` cannot be read; hint: mend the file, or remove it and trust on first use again", path.display())]
    Pins {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Text that is no digest.
    #[error("`{text}` is no digest; hint: write 64 lower-case hex digits, as `sha256sum` prints them")]
    Digest {
        /// What was written.
        text: String,
    },
    /// The sessions that were kept could not be listed.
    #[error("the kept sessions in `{}` cannot be listed", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}
