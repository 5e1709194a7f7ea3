//! The way to the services: looking up, dialling, verifying.
//!
//! The relay looks names up itself and dials only what it checked; TLS is verified for the name that the agent
//! asked for, against the system's roots or the service's own. Nothing is followed and nothing guessed.

mod address;
pub(crate) mod io;
pub(crate) mod pool;
mod trust;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HeaderValue;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use writ_core::service::UpstreamAddress;
use writ_core::{Protocol, Reason, Service};
use writ_gate::{Behind, Session};

use crate::head::Place;
use crate::identities::Identities;
use io::Io;
use pool::Alpn;
pub(crate) use trust::{SessionTrust, Trust};

/// Where a request goes: a service, at the one place that all names agree on.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) service: Arc<Service>,
    pub(crate) place: Place,
    /// What stands in `Host` or `:authority`, where that is not for the place to say.
    pub(crate) authority: Option<HeaderValue>,
}

impl Target {
    /// What stands in `Host` or `:authority`.
    pub(crate) fn authority(&self) -> Result<HeaderValue, Reason> {
        match &self.authority {
            Some(authority) => Ok(authority.clone()),
            None => HeaderValue::try_from(self.place.authority()).map_err(|_| Reason::BadRequest),
        }
    }

    /// Whether the way there is TLS that is verified for the service's name, or for the run that it is.
    pub(crate) fn verified(&self) -> bool {
        self.service.protocol == Protocol::Https || self.service.upstream.peer.is_some()
    }

    /// Whether a credential may travel there.
    pub(crate) fn may_carry_credential(&self) -> bool {
        self.verified() || self.service.upstream.danger_plaintext_credential
    }
}

/// How the connections of a session are made.
pub(crate) enum Way {
    /// To services, as their files say.
    Services(Services),
    /// To the server of a governed run.
    Server(Server),
}

/// What one session needs to reach services.
pub(crate) struct Services {
    pub(crate) trust: SessionTrust,
    pub(crate) session: Arc<Session>,
    pub(crate) identities: Arc<OnceLock<Identities>>,
}

impl Services {
    /// TLS settings for a service, with this offer.
    fn config(&self, target: &Target, offer: Alpn) -> Result<Arc<ClientConfig>, Reason> {
        let upstream = &target.service.upstream;
        let Some(peer) = &upstream.peer else {
            return self.trust.client_config(upstream.ca_file.as_deref(), offer);
        };
        let identities = self.identities.get().ok_or(Reason::UpstreamTls)?;
        let mut config = ClientConfig::clone(&*identities.svids.client(&self.session, peer)?);
        config.alpn_protocols = offer.protocols();
        Ok(Arc::new(config))
    }
}

/// The server of a run, on loopback.
pub(crate) struct Server {
    pub(crate) behind: Arc<dyn Behind>,
    pub(crate) session: Arc<Session>,
    pub(crate) port: u16,
}

impl Way {
    /// A connection to the target, and what is spoken on it.
    pub(crate) async fn dial(
        &self,
        target: &Target,
        wants: Alpn,
        within: Duration,
    ) -> Result<(Io, Alpn), Reason> {
        match self {
            Self::Services(services) => dial(target, services, wants, within).await,
            Self::Server(server) => {
                let connected = server.connect(target);
                let stream =
                    tokio::time::timeout(within, connected).await.unwrap_or(Err(Reason::NoServer))?;
                Ok((Io::Plain(stream), wants))
            }
        }
    }
}

impl Server {
    /// Connects if the port belongs to the run before and after: then it did in between, since a port that is listened on
    /// cannot change hands without being given up by the run itself.
    async fn connect(&self, target: &Target) -> Result<TcpStream, Reason> {
        self.check(target)?;
        let stream = connect(target).await.map_err(|_| Reason::NoServer)?;
        self.check(target)?;
        Ok(stream)
    }

    fn check(&self, target: &Target) -> Result<(), Reason> {
        let behind = self.behind.behind(&self.session.facts().agent, self.port)?;
        if behind.facts().id == self.session.facts().id {
            return Ok(());
        }
        tracing::warn!(target: "writ::proxy", service = %target.service.name, "the server of another run took the port");
        Err(Reason::NoServer)
    }
}

/// Connects and, for an `https` service, speaks TLS, all within the time allowed.
pub(crate) async fn dial(
    target: &Target,
    services: &Services,
    offer: Alpn,
    within: Duration,
) -> Result<(Io, Alpn), Reason> {
    let dialled = async {
        if !target.verified() {
            return Ok((Io::Plain(connect(target).await?), Alpn::Http1));
        }
        let config = services.config(target, offer)?;
        match secure(target, config).await {
            // The service speaks nothing but HTTP/2; the relay translates.
            Err(Failed::NoCommonProtocol) if offer == Alpn::Http1 => {
                let config = services.config(target, Alpn::Http2)?;
                secure(target, config).await
            }
            other => other,
        }
        .map_err(|failed| match failed {
            Failed::NoCommonProtocol => Reason::UpstreamTls,
            Failed::Because(reason) => reason,
        })
    };
    tokio::time::timeout(within, dialled).await.unwrap_or(Err(Reason::UpstreamTimeout))
}

/// Connects without TLS: for opaque services.
pub(crate) async fn dial_opaque(target: &Target, within: Duration) -> Result<TcpStream, Reason> {
    tokio::time::timeout(within, connect(target)).await.unwrap_or(Err(Reason::UpstreamTimeout))
}

enum Failed {
    NoCommonProtocol,
    Because(Reason),
}

async fn secure(target: &Target, config: Arc<ClientConfig>) -> Result<(Io, Alpn), Failed> {
    let tcp = connect(target).await.map_err(Failed::Because)?;
    let name = ServerName::try_from(target.place.host.as_str().to_owned())
        .map_err(|_| Failed::Because(Reason::UpstreamTls))?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(stream) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((Io::Tls(Box::new(stream)), if h2 { Alpn::Http2 } else { Alpn::Http1 }))
        }
        Err(error) => Err(tls_failure(target, &error)),
    }
}

fn tls_failure(target: &Target, error: &std::io::Error) -> Failed {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    tracing::info!(target: "writ::proxy", service = %target.service.name, %error, "no TLS with the service");
    match cause {
        Some(
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol,
        ) => Failed::NoCommonProtocol,
        Some(_) => Failed::Because(Reason::UpstreamTls),
        None => Failed::Because(Reason::UpstreamRefused),
    }
}

async fn connect(target: &Target) -> Result<TcpStream, Reason> {
    let addresses = addresses(target).await?;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small writes must not wait for acknowledgements on either leg.
                stream.set_nodelay(true).map_err(|_| Reason::UpstreamRefused)?;
                return Ok(stream);
            }
            Err(error) => {
                tracing::info!(target: "writ::proxy", service = %target.service.name, %error, "no connection");
            }
        }
    }
    Err(Reason::UpstreamRefused)
}

/// What may be dialled. A service that names its upstream, or lists a literal address, may be anywhere; a name
/// that was looked up may not lead into private or local networks.
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Reason> {
    let place = &target.place;
    match (&target.service.upstream.address, place.literal) {
        (Some(UpstreamAddress::Socket(address)), _) => Ok(vec![*address]),
        (Some(UpstreamAddress::Name(name, port)), _) => look_up(name.as_str(), *port).await,
        (None, Some(literal)) => Ok(vec![literal]),
        (None, None) => {
            let mut found = look_up(place.host.as_str(), place.port).await?;
            found.retain(|address| address::allowed(address.ip()));
            if found.is_empty() { Err(Reason::UpstreamAddressRefused) } else { Ok(found) }
        }
    }
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, Reason> {
    let found: Vec<_> = lookup_host((name, port)).await.map_err(|_| Reason::UpstreamUnresolved)?.collect();
    if found.is_empty() { Err(Reason::UpstreamUnresolved) } else { Ok(found) }
}
