//! An exchange that the relay holds: whatever way it goes, its receipt has the bytes that passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use writ_core::Reason;
use writ_gate::{Ended, Exchange, Session};

use crate::body::Transfer;
use crate::cut::Following;
use crate::mcp::Looking;
use crate::scrub::Scrubber;
use crate::searches::Searches;

/// One exchange between its permit and its receipt.
///
/// Dropped unfinished (the task was cancelled), it says why: the session ended, the daemon stops, or the client
/// went away.
pub(crate) struct Running {
    /// `None` after the receipt, and for what is no action.
    exchange: Option<Exchange>,
    /// With whose end it is cut.
    session: Arc<Session>,
    transfer: Arc<Transfer>,
    status: Option<u16>,
    scrubbed: Arc<AtomicU64>,
    scrubber: Option<Scrubber>,
    /// What is needed to look at the messages of an MCP server.
    mcp: Option<Looking>,
    /// Has it end with the session that it acts in, when that is not the connection's.
    following: Option<Following>,
    /// Cancelled when the daemon no longer waits for exchanges to end.
    stop: CancellationToken,
}

impl Running {
    pub(crate) fn new(exchange: Exchange, transfer: Arc<Transfer>, stop: CancellationToken) -> Self {
        let mut running = Self::without_action(Arc::clone(exchange.session()), transfer, stop);
        running.exchange = Some(exchange);
        running
    }

    /// A request that is passed on to an agent: no action, and so without a receipt.
    pub(crate) fn without_action(
        session: Arc<Session>,
        transfer: Arc<Transfer>,
        stop: CancellationToken,
    ) -> Self {
        let scrubbed = Arc::default();
        Self {
            exchange: None,
            session,
            transfer,
            status: None,
            scrubbed,
            scrubber: None,
            mcp: None,
            following: None,
            stop,
        }
    }

    /// With whose end it is cut.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Is cut with what it follows.
    pub(crate) fn follow(&mut self, following: Option<Following>) {
        self.following = following;
    }

    pub(crate) fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_ref()
    }

    pub(crate) fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }

    /// Whether a credential was lent.
    pub(crate) fn lends(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| !exchange.credentials().is_empty())
    }

    /// Has everything that comes back searched for what was lent.
    pub(crate) fn search(&mut self, known: &Searches) {
        let credentials = self.exchange.as_ref().map(Exchange::credentials).unwrap_or_default();
        self.scrubber = known.scrubber(credentials, Arc::clone(&self.scrubbed));
    }

    /// What searches the answer; `None` when nothing was lent.
    pub(crate) fn scrubber(&self) -> Option<&Scrubber> {
        self.scrubber.as_ref()
    }

    /// Has what comes back looked at, if it is from an MCP server.
    pub(crate) fn look(&mut self, with: impl FnOnce() -> Looking) {
        self.mcp = self.exchange.as_ref().filter(|exchange| exchange.speaks_mcp()).map(|_| with());
    }

    /// What is needed to look at the messages of an MCP server; `None` for any other answer.
    pub(crate) fn mcp(&self) -> Option<&Looking> {
        self.mcp.as_ref()
    }

    /// The service answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The service answered in full.
    pub(crate) fn complete(mut self) {
        self.close(Ended::completed(None));
    }

    /// The exchange broke.
    pub(crate) fn fail(mut self, reason: Reason) {
        self.close(Ended::failed(reason));
    }

    fn close(&mut self, how: Ended) {
        let Some(exchange) = self.exchange.take() else { return };
        exchange.finish(Ended {
            status: self.status,
            bytes_up: self.transfer.up(),
            bytes_down: self.transfer.down(),
            scrubbed: self.scrubbed.load(Ordering::Relaxed),
            ..how
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        let how = match exchange.session().cause() {
            Some(cause) => Ended::cut(cause.reason()),
            None if self.stop.is_cancelled() => Ended::cut(Reason::Abandoned),
            None => Ended::failed(Reason::ClientGone),
        };
        self.close(how);
    }
}
