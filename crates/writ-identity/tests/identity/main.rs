//! The authority, what it issues and what it believes, against real peers and other people's vectors.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a skipped one says why"
)]

mod crosscheck;
mod federation;
mod handshake;
mod refusals;
mod rotation;
mod settings;
mod shapes;
mod support;
mod upstream;
mod vault;
mod vectors;
