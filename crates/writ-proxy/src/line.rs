//! One HTTP connection of an agent: TLS or not, HTTP/1 or HTTP/2, until it ends.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use writ_core::{ActsFor, HostName, Reason};
use writ_gate::{Admitted, Refusal, Session};

use crate::body::Answer;
use crate::head::Place;
use crate::http1;
use crate::lane::{Lane, Seat};
use crate::refusal;
use crate::relay::Shared;
use crate::serving::{self, Common, Cuts, Pace, Serving};
use crate::strict;
use crate::tls::{self, NoTls};
use crate::upstream::Target;

/// What the requests of one connection share.
pub(crate) struct Line {
    pub(crate) shared: Arc<Shared>,
    pub(crate) admitted: Arc<Admitted>,
    pub(crate) target: Target,
    /// What every request is told, if the connection itself was not acceptable.
    pub(crate) refused: Option<Reason>,
    pub(crate) pace: Pace,
    seat: Seat,
}

impl Line {
    /// Its place among the connections of its session.
    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// What connections of the session that acts share. It is the connection's own session unless that acts for callers.
    pub(crate) fn lane(&self, acting: &Arc<Session>) -> Arc<Lane> {
        let own = self.seat.lane();
        if Arc::ptr_eq(&own.session, acting) { Arc::clone(own) } else { self.shared.lane(acting) }
    }

    /// Whether its requests may act in sessions other than its own.
    pub(crate) fn serves_callers(&self) -> bool {
        self.admitted.session().facts().delegation.acts_for == ActsFor::Caller
    }
}

impl Serving for Line {
    fn common(&self) -> &Common {
        &self.shared.common
    }

    fn pace(&self) -> &Pace {
        &self.pace
    }

    fn busy(&self) -> bool {
        self.admitted.actions_open() > 0
    }

    fn malformed(&self) {
        self.shared.common.gate.reject(&self.admitted, Reason::BadRequest);
    }

    async fn act(
        self: Arc<Self>,
        number: u64,
        parts: Parts,
        incoming: Incoming,
    ) -> Result<Response<Answer>, Refusal> {
        self.action(number, parts, incoming).await
    }
}

/// A connection to an `https` service.
pub(crate) async fn serve_https(
    shared: Arc<Shared>,
    stream: TcpStream,
    admitted: Arc<Admitted>,
    seat: Seat,
    drain: CancellationToken,
) {
    let Some(authority) = shared.authorities.get(admitted.session().facts().id) else {
        tracing::warn!(target: "writ::proxy", "a session without a certificate authority");
        shared.common.gate.reject(&admitted, Reason::NotReady);
        return;
    };
    // On the heap while it lasts: a connection keeps the size of its largest state for its whole life.
    let accepted = Box::pin(tls::accept(stream, &admitted, &authority));
    let secured = match tokio::time::timeout(shared.common.settings.hello_timeout, accepted).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(no_tls)) => return without_tls(&shared, &admitted, no_tls).await,
        Err(_) => return,
    };
    drop(authority);
    if let Some(reason) = secured.refused {
        shared.common.gate.reject(&admitted, reason);
    }
    let h2 = secured.stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let place = place(&admitted, secured.host, true);
    let (io, refused) = (secured.stream, secured.refused);
    let opened = Opened { shared, admitted, place, refused, seat };
    if h2 {
        let line = opened.line(None);
        let cuts = if line.serves_callers() { Cuts::EachAlone } else { Cuts::Together };
        Box::pin(serving::serve_http2(line, io, cuts, drain)).await;
    } else {
        let wire = Arc::new(strict::Wire::default());
        http1::serve(opened.line(Some(Arc::clone(&wire))), io, wire, drain).await;
    }
}

/// A connection to an `http` service.
pub(crate) async fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    admitted: Arc<Admitted>,
    seat: Seat,
    drain: CancellationToken,
) {
    let Some(host) = some_name(&admitted) else {
        shared.common.gate.reject(&admitted, Reason::UnknownDestination);
        return;
    };
    let place = place(&admitted, host, false);
    let opened = Opened { shared, admitted, place, refused: None, seat };
    let wire = Arc::new(strict::Wire::default());
    http1::serve(opened.line(Some(Arc::clone(&wire))), stream, wire, drain).await;
}

async fn without_tls(shared: &Arc<Shared>, admitted: &Arc<Admitted>, no_tls: NoTls) {
    match no_tls {
        NoTls::Refused(reason) => {
            shared.common.gate.reject(admitted, reason);
        }
        NoTls::Plain(mut stream, first) => {
            let refusal = shared.common.gate.reject(admitted, Reason::NotTls);
            if first.is_ascii_uppercase() {
                let told = async {
                    stream.write_all(&refusal::raw(&refusal)).await?;
                    stream.shutdown().await?;
                    tls::discard(&mut stream).await
                };
                let within = shared.common.settings.hello_timeout;
                drop(tokio::time::timeout(within, told).await);
            }
        }
        NoTls::Gone(error) => {
            tracing::debug!(target: "writ::proxy", %error, "a client ended the TLS handshake");
        }
    }
}

/// The name of the destination; for a literal address, a name of the service that lists it.
pub(crate) fn some_name(admitted: &Admitted) -> Option<HostName> {
    use writ_core::service::HostPattern;
    let service = admitted.service();
    let first = service.hosts.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => Some(name.clone()),
        HostPattern::Below(_) => None,
    });
    let named = || HostName::new(service.name.as_str()).ok();
    admitted.conn().destination.name.clone().or(first).or_else(named)
}

pub(crate) fn place(admitted: &Admitted, host: HostName, tls: bool) -> Place {
    let destination = &admitted.conn().destination;
    let literal = destination.name.is_none().then_some(destination.address);
    Place { host, literal, port: destination.address.port(), tls }
}

/// A connection whose destination is known.
struct Opened {
    shared: Arc<Shared>,
    admitted: Arc<Admitted>,
    place: Place,
    refused: Option<Reason>,
    seat: Seat,
}

impl Opened {
    fn line(self, wire: Option<Arc<strict::Wire>>) -> Arc<Line> {
        let Self { shared, admitted, place, refused, seat } = self;
        let target = Target { service: Arc::clone(admitted.service()), place, authority: None };
        Arc::new(Line { shared, admitted, target, refused, pace: Pace::new(wire), seat })
    }
}
