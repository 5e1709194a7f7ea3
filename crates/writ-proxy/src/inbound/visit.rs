//! One connection of a caller, and each of its requests: proven, joined, passed on to the agent's server.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response};
use hyper::body::Incoming;
use writ_core::service::{Upstream, UpstreamAddress};
use writ_core::{HostName, Protocol, Reason, Service, ServiceName, SpiffeId};
use writ_gate::{Joined, Refusal, Served, Session, limits};

use super::door::Door;
use super::token::{self, Taken};
use super::trace;
use crate::act::pass_on;
use crate::body::{Answer, Transfer, Upload};
use crate::head::{self, Place, Upgrade};
use crate::identities;
use crate::lane::Lane;
use crate::marks::Found;
use crate::refusal::Voice;
use crate::running::Running;
use crate::serving::{Common, Pace, Serving};
use crate::upgrade;
use crate::upstream::Target;
use crate::upstream::pool::Alpn;

/// One connection of a caller.
pub(super) struct Visit {
    pub(super) door: Arc<Door>,
    pub(super) pace: Pace,
    /// The run at the other end, proven by TLS.
    pub(super) peer: Option<SpiffeId>,
}

/// Whom a request is passed on for, and to whose server.
struct Let {
    base: Arc<Session>,
    /// Absent on an open path.
    joined: Option<Joined>,
}

impl Serving for Visit {
    fn common(&self) -> &Common {
        &self.door.common
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn busy(&self) -> bool {
        self.pace.following()
    }

    fn malformed(&self) {
        self.door.refused(None, Reason::BadRequest);
    }

    async fn act(
        self: Arc<Self>,
        number: u64,
        parts: Parts,
        incoming: Incoming,
    ) -> Result<Response<Answer>, Refusal> {
        let mut base = None;
        match self.pass(number, parts, incoming, &mut base).await {
            Ok(answer) => Ok(answer),
            Err(reason) => {
                self.door.refused(base.as_deref(), reason);
                Err(Refusal { reason, action: None })
            }
        }
    }

    fn refuse(&self, voice: Voice, refusal: &Refusal) -> Response<Answer> {
        let mut answer = voice.refuse(refusal).map(Answer::own);
        // RFC 6750, section 3: who brings no token is told no error.
        let error = if refusal.reason == Reason::CallerRefused { ", error=\"invalid_token\"" } else { "" };
        if refusal.reason.http_status() == 401
            && let Ok(value) = HeaderValue::try_from(format!("Bearer realm=\"{}\"{error}", self.door.agent))
        {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        answer
    }
}

impl Visit {
    async fn pass(
        self: &Arc<Self>,
        number: u64,
        mut parts: Parts,
        incoming: Incoming,
        base: &mut Option<Arc<Session>>,
    ) -> Result<Response<Answer>, Reason> {
        self.pace.verdict(number)?;
        let authority = authority(&parts)?;
        let asked = head::upgrade(&parts)?;
        let Let { base: server, joined } = self.let_in(&mut parts, base).await?;
        let session = joined.as_ref().map_or(&server, |joined| &joined.session);
        let following = self.pace.follow(session);
        let ids = &self.door.common.gate.ports().ids;
        trace::settle(
            &mut parts.headers,
            joined.as_ref().map(|j| &j.session),
            &*self.door.ports.join,
            &**ids,
        );

        let agent_side = (asked == Upgrade::WebSocket).then(|| upgrade::agent_side(&mut parts));
        head::fit_for_next_hop(&mut parts.headers);
        let grpc = Voice::of(&parts) == Voice::Grpc;
        let target = self.door.target(grpc, authority);
        let lane = self.door.lane(&server);
        let transfer = Arc::new(Transfer::new(self.pace.wire.clone()));
        let stop = self.door.common.stop.clone();
        let mut running = Running::without_action(Arc::clone(session), transfer, stop);
        running.follow(Some(following));
        if let Some(agent_side) = agent_side {
            return Box::pin(upgrade::relay(self, &lane, &target, parts, (running, agent_side))).await;
        }
        let wants = if grpc { Alpn::Http2 } else { Alpn::Http1 };
        pass_on(&lane, &target, (parts, Upload::Streamed(incoming)), wants, running).await
    }

    /// Who the caller is, and whose server answers them.
    async fn let_in(&self, parts: &mut Parts, known: &mut Option<Arc<Session>>) -> Result<Let, Reason> {
        let Door { agent, serve, ports, .. } = &*self.door;
        let said = identities::hear(&mut parts.headers);
        if let Some(peer) = &self.peer {
            return self.let_run_in(parts, peer, said, known).await;
        }
        if self.door.governed() {
            return Err(Reason::Ungoverned);
        }
        let open = serve.open.iter().any(|open| open.covers(parts.uri.path()));
        let caller = match token::take(parts, &serve.token) {
            Ok(None) if open => None,
            Ok(None) => return Err(Reason::CallerMissing),
            Ok(Some(taken)) => match self.verify(taken).await {
                Ok(proven) => Some(proven),
                Err(_) if open => None,
                Err(reason) => return Err(reason),
            },
            Err(reason) => return Err(reason),
        };
        let base = ports.behind.behind(agent, serve.to)?;
        *known = Some(Arc::clone(&base));
        let Some((caller, scheme, place)) = caller else { return Ok(Let { base, joined: None }) };
        let joined = ports.join.join(&base, caller).await?;
        Taken::replace(&scheme, &place, &joined.handle, &mut parts.headers);
        Ok(Let { base, joined: Some(joined) })
    }

    /// A run that calls: its agent must be named, and its node say for whom.
    async fn let_run_in(
        &self,
        parts: &mut Parts,
        peer: &SpiffeId,
        said: Option<HeaderValue>,
        known: &mut Option<Arc<Session>>,
    ) -> Result<Let, Reason> {
        let Door { agent, serve, ports, .. } = &*self.door;
        Found::take(&mut parts.headers);
        let base = ports.behind.behind(agent, serve.to)?;
        *known = Some(Arc::clone(&base));
        if !serve.agents.iter().any(|named| named.is(peer, base.facts().spiffe_id.trust_domain())) {
            return Err(Reason::Ungoverned);
        }
        let said = said.as_ref().and_then(|said| said.to_str().ok()).ok_or(Reason::CallerMissing)?;
        let caller = self.door.believe(said, peer, &base)?;
        let joined = ports.join.join(&base, caller).await?;
        token::present(&serve.token, &joined.handle, &mut parts.headers)?;
        Ok(Let { base, joined: Some(joined) })
    }

    async fn verify(&self, taken: Taken) -> Result<Proven, Reason> {
        let Door { agent, serve, ports, .. } = &*self.door;
        let audience = serve.audience.as_deref().ok_or(Reason::CallerRefused)?;
        let served = Served { agent, issuer: serve.issuer.as_deref(), audience };
        let (secret, scheme, place) = taken.into_parts();
        let verified = ports.callers.caller(served, secret);
        let within = tokio::time::timeout(limits::CALLER_TIMEOUT, verified).await;
        Ok((within.unwrap_or(Err(Reason::CallerUnverified))?, scheme, place))
    }
}

/// A caller with the place of their token.
type Proven = (writ_gate::Caller, String, http::HeaderName);

/// The host that is asked for, as the caller wrote it. Every name of the request must be the same, and there must be one.
fn authority(parts: &Parts) -> Result<HeaderValue, Reason> {
    if [Method::CONNECT, Method::TRACE].contains(&parts.method) {
        return Err(Reason::MethodRefused);
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let named = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    let named = named.transpose().map_err(|_| Reason::BadRequest)?;
    let authority = match (host, named) {
        (Some(host), Some(named)) if !host.as_bytes().eq_ignore_ascii_case(named.as_bytes()) => {
            return Err(Reason::NameMismatch);
        }
        (Some(host), _) => host.clone(),
        (None, Some(named)) => named,
        (None, None) => return Err(Reason::BadRequest),
    };
    let text = authority.to_str().map_err(|_| Reason::BadRequest)?;
    let clear = text.parse::<Authority>().is_ok() && !text.contains('@');
    if other.is_some() || !clear || !parts.uri.path().starts_with('/') {
        return Err(Reason::BadRequest);
    }
    Ok(authority)
}

/// The agent's own server as something to connect to.
pub(super) fn server(name: &str, port: u16) -> Option<Arc<Service>> {
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    let upstream = Upstream { address: Some(UpstreamAddress::Socket(address)), ..Upstream::default() };
    Some(Arc::new(Service {
        name: ServiceName::new(name).ok()?,
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![port],
        protocol: Protocol::Http,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream,
        credential: None,
        operations: Vec::new(),
    }))
}

impl Door {
    fn target(&self, grpc: bool, authority: HeaderValue) -> Target {
        let service = if grpc { &self.grpc } else { &self.server };
        Target { service: Arc::clone(service), place: self.place.clone(), authority: Some(authority) }
    }

    /// What connections to the server of this run share.
    fn lane(&self, session: &Arc<Session>) -> Arc<Lane> {
        self.lanes.of(session, &self.common, || self.way(session))
    }
}

/// Where the agent's server is, for the pool alone: the host is the caller's.
pub(super) fn place(port: u16) -> Option<Place> {
    Some(Place { host: HostName::new("localhost").ok()?, literal: None, port, tls: false })
}
