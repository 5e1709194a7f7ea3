//! WIT-SVIDs with the keys that prove them, and the keys that they are checked with (WIT-SVID profile; incubating).

use tonic::Status;
use writ_core::{SpiffeId, Timestamp};
use writ_identity::Bundles;

use super::{chosen, domain_id, unissued};
use crate::Entitled;
use crate::proto::{WitBundlesResponse, Witsvid, WitsvidResponse};
use crate::standing::{Moment, View};

/// `FetchWITSVID`.
pub(super) struct Svids {
    /// The one identity that was asked for.
    pub(super) only: Option<SpiffeId>,
}

impl View for Svids {
    type Message = WitsvidResponse;
    type Stamp = Vec<(SpiffeId, String, Timestamp)>;

    fn stamp(&self, identities: &[Entitled], _bundles: &Bundles) -> Self::Stamp {
        identities.iter().map(|one| (one.spiffe_id.clone(), one.hint.clone(), one.expires)).collect()
    }

    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status> {
        let (mut svids, mut renew) = (Vec::new(), None::<Timestamp>);
        for one in chosen(now, self.only.as_ref())? {
            let issued =
                now.parts.issuer.wit(&one.spiffe_id, one.expires).map_err(|error| unissued(&error))?;
            let begun = now.parts.clock.now();
            let at = begun.plus(issued.expires.since(begun) / 2);
            renew = renew.into_iter().chain(now.renewal(one, issued.expires, at)).min();
            svids.push(Witsvid {
                spiffe_id: one.spiffe_id.to_string(),
                wit_svid: issued.token.expose().to_owned(),
                wit_svid_key: issued.key.expose().to_owned(),
                hint: one.hint.clone(),
            });
        }
        Ok((WitsvidResponse { svids }, renew))
    }
}

/// `FetchWITBundles`.
pub(super) struct Keys;

impl View for Keys {
    type Message = WitBundlesResponse;
    type Stamp = WitBundlesResponse;

    fn stamp(&self, _identities: &[Entitled], bundles: &Bundles) -> Self::Stamp {
        let all = std::iter::once(bundles.own()).chain(bundles.federated());
        WitBundlesResponse { bundles: all.map(|bundle| (domain_id(bundle), bundle.wit_jwks())).collect() }
    }

    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status> {
        Ok((self.stamp(now.identities, now.bundles), None))
    }
}
