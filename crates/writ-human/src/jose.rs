//! Signed tokens: JWS in compact form (RFC 7515), and the keys that verify them (RFC 7517, RFC 7518, RFC 8037).
//!
//! Verification only. The algorithm is chosen by the key *and* the header, both of which must name the same family;
//! `none` and symmetric algorithms do not exist here, and a header that brings keys or wants to be understood
//! (`jwk`, `jku`, `x5u`, `x5c`, `crit`, `b64`, `zip`) is refused (RFC 8725, sections 2.1, 3.1, 3.10).

mod key;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use writ_gate::limits;

use crate::json::Object;
use crate::refusal::Refusal;

pub(crate) use key::KeySet;

/// An algorithm that is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Ed25519,
}

impl Algorithm {
    /// What human logins and callers' tokens may be signed with.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Ed25519,
    ];
    /// What security events may be signed with (CAEP interoperability profile 1.0; ES256 beside it).
    pub(crate) const SIGNALS: &'static [Self] = &[Self::Rs256, Self::Es256];

    /// Exactly the registered names; they are case-sensitive.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            // RFC 9864 names the curve; issuers of today still write the older name.
            "EdDSA" | "Ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    /// The digest of `at_hash` and `c_hash` (`OpenID` Connect Core, section 3.1.3.6).
    pub(crate) fn digest(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &aws_lc_rs::digest::SHA256,
            Self::Rs384 | Self::Ps384 | Self::Es384 => &aws_lc_rs::digest::SHA384,
            Self::Rs512 | Self::Ps512 | Self::Ed25519 => &aws_lc_rs::digest::SHA512,
        }
    }
}

/// A signed token, taken apart and not yet believed.
#[derive(Debug)]
pub(crate) struct Signed<'t> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    /// `typ` in lower case and without `application/` (RFC 7515, section 4.1.9).
    pub(crate) kind: Option<String>,
    claims: Object,
    input: &'t [u8],
    signature: Vec<u8>,
}

impl<'t> Signed<'t> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'t str, allowed: &[Algorithm]) -> Result<Self, Refusal> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Refusal::Malformed("it is too long"));
        }
        let (input, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed("it has no parts"))?;
        let (header, payload) = input.split_once('.').ok_or(Refusal::Malformed("it has not three parts"))?;
        let header = Object::parse(&decode(header)?).ok_or(Refusal::Malformed("its header is no object"))?;
        for brought in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"] {
            if header.has(brought) {
                return Err(Refusal::Header(brought));
            }
        }
        let algorithm = header.text("alg").and_then(Algorithm::named).ok_or(Refusal::Algorithm)?;
        if !allowed.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        let text = |name: &'static str| match header.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(Refusal::Header(name)),
        };
        let kind = text("typ")?.map(str::to_ascii_lowercase);
        Ok(Self {
            algorithm,
            kid: text("kid")?.map(str::to_owned),
            kind: kind.map(|kind| kind.strip_prefix("application/").unwrap_or(&kind).to_owned()),
            claims: Object::parse(&decode(payload)?).ok_or(Refusal::Malformed("its content is no object"))?,
            input: input.as_bytes(),
            signature: decode(signature)?,
        })
    }

    /// Who claims to have issued it: only for choosing whose keys to ask.
    pub(crate) fn unproven_issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Its content, once a key of the set has verified it.
    pub(crate) fn verified(&self, keys: &KeySet) -> Result<&Object, Refusal> {
        keys.verify(self)?;
        Ok(&self.claims)
    }
}

/// Strict base64url: no padding, no stray bits (RFC 7515, section 2).
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed("a part is not base64url"))
}

/// Base64url as tokens have it.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
