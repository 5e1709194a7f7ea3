//! Who acts, and for whom: agents as configured, the human as the kernel proves them, the live sessions, and the
//! launcher that turns the caller's own process into a run.
//!
//! What it is not: it captures nothing (cgroups, labels and hooks are capture's) and decides nothing. Invariants: a
//! human is never taken from a message; no session exists before its opening is durable; no program is executed
//! before the daemon has seen that its process is confined; a run is never uid 0.

mod account;
mod agent;
mod attest;
mod confinement;
mod error;
pub mod launch;
mod peer;
mod registry;
pub mod serve;
mod syscall;

pub use account::{Account, AccountError};
pub use agent::govern::{self, Govern, Governed};
pub use agent::{
    Agent, Block, Digest, KEYS as AGENT_KEYS, Pin, Pinned, Pins, RunUser, Seen, Terms, admits, agents,
    matching, pinned,
};
pub use attest::{
    Ancestor, Attest, Attested, Attestors, Kubelet, Lineage, Opened, Program, Refusal, Runtimes, Sources,
    Subject, Unknown, Wanted, program,
};
pub use confinement::Confinement;
pub use error::Error;
pub use peer::Peer;
pub use registry::{Live, OpenRequest, Ports, Registry, Restored, Revoked, Start};
