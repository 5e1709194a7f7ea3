//! The credential for one action: the sealed store that secrets rest in, and the providers that lend from it.
//!
//! What it is not: it decides nothing (a [`writ_gate::Permit`] says what was decided) and places nothing on a wire
//! (the relay does). Invariants: a value leaves this crate only as a [`writ_core::Secret`]; on disk it exists only
//! sealed, bound to its name; what the daemon keeps for itself cannot be named by whoever manages secrets.
#![forbid(unsafe_code)]

mod broker;
#[cfg(test)]
mod conformance;
mod error;
mod key;
mod provider;
mod seal;
mod store;

pub use broker::Broker;
pub use error::Error;
pub use key::StoreKey;
pub use store::{Entry, Internal, Store};
