//! The relay with real clients and real services on 127.0.0.1; only the gate's ports are in memory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test may"
)]

mod basics;
mod callers;
mod client;
mod echoes;
mod http2;
mod inbound;
mod mcp;
mod memory;
mod origin;
mod pseudo;
mod pushing;
mod reading;
mod runs;
mod service_agent;
mod smuggling;
mod stdio;
mod streaming;
mod tls;
mod tunnels;
mod upstreams;
mod world;
