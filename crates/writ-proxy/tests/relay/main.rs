//! The relay with real clients and real services on 127.0.0.1; only the gate's ports are in memory.

mod basics;
mod client;
mod echoes;
mod http2;
mod memory;
mod origin;
mod smuggling;
mod streaming;
mod tls;
mod tunnels;
mod upstreams;
mod world;
