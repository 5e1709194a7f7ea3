//! Where capture meets the rest: who is behind a socket, and which names a run may know.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use writ_capture::resolver::{
    Answer, Asker, Attesting, Datagram, Lookup, Names, Origins, Question, Sender, StandIn,
};
use writ_capture::{Capture, Events, Origin};
use writ_catalog::CatalogStore;
use writ_core::event::ConnectionRefused;
use writ_core::{Clock, ConnId, IdSource, Protocol, Reason, Service};
use writ_gate::{BoxFuture, Conn, Decide, Destination, Handoff, Identify, Record};
use writ_policy::Engine;
use writ_session::Registry;

use crate::destinations;
use crate::governing::Governing;

/// Names the opener of each accepted connection from kernel facts.
pub(crate) struct Hands {
    pub(crate) capture: Arc<Capture>,
    pub(crate) events: Arc<Events>,
    pub(crate) names: Arc<Names>,
    pub(crate) governing: Arc<Governing>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

impl Hands {
    /// Asks these.
    pub(crate) fn new(
        (capture, events, names): (&Arc<Capture>, &Arc<Events>, &Arc<Names>),
        governing: &Arc<Governing>,
        (clock, ids): (&Arc<dyn Clock>, &Arc<dyn IdSource>),
    ) -> Self {
        Self {
            capture: Arc::clone(capture),
            events: Arc::clone(events),
            names: Arc::clone(names),
            governing: Arc::clone(governing),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
        }
    }
}

impl Handoff for Hands {
    fn conn<'a>(&'a self, accepted: BorrowedFd<'a>) -> BoxFuture<'a, Option<Conn>> {
        let origin = self.capture.origin(accepted);
        Box::pin(async move {
            let origin = origin?;
            let run = self.governing.run_of(&origin).await;
            let Origin { address, process, program, .. } = origin;
            let name = self.names.name_of(address.ip());
            let exec = program.map_or_else(|| Arc::from([]), |program| self.events.lineage(&program));
            let id = ConnId::new(self.clock.now(), &*self.ids);
            Some(Conn { id, run, process, exec, destination: Destination { address, name } })
        })
    }
}

/// Names the run behind a question to the resolver.
pub(crate) struct Questioners {
    pub(crate) capture: Arc<Capture>,
    pub(crate) governing: Arc<Governing>,
}

impl Questioners {
    fn sender(&self, origin: Origin) -> Option<Sender> {
        if self.governing.is_held(&origin) {
            return Some(Sender::Held(Box::new(origin)));
        }
        Sender::of(origin)
    }
}

impl Origins for Questioners {
    fn of_datagram(&self, datagram: &Datagram) -> Option<Sender> {
        self.sender(self.capture.question(datagram.mark?)?)
    }

    fn of_socket(&self, accepted: BorrowedFd<'_>) -> Option<Sender> {
        self.sender(self.capture.origin(accepted)?)
    }

    fn attest(&self, held: Origin) -> Attesting<'_> {
        Box::pin(async move { self.governing.run_of(&held).await.ok() })
    }
}

/// Decides which names a run may know: those of services that both keys could let it reach.
pub(crate) struct Lookups {
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalog: Arc<CatalogStore>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) capture: Arc<Capture>,
    pub(crate) record: Arc<dyn Record>,
}

impl Asker for Lookups {
    fn allowed(&self, question: &Question) -> Result<Answer, Reason> {
        let session = self.registry.identify(question.run)?;
        let services = self.catalog.services_at(&question.name);
        let reachable = |service: &&Arc<Service>| self.engine.reach(&session, service).reaches(&session);
        let on_network = services.iter().filter(|service| service.protocol != Protocol::Stdio);
        let service = on_network.into_iter().find(reachable).ok_or(Reason::NameRefused)?;
        Ok(match service.protocol {
            Protocol::Pass => Answer::Listed(service.addresses.clone()),
            Protocol::Https | Protocol::Http | Protocol::Tcp => Answer::StandIn,
            // Nobody connects to a program.
            Protocol::Stdio => return Err(Reason::NameRefused),
        })
    }

    fn answered(&self, question: &Question, stand_in: StandIn) {
        for rule in destinations::of_name(&self.catalog, &question.name, stand_in) {
            if let Err(error) = self.capture.add_destination(&rule) {
                tracing::error!(target: "writ::capture", %error, "a name cannot be reached");
            }
        }
    }

    fn refused(&self, lookup: Lookup) {
        let session = lookup.run.and_then(|run| self.registry.of_run(run));
        let event = ConnectionRefused {
            actor: session.map(|live| live.session.actor()),
            conn: None,
            destination: lookup.name.trim_end_matches('.').to_owned(),
            process: None,
            reason: lookup.reason,
            transport: "dns".to_owned(),
        };
        self.record.note(event.into());
    }
}
