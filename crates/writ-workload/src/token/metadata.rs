//! What discovery says of the endpoints (RFC 8414, `OpenID` Connect Discovery 1.0).

use http::Uri;
use serde_json::{Map, Value, json};
use writ_identity::exchange::proof;

use super::{INTROSPECT_PATH, TOKEN_PATH, Tokens};
use crate::web::discovery;

/// The issuer's own path, without a slash at its end.
pub(super) fn path(issuer: &str) -> String {
    issuer.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// The document, for both kinds of discovery.
pub(super) fn document(tokens: &Tokens) -> String {
    let endpoints = [("token_endpoint", TOKEN_PATH), ("introspection_endpoint", INTROSPECT_PATH)];
    let known = discovery(&tokens.name, &tokens.base, &endpoints);
    let mut members: Map<String, Value> = serde_json::from_str(&known).unwrap_or_default();
    let more = json!({
        "dpop_signing_alg_values_supported": proof::ALGORITHMS,
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "introspection_endpoint_auth_methods_supported": ["spiffe_jwt", "Bearer"],
        "scopes_supported": tokens.settings.audiences.scopes(),
        "token_endpoint_auth_methods_supported": ["spiffe_jwt", "none"],
    });
    if let Value::Object(more) = more {
        members.extend(more);
    }
    Value::Object(members).to_string()
}
