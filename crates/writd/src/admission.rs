//! Whether a process is the agent that it is started as: attested, matched, pinned, and on record when it is not.

use std::sync::Arc;

use writ_control::api::RunOpen;
use writ_control::{Caller, Class, Fault};
use writ_core::AgentName;
use writ_core::event::{AgentPinned, AgentRefused};
use writ_core::selector::Key;
use writ_session::{Agent, Attested, Lineage, Live, Opened, Peer, Program, Refusal, Wanted, admits, pinned};

use crate::world::World;

/// Attests what the caller is about to execute, and says whether that is this agent. A refusal is recorded.
pub(crate) async fn admit(
    world: &Arc<World>,
    caller: &Caller,
    ask: &RunOpen,
    (agent, parent): (&Arc<Agent>, Option<&Arc<Live>>),
) -> Result<(Arc<Peer>, Program), Fault> {
    let pidfd = caller.pidfd().try_clone_to_owned();
    let (pid, uid, gid) = (caller.pid(), caller.uid(), caller.gid());
    let opened = Opened { program: ask.files.program, script: ask.files.script };
    let (shared, wanted_by) = (Arc::clone(world), Arc::clone(agent));
    let agents = parent.map(|live| agents_of(live));
    let work = move || {
        let peer = pidfd.map_err(|error| failed(&error))?;
        let peer = Arc::new(Peer::behind(peer, pid, uid, gid).map_err(|error| failed(&error))?);
        let found = look(&shared, &peer, (&wanted_by, opened), agents.unwrap_or_default());
        Ok::<_, Fault>((peer, found))
    };
    // Files are hashed and runtimes asked: off the runtime's threads.
    let (peer, found) = tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))??;
    match found {
        Ok((attested, pinned)) => {
            if let Some(digest) = pinned {
                let event = AgentPinned { agent: agent.name.clone(), digest, uid: None };
                world.record.fact(event.into()).await.map_err(|error| failed(&error))?;
            }
            Ok((peer, attested.program()))
        }
        Err((refusal, exe)) => {
            let event = AgentRefused {
                agent: Some(agent.name.clone()),
                exe,
                process: peer.process().clone(),
                reason: refusal.reason,
                uid,
            };
            world.record.note(event.into());
            Err(refused(&refusal))
        }
    }
}

/// What was found, or why not, with the path of what it would have executed.
type Found = Result<(Attested, Option<String>), (Refusal, String)>;

fn look(world: &World, peer: &Peer, (agent, opened): (&Arc<Agent>, Opened), agents: Vec<AgentName>) -> Found {
    let wanted = Wanted::of([agent]);
    let lineage = lineage(world, peer, &wanted, agents);
    let attested = world.attestors.launched(peer, opened, &lineage, &wanted);
    let attested = attested.map_err(|refusal| (refusal, String::new()))?;
    let path = |refusal| (refusal, attested.program().path);
    admits(agent, &attested).map_err(path)?;
    let pinned = pinned(&world.pins, agent, &attested).map_err(path)?;
    Ok((attested, pinned))
}

/// Where a process comes from, as far as rules ask.
pub(crate) fn lineage(world: &World, peer: &Peer, wanted: &Wanted, agents: Vec<AgentName>) -> Lineage {
    let asked = [Key::LineagePath, Key::LineageSha256].iter().any(|key| wanted.has(*key));
    let ancestors = if asked { world.attestors.ancestors(peer) } else { Vec::new() };
    Lineage { ancestors, agents }
}

/// The agents of a session's run and of those that led to it, nearest first.
pub(crate) fn agents_of(live: &Live) -> Vec<AgentName> {
    let facts = live.session.facts();
    let elder = facts.delegation.parents.iter().rev().map(|parent| parent.agent.clone());
    std::iter::once(facts.agent.clone()).chain(elder).collect()
}

/// The operator's words: they name keys of selectors, and never a value.
fn refused(refusal: &Refusal) -> Fault {
    let text = match std::error::Error::source(refusal) {
        Some(source) => format!("{refusal}: {source}"),
        None => refusal.to_string(),
    };
    let (message, hint) = text.split_once("; hint: ").unwrap_or((&text, ""));
    let fault = Fault::caller(Class::Denied, refusal.reason.code(), message);
    if hint.is_empty() { fault.hint(refusal.reason.hint()) } else { fault.hint(hint) }
}

fn failed(error: &dyn std::fmt::Display) -> Fault {
    tracing::error!(target: "writ::session", %error, "a caller could not be attested");
    Fault::local(Class::Failed, "session.peer", error.to_string())
}
