//! Trust bundles: what one trust domain's identities are checked with (SPIFFE Trust Domain and Bundle, section 4).
//!
//! A [`Bundle`] belongs to one trust domain and is never merged with another's. [`Bundles`] is what is trusted at one
//! moment: our own and those of federated domains, side by side. [`Publication`] is where it changes.
//!
//! Invariant: a bundle without keys is kept and means that nothing of that trust domain is believed any more.

mod jwks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use tokio::sync::watch;
use writ_core::TrustDomain;

use crate::facts::Facts;
use crate::jwk::{Algorithm, PublicKey};
use crate::{Invalid, json};

/// How long a bundle is good for when it does not say (section 4.1.2).
pub const REFRESH_HINT_DEFAULT: Duration = Duration::from_mins(5);

/// What the identities of one trust domain are checked with.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    jwt: Vec<TokenKey>,
    wit: Vec<TokenKey>,
    unusable: usize,
    /// Grows with every change; absent when the domain does not count.
    pub sequence: Option<u64>,
    /// How often consumers should look, if the domain says so.
    pub refresh_hint: Option<Duration>,
}

/// A public key that tokens are checked with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenKey {
    pub(crate) kid: String,
    /// The only algorithm that may be used with it, if it says so.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) key: PublicKey,
}

impl Bundle {
    /// A bundle without keys: nothing is believed.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            roots: Vec::new(),
            jwt: Vec::new(),
            wit: Vec::new(),
            unusable: 0,
            sequence: None,
            refresh_hint: None,
        }
    }

    /// Reads the JWKS form. Keys of unknown kind or use are skipped. So are keys that are malformed or too weak: they
    /// are not trusted, and do not keep alive what the text no longer holds. A text that is not of the form, or in
    /// which a member or the name of a key stands twice, is refused.
    pub fn from_jwks(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, Invalid> {
        jwks::read(trust_domain, &json::object(text)?)
    }

    /// Whose it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots of X509-SVIDs.
    pub fn x509(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The roots, one after the other, as the Workload API sends them.
    pub fn x509_der(&self) -> Vec<u8> {
        self.roots.iter().flat_map(|root| root.iter().copied()).collect()
    }

    /// How many keys were skipped because they are malformed or too weak.
    pub fn unusable(&self) -> usize {
        self.unusable
    }

    /// Whether nothing of this trust domain is believed.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.jwt.is_empty() && self.wit.is_empty()
    }

    /// The whole bundle in JWKS form, as a bundle endpoint serves it.
    pub fn jwks(&self) -> String {
        jwks::write(self).to_string()
    }

    /// Only the keys of JWT-SVIDs, as `FetchJWTBundles` sends them.
    pub fn jwt_jwks(&self) -> String {
        jwks::tokens(&self.jwt, Some("jwt-svid")).to_string()
    }

    /// Only the keys of WIT-SVIDs, as `FetchWITBundles` sends them.
    pub fn wit_jwks(&self) -> String {
        jwks::tokens(&self.wit, Some("wit-svid")).to_string()
    }

    /// The keys of JWT-SVIDs for those who know nothing of SPIFFE (`OpenID` Connect Discovery 1.0 section 3): `use`
    /// is `sig`.
    pub fn oidc_jwks(&self) -> String {
        jwks::tokens(&self.jwt, Some("sig")).to_string()
    }

    /// Adds a root that may sign. One that is there already is not added again.
    pub fn add_root(&mut self, root: CertificateDer<'static>) -> Result<(), Invalid> {
        Facts::read(&root)?.signing()?;
        webpki::anchor_from_trusted_cert(&root).map_err(Invalid::Path)?;
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
        Ok(())
    }

    pub(crate) fn add_jwt(&mut self, key: TokenKey) -> Result<(), Invalid> {
        add(&mut self.jwt, key)
    }

    pub(crate) fn add_wit(&mut self, key: TokenKey) -> Result<(), Invalid> {
        add(&mut self.wit, key)
    }

    pub(crate) fn jwt_key(&self, kid: &str) -> Option<&TokenKey> {
        self.jwt.iter().find(|key| key.kid == kid)
    }

    pub(crate) fn wit_key(&self, kid: &str) -> Option<&TokenKey> {
        self.wit.iter().find(|key| key.kid == kid)
    }

    /// A digest of the keys, whatever the sequence says.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let bare = Self { sequence: None, refresh_hint: None, ..self.clone() };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bare.jwks().as_bytes());
        digest.as_ref().try_into().unwrap_or_default()
    }

    /// Whether the keys are the same, whatever the sequence says.
    pub(crate) fn same_keys(&self, other: &Self) -> bool {
        self.roots == other.roots && self.jwt == other.jwt && self.wit == other.wit
    }
}

fn add(keys: &mut Vec<TokenKey>, key: TokenKey) -> Result<(), Invalid> {
    if keys.iter().any(|held| held.kid == key.kid) {
        return Err(Invalid::Duplicate("kid".to_owned()));
    }
    keys.push(key);
    Ok(())
}

/// What is trusted at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundles {
    own: Arc<Bundle>,
    federated: BTreeMap<String, Arc<Bundle>>,
}

impl Bundles {
    /// Only one's own.
    pub fn new(own: Bundle) -> Self {
        Self { own: Arc::new(own), federated: BTreeMap::new() }
    }

    /// The bundle of our own trust domain.
    pub fn own(&self) -> &Arc<Bundle> {
        &self.own
    }

    /// The bundles of other trust domains, in the order of their names.
    pub fn federated(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.federated.values()
    }

    /// The bundle of a trust domain: the only one that may vouch for its identities.
    pub fn get(&self, trust_domain: &str) -> Option<&Arc<Bundle>> {
        if self.own.trust_domain.as_str() == trust_domain {
            Some(&self.own)
        } else {
            self.federated.get(trust_domain)
        }
    }

    /// All of them as one Bundle Map (SPIFFE Federation section 4.3).
    pub fn to_map(&self) -> String {
        to_map(std::iter::once(&self.own).chain(self.federated.values()))
    }

    fn set(&mut self, bundle: Bundle) {
        if bundle.trust_domain == self.own.trust_domain {
            self.own = Arc::new(bundle);
        } else {
            self.federated.insert(bundle.trust_domain.to_string(), Arc::new(bundle));
        }
    }
}

pub(crate) fn to_map<'b>(bundles: impl Iterator<Item = &'b Arc<Bundle>>) -> String {
    let domains: Map<_, _> =
        bundles.map(|bundle| (bundle.trust_domain.to_string(), jwks::write(bundle))).collect();
    Value::from_iter([("trust_domains", Value::Object(domains))]).to_string()
}

/// Reads a Bundle Map: every trust domain once, each bundle checked as by itself. Refresh hints in it are ignored.
pub fn from_map(text: &[u8]) -> Result<Vec<Bundle>, Invalid> {
    let map = json::object(text)?;
    let Some(Value::Object(domains)) = map.get("trust_domains") else {
        return Err(Invalid::Malformed("no `trust_domains`"));
    };
    let read = |(name, bundle): (&String, &Value)| {
        let domain = TrustDomain::new(name).map_err(|_| Invalid::Malformed("not a trust domain"))?;
        let bundle = bundle.as_object().ok_or(Invalid::Malformed("a bundle that is no object"))?;
        let mut bundle = jwks::read(domain, bundle)?;
        bundle.refresh_hint = None;
        Ok(bundle)
    };
    domains.iter().map(read).collect()
}

/// Where what is trusted changes, and from where everyone who checks or streams it is told.
///
/// A receiver always sees the newest state; states in between may be skipped.
#[derive(Debug)]
pub struct Publication {
    sender: watch::Sender<Arc<Bundles>>,
}

impl Publication {
    /// Begins with our own bundle.
    pub fn new(own: Bundle) -> Self {
        Self { sender: watch::Sender::new(Arc::new(Bundles::new(own))) }
    }

    /// A view that follows every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Bundles>> {
        self.sender.subscribe()
    }

    /// What is trusted now.
    pub fn now(&self) -> Arc<Bundles> {
        Arc::clone(&self.sender.borrow())
    }

    /// Puts a bundle in the place of the one that its trust domain had. Nobody is told if nothing changed.
    pub fn set(&self, bundle: Bundle) {
        self.sender.send_if_modified(|bundles| {
            if bundles.get(bundle.trust_domain.as_str()).is_some_and(|held| **held == bundle) {
                return false;
            }
            Arc::make_mut(bundles).set(bundle);
            true
        });
    }

    /// Takes away the bundle of a domain that is not federated with any more. Our own stays.
    pub fn remove(&self, trust_domain: &TrustDomain) {
        self.sender.send_if_modified(|bundles| {
            let held = bundles.federated.contains_key(trust_domain.as_str());
            if held {
                Arc::make_mut(bundles).federated.remove(trust_domain.as_str());
            }
            held
        });
    }
}
