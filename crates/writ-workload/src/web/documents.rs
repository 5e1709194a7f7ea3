//! The documents that everybody may read.

use std::sync::Arc;

use http::Uri;
use serde_json::json;
use tokio::sync::watch;
use writ_identity::Bundles;

use super::router::Router;
use crate::Parts;

/// Where the bundle of our own trust domain is served (SPIFFE Federation, section 4).
pub const BUNDLE_PATH: &str = "/bundle";

/// Routes to the bundle, and, if tokens name an issuer, to their keys and the discovery of these
/// (`OpenID` Connect).
///
/// `endpoints` are further members of the discovery document, such as `token_endpoint`: whoever adds an endpoint to the
/// router says so here.
pub fn documents(parts: &Parts, endpoints: &[(&str, &str)]) -> Router {
    let bundle = own(parts, writ_identity::Bundle::jwks);
    let router = Router::default().document(BUNDLE_PATH, bundle);
    let Some(issuer) = parts.issuer.issuer() else { return router };
    // OpenID Connect Discovery 1.0, section 4: the path is appended to the issuer, whose own path comes first.
    let base = issuer.trim_end_matches('/');
    let path =
        issuer.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    let discovery = discovery(issuer, base, endpoints);
    router
        .document(format!("{path}/.well-known/openid-configuration"), move || discovery.clone())
        .document(format!("{path}/keys"), own(parts, writ_identity::Bundle::oidc_jwks))
}

fn own(
    parts: &Parts,
    text: fn(&writ_identity::Bundle) -> String,
) -> impl Fn() -> String + Send + Sync + 'static {
    let bundles: watch::Receiver<Arc<Bundles>> = parts.bundles.clone();
    move || text(bundles.borrow().own())
}

/// What relying parties ask for: they verify tokens and never log anybody in here.
pub(crate) fn discovery(issuer: &str, base: &str, endpoints: &[(&str, &str)]) -> String {
    let mut document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{base}/keys"),
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["aud", "exp", "iat", "iss", "sub"],
    });
    if let Some(members) = document.as_object_mut() {
        members.extend(
            endpoints.iter().map(|(name, path)| ((*name).to_owned(), format!("{base}{path}").into())),
        );
    }
    document.to_string()
}
