//! Sessions of callers: those whom the runs of service agents act for, with the handles and traces that name them.
//!
//! They live in memory alone and below the session of their run. After a restart of the daemon its runs go on, but every
//! handle and trace of before means nothing: the service is asked anew. Invariants: a handle or trace names at most one
//! caller, and only within the run that it was made for; it is never handed over to another one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use writ_core::event::SessionJoined;
use writ_core::{ActsFor, HumanId, IdSource, Reason, RunId, RunTag, SessionId, Timestamp};
use writ_gate::{
    BoxFuture, Caller, Cause, Delegation, Handle, Human, Join, Joined, Marks, Parent, Session, SessionFacts,
    TraceId, limits,
};

use super::{Live, Registry};
use crate::error::Error;

/// The callers of all runs.
pub(super) struct Callers {
    runs: Mutex<HashMap<RunTag, Arc<Guests>>>,
    /// What handles are made from: whoever has it could name any caller, so it never leaves here.
    key: hmac::Key,
}

/// The callers of one run.
#[derive(Default)]
struct Guests {
    table: Mutex<Table>,
    /// Held while a session is opened or prolonged, so that one caller has one. Ending never waits for it.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    guests: HashMap<Who, Guest>,
    /// Sessions by the digest of their handle.
    handles: HashMap<[u8; 32], Arc<Live>>,
    traces: HashMap<TraceId, Arc<Session>>,
}

/// Whom a session is for. Groups and the chain decide, so a token with others is another session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Who {
    human: HumanId,
    groups: Vec<String>,
    /// The runs through which they call.
    through: Vec<RunId>,
}

impl Who {
    fn of(human: &HumanId, groups: &[String], parents: &[Parent]) -> Self {
        let through = parents.iter().map(|parent| parent.run).collect();
        Self { human: human.clone(), groups: groups.to_vec(), through }
    }
}

/// The newest session of one of them. It stays when it has ended, so that what names it tells why.
struct Guest {
    live: Arc<Live>,
    /// Its traces, oldest first.
    traces: VecDeque<TraceId>,
}

impl Callers {
    pub(super) fn new(ids: &dyn IdSource) -> Self {
        let mut bits = [0u8; 32];
        let (low, high) = bits.split_at_mut(16);
        low.copy_from_slice(&ids.random().to_be_bytes());
        high.copy_from_slice(&ids.random().to_be_bytes());
        Self { runs: Mutex::default(), key: hmac::Key::new(hmac::HMAC_SHA256, &bits) }
    }

    /// The live ones of all runs.
    pub(super) fn list(&self) -> Vec<Arc<Live>> {
        let runs: Vec<_> = lock(&self.runs).values().cloned().collect();
        runs.iter().flat_map(|guests| lock(&guests.table).live()).collect()
    }

    /// The callers' sessions of a run that is over, to be ended. Nobody joins it any more.
    pub(super) fn close(&self, run: RunTag) -> Vec<Arc<Live>> {
        let guests = lock(&self.runs).remove(&run);
        guests.map(|guests| lock(&guests.table).live()).unwrap_or_default()
    }

    fn of(&self, run: RunTag) -> Option<Arc<Guests>> {
        lock(&self.runs).get(&run).cloned()
    }

    /// The table of a run, made when it is missing. A base that has ended has none: `close` came after its end.
    fn enter(&self, base: &Session) -> Result<Arc<Guests>, Error> {
        if base.facts().delegation.acts_for != ActsFor::Caller {
            return Err(Error::NotServing { agent: base.facts().agent.to_string() });
        }
        let mut runs = lock(&self.runs);
        match base.cause() {
            Some(cause) => Err(Error::Over(cause)),
            None => Ok(Arc::clone(runs.entry(base.facts().run.tag()).or_default())),
        }
    }

    /// The handle of a session: always the same, so that clients that keep things by token find them again.
    fn handle(&self, session: SessionId) -> Handle {
        let tag = hmac::sign(&self.key, &session.bits().to_be_bytes());
        let mut bits = [0u8; 32];
        bits.iter_mut().zip(tag.as_ref()).for_each(|(bit, byte)| *bit = *byte);
        Handle::new(&bits)
    }

    pub(super) fn acting(
        &self,
        run: RunTag,
        marks: &Marks<'_>,
        now: Timestamp,
    ) -> Result<Arc<Session>, Reason> {
        let guests = self.of(run).ok_or(Reason::NoHuman)?;
        let session = lock(&guests.table).acting(marks)?;
        match session.cause() {
            Some(cause) => Err(cause.reason()),
            None if session.expires() <= now => Err(Reason::SessionExpired),
            None => Ok(session),
        }
    }
}

impl Table {
    fn live(&self) -> Vec<Arc<Live>> {
        let live = |guest: &&Guest| guest.live.session.cause().is_none();
        self.guests.values().filter(live).map(|guest| Arc::clone(&guest.live)).collect()
    }

    fn acting(&self, marks: &Marks<'_>) -> Result<Arc<Session>, Reason> {
        let mut found: Option<&Arc<Session>> = None;
        for handle in marks.handles {
            let session = self.by_handle(handle).ok_or(Reason::NoHuman)?;
            if found.is_some_and(|other| other.facts().id != session.facts().id) {
                return Err(Reason::TwoHumans);
            }
            found = Some(session);
        }
        let traced = marks.trace.and_then(|trace| self.traces.get(&trace));
        match (found, traced) {
            (None, None) => Err(Reason::NoHuman),
            // The same human, though the trace may have begun in an earlier session of theirs.
            (Some(named), Some(traced)) if named.facts().human.id == traced.facts().human.id => {
                Ok(Arc::clone(named))
            }
            (Some(_), Some(_)) => Err(Reason::TwoHumans),
            (Some(session), None) | (None, Some(session)) => Ok(Arc::clone(session)),
        }
    }

    /// Found by digest, which tells nothing about the handle however long it takes; then compared in constant time.
    fn by_handle(&self, handle: &str) -> Option<&Arc<Session>> {
        let digest = digested(handle);
        let (known, live) = self.handles.get_key_value(&digest)?;
        verify_slices_are_equal(known, &digest).is_ok().then_some(&live.session)
    }

    fn known(&self, who: &Who) -> Option<Arc<Live>> {
        let guest = self.guests.get(who)?;
        guest.live.session.cause().is_none().then(|| Arc::clone(&guest.live))
    }

    /// Takes in a session. What is left of an earlier one of the same caller stays theirs.
    fn take_in(&mut self, who: Who, live: Arc<Live>, handle: &Handle) {
        self.handles.insert(digested(handle.as_str()), Arc::clone(&live));
        match self.guests.entry(who) {
            Entry::Occupied(mut known) => known.get_mut().live = live,
            Entry::Vacant(place) => {
                place.insert(Guest { live, traces: VecDeque::new() });
            }
        }
    }

    /// Makes room by forgetting those whose sessions ended first. Their handles and traces then name nobody.
    fn make_room(&mut self) {
        let over = |guest: &Guest| guest.live.session.cause().is_some();
        while self.guests.len() >= limits::CALLERS_PER_RUN_MAX {
            let ended = self.guests.iter().filter(|(_, guest)| over(guest));
            let eldest =
                ended.min_by_key(|(_, guest)| guest.live.session.facts().id).map(|(who, _)| who.clone());
            let Some(gone) = eldest.and_then(|who| self.guests.remove(&who)) else { return };
            for trace in gone.traces {
                self.traces.remove(&trace);
            }
        }
        // Handles of sessions that a later one of the same caller took the place of.
        if self.handles.len() >= 2 * limits::CALLERS_PER_RUN_MAX {
            self.handles.retain(|_, live| live.session.cause().is_none());
        }
    }

    fn note(&mut self, session: &Arc<Session>, trace: TraceId) -> bool {
        let facts = session.facts();
        let theirs = |bound: &Arc<Session>| {
            bound.facts().id == facts.id
                || (bound.facts().human.id == facts.human.id && bound.cause().is_some())
        };
        match self.traces.get(&trace) {
            Some(bound) if !theirs(bound) => return false,
            Some(bound) if bound.facts().id == facts.id => return true,
            Some(_) | None => {}
        }
        let who = Who::of(&facts.human.id, &facts.human.groups, &facts.delegation.parents);
        let Some(guest) = self.guests.get_mut(&who).filter(|guest| guest.live.session.facts().id == facts.id)
        else {
            return false;
        };
        if self.traces.insert(trace, Arc::clone(session)).is_none() {
            guest.traces.push_back(trace);
        }
        if guest.traces.len() > limits::TRACES_PER_CALLER_MAX
            && let Some(oldest) = guest.traces.pop_front()
        {
            self.traces.remove(&oldest);
        }
        true
    }
}

impl Registry {
    /// Lets the run of `base` act for a caller, in a session of theirs below it, and gives the handle that names them there.
    ///
    /// When this returns, the session's beginning is durable. It ends with `base`, when the newest token of the caller has
    /// ended, or when it is revoked.
    pub async fn serve(&self, base: &Arc<Session>, caller: Caller) -> Result<Joined, Error> {
        let now = self.clock.now();
        let until = caller.expires.min(base.expires());
        if until <= now {
            return Err(Error::Over(Cause::Expired));
        }
        let guests = self.callers.enter(base)?;
        let mut caller = caller;
        // What led to the run led to all that it does.
        caller.parents.extend(base.facts().delegation.parents.iter().cloned());
        let who = Who::of(&caller.human, &caller.groups, &caller.parents);
        let enough = |live: &Arc<Live>| lasts(&live.session, until, now);
        if let Some(live) = lock(&guests.table).known(&who).filter(enough) {
            return Ok(self.joined(&live));
        }
        let _turn = guests.opening.lock().await;
        let known = lock(&guests.table).known(&who);
        match known {
            // Its time passed, and nobody has looked since: it is not brought back.
            Some(live) if live.session.expires() <= now => {
                self.end(live.session.facts().id, Cause::Expired)?;
            }
            Some(live) => {
                if !enough(&live) {
                    self.record.fact(joined(&live.session, base, until).into()).await?;
                    live.session.prolong(until);
                }
                return Ok(self.joined(&live));
            }
            None => {}
        }
        self.check_callers(&guests)?;
        let live = self.below(base, caller, until)?;
        self.record.fact(joined(&live.session, base, until).into()).await?;
        // Crash here: its beginning is recorded, and nothing was done in it.
        let joined = self.joined(&live);
        let mut table = lock(&guests.table);
        if let Some(cause) = base.cause() {
            drop(table);
            live.session.end(cause);
            self.note_end(&live.session, cause);
            return Err(Error::Over(cause));
        }
        table.make_room();
        table.take_in(who, live, &joined.handle);
        Ok(joined)
    }

    /// Binds a trace to the session of a caller; `false` if it belongs to somebody else, or the session is over.
    pub fn note_trace(&self, session: &Arc<Session>, trace: TraceId) -> bool {
        let guests = self.callers.of(session.facts().run.tag());
        guests.is_some_and(|guests| lock(&guests.table).note(session, trace))
    }

    fn joined(&self, live: &Live) -> Joined {
        let session = Arc::clone(&live.session);
        Joined { handle: self.callers.handle(session.facts().id), session }
    }

    fn check_callers(&self, guests: &Guests) -> Result<(), Error> {
        let here = lock(&guests.table).live().len();
        let all = self.callers.list().len();
        if here >= limits::CALLERS_PER_RUN_MAX || all >= limits::CALLERS_MAX {
            return Err(Error::Busy { open: all });
        }
        Ok(())
    }

    fn below(&self, base: &Session, caller: Caller, until: Timestamp) -> Result<Arc<Live>, Error> {
        let run = self.of_run(base.facts().run.tag());
        let run = run.filter(|live| live.session.facts().id == base.facts().id);
        let start = run.ok_or(Error::Over(Cause::Exited))?.start.clone();
        let opened = self.clock.now();
        let human = Human {
            id: caller.human,
            display: caller.display,
            groups: caller.groups,
            uid: base.facts().human.uid,
            login_uid: None,
            audit_session: None,
        };
        let delegation = Delegation {
            acts_for: ActsFor::Starter,
            below: Some(base.facts().id),
            parents: caller.parents,
            ..base.facts().delegation.clone()
        };
        let facts = SessionFacts {
            id: self.new_session(),
            human,
            opened,
            expires: until,
            delegation,
            ..base.facts().clone()
        };
        Ok(Arc::new(Live { session: Arc::new(Session::new(facts)), start }))
    }
}

impl Join for Registry {
    fn join<'a>(&'a self, base: &'a Arc<Session>, caller: Caller) -> BoxFuture<'a, Result<Joined, Reason>> {
        Box::pin(async {
            self.serve(base, caller).await.map_err(|error| {
                tracing::info!(target: "writ::session", error = &error as &dyn std::error::Error, "a caller is not served");
                reason(&error)
            })
        })
    }

    fn note(&self, session: &Arc<Session>, trace: TraceId) -> bool {
        self.note_trace(session, trace)
    }
}

/// Whether a session lasts as long as a newer token wants, or nearly: each lengthening is recorded, so clients that get a
/// token per request must not cause one each.
fn lasts(session: &Session, until: Timestamp, now: Timestamp) -> bool {
    let (left, more) = (session.expires().since(now), until.since(session.expires()));
    !left.is_zero() && more < left / 4
}

fn joined(session: &Session, base: &Session, until: Timestamp) -> SessionJoined {
    SessionJoined {
        actor: session.actor(),
        below: base.facts().id,
        display: session.facts().human.display.clone(),
        expires_us: until,
        groups: session.facts().human.groups_on_record(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what cannot happen to a caller is a fault of this node")]
fn reason(error: &Error) -> Reason {
    match error {
        Error::Over(cause) => cause.reason(),
        Error::Busy { .. } => Reason::Busy,
        Error::Unrecorded(_) => Reason::EvidenceUnavailable,
        Error::NotServing { .. } => Reason::NoServer,
        _ => Reason::NotReady,
    }
}

fn digested(handle: &str) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    let digest = digest::digest(&digest::SHA256, handle.as_bytes());
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
