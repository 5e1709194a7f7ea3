//! X.509: SVIDs with their keys, and roots.

use bytes::Bytes;
use tonic::Status;
use writ_core::Timestamp;
use writ_identity::Bundles;

use super::domain_id;
use crate::Entitled;
use crate::proto::{X509BundlesResponse, X509svid, X509svidResponse};
use crate::standing::{Moment, View};

/// `FetchX509SVID`.
pub(super) struct Svids;

impl View for Svids {
    type Message = X509svidResponse;
    /// The message without keys and certificates, and when each session ends.
    type Stamp = (X509svidResponse, Vec<Timestamp>);

    fn stamp(&self, identities: &[Entitled], bundles: &Bundles) -> Self::Stamp {
        let own = Bytes::from(bundles.own().x509_der());
        let svids = identities.iter().map(|one| X509svid {
            spiffe_id: one.spiffe_id.to_string(),
            bundle: own.clone(),
            hint: one.hint.clone(),
            ..X509svid::default()
        });
        let response = X509svidResponse {
            svids: svids.collect(),
            crl: Vec::new(),
            federated_bundles: bundles
                .federated()
                .map(|bundle| (domain_id(bundle), Bytes::from(bundle.x509_der())))
                .collect(),
        };
        (response, identities.iter().map(|one| one.expires).collect())
    }

    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status> {
        let (mut response, _) = self.stamp(now.identities, now.bundles);
        let mut renew: Option<Timestamp> = None;
        for (svid, entitled) in response.svids.iter_mut().zip(now.identities) {
            let (issued, at) = now.x509(entitled)?;
            svid.x509_svid = Bytes::from(issued.chain_der());
            svid.x509_svid_key = Bytes::copy_from_slice(issued.key.expose());
            renew = renew.into_iter().chain(at).min();
        }
        Ok((response, renew))
    }
}

/// `FetchX509Bundles`.
pub(super) struct Roots;

impl View for Roots {
    type Message = X509BundlesResponse;
    type Stamp = X509BundlesResponse;

    fn stamp(&self, _identities: &[Entitled], bundles: &Bundles) -> Self::Stamp {
        let all = std::iter::once(bundles.own()).chain(bundles.federated());
        X509BundlesResponse {
            crl: Vec::new(),
            bundles: all.map(|bundle| (domain_id(bundle), Bytes::from(bundle.x509_der()))).collect(),
        }
    }

    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status> {
        Ok((self.stamp(now.identities, now.bundles), None))
    }
}
