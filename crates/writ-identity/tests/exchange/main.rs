//! The logic of token exchange, without a server: the `[tokens]` table, proofs of keys, and which session binds two.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod proofs;
mod sessions;
mod settings;
