//! Who opened what to where: the kernel's part of Writ, and the resolver of governed runs.
//!
//! The kernel gives each destination of a governed process one of three verdicts: refuse, pass, take. A taken connection
//! is led to the relay, and the accepted socket carries who opened it and to where. This crate decides nothing about
//! permission: it is told which destinations exist.
//!
//! Invariant: what is not known is refused, and stays refused while the daemon is away.

mod assign;
mod capture;
mod cgroup;
mod cut;
mod diag;
mod error;
mod event;
mod govern;
mod load;
mod network;
mod probe;
mod process;
mod program;
mod record;
pub mod resolver;
mod syscall;
mod watch;

pub use capture::{Capture, CaptureSettings, Counters, DestinationRule, Verdict};
pub use diag::{Cut, Socket};
pub use error::Error;
pub use event::{Events, KernelEvent, Who};
pub use govern::{GovernId, Governed, Subtree};
pub use network::{Heard, Network};
pub use probe::{Feature, probe};
pub use record::Origin;
pub use watch::Awaited;
