//! Processes that were attested, remembered by what names them for good: pid, start, and execution.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use writ_core::{Process, Reason};
use writ_gate::limits;

use super::Refusal;
use super::facts::{Attested, Wanted};

/// The memory. Bounded; the oldest goes first.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<Process, (u64, Arc<Attested>)>,
    order: VecDeque<Process>,
}

impl Known {
    /// What is remembered with the mark it was seen with, if it says everything that is wanted.
    pub(super) fn find(&self, process: &Process, wanted: &Wanted) -> Option<(u64, Arc<Attested>)> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.of.get(process).filter(|(_, attested)| attested.wanted().covers(wanted)).cloned()
    }

    /// Remembers it. Refused if the same execution was attested with other code before: then a file changed under it.
    pub(super) fn keep(&self, mark: u64, attested: Attested) -> Result<Arc<Attested>, Refusal> {
        let process = attested.process().clone();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, before)) = kept.of.get(&process)
            && *known == mark
            && before.program() != attested.program()
        {
            return Err(Refusal::new(Reason::IdentityChanged, "its program or script changed while it ran"));
        }
        let attested = Arc::new(attested);
        if kept.of.insert(process.clone(), (mark, Arc::clone(&attested))).is_none() {
            kept.order.push_back(process);
        }
        if kept.order.len() > limits::ATTESTED_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.of.remove(&oldest);
        }
        Ok(attested)
    }
}
