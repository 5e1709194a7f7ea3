//! Connections: what the kernel reported, and what was admitted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use writ_core::{ConnId, HostName, Process, Reason, RunTag, Service};

use crate::limits;
use crate::session::Session;

/// Where a governed process wanted to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address and port it asked for, before any redirect.
    pub address: SocketAddr,
    /// The name that Writ's resolver gave this address for; `None` for an address it did not give out.
    pub name: Option<HostName>,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{}", self.address.port()),
            None => write!(f, "{}", self.address),
        }
    }
}

/// A connection that capture handed over, with who opened it. Made by capture from kernel facts alone.
#[derive(Debug, Clone)]
pub struct Conn {
    /// Its id.
    pub id: ConnId,
    /// The opener's run, as labelled in the kernel; or why it has none, with which it is refused.
    pub run: Result<RunTag, Reason>,
    /// The opener.
    pub process: Process,
    /// The programs that led to the opener, as paths, eldest first; as far as they are known.
    pub exec: Arc<[String]>,
    /// Where it wanted to go.
    pub destination: Destination,
}

/// An admitted connection: a live session that may reach a known service. Made only by [`crate::Gate::admit`].
#[derive(Debug)]
pub struct Admitted {
    pub(crate) conn: Conn,
    pub(crate) session: Arc<Session>,
    pub(crate) service: Arc<Service>,
    /// Actions under way on this connection; bounds them.
    pub(crate) open: AtomicUsize,
}

impl Admitted {
    /// The connection.
    pub fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The session it belongs to.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The service it may reach.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// How many actions are under way on it.
    pub fn actions_open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Holds one place among the actions of a connection.
#[derive(Debug)]
pub(crate) struct OpenAction(Arc<Admitted>);

impl OpenAction {
    /// Takes a place, or none if all are taken.
    pub(crate) fn enter(admitted: &Arc<Admitted>) -> Option<Self> {
        let before = admitted.open.fetch_add(1, Ordering::Relaxed);
        // The guard exists even when it is refused, so that its drop takes the count back.
        let guard = Self(Arc::clone(admitted));
        (before < limits::ACTIONS_PER_CONNECTION_MAX).then_some(guard)
    }

    /// The programs that led to it, as paths, eldest first.
    pub(crate) fn programs(&self) -> &[String] {
        &self.0.conn.exec
    }
}

impl Drop for OpenAction {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
