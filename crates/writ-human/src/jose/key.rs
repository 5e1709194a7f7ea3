//! The keys of an issuer, read from its JWK set.
//!
//! Keys that cannot verify are left out when the set is read: symmetric ones, private ones, RSA below 2048 bits, keys
//! for encryption. A key is used for what it says it is for and for nothing else.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use writ_gate::limits;

use super::{Algorithm, Signed, decode};
use crate::json::Object;
use crate::refusal::Refusal;

/// The keys of one issuer at one time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeySet(Vec<Key>);

#[derive(Debug, Clone, PartialEq)]
struct Key {
    kid: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl KeySet {
    /// Reads a JWK set. `None` if it is none, or has more keys than may be.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let set = Object::parse(bytes)?;
        let keys = set.get("keys")?.as_array()?;
        if keys.len() > limits::ISSUER_KEYS_MAX {
            return None;
        }
        Some(Self(keys.iter().filter_map(|key| Key::read(&Object::of(key)?)).collect()))
    }

    /// Whether a key of the set made the signature.
    pub(super) fn verify(&self, token: &Signed<'_>) -> Result<(), Refusal> {
        let mut named = false;
        let mut fits = Vec::new();
        for key in &self.0 {
            if token.kid.is_some() && key.kid != token.kid {
                continue;
            }
            named = true;
            if key.is_for(token.algorithm) {
                fits.push(key);
            }
        }
        match (&token.kid, fits.as_slice()) {
            // The key is known and is of another kind: not a matter of fetching keys anew.
            (Some(_), []) if named => Err(Refusal::Algorithm),
            // Without a name there must be no choice (`OpenID` Connect Core, section 10.1).
            (_, []) | (None, [_, _, ..]) => Err(Refusal::Key),
            (_, fits) if fits.iter().any(|key| key.verifies(token)) => Ok(()),
            _ => Err(Refusal::Signature),
        }
    }
}

impl Key {
    fn read(key: &Object) -> Option<Self> {
        let for_signatures = key.get("use").is_none_or(|usage| usage == "sig");
        let verifies = key.get("key_ops").is_none_or(|ops| {
            ops.as_array().is_some_and(|ops| ops.iter().any(|operation| operation == "verify"))
        });
        // A private key in public is nobody's proof any more.
        if !for_signatures || !verifies || key.has("d") || key.has("k") {
            return None;
        }
        let algorithm = match key.get("alg") {
            None => None,
            Some(name) => Some(Algorithm::named(name.as_str()?)?),
        };
        let bytes = |name: &str| decode(key.text(name)?).ok();
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4u8][..], &x, &y].concat())
        };
        let material = match (key.text("kty")?, key.text("crv")) {
            ("RSA", None) => Material::Rsa { n: trimmed(bytes("n")?), e: trimmed(bytes("e")?) },
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        if matches!(&material, Material::Rsa { n, .. } if bits(n) < 2048) {
            return None;
        }
        let kid = match key.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str()?.to_owned()),
        };
        Some(Self { kid, algorithm, material })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{Ed25519, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let family = match self.material {
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == Ed25519,
        };
        family && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn verifies(&self, token: &Signed<'_>) -> bool {
        let point = |bytes: &[u8], algorithm: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(algorithm, bytes).verify(token.input, &token.signature).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => rsa(token.algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, token.input, &token.signature).is_ok()
            }),
            Material::P256(bytes) => point(bytes, &ECDSA_P256_SHA256_FIXED),
            Material::P384(bytes) => point(bytes, &ECDSA_P384_SHA384_FIXED),
            Material::Ed25519(bytes) => point(bytes, &ED25519),
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Ed25519 => return None,
    })
}

/// Some issuers write a leading zero, as ASN.1 has it; RFC 7518, section 6.3.1.1, does not.
fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.into_iter().skip(zeros).collect()
}

fn bits(number: &[u8]) -> usize {
    let lead = number.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(lead)
}
