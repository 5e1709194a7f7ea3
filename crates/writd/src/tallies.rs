//! How much each session has done so far: counted on the way into the evidence, for `writ ps`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use writ_core::SessionId;
use writ_core::event::{ActionIntended, Event};
use writ_gate::{BoxFuture, Record, RecordError, Ticket};

/// What a session has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Actions permitted.
    pub(crate) actions: u64,
    /// Connections, lookups and actions refused.
    pub(crate) refused: u64,
}

/// A recorder that counts what it passes on.
pub(crate) struct Tallies {
    inner: Arc<dyn Record>,
    sessions: Mutex<HashMap<SessionId, Tally>>,
}

impl Tallies {
    pub(crate) fn new(inner: Arc<dyn Record>) -> Self {
        Self { inner, sessions: Mutex::default() }
    }

    pub(crate) fn of(&self, session: SessionId) -> Tally {
        self.lock().get(&session).copied().unwrap_or_default()
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Tally>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record for Tallies {
    fn intent(&self, intent: ActionIntended) -> BoxFuture<'_, Result<Ticket, RecordError>> {
        self.lock().entry(intent.actor.session).or_default().actions += 1;
        self.inner.intent(intent)
    }

    fn receipt(&self, ticket: Ticket, receipt: Event) {
        self.inner.receipt(ticket, receipt);
    }

    fn fact(&self, event: Event) -> BoxFuture<'_, Result<(), RecordError>> {
        self.inner.fact(event)
    }

    fn note(&self, event: Event) {
        if event.denied()
            && let Some(actor) = event.actor()
        {
            self.lock().entry(actor.session).or_default().refused += 1;
        }
        self.inner.note(event);
    }
}
