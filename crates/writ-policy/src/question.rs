//! Questions that no live session asks: of samples, of the record, of people who want to know.
//!
//! They are put to the same [`crate::Engine`] as a real action, so they need a session; it is made up here and nothing
//! can be done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use writ_core::event::Actor;
use writ_core::{AgentName, Assurance, Effect, HumanId, Label, RunId, SessionId, Timestamp, TrustDomain};
use writ_gate::{Delegation, Human, Ledger, Moment, Parent, Session, SessionFacts};

/// What policy is asked with beside who, for whom and what.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// The human's groups.
    pub(crate) groups: Vec<String>,
    /// The purpose of the session.
    pub(crate) purpose: String,
    /// How strongly it is enforced.
    pub(crate) assurance: Assurance,
    /// Those that led to it, eldest first.
    pub(crate) parents: Vec<Parent>,
    /// What the session did so far.
    pub(crate) past: Past,
}

/// What a session did before it is asked about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// For how long it has been open.
    pub(crate) age: Duration,
    /// The labels that it acquired.
    pub(crate) labels: BTreeSet<Label>,
    /// How many actions of each effect it did just before.
    pub(crate) done: BTreeMap<Effect, u64>,
}

/// The moment at which a session made here is asked about, by which programs.
pub(crate) fn moment<'p>(session: &Session, age: Duration, programs: &'p [String]) -> Moment<'p> {
    Moment { at: session.facts().opened.plus(age), programs }
}

/// An agent that acts for a human, without an identity to show: the names are enough. `None` for a name that no SPIFFE ID
/// could hold.
pub(crate) fn nobody(agent: AgentName, human: HumanId) -> Option<Actor> {
    let (run, domain) = (RunId::from_bits(0), TrustDomain::new("sample").ok()?);
    let spiffe_id = domain.run_id(&agent, run);
    Some(Actor { agent, human, run, session: SessionId::from_bits(0), spiffe_id })
}

/// The run of somebody as one that led to another.
pub(crate) fn led(actor: Actor) -> Parent {
    Parent { agent: actor.agent, run: actor.run, session: actor.session, spiffe_id: actor.spiffe_id }
}

/// The session.
pub(crate) fn session(actor: &Actor, circumstances: Circumstances) -> Session {
    let Circumstances { groups, purpose, assurance, parents, past } = circumstances;
    let human = Human {
        id: actor.human.clone(),
        display: None,
        groups,
        uid: 0,
        login_uid: None,
        audit_session: None,
    };
    let opened = Timestamp::from_micros(0);
    let ledger = Ledger::assuming(past.labels, &past.done, opened.plus(past.age));
    let facts = SessionFacts {
        id: actor.session,
        run: actor.run,
        spiffe_id: actor.spiffe_id.clone(),
        agent: actor.agent.clone(),
        human,
        purpose,
        opened,
        expires: Timestamp::from_micros(0),
        assurance,
        delegation: Delegation { parents, ..Delegation::default() },
    };
    Session::sharing(facts, Arc::new(ledger))
}
