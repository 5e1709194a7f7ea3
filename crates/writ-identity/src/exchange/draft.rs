//! The token that is made: every limit is applied here, and what passes only needs a signature.

use std::time::Duration;

use serde_json::{Map, Value, json};
use writ_core::{Grants, IdSource, Timestamp};
use writ_gate::Session;

use super::{Actor, Audience, Audiences, Basis, Earlier, Ground, Refusal, Scopes, chain};
use crate::{Error, Issuer, Token};

/// The two forms of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An access token (RFC 9068).
    Access,
    /// A transaction token.
    Transaction,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Access, Self::Transaction];

    /// `typ` in the header.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Transaction => "txntoken+jwt",
        }
    }

    /// Its identifier in an exchange (RFC 8693 section 3).
    pub const fn token_type(self) -> &'static str {
        match self {
            Self::Access => "urn:ietf:params:oauth:token-type:access_token",
            Self::Transaction => "urn:ietf:params:oauth:token-type:txn_token",
        }
    }

    /// The word in the record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Access => "access-token",
            Self::Transaction => "txn-token",
        }
    }

    /// The claim that names the one token, or the one transaction.
    pub const fn serial(self) -> &'static str {
        match self {
            Self::Access => "jti",
            Self::Transaction => "txn",
        }
    }

    /// The form with this `typ`.
    pub(super) fn of_typ(typ: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.typ() == typ)
    }
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which form.
    pub form: Form,
    /// For whom.
    pub audience: String,
    /// Good for what; all that may be had if it does not say.
    pub scopes: Option<Scopes>,
    /// `request_details`, which become `tctx`.
    pub details: Option<Map<String, Value>>,
    /// `request_context`, which becomes `rctx`.
    pub context: Option<Map<String, Value>>,
    /// The thumbprint (RFC 7638) of a key that the client proved, to which the token is bound.
    pub key: Option<String>,
}

/// A token that wants nothing but a signature.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Draft {
    /// Which form.
    pub form: Form,
    /// For whom.
    pub audience: String,
    /// Good for what.
    pub scopes: Scopes,
    /// When it ends: a whole second.
    pub expires: Timestamp,
    /// `jti`, or `txn`.
    pub serial: String,
    /// Whether it is bound to a key.
    pub bound: bool,
    claims: Map<String, Value>,
}

impl Draft {
    /// Drafts what is asked for, in the session that binds the two ([`super::session`]).
    pub fn new(
        asked: &Asked,
        (basis, actor, session): (&Basis, &Actor, &Session),
        audiences: &Audiences,
        ground: Ground<'_>,
        ids: &dyn IdSource,
    ) -> Result<Self, Refusal> {
        let replaced = replaced(asked, basis)?;
        let audience = target(asked, session, audiences, ground)?;
        let scopes = scopes(asked, basis, session, audience)?;
        let limits = [basis.subject().expires, actor.expires, session.expires()];
        let expires = end(ground.now, audience.max_ttl, limits)?;
        let earlier = &basis.subject().actors;
        let actors = chain::actors(session, earlier)?;
        let serial = match replaced {
            Some(replaced) => replaced.serial.clone(),
            None => format!("{:032x}", ids.random()),
        };
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("act", chain::write(&actors).unwrap_or_default());
        put("aud", asked.audience.as_str().into());
        put("exp", expires.seconds().into());
        put("iat", ground.now.seconds().into());
        put("iss", ground.issuer.into());
        put("scope", scopes.to_string().into());
        put("sid", session.facts().id.to_string().into());
        put("sub", basis.subject().human.to_string().into());
        put(asked.form.serial(), serial.as_str().into());
        let run = actor.spiffe_id.as_str();
        match asked.form {
            Form::Access => {
                put("client_id", run.into());
                if let Some(key) = &asked.key {
                    put("cnf", json!({ "jkt": key }));
                }
                if audience.groups && !basis.subject().groups.is_empty() {
                    put("groups", basis.subject().groups.clone().into());
                }
            }
            Form::Transaction => {
                put("req_wl", run.into());
                for (name, asked) in [("rctx", &asked.context), ("tctx", &asked.details)] {
                    let kept = replaced.and_then(|replaced| replaced.claims.get(name).cloned());
                    if let Some(value) = kept.or_else(|| asked.clone().map(Value::Object)) {
                        put(name, value);
                    }
                }
            }
        }
        let bound = asked.form == Form::Access && asked.key.is_some();
        Ok(Self {
            form: asked.form,
            audience: asked.audience.clone(),
            scopes,
            expires,
            serial,
            bound,
            claims,
        })
    }

    /// Signs it.
    pub fn sign(&self, issuer: &Issuer) -> Result<Token, Error> {
        issuer.sign(self.form.typ(), &self.claims)
    }
}

/// The transaction token that is replaced, if one is. Nothing leads from a transaction token to an access token: it is
/// no credential, and whoever is handed one must not make one of it.
fn replaced<'b>(asked: &Asked, basis: &'b Basis) -> Result<Option<&'b Earlier>, Refusal> {
    if asked.form == Form::Transaction && asked.key.is_some() {
        return Err(Refusal::Request("a transaction token is not bound to a key"));
    }
    if asked.form == Form::Access && (asked.details.is_some() || asked.context.is_some()) {
        return Err(Refusal::Request("only a transaction token has a context"));
    }
    let Some(earlier) = basis.earlier().filter(|earlier| earlier.form == Form::Transaction) else {
        return Ok(None);
    };
    if asked.form == Form::Access {
        return Err(Refusal::Request("a transaction token cannot become an access token"));
    }
    for (name, asked) in [("rctx", &asked.context), ("tctx", &asked.details)] {
        let kept = earlier.claims.get(name).and_then(Value::as_object);
        if asked.is_some() && asked.as_ref() != kept {
            return Err(Refusal::Request("the context of a transaction does not change"));
        }
    }
    Ok(Some(earlier))
}

/// The audience, if the configuration lists it for this agent and this form.
fn target<'a>(
    asked: &Asked,
    session: &Session,
    audiences: &'a Audiences,
    ground: Ground<'_>,
) -> Result<&'a Audience, Refusal> {
    let inside = asked.audience == ground.own.trust_domain().as_str();
    if inside != (asked.form == Form::Transaction) {
        return Err(Refusal::Target(
            "transaction tokens are for the trust domain, and access tokens are not",
        ));
    }
    let listed = audiences.get(&asked.audience).filter(|one| one.admits(&session.facts().agent));
    listed.ok_or(Refusal::Target("no token is issued for that audience"))
}

/// What is asked for, if subject token, audience and the session's grants all have it.
fn scopes(asked: &Asked, basis: &Basis, session: &Session, audience: &Audience) -> Result<Scopes, Refusal> {
    let grants = &session.facts().delegation.grants;
    let narrowed = grants.hops().next().is_some();
    if narrowed && audience.service.as_ref().is_some_and(|service| !grants.reach(service)) {
        return Err(Refusal::Target("the session's grant does not reach that audience"));
    }
    let limit = match &basis.subject().scopes {
        Some(had) => audience.scopes.common(had),
        None => audience.scopes.clone(),
    };
    let limit = if narrowed { limit.filtered(|scope| granted(grants, audience, scope)) } else { limit };
    let given = match &asked.scopes {
        Some(wanted) if wanted.is_within(&limit) => wanted.clone(),
        Some(_) => return Err(Refusal::Scope("more is asked for than may be given")),
        None if asked.form == Form::Transaction => {
            return Err(Refusal::Request("a transaction token needs a scope"));
        }
        None => limit,
    };
    if given.is_empty() { Err(Refusal::Scope("nothing of it may be given")) } else { Ok(given) }
}

/// Whether every hop of a narrowed session grants the scope: by its very text, or with the whole service that the audience
/// is. What a scope means is the audience's to say, so nothing is read into a grant that is narrower.
fn granted(grants: &Grants, audience: &Audience, scope: &str) -> bool {
    let whole = audience.service.as_ref().map(ToString::to_string);
    grants.hops().all(|hop| {
        hop.iter().map(ToString::to_string).any(|grant| grant == scope || Some(&grant) == whole.as_ref())
    })
}

/// The earliest of all ends, in whole seconds.
fn end(now: Timestamp, ttl: Duration, limits: [Timestamp; 3]) -> Result<Timestamp, Refusal> {
    let end = limits.into_iter().fold(now.plus(ttl), Timestamp::min).seconds();
    if end <= now.seconds() {
        return Err(Refusal::Grant("the subject token, the actor token or the session ends"));
    }
    Ok(Timestamp::from_micros(end.saturating_mul(1_000_000)))
}
