//! Whether an identity is believed. Pure: what is trusted and what time it is are arguments.
//!
//! Invariant: an identity is checked with the bundle of its own trust domain and with no other, and what is returned
//! was read from the very bytes that the signature covers.

mod jwt;
mod x509;

pub use jwt::{Claims, JwtClaims, jwt, token, wit};
pub use x509::x509;
