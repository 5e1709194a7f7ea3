//! The evidence: an append-only, verifiable log of what agents did.
//!
//! An event becomes a canonical leaf, is durable in a segment before anyone is told so, and joins a Merkle tree in the
//! C2SP tlog-tiles form under a signed checkpoint. Anyone with the public key can check the whole of it offline.
//!
//! Invariants: nothing is acknowledged before it is durable (G4); numbers have no gap; each intent has exactly one
//! receipt (I3), written by recovery if need be; recovery is the normal path (I10); the index can be thrown away.
#![forbid(unsafe_code)]

mod archive;
mod error;
mod facet;
mod index;
mod log;
mod note;
mod query;
mod recovery;
mod segment;
mod sequencer;
mod storage;
pub mod story;
mod tail;
mod tile;
pub mod tree;
#[cfg(test)]
mod trials;
mod verify;

pub use error::Error;
pub use log::{Log, LogSettings, LogStatus, VERIFIER_KEY_FILE};
pub use note::{Checkpoint, NoteError, Signer, VerifierKey};
pub use query::{Query, Reader};
pub use verify::{Report, read_verified, verifier_of, verify};
