//! What end-to-end tests stand on: a network of their own, the forge, and a whole Writ below one folder.
//!
//! Everything is a real part: the daemon and the CLI as built, nginx, git, programs as agents. Each test is a process
//! of its own; it isolates its thread first, so that no packet can leave the machine, and whatever it starts inherits
//! that.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

pub mod forge;
pub mod host;
pub mod isolation;
pub mod wait;

pub use forge::Forge;
pub use host::{AGENT_UID, Host, Ran, program};
