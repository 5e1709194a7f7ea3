//! The parts of a running daemon, and the few facts that more than one of them needs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use writ_approval::Approvals;
use writ_broker::Store;
use writ_capture::resolver::{Names, Resolver};
use writ_capture::{Capture, Events};
use writ_catalog::CatalogStore;
use writ_core::{Clock, IdSource, Layout, Timestamp};
use writ_evidence::Log;
use writ_gate::{Gate, Record};
use writ_human::People;
use writ_policy::Engine;
use writ_proxy::{Authorities, Identities, Inbound, Relay};
use writ_session::{Attestors, Pins, Registry};

use crate::configuration::Configuration;
use crate::doors::Doors;
use crate::governing::Governing;
use crate::identity::Identity;
use crate::settings::Settings;
use crate::tallies::Tallies;

/// Everything, assembled. Shared by reference.
pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) log: Log,
    pub(crate) record: Arc<dyn Record>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) capture: Arc<Capture>,
    pub(crate) events: Arc<Events>,
    pub(crate) names: Arc<Names>,
    pub(crate) catalog: Arc<CatalogStore>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) attestors: Attestors,
    pub(crate) pins: Pins,
    pub(crate) identity: Identity,
    pub(crate) people: People,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) gate: Gate,
    /// What runs need among themselves.
    pub(crate) peers: Identities,
    pub(crate) relay: Relay,
    pub(crate) resolver: Resolver,
    /// Set once the world is there, which it asks.
    pub(crate) inbound: OnceLock<Inbound>,
    pub(crate) doors: Doors,
    /// What is governed without having been launched.
    pub(crate) governing: Arc<Governing>,
    /// The configuration in force. Changed only by `reload`, which puts its parts in force one after the other.
    pub(crate) configuration: ArcSwap<Configuration>,
    /// Held while a configuration is put in force.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    pub(crate) started: Timestamp,
    pub(crate) ready: AtomicBool,
    /// Cancelled when the daemon stops.
    pub(crate) stop: CancellationToken,
    /// Tasks that belong to no connection: watchers of runs.
    pub(crate) tasks: TaskTracker,
}

impl World {
    /// The doors of agents that serve.
    pub(crate) fn inbound(self: &Arc<Self>) -> &Inbound {
        self.inbound.get_or_init(|| crate::doors::inbound(self, self.gate.clone()))
    }

    /// Whether everything that must stand before an agent may act does.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.stop.is_cancelled()
    }
}
