//! Names in policies that Cedar's validator does not know to be wrong: entity ids, and scopes that exclude
//! each other. A forbid that never applies because of a slip is as dangerous as a permit too many.

use cedar_policy::{ActionConstraint, EntityUid, Policy, ResourceConstraint};
use writ_core::{AgentName, Effect, HumanId, OperationName, ServiceName};

use crate::schema::{Shapes, Types};

/// Something wrong with a name: the text to point at, what is wrong, what to do.
pub(crate) struct Slip {
    pub(crate) at: String,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

/// The words that policies may use.
pub(crate) struct Words<'a> {
    pub(crate) types: &'a Types,
    pub(crate) shapes: &'a Shapes,
    pub(crate) services: &'a [ServiceName],
}

impl Words<'_> {
    /// Every slip in one policy.
    pub(crate) fn slips(&self, policy: &Policy) -> Vec<Slip> {
        let mut literals = policy.entity_literals();
        literals.sort_by_key(ToString::to_string);
        literals.dedup();
        literals
            .iter()
            .filter_map(|uid| self.name(uid))
            .chain(equal(policy))
            .chain(self.strangers(policy))
            .collect()
    }

    fn name(&self, uid: &EntityUid) -> Option<Slip> {
        let (kind, id) = (uid.type_name(), uid.id().unescaped());
        let unix = |known: bool, what: &str| {
            let near = format!("unix:{id}");
            (!known).then(|| Slip {
                at: format!("{id:?}"),
                what: format!("`{id}` is not a {what}"),
                hint: HumanId::new(&near).is_ok().then(|| did_you_mean(&near)),
            })
        };
        if *kind == self.types.service && !self.services.iter().any(|s| s.as_str() == id) {
            return Some(unknown(id, "service", self.services.iter().map(ServiceName::as_str)));
        }
        if *kind == self.types.action && !self.is_action(id) {
            let effects = Effect::ALL.iter().map(|effect| effect.as_str());
            let names = self.shapes.keys().map(OperationName::as_str);
            let what = if id.contains('/') { "operation" } else { "effect or operation" };
            return Some(unknown(id, what, effects.chain(names)));
        }
        if *kind == self.types.human {
            return unix(
                HumanId::new(id).is_ok(),
                "human: it is written `unix:NAME` or `oidc:ISSUER#SUBJECT`",
            );
        }
        if *kind == self.types.group {
            return unix(
                is_group(id),
                "group: it is written `unix:NAME`, or `NAME:VALUE` as its issuer's is",
            );
        }
        let bad_agent = *kind == self.types.agent && AgentName::new(id).is_err();
        bad_agent.then(|| Slip {
            at: format!("{id:?}"),
            what: format!("`{id}` is not an agent's name"),
            hint: None,
        })
    }

    fn is_action(&self, id: &str) -> bool {
        Effect::ALL.iter().any(|effect| effect.as_str() == id)
            || OperationName::new(id).is_ok_and(|name| self.shapes.contains_key(&name))
    }

    /// Operations in the scope that are not of the service in the scope.
    fn strangers(&self, policy: &Policy) -> Vec<Slip> {
        let service = match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                uid
            }
            ResourceConstraint::Any | ResourceConstraint::Is(_) => return Vec::new(),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::Eq(uid) => vec![uid],
            ActionConstraint::In(uids) => uids,
        };
        let service = service.id().unescaped();
        let stranger = |uid: &EntityUid| {
            let shape = self.shapes.get(&OperationName::new(uid.id().unescaped()).ok()?)?;
            (shape.service.as_str() != service).then(|| Slip {
                at: format!("{:?}", uid.id().unescaped()),
                what: format!("`{}` is no operation of service `{service}`", uid.id().unescaped()),
                hint: Some(format!("the policy never applies to it; its service is `{}`", shape.service)),
            })
        };
        actions.iter().filter_map(stranger).collect()
    }
}

/// A group of the host, or of an issuer by the issuer's name in the configuration.
pub(crate) fn is_group(id: &str) -> bool {
    id.split_once(':').is_some_and(|(whose, name)| !whose.is_empty() && !name.is_empty())
        && !id.chars().any(char::is_control)
}

fn unknown<'n>(id: &str, kind: &str, known: impl Iterator<Item = &'n str>) -> Slip {
    let hint = nearest(id, known).map(did_you_mean);
    let otherwise = || "see `writ service` for what the catalog has".to_owned();
    Slip {
        at: format!("{id:?}"),
        what: format!("no {kind} `{id}`"),
        hint: Some(hint.unwrap_or_else(otherwise)),
    }
}

/// `action == Writ::Action::"delete"` looks like a rule about deletion, and is one about nothing.
fn equal(policy: &Policy) -> Option<Slip> {
    let ActionConstraint::Eq(uid) = policy.action_constraint() else { return None };
    let id = uid.id().unescaped();
    Effect::ALL.iter().any(|effect| effect.as_str() == id).then(|| Slip {
        at: format!("{id:?}"),
        what: format!("no action is equal to the effect `{id}`, so the policy never applies"),
        hint: Some(format!("write `action in {uid}`")),
    })
}

fn did_you_mean(near: impl std::fmt::Display) -> String {
    format!("did you mean `{near}`?")
}

/// The candidate that was probably meant, if one is near.
pub(crate) fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
