//! The slice of a policy set that can speak to one principal, operation and service.
//!
//! A candidate without conditions is satisfied by its scope alone, which the index has already found true: the
//! evaluator is not asked about it. What has conditions goes to Cedar's authorizer, and nothing else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{AuthorizationError, Authorizer, Decision, Effect, Entities, Request};
use writ_core::Obligation;
use writ_core::event::Key;
use writ_gate::limits::POLICY_CONDITIONS_MAX;

use crate::turn::{Answer, Turn};

/// One policy of the set.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) policy: cedar_policy::Policy,
    pub(crate) effect: Effect,
    /// Whether it has `when` or `unless`.
    pub(crate) conditional: bool,
    /// What its annotations ask for.
    pub(crate) obligations: Vec<Obligation>,
}

impl Rule {
    pub(crate) fn new(policy: cedar_policy::Policy, obligations: Vec<Obligation>) -> Self {
        let id: &str = policy.id().as_ref();
        Self {
            id: id.into(),
            effect: policy.effect(),
            conditional: policy.has_non_scope_constraint(),
            obligations,
            policy,
        }
    }

    /// Whether it forbids only what does not meet its obligations.
    pub(crate) fn is_waiting(&self) -> bool {
        self.effect == Effect::Forbid && !self.obligations.is_empty()
    }
}

/// The conditional candidates of a slice.
#[derive(Debug)]
pub(crate) struct Conditional {
    set: cedar_policy::PolicySet,
    permits: Vec<Arc<str>>,
    /// Rules that Cedar would not take into a set of their own. There are none, as the whole set took them; if there
    /// were, they count as failed, for one could be a forbid.
    lost: Vec<(Arc<str>, Effect)>,
}

/// Conditional candidates by their numbers, so that slices with the same ones share them.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<HashMap<Box<[u32]>, Arc<Conditional>>>);

/// The slice.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Satisfied by scope alone.
    settled: Answer,
    /// What `settled` means by itself.
    key: (Key, Turn),
    conditional: Option<Arc<Conditional>>,
    /// Of these, the forbids that wait for an obligation: they do not take a permit away, so they are asked apart.
    waiting: Option<Arc<Conditional>>,
}

impl Slice {
    /// The slice of these candidates, which are numbers of `rules`.
    pub(crate) fn new(candidates: &[u32], rules: &[Rule], shared: &Shared) -> Self {
        let mut settled = Answer::default();
        let mut rest: Vec<(u32, &Rule)> = Vec::new();
        let mut waiting: Vec<(u32, &Rule)> = Vec::new();
        for number in candidates {
            let Some(rule) = usize::try_from(*number).ok().and_then(|at| rules.get(at)) else { continue };
            match (rule.conditional, rule.effect) {
                (true, _) if rule.is_waiting() => waiting.push((*number, rule)),
                (true, _) => rest.push((*number, rule)),
                (false, Effect::Permit) => settled.permits.push(Arc::clone(&rule.id)),
                (false, Effect::Forbid) if rule.is_waiting() => settled.waiting.push(Arc::clone(&rule.id)),
                (false, Effect::Forbid) => settled.forbids.push(Arc::clone(&rule.id)),
            }
        }
        let shared = |rules: &[(u32, &Rule)]| (!rules.is_empty()).then(|| shared.conditional(rules));
        Self { key: settled.key(), settled, conditional: shared(&rest), waiting: shared(&waiting) }
    }

    /// Whether only the request's context can tell.
    pub(crate) fn is_conditional(&self) -> bool {
        self.conditional.is_some() || self.waiting.is_some()
    }

    /// The permits that could speak for some request; none when a forbid always speaks.
    pub(crate) fn hopes(&self) -> impl Iterator<Item = &Arc<str>> {
        let conditional = self.conditional.iter().flat_map(|conditional| &conditional.permits);
        let open = self.settled.forbids.is_empty();
        self.settled.permits.iter().chain(conditional).filter(move |_| open)
    }

    /// Whether some permit names the operation, whatever the forbids say.
    pub(crate) fn is_named(&self) -> bool {
        let conditional =
            self.conditional.as_ref().is_some_and(|conditional| !conditional.permits.is_empty());
        conditional || !self.settled.permits.is_empty()
    }

    /// The forbids that speak for every request.
    pub(crate) fn forbids(&self) -> &[Arc<str>] {
        &self.settled.forbids
    }

    /// The key, when no condition has to be asked.
    pub(crate) fn settled(&self) -> (Key, Turn) {
        self.key.clone()
    }

    /// The policies whose obligations are owed, when no condition has to be asked.
    pub(crate) fn binding(&self) -> impl Iterator<Item = &Arc<str>> {
        self.settled.binding()
    }

    /// The whole answer, with the conditions asked.
    pub(crate) fn answer(&self, authorizer: &Authorizer, request: &Request, entities: &Entities) -> Answer {
        let mut answer = self.settled.clone();
        if let Some(conditional) = &self.conditional {
            let (decision, ids) = conditional.ask(authorizer, request, entities, &mut answer.failed);
            match decision {
                Decision::Allow => answer.permits.extend(ids),
                Decision::Deny => answer.forbids.extend(ids),
            }
        }
        if let Some(waiting) = &self.waiting {
            // Forbids alone: whichever speak deny, and are named.
            let (_, ids) = waiting.ask(authorizer, request, entities, &mut answer.failed);
            answer.waiting.extend(ids);
        }
        answer
    }
}

impl Conditional {
    /// What Cedar's authorizer decides over these alone, and the policies that determined it.
    fn ask(
        &self,
        authorizer: &Authorizer,
        request: &Request,
        entities: &Entities,
        failed: &mut Vec<(Arc<str>, Effect)>,
    ) -> (Decision, Vec<Arc<str>>) {
        let response = authorizer.is_authorized(request, &self.set, entities);
        failed.extend(response.diagnostics().errors().map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let id: &str = error.policy_id().as_ref();
            let policy = self.set.policy(error.policy_id());
            (id.into(), policy.map_or(Effect::Permit, cedar_policy::Policy::effect))
        }));
        failed.extend(self.lost.iter().cloned());
        let ids = response.diagnostics().reason().map(|id| Arc::from(AsRef::<str>::as_ref(id)));
        (response.decision(), ids.collect())
    }
}

impl Shared {
    fn conditional(&self, rules: &[(u32, &Rule)]) -> Arc<Conditional> {
        let numbers: Box<[u32]> = rules.iter().map(|(number, _)| *number).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let mut set = cedar_policy::PolicySet::new();
            let (mut permits, mut lost) = (Vec::new(), Vec::new());
            for (_, rule) in rules {
                if set.add(rule.policy.clone()).is_err() {
                    lost.push((Arc::clone(&rule.id), rule.effect));
                }
                if rule.effect == Effect::Permit {
                    permits.push(Arc::clone(&rule.id));
                }
            }
            Arc::new(Conditional { set, permits, lost })
        };
        if known.len() >= POLICY_CONDITIONS_MAX && !known.contains_key(&numbers) {
            known.clear();
        }
        Arc::clone(known.entry(numbers).or_insert_with(fresh))
    }
}
