//! The crate from outside: what is missing, what is wrong, what is shipped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by them")]

mod arguments;
mod asking;
mod missing;
mod obligations;
mod problems;
mod replay;
mod shipped;
mod suggest;
mod support;
mod whole;
