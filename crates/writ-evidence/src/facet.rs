//! What a leaf can be found by: taken from the event while it is at hand, so that the index never reads leaves back.

use writ_core::event::{Event, Leaf};
use writ_core::{ActionId, AgentName, HumanId, ServiceName, SessionId, Timestamp};

/// The facets of one leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facet {
    pub(crate) time: Timestamp,
    pub(crate) kind: &'static str,
    pub(crate) session: Option<SessionId>,
    pub(crate) agent: Option<AgentName>,
    pub(crate) human: Option<HumanId>,
    pub(crate) service: Option<ServiceName>,
    /// A refusal, or an action that failed or was cut.
    pub(crate) denied: bool,
    /// The action whose intent it is.
    pub(crate) opens: Option<ActionId>,
    /// The action whose receipt it is.
    pub(crate) closes: Option<ActionId>,
    /// The action that it speaks of at all.
    pub(crate) action: Option<ActionId>,
}

impl Facet {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only three kinds belong to an action")]
    pub(crate) fn of(leaf: &Leaf) -> Self {
        let event = &leaf.event;
        let actor = event.actor();
        let (opens, closes, refused) = match event {
            Event::ActionIntended(intent) => (Some(intent.action), None, None),
            Event::ActionClosed(closed) => (None, Some(closed.action), None),
            Event::ActionRefused(refused) => (None, None, Some(refused.action)),
            _ => (None, None, None),
        };
        Self {
            time: leaf.time,
            kind: event.kind(),
            session: actor.map(|actor| actor.session),
            agent: actor.map(|actor| actor.agent.clone()),
            human: actor.map(|actor| actor.human.clone()),
            service: event.service().cloned(),
            denied: matches!(event, Event::ActionRefused(_) | Event::ConnectionRefused(_)),
            opens,
            closes,
            action: opens.or(closes).or(refused),
        }
    }
}
