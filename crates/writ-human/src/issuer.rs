//! Issuers as configured: `[[human.issuer]]` in `writd.toml`.
//!
//! Reading checks all that can be known without asking the issuer. What is here names secrets, and holds none.

mod endpoint;
mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use writ_core::SecretName;

pub use endpoint::{Endpoint, EndpointError};
pub(crate) use read::group_named;
pub use read::{KEYS, issuers};

/// The name of an issuer in configuration, groups and records.
pub type IssuerName = std::sync::Arc<str>;

/// An issuer whose word about people is taken, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// How configuration and groups call it.
    pub name: IssuerName,
    /// Its identifier, compared byte for byte (`OpenID` Connect Core, section 3.1.3.7).
    pub issuer: String,
    /// What it calls this node.
    pub client_id: String,
    /// The secret that proves it; a public client has none.
    pub client_secret: Option<SecretName>,
    /// What a login asks for; holds `openid`.
    pub scopes: Vec<String>,
    /// The claim that lists groups: a name, or a path with dots.
    pub groups_claim: String,
    /// What its groups are called in policies; others are `NAME:VALUE`.
    pub groups: BTreeMap<String, String>,
    /// The claim that is shown for the human.
    pub display_claim: String,
    /// Audiences that callers' tokens may be for.
    pub audiences: Vec<String>,
    /// Whether callers may show an ID token.
    pub caller_id_tokens: bool,
    /// Roots for its TLS, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long ago the human may have authenticated.
    pub max_age: Option<Duration>,
    /// Authentication contexts of which one is required.
    pub acr_values: Vec<String>,
    /// What it shall ask for at a login in a browser, if that is not left to the standard; empty for nothing.
    pub prompt: Option<String>,
    /// Whether it may be reached without TLS at a literal loopback address.
    pub plain_loopback: bool,
    /// What tells about its humans afterwards.
    pub signals: Option<Transmitter>,
}

/// A transmitter of security events (`OpenID` Shared Signals Framework 1.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmitter {
    /// Its identifier: `iss` of its events.
    pub issuer: String,
    /// Where its keys are.
    pub jwks: Endpoint,
    /// What it calls this receiver: `aud` of its events.
    pub audience: String,
    /// How events come.
    pub delivery: Delivery,
}

/// How security events come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The transmitter sends them (RFC 8935); the secret is the bearer token that it must show.
    Push {
        /// What the transmitter proves itself with; the signature alone if absent.
        token: Option<SecretName>,
    },
    /// They are fetched (RFC 8936).
    Poll {
        /// From where.
        endpoint: Endpoint,
        /// What proves this node there.
        token: Option<SecretName>,
    },
}
