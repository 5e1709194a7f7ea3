//! The calling side of the control socket: one typed method per operation.
//!
//! A [`Client`] holds a path and nothing else; every call is a connection of its own, and lasts as long as the future
//! or stream that it returned. It starts no thread and leaves no task behind, so that a process may call it and then
//! become another program. It speaks only with a daemon that runs as root or as the caller's own user. Not here:
//! retries, and anything that prints.
#![forbid(unsafe_code)]

mod client;
mod error;
mod leaves;
mod wire;

pub use client::Client;
pub use error::ClientError;
pub use leaves::Leaves;
