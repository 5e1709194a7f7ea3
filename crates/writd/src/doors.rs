//! The doors of agents that serve callers: opened as their files say, kept through reloads that do not touch them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use writ_core::{AgentName, Reason, Secret, Serve};
use writ_gate::{BoxFuture, Caller, Callers, Gate, Served};
use writ_human::{Error, People};
use writ_proxy::{Inbound, InboundPorts, RelaySettings, RunningServer, Servers};

use crate::configuration::Configuration;
use crate::world::World;

/// Every door of an agent, by what its file says.
type Wanted = HashSet<(AgentName, Serve)>;

/// The doors that are open, each with what closes it.
#[derive(Default)]
pub(crate) struct Doors(tokio::sync::Mutex<HashMap<(AgentName, Serve), CancellationToken>>);

/// What doors ask: people of the issuers, sessions of the registry, and the kernel who listens.
pub(crate) fn inbound(world: &Arc<World>, gate: Gate) -> Inbound {
    let running = {
        let world = Arc::downgrade(world);
        move |agent: &AgentName| world.upgrade().map(|world| runs_of(&world, agent)).unwrap_or_default()
    };
    let ports = InboundPorts {
        callers: Arc::new(Tokens(Arc::clone(world))),
        join: Arc::clone(&world.registry) as _,
        behind: Arc::new(Servers::new(running)),
    };
    Inbound::new(RelaySettings::default(), gate, ports, Some(world.peers.clone()))
}

fn runs_of(world: &World, agent: &AgentName) -> Vec<RunningServer> {
    let live = world.registry.list();
    let own = live.iter().filter(|live| {
        let facts = live.session.facts();
        facts.agent == *agent && facts.delegation.below.is_none()
    });
    own.map(|live| (Arc::clone(&live.session), world.capture.folder_of(live.session.facts().run))).collect()
}

/// Opens the doors that the configuration wants and closes the others. One that cannot be opened is reported; the others
/// open all the same.
pub(crate) async fn follow(world: &Arc<World>, configuration: &Configuration) -> Result<()> {
    let wanted: Wanted = configuration
        .agents
        .values()
        .flat_map(|agent| agent.serve.iter().map(|serve| (agent.name.clone(), serve.clone())))
        .collect();
    let mut open = world.doors.0.lock().await;
    // Closed first: another block may listen on the same address.
    open.retain(|door, close| {
        let stays = wanted.contains(door);
        if !stays {
            close.cancel();
        }
        stays
    });
    let mut failed = None;
    for door in wanted.into_iter().filter(|door| !open.contains_key(door)).collect::<Vec<_>>() {
        match open_one(world, &door.0, &door.1).await {
            Ok(close) => drop(open.insert(door, close)),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn open_one(world: &Arc<World>, agent: &AgentName, serve: &Serve) -> Result<CancellationToken> {
    let what = || format!("the door of agent `{agent}` at {} cannot be opened", serve.listen);
    let door = world.inbound().door(agent, serve).with_context(what)?;
    let listener = TcpListener::bind(serve.listen).await.with_context(what)?;
    let close = world.stop.child_token();
    let (inbound, drain) = (world.inbound().clone(), close.clone());
    world.tasks.spawn(async move { inbound.serve(door, listener, drain).await });
    Ok(close)
}

/// Proves callers by the issuers that the node knows.
struct Tokens(Arc<World>);

impl Callers for Tokens {
    fn caller<'a>(&'a self, served: Served<'a>, token: Secret<str>) -> BoxFuture<'a, Result<Caller, Reason>> {
        Box::pin(async move {
            let people: &People = &self.0.people;
            let caller = people.callers().verify(token.expose(), served.audience).await.map_err(|error| {
                // Never the token; what is wrong with it is no secret.
                tracing::info!(target: "writ::human", agent = %served.agent, error = %error, "a caller is refused");
                if matches!(error, Error::Token(_)) { Reason::CallerRefused } else { Reason::CallerUnverified }
            })?;
            // The id begins with the issuer's URL, which may be the beginning of another's: compared whole.
            let of = |issuer: &str| {
                caller
                    .human
                    .as_str()
                    .strip_prefix("oidc:")
                    .and_then(|id| id.rsplit_once('#'))
                    .is_some_and(|(url, _)| url == issuer)
            };
            if served.issuer.is_some_and(|issuer| !of(issuer)) {
                return Err(Reason::CallerRefused);
            }
            Ok(Caller {
                human: caller.human,
                display: Some(caller.display),
                groups: caller.groups,
                expires: caller.expires,
                parents: Vec::new(),
            })
        })
    }
}
