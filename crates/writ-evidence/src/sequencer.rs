//! The one thread that gives numbers and makes events durable.
//!
//! Group commit without delay: whatever was handed over while the last sync ran goes into the next one. Only after the
//! sync is anyone told. When the disk refuses, intents and facts get an error and their numbers are given anew;
//! receipts stay here until they are durable (there is at most one for each intent that was acknowledged), and so do
//! notes up to a bound, past which they are counted and the count is recorded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use writ_core::event::{ActionIntended, Event, EvidenceDropped, Leaf};
use writ_core::{Clock, Reason};
use writ_gate::{RecordError, Ticket, abandoned, limits};

use crate::facet::Facet;
use crate::segment::{self, Segment};
use crate::storage::Storage;
use crate::tail::{Entry, Tail};

/// Bytes of one group at most: bounds how long the first of it waits.
const GROUP_BYTES: usize = if cfg!(test) { 16 << 10 } else { 1 << 20 };
/// Between two attempts while the disk refuses.
const RETRY: Duration = Duration::from_millis(100);

/// What is handed over.
pub(crate) enum Job {
    Intent(Box<ActionIntended>, oneshot::Sender<Result<Ticket, RecordError>>),
    Fact(Event, oneshot::Sender<Result<(), RecordError>>),
    Receipt(Event),
    Note(Event),
    /// Make everything durable and end.
    Close(oneshot::Sender<()>),
}

/// What others may know of the sequencer.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Intents and facts that wait.
    pub(crate) waiting: AtomicUsize,
    /// Notes that wait.
    pub(crate) notes: AtomicUsize,
    /// Notes dropped since the last count was recorded.
    pub(crate) dropped: AtomicU64,
    /// Whether the last attempt failed.
    pub(crate) refusing: AtomicBool,
    /// Tests end the process without its threads' consent.
    #[cfg(test)]
    pub(crate) killed: AtomicBool,
    /// Bytes of all leaves.
    pub(crate) bytes: AtomicU64,
}

pub(crate) struct Sequencer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) segment: Option<Segment>,
    pub(crate) next: u64,
    pub(crate) jobs: mpsc::UnboundedReceiver<Job>,
    /// For tickets, which hand over a receipt when they are dropped.
    pub(crate) sender: mpsc::WeakUnboundedSender<Job>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) state: Arc<State>,
}

/// One group on its way to the disk.
#[derive(Default)]
struct Group {
    records: Vec<u8>,
    leaves: Vec<Entry>,
    jobs: Vec<Job>,
}

impl Sequencer {
    /// Runs until closed, or until everyone who could hand something over is gone.
    pub(crate) fn run(mut self) {
        let mut kept: VecDeque<Job> = VecDeque::new();
        loop {
            if kept.is_empty() {
                match self.jobs.blocking_recv() {
                    Some(job) => kept.push_back(job),
                    None => return,
                }
            }
            while let Ok(job) = self.jobs.try_recv() {
                kept.push_back(job);
            }
            #[cfg(test)]
            if self.state.killed.load(Ordering::Acquire) {
                return;
            }
            let mut closing = None;
            let group = self.group(&mut kept, &mut closing);
            let written = self.write(&group);
            self.state.refusing.store(written.is_err(), Ordering::Release);
            match written {
                Ok(()) => self.acknowledge(group),
                Err(error) => {
                    tracing::error!(target: "writ::evidence", error = &error as &dyn std::error::Error, "the disk refuses the evidence; actions are refused");
                    self.segment = None;
                    self.refuse(group, &mut kept, &error);
                    std::thread::park_timeout(RETRY);
                    if kept.is_empty() {
                        // Nothing here would find out that there is space again, so the next intent may.
                        self.state.refusing.store(false, Ordering::Release);
                    }
                }
            }
            if let Some(done) = closing {
                if kept.is_empty() {
                    // Whoever asked may have gone; the log is closed all the same.
                    if done.send(()).is_err() {
                        tracing::debug!(target: "writ::evidence", "closed, and nobody waited for it");
                    }
                    return;
                }
                kept.push_back(Job::Close(done));
            }
        }
    }

    /// Frames as many of the waiting events as one group may hold.
    fn group(&mut self, kept: &mut VecDeque<Job>, closing: &mut Option<oneshot::Sender<()>>) -> Group {
        let mut group = Group::default();
        let mut seq = self.next;
        let dropped = self.state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            kept.push_front(Job::Receipt(EvidenceDropped { count: dropped }.into()));
        }
        while group.records.len() < GROUP_BYTES {
            let Some(job) = kept.pop_front() else { break };
            let (event, back): (Event, Back) = match job {
                Job::Close(done) => {
                    *closing = Some(done);
                    continue;
                }
                Job::Intent(intent, reply) => (Event::ActionIntended(intent), Back::Intent(reply)),
                Job::Fact(event, reply) => (event, Back::Fact(reply)),
                Job::Receipt(event) => (event, Back::Receipt),
                Job::Note(event) => (event, Back::Note),
            };
            // The event goes through the leaf and back into its job: nothing is copied but its bytes.
            let leaf = Leaf { event, seq, time: self.clock.now() };
            let encoded = encode(&leaf);
            let job = back.job(leaf.event);
            match encoded {
                Ok(entry) => {
                    segment::frame(&mut group.records, seq, self.next, &entry.bytes);
                    group.leaves.push(entry);
                    group.jobs.push(job);
                    seq += 1;
                }
                Err(error) => self.answer(job, &error),
            }
        }
        group
    }

    /// Tells whoever waits for this event that it was not recorded.
    fn answer(&self, job: Job, error: &RecordError) {
        match job {
            Job::Intent(_, reply) => {
                self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                drop(reply.send(Err(RecordError(error.0.clone()))));
            }
            Job::Fact(_, reply) => {
                self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                drop(reply.send(Err(RecordError(error.0.clone()))));
            }
            Job::Note(_) => {
                tracing::error!(target: "writ::evidence", %error, "a note cannot be recorded");
                self.state.notes.fetch_sub(1, Ordering::Relaxed);
                self.state.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Job::Receipt(_) | Job::Close(_) => {
                tracing::error!(target: "writ::evidence", %error, "a receipt cannot be recorded; recovery will write one");
            }
        }
    }

    /// After a failed write: who waits is told, what nobody waits for is kept for the next attempt, in its order.
    fn refuse(&self, group: Group, kept: &mut VecDeque<Job>, error: &std::io::Error) {
        let error = RecordError(error.to_string());
        for job in group.jobs.into_iter().rev() {
            match job {
                Job::Receipt(_) | Job::Note(_) | Job::Close(_) => kept.push_front(job),
                Job::Intent(..) | Job::Fact(..) => self.answer(job, &error),
            }
        }
    }

    fn write(&mut self, group: &Group) -> std::io::Result<()> {
        if group.leaves.is_empty() {
            return Ok(());
        }
        let full = self.segment.as_ref().is_none_or(|segment| !segment.has_room(group.records.len()));
        if full {
            // Crash here: the new segment may be there and empty; it begins where the old one ends.
            self.segment = Some(Segment::create(&*self.storage, self.next)?);
        }
        match &mut self.segment {
            Some(segment) => segment.append(&group.records),
            None => Err(std::io::Error::other("no segment")),
        }
    }

    fn acknowledge(&mut self, group: Group) {
        let first = self.next;
        self.next += group.leaves.len() as u64;
        let bytes: usize = group.leaves.iter().map(|leaf| leaf.bytes.len()).sum();
        self.state.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let segment = self.segment.as_ref().map_or(0, Segment::first);
        self.tail.push(first, group.leaves, segment);
        for (job, seq) in group.jobs.into_iter().zip(first..) {
            match job {
                Job::Intent(intent, reply) => {
                    self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                    drop(reply.send(Ok(self.ticket(seq, intent))));
                }
                Job::Fact(_, reply) => {
                    self.state.waiting.fetch_sub(1, Ordering::Relaxed);
                    drop(reply.send(Ok(())));
                }
                Job::Note(_) => {
                    self.state.notes.fetch_sub(1, Ordering::Relaxed);
                }
                Job::Receipt(_) | Job::Close(_) => {}
            }
        }
    }

    /// The place for the receipt. Dropped without one, it hands over the receipt itself.
    fn ticket(&self, seq: u64, intent: Box<ActionIntended>) -> Ticket {
        let sender = self.sender.clone();
        Ticket::new(seq, move |_| {
            if let Some(sender) = sender.upgrade() {
                drop(sender.send(Job::Receipt(abandoned(&intent, Reason::ClientGone).into())));
            }
        })
    }
}

/// A job without its event.
enum Back {
    Intent(oneshot::Sender<Result<Ticket, RecordError>>),
    Fact(oneshot::Sender<Result<(), RecordError>>),
    Receipt,
    Note,
}

impl Back {
    fn job(self, event: Event) -> Job {
        match (self, event) {
            (Self::Intent(reply), Event::ActionIntended(intent)) => Job::Intent(intent, reply),
            // Only an intent goes in as one; anything else would come back without anyone who waits.
            (Self::Intent(_) | Self::Receipt, event) => Job::Receipt(event),
            (Self::Fact(reply), event) => Job::Fact(event, reply),
            (Self::Note, event) => Job::Note(event),
        }
    }
}

fn encode(leaf: &Leaf) -> Result<Entry, RecordError> {
    let bytes = leaf.encode().map_err(|error| RecordError(error.to_string()))?;
    if bytes.len() > limits::LEAF_BYTES_MAX {
        return Err(RecordError(format!("the event has {} bytes, more than a leaf may", bytes.len())));
    }
    Ok(Entry { facet: Facet::of(leaf), bytes: bytes.into() })
}
