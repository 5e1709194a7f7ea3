//! Candidates by scope: which policies' scopes a request satisfies, without asking each policy.
//!
//! A scope is three constraints; each is an anchor in a nested map, and a request looks up the few anchors that it
//! satisfies. Invariant: [`Index::candidates`] gives exactly the policies whose scope Cedar would find true. Cedar
//! evaluates a policy's conditions only after its scope (`&&` from left to right), so a policy outside the
//! candidates is neither satisfied nor in error.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, Entities, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

/// One constraint of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Anchor {
    Any,
    Eq(EntityUid),
    In(EntityUid),
    Is(EntityTypeName),
    IsIn(EntityTypeName, EntityUid),
}

type ByAction = HashMap<Anchor, Vec<u32>>;
type ByResource = HashMap<Anchor, ByAction>;

/// The policies of a set, by their scopes.
#[derive(Debug, Default)]
pub(crate) struct Index(HashMap<Anchor, ByResource>);

/// The anchors that one entity satisfies, as principal, action or resource.
#[derive(Debug)]
pub(crate) struct Anchors(Vec<Anchor>);

impl Anchors {
    /// The anchors of an entity with its ancestors in `entities`.
    pub(crate) fn of(uid: &EntityUid, entities: &Entities) -> Self {
        let kind = uid.type_name();
        let mut anchors = vec![Anchor::Any, Anchor::Eq(uid.clone()), Anchor::Is(kind.clone())];
        let ancestors = entities.ancestors(uid).into_iter().flatten().filter(|above| *above != uid);
        for above in std::iter::once(uid).chain(ancestors) {
            anchors.push(Anchor::In(above.clone()));
            anchors.push(Anchor::IsIn(kind.clone(), above.clone()));
        }
        Self(anchors)
    }
}

impl Index {
    /// Adds a policy under its number.
    pub(crate) fn insert(&mut self, number: u32, policy: &Policy) {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Anchor::Any,
            PrincipalConstraint::Eq(uid) => Anchor::Eq(uid),
            PrincipalConstraint::In(uid) => Anchor::In(uid),
            PrincipalConstraint::Is(kind) => Anchor::Is(kind),
            PrincipalConstraint::IsIn(kind, uid) => Anchor::IsIn(kind, uid),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Anchor::Any,
            ResourceConstraint::Eq(uid) => Anchor::Eq(uid),
            ResourceConstraint::In(uid) => Anchor::In(uid),
            ResourceConstraint::Is(kind) => Anchor::Is(kind),
            ResourceConstraint::IsIn(kind, uid) => Anchor::IsIn(kind, uid),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![Anchor::Any],
            ActionConstraint::Eq(uid) => vec![Anchor::Eq(uid)],
            ActionConstraint::In(uids) => uids.into_iter().map(Anchor::In).collect(),
        };
        let by_action = self.0.entry(principal).or_default().entry(resource).or_default();
        for action in actions {
            by_action.entry(action).or_default().push(number);
        }
    }

    /// The numbers of the policies whose scope is true, in ascending order.
    pub(crate) fn candidates(&self, principal: &Anchors, action: &Anchors, resource: &Anchors) -> Vec<u32> {
        let by_resource = principal.0.iter().filter_map(|anchor| self.0.get(anchor));
        let by_action = by_resource.flat_map(|map| resource.0.iter().filter_map(|anchor| map.get(anchor)));
        let lists = by_action.flat_map(|map| action.0.iter().filter_map(|anchor| map.get(anchor)));
        let mut numbers: Vec<u32> = lists.flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}
