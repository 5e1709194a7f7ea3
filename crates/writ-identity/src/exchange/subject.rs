//! The two whom an exchange brings together, and the session that must already have done so.

use std::sync::Arc;

use writ_core::{ActsFor, HumanId, SessionId, SpiffeId, Timestamp};
use writ_gate::Session;

use super::{Earlier, Refusal, Scopes};

/// A human as a token or a handle proved them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Who.
    pub human: HumanId,
    /// Their groups, as policies call them.
    pub groups: Vec<String>,
    /// What the token is good for; `None` if it is one that tells who somebody is and carries no scope: an ID token, a
    /// handle. The configuration's list is the only limit then.
    pub scopes: Option<Scopes>,
    /// When the proof ends.
    pub expires: Timestamp,
    /// For whom it is.
    pub meant: Meant,
    /// The only one who may act with it (`may_act.sub`, RFC 8693 section 4.4), if it says so.
    pub may_act: Option<String>,
    /// Who acted before (`act`), the newest first.
    pub actors: Vec<String>,
}

/// For whom a proof of a human is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// A token's audiences.
    For(Vec<String>),
    /// A handle's one session: it is worth nothing in another.
    Session(SessionId),
    /// Nobody: the run only says for whom it acts. What proves it is its own session, never one of its callers': for those
    /// it must show what came with the request.
    Own,
}

impl Subject {
    /// A human whom a run merely names. Bounded by the run's own session, and by nothing of theirs.
    pub fn named(human: HumanId) -> Self {
        Self {
            human,
            groups: Vec::new(),
            scopes: None,
            expires: Timestamp::from_micros(u64::MAX),
            meant: Meant::Own,
            may_act: None,
            actors: Vec::new(),
        }
    }
}

/// What an exchange rests on.
#[derive(Debug, Clone)]
pub enum Basis {
    /// The human's own token, or a handle for it.
    Human(Subject),
    /// A token that this authority issued before.
    Earlier(Box<Earlier>),
}

impl Basis {
    /// The human.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Human(subject) => subject,
            Self::Earlier(earlier) => &earlier.subject,
        }
    }

    /// The token of our own, if it is one.
    pub fn earlier(&self) -> Option<&Earlier> {
        match self {
            Self::Human(_) => None,
            Self::Earlier(earlier) => Some(earlier),
        }
    }
}

/// A run that proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Which.
    pub spiffe_id: SpiffeId,
    /// When its proof ends.
    pub expires: Timestamp,
}

/// The live session that binds this human to this run, the newest if there are several. A session that acts for its callers
/// is none: it does so through sessions of theirs only.
pub fn session(
    subject: &Subject,
    actor: &Actor,
    live: &[Arc<Session>],
    now: Timestamp,
) -> Result<Arc<Session>, Refusal> {
    if subject.may_act.as_ref().is_some_and(|only| only != actor.spiffe_id.as_str()) {
        return Err(Refusal::Grant("the subject token names another actor"));
    }
    let binds = |session: &&Arc<Session>| {
        let facts = session.facts();
        let meant = match &subject.meant {
            Meant::For(_) => true,
            Meant::Session(only) => facts.id == *only,
            Meant::Own => facts.delegation.below.is_none(),
        };
        meant
            && facts.spiffe_id == actor.spiffe_id
            && facts.human.id == subject.human
            && facts.delegation.acts_for != ActsFor::Caller
            && is_live(session, now)
    };
    let newest = live.iter().filter(binds).max_by_key(|session| (session.facts().opened, session.facts().id));
    newest.cloned().ok_or(Refusal::Grant("the actor has no session for the human of the subject token"))
}

pub(super) fn is_live(session: &Session, now: Timestamp) -> bool {
    session.cause().is_none() && session.expires() > now
}
