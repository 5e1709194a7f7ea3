//! Runs from the first question of `writ run` to the last exit.
//!
//! A run is adopted first (cgroup, label, certificate authority) and has no session: whatever it tries is refused. Once
//! the daemon has seen for itself that it is confined, the session opens. Each run has one watcher, which waits for its
//! cgroup to become empty and then clears away everything that was made for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use writ_control::api::{Prepared, RunOpen, RunOpened};
use writ_control::{Answer, Caller, Class, Clearance, Fault, Opening};
use writ_core::service::HostPattern;
use writ_core::{
    ActsFor, AgentName, Grant, Protocol, RunId, Secret, SecretName, Service, SessionId, Timestamp,
};
use writ_gate::{Cause, Decide, Delegation, Human, Parent, Session, SessionFacts, limits};
use writ_session::launch::Certificates;
use writ_session::{Agent, Confinement, Live, OpenRequest, Peer, Program, Terms};

use crate::servers::{self, Channel};
use crate::world::World;
use crate::{admission, governing, people, trust};

/// An adopted run that waits for its session. Dropped, it stays without one until its process ends.
pub(crate) struct Adopted {
    world: Arc<World>,
    agent: Arc<Agent>,
    peer: Arc<Peer>,
    program: Program,
    facts: SessionFacts,
    ttl: Option<Duration>,
    /// What the daemon has between an MCP server and its client.
    between: Option<Channel>,
}

/// `run.open`.
pub(crate) async fn open(
    world: &Arc<World>,
    by: &Clearance,
    ask: RunOpen,
) -> Result<(Prepared, Box<dyn Opening>), Fault> {
    if !world.is_ready() {
        return Err(writ_core::Reason::NotReady.into());
    }
    let agent = world.configuration.load().agents.get(&ask.agent).cloned();
    let agent = agent.ok_or_else(|| {
        Fault::missing("agent", &ask.agent).hint("register it with a file in `agents/`, then `writ reload`")
    })?;
    let parent = if by.is_governed() { Some(starter(world, by.caller(), &agent)?) } else { None };
    let (peer, program) = admission::admit(world, by.caller(), &ask, (&agent, parent.as_ref())).await?;
    let between = servers::between(world, &agent, &peer, ask.files.between)?;
    let (run, session) = (world.registry.new_run(), world.registry.new_session());
    world.capture.create_run(run).map_err(|error| failed("capture.run", &error))?;
    // From here on the watcher clears away whatever comes to be, however this ends.
    watch(world, run, session);
    let unix = world.capture.allow_unix(run, &sockets(world, &agent.name, &agent.terms));
    unix.map_err(|error| failed("capture.run", &error))?;
    world
        .capture
        .adopt(run, peer.pidfd(), peer.process())
        .map_err(|error| failed("capture.adopt", &error))?;

    let placeholder = Certificates { authority: PathBuf::new(), bundle: PathBuf::new(), truststore: None };
    let mut prepared =
        Prepared::new(&agent, &peer, &world.layout, placeholder).map_err(|error| refused(&error))?;
    prepared.nested = parent.is_some();
    let human = accountable(world, &peer, (&agent, parent.as_ref()), prepared.uid)?;
    let opened = world.clock.now();
    let ttl = time_left(ask.ttl.map(writ_core::units::Span::get), parent.as_ref(), opened);
    let facts = SessionFacts {
        id: session,
        run,
        spiffe_id: world.settings.trust_domain.run_id(&agent.name, run),
        agent: agent.name.clone(),
        human,
        purpose: ask.purpose,
        opened,
        expires: opened.plus(ttl.unwrap_or(limits::SESSION_TTL_DEFAULT).min(agent.ttl_max)),
        assurance: world.capture.assurance(),
        delegation: handed_on(&agent, parent.as_ref(), ask.grants),
    };
    prepared.certificates = certificates(world, &facts, parent.as_ref()).await?;
    prepared.variables = variables(world, &facts);
    let adopted = Adopted { world: Arc::clone(world), agent, peer, program, facts, ttl, between };
    Ok((prepared, Box::new(adopted)))
}

/// The session of the run that the caller is in, if it may start this agent.
fn starter(world: &World, caller: &Caller, agent: &Agent) -> Result<Arc<Live>, Fault> {
    let denied = |message: &str| Fault::caller(Class::Denied, "session.not_started", message);
    let run = world.capture.run_of(caller.pidfd());
    let live =
        run.and_then(|run| world.registry.of_run(run)).ok_or_else(|| denied("the run has no session"))?;
    let facts = live.session.facts();
    if live.session.cause().is_some() {
        return Err(denied("the session of the run has ended"));
    }
    let own = world.configuration.load().agents.get(&facts.agent).cloned();
    if !own.is_some_and(|own| own.may_start.contains(&agent.name)) {
        return Err(denied("this agent may not start that one").hint("see `may_start` in the agent's file"));
    }
    // For which of its callers it would be started cannot be known.
    if facts.delegation.acts_for == ActsFor::Caller || agent.acts_for != ActsFor::Starter {
        return Err(denied(
            "only agents that act for who started them can start others, and be started by them",
        ));
    }
    Ok(live)
}

/// Who answers: the parent's human, the one whom the agent's file names, or whoever started it.
fn accountable(
    world: &World,
    peer: &Peer,
    (agent, parent): (&Agent, Option<&Arc<Live>>),
    run_uid: u32,
) -> Result<Human, Fault> {
    if let Some(parent) = parent {
        return Ok(Human { uid: run_uid, ..parent.session.facts().human.clone() });
    }
    let human = people::human(world, peer, run_uid).map_err(|error| refused(&error))?;
    Ok(answering(agent, human))
}

/// Who answers for a run of this agent that this human began.
pub(crate) fn answering(agent: &Agent, human: Human) -> Human {
    match (agent.acts_for, &agent.owner_human) {
        (ActsFor::Owner, Some(owner)) => {
            Human { id: owner.clone(), display: None, groups: Vec::new(), ..human }
        }
        _ => human,
    }
}

fn handed_on(agent: &Agent, parent: Option<&Arc<Live>>, grants: Vec<Grant>) -> Delegation {
    let mut handed = Delegation { acts_for: agent.acts_for, ..Delegation::default() };
    if let Some(facts) = parent.map(|live| live.session.facts()) {
        handed.grants = facts.delegation.grants.clone();
        handed.parents.clone_from(&facts.delegation.parents);
        handed.parents.push(Parent {
            agent: facts.agent.clone(),
            run: facts.run,
            session: facts.id,
            spiffe_id: facts.spiffe_id.clone(),
        });
    }
    handed.grants = handed.grants.narrowed(grants);
    handed
}

/// What was asked for, but never more than the parent has left.
fn time_left(asked: Option<Duration>, parent: Option<&Arc<Live>>, now: Timestamp) -> Option<Duration> {
    let Some(parent) = parent else { return asked };
    let left = parent.session.facts().expires.since(now);
    Some(asked.unwrap_or(limits::SESSION_TTL_DEFAULT).min(left))
}

fn variables(world: &World, facts: &SessionFacts) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("WRIT_RUN".to_owned(), facts.run.to_string()),
        ("WRIT_SPIFFE_ID".to_owned(), facts.spiffe_id.to_string()),
    ]);
    if world.settings.workload.socket {
        let socket = format!("unix://{}", world.layout.workload_socket().display());
        variables.insert("SPIFFE_ENDPOINT_SOCKET".to_owned(), socket);
    }
    variables
}

impl Opening for Adopted {
    fn ready(self: Box<Self>) -> Answer<'static, RunOpened> {
        Box::pin(async move {
            let Self { world, agent, peer, program, facts, ttl, between } = *self;
            between.as_ref().map_or(Ok(()), |channel| channel.check(&peer))?;
            let confinement = Confinement::observe(&peer, facts.human.uid, agent.terms.without_namespaces)
                .map_err(|e| refused(&e))?;
            let request = OpenRequest {
                agent: &agent,
                run: facts.run,
                session: facts.id,
                human: facts.human,
                purpose: facts.purpose,
                ttl,
                assurance: facts.assurance,
                process: peer.process().clone(),
                program,
                confinement,
                delegation: facts.delegation,
            };
            let live = world.registry.open(request).await.map_err(|error| refused(&error))?;
            cut_when_over(&world, &live);
            if let Some(channel) = between {
                servers::serve(&world, &live, channel)?;
            }
            let facts = live.session.facts();
            tracing::info!(target: "writ::session", session = %facts.id, agent = %facts.agent, "session opened");
            Ok(RunOpened {
                assurance: facts.assurance,
                expires: facts.expires.into(),
                human: facts.human.id.clone(),
                run: facts.run,
                session: facts.id,
                spiffe_id: facts.spiffe_id.clone(),
            })
        })
    }
}

/// The Unix sockets that a run may connect to: what its agent's file grants, where it finds its identity, and, if it may
/// start others, the daemon.
fn sockets(world: &World, agent: &AgentName, terms: &Terms) -> Vec<PathBuf> {
    let workload = world.settings.workload.socket.then(|| world.layout.workload_socket());
    let configuration = world.configuration.load();
    let starts = configuration.agents.get(agent).is_some_and(|agent| !agent.may_start.is_empty());
    let control = starts.then(|| world.layout.control_socket());
    terms.unix_sockets.iter().cloned().chain(workload).chain(control).collect()
}

/// Makes the session's authority and the files through which the run trusts it. A sub-agent's clients trust its parent's
/// root, which is mounted over the system's already; the certificates below it are its own.
async fn certificates(
    world: &Arc<World>,
    facts: &SessionFacts,
    parent: Option<&Arc<Live>>,
) -> Result<Certificates, Fault> {
    let names = names(world, &Session::new(facts.clone()));
    let (world, facts) = (Arc::clone(world), facts.clone());
    let parent = parent.map(|live| live.session.facts().id);
    let keep = move || -> anyhow::Result<Certificates> {
        let ca = match parent {
            None => world.authorities.open(&facts, &names)?,
            Some(parent) => world.authorities.restore(&facts, &names, &material(&world, parent)?)?,
        };
        let name = material_name(facts.id).context("no such name")?;
        world.store.internal().set(&name, &ca.material, world.clock.now())?;
        Ok(trust::write(&world.layout, facts.run, &ca.root_pem)?)
    };
    let kept = tokio::task::spawn_blocking(keep).await.map_err(|error| failed("session.files", &error))?;
    kept.map_err(|error| failed("session.files", &format!("{error:#}")))
}

/// The kept root of a session.
fn material(world: &World, session: SessionId) -> anyhow::Result<Secret<[u8]>> {
    let name = material_name(session).context("no such name")?;
    let material = world.store.internal().get(&name)?;
    material.context("its certificate authority is not in the store")
}

/// The names for which the session's authority may speak: those of TLS services that both keys could let it reach.
pub(crate) fn names(world: &World, session: &Session) -> Vec<HostPattern> {
    let services = world.catalog.services();
    let reachable = |service: &&Arc<Service>| {
        service.protocol == Protocol::Https && world.engine.reach(session, service).reaches(session)
    };
    services.iter().filter(reachable).flat_map(|service| service.hosts.iter().cloned()).collect()
}

/// Brings back the runs of before a restart, and ends those whose processes are gone.
pub(crate) fn restore(world: &Arc<World>) -> Result<(), writ_session::Error> {
    let restored = world.registry.restore()?;
    for live in &restored.live {
        if let Err(error) = resume(world, live) {
            // Its TLS is gone, so it can do nothing; that is said once, here.
            tracing::error!(target: "writ::session", session = %live.session.facts().id, %error, "a run is not resumed");
        }
    }
    for path in restored.damaged {
        tracing::error!(target: "writ::session", path = %path.display(), "a kept session is damaged; its run is refused");
    }
    // Runs without a session (it ended, or never opened) are cleared away when their last process exits.
    for run in world.capture.runs().unwrap_or_default() {
        if world.registry.of_run(run.tag()).is_none() {
            watch(world, run, SessionId::from_bits(0));
        }
    }
    Ok(())
}

fn resume(world: &Arc<World>, live: &Arc<Live>) -> anyhow::Result<()> {
    let facts = live.session.facts();
    if !world.capture.populated(facts.run)? {
        // What was not launched has no cgroup of its own.
        if !world.capture.assigned(facts.run)?.is_empty() {
            return governing::resume(world, live);
        }
        world.registry.end(facts.id, Cause::Exited)?;
        clear(world, facts.run, facts.id);
        return Ok(());
    }
    watch(world, facts.run, facts.id);
    cut_when_over(world, live);
    world.capture.create_run(facts.run)?;
    world.capture.allow_unix(facts.run, &sockets(world, &facts.agent, &live.start.terms))?;
    let material = material(world, facts.id)?;
    world.authorities.restore(facts, &names(world, &live.session), &material)?;
    Ok(())
}

/// Waits for the run's last process, then ends its session and clears away what was made for it.
fn watch(world: &Arc<World>, run: RunId, session: SessionId) {
    let watched = Arc::clone(world);
    world.tasks.spawn(async move {
        let world = watched;
        tokio::select! {
            emptied = world.capture.emptied(run) => {
                if let Err(error) = emptied {
                    tracing::error!(target: "writ::session", %run, %error, "a run cannot be watched");
                    return;
                }
            }
            // The run goes on without the daemon; the next one watches it again.
            () = world.stop.cancelled() => return,
        }
        // What it executed last is recorded before its end is.
        world.events.drain();
        if let Err(error) = world.registry.end(session, Cause::Exited) {
            tracing::error!(target: "writ::session", %session, %error, "a session's end is not kept");
        }
        let done = tokio::task::spawn_blocking(move || clear(&world, run, session)).await;
        if let Err(error) = done {
            tracing::error!(target: "writ::session", %run, %error, "a run was not cleared away");
        }
    });
}

/// Once its session is taken away, what the kernel let through for the run is cut: nobody else could.
fn cut_when_over(world: &Arc<World>, live: &Arc<Live>) {
    let (watched, live) = (Arc::clone(world), Arc::clone(live));
    world.tasks.spawn(async move {
        tokio::select! {
            () = live.session.ended() => {}
            () = watched.stop.cancelled() => return,
        }
        if live.session.cause() != Some(Cause::Exited) {
            let run = live.session.facts().run;
            drop(tokio::task::spawn_blocking(move || cut(&watched, run)).await);
        }
    });
}

/// Ends what the kernel let through for a run, and lets nothing through any more. Blocks.
pub(crate) fn cut(world: &World, run: RunId) {
    match world.capture.cut_run(run) {
        Ok(done) if done.left.is_empty() && done.trouble.is_none() => {}
        Ok(done) => {
            let (left, trouble) = (done.left.len(), done.trouble.map(|error| error.to_string()));
            tracing::warn!(target: "writ::session", %run, left, trouble, "connections of an ended session are left");
        }
        Err(error) => {
            tracing::error!(target: "writ::session", %run, %error, "connections of an ended session are left");
        }
    }
}

pub(crate) fn clear(world: &World, run: RunId, session: SessionId) {
    world.authorities.close(session);
    world.tallies.forget(session);
    let report = |what: &str, error: &dyn std::fmt::Display| {
        tracing::warn!(target: "writ::session", %run, %error, "{what} is left behind");
    };
    if let Some(name) = material_name(session)
        && let Err(error) = world.store.internal().remove(&name)
    {
        report("a key", &error);
    }
    if let Err(error) = trust::remove(&world.layout, run) {
        report("a folder", &error);
    }
    if let Err(error) = world.capture.forget_run(run) {
        report("a cgroup", &error);
    }
}

fn material_name(session: SessionId) -> Option<SecretName> {
    SecretName::new(&format!("session-ca.{session}")).ok()
}

/// Ends sessions whose time has passed, until the daemon stops. Looks every second: time limits are wall-clock time,
/// which may jump.
pub(crate) async fn expire(world: Arc<World>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = world.stop.cancelled() => return,
        }
        if let Err(error) = world.registry.expire_due(world.clock.now()) {
            tracing::error!(target: "writ::session", %error, "an expired session is still kept");
        }
    }
}

/// A fault of this host: what the operator can do is in the daemon's log.
fn failed(code: &str, error: &dyn std::fmt::Display) -> Fault {
    tracing::error!(target: "writ::session", code, %error, "a run was not opened");
    Fault::local(Class::Failed, code, error.to_string())
}

/// What the caller did wrong, in the words of the session's error; its hint is cut off into the fault's own place.
fn refused(error: &writ_session::Error) -> Fault {
    let text = error.to_string();
    let (message, hint) = match text.split_once("; hint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (text, None),
    };
    let fault = Fault::caller(Class::Denied, "session.refused", message);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}
