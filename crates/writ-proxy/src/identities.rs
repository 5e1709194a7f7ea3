//! Governed runs as peers of each other: mutual TLS with their identities, and the word of their nodes for whom they call.
//!
//! Neither run sees any of it. Invariant: what is said for whom a run calls leaves Writ only on a connection on which the
//! callee was proven, and is believed only on one on which the caller was.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use writ_core::service::AgentPeer;
use writ_core::{Reason, SpiffeId};
use writ_gate::{Session, Vouch};

/// The identities of runs, in TLS.
///
/// Settings are asked for anew for each connection, from memory and at once; they use the documents of that moment and
/// resume nothing.
pub trait Svids: Send + Sync {
    /// Presents the identity of the session's run, and believes this peer and no other.
    fn client(&self, session: &Session, peer: &AgentPeer) -> Result<Arc<ClientConfig>, Reason>;
    /// Presents the identity of the session's run and asks for the peer's, which must be believed. With `anyone`, a peer may
    /// have none.
    fn server(&self, session: &Session, anyone: bool) -> Result<Arc<ServerConfig>, Reason>;
    /// The identity in a chain that a handshake has verified.
    fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<SpiffeId>;
}

/// What agents among themselves need.
#[derive(Clone)]
pub struct Identities {
    /// Who is at the other end.
    pub svids: Arc<dyn Svids>,
    /// For whom they call.
    pub vouch: Arc<dyn Vouch>,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

/// Where nodes speak to each other. Agents neither see nor write it.
const CALLER: HeaderName = HeaderName::from_static("writ-caller");

/// Removes what only nodes may say, and says it where the callee is a run.
pub(crate) fn say(
    headers: &mut HeaderMap,
    session: &Session,
    peer: Option<&AgentPeer>,
    identities: Option<&Identities>,
) -> Result<(), Reason> {
    headers.remove(CALLER);
    let Some(peer) = peer else { return Ok(()) };
    let said = identities.ok_or(Reason::UpstreamTls)?.vouch.vouch(session, peer)?;
    let mut value = HeaderValue::try_from(said).map_err(|_| Reason::BrokerFailed)?;
    value.set_sensitive(true);
    headers.insert(CALLER, value);
    Ok(())
}

/// Takes what the other node said out of the request.
pub(crate) fn hear(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut said = headers.get_all(CALLER).iter();
    let heard = said.next().cloned().filter(|_| said.next().is_none());
    headers.remove(CALLER);
    heard
}
