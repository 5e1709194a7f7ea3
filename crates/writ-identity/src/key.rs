//! Private keys: made, kept as PKCS#8 in secret memory, and handed to what signs with them.

use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Map, Value};
use writ_core::Secret;
use writ_core::config::{self, Setting, Wrong};
use zeroize::Zeroizing;

use crate::jwk::{Curve, PublicKey};
use crate::{Error, Invalid};

/// The kind of key of certificates. Ed25519 is not offered: JWT-SVIDs refuse it, and so do many clients of X.509.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

impl KeyKind {
    pub(crate) fn certificates(self) -> &'static SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }
}

impl Setting for KeyKind {
    const EXPECTED: &'static str = "a kind of key";
    const EXAMPLE: &'static str = "\"p256\"";

    fn read(value: &config::Value<'_>) -> Result<Self, Wrong> {
        value.one_of(&[("p256", Self::P256), ("p384", Self::P384)])
    }
}

/// The key of a leaf, made anew for each. Faster than rcgen's own, which reads back what it has just written.
pub(crate) struct LeafKey {
    pair: EcdsaKeyPair,
    kind: KeyKind,
}

impl LeafKey {
    pub(crate) fn generate(kind: KeyKind) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(kind.signing()).map_err(|_| Error::Crypto("make a key"))?;
        Ok(Self { pair, kind })
    }

    pub(crate) fn pkcs8(&self) -> Result<Secret<[u8]>, Error> {
        let document = self.pair.to_pkcs8v1().map_err(|_| Error::Crypto("write a key"))?;
        Ok(Secret::<[u8]>::new(document.as_ref().to_vec())?)
    }
}

impl PublicKeyData for LeafKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.kind.certificates()
    }
}

/// Makes a key for signing certificates.
pub(crate) fn generate(kind: KeyKind) -> Result<Secret<[u8]>, Error> {
    LeafKey::generate(kind)?.pkcs8()
}

/// A key of certificates, ready to sign.
pub(crate) fn certificates(kind: KeyKind, pkcs8: &Secret<[u8]>) -> Result<KeyPair, Error> {
    let der = PrivatePkcs8KeyDer::from(pkcs8.expose());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, kind.certificates())?)
}

/// Makes a key for signing tokens: always P-256, which every relying party knows.
pub(crate) fn generate_tokens() -> Result<Secret<[u8]>, Error> {
    generate(KeyKind::P256)
}

/// A key of tokens, ready to sign, with its public half.
pub(crate) fn tokens(pkcs8: &Secret<[u8]>) -> Result<(EcdsaKeyPair, PublicKey), Error> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose())
        .map_err(|_| Error::Crypto("read a key"))?;
    let public = PublicKey::on_curve(Curve::P256, pair.public_key().as_ref().to_vec());
    let public = public.map_err(|_: Invalid| Error::Crypto("read a key"))?;
    Ok((pair, public))
}

/// A key that its holder proves tokens with: the public JWK with its `alg`, and the private one.
pub(crate) fn proof() -> Result<(Map<String, Value>, Secret<str>), Error> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let pair = pair.map_err(|_| Error::Crypto("make a key"))?;
    let public = PublicKey::on_curve(Curve::P256, pair.public_key().as_ref().to_vec());
    let mut members = public.map_err(|_| Error::Crypto("make a key"))?.members();
    members.insert("alg".to_owned(), "ES256".into());
    let private: EcPrivateKeyBin<'_> =
        pair.private_key().as_be_bytes().map_err(|_| Error::Crypto("write a key"))?;
    let d = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(private.as_ref()));
    // Written by hand around the public part: a JSON value would leave a copy of the key in memory.
    let shown = Value::Object(members.clone()).to_string();
    let shown = shown.strip_suffix('}').unwrap_or_default();
    let mut text = String::with_capacity(shown.len() + d.len() + 8);
    text.extend([shown, ",\"d\":\"", &d, "\"}"]);
    Ok((members, Secret::<str>::new(text)?))
}
