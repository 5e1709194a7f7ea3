//! The gate: the order of the five steps.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use writ_core::event::{ActionIntended, ActionRefused, ConnectionRefused, Keys, Request};
use writ_core::service::{RequestHead, Selection};
use writ_core::{
    ActionId, ActsFor, Clock, HostName, IdSource, LeaseId, Operation, Reason, Service, Timestamp,
};

use crate::conn::{Admitted, Conn, OpenAction};
use crate::exchange::{Ended, Exchange};
use crate::marks::Marks;
use crate::permit::Permit;
use crate::port::{Catalog, Decide, Identify, Mint, Record};
use crate::recorded;
use crate::session::Session;

/// Everything the gate asks.
#[derive(Clone)]
pub struct Ports {
    /// Which session.
    pub identify: Arc<dyn Identify>,
    /// Which service and operation.
    pub catalog: Arc<dyn Catalog>,
    /// Both keys.
    pub decide: Arc<dyn Decide>,
    /// The credential.
    pub mint: Arc<dyn Mint>,
    /// The evidence.
    pub record: Arc<dyn Record>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub ids: Arc<dyn IdSource>,
}

/// One way in, for every connection and every action. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    ports: Ports,
}

/// A request as the agent made it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The one host that all names of the request agree on.
    pub host: &'a HostName,
    /// What was asked.
    pub head: RequestHead<'a>,
    /// What it carries that tells for which caller.
    pub marks: Marks<'a>,
    /// What [`Gate::select`] gave for this head.
    pub selected: Selected,
    /// Its body.
    pub body: Body<'a>,
}

/// What the head of a request leads to. Chosen once: what is decided is this, whatever changed while the body was read.
#[derive(Debug)]
pub struct Selected(Result<Selection, Reason>);

impl Selected {
    /// Whether the request's body must be read before it is decided.
    pub fn reads_body(&self) -> bool {
        self.0.as_ref().is_ok_and(|selection| selection.reads_body)
    }
}

/// The body of a request, as the gate is told it.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Not looked at: it goes to the service as it comes.
    Unread,
    /// All of it.
    Read(&'a [u8]),
    /// It could not be read, for this reason.
    Lost(Reason),
}

/// A negative decision. It is already recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The action, if it got that far: what `writ why` takes.
    pub action: Option<ActionId>,
}

/// What is known of an action while it is decided.
struct Draft<'a> {
    id: ActionId,
    admitted: &'a Arc<Admitted>,
    /// Who acts: the connection's session until a caller's is known.
    session: Arc<Session>,
    request: Option<Request>,
    keys: Option<Keys>,
    /// For what it would have been refused, had it not been observed only.
    observed: Option<Reason>,
}

impl Gate {
    /// A gate that asks these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// The ports, for those who tell the log of other things.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Decides a connection: a live session that could do something at a known service.
    ///
    /// A refusal is recorded before this returns.
    pub fn admit(&self, conn: Conn) -> Result<Admitted, Refusal> {
        match self.try_admit(&conn) {
            Ok((session, service)) => Ok(Admitted { conn, session, service, open: AtomicUsize::new(0) }),
            Err((session, reason)) => {
                self.refuse_conn(&conn, session.as_deref(), reason);
                Err(Refusal { reason, action: None })
            }
        }
    }

    fn try_admit(&self, conn: &Conn) -> Result<(Arc<Session>, Arc<Service>), NotAdmitted> {
        let run = conn.run.map_err(|reason| (None, reason))?;
        let session = self.ports.identify.identify(run).map_err(|reason| (None, reason))?;
        let known = |reason| (Some(Arc::clone(&session)), reason);
        self.alive(&session).map_err(known)?;
        let service = self.ports.catalog.service(&conn.destination).map_err(known)?;
        if !session.facts().delegation.grants.reach(&service.name) {
            return Err(known(Reason::NotGranted));
        }
        let verdict = self.ports.decide.reach(&session, &service);
        if verdict.reaches(&session) { Ok((session, service)) } else { Err(known(verdict.refusal())) }
    }

    /// Refuses an admitted connection for a reason found later (its TLS hello names another host, say).
    pub fn reject(&self, admitted: &Admitted, reason: Reason) -> Refusal {
        self.refuse_conn(&admitted.conn, Some(&admitted.session), reason);
        Refusal { reason, action: None }
    }

    /// Which operations the head of a request on this connection leads to. Refuses nothing yet.
    pub fn select(&self, admitted: &Admitted, host: &HostName, head: &RequestHead<'_>) -> Selected {
        Selected(self.ports.catalog.select(&admitted.service, host, head))
    }

    /// Decides one action on an admitted connection.
    ///
    /// On success its intent is durable and its credential minted; the [`Exchange`] must be finished, and writes an
    /// honest receipt if it is dropped instead. A refusal is recorded before this returns.
    pub async fn action(&self, admitted: &Arc<Admitted>, asked: Asked<'_>) -> Result<Exchange, Refusal> {
        let id = ActionId::new(self.now(), &*self.ports.ids);
        let session = Arc::clone(&admitted.session);
        let mut draft = Draft { id, admitted, session, request: None, keys: None, observed: None };
        match self.try_action(&mut draft, asked).await {
            Ok(exchange) => Ok(exchange),
            Err(Stop::Unrecorded(reason)) => {
                self.refuse_action(draft, reason);
                Err(Refusal { reason, action: Some(id) })
            }
            Err(Stop::Recorded(reason)) => Err(Refusal { reason, action: Some(id) }),
        }
    }

    async fn try_action(&self, draft: &mut Draft<'_>, asked: Asked<'_>) -> Result<Exchange, Stop> {
        let admitted = draft.admitted;
        self.alive(&admitted.session)?;
        if admitted.session.facts().delegation.acts_for == ActsFor::Caller {
            draft.session = self.ports.identify.acting(&admitted.session, &asked.marks)?;
            self.alive(&draft.session)?;
        }
        let (session, service) = (&Arc::clone(&draft.session), &admitted.service);
        let selection = asked.selected.0?;
        draft.request =
            selection.only().map(|operation| request(service, operation, asked.host, &asked.head));
        let body = match asked.body {
            Body::Unread => None,
            Body::Read(bytes) => Some(bytes),
            Body::Lost(reason) => return Err(reason.into()),
        };
        let operation = self.ports.catalog.operation(selection, &asked.head, body)?;
        draft.request = Some(request(service, &operation, asked.host, &asked.head));
        let verdict = self.ports.decide.decide(session, service, &operation);
        draft.keys = Some(verdict.keys.clone());
        draft.observed = verdict.observed();
        if !verdict.permits() && draft.observed.is_none() {
            return Err(verdict.refusal().into());
        }
        if !session.facts().delegation.grants.cover(&operation) {
            return Err(Reason::NotGranted.into());
        }
        let open = OpenAction::enter(admitted).ok_or(Reason::Busy)?;
        let Some(intent) = intent(draft) else { return Err(Reason::PolicyError.into()) };
        // The intent may yet reach the disk after an error; recovery then closes it as abandoned.
        let ticket = self.ports.record.intent(intent).await.map_err(|_| Reason::EvidenceUnavailable)?;
        // Crash here: the intent is durable, no credential exists; recovery records "abandoned".
        let permit = Permit {
            action: draft.id,
            session: Arc::clone(session),
            service: Arc::clone(service),
            operation,
            keys: verdict.keys,
            observed: draft.observed,
        };
        let mut exchange = Exchange::new(self.ports.clone(), permit, ticket, open);
        if let Err(reason) = self.alive(session) {
            exchange.finish(Ended::failed(reason));
            return Err(Stop::Recorded(reason));
        }
        match exchange.mint(LeaseId::new(self.now(), &*self.ports.ids)).await {
            // The issuer may have taken its time: what was minted for a session that ended meanwhile is not lent.
            Ok(()) => match self.alive(session) {
                Ok(()) => Ok(exchange),
                Err(reason) => {
                    exchange.finish(Ended::cut(reason));
                    Err(Stop::Recorded(reason))
                }
            },
            Err(reason) => {
                exchange.finish(Ended::failed(reason));
                Err(Stop::Recorded(reason))
            }
        }
    }

    fn alive(&self, session: &Session) -> Result<(), Reason> {
        match session.cause() {
            Some(cause) => Err(cause.reason()),
            None if self.now() >= session.expires() => Err(Reason::SessionExpired),
            None => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    fn refuse_conn(&self, conn: &Conn, session: Option<&Session>, reason: Reason) {
        let event = ConnectionRefused {
            actor: session.map(Session::actor),
            conn: Some(conn.id),
            destination: conn.destination.to_string(),
            process: Some(conn.process.clone()),
            reason,
            transport: "tcp".to_owned(),
        };
        self.ports.record.note(event.into());
    }

    fn refuse_action(&self, draft: Draft<'_>, reason: Reason) {
        let Draft { id, admitted, session, request, keys, .. } = draft;
        let conn = &admitted.conn;
        let event = ActionRefused {
            action: id,
            actor: session.actor(),
            assurance: session.facts().assurance,
            conn: conn.id,
            keys,
            process: conn.process.clone(),
            reason,
            request,
            tool_path: session.tool_path(&conn.exec),
        };
        self.ports.record.note(event.into());
    }
}

/// Whose connection it was, as far as that was known, and why it was not admitted.
type NotAdmitted = (Option<Arc<Session>>, Reason);

/// Why an action stopped: before its intent (a refusal is still to be recorded) or after (its receipt was).
enum Stop {
    Unrecorded(Reason),
    Recorded(Reason),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Unrecorded(reason)
    }
}

fn request(service: &Service, operation: &Operation, host: &HostName, head: &RequestHead<'_>) -> Request {
    Request {
        arguments: recorded::arguments(&operation.arguments),
        effect: operation.rule.effect,
        host: host.as_str().to_owned(),
        method: head.method.to_owned(),
        operation: operation.rule.name.clone(),
        path: recorded::path(head.path),
        service: service.name.clone(),
    }
}

fn intent(draft: &Draft<'_>) -> Option<ActionIntended> {
    let Draft { admitted, session, .. } = draft;
    let conn = &admitted.conn;
    Some(ActionIntended {
        action: draft.id,
        actor: session.actor(),
        assurance: session.facts().assurance,
        conn: conn.id,
        keys: draft.keys.clone()?,
        observed: draft.observed,
        process: conn.process.clone(),
        request: draft.request.clone()?,
        tool_path: session.tool_path(&conn.exec),
    })
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}
