//! Compact JWS (RFC 7515 section 3.1), in and out. Nothing else of JOSE is spoken.
//!
//! What is returned by [`Compact::read`] is exactly what the signature covers: the same bytes are parsed and verified.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use writ_gate::limits;

use crate::bundle::TokenKey;
use crate::jwk::{Algorithm, PublicKey};
use crate::{Error, Invalid, Token, json};

/// A token that was taken apart and not yet believed.
pub(crate) struct Compact<'t> {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart: three parts of base64url without padding, two of them JSON objects.
    pub(crate) fn read(token: &'t str) -> Result<Self, Invalid> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Invalid::Malformed("too long"));
        }
        let malformed = Invalid::Malformed("not a compact JWS");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| malformed.clone())?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| malformed.clone())?;
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed.clone());
        Ok(Self {
            header: json::object(&part(header)?)?,
            claims: json::object(&part(claims)?)?,
            signed,
            signature: part(signature)?,
        })
    }

    /// The algorithm, if it is one of the nine.
    pub(crate) fn algorithm(&self) -> Result<Algorithm, Invalid> {
        let name = self.header.get("alg").and_then(Value::as_str);
        name.and_then(Algorithm::named).ok_or(Invalid::Algorithm)
    }

    /// The name of the key. Optional in RFC 7515; without it the key would have to be guessed.
    pub(crate) fn kid(&self) -> Result<&str, Invalid> {
        match self.header.get("kid").and_then(Value::as_str) {
            Some(kid) if !kid.is_empty() => Ok(kid),
            Some(_) | None => Err(Invalid::Header("names no key")),
        }
    }

    /// Whether the signature is of this key, under an algorithm that the key allows.
    pub(crate) fn verify(&self, key: &TokenKey) -> Result<(), Invalid> {
        let algorithm = self.algorithm()?;
        if key.algorithm.is_some_and(|only| only != algorithm) {
            return Err(Invalid::Algorithm);
        }
        key.key.verify(algorithm, self.signed.as_bytes(), &self.signature)
    }

    /// Whether the signature is of this key, which the token itself brought.
    pub(crate) fn verify_by(&self, key: &PublicKey) -> Result<(), Invalid> {
        key.verify(self.algorithm()?, self.signed.as_bytes(), &self.signature)
    }
}

/// Signs claims with ES256. `kid` is always there; every header is one that JWT-SVIDs allow.
pub(crate) fn sign(
    key: &EcdsaKeyPair,
    kid: &str,
    typ: &str,
    claims: &Map<String, Value>,
) -> Result<Token, Error> {
    let header = Value::from_iter([("alg", "ES256"), ("kid", kid), ("typ", typ)]).to_string();
    let claims = serde_json::to_vec(claims).map_err(|_| Error::Claims { problem: "they are no JSON" })?;
    let mut token = String::with_capacity((header.len() + claims.len()) * 4 / 3 + 96);
    BASE64_URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature =
        key.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| Error::Crypto("sign a token"))?;
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(Error::Claims { problem: "they are too long" });
    }
    Ok(Token::new(token))
}
