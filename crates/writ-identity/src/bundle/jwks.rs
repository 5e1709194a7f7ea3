//! The JWKS form of a bundle, in and out.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};
use writ_core::TrustDomain;

use super::{Bundle, TokenKey};
use crate::Invalid;
use crate::facts::Facts;
use crate::jwk::{Algorithm, PublicKey, text};

pub(super) fn read(trust_domain: TrustDomain, set: &Map<String, Value>) -> Result<Bundle, Invalid> {
    let mut bundle = Bundle::empty(trust_domain);
    bundle.sequence = count(set, "spiffe_sequence")?;
    bundle.refresh_hint = count(set, "spiffe_refresh_hint")?.map(Duration::from_secs);
    // Absent is not empty: a text that forgot its keys must not revoke a whole trust domain.
    let keys = set.get("keys").and_then(Value::as_array).ok_or(Invalid::Malformed("no `keys`"))?;
    for key in keys {
        match read_key(&mut bundle, key.as_object().ok_or(Invalid::Malformed("a key that is no object"))?) {
            Ok(()) => {}
            Err(error @ Invalid::Duplicate(_)) => return Err(error),
            // Not trusted, and no reason to go on trusting what this text takes away.
            Err(_) => bundle.unusable += 1,
        }
    }
    Ok(bundle)
}

fn read_key(bundle: &mut Bundle, jwk: &Map<String, Value>) -> Result<(), Invalid> {
    text(jwk, "kty")?;
    match jwk.get("use").and_then(Value::as_str) {
        Some("x509-svid") => bundle.add_root(root(jwk)?),
        Some("jwt-svid") => token_key(jwk)?.map_or(Ok(()), |key| bundle.add_jwt(key)),
        Some("wit-svid") => token_key(jwk)?.map_or(Ok(()), |key| bundle.add_wit(key)),
        Some(_) | None => Ok(()),
    }
}

/// The first certificate of `x5c`; the JWK's own members must be of the same key (RFC 7517 section 4.7).
fn root(jwk: &Map<String, Value>) -> Result<CertificateDer<'static>, Invalid> {
    let chain = jwk.get("x5c").and_then(Value::as_array).ok_or(Invalid::Malformed("a root without `x5c`"))?;
    let [first] = chain.as_slice() else {
        return Err(Invalid::Malformed("a root that is not exactly one certificate"));
    };
    let first = first.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let root = CertificateDer::from(first.ok_or(Invalid::Malformed("an `x5c` that is not base64"))?);
    let facts = Facts::read(&root)?;
    let says = ["x", "n"].iter().any(|member| jwk.contains_key(*member));
    if let (true, Some(certified)) = (says, facts.key)
        && PublicKey::read(jwk)? != Some(certified)
    {
        return Err(Invalid::Malformed("a root whose certificate is of another key"));
    }
    Ok(root)
}

/// `None` for a kind of key that no token is signed with.
fn token_key(jwk: &Map<String, Value>) -> Result<Option<TokenKey>, Invalid> {
    let Some(key) = PublicKey::read(jwk)? else { return Ok(None) };
    let kid = text(jwk, "kid")?;
    if kid.is_empty() {
        return Err(Invalid::Malformed("a key without a name"));
    }
    let algorithm = match jwk.get("alg") {
        None => None,
        Some(name) => match name.as_str().and_then(Algorithm::named) {
            Some(algorithm) if key.fits(algorithm) => Some(algorithm),
            Some(_) | None => return Err(Invalid::Malformed("a key for an algorithm that does not fit it")),
        },
    };
    if let Some(operations) = jwk.get("key_ops") {
        operations_allow(operations).ok_or(Invalid::Malformed("a key that is not for verifying"))?;
    }
    Ok(Some(TokenKey { kid: kid.to_owned(), algorithm, key }))
}

/// `key_ops` beside `use` (RFC 7517 section 4.3): text, each once, `verify` among them, and nothing of encryption.
fn operations_allow(operations: &Value) -> Option<()> {
    let named: Option<Vec<&str>> = operations.as_array()?.iter().map(Value::as_str).collect();
    let named = named?;
    let others = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];
    let once = (1..named.len())
        .all(|n| named.get(n).zip(named.get(..n)).is_some_and(|(one, before)| !before.contains(one)));
    (once && named.contains(&"verify") && !named.iter().any(|one| others.contains(one))).then_some(())
}

fn count(set: &Map<String, Value>, name: &str) -> Result<Option<u64>, Invalid> {
    match set.get(name) {
        None => Ok(None),
        Some(number) => {
            number.as_u64().map(Some).ok_or(Invalid::Malformed("a count that is no whole number"))
        }
    }
}

pub(super) fn write(bundle: &Bundle) -> Value {
    let roots = bundle.roots.iter().map(write_root);
    let jwt = bundle.jwt.iter().map(|key| write_token(key, Some("jwt-svid")));
    let wit = bundle.wit.iter().map(|key| write_token(key, Some("wit-svid")));
    let mut set = Map::new();
    set.insert("keys".to_owned(), roots.chain(jwt).chain(wit).collect());
    if let Some(hint) = bundle.refresh_hint {
        set.insert("spiffe_refresh_hint".to_owned(), hint.as_secs().into());
    }
    if let Some(sequence) = bundle.sequence {
        set.insert("spiffe_sequence".to_owned(), sequence.into());
    }
    Value::Object(set)
}

pub(super) fn tokens(keys: &[TokenKey], usage: Option<&str>) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| write_token(key, usage)).collect();
    Value::from_iter([("keys", keys)])
}

fn write_root(root: &CertificateDer<'static>) -> Value {
    let facts = Facts::read(root).ok();
    let mut jwk = facts.map_or_else(Map::new, |facts| match facts.key {
        Some(key) => key.members(),
        None => edwards(&facts.spki),
    });
    jwk.insert("use".to_owned(), "x509-svid".into());
    jwk.insert("x5c".to_owned(), vec![BASE64_STANDARD.encode(root)].into());
    Value::Object(jwk)
}

/// A root whose key tokens are never signed with (RFC 8037 section 2): Ed25519 is the only kind that webpki knows besides.
fn edwards(spki: &[u8]) -> Map<String, Value> {
    // RFC 8410 section 4: a fixed head, then the key.
    let key = spki.last_chunk::<32>().map(|key| BASE64_URL_SAFE_NO_PAD.encode(key)).unwrap_or_default();
    let members = [("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", key)];
    members.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn write_token(key: &TokenKey, usage: Option<&str>) -> Value {
    let mut jwk = key.key.members();
    jwk.insert("kid".to_owned(), key.kid.clone().into());
    if let Some(algorithm) = key.algorithm {
        jwk.insert("alg".to_owned(), algorithm.name().into());
    }
    if let Some(usage) = usage {
        jwk.insert("use".to_owned(), usage.into());
    }
    Value::Object(jwk)
}
