//! One door: its listener's settings, its TLS, and what its connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use writ_core::event::ConnectionRefused;
use writ_core::serve::ServeTls;
use writ_core::{AgentName, Serve, Service};
use writ_gate::Session;

use super::certificate::{Certificate, DoorError};
use super::visit::{self, Visit};
use super::{InboundPorts, Shared};
use crate::head::Place;
use crate::http1;
use crate::lane::Lanes;
use crate::serving::{self, Common, Cuts, Pace};
use crate::strict;
use crate::upstream::{Server, Way};

/// How every HTTP/2 connection without TLS begins (RFC 9113, section 3.4); no HTTP/1 method does.
const PREFACE: &[u8; 3] = b"PRI";

/// What the connections of one listener share.
pub(super) struct Door {
    pub(super) agent: AgentName,
    pub(super) serve: Serve,
    pub(super) common: Common,
    pub(super) ports: InboundPorts,
    pub(super) lanes: Lanes,
    /// The agent's server, over HTTP/1.
    pub(super) server: Arc<Service>,
    /// The same over HTTP/2 without TLS, which is what gRPC servers speak on loopback.
    pub(super) grpc: Arc<Service>,
    pub(super) place: Place,
    tls: Tls,
    /// The second in which a refusal was last recorded.
    refusal_recorded: AtomicU64,
}

enum Tls {
    None,
    Files(Certificate),
}

impl Door {
    pub(super) fn new(shared: &Shared, agent: &AgentName, serve: &Serve) -> Result<Self, DoorError> {
        let tls = match &serve.tls {
            ServeTls::None => Tls::None,
            ServeTls::Files { certificate, key } => {
                let certificate = Certificate::new(certificate.clone(), key.clone());
                certificate.config()?;
                Tls::Files(certificate)
            }
            ServeTls::Spiffe => return Err(DoorError::NoIdentities),
        };
        let name = agent.as_str();
        let names = (
            visit::server(name, serve.to),
            visit::server(&format!("{name}.grpc"), serve.to),
            visit::place(serve.to),
        );
        // An agent's name may be as long as a service's may be.
        let (Some(server), Some(grpc), Some(place)) = names else { return Err(DoorError::NameTooLong) };
        Ok(Self {
            agent: agent.clone(),
            serve: serve.clone(),
            common: Common::sharing(
                Arc::clone(&shared.settings),
                shared.gate.clone(),
                Arc::clone(&shared.tally),
            ),
            ports: shared.ports.clone(),
            lanes: Lanes::default(),
            server,
            grpc,
            place,
            tls,
            refusal_recorded: AtomicU64::new(0),
        })
    }

    /// How to reach the server of this run, and no other process that took its port.
    pub(super) fn way(&self, session: &Arc<Session>) -> Way {
        Way::Server(Server {
            behind: Arc::clone(&self.ports.behind),
            session: Arc::clone(session),
            port: self.serve.to,
        })
    }

    /// Serves one connection to its end.
    pub(super) async fn connection(self: Arc<Self>, stream: TcpStream, drain: CancellationToken) {
        // Small writes must not wait for acknowledgements on either leg.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let stop = self.common.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.protocol(stream, drain) => {}
        }
    }

    async fn protocol(self: Arc<Self>, stream: TcpStream, drain: CancellationToken) {
        let within = self.common.settings.hello_timeout;
        match &self.tls {
            Tls::None => {
                let mut first = [0u8; 3];
                // Whoever sends less than that at first speaks HTTP/1, or is refused as such.
                let Ok(Ok(_)) = tokio::time::timeout(within, stream.peek(&mut first)).await else { return };
                let h2 = first == *PREFACE;
                self.http(stream, h2, drain).await;
            }
            Tls::Files(certificate) => {
                let config = certificate.config().inspect_err(|error| {
                    tracing::error!(target: "writ::proxy", error = error as &dyn std::error::Error, "no certificate");
                });
                let Ok(config) = config else { return };
                let accepted = Box::pin(TlsAcceptor::from(config).accept(stream));
                let Ok(Ok(stream)) = tokio::time::timeout(within, accepted).await else { return };
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.http(stream, h2, drain).await;
            }
        }
    }

    async fn http<S>(self: Arc<Self>, io: S, h2: bool, drain: CancellationToken)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        if h2 {
            let visit = Arc::new(Visit { door: self, pace: Pace::new(None) });
            Box::pin(serving::serve_http2(visit, io, Cuts::EachAlone, drain)).await;
        } else {
            let wire = Arc::new(strict::Wire::default());
            let visit = Arc::new(Visit { door: self, pace: Pace::new(Some(Arc::clone(&wire))) });
            http1::serve(visit, io, wire, drain).await;
        }
    }

    /// Counts a refusal, and records it unless one was recorded in the same second.
    pub(super) fn refused(&self, event: ConnectionRefused) {
        self.common.tally.refuse();
        let ports = self.common.gate.ports();
        let second = ports.clock.now().seconds();
        if self.refusal_recorded.swap(second, Ordering::Relaxed) != second {
            ports.record.note(event.into());
        }
    }
}
