//! What is issued: identities with what their holder needs to prove them.

use rustls::pki_types::CertificateDer;
use writ_core::{IdSource, Secret, SpiffeId, Timestamp};

use crate::Token;
use crate::schedule;

/// An X.509 identity with its private key.
#[derive(Debug)]
#[non_exhaustive]
pub struct X509Svid {
    /// Who.
    pub spiffe_id: SpiffeId,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key: PKCS#8 DER, not encrypted.
    pub key: Secret<[u8]>,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds; never later than the session.
    pub not_after: Timestamp,
    /// The leaf's serial number, big-endian.
    pub serial: [u8; 16],
}

impl X509Svid {
    /// The chain, one certificate after the other, as the Workload API sends it.
    pub fn chain_der(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|certificate| certificate.iter().copied()).collect()
    }

    /// When the next one should be issued: at half of its life, give or take a tenth of that at random.
    pub fn renew_at(&self, ids: &dyn IdSource) -> Timestamp {
        schedule::half_life(self.not_before, self.not_after, ids)
    }
}

/// A JWT identity.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtSvid {
    /// Who.
    pub spiffe_id: SpiffeId,
    /// The token, worth something at its audience to whoever holds it.
    pub token: Token,
    /// When it was signed.
    pub issued: Timestamp,
    /// When it ends; never later than the session.
    pub expires: Timestamp,
}

/// A workload identity token with the key that proves it. Never a bearer token.
#[derive(Debug)]
#[non_exhaustive]
pub struct WitSvid {
    /// Who.
    pub spiffe_id: SpiffeId,
    /// The token.
    pub token: Token,
    /// The private JWK (RFC 7518 section 6.2.2).
    pub key: Secret<str>,
    /// When it ends; never later than the session.
    pub expires: Timestamp,
}
