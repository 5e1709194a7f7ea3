//! Tokens that nobody should believe, and proofs of keys.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The token with members of its header replaced, its signature kept.
pub(crate) fn reheaded(token: &str, change: &Value) -> String {
    let mut parts = token.splitn(3, '.');
    let mut header: Value = serde_json::from_slice(&decode(parts.next().unwrap())).unwrap();
    for (name, value) in change.as_object().unwrap() {
        header[name] = value.clone();
    }
    format!("{}.{}.{}", encode(header.to_string()), parts.next().unwrap(), parts.next().unwrap())
}

/// The token with claims replaced, its signature kept.
pub(crate) fn reclaimed(token: &str, change: &Value) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&decode(parts[1])).unwrap();
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    format!("{}.{}.{}", parts[0], encode(claims.to_string()), parts[2])
}

/// The token under `none`, without a signature.
pub(crate) fn unsigned(token: &str) -> String {
    let changed = reheaded(token, &json!({ "alg": "none" }));
    let (signed, _) = changed.rsplit_once('.').unwrap();
    format!("{signed}.")
}

/// The token under HS256, with a public key of ours as the secret.
pub(crate) fn symmetric(token: &str, public: &[u8]) -> String {
    let changed = reheaded(token, &json!({ "alg": "HS256" }));
    let (signed, _) = changed.rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public);
    format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
}

/// A key that a client proves.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
    }

    /// A proof with this header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}
