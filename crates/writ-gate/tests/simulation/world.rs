//! One random world: its ports, its steps, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use writ_core::clock::ManualClock;
use writ_core::event::{Event, Key, Keys, LeaseFate};
use writ_core::service::{
    Conditions, Headers, Needed, OperationRule, PathTemplate, RequestHead, Selection, Upstream,
};
use writ_core::{
    ActionId, ActsFor, AgentName, Assurance, Clock, ConnId, Effect, HostName, HumanId, IdSource, Mode,
    Operation, OperationName, Placement, Process, Protocol, Reason, RunId, RunTag, Secret, Service,
    ServiceName, SessionId, Timestamp,
};
use writ_gate::{
    Admitted, Asked, Body, BoxFuture, Catalog, Cause, Conn, Credential, Decide, Delegation, Destination,
    Ended, Exchange, Gate, Human, Identify, Lease, Marks, Mint, MintError, Minted, Moment, Permit, Ports,
    Refusal, Session, SessionFacts, TraceId, Verdict,
};

use crate::duties::Duties;
use crate::log::{Disk, Log, Mood, lock};

/// What is wrong with the log on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    AnswersEarly,
    LosesReceipts,
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) struct Dice(AtomicU64);

impl Dice {
    fn roll(&self, sides: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

impl IdSource for Dice {
    fn random(&self) -> u128 {
        u128::from(self.roll(u64::MAX)) << 64 | u128::from(self.roll(u64::MAX))
    }
}

/// What is true, which the ports report.
struct Truth {
    session: Mutex<Arc<Session>>,
    /// The sessions below it, each named by a handle and a trace, if it acts for callers.
    callers: Mutex<Vec<Arc<Session>>>,
    service: Arc<Service>,
    permits: AtomicBool,
    /// Whether what policy refuses is done all the same.
    observes: AtomicBool,
    duties: Arc<Duties>,
    /// What the next mint does, and after how many polls.
    mint: Mutex<(Issuer, u32)>,
    minted: Mutex<BTreeMap<ActionId, u32>>,
    disk: Arc<Mutex<Disk>>,
    clock: Arc<ManualClock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issuer {
    Lends,
    NeedsNothing,
    Fails,
}

impl Truth {
    fn alive(&self, session: &Session) -> bool {
        session.cause().is_none() && self.clock.now() < session.facts().expires
    }

    fn violate(&self, what: &str) {
        lock(&self.disk).violations.push(what.to_owned());
    }
}

impl Identify for Truth {
    fn identify(&self, run: RunTag) -> Result<Arc<Session>, Reason> {
        let session = lock(&self.session);
        if session.facts().run.tag() == run { Ok(Arc::clone(&session)) } else { Err(Reason::NoRun) }
    }

    fn acting(&self, base: &Arc<Session>, marks: &Marks<'_>) -> Result<Arc<Session>, Reason> {
        if base.facts().delegation.acts_for != ActsFor::Caller {
            self.violate("I8: a run that acts for its starter is asked for a caller");
        }
        let callers = lock(&self.callers);
        let below = |session: &&Arc<Session>| session.facts().delegation.below == Some(base.facts().id);
        let by = |n: usize| callers.get(n).filter(below);
        let mut named =
            marks.handles.iter().map(|handle| by(handle.len())).chain(marks.trace.map(|t| by(traced(t))));
        let first = named.next().ok_or(Reason::NoHuman)?.ok_or(Reason::NoHuman)?;
        // It may name one that has ended: the gate must look for itself.
        let agree = named.all(|other| other.is_some_and(|other| Arc::ptr_eq(other, first)));
        if agree { Ok(Arc::clone(first)) } else { Err(Reason::TwoHumans) }
    }
}

impl Catalog for Truth {
    fn service(&self, destination: &Destination) -> Result<Arc<Service>, Reason> {
        if destination.name.is_some() { Ok(Arc::clone(&self.service)) } else { Err(Reason::NoService) }
    }

    fn select(&self, s: &Service, _: &HostName, head: &RequestHead<'_>) -> Result<Selection, Reason> {
        if head.path != "/known" {
            return Err(Reason::NoOperation);
        }
        let rule = s.operations.first().map(Arc::clone).ok_or(Reason::NoOperation)?;
        let operation = Operation { rule, arguments: BTreeMap::new() };
        Ok(Selection { candidates: vec![operation], reads_body: head.query.is_some() })
    }

    fn operation(
        &self,
        selected: Selection,
        head: &RequestHead<'_>,
        body: Option<&[u8]>,
    ) -> Result<Operation, Reason> {
        assert_eq!(selected.reads_body, body.is_some(), "a body is handed on where it is read: {head:?}");
        selected.candidates.into_iter().next().ok_or(Reason::NoOperation)
    }
}

impl Decide for Truth {
    fn reach(&self, _: &Session, _: &Service) -> Verdict {
        verdict(true, true)
    }

    fn could(&self, _: &Session, _: &Service, _: &OperationRule) -> Verdict {
        verdict(self.permits.load(Ordering::Relaxed), true)
    }

    fn decide(&self, session: &Session, _: &Service, _: &Operation, _: &Moment<'_>) -> Verdict {
        if !self.alive(session) {
            self.violate("I8: a session that has ended is decided on");
        }
        let mode = if self.observes.load(Ordering::Relaxed) { Mode::Observe } else { Mode::Enforce };
        let verdict = verdict(self.permits.load(Ordering::Relaxed), true);
        let owed = if verdict.permits() { self.duties.owed() } else { Vec::new() };
        Verdict { mode, owed, ..verdict }
    }
}

/// The caller whom a trace names.
fn traced(trace: TraceId) -> usize {
    trace.bytes()[0].into()
}

fn verdict(agent: bool, human: bool) -> Verdict {
    let key = |permitted| Key { permitted, policies: Vec::new() };
    Verdict {
        keys: Keys { agent: key(agent), human: key(human), policy_digest: String::new() },
        reason: None,
        owed: Vec::new(),
        mode: Mode::Enforce,
    }
}

impl Mint for Truth {
    fn mint<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<Minted, MintError>> {
        let (issuer, mut polls) = *lock(&self.mint);
        let both = permit.keys().agent.permitted && permit.keys().human.permitted;
        if !self.alive(permit.session()) || !both && permit.observed().is_none() {
            self.violate("I8: a credential is asked for without a live session or without both keys");
        }
        Box::pin(std::future::poll_fn(move |_| {
            if !lock(&self.disk).intended.contains(&permit.action()) {
                self.violate("I2: a credential is minted before its intent is durable");
            }
            if let Some(left) = polls.checked_sub(1) {
                polls = left;
                return Poll::Pending;
            }
            Poll::Ready(match issuer {
                Issuer::Fails => Err(MintError { reason: Reason::BrokerFailed, detail: "down".to_owned() }),
                Issuer::NeedsNothing => Ok(Minted { credentials: Vec::new() }),
                Issuer::Lends => {
                    *lock(&self.minted).entry(permit.action()).or_default() += 1;
                    let secret = Secret::<str>::new("a-lent-credential".to_owned()).unwrap();
                    Ok(Minted { credentials: vec![Credential { place: Placement::Bearer, secret }] })
                }
            })
        }))
    }

    fn end(&self, lease: &Lease, _: bool) -> LeaseFate {
        match lock(&self.minted).get_mut(&lease.permit().action()) {
            Some(open) if *open > 0 => *open -= 1,
            _ => self.violate("I3: a lease ends that was not minted, or ends twice"),
        }
        LeaseFate::Standing
    }
}

/// A body that is there, or is lost.
struct Small(Result<&'static [u8], Reason>);

impl Body for Small {
    fn read(&mut self, _: Needed) -> BoxFuture<'_, Result<&[u8], Reason>> {
        Box::pin(std::future::ready(self.0))
    }
}

/// An action being decided, with the session that its request names, if it names one.
struct Task {
    deciding: Pin<Box<dyn Future<Output = Result<Exchange, Refusal>>>>,
    /// `Err` for one that must be refused, whatever policy says.
    names: Result<SessionId, Reason>,
}

pub(crate) struct World {
    dice: Arc<Dice>,
    truth: Arc<Truth>,
    log: Arc<Log>,
    gate: Gate,
    conns: Vec<Arc<Admitted>>,
    tasks: Vec<Task>,
    exchanges: Vec<Exchange>,
    /// Actions that were answered with a refusal.
    refused: BTreeSet<ActionId>,
    /// Actions that were permitted.
    permitted: BTreeSet<ActionId>,
    /// Of a daemon that died: kept so that nothing of it runs.
    dead: Vec<Box<dyn std::any::Any>>,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Fault) -> Self {
        let dice = Arc::new(Dice(AtomicU64::new(seed)));
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000)));
        let disk = Arc::new(Mutex::new(Disk::default()));
        let truth = Arc::new(Truth {
            session: Mutex::new(session(&dice, clock.now(), None)),
            callers: Mutex::default(),
            service: service(),
            permits: AtomicBool::new(true),
            observes: AtomicBool::new(false),
            duties: Arc::default(),
            mint: Mutex::new((Issuer::Lends, 0)),
            minted: Mutex::default(),
            disk: Arc::clone(&disk),
            clock,
        });
        let log = Arc::new(Log { disk, epoch: 0, fault, next: Mutex::new((Mood::Writes, 0)) });
        let gate = gate(&truth, &log, &dice);
        Self {
            dice,
            truth,
            log,
            gate,
            conns: Vec::new(),
            tasks: Vec::new(),
            exchanges: Vec::new(),
            refused: BTreeSet::new(),
            permitted: BTreeSet::new(),
            dead: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self) {
        match self.dice.roll(40) {
            0..5 => self.connect(),
            5..13 => self.ask(),
            13..25 => self.poll_one(),
            25 | 26 => self.cancel_one(),
            27..30 => self.finish_one(),
            30 => drop(pick(&mut self.exchanges, &self.dice)),
            31 => {
                self.truth.permits.store(self.dice.roll(3) > 0, Ordering::Relaxed);
                self.truth.observes.store(self.dice.roll(4) == 0, Ordering::Relaxed);
                self.truth.duties.change(|sides| self.dice.roll(sides));
            }
            32 => self.disturb_log(),
            33 => self.disturb_issuer(),
            34 => self.move_clock(),
            35 | 36 => self.end_session(),
            37 => self.crash(),
            _ => self.renew_session(),
        }
    }

    fn connect(&mut self) {
        let known = self.dice.roll(6) > 0;
        let tag = lock(&self.truth.session).facts().run.tag();
        let name = (self.dice.roll(8) > 0).then(|| HostName::new("api.test").unwrap());
        let conn = Conn {
            id: ConnId::new(self.truth.clock.now(), &*self.dice),
            run: if known { Ok(tag) } else { RunTag::from_kernel(self.dice.roll(3)).ok_or(Reason::NoRun) },
            process: process(),
            exec: Arc::from([]),
            destination: Destination { address: "198.18.0.1:443".parse().unwrap(), name },
        };
        let before = refusals(&lock(&self.truth.disk).durable).len();
        match self.gate.admit(conn) {
            Ok(admitted) => {
                if !known || !self.truth.alive(admitted.session()) {
                    self.truth.violate("I8: a connection is admitted without a live session");
                }
                self.conns.push(Arc::new(admitted));
            }
            Err(_) => {
                if refusals(&lock(&self.truth.disk).durable).len() != before + 1 {
                    self.truth.violate("I3: a refused connection is not recorded once");
                }
            }
        }
    }

    fn ask(&mut self) {
        if self.conns.is_empty() {
            return;
        }
        let at = self.dice.roll(self.conns.len() as u64) as usize;
        let (gate, admitted) = (self.gate.clone(), Arc::clone(&self.conns[at]));
        let path = if self.dice.roll(8) > 0 { "/known" } else { "/other" };
        // A query stands for a body that is to be read, and may have been lost.
        let query = (self.dice.roll(2) > 0).then_some("");
        let lost = query.is_some() && self.dice.roll(4) == 0;
        let (handles, trace) = self.marks();
        let names = self.names(&admitted, &handles, trace);
        let deciding = Box::pin(async move {
            let host = HostName::new("api.test").unwrap();
            let head = RequestHead { method: "GET", path, query, headers: Headers::default() };
            let mut body = Small(if lost { Err(Reason::BodyTooLarge) } else { Ok(b"{}") });
            let marks = Marks { handles: &handles, trace };
            gate.action(&admitted, Asked { host: &host, head, marks, body: &mut body }).await
        });
        self.tasks.push(Task { deciding, names });
    }

    /// Marks of a request: none, one or several, true or invented. A handle names the caller with the number of its length.
    fn marks(&self) -> (Vec<&'static str>, Option<TraceId>) {
        let handle = |n: u64| ["", "a", "bb", "ccc"][n as usize];
        let handles = (0..self.dice.roll(3)).map(|_| handle(self.dice.roll(4))).collect();
        let n = self.dice.roll(5) as u8;
        (handles, (n < 4).then(|| TraceId::new([n, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]).unwrap()))
    }

    /// In whose session a request must act, found without asking the port.
    fn names(
        &self,
        admitted: &Admitted,
        handles: &[&str],
        trace: Option<TraceId>,
    ) -> Result<SessionId, Reason> {
        let base = admitted.session().facts();
        if base.delegation.acts_for != ActsFor::Caller {
            return Ok(base.id);
        }
        let numbers: BTreeSet<usize> =
            handles.iter().map(|handle| handle.len()).chain(trace.map(traced)).collect();
        let mut numbers = numbers.into_iter();
        let (first, other) = (numbers.next().ok_or(Reason::NoHuman)?, numbers.next());
        if other.is_some() {
            return Err(Reason::TwoHumans);
        }
        let callers = lock(&self.truth.callers);
        let caller = callers.get(first).filter(|session| session.facts().delegation.below == Some(base.id));
        caller.map(|session| session.facts().id).ok_or(Reason::NoHuman)
    }

    fn poll_one(&mut self) {
        let Some(mut task) = pick(&mut self.tasks, &self.dice) else { return };
        let durable = lock(&self.truth.disk).durable.len();
        match task.deciding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.tasks.push(task),
            Poll::Ready(Ok(exchange)) => {
                self.check_actor(&task.names, &exchange);
                if !lock(&self.truth.disk).intended.contains(&exchange.action()) {
                    self.truth.violate("I2: a credential is exposed before its intent is durable");
                }
                if !self.truth.alive(exchange.session()) {
                    self.truth.violate("I8: a credential is exposed to a session that has ended");
                }
                self.permitted.insert(exchange.action());
                self.exchanges.push(exchange);
            }
            Poll::Ready(Err(Refusal { action: Some(action), .. })) => {
                self.refused.insert(action);
            }
            Poll::Ready(Err(_)) => self.truth.violate("I3: a refused action has no id"),
        }
        self.check_intents(durable);
    }

    /// A caller's action is in that caller's session and in no other: neither the run's own nor another caller's.
    fn check_actor(&self, names: &Result<SessionId, Reason>, exchange: &Exchange) {
        let acts = exchange.session().facts();
        if *names != Ok(acts.id) || acts.delegation.acts_for == ActsFor::Caller {
            self.truth.violate("I8: an action in a session that its request does not name");
        }
        let action = exchange.action();
        let recorded = lock(&self.truth.disk).durable.iter().any(|event| match event {
            Event::ActionIntended(intent) => {
                intent.action == action
                    && intent.actor.session == acts.id
                    && intent.actor.human == acts.human.id
            }
            _ => false,
        });
        if !recorded {
            self.truth.violate("I2: the intent names another session than the one that acts");
        }
    }

    /// I8: what became an intent in this step was permitted by everything that was asked.
    fn check_intents(&self, from: usize) {
        let mut disk = lock(&self.truth.disk);
        let bad = disk.durable[from..].iter().any(|event| match event {
            Event::ActionIntended(intent) => {
                let both = intent.keys.agent.permitted && intent.keys.human.permitted;
                // What is done in spite of a key says so; otherwise, only what was owed and not met does.
                let unmet = [Some(Reason::ApprovalRequired), Some(Reason::LimitReached)];
                both == (intent.observed.is_some() && !unmet.contains(&intent.observed))
            }
            _ => false,
        });
        if bad {
            disk.violations.push("I8: an intent without both keys".to_owned());
        }
    }

    fn cancel_one(&mut self) {
        drop(pick(&mut self.tasks, &self.dice));
    }

    fn finish_one(&mut self) {
        let Some(exchange) = pick(&mut self.exchanges, &self.dice) else { return };
        exchange.finish(Ended::completed(Some(200)));
    }

    fn disturb_log(&mut self) {
        let mood = match self.dice.roll(4) {
            0 => Mood::Refuses,
            1 => Mood::FailsButPersists,
            _ => Mood::Writes,
        };
        *lock(&self.log.next) = (mood, self.dice.roll(3) as u32);
    }

    fn disturb_issuer(&mut self) {
        let issuer = match self.dice.roll(4) {
            0 => Issuer::Fails,
            1 => Issuer::NeedsNothing,
            _ => Issuer::Lends,
        };
        *lock(&self.truth.mint) = (issuer, self.dice.roll(4) as u32);
    }

    fn move_clock(&mut self) {
        let now = self.truth.clock.now();
        if self.dice.roll(3) == 0 {
            self.truth.clock.jump_to(Timestamp::from_micros(now.micros() - 5_000_000));
        } else {
            self.truth.clock.advance(Duration::from_secs(self.dice.roll(400)));
        }
    }

    fn end_session(&mut self) {
        let cause = if self.dice.roll(2) == 0 { Cause::Revoked } else { Cause::Exited };
        let callers = lock(&self.truth.callers);
        match self.dice.roll(3) {
            // One caller alone.
            0 if !callers.is_empty() => {
                callers[self.dice.roll(callers.len() as u64) as usize].end(cause);
            }
            _ => {
                lock(&self.truth.session).end(cause);
                for session in &*callers {
                    session.end(cause);
                }
            }
        }
    }

    fn renew_session(&mut self) {
        let mut current = lock(&self.truth.session);
        let now = self.truth.clock.now();
        let mut callers = lock(&self.truth.callers);
        if !self.truth.alive(&current) {
            *current = session(&self.dice, now, None);
            callers.clear();
            if self.dice.roll(2) == 0 {
                let base = Arc::clone(&current);
                *current = serving(&base);
                callers.extend((0..4).map(|n| session(&self.dice, now, Some((&current, n)))));
            }
        }
    }

    /// The daemon dies between two polls: nothing of it runs any more, not even a destructor that is heard.
    fn crash(&mut self) {
        lock(&self.truth.disk).crash();
        self.dead.push(Box::new(std::mem::take(&mut self.tasks)));
        self.dead.push(Box::new(std::mem::take(&mut self.exchanges)));
        self.conns.clear();
        lock(&self.truth.minted).clear();
        let (disk, epoch) = (Arc::clone(&self.truth.disk), self.log.epoch + 1);
        let next = Mutex::new(*lock(&self.log.next));
        self.log = Arc::new(Log { disk, epoch, fault: self.log.fault, next });
        self.gate = gate(&self.truth, &self.log, &self.dice);
    }

    /// Every action comes to its end, and the daemon stops and starts once more.
    pub(crate) fn drain(&mut self) {
        for mut task in std::mem::take(&mut self.tasks) {
            for _ in 0..=self.dice.roll(16) {
                match task.deciding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => continue,
                    Poll::Ready(Ok(exchange)) => {
                        self.permitted.insert(exchange.action());
                    }
                    Poll::Ready(Err(refusal)) => self.refused.extend(refusal.action),
                }
                break;
            }
        }
        drop(std::mem::take(&mut self.exchanges));
        let mut disk = lock(&self.truth.disk);
        disk.flush();
        disk.settle();
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let disk = lock(&self.truth.disk);
        if let Some(what) = disk.violations.first() {
            return Err(what.clone());
        }
        self.truth.duties.wrong(&disk.durable).map_or(Ok(()), |what| Err(what.to_owned()))
    }

    pub(crate) fn check_drained(&self) -> Result<(), String> {
        self.check()?;
        if lock(&self.truth.minted).values().any(|open| *open > 0) {
            return Err("I3: a lease was never ended".to_owned());
        }
        let disk = lock(&self.truth.disk);
        let mut count: BTreeMap<ActionId, [u32; 3]> = BTreeMap::new();
        for event in &disk.durable {
            match event {
                Event::ActionIntended(e) => count.entry(e.action).or_default()[0] += 1,
                Event::ActionClosed(e) => count.entry(e.action).or_default()[1] += 1,
                Event::ActionRefused(e) => count.entry(e.action).or_default()[2] += 1,
                _ => {}
            }
        }
        for (action, [intents, receipts, refusals]) in &count {
            if intents != receipts || *intents > 1 || *refusals > 1 {
                return Err(format!(
                    "I3: {action}: {intents} intents, {receipts} receipts, {refusals} refusals"
                ));
            }
        }
        for action in &self.permitted {
            if count.get(action).is_none_or(|c| c[1] != 1 || c[2] != 0) {
                return Err(format!("I3: the permitted {action} has no receipt, or a refusal"));
            }
        }
        for action in &self.refused {
            if count.get(action).is_none_or(|c| c[1] + c[2] == 0) {
                return Err(format!("I3: the refused {action} left nothing"));
            }
        }
        Ok(())
    }

    /// How each action and connection ended, in short.
    pub(crate) fn story(&self) -> Vec<String> {
        let disk = lock(&self.truth.disk);
        let line = |event: &Event| match event {
            Event::ActionRefused(e) => Some(format!("refused {:?}", e.reason)),
            Event::ConnectionRefused(e) => Some(format!("refused {:?}", e.reason)),
            Event::ActionClosed(e) => {
                Some(format!("closed {:?} {:?} {:?}", e.outcome, e.lease_fate, e.reason))
            }
            _ => None,
        };
        disk.durable.iter().filter_map(line).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A later epoch, so that what dies with the world is not heard.
        lock(&self.truth.disk).epoch = u64::MAX;
        lock(&self.truth.minted).clear();
    }
}

fn refusals(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| matches!(event, Event::ConnectionRefused(_))).collect()
}

fn pick<T>(items: &mut Vec<T>, dice: &Dice) -> Option<T> {
    let at = dice.roll(items.len().max(1) as u64) as usize;
    (at < items.len()).then(|| items.swap_remove(at))
}

fn gate(truth: &Arc<Truth>, log: &Arc<Log>, dice: &Arc<Dice>) -> Gate {
    Gate::new(Ports {
        approve: Arc::clone(&truth.duties) as _,
        identify: truth.clone(),
        catalog: truth.clone(),
        decide: truth.clone(),
        mint: truth.clone(),
        record: log.clone(),
        clock: truth.clock.clone(),
        ids: dice.clone(),
    })
}

fn process() -> Process {
    Process { exec_generation: 1, pid: 7, start_us: 1 }
}

/// The same session, acting for callers.
fn serving(base: &Session) -> Arc<Session> {
    let delegation = Delegation { acts_for: ActsFor::Caller, ..Delegation::default() };
    Arc::new(Session::new(SessionFacts { delegation, ..base.facts().clone() }))
}

/// A run's own session, or that of a caller of it.
fn session(dice: &Dice, now: Timestamp, below: Option<(&Session, usize)>) -> Arc<Session> {
    let (run, agent) = (RunId::new(now, dice), AgentName::new("coder").unwrap());
    let run = below.map_or(run, |(base, _)| base.facts().run);
    let name = below.map_or("unix:alice".to_owned(), |(_, n)| format!("oidc:https://id.test#{n}"));
    let domain = writ_core::TrustDomain::new("example.test").unwrap();
    Arc::new(Session::new(SessionFacts {
        id: SessionId::new(now, dice),
        run,
        spiffe_id: domain.run_id(&agent, run),
        agent,
        human: Human {
            id: HumanId::new(&name).unwrap(),
            display: None,
            groups: Vec::new(),
            uid: 1000,
            login_uid: None,
            audit_session: None,
        },
        purpose: String::new(),
        opened: now,
        expires: now.plus(Duration::from_mins(15)),
        assurance: Assurance::Kernel,
        delegation: Delegation { below: below.map(|(base, _)| base.facts().id), ..Delegation::default() },
    }))
}

fn service() -> Arc<Service> {
    let rule = OperationRule {
        name: OperationName::new("api/read").unwrap(),
        effect: Effect::Read,
        methods: Vec::new(),
        path: PathTemplate { text: "/known".to_owned(), segments: Vec::new() },
        when: Conditions::default(),
        arguments: BTreeMap::new(),
        graphql: None,
        labels: BTreeSet::new(),
        mcp: None,
    };
    Arc::new(Service {
        name: ServiceName::new("api").unwrap(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![443],
        protocol: Protocol::Https,
        virtual_hosts: false,
        mode: Mode::Enforce,
        upstream: Upstream::default(),
        credential: None,
        operations: vec![Arc::new(rule)],
    })
}
