//! What hands out identities. Shared; every method may be called from any thread and none waits for anything.
//!
//! It signs with the generation of keys that is active at the moment, which the [`Authority`](crate::Authority) sets.
//!
//! Invariant: nothing it issues outlives the `limit` that its caller gives, nor the certificate that signs it, and it
//! issues for workloads of its own trust domain only.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::signature::EcdsaKeyPair;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use writ_core::{Clock, IdSource, SpiffeId, Timestamp, TrustDomain};
use writ_gate::limits;

use crate::certificate::{self, Validity};
use crate::key::LeafKey;
use crate::svid::{JwtSvid, WitSvid, X509Svid};
use crate::{Error, KeyKind, Token, jose, key};

/// How long what is issued holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// X509-SVIDs.
    pub x509: Duration,
    /// JWT-SVIDs and WIT-SVIDs.
    pub jwt: Duration,
}

impl Lifetimes {
    /// The longest life of anything that a key of the authority signs.
    pub(crate) fn longest(self) -> Duration {
        self.x509.max(self.jwt).max(limits::ISSUED_TOKEN_TTL_MAX)
    }
}

/// What an issuer is told once.
pub(crate) struct Terms {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) kind: KeyKind,
    /// The `iss` of JWT-SVIDs.
    pub(crate) issuer: Option<String>,
    pub(crate) wit: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
}

/// Hands out identities of one trust domain.
pub struct Issuer {
    terms: Terms,
    signer: ArcSwapOption<Signer>,
}

/// The keys of the active generation, ready to sign.
pub(crate) struct Signer {
    pub(crate) issuer: rcgen::Issuer<'static, KeyPair>,
    /// The intermediate, then whatever leads to the root, without the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) not_after: Timestamp,
    pub(crate) tokens: EcdsaKeyPair,
    pub(crate) kid: String,
    pub(crate) wit: EcdsaKeyPair,
    pub(crate) wit_kid: String,
}

impl Issuer {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { terms, signer: ArcSwapOption::empty() }
    }

    pub(crate) fn set(&self, signer: Option<Arc<Signer>>) {
        self.signer.store(signer);
    }

    /// The trust domain that it issues for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.terms.trust_domain
    }

    /// The `iss` of JWT-SVIDs, if the configuration names one.
    pub fn issuer(&self) -> Option<&str> {
        self.terms.issuer.as_deref()
    }

    /// Whether WIT-SVIDs are issued.
    pub fn issues_wit(&self) -> bool {
        self.terms.wit
    }

    /// Whether it can sign at all.
    pub fn is_ready(&self) -> bool {
        self.signer.load().as_ref().is_some_and(|signer| signer.not_after > self.terms.clock.now())
    }

    /// An X509-SVID with a fresh key, which ends at `limit` at the latest.
    pub fn x509(&self, id: &SpiffeId, limit: Timestamp) -> Result<X509Svid, Error> {
        let (signer, now) = self.begin(id, limit)?;
        let validity = Validity::new(now, self.terms.lifetimes.x509, &[limit, signer.not_after]);
        if validity.to <= now {
            return Err(Error::Ended);
        }
        let key = LeafKey::generate(self.terms.kind)?;
        let serial = certificate::serial(&*self.terms.ids);
        let leaf = certificate::leaf(id, validity, serial, &key, &signer.issuer)?;
        let mut chain = Vec::with_capacity(signer.chain.len() + 1);
        chain.push(leaf);
        chain.extend_from_slice(&signer.chain);
        Ok(X509Svid {
            spiffe_id: id.clone(),
            chain,
            key: key.pkcs8()?,
            not_before: validity.from,
            not_after: validity.to,
            serial,
        })
    }

    /// A JWT-SVID for these audiences, of which there must be at least one and should be no more.
    pub fn jwt(&self, id: &SpiffeId, audiences: &[String], limit: Timestamp) -> Result<JwtSvid, Error> {
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(Error::Claims { problem: "they name no audience" });
        }
        let (signer, now) = self.begin(id, limit)?;
        let validity = self.token_validity(&signer, now, limit)?;
        let mut claims = Map::new();
        claims.insert("aud".to_owned(), audiences.into());
        self.common_claims(&mut claims, id, now, validity);
        let token = jose::sign(&signer.tokens, &signer.kid, "JWT", &claims)?;
        Ok(JwtSvid { spiffe_id: id.clone(), token, issued: now, expires: validity.to })
    }

    /// A WIT-SVID with a fresh key.
    pub fn wit(&self, id: &SpiffeId, limit: Timestamp) -> Result<WitSvid, Error> {
        if !self.terms.wit {
            return Err(Error::NotReady);
        }
        let (signer, now) = self.begin(id, limit)?;
        let validity = self.token_validity(&signer, now, limit)?;
        let (public, private) = key::proof()?;
        let mut claims = Map::new();
        claims.insert("cnf".to_owned(), Value::from_iter([("jwk", Value::Object(public))]));
        self.common_claims(&mut claims, id, now, validity);
        let token = jose::sign(&signer.wit, &signer.wit_kid, "wit+jwt", &claims)?;
        Ok(WitSvid { spiffe_id: id.clone(), token, key: private, expires: validity.to })
    }

    /// Signs another token, with the `typ` of its kind: a transaction token, an access token of our own exchange.
    ///
    /// The claims must hold `exp`, at most [`limits::ISSUED_TOKEN_TTL_MAX`] away; all else is the caller's. The types of
    /// SVIDs are refused: one cannot be made this way.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<Token, Error> {
        if matches!(typ.to_ascii_lowercase().as_str(), "" | "jwt" | "jose" | "wit+jwt") {
            return Err(Error::Claims { problem: "their type is that of an identity" });
        }
        let now = self.terms.clock.now();
        let signer =
            self.signer.load_full().filter(|signer| signer.not_after > now).ok_or(Error::NotReady)?;
        let expires = claims.get("exp").and_then(Value::as_u64);
        let expires = expires.ok_or(Error::Claims { problem: "they do not say when they end" })?;
        let expires = Timestamp::from_micros(expires.saturating_mul(1_000_000));
        if expires <= now {
            return Err(Error::Ended);
        }
        if expires > now.plus(limits::ISSUED_TOKEN_TTL_MAX) || expires > signer.not_after {
            return Err(Error::Claims { problem: "they end too late" });
        }
        jose::sign(&signer.tokens, &signer.kid, typ, claims)
    }

    fn begin(&self, id: &SpiffeId, limit: Timestamp) -> Result<(Arc<Signer>, Timestamp), Error> {
        let now = self.terms.clock.now();
        if id.trust_domain() != self.terms.trust_domain.as_str() || id.path().is_empty() {
            return Err(Error::Foreign {
                id: id.to_string(),
                trust_domain: self.terms.trust_domain.to_string(),
            });
        }
        if limit <= now {
            return Err(Error::Ended);
        }
        let signer =
            self.signer.load_full().filter(|signer| signer.not_after > now).ok_or(Error::NotReady)?;
        Ok((signer, now))
    }

    fn token_validity(&self, signer: &Signer, now: Timestamp, limit: Timestamp) -> Result<Validity, Error> {
        let validity = Validity::new(now, self.terms.lifetimes.jwt, &[limit, signer.not_after]);
        if validity.to <= now { Err(Error::Ended) } else { Ok(validity) }
    }

    fn common_claims(
        &self,
        claims: &mut Map<String, Value>,
        id: &SpiffeId,
        now: Timestamp,
        validity: Validity,
    ) {
        claims.insert("exp".to_owned(), validity.to.seconds().into());
        claims.insert("iat".to_owned(), now.seconds().into());
        if let Some(issuer) = &self.terms.issuer {
            claims.insert("iss".to_owned(), issuer.as_str().into());
        }
        claims.insert("sub".to_owned(), id.as_str().into());
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("trust_domain", &self.terms.trust_domain).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}
