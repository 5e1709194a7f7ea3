//! The newest leaves: durable in a segment, and perhaps not in the archive yet. Readers find them here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::archive::Bytes;
use crate::facet::Facet;

/// Leaves that stay for readers after they were archived, so that a reader that follows rarely goes to the disk.
const KEPT: usize = 4096;
/// Archived leaves that stay for readers while the index cannot be kept: about 64 MiB.
const UNINDEXED_MAX: usize = 65_536;

/// A durable leaf with what it can be found by.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    pub(crate) facet: Facet,
}

pub(crate) struct Tail {
    inner: Mutex<Inner>,
    size: watch::Sender<u64>,
}

struct Inner {
    /// Number of the first leaf that is here.
    first: u64,
    leaves: VecDeque<Entry>,
    /// How many leaves the archive has.
    archived: u64,
    /// First number of the segment that is written.
    segment: u64,
}

impl Tail {
    /// A tail behind this many archived leaves.
    pub(crate) fn new(archived: u64) -> Self {
        let inner = Inner { first: archived, leaves: VecDeque::new(), archived, segment: 0 };
        Self { inner: Mutex::new(inner), size: watch::Sender::new(archived) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds durable leaves.
    pub(crate) fn push(&self, first: u64, leaves: Vec<Entry>, segment: u64) {
        let size = first + leaves.len() as u64;
        let mut inner = self.lock();
        inner.leaves.extend(leaves);
        inner.segment = segment;
        drop(inner);
        self.size.send_replace(size);
    }

    /// How many leaves are durable.
    pub(crate) fn size(&self) -> u64 {
        *self.size.borrow()
    }

    /// Tells when there are more.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// Leaves that the archive does not have, and the segment that is written.
    pub(crate) fn fresh(&self) -> (Vec<Entry>, u64) {
        let inner = self.lock();
        let known = usize::try_from(inner.archived - inner.first).unwrap_or(usize::MAX);
        (inner.leaves.iter().skip(known).cloned().collect(), inner.segment)
    }

    /// The archive has this many leaves now.
    pub(crate) fn archived(&self, size: u64) {
        self.lock().archived = size;
    }

    /// Readers find the leaves below this number through the index now: lets go of all but the newest. While the index
    /// cannot be kept, what it lacks stays here, up to a bound.
    pub(crate) fn trim(&self, indexed: u64) {
        let mut inner = self.lock();
        let archived = inner.archived;
        let goes = |first: u64, kept: usize| {
            first < archived && (first < indexed && kept > KEPT || kept > UNINDEXED_MAX)
        };
        while goes(inner.first, inner.leaves.len()) {
            inner.leaves.pop_front();
            inner.first += 1;
        }
    }

    /// The leaf with this number, if it is here; whether it is older than what is here otherwise.
    pub(crate) fn get(&self, seq: u64) -> Option<Entry> {
        let inner = self.lock();
        let at = usize::try_from(seq.checked_sub(inner.first)?).ok()?;
        inner.leaves.get(at).cloned()
    }

    /// Number of the first leaf that is here.
    pub(crate) fn first(&self) -> u64 {
        self.lock().first
    }
}
