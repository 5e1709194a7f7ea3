//! What a session did, as far as decisions depend on it: its labels, what it was counted for, what was approved for good.
//!
//! A run and the runs that it starts share one ledger, because what one of them read the others may know. Everything in it
//! is on record first or with the same event, so a restart makes it again from the evidence ([`Ledger::recall`]). Invariant:
//! it never says less than the record; where it cannot be exact, at the edges of a window, it says more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use writ_core::event::{ActionIntended, Counted, Request};
use writ_core::obligation::{Per, Rate};
use writ_core::{ApprovalId, Effect, Label, Obligation, OperationName, Reason, Timestamp};

use crate::limits;

/// The ledger of a session, or of all sessions that hang on one.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    labels: BTreeSet<Label>,
    done: BTreeMap<Effect, [Window; 3]>,
    /// By policy and what its obligation counts.
    spent: BTreeMap<(String, String), Window>,
    standing: BTreeMap<Place, Standing>,
}

/// Where an approval for the session holds: this operation, at this host and path.
type Place = (OperationName, String, String);

/// An approval for the rest of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The approval.
    pub approval: ApprovalId,
    /// The rules that it meets, as the record has them.
    pub rules: Vec<String>,
}

/// The facts of a session at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The labels that it acquired.
    pub labels: BTreeSet<Label>,
    /// How many actions of each effect it did in the last minute, hour and day. Absent: none.
    pub done: BTreeMap<Effect, [u64; 3]>,
    /// Operations that somebody approved for the rest of it.
    pub approved: BTreeSet<OperationName>,
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The labels changed after they were read: what was decided with them is to be decided again.
    Stale,
    /// There is no room.
    Full(Reason),
}

impl Ledger {
    /// A ledger that says this at that time. For questions about sessions that are not there.
    pub fn assuming(labels: BTreeSet<Label>, done: &BTreeMap<Effect, u64>, at: Timestamp) -> Self {
        let mut state = State { labels, ..State::default() };
        for (effect, number) in done {
            for (per, window) in Per::ALL.into_iter().zip(state.done.entry(*effect).or_default()) {
                window.add(per, at, *number);
            }
        }
        Self(Mutex::new(state))
    }

    /// The facts now.
    pub fn facts(&self, now: Timestamp) -> Facts {
        let state = self.state();
        let done = state.done.iter().map(|(effect, windows)| {
            let mut sums = Per::ALL.into_iter().zip(windows).map(|(per, window)| window.sum(per, now));
            (*effect, std::array::from_fn(|_| sums.next().unwrap_or(0)))
        });
        Facts {
            labels: state.labels.clone(),
            done: done.collect(),
            approved: state.standing.keys().map(|(operation, ..)| operation.clone()).collect(),
        }
    }

    /// The labels now.
    pub fn labels(&self) -> BTreeSet<Label> {
        self.state().labels.clone()
    }

    /// The approval for the session that holds for this request, if there is one.
    pub fn standing(&self, request: &Request) -> Option<Standing> {
        self.state().standing.get(&place(request)).cloned()
    }

    /// Whether these rates leave room for one more.
    pub(crate) fn has_room(&self, counted: &[Counted], now: Timestamp) -> bool {
        let state = self.state();
        counted.iter().all(|counted| state.room_for(counted, now))
    }

    /// Counts an action and takes on its labels, all or nothing. `known` are the labels that it was decided with. Gives those
    /// that are new.
    pub(crate) fn take(
        &self,
        known: &BTreeSet<Label>,
        (effect, labels): (Effect, &BTreeSet<Label>),
        counted: &[Counted],
        now: Timestamp,
    ) -> Result<BTreeSet<Label>, NotTaken> {
        let mut state = self.state();
        if state.labels != *known {
            return Err(NotTaken::Stale);
        }
        if !counted.iter().all(|counted| state.room_for(counted, now)) {
            return Err(NotTaken::Full(Reason::LimitReached));
        }
        let acquired: BTreeSet<Label> = labels.difference(&state.labels).cloned().collect();
        if state.labels.len() + acquired.len() > limits::LABELS_MAX {
            return Err(NotTaken::Full(Reason::LabelsFull));
        }
        state.enter((effect, &acquired), counted, now, Window::add);
        Ok(acquired)
    }

    /// Enters what the record says of an action that was done. For a daemon that starts.
    pub fn recall(&self, intent: &ActionIntended, at: Timestamp) {
        let terms = &intent.terms;
        self.state().enter((intent.request.effect, &terms.acquired), &terms.counted, at, Window::recall);
    }

    /// Lets an approval hold for the rest of the session. To be recorded before.
    pub fn stand(&self, request: &Request, standing: Standing) {
        let mut state = self.state();
        if state.standing.len() < limits::STANDING_APPROVALS_MAX {
            state.standing.insert(place(request), standing);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(request: &Request) -> Place {
    (request.operation.clone(), request.host.clone(), request.path.clone())
}

impl State {
    fn room_for(&self, counted: &Counted, now: Timestamp) -> bool {
        let Some((kind, rate)) = counter(counted) else { return false };
        match self.spent.get(&kind) {
            Some(window) => window.sum(rate.per, now).saturating_add(counted.amount) <= rate.most,
            None => self.spent.len() < limits::LEDGER_COUNTERS_MAX && counted.amount <= rate.most,
        }
    }

    fn enter(
        &mut self,
        (effect, acquired): (Effect, &BTreeSet<Label>),
        counted: &[Counted],
        at: Timestamp,
        add: fn(&mut Window, Per, Timestamp, u64),
    ) {
        self.labels.extend(acquired.iter().cloned());
        for (per, window) in Per::ALL.into_iter().zip(self.done.entry(effect).or_default()) {
            add(window, per, at, 1);
        }
        for counted in counted {
            if let Some((kind, rate)) = counter(counted) {
                add(self.spent.entry(kind).or_default(), rate.per, at, counted.amount);
            }
        }
    }
}

/// What is counted by: a change of the rate alone does not begin again from nothing.
fn counter(counted: &Counted) -> Option<((String, String), Rate)> {
    let (name, text) = counted.obligation.split_once(' ')?;
    match Obligation::read(name, text)?.ok()? {
        Obligation::Limit(rate) => Some(((counted.policy.clone(), rate.per.as_str().to_owned()), rate)),
        Obligation::Budget { argument, rate } => {
            Some(((counted.policy.clone(), format!("{argument} {}", rate.per.as_str())), rate))
        }
        Obligation::Approve(_) | Obligation::Label(_) => None,
    }
}

/// The slots that a window is divided into: what is counted leaves it at most one slot late, and never early.
const SLOTS: u64 = 60;

/// Sums in slots of time, oldest first.
#[derive(Debug, Default)]
struct Window(VecDeque<(u64, u64)>);

impl Window {
    fn slot(per: Per, at: Timestamp) -> u64 {
        let length = u64::try_from(per.length().as_micros()).unwrap_or(u64::MAX) / SLOTS;
        at.micros().checked_div(length).unwrap_or(0)
    }

    fn add(&mut self, per: Per, at: Timestamp, amount: u64) {
        let slot = Self::slot(per, at);
        while self.0.front().is_some_and(|(first, _)| first.saturating_add(SLOTS) < slot) {
            self.0.pop_front();
        }
        match self.0.back_mut() {
            // A clock that was set back counts into what is there: it then leaves later.
            Some((last, sum)) if *last >= slot => *sum = sum.saturating_add(amount),
            _ => self.0.push_back((slot, amount)),
        }
    }

    /// Adds what the record says; sessions that share a ledger are read one after the other.
    fn recall(&mut self, per: Per, at: Timestamp, amount: u64) {
        let slot = Self::slot(per, at);
        let last = self.0.back().map_or(slot, |(last, _)| *last);
        if slot >= last {
            return self.add(per, at, amount);
        }
        if slot.saturating_add(SLOTS) < last {
            return;
        }
        match self.0.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(found) => drop(self.0.get_mut(found).map(|(_, sum)| *sum = sum.saturating_add(amount))),
            Err(place) => self.0.insert(place, (slot, amount)),
        }
    }

    fn sum(&self, per: Per, now: Timestamp) -> u64 {
        let now = Self::slot(per, now);
        let counts = self.0.iter().filter(|(slot, _)| slot.saturating_add(SLOTS) >= now);
        counts.fold(0, |all, (_, sum)| all.saturating_add(*sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000 * SECOND + seconds * SECOND)
    }

    fn counted(obligation: &str, amount: u64) -> Vec<Counted> {
        vec![Counted { amount, obligation: obligation.to_owned(), policy: "p".to_owned() }]
    }

    fn take(ledger: &Ledger, counted: &[Counted], seconds: u64) -> Result<BTreeSet<Label>, NotTaken> {
        ledger.take(&ledger.labels(), (Effect::Write, &BTreeSet::new()), counted, at(seconds))
    }

    #[test]
    fn in_no_window_of_that_length_is_there_more_than_the_rate() {
        let (ledger, limit) = (Ledger::default(), counted("limit 5/min", 1));
        let mut done: Vec<u64> = Vec::new();
        for second in 0..600 {
            if take(&ledger, &limit, second).is_ok() {
                done.push(second);
            }
        }
        for first in &done {
            let within = done.iter().filter(|second| (*first..first + 60).contains(second)).count();
            assert!(within <= 5, "{within} in the minute from {first}");
        }
        assert!(done.len() >= 45, "and hardly fewer: {}", done.len());
        assert_eq!(ledger.facts(at(600)).done[&Effect::Write][1], done.len() as u64);
    }

    #[test]
    fn a_budget_sums_up_and_a_changed_rate_counts_on() {
        let ledger = Ledger::default();
        assert!(take(&ledger, &counted("budget amount 100/day", 60), 0).is_ok());
        let full = Err(NotTaken::Full(Reason::LimitReached));
        assert_eq!(take(&ledger, &counted("budget amount 100/day", 41), 3600), full);
        assert!(take(&ledger, &counted("budget amount 100/day", 40), 3600).is_ok());
        assert_eq!(take(&ledger, &counted("budget amount 100/day", 1), 80_000), full);
        assert!(take(&ledger, &counted("budget amount 200/day", 1), 80_000).is_ok());
        assert_eq!(take(&ledger, &counted("budget amount 100/day", 101), 900_000), full, "too much at once");
        assert_eq!(
            take(&ledger, &counted("nonsense", 1), 900_000),
            full,
            "what cannot be counted is refused"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_frees_nothing() {
        let (ledger, limit) = (Ledger::default(), counted("limit 1/min", 1));
        assert!(take(&ledger, &limit, 500).is_ok());
        assert!(take(&ledger, &limit, 0).is_err() && take(&ledger, &limit, 559).is_err());
        assert!(take(&ledger, &limit, 561).is_ok());
    }

    #[test]
    fn labels_are_taken_once_and_what_was_decided_before_is_stale() {
        let ledger = Ledger::default();
        let labels: BTreeSet<Label> = ["read:untrusted".parse().unwrap()].into();
        let none = BTreeSet::new();
        assert_eq!(ledger.take(&none, (Effect::Read, &labels), &[], at(0)), Ok(labels.clone()));
        assert_eq!(ledger.take(&none, (Effect::Read, &labels), &[], at(0)), Err(NotTaken::Stale));
        assert_eq!(ledger.take(&labels, (Effect::Read, &labels), &[], at(0)), Ok(none));
        let many = (0..limits::LABELS_MAX).map(|n| format!("l{n}").parse().unwrap()).collect();
        let full = Err(NotTaken::Full(Reason::LabelsFull));
        assert_eq!(ledger.take(&labels, (Effect::Read, &many), &[], at(0)), full);
        assert_eq!(ledger.labels(), labels);
    }
}
