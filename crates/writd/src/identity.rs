//! Identities of runs: the authority with its keys in the sealed store, who is entitled to what, and the endpoints.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use tokio::sync::watch;
use writ_broker::{Error as StoreError, Store};
use writ_core::event::IdentityAuthority;
use writ_core::{Clock, IdSource, Secret, SecretName};
use writ_gate::{BoxFuture, Identify};
use writ_identity::federation::Federation;
use writ_identity::{Authority, Change, Keep, KeepError, Surroundings};
use writ_session::Peer;
use writ_workload::web::{Web, documents};
use writ_workload::{Entitled, Entitlements, NotAttested, Parts, Server, Workloads};

use crate::exchange;
use crate::people::Pushed;
use crate::settings::Settings;
use crate::world::World;

/// The trust domain's authority and what it believes of others.
pub(crate) struct Identity {
    pub(crate) authority: Arc<Authority>,
    federation: Federation,
}

/// Opens what was kept, or begins anew.
pub(crate) async fn open(
    settings: &Settings,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn IdSource>,
    bundles: std::path::PathBuf,
) -> Result<Identity> {
    let keep = Arc::new(Kept { store: Arc::clone(store), clock: Arc::clone(clock) });
    let surroundings = Surroundings { keep, clock: Arc::clone(clock), ids: Arc::clone(ids) };
    let (domain, identity) = (settings.trust_domain.clone(), settings.identity.clone());
    let relations = identity.federation.clone();
    let authority = Authority::open(domain, identity, surroundings.clone()).await;
    let authority = authority.context("the trust domain's authority cannot be opened")?;
    let federation = Federation::open(relations, authority.publication(), surroundings, bundles)?;
    Ok(Identity { authority: Arc::new(authority), federation })
}

/// The authority's keys, sealed with the daemon's other secrets.
struct Kept {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Keep for Kept {
    fn load(&self, name: &str) -> Result<Option<Secret<[u8]>>, KeepError> {
        Ok(self.store.internal().get(&kept_name(name)?)?)
    }

    fn store(&self, name: &str, value: &[u8]) -> Result<(), KeepError> {
        let value = Secret::<[u8]>::new(value.to_vec())?;
        let stored: Result<(), StoreError> =
            self.store.internal().set(&kept_name(name)?, &value, self.clock.now());
        Ok(stored?)
    }
}

fn kept_name(name: &str) -> Result<SecretName, writ_core::NameError> {
    SecretName::new(&format!("identity.{name}"))
}

/// What the protocols of identity stand on.
pub(crate) fn parts(world: &Arc<World>) -> Parts {
    Parts {
        workloads: Arc::new(Runs(Arc::clone(world))),
        issuer: world.identity.authority.issuer(),
        bundles: world.identity.authority.bundles(),
        clock: Arc::clone(&world.clock),
        ids: Arc::clone(&world.ids),
    }
}

/// A process has the identity of its run, for as long as the run's session lasts.
struct Runs(Arc<World>);

impl Workloads for Runs {
    fn attest<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Entitlements, NotAttested>> {
        Box::pin(async move {
            let world = &self.0;
            if !world.is_ready() {
                return Err(NotAttested::NotReady);
            }
            // The label goes by the pidfd, so it is this very process's.
            let run = world.capture.run_of(peer.pidfd()).ok_or(NotAttested::NoIdentity)?;
            let session = world.registry.identify(run).map_err(|_| NotAttested::NoIdentity)?;
            if !peer.is_alive() {
                return Err(NotAttested::NoIdentity);
            }
            let facts = session.facts();
            let entitled = Entitled {
                spiffe_id: facts.spiffe_id.clone(),
                ended: session.token(),
                expires: facts.expires,
                hint: String::new(),
            };
            let (keep, entitlements) = watch::channel(Arc::from([entitled]));
            world.tasks.spawn(async move {
                tokio::select! {
                    () = session.ended() => drop(keep.send(Arc::from([]))),
                    () = keep.closed() => {}
                }
            });
            Ok(entitlements)
        })
    }
}

/// Where transmitters push signals about people.
const SIGNALS_PATH: &str = "/signals";

/// Serves what the configuration says, until the daemon stops. Binding comes first: a door that cannot be opened keeps the
/// daemon from becoming ready.
pub(crate) async fn doors(world: &Arc<World>, tasks: &mut tokio::task::JoinSet<()>) -> Result<()> {
    let parts = parts(world);
    let tokens = exchange::tokens(world, &parts);
    if world.settings.workload.socket {
        let mut server = Server::bind(&world.layout.workload_socket())?;
        if let Some(tokens) = &tokens {
            server = server.with_tokens(Arc::clone(tokens));
        }
        let (parts, stop) = (parts.clone(), world.stop.clone());
        tasks.spawn(async move { server.serve(parts, stop).await });
    }
    if let Some(https) = &world.settings.workload.https {
        let web = Web::bind(https, &parts).await?;
        let signals = Arc::new(Pushed(Arc::clone(world)));
        let mut router = documents(&parts, &[]).route(SIGNALS_PATH, [Method::POST], signals);
        if let Some(tokens) = &tokens {
            router = tokens.add_to(router);
        }
        let stop = world.stop.clone();
        tasks.spawn(async move { web.serve(router, stop).await });
    }
    Ok(())
}

/// How often it is looked whether anything is due.
const LOOK: Duration = Duration::from_secs(5);

/// Turns keys over and fetches the bundles of others, until the daemon stops.
pub(crate) async fn turn(world: Arc<World>) {
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = world.stop.cancelled() => return,
        }
        let now = world.clock.now();
        match world.identity.authority.tick(now).await {
            Ok(changes) => changes.iter().for_each(|change| record(&world, change)),
            Err(error) => {
                tracing::error!(target: "writ::identity", error = &error as &dyn std::error::Error, "the authority could not do what is due");
            }
        }
        if let Err(error) = world.identity.federation.tick(now).await {
            tracing::error!(target: "writ::identity", error = &error as &dyn std::error::Error, "bundles could not be kept");
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "kinds may be added there")]
fn record(world: &World, change: &Change) {
    let (state, generation, expires) = match change {
        Change::Prepared { generation, not_after } => ("prepared", generation, Some(*not_after)),
        Change::Activated { generation } => ("active", generation, None),
        Change::Dropped { generation } => ("removed", generation, None),
        // Nothing has changed yet; the log says whom it waits for.
        _ => return,
    };
    let event = IdentityAuthority { expires_us: expires, generation: *generation, state: state.to_owned() };
    world.record.note(event.into());
}
