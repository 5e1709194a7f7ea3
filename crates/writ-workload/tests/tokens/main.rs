//! Exchange and introspection over TLS and on the socket: what curl is given, Python libraries that others wrote verify.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, a skipped one says why, and time and files are real here"
)]

mod exchange;
mod forge;
mod introspect;
mod peers;
mod proof;
mod refusals;
mod site;
mod socket;
mod transaction;
