//! Agents as the control API shows them, and what is approved for them.

use std::sync::Arc;

use writ_control::api::{AgentRow, Agents, Approval, Approved};
use writ_control::{Class, Clearance, Fault};
use writ_core::AgentName;
use writ_core::event::AgentPinned;
use writ_session::{Agent, Digest, Pin, Seen};

use crate::world::World;

/// `agent.list`.
pub(crate) async fn list(world: &Arc<World>) -> Result<Agents, Fault> {
    let (agents, live) = (world.configuration.load_full(), world.registry.list());
    let count = |agent: &AgentName| {
        live.iter()
            .filter(|live| live.session.facts().agent == *agent && live.session.cause().is_none())
            .count()
    };
    let row = |agent: &Arc<Agent>, seen: Seen| AgentRow {
        acts_for: agent.acts_for,
        held: digests(&seen.held),
        name: agent.name.clone(),
        owner: agent.owner.clone(),
        pinned: match &agent.pin {
            Pin::Listed(named) => named.iter().cloned().collect(),
            Pin::FirstUse | Pin::None => digests(&seen.pinned),
        },
        sessions: u64::try_from(count(&agent.name)).unwrap_or(u64::MAX),
    };
    let mut rows = Vec::new();
    for agent in agents.agents.values() {
        rows.push(row(agent, seen(world, &agent.name).await?));
    }
    Ok(Agents { agents: rows })
}

/// `agent.approve`: the digest is trusted once that is on record.
pub(crate) async fn approve(world: &Arc<World>, by: &Clearance, ask: Approval) -> Result<Approved, Fault> {
    if !world.configuration.load().agents.contains_key(&ask.agent) {
        return Err(Fault::missing("agent", &ask.agent));
    }
    let held = digests(&seen(world, &ask.agent).await?.held);
    let mut meant = held.into_iter().filter(|digest| digest.starts_with(&ask.digest));
    let digest = match (meant.next(), meant.next()) {
        (Some(digest), None) => digest,
        (Some(_), Some(_)) => {
            let fault = Fault::caller(Class::Usage, "agent.ambiguous", "more than one held digest begins so");
            return Err(fault.hint("write more of it"));
        }
        (None, _) => return Err(Fault::missing("held digest", &ask.digest)),
    };
    let uid = by.caller().uid();
    let event = AgentPinned { agent: ask.agent.clone(), digest: digest.clone(), uid: Some(uid) };
    world.record.fact(event.into()).await.map_err(|error| failed(&error))?;
    let (shared, agent, approved) = (Arc::clone(world), ask.agent.clone(), digest.clone());
    let done = tokio::task::spawn_blocking(move || shared.pins.approve(&agent, &approved, uid)).await;
    done.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(Approved { agent: ask.agent, digest })
}

async fn seen(world: &Arc<World>, agent: &AgentName) -> Result<Seen, Fault> {
    let (world, agent) = (Arc::clone(world), agent.clone());
    let seen = tokio::task::spawn_blocking(move || world.pins.list(&agent)).await;
    seen.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn digests(list: &[Digest]) -> Vec<String> {
    list.iter().map(|digest| digest.sha256.clone()).collect()
}

fn failed(error: &dyn std::fmt::Display) -> Fault {
    Fault::local(Class::Failed, "control.failed", error.to_string())
}
