//! The relay: accepts what the kernel redirected, asks the gate, and hands each connection to its protocol.
//!
//! One task per connection, all owned here and all bounded. A connection ends when its session ends, in the middle
//! of a body if need be: the task is dropped, and dropping closes both sockets and writes the receipts.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use writ_core::event::ConnectionRefused;
use writ_core::{Protocol, Reason, SessionId};
use writ_gate::{Admitted, Gate, Handoff, Session, limits};

use crate::authority::Authorities;
use crate::identities::Identities;
use crate::lane::{Lane, Lanes, Seat};
use crate::serving::Common;
use crate::upstream::{Services, SessionTrust, Trust, Way};
use crate::{line, opaque, turned_away};

/// Between two looks at what is idle.
pub(crate) const SWEEP: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds and times of a relay; the defaults are those of [`limits`].
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// Connections held at once.
    pub connections_max: usize,
    /// Connections of one session held at once.
    pub connections_per_session_max: usize,
    /// To the end of the TLS hello, or of a request head that has begun.
    pub hello_timeout: Duration,
    /// Between requests on a kept-alive connection.
    pub idle_timeout: Duration,
    /// For a body that is read before its request is decided.
    pub body_timeout: Duration,
    /// To connect to a service, TLS included.
    pub upstream_connect_timeout: Duration,
    /// From the end of a request to the head of the answer.
    pub upstream_answer_timeout: Duration,
    /// How long an idle connection to a service is kept.
    pub upstream_idle_timeout: Duration,
    /// How long exchanges may take to end when the daemon stops; then they are cut.
    pub drain_grace: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_session_max: limits::CONNECTIONS_PER_SESSION_MAX,
            hello_timeout: limits::HELLO_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            body_timeout: limits::ARGUMENT_BODY_TIMEOUT,
            upstream_connect_timeout: limits::UPSTREAM_CONNECT_TIMEOUT,
            upstream_answer_timeout: limits::UPSTREAM_ANSWER_TIMEOUT,
            upstream_idle_timeout: limits::UPSTREAM_IDLE_TIMEOUT,
            drain_grace: Duration::from_secs(5),
        }
    }
}

/// What the relay has counted since it began.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: AtomicU64,
    missed: AtomicU64,
    refused: AtomicU64,
    open: AtomicUsize,
    parked: AtomicUsize,
}

impl Tally {
    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Accepted connections that the kernel could not name: closed unread.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Connections that were not admitted; at a door, requests.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that are open and quiet: all but their TLS state is given up.
    pub fn quiet(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a parked connection until it is dropped.
    pub(crate) fn parked(&self) -> Parked<'_> {
        self.parked.fetch_add(1, Ordering::Relaxed);
        Parked(&self.parked)
    }
}

/// One parked connection.
pub(crate) struct Parked<'a>(&'a AtomicUsize);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The relay. Cheap to clone; all clones are one relay.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) common: Common,
    pub(crate) authorities: Arc<Authorities>,
    handoff: Arc<dyn Handoff>,
    trust: Arc<Trust>,
    /// Set once, where runs have identities.
    pub(crate) identities: Arc<OnceLock<Identities>>,
    lanes: Lanes,
    /// The second in which a miss was last recorded.
    miss_recorded: AtomicU64,
}

impl Relay {
    /// A relay that asks this gate. Reads the system's roots.
    pub fn new(
        settings: RelaySettings,
        gate: Gate,
        handoff: Arc<dyn Handoff>,
        authorities: Arc<Authorities>,
    ) -> Self {
        let shared = Shared {
            common: Common::new(settings, gate),
            authorities,
            handoff,
            trust: Arc::new(Trust::system()),
            identities: Arc::default(),
            lanes: Lanes::default(),
            miss_recorded: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same relay, which can call governed runs from now on. Counts once.
    pub fn with_identities(self, identities: Identities) -> Self {
        self.shared.identities.get_or_init(|| identities);
        self
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.shared.common.tally
    }

    /// Connections of one session that are open now.
    pub fn connections_of(&self, session: SessionId) -> usize {
        self.shared.lanes.connections_of(session)
    }

    /// Serves a listener until `drain` is cancelled, then waits for what is under way, and cuts it when the grace
    /// has passed. Several listeners may be served at once.
    pub async fn serve(&self, listener: TcpListener, drain: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(stream, &drain),
                    Err(error) => {
                        tracing::warn!(target: "writ::proxy", %error, "cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = sweep.tick() => self.shared.lanes.sweep(),
            }
        }
        drop(listener);
        self.shared.common.drain().await;
        self.shared.lanes.clear();
    }

    fn take(&self, stream: TcpStream, drain: &CancellationToken) {
        let tally = &self.shared.common.tally;
        let open = Open::new(tally);
        if tally.open() > self.shared.common.settings.connections_max {
            tally.refuse();
            return;
        }
        let (shared, drain) = (Arc::clone(&self.shared), drain.clone());
        self.shared.common.tasks.spawn(async move {
            let _open = open;
            shared.connection(stream, drain).await;
        });
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("tally", &self.shared.common.tally).finish_non_exhaustive()
    }
}

/// Counts one open connection.
pub(crate) struct Open(Arc<Tally>);

impl Open {
    /// Counts one that was accepted just now.
    pub(crate) fn new(tally: &Arc<Tally>) -> Self {
        tally.accepted.fetch_add(1, Ordering::Relaxed);
        tally.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(tally))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, stream: TcpStream, drain: CancellationToken) {
        // Small writes must not wait for acknowledgements on either leg.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some(conn) = self.handoff.conn(stream.as_fd()).await else {
            return self.missed();
        };
        let admitted = match self.common.gate.admit(conn) {
            Ok(admitted) => Arc::new(admitted),
            Err(refusal) => {
                self.common.tally.refuse();
                let told = turned_away::tell(stream, refusal, self.common.settings.hello_timeout);
                return Box::pin(told).await;
            }
        };
        let session = Arc::clone(admitted.session());
        let Some(seat) = self.lane(&session).enter() else {
            self.common.tally.refuse();
            self.common.gate.reject(&admitted, Reason::Busy);
            return;
        };
        let stop = self.common.stop.clone();
        tokio::select! {
            biased;
            () = session.ended() => {}
            () = stop.cancelled() => {}
            () = self.protocol(stream, admitted, seat, drain) => {}
        }
    }

    async fn protocol(
        self: Arc<Self>,
        stream: TcpStream,
        admitted: Arc<Admitted>,
        seat: Seat,
        drain: CancellationToken,
    ) {
        match admitted.service().protocol {
            Protocol::Https => line::serve_https(self, stream, admitted, seat, drain).await,
            Protocol::Http => line::serve_http(self, stream, admitted, seat, drain).await,
            Protocol::Tcp => Box::pin(opaque::serve(self, stream, admitted, seat)).await,
            // The kernel lets these through to their address; one that arrives here came another way.
            Protocol::Pass | Protocol::Stdio => {
                self.common.gate.reject(&admitted, Reason::ProtocolRefused);
            }
        }
    }

    /// What connections of this session share.
    pub(crate) fn lane(self: &Arc<Self>, session: &Arc<Session>) -> Arc<Lane> {
        self.lanes.of(session, &self.common, || {
            let trust = SessionTrust::new(Arc::clone(&self.trust));
            Way::Services(Services {
                trust,
                session: Arc::clone(session),
                identities: Arc::clone(&self.identities),
            })
        })
    }

    /// The hand-off did not know the socket: a stranger, or the daemon itself. Counted each time, recorded at most
    /// once a second, so that a stranger cannot fill the log.
    fn missed(&self) {
        self.common.tally.missed.fetch_add(1, Ordering::Relaxed);
        let ports = self.common.gate.ports();
        let second = ports.clock.now().seconds();
        if self.miss_recorded.swap(second, Ordering::Relaxed) == second {
            return;
        }
        let event = ConnectionRefused {
            actor: None,
            conn: None,
            destination: "unknown".to_owned(),
            process: None,
            reason: Reason::UnknownPeer,
            transport: "tcp".to_owned(),
        };
        ports.record.note(event.into());
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_connection_is_small() {
        fn size<F: Future>(_: fn(Arc<Shared>, TcpStream, CancellationToken) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(Shared::connection);
        println!("{bytes} bytes");
        assert!(bytes <= 4 * 1024, "{bytes} bytes per connection");
    }
}
