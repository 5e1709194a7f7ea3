//! What SPIFFE asks about a certificate, read once. Signatures and paths are rustls-webpki's, not ours.

use rustls::pki_types::CertificateDer;
use writ_core::{SpiffeId, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;

use crate::Invalid;
use crate::jwk::{Curve, PublicKey};

/// Bits of keyUsage that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the bits of an extension")]
pub(crate) struct Usage {
    critical: bool,
    digital_signature: bool,
    key_cert_sign: bool,
    crl_sign: bool,
}

/// One certificate, read.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Facts {
    uris: Vec<String>,
    ca: bool,
    usage: Option<Usage>,
    /// Both serverAuth and clientAuth, if extKeyUsage is there at all.
    both_purposes: bool,
    bare_subject: bool,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) self_issued: bool,
    pub(crate) spki: Vec<u8>,
    pub(crate) key: Option<PublicKey>,
}

impl Facts {
    /// Reads one certificate with nothing after it.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, Invalid> {
        let malformed = Invalid::Malformed("not an X.509 certificate");
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed.clone())?;
        if !rest.is_empty() {
            return Err(Invalid::Malformed("bytes after a certificate"));
        }
        let twice = |_| malformed.clone();
        let san = certificate.subject_alternative_name().map_err(twice)?;
        let purposes = certificate.extended_key_usage().map_err(twice)?;
        let constraints = certificate.basic_constraints().map_err(twice)?;
        let usage = certificate.key_usage().map_err(twice)?.map(|usage| Usage {
            critical: usage.critical,
            digital_signature: usage.value.digital_signature(),
            key_cert_sign: usage.value.key_cert_sign(),
            crl_sign: usage.value.crl_sign(),
        });
        let garbled = |name: &GeneralName<'_>| matches!(name, GeneralName::Invalid(..));
        if san.as_ref().is_some_and(|san| san.value.general_names.iter().any(garbled)) {
            return Err(Invalid::Malformed("an alternative name that cannot be read"));
        }
        let bare = certificate.subject().iter_rdn().next().is_none();
        Ok(Self {
            uris: san.iter().flat_map(|san| uris(&san.value.general_names)).collect(),
            ca: constraints.is_some_and(|constraints| constraints.value.ca),
            usage,
            both_purposes: purposes
                .is_none_or(|purposes| purposes.value.server_auth && purposes.value.client_auth),
            bare_subject: bare && !san.is_some_and(|san| san.critical),
            not_before: seconds(certificate.validity().not_before.timestamp()),
            not_after: seconds(certificate.validity().not_after.timestamp()),
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            spki: certificate.public_key().raw.to_vec(),
            key: public_key(&certificate),
        })
    }

    /// The identity of a workload, if the certificate obeys every rule for leaves (X509-SVID sections 2 to 5).
    pub(crate) fn workload(&self) -> Result<SpiffeId, Invalid> {
        if self.ca {
            return Err(Invalid::Certificate("is a signing certificate"));
        }
        let Some(usage) = self.usage else { return Err(Invalid::Certificate("has no key usage")) };
        if !usage.critical {
            return Err(Invalid::Certificate("has a key usage that is not critical"));
        }
        if !usage.digital_signature {
            return Err(Invalid::Certificate("may not sign handshakes"));
        }
        if usage.key_cert_sign || usage.crl_sign {
            return Err(Invalid::Certificate("may sign certificates or revocation lists"));
        }
        if !self.both_purposes {
            return Err(Invalid::Certificate("is not for both clients and servers"));
        }
        if self.bare_subject {
            return Err(Invalid::Certificate("has neither a subject nor a critical alternative name"));
        }
        let [uri] = self.uris.as_slice() else {
            return Err(Invalid::Certificate("has not exactly one URI"));
        };
        let id = SpiffeId::new(uri).map_err(|_| Invalid::Subject("is not one"))?;
        if id.path().is_empty() { Err(Invalid::Subject("has no path")) } else { Ok(id) }
    }

    /// Whether the certificate may sign others (X509-SVID section 4, signing certificates).
    pub(crate) fn signing(&self) -> Result<(), Invalid> {
        if !self.ca {
            return Err(Invalid::Certificate("in the chain is no signing certificate"));
        }
        if self.usage.is_some_and(|usage| !usage.key_cert_sign) {
            return Err(Invalid::Certificate("in the chain may not sign certificates"));
        }
        for uri in self.uris.iter().filter(|uri| uri.starts_with("spiffe:")) {
            let id = SpiffeId::new(uri).map_err(|_| Invalid::Subject("is not one"))?;
            if !id.path().is_empty() {
                return Err(Invalid::Certificate("in the chain signs under the name of a workload"));
            }
        }
        Ok(())
    }

    /// Whether it holds at this moment.
    pub(crate) fn holds(&self, now: Timestamp) -> Result<(), Invalid> {
        if now < self.not_before {
            Err(Invalid::NotYet)
        } else if now > self.not_after {
            Err(Invalid::Expired)
        } else {
            Ok(())
        }
    }
}

/// Splits certificates that stand one after the other, as the Workload API sends them.
pub fn split(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, _) =
            X509Certificate::from_der(der).map_err(|_| Invalid::Malformed("not an X.509 certificate"))?;
        let one = der.get(..der.len() - rest.len()).unwrap_or_default();
        found.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    Ok(found)
}

fn uris<'n>(names: &'n [GeneralName<'n>]) -> impl Iterator<Item = String> + 'n {
    names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None })
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_micros(u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000))
}

/// The key, if it is of a kind that tokens are signed with.
fn public_key(certificate: &X509Certificate<'_>) -> Option<PublicKey> {
    let spki = certificate.public_key();
    match spki.parsed().ok()? {
        Parsed::EC(point) => {
            let oid = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
            let curve = if oid == OID_EC_P256 {
                Curve::P256
            } else if oid == OID_NIST_EC_P384 {
                Curve::P384
            } else if oid == OID_NIST_EC_P521 {
                Curve::P521
            } else {
                return None;
            };
            PublicKey::on_curve(curve, point.data().to_vec()).ok()
        }
        Parsed::RSA(key) => {
            let bare = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).copied().collect();
            PublicKey::rsa(bare(key.modulus), bare(key.exponent)).ok()
        }
        Parsed::DSA(_) | Parsed::GostR3410(_) | Parsed::GostR3410_2012(_) | Parsed::Unknown(_) => None,
    }
}
