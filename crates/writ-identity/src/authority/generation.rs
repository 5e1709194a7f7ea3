//! One generation of keys.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use writ_core::{IdSource, Secret, SpiffeId, Timestamp, TrustDomain};

use super::source::Signed;
use super::unusable;
use crate::bundle::{Bundle, Bundles, TokenKey};
use crate::certificate::{self, Validity};
use crate::facts::Facts;
use crate::issuer::Signer;
use crate::jwk::Algorithm;
use crate::key::LeafKey;
use crate::{Error, IdentitySettings, KeyKind, key, schedule, validate};

/// What a generation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Published since then, and signs nothing.
    Prepared { since: Timestamp },
    /// Signs.
    Active,
    /// Signs nothing since then.
    Old { since: Timestamp },
}

/// One generation of keys.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) phase: Phase,
    /// Which kind of authority signed it.
    pub(super) source: String,
    pub(super) kind: KeyKind,
    /// The intermediate, then whatever leads to the root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) key: Secret<[u8]>,
    pub(super) jwt: Secret<[u8]>,
    pub(super) wit: Secret<[u8]>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// When another one should take its place.
    pub(super) rotate_at: Timestamp,
}

impl Generation {
    /// A new one, prepared.
    pub(super) fn new(
        number: u64,
        signed: Signed,
        now: Timestamp,
        ids: &dyn IdSource,
    ) -> Result<Self, Error> {
        let facts = signed.chain.first().map(Facts::read).transpose();
        let facts =
            facts.map_err(|source| unusable(&signed.source, source, "it must sign an intermediate"))?;
        let (not_before, not_after) =
            facts.map_or((now, now), |facts| (now.max(facts.not_before), facts.not_after));
        Ok(Self {
            number,
            phase: Phase::Prepared { since: now },
            source: signed.source,
            kind: signed.kind,
            chain: signed.chain,
            roots: signed.roots,
            key: signed.key,
            jwt: key::generate_tokens()?,
            wit: key::generate_tokens()?,
            not_before,
            not_after,
            rotate_at: schedule::half_life(not_before, not_after, ids),
        })
    }

    /// Another handle to the same keys.
    pub(super) fn share(&self) -> Self {
        Self {
            number: self.number,
            phase: self.phase,
            source: self.source.clone(),
            kind: self.kind,
            chain: self.chain.clone(),
            roots: self.roots.clone(),
            key: self.key.share(),
            jwt: self.jwt.share(),
            wit: self.wit.share(),
            not_before: self.not_before,
            not_after: self.not_after,
            rotate_at: self.rotate_at,
        }
    }

    pub(super) fn prepared_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Prepared { since } => Some(since),
            Phase::Active | Phase::Old { .. } => None,
        }
    }

    /// Whether nothing that it signed can be alive. An active one is never dead: when it has ended the issuer is not
    /// ready, and the next one takes its place.
    pub(super) fn dead(&self, now: Timestamp, linger: Duration) -> bool {
        match self.phase {
            Phase::Prepared { .. } => now >= self.not_after,
            Phase::Active => false,
            Phase::Old { since } => now >= since.plus(linger).min(self.not_after.plus(super::CLOCK_SLACK)),
        }
    }

    /// Issues something and checks it as a peer would, so that a chain that nobody would believe is never used: a
    /// path length or name constraint of an upstream, a key that is another's, a root that is missing.
    pub(super) fn prove(
        &self,
        domain: &TrustDomain,
        settings: &IdentitySettings,
        ids: &dyn IdSource,
        now: Timestamp,
    ) -> Result<(), Error> {
        let refused = |source| unusable(&self.source, source, "its chain must lead to a root that is given");
        let mut bundle = Bundle::empty(domain.clone());
        for root in &self.roots {
            bundle.add_root(root.clone()).map_err(refused)?;
        }
        let id = SpiffeId::new(&format!("spiffe://{domain}/probe"));
        let id = id.map_err(|_| Error::Crypto("name a probe"))?;
        let signer = self.signer()?;
        let validity = Validity::new(now, settings.lifetimes.x509, &[self.not_after]);
        let key = LeafKey::generate(settings.kind)?;
        let leaf = certificate::leaf(&id, validity, certificate::serial(ids), &key, &signer.issuer)?;
        let mut chain = vec![leaf];
        chain.extend_from_slice(&signer.chain);
        validate::x509(&chain, &Bundles::new(bundle), now).map_err(refused).map(drop)
    }

    /// The keys, ready to sign.
    pub(super) fn signer(&self) -> Result<Arc<Signer>, Error> {
        let intermediate = self.chain.first().ok_or(Error::NotReady)?;
        let pair = key::certificates(self.kind, &self.key)?;
        let issuer = rcgen::Issuer::from_ca_cert_der(intermediate, pair)?;
        let (tokens, public) = key::tokens(&self.jwt)?;
        let (wit, wit_public) = key::tokens(&self.wit)?;
        Ok(Arc::new(Signer {
            issuer,
            chain: self.chain.clone(),
            not_after: self.not_after,
            tokens,
            kid: public.thumbprint(),
            wit,
            wit_kid: wit_public.thumbprint(),
        }))
    }

    /// Adds what its identities are checked with.
    pub(super) fn publish(&self, bundle: &mut Bundle, wit: bool) -> Result<(), Error> {
        let refused = |source| unusable(&self.source, source, "restore the kept state from a backup");
        for root in &self.roots {
            bundle.add_root(root.clone()).map_err(refused)?;
        }
        let published = |pkcs8: &Secret<[u8]>| {
            let (_, key) = key::tokens(pkcs8)?;
            Ok::<_, Error>(TokenKey { kid: key.thumbprint(), algorithm: Some(Algorithm::Es256), key })
        };
        bundle.add_jwt(published(&self.jwt)?).map_err(refused)?;
        if wit {
            bundle.add_wit(published(&self.wit)?).map_err(refused)?;
        }
        Ok(())
    }
}
