//! What the token exchange asks: who a shown human is, and which sessions a run has.

use std::sync::Arc;

use writ_core::{Reason, SpiffeId};
use writ_gate::{BoxFuture, Identify, Marks, Session};
use writ_human::{Error, Refusal, TokenKind};
use writ_identity::exchange::{Meant, Scopes, Subject};
use writ_workload::Parts;
use writ_workload::token::{NotProven, Sessions, Shown, SubjectKind, Subjects, TokenPorts, Tokens};

use crate::world::World;

/// The exchange, if the configuration has an issuer for tokens.
pub(crate) fn tokens(world: &Arc<World>, parts: &Parts) -> Option<Arc<Tokens>> {
    let known = Arc::new(Exchange(Arc::clone(world)));
    let record = Arc::clone(&world.record);
    let around = TokenPorts { subjects: Arc::clone(&known) as _, sessions: known, record };
    Tokens::new(parts, around, world.settings.tokens.clone()).ok()
}

struct Exchange(Arc<World>);

impl Exchange {
    fn sessions(&self, run: &SpiffeId) -> Vec<Arc<Session>> {
        let live = self.0.registry.list();
        let of_run = live
            .iter()
            .filter(|live| live.session.facts().spiffe_id == *run && live.session.cause().is_none());
        of_run.map(|live| Arc::clone(&live.session)).collect()
    }

    /// A handle is worth something to the run that was given it.
    fn handle(&self, shown: &Shown<'_>) -> Result<Subject, NotProven> {
        let sessions = self.sessions(shown.run);
        let base = sessions.iter().find(|session| session.facts().delegation.below.is_none());
        let base = base.ok_or(NotProven::Refused)?;
        let marks = Marks { handles: &[shown.token], trace: None };
        let session = self.0.registry.acting(base, &marks).map_err(|reason| {
            if reason == Reason::SessionExpired { NotProven::Expired } else { NotProven::Refused }
        })?;
        let human = session.facts().human.clone();
        Ok(Subject {
            human: human.id,
            groups: human.groups,
            scopes: None,
            expires: session.expires(),
            meant: Meant::Session(session.facts().id),
            may_act: None,
            actors: Vec::new(),
        })
    }
}

impl Sessions for Exchange {
    fn live(&self, run: &SpiffeId) -> Vec<Arc<Session>> {
        self.sessions(run)
    }
}

impl Subjects for Exchange {
    fn subject<'a>(&'a self, shown: Shown<'a>) -> BoxFuture<'a, Result<Subject, NotProven>> {
        Box::pin(async move {
            if shown.kind == SubjectKind::Handle {
                return self.handle(&shown);
            }
            let callers = self.0.people.callers();
            let mut refused = NotProven::Audience;
            for audience in shown.audiences {
                match callers.verify(shown.token, audience).await {
                    Ok(caller) => {
                        let fits = match shown.kind {
                            SubjectKind::Id => caller.kind == TokenKind::Id,
                            SubjectKind::Access => caller.kind == TokenKind::Access,
                            SubjectKind::Jwt => true,
                            SubjectKind::Handle => false,
                        };
                        if !fits {
                            return Err(NotProven::Refused);
                        }
                        return Ok(Subject {
                            human: caller.human,
                            groups: caller.groups,
                            // An access token that names no scope is good for none; an ID token carries none to name.
                            scopes: (caller.kind == TokenKind::Access).then(|| {
                                let named = caller.scopes.unwrap_or_default();
                                Scopes::read(&named.join(" ")).unwrap_or_default()
                            }),
                            expires: caller.expires,
                            meant: Meant::For(caller.audiences),
                            may_act: caller.may_act,
                            actors: Vec::new(),
                        });
                    }
                    Err(Error::Token(Refusal::Audience)) => {}
                    Err(Error::Token(Refusal::Expired)) => refused = NotProven::Expired,
                    Err(Error::Token(_)) => return Err(NotProven::Refused),
                    Err(_) => return Err(NotProven::Unavailable),
                }
            }
            Err(refused)
        })
    }
}
