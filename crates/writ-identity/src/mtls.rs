//! TLS between identities: what is presented, and whether the other side is believed.
//!
//! Both sides are asked anew in every handshake. There are no tickets and no session cache: a resumed session would
//! skip the check, and with it a bundle that has changed since (SPIRE 1.14.3 had to learn it).
//!
//! Invariant: a handshake that ends well was checked against the bundles of that moment, not of an earlier one.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig,
    SignatureScheme,
};
use writ_core::{Clock, SpiffeId};

use crate::facts::Facts;
use crate::{Bundles, Error, Invalid, X509Svid, validate};

/// Which identities are let through, of those that are believed.
pub type Admit = Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>;

/// What is trusted at the moment of a handshake.
pub type Trust = Arc<dyn Fn() -> Arc<Bundles> + Send + Sync>;

/// What one side presents: replaced when its identity is renewed, absent when it has none.
#[derive(Default)]
pub struct Presented {
    key: ArcSwapOption<CertifiedKey>,
}

impl Presented {
    /// Presents this identity from now on; handshakes that are under way keep the one before.
    pub fn set(&self, svid: &X509Svid) -> Result<(), Error> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.key.expose()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)?;
        self.key.store(Some(Arc::new(CertifiedKey::new(svid.chain.clone(), signer))));
        Ok(())
    }

    /// Presents nothing from now on: handshakes fail.
    pub fn clear(&self) {
        self.key.store(None);
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.load_full()
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key.load_full()
    }

    fn has_certs(&self) -> bool {
        self.key.load().is_some()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

/// Believes or refuses the other side, as client and as server.
#[derive(Clone)]
pub struct Verifier {
    trust: Trust,
    clock: Arc<dyn Clock>,
    admit: Admit,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Looks at `trust` in every handshake.
    pub fn new(trust: Trust, clock: Arc<dyn Clock>, admit: Admit) -> Self {
        Self { trust, clock, admit, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(others).cloned().collect();
        let bundles = (self.trust)();
        let id = validate::x509(&chain, &bundles, self.clock.now()).map_err(refusal)?;
        if (self.admit)(&id) { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }
}

fn refusal(invalid: Invalid) -> rustls::Error {
    let error = if invalid == Invalid::Expired {
        CertificateError::Expired
    } else if invalid == Invalid::NotYet {
        CertificateError::NotValidYet
    } else if invalid == Invalid::UnknownTrustDomain {
        CertificateError::UnknownIssuer
    } else {
        CertificateError::Other(OtherError(Arc::new(invalid)))
    };
    error.into()
}

/// The identity in a chain that a handshake has verified.
pub fn peer(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, Invalid> {
    Facts::read(chain.first().ok_or(Invalid::Malformed("an empty chain"))?)?.workload()
}

/// A client that presents an identity and believes servers by theirs; names in DNS do not matter.
pub fn client(presented: Arc<Presented>, verifier: Verifier) -> Result<ClientConfig, Error> {
    let provider = Arc::clone(&verifier.provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(presented);
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// A client that presents nothing and believes servers by their identity: a bundle endpoint's.
pub fn client_without_identity(verifier: Verifier) -> Result<ClientConfig, Error> {
    let provider = Arc::clone(&verifier.provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A server that presents an identity and demands one.
pub fn server(presented: Arc<Presented>, verifier: Verifier) -> Result<ServerConfig, Error> {
    let provider = Arc::clone(&verifier.provider);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(presented);
    Ok(without_resumption(config))
}

/// A server that presents an identity and demands none: a bundle endpoint in the profile `https_spiffe`.
pub fn server_for_anyone(presented: Arc<Presented>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(presented);
    Ok(without_resumption(config))
}

fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}
