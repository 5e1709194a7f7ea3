//! The calling side of the control socket: one typed method per operation.
//!
//! A [`Client`] holds a path and nothing else; every call is a connection of its own, and lasts as long as the future
//! or stream that it returned. A [`Beginning`] is the exception: the two calls that begin a run, blocking and without a
//! runtime, as the process is about to become another program. Both speak only with a daemon that runs as root or as the caller's own user. Not here:
//! retries, and anything that prints.
#![forbid(unsafe_code)]

mod beginning;
mod client;
mod error;
mod leaves;
mod wire;

pub use beginning::Beginning;
pub use client::Client;
pub use error::ClientError;
pub use leaves::Leaves;
