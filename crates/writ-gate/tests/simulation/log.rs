//! A log in memory that keeps the contract of `Record`, and can be told to fail in each way that it allows.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use writ_core::event::{ActionIntended, Event};
use writ_core::{ActionId, Reason};
use writ_gate::{BoxFuture, Record, RecordError, Ticket, abandoned};

use crate::world::Fault;

/// What survives the daemon, and what does not.
#[derive(Default)]
pub(crate) struct Disk {
    /// Durable events in order.
    pub(crate) durable: Vec<Event>,
    /// Intents handed over and not yet durable, by sequence number.
    queued: BTreeMap<u64, ActionIntended>,
    /// Durable intents without a receipt, by sequence number.
    open: BTreeMap<u64, ActionIntended>,
    /// Of those, the ones that the daemon was told are not durable.
    untold: BTreeSet<u64>,
    next: u64,
    /// Which daemon writes; what an earlier one still says is not heard.
    pub(crate) epoch: u64,
    /// Actions whose credential may exist.
    pub(crate) intended: BTreeSet<ActionId>,
    pub(crate) violations: Vec<String>,
}

impl Disk {
    fn commit(&mut self, seq: u64) {
        if let Some(intent) = self.queued.remove(&seq) {
            self.intended.insert(intent.action);
            self.durable.push(intent.clone().into());
            self.open.insert(seq, intent);
        }
    }

    fn close(&mut self, seq: u64, receipt: Event) {
        if self.open.remove(&seq).is_none() {
            self.violations.push("I3: a receipt without an open intent".to_owned());
        }
        self.durable.push(receipt);
    }

    /// Everything that was handed over reaches the disk.
    pub(crate) fn flush(&mut self) {
        for seq in self.queued.keys().copied().collect::<Vec<_>>() {
            self.commit(seq);
        }
    }

    /// The daemon dies: what is not durable is gone. The next one closes what it finds open.
    pub(crate) fn crash(&mut self) {
        self.epoch += 1;
        self.queued.clear();
        self.recover();
    }

    /// The daemon stops in good order: only what it was wrongly told is open, and the next start closes that.
    pub(crate) fn settle(&mut self) {
        if self.open.keys().any(|seq| !self.untold.contains(seq)) {
            self.violations.push("I3: an intent has no receipt although nobody died".to_owned());
        }
        self.recover();
    }

    fn recover(&mut self) {
        for (_, intent) in std::mem::take(&mut self.open) {
            self.durable.push(abandoned(&intent, Reason::Abandoned).into());
        }
    }
}

/// How the disk treats the next intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Writes,
    Refuses,
    /// The error is untrue: the event is there.
    FailsButPersists,
}

pub(crate) struct Log {
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) epoch: u64,
    pub(crate) fault: Fault,
    /// How the next intents fare, and after how many polls.
    pub(crate) next: Mutex<(Mood, u32)>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Record for Log {
    fn intent(&self, intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        let mut disk = lock(&self.disk);
        let seq = disk.next;
        disk.next += 1;
        let (mood, polls) = *lock(&self.next);
        if mood != Mood::Refuses {
            disk.queued.insert(seq, intent);
        }
        Box::pin(Waiting { log: self, seq, mood, polls, done: false })
    }

    fn receipt(&self, ticket: Ticket, receipt: Event) {
        let seq = ticket.spend();
        let mut disk = lock(&self.disk);
        if disk.epoch == self.epoch && self.fault != Fault::LosesReceipts {
            if self.fault == Fault::AnswersEarly {
                disk.commit(seq);
            }
            disk.close(seq, receipt);
        }
    }

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        self.note(event);
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, event: Event) {
        let mut disk = lock(&self.disk);
        if disk.epoch == self.epoch {
            disk.durable.push(event);
        }
    }
}

struct Waiting<'a> {
    log: &'a Log,
    seq: u64,
    mood: Mood,
    polls: u32,
    done: bool,
}

impl Future for Waiting<'_> {
    type Output = Result<Ticket, RecordError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(left) = self.polls.checked_sub(1) {
            self.polls = left;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.done = true;
        let mut disk = lock(&self.log.disk);
        if self.mood == Mood::Refuses {
            return Poll::Ready(Err(RecordError("no space".to_owned())));
        }
        if self.log.fault != Fault::AnswersEarly {
            disk.commit(self.seq);
        }
        if self.mood == Mood::FailsButPersists {
            // The daemon does not know that it is there; recovery closes it.
            disk.untold.insert(self.seq);
            return Poll::Ready(Err(RecordError("broken".to_owned())));
        }
        drop(disk);
        Poll::Ready(Ok(ticket(self.log, self.seq)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Cancelled: the event stays, and its ticket is dropped unspent once it is durable.
        if !self.done && self.mood != Mood::Refuses {
            let mut disk = lock(&self.log.disk);
            disk.commit(self.seq);
            drop(disk);
            drop(ticket(self.log, self.seq));
        }
    }
}

fn ticket(log: &Log, seq: u64) -> Ticket {
    let (disk, epoch) = (Arc::clone(&log.disk), log.epoch);
    Ticket::new(seq, move |seq| {
        let mut disk = lock(&disk);
        if disk.epoch != epoch {
            return;
        }
        if let Some(intent) = disk.open.get(&seq).cloned() {
            disk.close(seq, abandoned(&intent, Reason::ClientGone).into());
        }
    })
}
