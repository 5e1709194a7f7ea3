//! One request, from its head to the head of its answer: the five steps, in order.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, Version};
use hyper::body::Incoming;
use writ_core::Reason;
use writ_core::service::{Headers, Needed, RequestHead};
use writ_gate::{Asked, Body, BoxFuture, Exchange, Marks, Refusal};

use crate::body::{AgentBody, Answer, Source, Transfer, Upload, UpstreamBody};
use crate::head::{self, Upgrade};
use crate::identities;
use crate::lane::{Lane, Outgoing};
use crate::line::Line;
use crate::marks::Found;
use crate::mcp::{self, Looking, echo::Echo};
use crate::place;
use crate::reading::ReadBody;
use crate::running::Running;
use crate::upgrade;
use crate::upstream::Target;
use crate::upstream::pool::Alpn;

impl Line {
    /// Decides the request and, if it is permitted, relays it up to the head of the answer.
    pub(crate) async fn action(
        self: &Arc<Self>,
        number: u64,
        mut parts: Parts,
        incoming: Incoming,
    ) -> Result<Response<Answer>, Refusal> {
        if let Some(reason) = self.refused {
            return Err(Refusal { reason, action: None });
        }
        let asked = self.judge(number, &parts).map_err(|reason| self.reject(reason))?;
        let agent_side = (asked == Upgrade::WebSocket).then(|| upgrade::agent_side(&mut parts));
        let found = if self.serves_callers() { Found::take(&mut parts.headers) } else { Found::default() };
        let marks = Marks { handles: &found.texts(), trace: found.trace };
        let (exchange, upload) = self.decide(&parts, marks, incoming).await?;
        let action = exchange.action();
        let failed = |reason| Refusal { reason, action: Some(action) };
        let lane = self.lane(exchange.session());
        let following = self.serves_callers().then(|| self.pace.follow(exchange.session()));
        let transfer = Arc::new(Transfer::new(self.pace.wire.clone()));
        let mut running = Running::new(exchange, transfer, self.shared.common.stop.clone());
        running.follow(following);
        if let Err(reason) = self.prepare(&mut parts, &running) {
            running.fail(reason);
            return Err(failed(reason));
        }
        running.search(&lane.searches);
        running.look(|| self.looking());
        if let Some(agent_side) = agent_side {
            if running.mcp().is_some() {
                running.fail(Reason::UpgradeRefused);
                return Err(failed(Reason::UpgradeRefused));
            }
            return Box::pin(upgrade::relay(self, &lane, &self.target, parts, (running, agent_side)))
                .await
                .map_err(failed);
        }
        let wants = if parts.version == Version::HTTP_2 { Alpn::Http2 } else { Alpn::Http1 };
        pass_on(&lane, &self.target, (parts, upload), wants, running).await.map_err(failed)
    }

    /// Asks the gate, which reads the body if it needs it.
    async fn decide(
        &self,
        parts: &Parts,
        marks: Marks<'_>,
        incoming: Incoming,
    ) -> Result<(Exchange, Upload), Refusal> {
        let gate = &self.shared.common.gate;
        let lines = head::lines(&parts.headers);
        let (path, query) = (parts.uri.path(), parts.uri.query());
        let head = RequestHead { method: parts.method.as_str(), path, query, headers: Headers(&lines) };
        let host = &self.target.place.host;
        let mut body = Waiting { line: self, upload: Upload::Streamed(incoming), lost: None };
        let asked = Asked { host, head, marks, body: &mut body };
        let decided = gate.action(&self.admitted, asked).await;
        self.hear(parts, &body.upload);
        Ok((decided?, body.upload))
    }

    /// Keeps what a refusal over MCP is told with. Whatever else was read is none.
    fn hear(&self, parts: &Parts, upload: &Upload) {
        let service = &self.target.service;
        if let Upload::Read(read) = upload
            && service.operations.iter().any(|rule| rule.mcp.is_some())
        {
            let place = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
            let aside = self.seat().lane().asides.find(&service.name, place);
            Echo::hear(parts, read.bytes(), aside);
        }
    }

    /// With what the messages of an MCP server are looked at.
    fn looking(&self) -> Looking {
        let lane = self.seat().lane();
        let (store, asides) = (lane.store.clone(), Arc::clone(&lane.asides));
        Looking { store, asides, service: self.target.service.name.clone() }
    }

    /// As much of the body as is needed, or why it could not be read.
    async fn read(&self, upload: Upload, needed: Needed) -> (Upload, Option<Reason>) {
        let common = &self.shared.common;
        let broken = || match &self.pace.wire {
            Some(wire) if wire.broken() => Reason::BadRequest,
            _ => Reason::ClientGone,
        };
        let (rooms, within) = ([&common.room, &self.seat().lane().room], common.settings.body_timeout);
        let read = match upload {
            Upload::Streamed(incoming) => ReadBody::read((incoming, needed), rooms, within, broken).await,
            Upload::Read(read) => read.go_on(needed, within, broken).await,
            Upload::Nothing => return (Upload::Nothing, None),
        };
        read.map_or_else(|reason| (Upload::Nothing, Some(reason)), |read| (Upload::Read(read), None))
    }

    /// What can be said without asking anybody: is it strict, is it for this place, is it something we relay?
    fn judge(&self, number: u64, parts: &Parts) -> Result<Upgrade, Reason> {
        self.pace.verdict(number)?;
        head::check(parts, &self.target.place)?;
        head::upgrade(parts)
    }

    fn reject(&self, reason: Reason) -> Refusal {
        self.shared.common.gate.reject(&self.admitted, reason)
    }

    /// Makes the request fit to go on: the agent's own credentials go, the lent one takes its place.
    fn prepare(&self, parts: &mut Parts, running: &Running) -> Result<(), Reason> {
        head::fit_for_next_hop(&mut parts.headers);
        let credentials = running.exchange().map(Exchange::credentials).unwrap_or_default();
        if !credentials.is_empty() {
            if !self.target.may_carry_credential() {
                return Err(Reason::UnsafeChannel);
            }
            head::limit_encodings(&mut parts.headers);
        }
        if running.exchange().is_some_and(Exchange::speaks_mcp) {
            mcp::ask_plainly(&mut parts.headers);
        }
        place::prepare(parts, &self.target.service, credentials)?;
        let peer = self.target.service.upstream.peer.as_ref();
        identities::say(&mut parts.headers, running.session(), peer, self.shared.identities.get())
    }
}

/// A body that is read if the gate asks for it, and streams otherwise.
struct Waiting<'a> {
    line: &'a Line,
    upload: Upload,
    lost: Option<Reason>,
}

impl Body for Waiting<'_> {
    fn read(&mut self, needed: Needed) -> BoxFuture<'_, Result<&[u8], Reason>> {
        Box::pin(async move {
            let upload = std::mem::replace(&mut self.upload, Upload::Nothing);
            let (upload, lost) = self.line.read(upload, needed).await;
            (self.upload, self.lost) = (upload, self.lost.or(lost));
            match (&self.upload, self.lost) {
                (Upload::Read(read), None) => Ok(read.bytes()),
                (_, lost) => Err(lost.unwrap_or(Reason::ClientGone)),
            }
        })
    }
}

/// Passes a request on, and its answer back.
pub(crate) async fn pass_on(
    lane: &Arc<Lane>,
    target: &Target,
    (parts, upload): (Parts, Upload),
    wants: Alpn,
    mut running: Running,
) -> Result<Response<Answer>, Reason> {
    let method = parts.method.clone();
    let transfer = Arc::clone(running.transfer());
    let body = AgentBody::new(upload, Arc::clone(&transfer));
    let answer = match lane.send(target, Outgoing { parts, body, transfer, wants }).await {
        Ok(answer) => answer,
        Err(reason) => {
            running.fail(reason);
            return Err(reason);
        }
    };
    let (parts, body) = answer.into_parts();
    running.answered(parts.status.as_u16());
    // Nobody asked for anything else than an answer.
    if parts.status.is_informational() {
        running.fail(Reason::UpstreamBroken);
        return Err(Reason::UpstreamBroken);
    }
    relay_answer(&method, parts, body, running).await
}

/// The answer as whoever asked gets it.
pub(crate) async fn relay_answer(
    method: &Method,
    mut parts: http::response::Parts,
    body: UpstreamBody,
    running: Running,
) -> Result<Response<Answer>, Reason> {
    head::strip_answer(&mut parts.headers);
    parts.extensions.clear();
    let treated = running.scrubber().map(|scrubber| scrubber.head(method, &mut parts)).transpose();
    let treatment = match treated {
        Ok(treatment) => treatment,
        Err(reason) => {
            running.fail(reason);
            return Err(reason);
        }
    };
    if let Some(looking) = running.mcp().cloned() {
        let source = Source::new(body, treatment, &running);
        return mcp::relay(method, parts, (source, looking), running).await;
    }
    let mut ready = Some((body, treatment, running));
    let answer = poll_fn(|cx| match ready.take() {
        Some((body, treatment, running)) => Poll::Ready(Answer::relay(body, treatment, running, cx)),
        None => Poll::Pending,
    });
    Ok(Response::from_parts(parts, answer.await))
}
