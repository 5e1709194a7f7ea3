//! The tokens that callers bring: verified on the spot, never kept here.
//!
//! Which issuer a token is from is read from the token, and everything after that is checked with that issuer's keys
//! and settings alone: one issuer's key never proves another's human (mix-up).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use writ_core::{HumanId, Timestamp};
use writ_gate::limits;

use crate::claims::{Claims, TokenKind};
use crate::cuts::Cuts;
use crate::error::Error;
use crate::issuer::IssuerName;
use crate::jose::{Algorithm, encode};
use crate::keys::taken_apart;
use crate::provider::{Ports, Provider};
use crate::refusal::Refusal;
use crate::signed_in::{Person, human_id};

/// A human whose token came with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Issuer and subject.
    pub human: HumanId,
    /// How configuration calls the issuer.
    pub issuer: IssuerName,
    /// The subject, as the issuer writes it.
    pub subject: String,
    /// What is shown beside the id. Proves nothing.
    pub display: String,
    /// Groups, as policies call them.
    pub groups: Vec<String>,
    /// When the token ends.
    pub expires: Timestamp,
    /// Base64url of the token's SHA-256 (the form of `ath`, RFC 9449): names it in records without giving it away.
    pub token_hash: String,
    /// What kind of token it was.
    pub kind: TokenKind,
    /// Everybody whom it is for (`aud`).
    pub audiences: Vec<String>,
    /// What it is good for, scope by scope (`scope`, or `scp` of some issuers); `None` if it does not say.
    pub scopes: Option<Vec<String>>,
    /// The only one who may act with it (`may_act.sub`, RFC 8693 section 4.4), if it says so.
    pub may_act: Option<String>,
}

/// Verifies callers' tokens.
pub struct Callers {
    by_url: HashMap<String, Arc<Provider>>,
    ports: Ports,
    cuts: Arc<Cuts>,
    seen: Mutex<HashMap<HumanId, Seen>>,
}

struct Seen {
    issuer: IssuerName,
    email: String,
    expires: Timestamp,
}

impl Callers {
    pub(crate) fn new(providers: &HashMap<IssuerName, Arc<Provider>>, ports: Ports, cuts: Arc<Cuts>) -> Self {
        let by_url = providers
            .values()
            .map(|provider| (provider.issuer.issuer.clone(), Arc::clone(provider)))
            .collect();
        Self { by_url, ports, cuts, seen: Mutex::default() }
    }

    /// Verifies a token for an audience, which configuration must list for the token's issuer. Asks the issuer only
    /// for its keys, and only when it must. [`Error::Token`] says what is wrong with a token; any other error means
    /// that it could not be judged.
    pub async fn verify(&self, token: &str, audience: &str) -> Result<Caller, Error> {
        let unproven = taken_apart(token, Algorithm::ALL)?;
        let provider = unproven.unproven_issuer().and_then(|issuer| self.by_url.get(issuer));
        let provider = provider.ok_or(Refusal::Issuer)?;
        if provider.issuer.audiences.is_empty() {
            return Err(Refusal::Audience.into());
        }
        let claims = provider.verified(token).await?;
        let kind = claims.believe_caller(&provider.issuer, audience, self.ports.now())?;
        let person = Person::read(&provider.issuer, &claims.object, None)?;
        let human = human_id(&provider.issuer.issuer, &person.subject)?;
        let expires = claims.required_time("exp")?;
        if let Some(email) = person.email {
            self.remember(&human, Seen { issuer: Arc::clone(&provider.issuer.name), email, expires });
        }
        if !self.cuts.allow(&human, claims.required_time("iat")?) {
            return Err(Refusal::Revoked.into());
        }
        Ok(Caller {
            human,
            issuer: Arc::clone(&provider.issuer.name),
            subject: person.subject,
            display: person.display,
            groups: person.groups,
            expires,
            token_hash: encode(digest(&SHA256, token.as_bytes()).as_ref()),
            kind,
            audiences: owned(claims.object.texts("aud").unwrap_or_default()),
            scopes: scopes(&claims)?,
            may_act: may_act(&claims)?,
        })
    }

    /// Humans of an issuer that came with this address and a token that has not ended.
    pub(crate) fn with_email(&self, issuer: &IssuerName, email: &str) -> Vec<HumanId> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |seen: &Seen| seen.issuer == *issuer && seen.email.eq_ignore_ascii_case(email);
        seen.iter().filter(|(_, seen)| same(seen)).map(|(human, _)| human.clone()).collect()
    }

    fn remember(&self, human: &HumanId, now: Seen) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(human) {
            known.expires = known.expires.max(now.expires);
            known.email = now.email;
            return;
        }
        if seen.len() >= limits::CALLERS_REMEMBERED_MAX {
            let time = self.ports.now();
            seen.retain(|_, known| known.expires > time);
        }
        if seen.len() >= limits::CALLERS_REMEMBERED_MAX {
            let first = seen.iter().min_by_key(|(_, known)| known.expires).map(|(human, _)| human.clone());
            first.and_then(|first| seen.remove(&first));
        }
        seen.insert(human.clone(), now);
    }
}

/// The scopes of a token; a claim that cannot be read is not the same as none.
fn scopes(claims: &Claims) -> Result<Option<Vec<String>>, Refusal> {
    for name in ["scope", "scp"] {
        if claims.object.has(name) {
            let texts = claims.object.texts(name).ok_or(Refusal::Claim(name))?;
            let words = texts.iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty());
            return Ok(Some(owned(words.collect())));
        }
    }
    Ok(None)
}

fn may_act(claims: &Claims) -> Result<Option<String>, Refusal> {
    let Some(claim) = claims.object.get("may_act") else { return Ok(None) };
    let only = claim.get("sub").and_then(Value::as_str).ok_or(Refusal::Claim("may_act"))?;
    Ok(Some(only.to_owned()))
}

fn owned(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;

    fn claims(text: &str) -> Claims {
        let object = Object::parse(text.as_bytes()).unwrap();
        Claims { object, algorithm: Algorithm::ALL[0], kind: None }
    }

    #[test]
    fn scopes_are_read_as_issuers_write_them() {
        let read = |text: &str| scopes(&claims(text)).map(|found| found.map(|words| words.join(",")));
        assert_eq!(read(r#"{"scope":"a b"}"#), Ok(Some("a,b".to_owned())));
        assert_eq!(read(r#"{"scp":["a","b"]}"#), Ok(Some("a,b".to_owned())));
        assert_eq!(read(r#"{"scope":""}"#), Ok(Some(String::new())));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"scope":7}"#), Err(Refusal::Claim("scope")));
    }

    #[test]
    fn who_may_act_is_named_or_the_claim_is_refused() {
        let read = |text: &str| may_act(&claims(text));
        assert_eq!(read(r#"{"may_act":{"sub":"x"}}"#), Ok(Some("x".to_owned())));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"may_act":{"iss":"x"}}"#), Err(Refusal::Claim("may_act")));
    }
}
