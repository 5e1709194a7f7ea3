//! The relay alone, with a gate in memory that permits everything: for measuring the path without the daemon.
//!
//! ```text
//! bench_relay LISTEN UPSTREAM CA_FILE ROOT_OUT [PORT]
//! ```
//! Listens on `LISTEN`, takes every connection for one to `api.test` on `PORT` (443), lends it a bearer token and
//! sends it to `UPSTREAM`, whose certificate is verified against `CA_FILE`. The root that clients must trust goes to
//! `ROOT_OUT`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use writ_core::Protocol;
use writ_proxy::RelaySettings;

#[expect(dead_code, reason = "the tests use more of it")]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "made for tests: what cannot be set up ends the program"
)]
#[path = "../tests/relay/world.rs"]
mod world;

/// As in the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, upstream, ca_file, root_out, rest @ ..] = &*arguments else {
        return Err("usage: bench_relay LISTEN UPSTREAM CA_FILE ROOT_OUT [PORT]".into());
    };
    let port = rest.first().map_or(Ok(443), |port| port.parse())?;
    let service = world::service(Protocol::Https, upstream.parse()?, Some(PathBuf::from(ca_file)));
    let services = vec![world::lending(service)];
    let world = world::World::serving(services, RelaySettings::default(), port, listen).await;
    world.log.keep.store(false, Ordering::Relaxed);
    writ_host::durable::replace(&PathBuf::from(root_out), world.root_pem.as_bytes(), 0o644)?;
    world.serving.await?;
    Ok(())
}
