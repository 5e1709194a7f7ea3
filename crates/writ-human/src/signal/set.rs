//! Security event tokens (RFC 8417, with SSF 1.0's narrowing): verified whole before any event in them is read.

use writ_core::Timestamp;
use writ_gate::limits;

use super::Source;
use super::event::Event;
use super::subject::Subject;
use crate::error::Error;
use crate::jose::Algorithm;
use crate::json::Object;
use crate::keys::taken_apart;
use crate::refusal::Refusal;

/// What a token says.
pub(super) struct Said {
    pub(super) id: String,
    pub(super) issued: Timestamp,
    pub(super) events: Vec<Happened>,
}

/// One event.
pub(super) struct Happened {
    pub(super) event: Event,
    pub(super) subject: Subject,
    pub(super) at: Option<Timestamp>,
}

impl Source {
    /// Verifies a token of this transmitter.
    pub(super) async fn verified(&self, token: &str) -> Result<Said, Error> {
        let signed = taken_apart(token, Algorithm::SIGNALS)?;
        // The type is what keeps an ID token or access token of the same issuer from being an event.
        if signed.kind.as_deref() != Some("secevent+jwt") {
            return Err(Refusal::Kind.into());
        }
        let (provider, transmitter) = (&self.provider, &self.transmitter);
        let fetch = || provider.keys_at(&transmitter.jwks);
        let claims = self.keys.verified(&*provider.ports.clock, &signed, || provider.paused(), fetch).await?;
        claims.issued_by(&transmitter.issuer)?;
        let audience = claims.object.texts("aud").ok_or(Refusal::Claim("aud"))?;
        if !audience.contains(&transmitter.audience.as_str()) {
            return Err(Refusal::Audience.into());
        }
        let issued = claims.required_time("iat")?;
        let now = provider.ports.now();
        if issued > now.plus(limits::CLOCK_SKEW) {
            return Err(Refusal::NotYet.into());
        }
        if now.since(issued) > limits::SIGNAL_AGE_MAX {
            return Err(Refusal::Expired.into());
        }
        let id =
            claims.object.text("jti").filter(|id| !id.is_empty() && id.len() <= limits::HUMAN_TEXT_BYTES_MAX);
        let id = id.ok_or(Refusal::Claim("jti"))?.to_owned();
        // SSF 1.0: neither `sub` nor `exp`, so that no event can be taken for another kind of token.
        for alien in ["sub", "exp"] {
            if claims.object.has(alien) {
                return Err(Refusal::Claim(alien).into());
            }
        }
        Ok(Said { id, issued, events: events(&claims.object)? })
    }
}

fn events(token: &Object) -> Result<Vec<Happened>, Refusal> {
    let events = token.get("events").and_then(Object::of).ok_or(Refusal::Claim("events"))?;
    let about = token.get("sub_id").and_then(Object::of);
    let mut happened = Vec::new();
    for (uri, content) in events.members() {
        let content = Object::of(content).ok_or(Refusal::Claim("events"))?;
        // Before SSF 1.0 the subject stood in the event.
        let subject = about.clone().or_else(|| content.get("subject").and_then(Object::of));
        happened.push(Happened {
            event: Event::read(uri, &content),
            subject: subject.as_ref().map_or(Subject::Other, Subject::read),
            at: content.get("event_timestamp").and_then(crate::claims::numeric_date),
        });
    }
    if happened.is_empty() { Err(Refusal::Claim("events")) } else { Ok(happened) }
}

/// The error code of RFC 8935, section 2.4, for a token that is not taken.
pub(super) fn code(error: &Error) -> &'static str {
    match error.refusal() {
        Some(Refusal::Issuer) => "invalid_issuer",
        Some(Refusal::Audience) => "invalid_audience",
        Some(Refusal::Key | Refusal::Algorithm | Refusal::Signature) => "invalid_key",
        _ => "invalid_request",
    }
}
