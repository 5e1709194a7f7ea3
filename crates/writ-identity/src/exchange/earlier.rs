//! Our own tokens, when they come back.

use std::sync::Arc;

use serde_json::{Map, Value};
use writ_core::{HumanId, SessionId, SpiffeId, Timestamp};
use writ_gate::Session;

use super::subject::is_live;
use super::{Actor, Audiences, Form, Meant, Refusal, Scopes, Subject, chain};
use crate::jose::Compact;
use crate::{Bundle, Invalid, validate};

/// A token of our own, believed: every claim was signed here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Earlier {
    /// Access token or transaction token.
    pub form: Form,
    /// The human, with everything that a new token must not exceed.
    pub subject: Subject,
    /// The run that it was issued to.
    pub run: SpiffeId,
    /// The session that it was issued in.
    pub session: SessionId,
    /// `jti`, or `txn`.
    pub serial: String,
    /// The key that its holder must prove (`cnf.jkt`).
    pub key: Option<String>,
    /// Every claim.
    pub claims: Map<String, Value>,
}

/// Who reads, with what, and when.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The `iss` of our tokens.
    pub issuer: &'a str,
    /// Our own keys.
    pub own: &'a Bundle,
    /// The time.
    pub now: Timestamp,
}

impl Earlier {
    /// The form that a token says it has, if it says that it is ours: `None` for other people's tokens, an error for what
    /// we sign and do not exchange. Proves nothing.
    pub fn shown(token: &str, issuer: &str) -> Option<Result<Form, Invalid>> {
        let compact = Compact::read(token).ok()?;
        let form = compact.header.get("typ").and_then(Value::as_str).and_then(Form::of_typ);
        let ours = compact.claims.get("iss").and_then(Value::as_str) == Some(issuer);
        match form {
            // Nobody else makes transaction tokens of this trust domain.
            Some(Form::Transaction) => Some(Ok(Form::Transaction)),
            Some(Form::Access) if ours => Some(Ok(Form::Access)),
            None if ours => Some(Err(Invalid::Header("is of another type"))),
            Some(Form::Access) | None => None,
        }
    }

    /// Believes a token of this form, or says why not.
    pub fn read(token: &str, form: Form, ground: Ground<'_>) -> Result<Self, Invalid> {
        let believed = validate::token(token, form.typ(), ground.own, ground.now)?;
        let claims = believed.claims;
        if text(&claims, "iss")? != ground.issuer {
            return Err(Invalid::Claim("`iss` is not ours"));
        }
        let serial = text(&claims, form.serial())?.to_owned();
        let audience = text(&claims, "aud")?.to_owned();
        if form == Form::Transaction && audience != ground.own.trust_domain().as_str() {
            return Err(Invalid::Audience);
        }
        let actors = claims.get("act").and_then(chain::read).ok_or(Invalid::Claim("`act` is not ours"))?;
        let run = actors.first().and_then(|run| SpiffeId::new(run).ok());
        let human = HumanId::new(text(&claims, "sub")?).map_err(|_| Invalid::Claim("`sub` is no human"))?;
        let scopes = Scopes::read(text(&claims, "scope")?).ok_or(Invalid::Claim("`scope` is malformed"))?;
        let subject = Subject {
            human,
            groups: groups(&claims),
            scopes: Some(scopes),
            expires: believed.expires,
            meant: Meant::For(vec![audience]),
            may_act: None,
            actors,
        };
        Ok(Self {
            form,
            subject,
            run: run.ok_or(Invalid::Claim("`act` names no run"))?,
            session: text(&claims, "sid")?.parse().map_err(|_| Invalid::Claim("`sid` is no session"))?,
            serial,
            key: claims.get("cnf").and_then(|cnf| Some(cnf.get("jkt")?.as_str()?.to_owned())),
            claims,
        })
    }

    /// Whether the session that it was issued in goes on, among the live ones of its run, and for the same human.
    pub fn stands(&self, live: &[Arc<Session>], now: Timestamp) -> bool {
        live.iter().any(|session| {
            let facts = session.facts();
            facts.id == self.session
                && facts.spiffe_id == self.run
                && facts.human.id == self.subject.human
                && is_live(session, now)
        })
    }

    /// Whether this actor may build on it, and with the key that it proved if the token is bound to one.
    ///
    /// An access token is for whom it was issued to, and for the workload that is its audience. A transaction token is for
    /// every workload of the trust domain.
    pub fn may_be_used(
        &self,
        actor: &Actor,
        key: Option<&str>,
        audiences: &Audiences,
    ) -> Result<(), Refusal> {
        if self.key.is_some() && self.key.as_deref() != key {
            return Err(Refusal::Grant("the subject token is bound to a key that was not proved"));
        }
        let holder = self.form == Form::Transaction
            || self.run == actor.spiffe_id
            || self.audiences().iter().any(|name| audiences.is_workload(name, &actor.spiffe_id));
        if holder { Ok(()) } else { Err(Refusal::Grant("the subject token is another one's")) }
    }

    /// For whom it is.
    pub fn audiences(&self) -> &[String] {
        match &self.subject.meant {
            Meant::For(audiences) => audiences,
            Meant::Session(_) | Meant::Own => &[],
        }
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<&'c str, Invalid> {
    claims.get(name).and_then(Value::as_str).ok_or(Invalid::Claim("that we always write is missing"))
}

fn groups(claims: &Map<String, Value>) -> Vec<String> {
    let listed = claims.get("groups").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|group| Some(group.as_str()?.to_owned())).collect()
}
