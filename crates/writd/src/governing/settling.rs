//! Settling one held process: what it is, whose, and which run it gets.
//!
//! Off the runtime's threads, once at a time for each process and program. Whatever fails refuses: the process stays held.
//! A refusal is kept for a while, so that a process that tries again and again costs little, and is recorded once it
//! mattered: a shell that only starts the agent is refused too, and asks for nothing.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use writ_core::event::{AgentPinned, AgentRefused};
use writ_core::{AgentName, Process, Reason, RunTag, Timestamp};
use writ_gate::{Delegation, Human, Identify, Session, SessionFacts};
use writ_session::{Agent, Attested, Confinement, Error, Live, OpenRequest, Peer, Wanted, matching, pinned};

use super::{PATIENCE, TICK_US, containers, follow, lock, material, watch};
use crate::world::World;
use crate::{admission, people, runs};

/// Processes looked at at once; each may read whole files.
const AT_ONCE: usize = 4;
/// Processes that wait to be looked at. Past it they are refused, and asked again.
const WAITING_MAX: usize = 1_024;
/// Refusals that are kept, and for how long.
const REFUSALS_MAX: usize = 16_384;
const REFUSAL_TTL: Duration = Duration::from_secs(30);
/// Parents that are followed.
const PARENTS_MAX: usize = 32;

/// What came of it. A refusal is shared by all who wait for it.
type Outcome = Result<RunTag, Arc<Refused>>;
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// A process that gets no run.
struct Refused {
    reason: Reason,
    event: AgentRefused,
    /// Whether it is on record.
    told: AtomicBool,
    at: Timestamp,
}

/// Who is looked at, and who was refused.
pub(super) struct Desk {
    flights: Mutex<HashMap<Process, Flight>>,
    refused: Mutex<HashMap<Process, Arc<Refused>>>,
    room: Arc<Semaphore>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { flights: Mutex::default(), refused: Mutex::default(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Desk {
    /// Forgets refusals: the rules have changed.
    pub(super) fn forget(&self) {
        lock(&self.refused).clear();
    }

    fn recall(&self, process: &Process, now: Timestamp) -> Option<Arc<Refused>> {
        let kept = lock(&self.refused).get(process).cloned()?;
        (now.since(kept.at) < REFUSAL_TTL).then_some(kept)
    }

    fn keep(&self, process: &Process, refused: &Arc<Refused>) {
        let mut kept = lock(&self.refused);
        if kept.len() >= REFUSALS_MAX {
            kept.clear();
        }
        kept.insert(process.clone(), Arc::clone(refused));
    }
}

/// A process, held so that its number means nobody else.
struct Held {
    pidfd: OwnedFd,
    process: Process,
}

impl Held {
    /// `None` if it has ended.
    fn take(world: &World, pid: u32) -> Option<Self> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        let process = world.capture.process(pid, pidfd.as_fd())?;
        Some(Self { pidfd, process })
    }

    /// The one that is meant, if it still runs the program that it ran then.
    fn of(world: &World, meant: &Process) -> Option<Self> {
        let held = Self::take(world, meant.pid)?;
        let process = &held.process;
        let same = process.start_us.abs_diff(meant.start_us) < TICK_US
            && process.exec_generation == meant.exec_generation;
        same.then_some(held)
    }

    /// Its parent, held: it still has it afterwards, so that it is no other.
    fn parent(&self, world: &World) -> Option<Self> {
        let number =
            || status(self.process.pid)?.lines().find_map(|l| l.strip_prefix("PPid:"))?.trim().parse().ok();
        let before: u32 = number()?;
        let parent = Self::take(world, before).filter(|parent| parent.process.pid > 1)?;
        (number() == Some(before)).then_some(parent)
    }
}

fn status(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

/// The run of a process that wants something. The kernel said who it is when it asked; if it has executed another program
/// since, it was not that one that asked.
pub(super) async fn settle(world: &Arc<World>, asks: &Process) -> Result<RunTag, Reason> {
    let held = Held::of(world, asks).ok_or(Reason::Unattested)?;
    let flight = flight(world, held).ok_or(Reason::Busy)?;
    let outcome = tokio::time::timeout(PATIENCE, flight).await.map_err(|_| Reason::Unattested)?;
    outcome.map_err(|refused| {
        if !refused.told.swap(true, Ordering::Relaxed) {
            world.record.note(refused.event.clone().into());
        }
        refused.reason
    })
}

/// Looks at a process before it wants anything.
pub(super) async fn look_at(world: &Arc<World>, process: &Process) {
    let Some(held) = Held::take(world, process.pid) else { return };
    if held.process.start_us.abs_diff(process.start_us) < TICK_US
        && let Some(flight) = flight(world, held)
    {
        drop(flight.await);
    }
}

/// What comes of this process, for everybody who asks. `None` when too many wait.
fn flight(world: &Arc<World>, held: Held) -> Option<Flight> {
    let (desk, process) = (&world.governing.desk, held.process.clone());
    let mut flights = lock(&desk.flights);
    if let Some(flight) = flights.get(&process) {
        return Some(flight.clone());
    }
    if let Some(refused) = desk.recall(&process, world.clock.now()) {
        return Some(std::future::ready(Err(refused)).boxed().shared());
    }
    if flights.len() >= WAITING_MAX {
        return None;
    }
    let (shared, key) = (Arc::clone(world), process.clone());
    let work = world.tasks.spawn(async move {
        let (outcome, keep) = attempt(&shared, held).await;
        let desk = &shared.governing.desk;
        let mut flights = lock(&desk.flights);
        if let (Err(refused), true) = (&outcome, keep) {
            desk.keep(&key, refused);
        }
        flights.remove(&key);
        outcome
    });
    // Only a task that panicked does not come back, which it never does here; it refuses all the same.
    let (lost, at) = (process.clone(), world.clock.now());
    let done = work.map(move |done| done.unwrap_or_else(|_| Err(refused(&lost, Reason::Unattested, at))));
    let flight = done.boxed().shared();
    flights.insert(process, flight.clone());
    Some(flight)
}

fn refused(process: &Process, reason: Reason, at: Timestamp) -> Arc<Refused> {
    let event =
        AgentRefused { agent: None, exe: String::new(), process: process.clone(), reason, uid: u32::MAX };
    Arc::new(Refused { reason, event, told: AtomicBool::new(false), at })
}

/// Why a process has no run, as far as is known.
struct No {
    reason: Reason,
    /// For the operator.
    what: String,
    agent: Option<AgentName>,
    exe: String,
    uid: Option<u32>,
    /// Whether asking again soon is of no use.
    keep: bool,
}

impl No {
    fn new(reason: Reason, what: impl Into<String>) -> Self {
        let (agent, exe, uid) = Default::default();
        Self { reason, what: what.into(), agent, exe, uid, keep: true }
    }

    /// A failure of this host, which may be over soon.
    fn failed(error: &dyn std::fmt::Display) -> Self {
        Self { keep: false, ..Self::new(Reason::Unattested, error.to_string()) }
    }
}

/// The outcome, and whether to keep it.
async fn attempt(world: &Arc<World>, held: Held) -> (Outcome, bool) {
    let process = held.process.clone();
    let no = match Box::pin(assigned(world, held)).await {
        Ok(run) => return (Ok(run), false),
        Err(no) => no,
    };
    let No { reason, what, agent, exe, uid, keep } = no;
    tracing::info!(target: "writ::govern", pid = process.pid, reason = reason.code(), "it stays held: {what}");
    let event = AgentRefused { agent, exe, process, reason, uid: uid.unwrap_or(u32::MAX) };
    let refused = Refused { reason, event, told: AtomicBool::new(false), at: world.clock.now() };
    (Err(Arc::new(refused)), keep)
}

async fn assigned(world: &Arc<World>, held: Held) -> Result<RunTag, No> {
    if let Some(run) = standing(world, &held)? {
        return Ok(run);
    }
    let in_doubt = || world.capture.governs_process(held.process.pid) == containers::doubt();
    if in_doubt() {
        follow(world).await.map_err(|error| No::failed(&format!("{error:#}")))?;
        if in_doubt() {
            return Err(No { keep: false, ..No::new(Reason::Unattested, "its container is not known yet") });
        }
    }
    let (held, parents) = barred(world, held)?;
    let Some(parent) = parents else { return looked_at(world, held, None).await };
    // Its run may be this one's: it comes first, and may be under way.
    let of_parent = match standing(world, &parent)? {
        Some(run) => Some(run),
        None if world.capture.governs_process(parent.process.pid).is_some() => match flight(world, parent) {
            Some(flight) => flight.await.ok(),
            None => return Err(No { keep: false, ..No::new(Reason::Busy, "too many wait") }),
        },
        None => None,
    };
    looked_at(world, held, of_parent.and_then(|run| world.registry.of_run(run))).await
}

/// The run that it has already, inherited or given by somebody quicker. One that was taken away is not given back.
fn standing(world: &World, held: &Held) -> Result<Option<RunTag>, No> {
    let Some(run) = world.capture.run_of(held.pidfd.as_fd()) else { return Ok(None) };
    match world.registry.identify(run) {
        Ok(_) => Ok(Some(run)),
        Err(reason @ (Reason::SessionRevoked | Reason::SignedOut)) => {
            Err(No::new(reason, "its run was taken away"))
        }
        Err(_) => Ok(None),
    }
}

/// Refuses those whose run was taken away and what they started. Gives the parent.
fn barred(world: &World, held: Held) -> Result<(Held, Option<Held>), No> {
    let why = |held: &Held| match world.governing.barred.why(&held.process) {
        Some(reason) => Err(No::new(reason, "its run, or that of who started it, was taken away")),
        None => Ok(()),
    };
    why(&held)?;
    let first = held.parent(world);
    let mut next = first.as_ref().and_then(|parent| why(parent).map(|()| parent.parent(world)).transpose());
    for _ in 0..PARENTS_MAX {
        let Some(parent) = next.transpose()? else { break };
        why(&parent)?;
        next = parent.parent(world).map(Ok);
    }
    Ok((held, first))
}

/// What was found out of a process, off the runtime's threads.
struct Found {
    peer: Peer,
    attested: Arc<Attested>,
    agent: Arc<Agent>,
    human: Human,
    pinned: Option<String>,
}

async fn looked_at(world: &Arc<World>, held: Held, parent: Option<Arc<Live>>) -> Result<RunTag, No> {
    let _room = world.governing.desk.room.acquire().await.map_err(|error| No::failed(&error))?;
    let (shared, process, elder) = (Arc::clone(world), held.process.clone(), parent.clone());
    let look = move || look(&shared, held, elder.as_deref());
    let found = tokio::task::spawn_blocking(look).await.map_err(|error| No::failed(&error))??;
    if let Some(digest) = &found.pinned {
        let event = AgentPinned { agent: found.agent.name.clone(), digest: digest.clone(), uid: None };
        world.record.fact(event.into()).await.map_err(|error| No::failed(&error))?;
    }
    if let Some(run) = parent.and_then(|live| joined(world, &found, (&process, &live))) {
        return Ok(run);
    }
    begun(world, found, process).await
}

fn look(world: &World, held: Held, parent: Option<&Live>) -> Result<Found, No> {
    let unproven = |error: &dyn std::fmt::Display| No::new(Reason::Unattested, error.to_string());
    let pid = held.process.pid;
    let peer = Peer::held(held.pidfd, pid).map_err(|error| unproven(&error))?;
    let of = |no: No| No { uid: Some(peer.uid()), ..no };
    ordinary(&peer).map_err(of)?;
    let configuration = world.configuration.load_full();
    let wanted = Wanted::of(configuration.agents.values());
    let known = world.attestors.recall(&peer, &held.process, &wanted);
    let attested = known.map_or_else(
        || {
            let agents = parent.map(admission::agents_of).unwrap_or_default();
            let lineage = admission::lineage(world, &peer, &wanted, agents);
            let found = world.attestors.found(&peer, &held.process, &lineage, &wanted);
            found.map_err(|refusal| of(No::new(refusal.reason, refusal.to_string())))
        },
        Ok,
    )?;
    // Had it executed a program before it was attested, its number of programs would be that of another one.
    if world.capture.process(pid, peer.pidfd()).as_ref() != Some(&held.process) {
        let no = No::new(Reason::Unattested, "it executed a program while it was looked at");
        return Err(No { keep: false, ..of(no) });
    }
    let told = |agent: Option<&Arc<Agent>>, refusal: writ_session::Refusal| {
        let agent = agent.map(|agent| agent.name.clone());
        of(No { agent, exe: attested.program().path, ..No::new(refusal.reason, refusal.to_string()) })
    };
    let agent = matching(&configuration.agents, &attested).map_err(|refusal| told(None, refusal))?;
    let pinned = pinned(&world.pins, agent, &attested).map_err(|refusal| told(Some(agent), refusal))?;
    let human = people::human(world, &peer, peer.uid()).map_err(|error| of(unproven(&error)))?;
    let (human, agent) = (runs::answering(agent, human), Arc::clone(agent));
    Ok(Found { peer, attested, agent, human, pinned })
}

/// A run is never root's, nor that of somebody who may become another: all four uids are one.
fn ordinary(peer: &Peer) -> Result<(), No> {
    let text = status(peer.process().pid).unwrap_or_default();
    let uids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let uids: Vec<u32> = uids.split_ascii_whitespace().filter_map(|uid| uid.parse().ok()).collect();
    // Read by its number: only if it is still there was it the one.
    if uids.len() == 4 && uids.iter().all(|uid| *uid == peer.uid() && *uid != 0) && peer.is_alive() {
        return Ok(());
    }
    Err(No::new(Reason::NoAgent, "it is root, or could become somebody else"))
}

/// The run of its parent, if that is of the same agent and for the same human.
fn joined(world: &World, found: &Found, (process, parent): (&Process, &Arc<Live>)) -> Option<RunTag> {
    let facts = parent.session.facts();
    let same = facts.agent == found.agent.name
        && facts.human.uid == found.human.uid
        && facts.human.id == found.human.id;
    if !same || parent.session.cause().is_some() {
        return None;
    }
    world.capture.assign(found.peer.pidfd(), process, facts.run).ok()?;
    // It may have ended between the two.
    parent.session.cause().is_none().then(|| facts.run.tag())
}

/// Begins a run of its own.
#[expect(clippy::wildcard_enum_match_arm, reason = "most of its errors are of one kind")]
async fn begun(world: &Arc<World>, found: Found, process: Process) -> Result<RunTag, No> {
    let (agent, exe, uid) = (found.agent.name.clone(), found.attested.program().path, found.peer.uid());
    let no = |what: String, reason: Reason| No {
        agent: Some(agent.clone()),
        exe: exe.clone(),
        uid: Some(uid),
        keep: false,
        ..No::new(reason, what)
    };
    let failed = |error: &dyn std::fmt::Display| no(error.to_string(), Reason::Unattested);
    let facts = facts(world, &found);
    let (run, session) = (facts.run, facts.id);
    authorize(world, &facts).await.map_err(|error| failed(&format!("{error:#}")))?;
    // Nothing keeps it from io_uring or from what its user may see: its session's opening says so.
    let mut as_found = Agent::clone(&found.agent);
    (as_found.terms.io_uring, as_found.terms.without_namespaces) = (true, true);
    let request = OpenRequest {
        agent: &as_found,
        run,
        session,
        human: facts.human,
        purpose: facts.purpose,
        ttl: Some(found.agent.ttl_max),
        assurance: facts.assurance,
        process: process.clone(),
        program: found.attested.program(),
        confinement: Confinement { namespaces: false, uid },
        delegation: facts.delegation,
    };
    // The label before the session: a process that is another program by now has had none. Until the session is open, a run
    // without one is held like no run.
    let assigned = world.capture.assign(found.peer.pidfd(), &process, run);
    assigned.map_err(|error| {
        world.authorities.close(session);
        failed(&error)
    })?;
    let live = world.registry.open(request).await.map_err(|error| {
        world.capture.unassign(found.peer.pidfd(), process.pid);
        world.authorities.close(session);
        match error {
            Error::AgentBusy { .. } | Error::Busy { .. } => no(error.to_string(), Reason::Busy),
            _ => failed(&error),
        }
    })?;
    world.governing.add(run, session);
    watch(world, &live);
    let agent = &live.session.facts().agent;
    tracing::info!(target: "writ::session", %session, %agent, pid = process.pid, "session of a governed process");
    Ok(run.tag())
}

fn facts(world: &World, found: &Found) -> SessionFacts {
    let (run, opened) = (world.registry.new_run(), world.clock.now());
    SessionFacts {
        id: world.registry.new_session(),
        run,
        spiffe_id: world.settings.trust_domain.run_id(&found.agent.name, run),
        agent: found.agent.name.clone(),
        human: found.human.clone(),
        purpose: "governed where it was found".to_owned(),
        opened,
        expires: opened.plus(found.agent.ttl_max),
        assurance: world.capture.assurance(),
        delegation: Delegation { acts_for: found.agent.acts_for, ..Delegation::default() },
    }
}

/// Gives the session an authority below its agent's root.
async fn authorize(world: &Arc<World>, facts: &SessionFacts) -> anyhow::Result<()> {
    let (world, facts) = (Arc::clone(world), facts.clone());
    let work = move || {
        let names = runs::names(&world, &Session::new(facts.clone()));
        world.authorities.restore(&facts, &names, &material(&world, &facts.agent)?)?;
        Ok(())
    };
    tokio::task::spawn_blocking(work).await?
}
