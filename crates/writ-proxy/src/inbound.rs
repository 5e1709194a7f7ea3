//! The way in: callers of a governed server are proven here, and the server is told a handle instead of their token.
//!
//! ```text
//! accept -> TLS -> [request -> token -> caller -> whose server -> joined -> handle and trace -> server -> answer]*
//! ```
//!
//! A door belongs to an agent, and leads to the port on which that agent's own run listens, found anew for each request from
//! kernel facts. Nothing is decided here beyond who the caller is: what the run then does for them is decided at the gate,
//! action by action. Invariants: no token reaches an agent; no request reaches a process that is not the agent's run; no
//! trace that names one caller comes in with the request of another; what is answered ends with the caller's session.

mod certificate;
mod door;
mod servers;
mod token;
mod trace;
mod visit;

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use writ_core::{AgentName, Serve};
use writ_gate::{Behind, Callers, Gate, Join, limits};

use crate::identities::Identities;
use crate::relay::{ACCEPT_PAUSE, Open, RelaySettings, SWEEP, Tally};
pub use certificate::DoorError;
use door::Door as DoorParts;
pub use servers::{Running as RunningServer, Servers};

/// What the doors ask of others.
#[derive(Clone)]
pub struct InboundPorts {
    /// Who a token proves.
    pub callers: Arc<dyn Callers>,
    /// In which session a run acts for them.
    pub join: Arc<dyn Join>,
    /// Whose server it is.
    pub behind: Arc<dyn Behind>,
}

/// All doors of the node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Inbound {
    shared: Arc<Shared>,
}

/// What all doors share.
struct Shared {
    settings: Arc<RelaySettings>,
    gate: Gate,
    ports: InboundPorts,
    tally: Arc<Tally>,
    /// Absent where runs have no identities.
    identities: Option<Identities>,
}

/// One door, ready to be served.
pub struct Door(Arc<DoorParts>);

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("agent", &self.0.agent).field("serve", &self.0.serve).finish()
    }
}

impl Inbound {
    /// Doors that ask these ports. Of the gate, only record, clock and ids are used.
    pub fn new(
        mut settings: RelaySettings,
        gate: Gate,
        ports: InboundPorts,
        identities: Option<Identities>,
    ) -> Self {
        settings.connections_max = settings.connections_max.min(limits::CALLER_CONNECTIONS_MAX);
        let settings = Arc::new(settings);
        let shared = Shared { settings, gate, ports, tally: Arc::default(), identities };
        Self { shared: Arc::new(shared) }
    }

    /// What was counted at all doors.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// A door of an agent, as its file says. Fails if its certificate cannot be used.
    pub fn door(&self, agent: &AgentName, serve: &Serve) -> Result<Door, DoorError> {
        Ok(Door(Arc::new(DoorParts::new(&self.shared, agent, serve)?)))
    }

    /// Serves a door until `drain` is cancelled, then waits for what is under way there, and cuts it when the grace has
    /// passed. Other doors are not touched by that.
    pub async fn serve(&self, door: Door, listener: TcpListener, drain: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.take(&door.0, stream, &drain),
                    Err(error) => {
                        tracing::warn!(target: "writ::proxy", %error, "cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = sweep.tick() => door.0.lanes.sweep(),
            }
        }
        drop(listener);
        door.0.common.drain().await;
        door.0.lanes.clear();
    }

    fn take(&self, door: &Arc<DoorParts>, stream: TcpStream, drain: &CancellationToken) {
        let tally = &self.shared.tally;
        let open = Open::new(tally);
        if tally.open() > self.shared.settings.connections_max {
            tally.refuse();
            return;
        }
        let (serving, drain) = (Arc::clone(door), drain.clone());
        door.common.tasks.spawn(async move {
            let _open = open;
            serving.connection(stream, drain).await;
        });
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("tally", &self.shared.tally).finish_non_exhaustive()
    }
}
