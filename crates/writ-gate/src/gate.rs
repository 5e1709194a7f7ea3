//! The gate: the order of the five steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use writ_core::event::{
    ActionIntended, ActionRefused, ConnectionRefused, Hop, HopKind, Keys, Known, Request, Terms,
};
use writ_core::service::{Needed, RequestHead};
use writ_core::{
    ActionId, ActsFor, Clock, HostName, IdSource, Label, LeaseId, Operation, Reason, Service, Timestamp,
};

use crate::approval::Approve;
use crate::conn::{Admitted, Conn, OpenAction};
use crate::exchange::{Ended, Exchange};
use crate::marks::Marks;
use crate::permit::Permit;
use crate::port::{BoxFuture, Catalog, Decide, Identify, Mint, Record};
use crate::recorded;
use crate::session::Session;
use crate::terms::Agreed;

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
    /// The people who say yes or no.
    pub approve: Arc<dyn Approve>,
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
pub struct Asked<'a> {
    /// The one host that all names of the request agree on.
    pub host: &'a HostName,
    /// What was asked.
    pub head: RequestHead<'a>,
    /// What it carries that tells for which caller.
    pub marks: Marks<'a>,
    /// Its body.
    pub body: &'a mut dyn Body,
}

/// The body of a request, as the gate may ask for it.
pub trait Body: Send {
    /// At least as much of it as is needed, just as it is sent on afterwards, or why it cannot be read. Asked for only if
    /// the operation, its arguments or an approval need it; what is not asked for is not held. May be asked for twice.
    fn read(&mut self, needed: Needed) -> BoxFuture<'_, Result<&[u8], Reason>>;
}

/// The body of what has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBody;

impl Body for NoBody {
    fn read(&mut self, _: Needed) -> BoxFuture<'_, Result<&[u8], Reason>> {
        Box::pin(std::future::ready(Ok(&[][..])))
    }
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
pub(crate) struct Draft<'a> {
    pub(crate) id: ActionId,
    pub(crate) admitted: &'a Arc<Admitted>,
    /// Who acts: the connection's session until a caller's is known.
    pub(crate) session: Arc<Session>,
    pub(crate) request: Option<Request>,
    /// What is asked of an MCP server, once that is known.
    mcp: Option<Hop>,
    pub(crate) keys: Option<Keys>,
    /// For what it would have been refused, had it not been observed only.
    pub(crate) observed: Option<Reason>,
    /// The labels that it is decided with.
    pub(crate) labels: BTreeSet<Label>,
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

    /// Decides one action on an admitted connection.
    ///
    /// On success its intent is durable and its credential minted; the [`Exchange`] must be finished, and writes an
    /// honest receipt if it is dropped instead. A refusal is recorded before this returns.
    pub async fn action(&self, admitted: &Arc<Admitted>, asked: Asked<'_>) -> Result<Exchange, Refusal> {
        let id = ActionId::new(self.now(), &*self.ports.ids);
        let session = Arc::clone(&admitted.session);
        let mut draft = Draft {
            id,
            admitted,
            session,
            request: None,
            mcp: None,
            keys: None,
            observed: None,
            labels: BTreeSet::new(),
        };
        match self.try_action(&mut draft, asked).await {
            Ok(exchange) => Ok(exchange),
            Err(Stop::Unrecorded(reason)) => {
                self.refuse_action(draft, reason);
                Err(Refusal { reason, action: Some(id) })
            }
            Err(Stop::Recorded(reason)) => Err(Refusal { reason, action: Some(id) }),
        }
    }

    async fn try_action(&self, draft: &mut Draft<'_>, mut asked: Asked<'_>) -> Result<Exchange, Stop> {
        let admitted = draft.admitted;
        self.alive(&admitted.session)?;
        if admitted.session.facts().delegation.acts_for == ActsFor::Caller {
            draft.session = self.ports.identify.acting(&admitted.session, &asked.marks)?;
            self.alive(&draft.session)?;
        }
        let operation = self.operation(draft, &mut asked).await?;
        let open = OpenAction::enter(admitted).ok_or(Reason::Busy)?;
        let Agreed { keys, terms } = Box::pin(self.agree(draft, &operation, &mut asked)).await?;
        // People may have taken their time.
        self.ports.catalog.approved(&operation)?;
        let (session, service) = (&Arc::clone(&draft.session), &admitted.service);
        let Some(intent) = intent(draft, terms) else { return Err(Reason::PolicyError.into()) };
        // The intent may yet reach the disk after an error; recovery then closes it as abandoned.
        let ticket = self.ports.record.intent(intent).await.map_err(|_| Reason::EvidenceUnavailable)?;
        // Crash here: the intent is durable, no credential exists; recovery records "abandoned".
        let permit = Permit {
            action: draft.id,
            session: Arc::clone(session),
            service: Arc::clone(service),
            operation,
            keys,
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

    /// The operation that is asked for. Its rules are chosen by the head once: what is decided is this, whatever changes
    /// while the body is read.
    async fn operation(&self, draft: &mut Draft<'_>, asked: &mut Asked<'_>) -> Result<Operation, Reason> {
        let (catalog, service) = (&self.ports.catalog, &draft.admitted.service);
        let selection = catalog.select(service, asked.host, &asked.head)?;
        let known = selection.only();
        draft.request = known.map(|operation| request(service, operation, asked.host, &asked.head));
        let body = match selection.needed() {
            Needed::Nothing => None,
            needed @ (Needed::PushCommands | Needed::All) => Some(asked.body.read(needed).await?),
        };
        let operation = catalog.operation(selection, &asked.head, body)?;
        draft.request = Some(request(service, &operation, asked.host, &asked.head));
        draft.mcp = mcp_hop(service, &operation);
        catalog.approved(&operation)?;
        Ok(operation)
    }

    pub(crate) fn alive(&self, session: &Session) -> Result<(), Reason> {
        match session.cause() {
            Some(cause) => Err(cause.reason()),
            None if self.now() >= session.expires() => Err(Reason::SessionExpired),
            None => Ok(()),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
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
        let Draft { id, admitted, session, request, mcp, keys, labels, .. } = draft;
        let conn = &admitted.conn;
        let event = ActionRefused {
            action: id,
            actor: session.actor(),
            assurance: session.facts().assurance,
            conn: conn.id,
            keys,
            labels,
            process: conn.process.clone(),
            reason,
            request,
            tool_path: session.tool_path(&conn.exec).into_iter().chain(mcp).collect(),
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

/// The last step of the way: the MCP server, and what is asked of it.
pub(crate) fn mcp_hop(service: &Service, operation: &Operation) -> Option<Hop> {
    let asked = operation.rule.mcp.as_ref()?;
    Some(Hop { how: Known::Observed, kind: HopKind::Mcp, name: format!("{}: {asked}", service.name) })
}

fn intent(draft: &Draft<'_>, terms: Terms) -> Option<ActionIntended> {
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
        terms,
        tool_path: session.tool_path(&conn.exec).into_iter().chain(draft.mcp.clone()).collect(),
    })
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}
