//! Idle connections to services, kept within one session.
//!
//! A connection is used again only for the same session, service, place and credential rule; the pool belongs to
//! the session and goes with it. An upstream that ties authority to the connection can then not be made to act for
//! another human. Bounded per place, and nothing stays longer than the idle time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use writ_gate::limits;

use super::Target;
use super::wire::Wire;
use crate::body::AgentBody;

/// What is spoken on a connection, or at best wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    Http1,
    Http2,
}

impl Alpn {
    /// What is offered.
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// The connections of one session.
#[derive(Default)]
pub(crate) struct Pool {
    slots: Mutex<Vec<Slot>>,
}

struct Slot {
    target: Target,
    idle: Vec<Idle>,
    shared: Option<SendRequest<AgentBody>>,
    /// What the service chose last time HTTP/2 was offered.
    speaks: Option<Alpn>,
}

struct Idle {
    wire: Box<Wire>,
    since: Duration,
}

impl Slot {
    fn serves(&self, target: &Target) -> bool {
        let (ours, theirs) = (&*self.target.service, &*target.service);
        let place = &self.target.place;
        place.host == target.place.host
            && place.port == target.place.port
            && place.literal == target.place.literal
            && (std::ptr::eq(ours, theirs)
                || (ours.name == theirs.name
                    && ours.protocol == theirs.protocol
                    && ours.upstream == theirs.upstream
                    && ours.credential == theirs.credential))
    }
}

impl Pool {
    /// An idle HTTP/1 connection that is still good, the one used last.
    pub(crate) fn take(&self, target: &Target) -> Option<Box<Wire>> {
        loop {
            let mut idle = self.with(target, |slot| slot.idle.pop()).flatten()?;
            if idle.wire.alive() {
                return Some(idle.wire);
            }
        }
    }

    /// Keeps a connection that is ready for the next request.
    pub(crate) fn give(&self, target: &Target, wire: Box<Wire>, now: Duration) {
        self.with_new(target, |slot| {
            if slot.idle.len() < limits::UPSTREAM_IDLE_MAX {
                slot.idle.push(Idle { wire, since: now });
            }
        });
    }

    /// The HTTP/2 connection, if there is one that is open.
    pub(crate) fn shared(&self, target: &Target) -> Option<SendRequest<AgentBody>> {
        self.with(target, |slot| {
            slot.shared = slot.shared.take().filter(|send| !send.is_closed());
            slot.shared.clone()
        })
        .flatten()
    }

    /// Keeps an HTTP/2 connection for all requests that follow.
    pub(crate) fn share(&self, target: &Target, send: SendRequest<AgentBody>) {
        self.with_new(target, |slot| slot.shared = Some(send));
    }

    /// Forgets the HTTP/2 connection: it takes no more requests.
    pub(crate) fn unshare(&self, target: &Target) {
        self.with(target, |slot| slot.shared = None);
    }

    /// What the service chose the last time.
    pub(crate) fn speaks(&self, target: &Target) -> Option<Alpn> {
        self.with(target, |slot| slot.speaks).flatten()
    }

    /// Remembers what the service chose.
    pub(crate) fn learn(&self, target: &Target, speaks: Alpn) {
        self.with_new(target, |slot| slot.speaks = Some(speaks));
    }

    /// Drops what was idle for too long, and what the services closed.
    pub(crate) fn sweep(&self, now: Duration, idle_max: Duration) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter_mut() {
            slot.idle.retain_mut(|idle| now.saturating_sub(idle.since) < idle_max && idle.wire.alive());
            slot.shared = slot.shared.take().filter(|send| !send.is_closed());
        }
        slots.retain(|slot| !slot.idle.is_empty() || slot.shared.is_some());
    }

    /// Drops everything: the session is over.
    pub(crate) fn clear(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn with<R>(&self, target: &Target, act: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter_mut().find(|slot| slot.serves(target)).map(act)
    }

    fn with_new(&self, target: &Target, act: impl FnOnce(&mut Slot)) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.serves(target)) {
            act(slot);
        } else {
            let mut slot = Slot { target: target.clone(), idle: Vec::new(), shared: None, speaks: None };
            act(&mut slot);
            slots.push(slot);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}
