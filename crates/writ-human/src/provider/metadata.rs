//! How an issuer describes itself (`OpenID` Connect Discovery 1.0; RFC 8414).

use std::sync::Arc;

use crate::error::Error;
use crate::issuer::{Endpoint, Issuer};
use crate::json::Object;

/// An issuer's description, checked.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) authorization: Endpoint,
    pub(crate) token: Endpoint,
    pub(crate) jwks: Endpoint,
    pub(crate) device: Option<Endpoint>,
    pub(crate) revocation: Option<Endpoint>,
    pub(crate) userinfo: Option<Endpoint>,
    pub(crate) end_session: Option<Endpoint>,
    /// Whether its answers say who gives them (RFC 9207).
    pub(crate) says_iss: bool,
    pub(crate) proof: ClientProof,
}

/// How the client shows its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProof {
    /// `client_secret_basic`, which every server knows.
    Header,
    /// `client_secret_post`.
    Body,
}

impl Metadata {
    pub(crate) fn read(described: &Object, issuer: &Issuer) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Answer { issuer: Arc::clone(&issuer.name), what: what.to_owned() };
        if described.text("issuer") != Some(&issuer.issuer) {
            return Err(wrong("it describes itself as another issuer than is configured"));
        }
        let place = |name: &str| match described.get(name) {
            None => Ok(None),
            Some(url) => {
                let url = url.as_str().ok_or_else(|| wrong("a place in its description is no text"))?;
                let place = Endpoint::new(url, issuer.plain_loopback);
                place.map(Some).map_err(|source| Error::Place { issuer: Arc::clone(&issuer.name), source })
            }
        };
        let required = |name: &str, what: &str| place(name)?.ok_or_else(|| wrong(what));
        // An issuer that lists its methods must list this one; most of those that know it list none.
        let challenges = described.texts("code_challenge_methods_supported");
        if challenges.is_some_and(|methods| !methods.contains(&"S256")) {
            return Err(Error::Unsupported {
                issuer: Arc::clone(&issuer.name),
                what: "PKCE with S256",
                hint: "without it a code could be used by whoever sees it; ask its administrator",
            });
        }
        let proofs = described.texts("token_endpoint_auth_methods_supported");
        let only_body = proofs.is_some_and(|proofs| {
            proofs.contains(&"client_secret_post") && !proofs.contains(&"client_secret_basic")
        });
        Ok(Self {
            authorization: required("authorization_endpoint", "no authorization endpoint")?,
            token: required("token_endpoint", "no token endpoint")?,
            jwks: required("jwks_uri", "no place for its keys")?,
            device: place("device_authorization_endpoint")?,
            revocation: place("revocation_endpoint")?,
            userinfo: place("userinfo_endpoint")?,
            end_session: place("end_session_endpoint")?,
            says_iss: described.get("authorization_response_iss_parameter_supported") == Some(&true.into()),
            proof: if only_body { ClientProof::Body } else { ClientProof::Header },
        })
    }
}
