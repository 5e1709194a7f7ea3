//! JWTs: SVIDs for an audience, keys, and the check of one that a workload was shown.

use bytes::Bytes;
use tonic::Status;
use writ_core::{SpiffeId, Timestamp};
use writ_gate::limits;
use writ_identity::{Bundles, validate};

use super::{chosen, claims, domain_id, unissued, wanted_id};
use crate::Entitled;
use crate::proto::{
    JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse,
};
use crate::standing::{Moment, View};

/// What `FetchJWTSVID` asks for, checked.
pub(super) struct Wanted {
    audiences: Vec<String>,
    only: Option<SpiffeId>,
}

impl Wanted {
    pub(super) fn read(request: &JwtsvidRequest) -> Result<Self, Status> {
        let audiences = &request.audience;
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if audiences.len() > limits::WORKLOAD_AUDIENCES_MAX {
            return Err(Status::invalid_argument("too many audiences"));
        }
        Ok(Self { audiences: audiences.clone(), only: wanted_id(&request.spiffe_id)? })
    }
}

/// `FetchJWTSVID`: one token for each identity, good for these audiences.
pub(super) fn svids(moment: &Moment<'_>, wanted: &Wanted) -> Result<JwtsvidResponse, Status> {
    let issue = |one: &Entitled| {
        let issued = moment.parts.issuer.jwt(&one.spiffe_id, &wanted.audiences, one.expires);
        let issued = issued.map_err(|error| unissued(&error))?;
        Ok(Jwtsvid {
            spiffe_id: one.spiffe_id.to_string(),
            svid: issued.token.expose().to_owned(),
            hint: one.hint.clone(),
        })
    };
    let svids: Result<_, Status> = chosen(moment, wanted.only.as_ref())?.into_iter().map(issue).collect();
    Ok(JwtsvidResponse { svids: svids? })
}

/// `ValidateJWTSVID`. Why a token is not believed is told in general terms: they say nothing of its content.
pub(super) fn validate(
    moment: &Moment<'_>,
    asked: &ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    let now = moment.parts.clock.now();
    let believed = validate::jwt(&asked.svid, &asked.audience, moment.bundles, now)
        .map_err(|invalid| Status::invalid_argument(format!("the token is not valid: {invalid}")))?;
    Ok(ValidateJwtsvidResponse {
        spiffe_id: believed.subject.to_string(),
        claims: Some(claims::message(believed.claims)),
    })
}

/// `FetchJWTBundles`.
pub(super) struct Keys;

impl View for Keys {
    type Message = JwtBundlesResponse;
    type Stamp = JwtBundlesResponse;

    fn stamp(&self, _identities: &[Entitled], bundles: &Bundles) -> Self::Stamp {
        let all = std::iter::once(bundles.own()).chain(bundles.federated());
        JwtBundlesResponse {
            bundles: all.map(|bundle| (domain_id(bundle), Bytes::from(bundle.jwt_jwks()))).collect(),
        }
    }

    fn message(&self, now: &Moment<'_>) -> Result<(Self::Message, Option<Timestamp>), Status> {
        Ok((self.stamp(now.identities, now.bundles), None))
    }
}
