//! X509-SVIDs: an RFC 5280 path by rustls-webpki, and the rules of the X509-SVID standard, section 5.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use writ_core::{SpiffeId, Timestamp};
use writ_gate::limits;

use crate::facts::Facts;
use crate::{Bundles, Invalid};

/// The workload that a chain, leaf first, speaks for.
pub fn x509(chain: &[CertificateDer<'_>], bundles: &Bundles, now: Timestamp) -> Result<SpiffeId, Invalid> {
    let (leaf, others) = chain.split_first().ok_or(Invalid::Malformed("an empty chain"))?;
    if others.len() > limits::CHAIN_CERTIFICATES_MAX {
        return Err(Invalid::Malformed("a chain that is too long"));
    }
    let facts = Facts::read(leaf)?;
    let id = facts.workload()?;
    let bundle = bundles.get(id.trust_domain()).ok_or(Invalid::UnknownTrustDomain)?;
    facts.holds(now)?;
    for other in others {
        // What webpki does not look at: keyUsage, and the name that a signing certificate has.
        Facts::read(other)?.signing()?;
    }
    // webpki takes an anchor as it is; one that has ended must not vouch for anyone.
    let living =
        bundle.x509().iter().filter(|root| Facts::read(root).is_ok_and(|root| root.holds(now).is_ok()));
    let anchors: Vec<_> = living.filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let end = EndEntityCert::try_from(leaf).map_err(Invalid::Path)?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.seconds()));
    end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, others, at, AnyPurpose, None, None)
        .map_err(Invalid::Path)?;
    Ok(id)
}

/// extKeyUsage is judged by [`Facts::workload`]: for a SPIFFE identity both purposes or none at all.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        purposes.try_for_each(|purpose| purpose.map(drop))
    }
}
