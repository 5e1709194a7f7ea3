//! The protocols, spoken by clients that others wrote: the crate and the Python package `spiffe`, curl, openssl, Envoy, and
//! for what they cannot say, generated ones.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, a skipped one says why, and time and files are real here"
)]

mod ends;
mod envoy;
mod jwt;
mod limits;
mod log;
mod measure;
mod python;
mod refusals;
mod sds;
mod traps;
mod web;
mod world;
mod x509;
