//! What policies ask for in the simulated worlds, the people who say yes or no, and what must hold of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use writ_core::event::{ActionIntended, Event};
use writ_core::{ApprovalId, Label, Obligation, Reason, SessionId};
use writ_gate::{Approve, BoxFuture, Owed, Wanted};

use crate::log::lock;

/// No world lasts a day, so no session ever does more.
const LIMIT: &str = "1/day";

/// What is owed now, and how people answer.
#[derive(Default)]
pub(crate) struct Duties {
    /// A bit each: a label, a limit, an approval.
    owed: AtomicU64,
    /// What people say next, and after how many polls.
    people: Mutex<(Option<Reason>, u32)>,
    given: Mutex<BTreeMap<ApprovalId, SessionId>>,
}

impl Duties {
    /// Policies and people change their minds.
    pub(crate) fn change(&self, roll: impl Fn(u64) -> u64) {
        self.owed.store(if roll(2) == 0 { roll(8) } else { 0 }, Ordering::Relaxed);
        let says = match roll(4) {
            0 => Some(Reason::ApprovalDenied),
            1 => Some(Reason::ApprovalExpired),
            _ => None,
        };
        *lock(&self.people) = (says, u32::try_from(roll(4)).unwrap());
    }

    pub(crate) fn owed(&self) -> Vec<Owed> {
        let bits = self.owed.load(Ordering::Relaxed);
        let all = [("label", "seen"), ("limit", LIMIT), ("approve", "owner")];
        let chosen = (0..).zip(all).filter(|(bit, _)| bits & (1 << bit) != 0);
        let owed = |(_, (name, text))| Owed {
            policy: "p".to_owned(),
            obligation: Obligation::read(name, text).unwrap().unwrap(),
        };
        chosen.map(owed).collect()
    }

    /// What is wrong with the intents of a world, if something is.
    pub(crate) fn wrong(&self, durable: &[Event]) -> Option<&'static str> {
        let (mut spent, mut counted) = (BTreeSet::new(), BTreeMap::new());
        let mut acquired: BTreeSet<(SessionId, Label)> = BTreeSet::new();
        let given = lock(&self.given);
        for event in durable {
            let Event::ActionIntended(intent) = event else { continue };
            let ActionIntended { actor, terms, .. } = &**intent;
            for approval in &terms.approvals {
                if given.get(approval) != Some(&actor.session) || !spent.insert(*approval) {
                    return Some("I8: an approval is used that was not given for it, or twice");
                }
            }
            for label in &terms.acquired {
                if terms.labels.contains(label) || !acquired.insert((actor.session, label.clone())) {
                    return Some("I8: a label is acquired twice");
                }
            }
            let sum = counted.entry(actor.session).or_insert(0);
            *sum += terms.counted.len();
            if *sum > 1 {
                return Some("I8: more is done than a limit lets be done");
            }
        }
        None
    }
}

impl Approve for Duties {
    fn ask<'a>(&'a self, wanted: &'a Wanted<'a>) -> BoxFuture<'a, Result<ApprovalId, Reason>> {
        let (says, mut polls) = *lock(&self.people);
        Box::pin(std::future::poll_fn(move |_| {
            if let Some(left) = polls.checked_sub(1) {
                polls = left;
                return Poll::Pending;
            }
            let give = || {
                let mut given = lock(&self.given);
                let id = ApprovalId::from_bits(given.len() as u128);
                given.insert(id, wanted.session.facts().id);
                id
            };
            Poll::Ready(says.map_or_else(|| Ok(give()), Err))
        }))
    }
}
