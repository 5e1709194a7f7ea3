//! Programs that Writ did not launch: which cgroups are governed, which run a process in them is given, and how that ends.
//!
//! A `[[govern]]` block names processes; [`subtrees`] tells the kernel, which holds them from their first instruction until
//! they are [`settling`]: attested, matched to one agent, and assigned that agent's run. Proactively when they execute a
//! program, at the latest when they connect or ask for a name. In networks of their own they are heard by [`ears`].
//!
//! Not here: how a process is held (capture's), what it is (session's), and what it may do (policy's). Invariants: a
//! process that is no agent has no run; a run that was taken away is not given again to those who had it, nor to what
//! they started; each process is looked at once at a time.

mod barred;
mod containers;
mod ears;
mod settling;
mod subtrees;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use writ_capture::{KernelEvent, Origin, Who};
use writ_core::{AgentName, Process, Reason, RunId, RunTag, Secret, SecretName, SessionId, Timestamp};
use writ_gate::{Cause, Human, Identify, SessionFacts, limits};
use writ_session::{Agent, Live};

use crate::world::World;
use crate::{runs, trust};
pub(crate) use subtrees::{follow, refuse_scripts};

/// The resolution of start times in `/proc`, microseconds.
const TICK_US: u64 = 10_000;
/// How often it is looked for programs and containers that could not be governed yet, and for runs whose last process is gone.
const LOOK: Duration = Duration::from_secs(1);
/// Every so many looks, all runs are looked at: events of exits may be lost.
const LOOKS_PER_SWEEP: u32 = 30;
/// How long the authority of an agent's governed processes holds. Units name its file, so it is not turned over.
const ROOT_TTL: Duration = Duration::from_hours(10 * 365 * 24);

/// What is known of governed processes, beside what the kernel keeps.
#[derive(Default)]
pub(crate) struct Governing {
    world: OnceLock<Weak<World>>,
    /// Live runs of governed processes.
    runs: Mutex<HashMap<RunTag, (RunId, SessionId)>>,
    /// Those of which a process exited.
    shrunk: Mutex<HashSet<RunTag>>,
    /// Told when that was the first one of its run, which is mostly the last.
    woken: Notify,
    barred: barred::Barred,
    desk: settling::Desk,
    subtrees: subtrees::Known,
    pub(crate) ears: ears::Ears,
    /// Told when the kernel governs a cgroup by itself, or one is gone.
    changed: Notify,
}

impl Governing {
    /// Looks with these parts from now on; before, every process is refused.
    pub(crate) fn look_with(&self, world: &Arc<World>) -> anyhow::Result<()> {
        self.barred.load(&world.layout)?;
        self.world.get_or_init(|| Arc::downgrade(world));
        Ok(())
    }

    /// The run for which the opener of a connection acts, or why there is none. A governed process without a run is looked
    /// at first.
    pub(crate) async fn run_of(&self, origin: &Origin) -> Result<RunTag, Reason> {
        match (origin.run, origin.governed) {
            (Some(run), _) if !self.is_held(origin) => Ok(run),
            (_, Some(_)) => {
                let world = self.world.get().and_then(Weak::upgrade).ok_or(Reason::NotReady)?;
                settling::settle(&world, &origin.process).await
            }
            (_, None) => Err(Reason::NoRun),
        }
    }

    /// Whether it is a governed process that must be looked at: without a run, or with one whose session is over.
    pub(crate) fn is_held(&self, origin: &Origin) -> bool {
        let is_live = |run| {
            let world = self.world.get().and_then(Weak::upgrade);
            world.is_some_and(|world| world.registry.identify(run).is_ok())
        };
        origin.governed.is_some() && !origin.run.is_some_and(is_live)
    }

    fn add(&self, run: RunId, session: SessionId) {
        lock(&self.runs).insert(run.tag(), (run, session));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Governs what the configuration names, and looks at what is there already. Once, before the daemon is ready.
pub(crate) async fn begin(world: &Arc<World>) -> anyhow::Result<()> {
    follow(world).await?;
    let shared = Arc::clone(world);
    let there = tokio::task::spawn_blocking(move || {
        ears::tend(&shared);
        shared.capture.members()
    });
    look_at_all(world, there.await??);
    Ok(())
}

/// One after the other.
fn look_at_all(world: &Arc<World>, mut processes: Vec<Process>) {
    // The elder first: a child belongs to the run of its parent.
    processes.sort_by_key(|process| process.start_us);
    let world = Arc::clone(world);
    world.clone().tasks.spawn(async move {
        for process in processes {
            tokio::select! {
                () = settling::look_at(&world, &process) => {}
                () = world.stop.cancelled() => return,
            }
        }
    });
}

/// Keeps governed what is to be and ends runs that nobody acts for any more, until the daemon stops.
pub(crate) async fn tend(world: Arc<World>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = 0_u32;
    loop {
        let shared = Arc::clone(&world);
        tokio::select! {
            _ = tick.tick() => {}
            () = world.governing.changed.notified() => {}
            () = world.governing.woken.notified() => {
                drop(tokio::task::spawn_blocking(move || sweep(&shared, Sweep::Early)).await);
                continue;
            }
            () = world.stop.cancelled() => return,
        }
        if let Err(error) = follow(&world).await {
            tracing::error!(target: "writ::govern", error = format!("{error:#}"), "subtrees could not be looked for");
        }
        let which = if looks.is_multiple_of(LOOKS_PER_SWEEP) { Sweep::All } else { Sweep::Shrunk };
        looks = looks.wrapping_add(1);
        let work = move || {
            ears::tend(&shared);
            sweep(&shared, which);
        };
        drop(tokio::task::spawn_blocking(work).await);
    }
}

/// Which runs to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// Those of which a process exits just now. It may still be there, so they are looked at again.
    Early,
    /// Those of which a process exited.
    Shrunk,
    /// All.
    All,
}

/// Ends the runs that no process acts for any more.
fn sweep(world: &World, which: Sweep) {
    let shrunk = std::mem::take(&mut *lock(&world.governing.shrunk));
    let runs: Vec<_> = lock(&world.governing.runs).iter().map(|(tag, ids)| (*tag, *ids)).collect();
    for (tag, (run, session)) in
        runs.into_iter().filter(|(tag, _)| which == Sweep::All || shrunk.contains(tag))
    {
        match world.capture.assigned(run) {
            Ok(left) if left.is_empty() => end(world, (run, session)),
            Ok(_) if which == Sweep::Early => drop(lock(&world.governing.shrunk).insert(tag)),
            Ok(_) => {}
            Err(error) => {
                lock(&world.governing.shrunk).insert(tag);
                tracing::warn!(target: "writ::govern", %run, %error, "a run cannot be watched");
            }
        }
    }
}

fn end(world: &World, (run, session): (RunId, SessionId)) {
    lock(&world.governing.runs).remove(&run.tag());
    // What it executed last is recorded before its end is.
    world.events.drain();
    if let Err(error) = world.registry.end(session, Cause::Exited) {
        tracing::error!(target: "writ::govern", %session, %error, "a session's end is not kept");
    }
    runs::clear(world, run, session);
}

/// Brings back a run of before a restart, whose processes are still there.
pub(crate) fn resume(world: &Arc<World>, live: &Arc<Live>) -> anyhow::Result<()> {
    let facts = live.session.facts();
    world.governing.add(facts.run, facts.id);
    watch(world, live);
    world.authorities.restore(facts, &runs::names(world, &live.session), &material(world, &facts.agent)?)?;
    Ok(())
}

/// When its session is taken away, those who have the run are barred and cut, and it is cleared away. One that has expired
/// is given anew to whoever is still an agent.
fn watch(world: &Arc<World>, live: &Arc<Live>) {
    let (watched, live) = (Arc::clone(world), Arc::clone(live));
    world.tasks.spawn(async move {
        tokio::select! {
            () = live.session.ended() => {}
            () = watched.stop.cancelled() => return,
        }
        let Some(cause) = live.session.cause().filter(|cause| *cause != Cause::Exited) else { return };
        let work = move || {
            let (world, facts) = (&watched, live.session.facts());
            if matches!(cause, Cause::Revoked | Cause::SignedOut) {
                let had = world.capture.assigned(facts.run).unwrap_or_default();
                if let Err(error) = world.governing.barred.add(&had, cause.reason()) {
                    tracing::error!(target: "writ::govern", %error, "a restart would let them act again");
                }
            }
            runs::cut(world, facts.run);
            lock(&world.governing.runs).remove(&facts.run.tag());
            runs::clear(world, facts.run, facts.id);
        };
        drop(tokio::task::spawn_blocking(work).await);
    });
}

/// What a kernel event means for governed processes.
pub(crate) fn notice(world: &Arc<World>, event: &KernelEvent) {
    match event {
        KernelEvent::Executed { who: Who::Unassigned(id), process, .. } => {
            // What it had before it became the program.
            if id.is_program() {
                cut_foreign(world, process.clone());
            }
            look(world, process.clone());
        }
        KernelEvent::Entered { process, .. } => {
            cut_foreign(world, process.clone());
            look(world, process.clone());
            let (shared, pid) = (Arc::clone(world), process.pid);
            world.tasks.spawn(async move { ears::await_network(&shared, pid).await });
        }
        KernelEvent::Unheard { process } => look(world, process.clone()),
        KernelEvent::Changed { .. } => world.governing.changed.notify_one(),
        KernelEvent::Exited { who, process } => {
            world.governing.barred.forget(process);
            if let Who::Run(run) = who
                && lock(&world.governing.runs).contains_key(run)
            {
                lock(&world.governing.shrunk).insert(*run);
                if world.registry.of_run(*run).is_some_and(|live| live.start.process.pid == process.pid) {
                    world.governing.woken.notify_one();
                }
            }
        }
        KernelEvent::Executed { .. } | KernelEvent::Refused { .. } | KernelEvent::LeftCgroup { .. } => {}
    }
}

fn look(world: &Arc<World>, process: Process) {
    let shared = Arc::clone(world);
    world.tasks.spawn(async move {
        let (ears, pid) = (Arc::clone(&shared), process.pid);
        drop(tokio::task::spawn_blocking(move || ears::listen(&ears, pid)).await);
        settling::look_at(&shared, &process).await;
    });
}

/// Ends the connections that a process made where no hook saw them.
fn cut_foreign(world: &Arc<World>, process: Process) {
    let shared = Arc::clone(world);
    world.tasks.spawn_blocking(move || match shared.capture.cut_foreign(&process) {
        Ok(cut) if cut.left.is_empty() => {}
        Ok(cut) => {
            let left = cut.left.len();
            tracing::warn!(target: "writ::govern", pid = process.pid, left, "it keeps connections of before");
        }
        // It may have ended, or left again.
        Err(error) => tracing::debug!(target: "writ::govern", pid = process.pid, %error, "nothing is cut"),
    });
}

/// Makes sure that the agent's governed processes have an authority, and writes the files through which they trust it.
fn provide(world: &World, agent: &Agent) -> anyhow::Result<()> {
    // Nobody's session: authorities are made for one.
    let (session, now) = (world.registry.new_session(), world.clock.now());
    let facts = nobody(world, &agent.name, session, now)?;
    let kept = world.store.internal().get(&material_name(&agent.name)?)?;
    let ca = match &kept {
        Some(material) => world.authorities.restore(&facts, &[], material),
        None => world.authorities.open(&facts, &[]),
    };
    world.authorities.close(session);
    let ca = ca?;
    if kept.is_none() {
        world.store.internal().set(&material_name(&agent.name)?, &ca.material, now)?;
    }
    trust::write_for_agent(&world.layout, &agent.name, &ca.root_pem)?;
    Ok(())
}

fn nobody(
    world: &World,
    agent: &AgentName,
    session: SessionId,
    now: Timestamp,
) -> anyhow::Result<SessionFacts> {
    let run = world.registry.new_run();
    let human = Human {
        id: "unix:0".parse()?,
        display: None,
        groups: Vec::new(),
        uid: 0,
        login_uid: None,
        audit_session: None,
    };
    Ok(SessionFacts {
        id: session,
        run,
        spiffe_id: world.settings.trust_domain.run_id(agent, run),
        agent: agent.clone(),
        human,
        purpose: String::new(),
        opened: now,
        expires: now.plus(ROOT_TTL),
        assurance: world.capture.assurance(),
        delegation: writ_gate::Delegation::default(),
    })
}

/// The kept root of an agent's governed processes.
fn material(world: &World, agent: &AgentName) -> anyhow::Result<Secret<[u8]>> {
    let material = world.store.internal().get(&material_name(agent)?)?;
    material.context("the certificate authority of its agent is not in the store")
}

fn material_name(agent: &AgentName) -> anyhow::Result<SecretName> {
    Ok(SecretName::new(&format!("govern-ca.{agent}"))?)
}

/// The longest that anybody waits for a process to be settled.
const PATIENCE: Duration = limits::HELLO_TIMEOUT;
