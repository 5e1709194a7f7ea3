//! What our certificates look like: root, intermediate, leaf (X509-SVID sections 2 to 4, RFC 5280 section 4.2).

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequest, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use writ_core::{IdSource, SpiffeId, Timestamp, TrustDomain};

use crate::Error;

/// Certificates hold from this long before they are made, for clocks that differ.
pub(crate) const BACKDATED: Duration = Duration::from_secs(10);

/// Between which moments a certificate holds; whole seconds, as X.509 has no others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Validity {
    /// From a little before `now` until the earliest of what bounds it.
    pub(crate) fn new(now: Timestamp, ttl: Duration, bounds: &[Timestamp]) -> Self {
        let to = bounds.iter().copied().fold(now.plus(ttl), Timestamp::min);
        let back = now.micros().saturating_sub(u64::try_from(BACKDATED.as_micros()).unwrap_or(0));
        Self { from: whole(Timestamp::from_micros(back)), to: whole(to) }
    }
}

/// A random serial number: positive, 127 bits at most, never short.
pub(crate) fn serial(ids: &dyn IdSource) -> [u8; 16] {
    let mut bytes = ids.random().to_be_bytes();
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    bytes
}

/// A leaf: one URI, `digitalSignature` alone, both purposes.
pub(crate) fn leaf(
    id: &SpiffeId,
    validity: Validity,
    serial: [u8; 16],
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertificateDer<'static>, Error> {
    let mut params = base(validity, serial);
    params.distinguished_name.push(DnType::OrganizationName, "Writ");
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, issuer)?.der().clone())
}

/// A root of our own.
pub(crate) fn root(
    domain: &TrustDomain,
    validity: Validity,
    serial: [u8; 16],
    key: &KeyPair,
) -> Result<CertificateDer<'static>, Error> {
    let params = signing(domain, "root", 1, validity, serial)?;
    Ok(params.self_signed(key)?.der().clone())
}

/// An intermediate that signs leaves and nothing else.
pub(crate) fn intermediate(
    domain: &TrustDomain,
    validity: Validity,
    serial: [u8; 16],
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertificateDer<'static>, Error> {
    let mut params = signing(domain, "intermediate", 0, validity, serial)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, issuer)?.der().clone())
}

/// The request for an intermediate, for whoever signs it elsewhere.
pub(crate) fn request(
    domain: &TrustDomain,
    name: [u8; 16],
    key: &KeyPair,
) -> Result<CertificateSigningRequest, Error> {
    let now = Timestamp::from_micros(0);
    let mut params = signing(domain, "intermediate", 0, Validity { from: now, to: now }, name)?;
    params.serial_number = None;
    Ok(params.serialize_request(key)?)
}

/// The common name of a signing certificate: never the same twice, so that no path can be built through the wrong one.
pub(crate) fn common_name(what: &str, serial: [u8; 16]) -> String {
    format!("Writ {what} {:032x}", u128::from_be_bytes(serial))
}

fn signing(
    domain: &TrustDomain,
    what: &str,
    path_length: u8,
    validity: Validity,
    serial: [u8; 16],
) -> Result<CertificateParams, Error> {
    let mut params = base(validity, serial);
    params.distinguished_name.push(DnType::OrganizationName, "Writ");
    params.distinguished_name.push(DnType::CommonName, common_name(what, serial));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn base(validity: Validity, serial: [u8; 16]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(validity.from.seconds());
    params.not_after = epoch + Duration::from_secs(validity.to.seconds());
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.seconds() * 1_000_000)
}
