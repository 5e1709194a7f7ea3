//! The authority, what it issues and what it believes, against real peers and other people's vectors.

mod crosscheck;
mod federation;
mod handshake;
mod refusals;
mod rotation;
mod settings;
mod support;
mod upstream;
mod vault;
mod vectors;
