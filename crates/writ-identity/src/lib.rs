//! The trust domain's identities: who signs them, what is issued, what it is checked with, and the checks.
//!
//! [`Authority`] keeps the keys and turns them over; [`Issuer`] hands out X509-SVIDs, JWT-SVIDs and other signed tokens;
//! [`Bundles`] is what is trusted at a moment; [`validate`] believes or refuses; [`mtls`] puts that into TLS;
//! [`federation`] fetches the bundles of other trust domains. No protocol is served here, and nobody is attested: who
//! may have which identity is the caller's to know.
//!
//! Invariant: nothing is issued beyond the limit that the caller gives, and nothing is believed but by the bundle of
//! the trust domain that it names.
#![forbid(unsafe_code)]

mod authority;
mod bundle;
mod certificate;
mod error;
pub mod exchange;
mod facts;
pub mod federation;
mod https;
mod issuer;
mod jose;
mod json;
mod jwk;
mod keep;
mod key;
pub mod mtls;
mod schedule;
mod settings;
mod svid;
mod token;
pub mod validate;

pub use authority::{Authority, CaSettings, Change, Surroundings, VaultLogin, VaultSettings};
pub use bundle::{Bundle, Bundles, Publication, REFRESH_HINT_DEFAULT, from_map};
pub use error::{Error, Invalid};
pub use facts::split;
pub use https::FetchError;
pub use issuer::{Issuer, Lifetimes};
pub use jwk::Algorithm;
pub use keep::{Keep, KeepError};
pub use key::KeyKind;
pub use schedule::{half_life, jittered};
pub use settings::{IdentitySettings, KEYS, settings};
pub use svid::{JwtSvid, WitSvid, X509Svid};
pub use token::Token;
