//! The control plane of one host: what may be asked of the daemon, who may ask it, and the server that listens.
//!
//! HTTP/1.1 with JSON over a Unix socket. Every operation is `POST /v1/OPERATION` with one JSON object as its body
//! ([`api`]); one table says who may call what ([`access`]); the daemon answers through one trait ([`Daemon`]). Who
//! calls is proven by the kernel for every connection (credentials, groups and a pidfd of the peer), never claimed.
//!
//! Not here: what the operations do (`writd`), and the calling side (`writ-client`). Invariants: no operation runs
//! before [`access::clear`] said yes; a governed process is refused
//! everything; no answer ever holds a secret's value.

pub mod access;
pub mod api;
mod daemon;
mod fault;
mod peer;
mod server;

pub use access::{Access, Clearance, Rule, Scope, Standing};
pub use daemon::{Answer, Daemon, LeafStream, Opening};
pub use fault::{Class, Fault};
pub use peer::{Caller, PeerError};
pub use server::{BindError, Server};
