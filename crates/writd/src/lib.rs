//! The daemon. `assemble` knows every part; nobody else does.
#![forbid(unsafe_code)]

mod configuration;
mod hardening;
mod holder;
mod notify;
pub mod settings;
