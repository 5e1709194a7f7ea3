//! `/token`: from the proofs to the token, in the one order that leaves no token without its record.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use writ_core::HumanId;
use writ_core::event::{Event, IdentityIssued};
use writ_gate::{Handle, Session};
use writ_identity::Token;
use writ_identity::exchange::{
    self, Actor, Asked, Basis, Draft, Earlier, Form as TokenForm, Ground, Meant, Refusal, Scopes, Subject,
};

use super::Tokens;
use super::answer::{Failure, answer};
use super::form::Form;
use super::port::{NotProven, Shown, SubjectKind};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

impl Tokens {
    /// Exchanges, or says why not.
    pub(super) async fn exchanged(
        &self,
        request: &Request<Bytes>,
        peer: Option<&Actor>,
    ) -> Result<Response<Bytes>, Failure> {
        let form = Form::read(request)?;
        match form.get("grant_type") {
            Some(GRANT) => {}
            Some(_) => return Err(Refusal::GrantType.into()),
            None => return Err(Refusal::Request("there is no grant type").into()),
        }
        let client = self.client(request, &form, peer)?;
        let actor = self.actor(&form, client)?;
        if self.ports.sessions.live(&actor.spiffe_id).is_empty() {
            // Nobody is asked, and no proof remembered, for a workload that could get nothing.
            return Err(Refusal::Grant("the actor has no session").into());
        }
        let asked = asked(&form, self.key(request, &actor)?)?;
        let basis = self.basis(&form, &actor, &asked).await?;
        let live = self.ports.sessions.live(&actor.spiffe_id);
        let now = self.now();
        let session = exchange::session(basis.subject(), &actor, &live, now)?;
        let bundles = self.bundles();
        let ground = Ground { issuer: &self.name, own: bundles.own(), now };
        let parties = (&basis, &actor, &*session);
        let draft = Draft::new(&asked, parties, &self.settings.audiences, ground, &*self.ids)?;
        let token = self.recorded(&draft, &session).await?;
        Ok(issued(&draft, &token, draft.expires.since(now).as_secs()))
    }

    /// Signs, and records durably before anybody has it.
    async fn recorded(&self, draft: &Draft, session: &Session) -> Result<Token, Failure> {
        let token = draft.sign(&self.issuer).map_err(|error| {
            tracing::warn!(target: "writ::token", %error, "a token cannot be signed");
            Failure::Unavailable
        })?;
        // Crash here: the token exists in this memory only, and nobody has it.
        let issued = IdentityIssued {
            actor: session.actor(),
            audience: vec![draft.audience.clone()],
            expires_us: draft.expires,
            form: draft.form.word().to_owned(),
            serial: draft.serial.clone(),
        };
        self.ports.record.fact(Event::IdentityIssued(Box::new(issued))).await.map_err(|error| {
            tracing::warn!(target: "writ::token", %error, "a token is not issued, as it cannot be recorded");
            Failure::Unavailable
        })?;
        // Crash here: the record says that it was issued, and nobody has it.
        if session.cause().is_some() {
            return Err(Refusal::Grant("the session ended").into());
        }
        Ok(token)
    }

    /// What the exchange rests on: the human's own proof, or a token of ours that still stands.
    async fn basis(&self, form: &Form, actor: &Actor, asked: &Asked) -> Result<Basis, Failure> {
        let subject = form.token("subject_token", "subject_token_type")?;
        let (token, typ) = subject.ok_or(Refusal::Request("there is no subject token"))?;
        let said = Said::read(typ)?;
        if said == Said::Named {
            return Ok(Basis::Human(Subject::named(named(token)?)));
        }
        if let Some(ours) = Earlier::shown(token, &self.name) {
            let form = ours.map_err(|invalid| Refusal::of_subject(&invalid))?;
            return Ok(self.earlier(token, form, said, (actor, asked))?);
        }
        let kind = match said {
            Said::Transaction | Said::Named => {
                return Err(Refusal::Request("the subject token is of another type").into());
            }
            _ if is_handle(token) => SubjectKind::Handle,
            Said::Id => SubjectKind::Id,
            Said::Access => SubjectKind::Access,
            Said::Jwt => SubjectKind::Jwt,
        };
        let audiences = &self.settings.subject_audiences;
        let shown = Shown { token, kind, run: &actor.spiffe_id, audiences };
        let subject = self.ports.subjects.subject(shown).await.map_err(not_proven)?;
        let meant = match (&subject.meant, kind) {
            (Meant::For(named), SubjectKind::Id | SubjectKind::Access | SubjectKind::Jwt) => {
                named.iter().any(|named| audiences.contains(named))
            }
            (Meant::Session(_), SubjectKind::Handle) => true,
            _ => false,
        };
        if !meant {
            return Err(not_proven(NotProven::Audience));
        }
        if subject.expires <= self.now() {
            return Err(not_proven(NotProven::Expired));
        }
        Ok(Basis::Human(subject))
    }

    /// A token of our own: of the type that it is said to be, whose session goes on, and shown by one who may.
    fn earlier(
        &self,
        token: &str,
        form: TokenForm,
        said: Said,
        (actor, asked): (&Actor, &Asked),
    ) -> Result<Basis, Refusal> {
        let fits = match form {
            TokenForm::Access => matches!(said, Said::Access | Said::Jwt),
            TokenForm::Transaction => said == Said::Transaction,
        };
        if !fits {
            return Err(Refusal::Request("the subject token is of another type"));
        }
        let bundles = self.bundles();
        let ground = Ground { issuer: &self.name, own: bundles.own(), now: self.now() };
        let earlier = Earlier::read(token, form, ground).map_err(|invalid| Refusal::of_subject(&invalid))?;
        if !earlier.stands(&self.ports.sessions.live(&earlier.run), ground.now) {
            return Err(Refusal::Grant("the session of the subject token has ended"));
        }
        earlier.may_be_used(actor, asked.key.as_deref(), &self.settings.audiences)?;
        Ok(Basis::Earlier(Box::new(earlier)))
    }
}

/// What a subject token is said to be (RFC 8693 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Access,
    Id,
    Jwt,
    /// A human whom the run names (`unsigned_json` of transaction tokens).
    Named,
    Transaction,
}

impl Said {
    fn read(typ: &str) -> Result<Self, Refusal> {
        match typ {
            "urn:ietf:params:oauth:token-type:access_token" => Ok(Self::Access),
            "urn:ietf:params:oauth:token-type:id_token" => Ok(Self::Id),
            "urn:ietf:params:oauth:token-type:jwt" => Ok(Self::Jwt),
            "urn:ietf:params:oauth:token-type:txn_token" => Ok(Self::Transaction),
            "urn:ietf:params:oauth:token-type:unsigned_json" => Ok(Self::Named),
            _ => Err(Refusal::Request("subject tokens of that type are not exchanged")),
        }
    }
}

/// What is asked for.
fn asked(form: &Form, key: Option<String>) -> Result<Asked, Refusal> {
    let wanted = form.get("requested_token_type").unwrap_or(TokenForm::Access.token_type());
    let wanted = TokenForm::ALL.into_iter().find(|form| form.token_type() == wanted);
    let wanted = wanted.ok_or(Refusal::Request("tokens of that type are not issued"))?;
    let mut targets: Vec<&str> = form.all("audience").chain(form.all("resource")).collect();
    targets.dedup();
    let audience = match targets.as_slice() {
        [one] => (*one).to_owned(),
        [] => return Err(Refusal::Request("there is no audience")),
        _ => return Err(Refusal::Target("a token is for one audience")),
    };
    let scopes = form.get("scope").map(|text| Scopes::read(text).ok_or(Refusal::Scope("it is malformed")));
    let (details, context) = (form.object("request_details")?, form.object("request_context")?);
    Ok(Asked { form: wanted, audience, scopes: scopes.transpose()?, details, context, key })
}

/// The human of `{"sub": "..."}`. Believed only if the run's own session says the same.
fn named(json: &str) -> Result<HumanId, Refusal> {
    let wrong = Refusal::Request("the subject token names no human");
    let members = exchange::object(json).map_err(|_| wrong)?;
    members.get("sub").and_then(Value::as_str).and_then(|sub| HumanId::new(sub).ok()).ok_or(wrong)
}

fn is_handle(token: &str) -> bool {
    Handle::all_in(token.as_bytes()).next() == Some(token)
}

fn not_proven(why: NotProven) -> Failure {
    Failure::Refused(Refusal::Request(match why {
        NotProven::Expired => "the subject token has expired",
        NotProven::Audience => "the subject token is for another audience",
        NotProven::Refused => "the subject token is not valid",
        NotProven::Unavailable => return Failure::Unavailable,
    }))
}

/// RFC 8693 section 2.2.1.
fn issued(draft: &Draft, token: &Token, seconds: u64) -> Response<Bytes> {
    let token_type = match (draft.form, draft.bound) {
        (TokenForm::Access, false) => "Bearer",
        (TokenForm::Access, true) => "DPoP",
        (TokenForm::Transaction, _) => "N_A",
    };
    let body = json!({
        "access_token": token.expose(),
        "expires_in": seconds,
        "issued_token_type": draft.form.token_type(),
        "scope": draft.scopes.to_string(),
        "token_type": token_type,
    });
    answer(StatusCode::OK, &body)
}
