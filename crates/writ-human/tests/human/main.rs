//! People proven by a real provider (npm `oidc-provider`), and everything that must not prove them.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may"
)]

mod callers;
mod device;
mod login;
mod refusals;
mod signals;
mod signed_in;
mod support;
