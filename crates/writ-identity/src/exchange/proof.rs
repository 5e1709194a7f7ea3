//! Proofs of a key (`DPoP`, RFC 9449): a token that is bound to one is worth nothing to whoever merely copies it.
//!
//! Invariant: a proof is taken once, for the request that it was made for, within a minute of its making.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use writ_core::{SpiffeId, Timestamp};
use writ_gate::limits;

use super::Refusal;
use crate::Invalid;
use crate::jose::Compact;
use crate::jwk::PublicKey;

/// The algorithms that a proof may be signed with.
pub const ALGORITHMS: [&str; 9] =
    ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// A key that was proved for one request, if the proof is no copy of an earlier one ([`Replays::admit`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// The thumbprint of the key (RFC 7638), as `cnf.jkt` has it.
    pub thumbprint: String,
    /// Names this proof among all.
    id: [u8; 32],
    until: Timestamp,
}

/// Checks a proof for a request with this method to this URL (RFC 9449 section 4.3).
pub fn verify(proof: &str, method: &str, url: &str, now: Timestamp) -> Result<Proof, Invalid> {
    let compact = Compact::read(proof)?;
    if compact.header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err(Invalid::Header("is not that of a proof"));
    }
    if compact.header.contains_key("crit") {
        return Err(Invalid::Header("has a parameter that must be understood and is not"));
    }
    let jwk = compact.header.get("jwk").and_then(Value::as_object);
    let jwk = jwk.ok_or(Invalid::Header("brings no key"))?;
    let key = PublicKey::read(jwk)?.ok_or(Invalid::Algorithm)?;
    compact.verify_by(&key)?;
    let claims = &compact.claims;
    if text(claims, "htm")? != method {
        return Err(Invalid::Claim("`htm` is of another request"));
    }
    if !same_url(text(claims, "htu")?, url) {
        return Err(Invalid::Claim("`htu` is of another request"));
    }
    let made = seconds(claims, "iat")?.ok_or(Invalid::Claim("`iat` is missing"))?;
    let until = made.plus(limits::PROOF_AGE_MAX);
    if until <= now || seconds(claims, "exp")?.is_some_and(|ends| ends <= now) {
        return Err(Invalid::Expired);
    }
    let ahead = now.plus(limits::PROOF_AHEAD_MAX);
    if made > ahead || seconds(claims, "nbf")?.is_some_and(|begins| begins > ahead) {
        return Err(Invalid::NotYet);
    }
    let (jti, thumbprint) = (text(claims, "jti")?, key.thumbprint());
    let mut id = [0; 32];
    // A thumbprint is always 43 characters, so the two cannot run into one another.
    let hash = digest(&SHA256, format!("{thumbprint}{jti}").as_bytes());
    id.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    Ok(Proof { thumbprint, id, until })
}

/// The proofs of the last minute.
#[derive(Debug, Default)]
pub struct Replays {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    proofs: HashMap<[u8; 32], (Timestamp, SpiffeId)>,
    clients: HashMap<SpiffeId, usize>,
    swept: Timestamp,
}

impl Replays {
    /// Takes a proof of a client that proved who it is; refuses one that was taken before, whoever showed it. A client that
    /// sends more than can be remembered is refused, and no other client with it.
    pub fn admit(&self, proof: &Proof, client: &SpiffeId, now: Timestamp) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seen.clients.get(client).copied().unwrap_or(0);
        let full = count >= limits::PROOFS_PER_CLIENT_MAX || seen.proofs.len() >= limits::PROOFS_MAX;
        if full || now.since(seen.swept) > limits::PROOF_AGE_MAX {
            seen.sweep(now);
        }
        if seen.proofs.contains_key(&proof.id) {
            return Err(Refusal::Proof("the proof was used before"));
        }
        let count = seen.clients.get(client).copied().unwrap_or(0);
        if count >= limits::PROOFS_PER_CLIENT_MAX || seen.proofs.len() >= limits::PROOFS_MAX {
            return Err(Refusal::Proof("too many proofs within a minute"));
        }
        seen.proofs.insert(proof.id, (proof.until, client.clone()));
        seen.clients.insert(client.clone(), count + 1);
        Ok(())
    }
}

impl Seen {
    fn sweep(&mut self, now: Timestamp) {
        self.swept = now;
        self.proofs.retain(|_, (until, _)| *until > now);
        self.clients.clear();
        for (_, client) in self.proofs.values() {
            *self.clients.entry(client.clone()).or_default() += 1;
        }
    }
}

/// Without query and fragment, and with scheme and host in lower case (RFC 9449 section 4.3, check 9).
fn same_url(claimed: &str, own: &str) -> bool {
    let claimed = claimed.split(['?', '#']).next().unwrap_or_default();
    let split = |url: &str| -> Option<(String, String)> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(":443").unwrap_or(&authority);
        Some((format!("{}://{authority}", scheme.to_ascii_lowercase()), path.to_owned()))
    };
    split(claimed).is_some_and(|claimed| Some(claimed) == split(own))
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<&'c str, Invalid> {
    let text = claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or(Invalid::Claim("that a proof must have is missing"))
}

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Invalid> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.ok_or(Invalid::Claim("of time is no time"))?;
    Ok(Some(Timestamp::default().plus(seconds)))
}
