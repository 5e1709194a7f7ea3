//! The live sessions: opened once their opening is durable, found by run without a lock, ended once.
//!
//! Each session has a file until it ends, so that runs outlive a restart of the daemon. A file that cannot be read
//! is a session that is not restored: its run is refused everything, and the file is kept and named. Nothing here
//! runs by itself: whoever owns the registry calls [`Registry::expire_due`] at [`Registry::next_expiry`].

mod callers;
mod kept;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use writ_core::event::{SessionEnded, SessionOpened};
use writ_core::units::Span;
use writ_core::{
    AgentName, Assurance, Clock, HumanId, IdSource, Process, Reason, RunId, RunTag, SessionId, Timestamp,
    TrustDomain,
};
use writ_gate::{Cause, Delegation, Human, Identify, Ledger, Marks, Record, Session, SessionFacts, limits};
use writ_host::durable;

use crate::agent::{Agent, Terms};
use crate::attest::Program;
use crate::confinement::Confinement;
use crate::error::Error;
use callers::Callers;

/// A live session and how its run began.
#[derive(Debug)]
pub struct Live {
    /// The session.
    pub session: Arc<Session>,
    /// How it began.
    pub start: Start,
}

/// How a run began: what a restarted daemon must know beyond the session's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The first process. It may have exited since; the cgroup of the run tells whether anything is left.
    pub process: Process,
    /// What it executed.
    pub program: Program,
    /// What the agent's file granted when it began.
    pub terms: Terms,
    /// Protections it is without.
    pub dangers: Vec<String>,
}

/// Everything needed to open a session.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// The agent.
    pub agent: &'a Agent,
    /// The run, as its cgroup and label were made for ([`Registry::new_run`]).
    pub run: RunId,
    /// The session, as its certificate authority was made for ([`Registry::new_session`]).
    pub session: SessionId,
    /// The human, from [`crate::Peer::human`].
    pub human: Human,
    /// What it is for.
    pub purpose: String,
    /// The time limit; the default, or what the agent allows if that is less, when nobody asked.
    pub ttl: Option<Duration>,
    /// How strongly it is enforced.
    pub assurance: Assurance,
    /// The first process, from [`crate::Peer::process`].
    pub process: Process,
    /// What it will execute, from [`crate::program`].
    pub program: Program,
    /// How it is confined, from [`Confinement::observe`].
    pub confinement: Confinement,
    /// What it was handed on.
    pub delegation: Delegation,
}

/// Whose sessions to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// This session.
    Session(SessionId),
    /// Every session of a run.
    Run(RunId),
    /// Every session of an agent.
    Agent(AgentName),
    /// Every session of a human.
    Human(HumanId),
}

/// What [`Registry::restore`] found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Sessions that are live again. Those whose cgroup is empty are to be ended as exited.
    pub live: Vec<Arc<Live>>,
    /// Sessions whose time passed while the daemon was away; ended and recorded.
    pub expired: Vec<SessionId>,
    /// Files that are no session; kept, and their runs refused.
    pub damaged: Vec<PathBuf>,
}

/// The registry. Shared by reference.
pub struct Registry {
    folder: PathBuf,
    domain: TrustDomain,
    record: Arc<dyn Record>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    live: ArcSwap<HashMap<RunTag, Arc<Live>>>,
    /// Those whom these runs act for, each with a session below its run's.
    callers: Callers,
    /// Runs whose session ended, newest last: only they are told why. Asked on a miss alone.
    ended: std::sync::Mutex<VecDeque<(RunTag, Cause)>>,
    /// Held while a session is opened, so that limits hold. Ending one never waits for it.
    opening: Mutex<()>,
}

/// What the registry asks of others.
#[derive(Clone)]
pub struct Ports {
    /// The evidence.
    pub record: Arc<dyn Record>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub ids: Arc<dyn IdSource>,
}

impl Registry {
    /// An empty registry that keeps its sessions in this folder, which is made if it is missing.
    pub fn new(folder: impl Into<PathBuf>, domain: TrustDomain, ports: Ports) -> Result<Self, Error> {
        let folder = folder.into();
        durable::folder(&folder, 0o700)?;
        let Ports { record, clock, ids } = ports;
        let (live, ended, opening) = Default::default();
        let callers = Callers::new(&*ids);
        Ok(Self { folder, domain, record, clock, ids, live, callers, ended, opening })
    }

    /// An id for a run that is about to begin: its cgroup and label are made before its session is opened.
    pub fn new_run(&self) -> RunId {
        RunId::new(self.clock.now(), &*self.ids)
    }

    /// An id for a session that is about to be opened: its certificate authority is made before.
    pub fn new_session(&self) -> SessionId {
        SessionId::new(self.clock.now(), &*self.ids)
    }

    /// Opens a session. When this returns its opening is durable, its file is written, and its run may act.
    ///
    /// Writes one small file, so it may hold its thread for as long as the disk takes. Dropped before it is done, it
    /// opens nothing; the log may then hold an opening whose run never acts.
    pub async fn open(&self, request: OpenRequest<'_>) -> Result<Arc<Live>, Error> {
        let _opening = self.opening.lock().await;
        self.check_room(request.agent)?;
        let live = self.session(request)?;
        self.record.fact(opened(&live).into()).await?;
        // Crash here: an opening is recorded, and the run is refused everything: it is not among the restored.
        if let Err(error) = kept::write(&self.folder, &live) {
            self.note_end(&live.session, Cause::Exited);
            return Err(error.into());
        }
        self.publish(&live);
        // Its parent may have ended meanwhile, without having seen this one.
        if let Some(cause) = self.parent_is_over(&live.session) {
            self.end(live.session.facts().id, cause)?;
            return Err(Error::Over(cause));
        }
        Ok(live)
    }

    fn parent_is_over(&self, session: &Session) -> Option<Cause> {
        let parent = session.facts().delegation.parents.last()?;
        self.find(parent.session).map_or(Some(Cause::Exited), |live| live.session.cause())
    }

    /// Ends a session: cuts what it has under way, forgets it durably, records it. Whether it was live. With the session
    /// of a run end those of its callers, and, unless it just exited, those of the runs that it started.
    ///
    /// It is cut at once even if this fails; an error means that its file is still there, and a restart would
    /// bring it back.
    pub fn end(&self, id: SessionId, cause: Cause) -> Result<bool, Error> {
        let Some(live) = self.find(id) else { return Ok(false) };
        if !live.session.end(cause) {
            return Ok(false);
        }
        if live.session.facts().delegation.below.is_some() {
            self.note_end(&live.session, cause);
            return Ok(true);
        }
        // Crash here: nobody was told that it ended; a restart restores it.
        let run = live.session.facts().run.tag();
        for caller in self.callers.close(run) {
            if caller.session.end(cause) {
                self.note_end(&caller.session, cause);
            }
        }
        let forgotten = kept::remove(&self.folder, id);
        self.remember_end(run, cause);
        self.live.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.remove(&run);
            map
        });
        self.note_end(&live.session, cause);
        let below = self.end_all(self.started_by(id, cause), cause);
        forgotten.inspect_err(|error| {
            tracing::error!(target: "writ::session", session = %id, %error, "an ended session stays on disk");
        })?;
        below.map(|_| true)
    }

    /// The live sessions of runs that hang on this one. A run that exits leaves its sub-agents what they were handed.
    fn started_by(&self, id: SessionId, cause: Cause) -> Vec<Arc<Live>> {
        if cause == Cause::Exited {
            return Vec::new();
        }
        let hangs = |live: &Arc<Live>| {
            live.session.facts().delegation.parents.iter().any(|parent| parent.session == id)
        };
        self.list().into_iter().filter(hangs).collect()
    }

    /// Ends sessions because somebody ordered it ([`Cause::Revoked`]), or because their human is no longer signed in
    /// ([`Cause::SignedOut`]). Those that were live.
    pub fn revoke(&self, whose: &Revoked, cause: Cause) -> Result<Vec<SessionId>, Error> {
        let chosen = self.list().into_iter().filter(|live| {
            let facts = live.session.facts();
            match whose {
                Revoked::Session(id) => facts.id == *id,
                Revoked::Run(run) => facts.run == *run,
                Revoked::Agent(agent) => facts.agent == *agent,
                Revoked::Human(human) => facts.human.id == *human,
            }
        });
        self.end_all(chosen.collect(), cause)
    }

    /// The live sessions, oldest first: those of runs and those of callers, which have `delegation.below`.
    pub fn list(&self) -> Vec<Arc<Live>> {
        let mut all: Vec<_> = self.live.load().values().cloned().collect();
        all.extend(self.callers.list());
        all.sort_by_key(|live| live.session.facts().id);
        all
    }

    /// The live session with this id.
    pub fn find(&self, id: SessionId) -> Option<Arc<Live>> {
        let of_run = self.live.load().values().find(|live| live.session.facts().id == id).cloned();
        of_run.or_else(|| self.callers.list().into_iter().find(|live| live.session.facts().id == id))
    }

    /// The live session of a run itself, with how it began.
    pub fn of_run(&self, run: RunTag) -> Option<Arc<Live>> {
        self.live.load().get(&run).cloned()
    }

    /// When the next session reaches its time limit.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.list().iter().map(|live| live.session.expires()).min()
    }

    /// Ends every session whose time limit is `now` or earlier.
    pub fn expire_due(&self, now: Timestamp) -> Result<Vec<SessionId>, Error> {
        let due = self.list().into_iter().filter(|live| live.session.expires() <= now);
        self.end_all(due.collect(), Cause::Expired)
    }

    /// Brings back the sessions of before a restart. Called once, before anything is captured.
    pub fn restore(&self) -> Result<Restored, Error> {
        let mut restored = Restored::default();
        let now = self.clock.now();
        for path in kept::files(&self.folder)? {
            // Eldest first, so whoever it shares a ledger with is there before.
            let Some(live) = kept::read(&path, |delegation| self.ledger(delegation))?.map(Arc::new) else {
                tracing::error!(target: "writ::session", path = %path.display(), "not a kept session");
                restored.damaged.push(path);
                continue;
            };
            self.publish(&live);
            let facts = live.session.facts();
            if facts.expires <= now {
                self.end(facts.id, Cause::Expired)?;
                restored.expired.push(facts.id);
            } else {
                restored.live.push(live);
            }
        }
        Ok(restored)
    }

    fn end_all(&self, sessions: Vec<Arc<Live>>, cause: Cause) -> Result<Vec<SessionId>, Error> {
        let (mut ended, mut failed) = (Vec::new(), None);
        // One that cannot be forgotten does not keep the others alive.
        for live in sessions {
            let id = live.session.facts().id;
            match self.end(id, cause) {
                Ok(true) => ended.push(id),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    fn check_room(&self, agent: &Agent) -> Result<(), Error> {
        let live = self.live.load();
        if live.len() >= limits::SESSIONS_MAX {
            return Err(Error::Busy { open: live.len() });
        }
        let open = live.values().filter(|live| live.session.facts().agent == agent.name).count();
        if open >= agent.concurrent_runs_max {
            return Err(Error::AgentBusy { agent: agent.name.to_string(), open });
        }
        Ok(())
    }

    fn session(&self, request: OpenRequest<'_>) -> Result<Arc<Live>, Error> {
        let OpenRequest { agent, run, session, human, purpose, .. } = request;
        let OpenRequest { ttl, assurance, process, program, confinement, delegation, .. } = request;
        if human.uid == 0 || confinement.uid != human.uid {
            return Err(Error::Root { agent: agent.name.to_string() });
        }
        if purpose.len() > limits::PURPOSE_BYTES_MAX || purpose.chars().any(char::is_control) {
            return Err(Error::Purpose { max: limits::PURPOSE_BYTES_MAX });
        }
        let ttl = time_limit(agent, ttl)?;
        let opened = self.clock.now();
        let mut expires = opened.plus(ttl);
        if let Some(parent) = delegation.parents.last() {
            // A sub-agent is handed on what its parent has, and that is nothing once it ended.
            let parent = self.find(parent.session).ok_or(Error::Over(Cause::Exited))?;
            expires = expires.min(parent.session.expires());
        }
        let ledger = self.ledger(&delegation);
        let facts = SessionFacts {
            id: session,
            run,
            spiffe_id: self.domain.run_id(&agent.name, run),
            agent: agent.name.clone(),
            human,
            purpose,
            opened,
            expires,
            assurance,
            delegation,
        };
        // What is recorded is what was seen, not what was allowed: namespaces may be had all the same.
        let lacks = [("io_uring", agent.terms.io_uring), ("without_namespaces", !confinement.namespaces)];
        let dangers = lacks.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect();
        let start = Start { process, program, terms: agent.terms.clone(), dangers };
        Ok(Arc::new(Live { session: Arc::new(Session::sharing(facts, ledger)), start }))
    }

    /// The ledger of those who hang on the same first session; a new one if there are none.
    fn ledger(&self, delegation: &Delegation) -> Arc<Ledger> {
        let Some(eldest) = delegation.parents.first() else { return Arc::default() };
        let root = |live: &Arc<Live>| eldest_of(live.session.facts()) == eldest.session;
        let relative = self.live.load().values().find(|live| root(live)).cloned();
        relative.map_or_else(Arc::default, |live| Arc::clone(live.session.ledger()))
    }

    fn publish(&self, live: &Arc<Live>) {
        let run = live.session.facts().run.tag();
        self.live.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.insert(run, Arc::clone(live));
            map
        });
    }

    fn remember_end(&self, run: RunTag, cause: Cause) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= limits::SESSIONS_MAX {
            ended.pop_front();
        }
        ended.push_back((run, cause));
    }

    fn why_ended(&self, run: RunTag) -> Option<Cause> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().rev().find(|(tag, _)| *tag == run).map(|(_, cause)| *cause)
    }

    fn note_end(&self, session: &Session, cause: Cause) {
        let event = SessionEnded { actor: session.actor(), cause: cause.as_str().to_owned() };
        self.record.note(event.into());
    }
}

impl Identify for Registry {
    fn identify(&self, run: RunTag) -> Result<Arc<Session>, Reason> {
        let live = self.live.load();
        let Some(Live { session, .. }) = live.get(&run).map(AsRef::as_ref) else {
            return Err(self.why_ended(run).map_or(Reason::NoRun, Cause::reason));
        };
        match session.cause() {
            Some(cause) => Err(cause.reason()),
            None => Ok(Arc::clone(session)),
        }
    }

    fn acting(&self, session: &Arc<Session>, marks: &Marks<'_>) -> Result<Arc<Session>, Reason> {
        self.callers.acting(session.facts().run.tag(), marks, self.clock.now())
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("live", &self.live.load().len()).finish_non_exhaustive()
    }
}

/// The session that led to this one, through however many others; itself if none did.
fn eldest_of(facts: &SessionFacts) -> SessionId {
    facts.delegation.parents.first().map_or(facts.id, |parent| parent.session)
}

fn time_limit(agent: &Agent, asked: Option<Duration>) -> Result<Duration, Error> {
    match asked {
        None => Ok(limits::SESSION_TTL_DEFAULT.min(agent.ttl_max)),
        Some(ttl) if ttl.is_zero() => Err(Error::TtlZero),
        Some(ttl) if ttl > agent.ttl_max => Err(Error::TtlTooLong {
            agent: agent.name.to_string(),
            asked: Span::new(ttl),
            max: Span::new(agent.ttl_max),
        }),
        Some(ttl) => Ok(ttl),
    }
}

fn opened(live: &Live) -> SessionOpened {
    let (facts, start) = (live.session.facts(), &live.start);
    SessionOpened {
        actor: live.session.actor(),
        acts_for: facts.delegation.acts_for,
        assurance: facts.assurance,
        audit_session: facts.human.audit_session,
        dangers: start.dangers.clone(),
        display: facts.human.display.clone(),
        exe: start.program.path.clone(),
        exe_sha256: start.program.sha256.clone(),
        expires_us: facts.expires,
        grants: facts.delegation.grants.clone(),
        groups: facts.human.groups_on_record(),
        login_uid: facts.human.login_uid,
        parents: facts.delegation.parents.iter().map(|parent| parent.run).collect(),
        process: start.process.clone(),
        purpose: facts.purpose.clone(),
        script: start.program.script.clone(),
        uid: facts.human.uid,
    }
}

#[cfg(test)]
mod tests;
