//! Making the certificates of a session: root, intermediate, leaves. P-256 throughout; RSA keys take too long.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use writ_core::secret::MemoryError;
use writ_core::service::HostPattern;
use writ_core::{HostName, IdSource, Secret};

use super::Validity;

/// Certificates hold from this long before they are made, for clocks that differ, until this long after the session.
pub(super) const SLACK: Duration = Duration::from_mins(5);

/// First byte of a root's kept form.
const MATERIAL_VERSION: u8 = 1;

/// An authority could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate could not be built or signed.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused the settings or the key.
    #[error("the TLS settings of a session could not be made")]
    Tls(#[from] rustls::Error),
    /// There is no memory for a key.
    #[error("a session's key could not be kept")]
    Memory(#[from] MemoryError),
    /// The kept form of a root is not one.
    #[error("the kept key of a session is malformed; hint: end the session and start a new one")]
    Material,
}

/// A session's root: its certificate, and its key in secret memory.
pub(super) struct Root {
    subject: String,
    pem: String,
    key: Secret<[u8]>,
}

impl Root {
    pub(super) fn generate(validity: &Validity, ids: &dyn IdSource) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let subject = format!("Writ session {} root", validity.session);
        let mut params = authority(&subject, 1, ids);
        hold_within(&mut params, *validity);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { subject, pem, key: Secret::<[u8]>::new(key.serialize_der())? })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// `1`, then subject, certificate and key, each with its length in four bytes before it.
    pub(super) fn material(&self) -> Result<Secret<[u8]>, AuthorityError> {
        let parts = [self.subject.as_bytes(), self.pem.as_bytes(), self.key.expose()];
        let size: usize = parts.iter().map(|part| part.len() + 4).sum();
        // The exact capacity: a vector that grew would leave a copy of the key behind.
        let mut out = Vec::with_capacity(size + 1);
        out.push(MATERIAL_VERSION);
        for part in parts {
            let length = u32::try_from(part.len()).map_err(|_| AuthorityError::Material)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part);
        }
        Ok(Secret::<[u8]>::new(out)?)
    }

    pub(super) fn read(material: &Secret<[u8]>) -> Result<Self, AuthorityError> {
        let Some((&MATERIAL_VERSION, rest)) = material.expose().split_first() else {
            return Err(AuthorityError::Material);
        };
        let (subject, rest) = part(rest).ok_or(AuthorityError::Material)?;
        let (pem, rest) = part(rest).ok_or(AuthorityError::Material)?;
        let (key, rest) = part(rest).ok_or(AuthorityError::Material)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| AuthorityError::Material);
        if !rest.is_empty() {
            return Err(AuthorityError::Material);
        }
        Ok(Self { subject: text(subject)?, pem: text(pem)?, key: Secret::<[u8]>::new(key.to_vec())? })
    }

    fn issuer(&self, ids: &dyn IdSource) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let der = PrivatePkcs8KeyDer::from(self.key.expose());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)?;
        Ok(Issuer::new(authority(&self.subject, 1, ids), key))
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The intermediate and the key that all leaves share.
pub(super) struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    names: Vec<HostPattern>,
    validity: Validity,
    ids: Arc<dyn IdSource>,
}

impl Issuing {
    pub(super) fn new(
        root: &Root,
        validity: Validity,
        names: &[HostPattern],
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = authority(&format!("Writ session {}", validity.session), 0, &*ids);
        hold_within(&mut params, validity);
        params.use_authority_key_identifier_extension = true;
        params.name_constraints = Some(constraints(names));
        let certificate = params.signed_by(&key, &root.issuer(&*ids)?)?.der().clone();
        let leaf_key = KeyPair::generate()?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, certificate, leaf_key, leaf_signer, names: names.to_vec(), validity, ids })
    }

    /// The leaf of a name; `None` for a name that is not the session's.
    pub(super) fn leaf(&self, name: &HostName) -> Result<Option<CertifiedKey>, AuthorityError> {
        if !self.names.iter().any(|pattern| pattern.matches(name)) {
            return Ok(None);
        }
        let mut params = CertificateParams::default();
        hold_within(&mut params, self.validity);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(&*self.ids));
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?.der().clone();
        let chain = vec![leaf, self.certificate.clone()];
        Ok(Some(CertifiedKey::new(chain, Arc::clone(&self.leaf_signer))))
    }
}

fn authority(subject: &str, path_length: u8, ids: &dyn IdSource) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial(ids));
    params
}

fn constraints(names: &[HostPattern]) -> NameConstraints {
    let mut permitted: Vec<_> = names
        .iter()
        .map(|pattern| match pattern {
            HostPattern::Exact(name) | HostPattern::Below(name) => {
                GeneralSubtree::DnsName(name.as_str().to_owned())
            }
        })
        .collect();
    if permitted.is_empty() {
        // No permitted name at all would mean "any name": name one that cannot exist (RFC 6761).
        permitted.push(GeneralSubtree::DnsName("nothing.invalid".to_owned()));
    }
    let every_address = vec![
        GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
        GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
    ];
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: every_address }
}

/// Random, because all leaves share a key: a serial drawn from the key would repeat.
fn serial(ids: &dyn IdSource) -> SerialNumber {
    let mut bytes = ids.random().to_be_bytes();
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

fn hold_within(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let slack = u64::try_from(SLACK.as_micros()).unwrap_or(0);
    let from = validity.from.micros().saturating_sub(slack);
    params.not_before = epoch + Duration::from_micros(from);
    params.not_after = epoch + Duration::from_micros(validity.to.plus(SLACK).micros());
}
