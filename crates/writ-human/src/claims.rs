//! What a verified token must say before it is believed: whose it is, for whom, when, and what kind of token.
//!
//! Pure: the time comes in, no key is asked. Comparison of issuers, audiences and clients is byte for byte.

use std::time::Duration;

use serde_json::Value;
use writ_core::Timestamp;
use writ_gate::limits;

use crate::issuer::Issuer;
use crate::jose::{Algorithm, encode};
use crate::json::Object;
use crate::refusal::Refusal;

/// A token whose signature is right.
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) object: Object,
    pub(crate) algorithm: Algorithm,
    /// `typ` of its header.
    pub(crate) kind: Option<String>,
}

/// What belongs to an ID token at the moment that it comes.
#[derive(Clone, Copy)]
pub(crate) struct Beside<'b> {
    pub(crate) nonce: Nonce<'b>,
    pub(crate) access_token: Option<&'b str>,
    pub(crate) code: Option<&'b str>,
    pub(crate) now: Timestamp,
}

/// Which nonce an ID token may have.
#[derive(Clone, Copy)]
pub(crate) enum Nonce<'b> {
    /// This one.
    Exactly(&'b str),
    /// This one or none: the answer to a refresh (`OpenID` Connect Core, section 12.2), or to a device, where nobody
    /// could send one.
    IfAny(Option<&'b str>),
}

/// What kind of token a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An access token: RFC 9068, or a plain JWT that is one.
    Access,
    /// An ID token.
    Id,
}

impl Claims {
    /// Believes an ID token (`OpenID` Connect Core, sections 3.1.3.6 to 3.1.3.8 and 12.2), or says why not.
    pub(crate) fn believe_id(&self, issuer: &Issuer, beside: Beside<'_>) -> Result<(), Refusal> {
        self.is_id_token()?;
        self.issued_by(&issuer.issuer)?;
        let audience = self.object.texts("aud").ok_or(Refusal::Claim("aud"))?;
        if !audience.contains(&issuer.client_id.as_str()) {
            return Err(Refusal::Audience);
        }
        match (audience.as_slice(), self.object.get("azp")) {
            ([_], None) => {}
            (_, Some(party)) if *party == *issuer.client_id => {}
            _ => return Err(Refusal::AuthorizedParty),
        }
        self.in_time(beside.now)?;
        self.required_time("iat")?;
        let nonce = self.optional_text("nonce")?;
        let same = match beside.nonce {
            Nonce::Exactly(sent) => nonce == Some(sent),
            Nonce::IfAny(sent) => nonce.is_none() || nonce == sent,
        };
        if !same {
            return Err(Refusal::Nonce);
        }
        self.belongs("at_hash", beside.access_token)?;
        self.belongs("c_hash", beside.code)?;
        self.authenticated(issuer, beside.now)?;
        self.subject().map(drop)
    }

    /// Believes a token that a caller shows for this audience, and says what kind it is.
    pub(crate) fn believe_caller(
        &self,
        issuer: &Issuer,
        audience: &str,
        now: Timestamp,
    ) -> Result<TokenKind, Refusal> {
        let kind = self.kind_shown(issuer)?;
        self.issued_by(&issuer.issuer)?;
        let audiences = self.object.texts("aud").ok_or(Refusal::Claim("aud"))?;
        // What configuration does not list is nobody's audience here, whoever asks for it.
        if !audiences.contains(&audience) || !issuer.audiences.iter().any(|known| known == audience) {
            return Err(Refusal::Audience);
        }
        self.in_time(now)?;
        let made = self.required_time("iat")?;
        if now.since(made) > limits::CALLER_TOKEN_AGE_MAX {
            return Err(Refusal::Expired);
        }
        if self.object.has("cnf") {
            return Err(Refusal::Bound);
        }
        let subject = self.subject()?;
        if self.object.text("client_id").is_some_and(|client| client == subject) {
            return Err(Refusal::NoHuman);
        }
        if self.kind.as_deref() == Some("at+jwt") {
            for name in ["client_id", "jti"] {
                self.object.text(name).ok_or(Refusal::Claim(name))?;
            }
        }
        if kind == TokenKind::Id {
            self.authenticated(issuer, now)?;
        }
        Ok(kind)
    }

    /// `sub` (`OpenID` Connect Core, section 2: at most 255 ASCII characters; others are taken, the length is not).
    pub(crate) fn subject(&self) -> Result<&str, Refusal> {
        let subject = self.object.text("sub").ok_or(Refusal::Claim("sub"))?;
        if subject.is_empty() || subject.len() > 255 { Err(Refusal::Claim("sub")) } else { Ok(subject) }
    }

    /// A time claim (RFC 7519: a `NumericDate`, which may have a fraction).
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Refusal> {
        let Some(value) = self.object.get(name) else { return Ok(None) };
        numeric_date(value).map(Some).ok_or(Refusal::Claim(name))
    }

    /// A time claim that must be there.
    pub(crate) fn required_time(&self, name: &'static str) -> Result<Timestamp, Refusal> {
        self.time(name)?.ok_or(Refusal::Claim(name))
    }

    pub(crate) fn issued_by(&self, issuer: &str) -> Result<(), Refusal> {
        if self.object.text("iss") == Some(issuer) { Ok(()) } else { Err(Refusal::Issuer) }
    }

    fn optional_text(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        match self.object.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(Refusal::Claim(name)),
        }
    }

    fn in_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let expires = self.required_time("exp")?;
        if expires.plus(limits::CLOCK_SKEW) <= now {
            return Err(Refusal::Expired);
        }
        let latest = now.plus(limits::CLOCK_SKEW);
        for name in ["nbf", "iat"] {
            if self.time(name)?.is_some_and(|begins| begins > latest) {
                return Err(Refusal::NotYet);
            }
        }
        Ok(())
    }

    fn is_id_token(&self) -> Result<(), Refusal> {
        let header = matches!(self.kind.as_deref(), None | Some("jwt"));
        // Keycloak says in the content what kind a token is.
        let content = self.object.get("typ").is_none_or(|kind| kind == "ID");
        if header && content && !self.object.has("events") { Ok(()) } else { Err(Refusal::Kind) }
    }

    /// What was shown: by header where it says so, by the marks of an ID token where it does not.
    fn kind_shown(&self, issuer: &Issuer) -> Result<TokenKind, Refusal> {
        if self.object.has("events") {
            return Err(Refusal::Kind);
        }
        let marks = ["nonce", "at_hash", "c_hash", "s_hash"].iter().any(|mark| self.object.has(mark));
        let for_client_alone = self.object.texts("aud") == Some(vec![issuer.client_id.as_str()]);
        let kind = match (self.kind.as_deref(), self.object.text("typ")) {
            (None | Some("jwt"), Some("ID")) => TokenKind::Id,
            (None | Some("jwt"), None) if marks || for_client_alone => TokenKind::Id,
            (None | Some("jwt" | "at+jwt"), None | Some("Bearer")) if !marks => TokenKind::Access,
            _ => return Err(Refusal::Kind),
        };
        if kind == TokenKind::Id && !issuer.caller_id_tokens { Err(Refusal::Kind) } else { Ok(kind) }
    }

    /// `at_hash` and `c_hash`: optional in the flows used here, and right if present.
    fn belongs(&self, name: &'static str, beside: Option<&str>) -> Result<(), Refusal> {
        let (Some(hash), Some(beside)) = (self.object.get(name), beside) else { return Ok(()) };
        let digest = aws_lc_rs::digest::digest(self.algorithm.digest(), beside.as_bytes());
        let bytes = digest.as_ref();
        let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
        if *hash == encode(half) { Ok(()) } else { Err(Refusal::Hash(name)) }
    }

    fn authenticated(&self, issuer: &Issuer, now: Timestamp) -> Result<(), Refusal> {
        if let Some(age) = issuer.max_age {
            let at = self.time("auth_time")?.ok_or(Refusal::AuthTime)?;
            if at.plus(age).plus(limits::CLOCK_SKEW) < now {
                return Err(Refusal::AuthTime);
            }
        }
        let context = self.object.text("acr");
        let fits = |context: &str| issuer.acr_values.iter().any(|wanted| wanted == context);
        if issuer.acr_values.is_empty() || context.is_some_and(fits) { Ok(()) } else { Err(Refusal::Context) }
    }
}

pub(crate) fn numeric_date(value: &Value) -> Option<Timestamp> {
    // 2^53 microseconds are past the year 2200.
    let seconds = value.as_f64().filter(|seconds| (0.0..9.0e9).contains(seconds))?;
    Some(Timestamp::default().plus(Duration::from_secs_f64(seconds)))
}
