//! What one principal sees of the set: its slice per operation, built when it is first needed.
//!
//! Views belong to one snapshot of the set and go with it, so nothing outlives a policy change. A human's view is
//! found by id *and* groups: whoever changes group gets another view.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use cedar_policy::{Entities, Entity, EntityUid};
use writ_core::{AgentName, HumanId};
use writ_gate::Human;
use writ_gate::limits::POLICY_VIEWS_MAX;

use crate::schema::entity;
use crate::set::{Known, PolicySet};
use crate::slice::Slice;

/// One principal and its slices.
#[derive(Debug)]
pub(crate) struct View {
    /// The principal.
    pub(crate) principal: EntityUid,
    /// Its groups, as the session has them.
    groups: Vec<String>,
    /// The principal with its ancestors, and every action. `None` if they contradict each other.
    entities: Option<Entities>,
    slices: Box<[OnceLock<Slice>]>,
}

impl View {
    pub(crate) fn new(set: &PolicySet, principal: EntityUid, groups: &[String]) -> Self {
        let parents: HashSet<EntityUid> =
            groups.iter().map(|group| entity(&set.types.group, group)).collect();
        let itself = Entity::new_no_attrs(principal.clone(), parents);
        let entities = set.actions.clone().add_entities([itself], None);
        Self {
            principal,
            groups: groups.to_vec(),
            entities: entities.ok(),
            slices: std::iter::repeat_with(OnceLock::new).take(set.operations.len()).collect(),
        }
    }

    /// The entities to evaluate conditions with.
    pub(crate) fn entities(&self) -> Option<&Entities> {
        self.entities.as_ref()
    }

    /// The slice for one operation of the set that this view was made for.
    pub(crate) fn slice(&self, set: &PolicySet, operation: &Known) -> Option<&Slice> {
        let place = self.slices.get(operation.number)?;
        let entities = self.entities.as_ref()?;
        Some(place.get_or_init(|| set.slice(&self.principal, operation, entities)))
    }
}

/// The views of one snapshot.
#[derive(Debug, Default)]
pub(crate) struct Views {
    agents: Kept<AgentName>,
    humans: Kept<HumanId>,
}

impl Views {
    /// The agent's view.
    pub(crate) fn agent(&self, set: &PolicySet, agent: &AgentName) -> Arc<View> {
        self.agents.get(agent, &[], || View::new(set, entity(&set.types.agent, agent.as_str()), &[]))
    }

    /// The human's view.
    pub(crate) fn human(&self, set: &PolicySet, human: &Human) -> Arc<View> {
        let principal = || entity(&set.types.human, human.id.as_str());
        self.humans.get(&human.id, &human.groups, || View::new(set, principal(), &human.groups))
    }
}

/// Views by name, at most [`POLICY_VIEWS_MAX`].
#[derive(Debug)]
struct Kept<N>(RwLock<HashMap<N, Arc<View>>>);

impl<N> Default for Kept<N> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<N: Eq + Hash + Clone> Kept<N> {
    fn get(&self, name: &N, groups: &[String], build: impl FnOnce() -> View) -> Arc<View> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = kept.get(name).filter(|view| view.groups == groups) {
            return Arc::clone(view);
        }
        drop(kept);
        let view = Arc::new(build());
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= POLICY_VIEWS_MAX && !kept.contains_key(name) {
            kept.clear();
        }
        kept.insert(name.clone(), Arc::clone(&view));
        view
    }
}
