//! One door: its listener's settings, its TLS, and what its connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use writ_core::event::ConnectionRefused;
use writ_core::serve::ServeTls;
use writ_core::{AgentName, Reason, Serve, Service, SpiffeId};
use writ_gate::{Caller, Session};

use super::certificate::{Certificate, DoorError};
use super::visit::{self, Visit};
use super::{InboundPorts, Shared};
use crate::head::Place;
use crate::http1;
use crate::identities::Identities;
use crate::lane::Lanes;
use crate::serving::{self, Common, Cuts, Pace};
use crate::strict;
use crate::upstream::pool::Alpn;
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
    Runs(Identities),
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
            ServeTls::Spiffe => Tls::Runs(shared.identities.clone().ok_or(DoorError::NoIdentities)?),
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
                self.http(stream, None, h2, drain).await;
            }
            Tls::Files(certificate) => {
                let config = certificate.config().inspect_err(|error| {
                    tracing::error!(target: "writ::proxy", error = error as &dyn std::error::Error, "no certificate");
                });
                let Ok(config) = config else { return };
                self.secured(stream, config, drain).await;
            }
            Tls::Runs(identities) => {
                // The certificate is that of the run which listens at this moment.
                let base = self.ports.behind.behind(&self.agent, self.serve.to);
                let config = base.and_then(|base| identities.svids.server(&base, self.serve.ungoverned));
                match config {
                    Ok(config) => {
                        let mut config = ServerConfig::clone(&config);
                        config.alpn_protocols = Alpn::Http2.protocols();
                        self.secured(stream, Arc::new(config), drain).await;
                    }
                    Err(reason) => self.refused(None, reason),
                }
            }
        }
    }

    async fn secured(
        self: &Arc<Self>,
        stream: TcpStream,
        config: Arc<ServerConfig>,
        drain: CancellationToken,
    ) {
        let within = self.common.settings.hello_timeout;
        let accepted = Box::pin(TlsAcceptor::from(config).accept(stream));
        let stream = match tokio::time::timeout(within, accepted).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(target: "writ::proxy", %error, "a caller ended the TLS handshake, or was not believed");
                if matches!(self.tls, Tls::Runs(_)) {
                    self.refused(None, Reason::Ungoverned);
                }
                return;
            }
            Err(_) => return,
        };
        let tls = stream.get_ref().1;
        let h2 = tls.alpn_protocol() == Some(b"h2");
        let peer = match &self.tls {
            Tls::Runs(identities) => tls.peer_certificates().and_then(|chain| identities.svids.peer(chain)),
            Tls::None | Tls::Files(_) => None,
        };
        self.http(stream, peer, h2, drain).await;
    }

    /// For whom a governed peer calls, as its node says.
    pub(super) fn believe(&self, said: &str, from: &SpiffeId, to: &Session) -> Result<Caller, Reason> {
        match &self.tls {
            Tls::Runs(identities) => identities.vouch.believe(said, from, to),
            Tls::None | Tls::Files(_) => Err(Reason::CallerRefused),
        }
    }

    /// Whether peers must be governed.
    pub(super) fn governed(&self) -> bool {
        matches!(self.tls, Tls::Runs(_)) && !self.serve.ungoverned
    }

    async fn http<S>(self: &Arc<Self>, io: S, peer: Option<SpiffeId>, h2: bool, drain: CancellationToken)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        if h2 {
            let visit = Arc::new(Visit { door: Arc::clone(self), pace: Pace::new(None), peer });
            Box::pin(serving::serve_http2(visit, io, Cuts::EachAlone, drain)).await;
        } else {
            let wire = Arc::new(strict::Wire::default());
            let visit =
                Arc::new(Visit { door: Arc::clone(self), pace: Pace::new(Some(Arc::clone(&wire))), peer });
            http1::serve(visit, io, wire, drain).await;
        }
    }

    /// Counts a refusal, and records it unless one was recorded in the same second.
    pub(super) fn refused(&self, base: Option<&Session>, reason: Reason) {
        let event = ConnectionRefused {
            actor: base.map(Session::actor),
            conn: None,
            destination: format!("{} at {}", self.agent, self.serve.listen),
            process: None,
            reason,
            transport: "inbound".to_owned(),
        };
        self.common.tally.refuse();
        let ports = self.common.gate.ports();
        let second = ports.clock.now().seconds();
        if self.refusal_recorded.swap(second, Ordering::Relaxed) != second {
            ports.record.note(event.into());
        }
    }
}
