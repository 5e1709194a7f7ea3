//! Runs as peers of each other: their identities in TLS, and the word of this node for whom they call.
//!
//! Every connection gets a document of its own, so nothing turns over under it. What is vouched for is signed with the trust
//! domain's key, bound to the two runs whose identities the connection proves, and good for a minute.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use writ_core::service::AgentPeer;
use writ_core::{Clock, HumanId, Reason, SpiffeId, Timestamp};
use writ_gate::{Caller, Parent, Session, Vouch};
use writ_identity::mtls::{self, Presented, Verifier};
use writ_identity::{Authority, validate};
use writ_proxy::{Identities, Svids};

/// The `typ` of what one node tells another.
const TYP: &str = "writ-call+jwt";
/// How long a node's word is good: a request follows it at once.
const WORD_TTL: Duration = Duration::from_mins(1);

/// This node among its peers.
pub(crate) struct Peers {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
}

/// What a node says of a call. Everything in it was proven there.
#[derive(Serialize, Deserialize)]
struct Word {
    /// Seconds since 1970.
    exp: u64,
    groups: Vec<String>,
    name: Option<String>,
    /// The runs that led here; the last one calls.
    parents: Vec<Parent>,
    /// The human.
    sub: HumanId,
    /// The callee.
    to: String,
    /// When the session behind it ends, microseconds.
    until_us: Timestamp,
}

impl Peers {
    /// What relay and doors ask of this node.
    pub(crate) fn identities(authority: Arc<Authority>, clock: Arc<dyn Clock>) -> Identities {
        let peers = Arc::new(Self { authority, clock });
        Identities { svids: Arc::clone(&peers) as _, vouch: peers }
    }

    fn presented(&self, session: &Session) -> Option<Arc<Presented>> {
        let issuer = self.authority.issuer();
        let svid = issuer.x509(&session.facts().spiffe_id, session.expires());
        let svid = svid.inspect_err(unready).ok()?;
        let presented = Arc::new(Presented::default());
        presented.set(&svid).inspect_err(unready).ok()?;
        Some(presented)
    }

    fn verifier(&self, admit: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static) -> Verifier {
        let bundles = self.authority.bundles();
        let trust = Arc::new(move || Arc::clone(&bundles.borrow()));
        Verifier::new(trust, Arc::clone(&self.clock), Arc::new(admit))
    }
}

fn unready(error: &writ_identity::Error) {
    tracing::error!(target: "writ::identity", error = error as &dyn std::error::Error, "a run cannot show its identity");
}

impl Svids for Peers {
    fn client(&self, session: &Session, peer: &AgentPeer) -> Result<Arc<ClientConfig>, Reason> {
        let presented = self.presented(session).ok_or(Reason::UpstreamTls)?;
        let (peer, own) = (peer.clone(), session.facts().spiffe_id.trust_domain().to_owned());
        let config = mtls::client(presented, self.verifier(move |id| peer.is(id, &own)));
        config.map(Arc::new).inspect_err(unready).map_err(|_| Reason::UpstreamTls)
    }

    fn server(&self, session: &Session, anyone: bool) -> Result<Arc<ServerConfig>, Reason> {
        let presented = self.presented(session).ok_or(Reason::NoServer)?;
        let config = if anyone {
            mtls::server_for_anyone(presented)
        } else {
            mtls::server(presented, self.verifier(|_| true))
        };
        config.map(Arc::new).inspect_err(unready).map_err(|_| Reason::NoServer)
    }

    fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<SpiffeId> {
        mtls::peer(chain).ok()
    }
}

impl Vouch for Peers {
    fn vouch(&self, session: &Session, to: &AgentPeer) -> Result<String, Reason> {
        let facts = session.facts();
        let own = Parent {
            agent: facts.agent.clone(),
            run: facts.run,
            session: facts.id,
            spiffe_id: facts.spiffe_id.clone(),
        };
        let word = Word {
            exp: self.clock.now().plus(WORD_TTL).seconds(),
            groups: facts.human.groups.clone(),
            name: facts.human.display.clone(),
            parents: facts.delegation.parents.iter().cloned().chain([own]).collect(),
            sub: facts.human.id.clone(),
            to: to.to_string(),
            until_us: session.expires(),
        };
        let Ok(serde_json::Value::Object(claims)) = serde_json::to_value(word) else {
            return Err(Reason::BrokerFailed);
        };
        let signed = self.authority.issuer().sign(TYP, &claims);
        signed.inspect_err(unready).map(|token| token.expose().to_owned()).map_err(|_| Reason::BrokerFailed)
    }

    fn believe(&self, said: &str, from: &SpiffeId, to: &Session) -> Result<Caller, Reason> {
        let bundles = Arc::clone(&self.authority.bundles().borrow());
        let bundle = bundles.get(from.trust_domain()).ok_or(Reason::CallerRefused)?;
        let believed = validate::token(said, TYP, bundle, self.clock.now());
        let claims = believed.map_err(|_| Reason::CallerRefused)?.claims;
        let word: Word =
            serde_json::from_value(serde_json::Value::Object(claims)).map_err(|_| Reason::CallerRefused)?;
        let meant: AgentPeer = word.to.parse().map_err(|_| Reason::CallerRefused)?;
        let callers = word.parents.last().is_some_and(|parent| parent.spiffe_id == *from);
        if !callers || !meant.is(&to.facts().spiffe_id, from.trust_domain()) {
            return Err(Reason::CallerRefused);
        }
        Ok(Caller {
            human: word.sub,
            display: word.name,
            groups: word.groups,
            expires: word.until_us,
            parents: word.parents,
        })
    }
}
