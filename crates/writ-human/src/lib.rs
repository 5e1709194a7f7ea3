//! Who the human is: talks to `OpenID` Connect issuers and verifies what they say.
//!
//! [`People`] is the whole of it: [`Logins`] (a browser or a device proves a person, once), the sign-ins that stay
//! ([`People::who`]), [`Callers`] (the tokens that come with a request), and [`Signals`] (what an issuer tells
//! afterwards). It knows nothing of runs or sessions; what ends is told through [`Tell`], what lasts is kept through
//! [`Keep`], and both belong to the daemon.
//!
//! Invariants: nothing an issuer says is believed before signature, issuer, audience and time have been checked, in
//! one place each (`jose`, `claims`); a human is issuer *and* subject, never a name or an address; a sign-in is worth
//! something for one uid in one login session only; no token leaves this crate but to the issuer that made it.
//!
//! # Libraries, judged
//!
//! Signatures are aws-lc-rs, HTTP is hyper, TLS is rustls, as in the relay. The rest is written here, because what
//! is at hand was found wanting for a verifier that must fail closed:
//! - `openidconnect` and `oauth2` leave `at_hash`, RFC 9207, the kinds of tokens and the single use of refresh tokens
//!   to the caller, and bring other implementations of RSA and of the curves beside aws-lc-rs.
//! - `jsonwebtoken` leaves to the caller what a header brings (`jku`, `jwk`, `x5u`), members that stand twice, what a
//!   key says it is for, and the sets of keys; what would be left of it is the call of aws-lc-rs that `jose` makes.
//! - `josekit` needs OpenSSL, a second TLS and a second set of key parsers in one process.
#![forbid(unsafe_code)]

mod cache;
mod caller;
mod claims;
mod cuts;
mod error;
mod form;
mod issuer;
mod jose;
mod json;
mod keep;
mod keys;
mod login;
mod people;
mod provider;
mod refusal;
mod roster;
mod signal;
mod signed_in;
mod web;

pub use caller::{Caller, Callers};
pub use claims::TokenKind;
pub use error::Error;
pub use issuer::{Delivery, Endpoint, EndpointError, Issuer, IssuerName, KEYS, Transmitter, issuers};
pub use keep::{Keep, KeepError, Pace, RealPace, Reveal, Tell};
pub use login::{BrowserLogin, DeviceLogin, LoginId, Logins};
pub use people::People;
pub use provider::Ports;
pub use refusal::Refusal;
pub use roster::SignedOut;
pub use signal::{Action, Event, Signal, Signals, Subject};
pub use signed_in::{EndCause, Ended, LoginOwner, SignedIn, human_id};
