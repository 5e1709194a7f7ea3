//! JWT-SVIDs (JWT-SVID standard), and the other tokens that the authority signs.

use serde_json::{Map, Value};
use writ_core::{SpiffeId, Timestamp};

use crate::jose::Compact;
use crate::jwk::{Algorithm, PublicKey};
use crate::{Bundle, Bundles, Invalid};

/// What a believed JWT-SVID says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JwtClaims {
    /// The workload.
    pub subject: SpiffeId,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// When it ends.
    pub expires: Timestamp,
    /// Every claim, as it was signed.
    pub claims: Map<String, Value>,
}

/// What a believed token of our own says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Claims {
    /// When it ends.
    pub expires: Timestamp,
    /// Every claim, as it was signed.
    pub claims: Map<String, Value>,
}

/// Checks a JWT-SVID for one audience. No leeway: a token ends in the second that it says.
pub fn jwt(token: &str, audience: &str, bundles: &Bundles, now: Timestamp) -> Result<JwtClaims, Invalid> {
    let compact = Compact::read(token)?;
    // "Any other header MUST NOT be present": `crit`, `jwk`, `jku`, `x5u` and whatever else names keys ends here.
    if compact.header.keys().any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")) {
        return Err(Invalid::Header("has a parameter that is not allowed"));
    }
    let typ = compact.header.get("typ");
    if typ.is_some_and(|typ| !matches!(typ.as_str(), Some("JWT" | "JOSE"))) {
        return Err(Invalid::Header("is not that of a JWT-SVID"));
    }
    let subject = subject(&compact.claims)?;
    let bundle = bundles.get(subject.trust_domain()).ok_or(Invalid::UnknownTrustDomain)?;
    compact.verify(bundle.jwt_key(compact.kid()?).ok_or(Invalid::UnknownKey)?)?;
    let expires = in_time(&compact.claims, now)?;
    let audiences = audiences(&compact.claims)?;
    if !audiences.iter().any(|named| named == audience) {
        return Err(Invalid::Audience);
    }
    Ok(JwtClaims { subject, audiences, expires, claims: compact.claims })
}

/// Checks a token that this authority signed with [`Issuer::sign`](crate::Issuer::sign): its `typ` exactly, its
/// signature, its time. Audience and meaning are the caller's to judge.
pub fn token(token: &str, typ: &str, own: &Bundle, now: Timestamp) -> Result<Claims, Invalid> {
    let compact = Compact::read(token)?;
    if compact.header.keys().any(|name| !matches!(name.as_str(), "alg" | "kid" | "typ")) {
        return Err(Invalid::Header("has a parameter that is not allowed"));
    }
    if compact.header.get("typ").and_then(Value::as_str) != Some(typ) {
        return Err(Invalid::Header("is of another type"));
    }
    compact.verify(own.jwt_key(compact.kid()?).ok_or(Invalid::UnknownKey)?)?;
    let expires = in_time(&compact.claims, now)?;
    Ok(Claims { expires, claims: compact.claims })
}

/// Checks a WIT-SVID (section 4). It proves nothing about who sent it: the caller must see a proof by `cnf.jwk`.
pub fn wit(token: &str, bundles: &Bundles, now: Timestamp) -> Result<JwtClaims, Invalid> {
    let compact = Compact::read(token)?;
    if compact.header.get("typ").and_then(Value::as_str) != Some("wit+jwt") {
        return Err(Invalid::Header("is not that of a WIT-SVID"));
    }
    // Unknown parameters are ignored unless `crit` makes them count; none is understood here.
    if compact.header.contains_key("crit") {
        return Err(Invalid::Header("has a parameter that must be understood and is not"));
    }
    let subject = subject(&compact.claims)?;
    let bundle = bundles.get(subject.trust_domain()).ok_or(Invalid::UnknownTrustDomain)?;
    compact.verify(bundle.wit_key(compact.kid()?).ok_or(Invalid::UnknownKey)?)?;
    let expires = in_time(&compact.claims, now)?;
    if compact.claims.contains_key("aud") {
        return Err(Invalid::Claim("`aud` must not be there"));
    }
    let key = compact.claims.get("cnf").and_then(|cnf| cnf.get("jwk")).and_then(Value::as_object);
    let key = key.ok_or(Invalid::Claim("`cnf.jwk` is missing"))?;
    let algorithm = key.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
    let fits = PublicKey::read(key)?.zip(algorithm).is_some_and(|(key, algorithm)| key.fits(algorithm));
    if !fits {
        return Err(Invalid::Claim("`cnf.jwk` is no key that can be proved"));
    }
    Ok(JwtClaims { subject, audiences: Vec::new(), expires, claims: compact.claims })
}

fn subject(claims: &Map<String, Value>) -> Result<SpiffeId, Invalid> {
    let text = claims.get("sub").and_then(Value::as_str).ok_or(Invalid::Claim("`sub` is missing"))?;
    let id = SpiffeId::new(text).map_err(|_| Invalid::Subject("is not one"))?;
    // The id of a trust domain itself names no workload.
    if id.path().is_empty() { Err(Invalid::Subject("has no path")) } else { Ok(id) }
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, Invalid> {
    let wrong = Invalid::Claim("`aud` is missing or empty");
    let listed = match claims.get("aud") {
        Some(Value::String(one)) => vec![Some(one.clone())],
        Some(Value::Array(all)) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        Some(_) | None => return Err(wrong),
    };
    let listed: Option<Vec<String>> = listed.into_iter().collect();
    listed.filter(|all| !all.is_empty() && all.iter().all(|one| !one.is_empty())).ok_or(wrong)
}

/// The end, if the token holds now: `exp` must lie in the future, `nbf` must not.
fn in_time(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, Invalid> {
    let expires = moment(claims, "exp")?.ok_or(Invalid::Claim("`exp` is missing"))?;
    let begins = moment(claims, "nbf")?;
    moment(claims, "iat")?;
    if expires <= now {
        return Err(Invalid::Expired);
    }
    if begins.is_some_and(|begins| begins > now) {
        return Err(Invalid::NotYet);
    }
    Ok(expires)
}

/// A `NumericDate` (RFC 7519 section 2): seconds, with or without a fraction.
fn moment(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, Invalid> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_u64().map(|seconds| seconds.saturating_mul(1_000_000));
    let micros = seconds.or_else(|| fraction(value.as_f64()?));
    micros.map(|micros| Some(Timestamp::from_micros(micros))).ok_or(Invalid::Claim("of time is no time"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the range checked before"
)]
fn fraction(seconds: f64) -> Option<u64> {
    if (0.0..9.0e12).contains(&seconds) { Some((seconds * 1e6) as u64) } else { None }
}
