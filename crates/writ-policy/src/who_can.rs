//! Who may do something, each key by itself.
//!
//! A key is asked about without a session, so a condition that reads the session, or an argument that was not given,
//! has no answer yet: it is told as it stands. Invariant: of one whose groups are known, `yes` and `no` hold for every session
//! and every value of what was not given; what could be either way is never one of them.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Context, Effect, EntityUid, Request, RestrictedExpression};
use serde::Serialize;
use serde_json::Value;
use writ_core::{AgentName, Arguments, HumanId, Obligation, OperationName};

use crate::ask::{Deed, Misasked, arguments, known};
use crate::engine::cedar;
use crate::listing::Listed;
use crate::schema::entity;
use crate::set::{Known, PolicySet};
use crate::slice::Rule;
use crate::view::View;

/// Those who are asked about beside the people and groups whom the policies name.
#[derive(Debug, Clone, Default)]
pub struct Everybody {
    /// The agents.
    pub agents: BTreeSet<AgentName>,
    /// The humans with their groups, where they are known.
    pub humans: BTreeMap<HumanId, Option<Vec<String>>>,
}

/// Who may do one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhoCan {
    /// The operation.
    pub operation: OperationName,
    /// Each agent's key.
    pub agents: Vec<Holder>,
    /// Each human's key.
    pub humans: Vec<Holder>,
    /// The key of whoever is in this group and no other, and whom no policy names.
    pub groups: Vec<Holder>,
    /// The key of a human in none of these groups, whom no policy names.
    pub others: Holder,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Whose: an agent's name, a human's id or a group.
    pub name: String,
    /// The groups that it was asked with; none if they are not known. An agent is in none.
    pub groups: Option<Vec<String>>,
    /// Whether it turns.
    pub may: May,
    /// The policies that say so; of what depends, the permits that hold in any case.
    pub policies: Vec<String>,
    /// What it depends on.
    pub conditions: Vec<Condition>,
}

/// Whether a key turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum May {
    /// Always.
    Yes,
    /// As conditions of the session or of arguments that were not given have it.
    Depends,
    /// Never.
    No,
}

impl May {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Depends => "depends",
            Self::No => "no",
        }
    }

    /// Whether both keys turn.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// A policy that speaks if its conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The policy.
    pub policy: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Its conditions, as Cedar prints them.
    pub text: String,
}

/// Asks about every agent, human and group.
pub fn who_can(set: &PolicySet, everybody: Everybody, deed: &Deed) -> Result<WhoCan, Misasked> {
    let known = known(set, &deed.operation)?;
    let asked = Asked { set, known, arguments: arguments(&known.shape, deed)? };
    let (named_humans, named_groups) = named(set);
    let mut humans = everybody.humans;
    for human in named_humans {
        humans.entry(human).or_default();
    }
    let (agent, human) = (&set.types.agent, &set.types.human);
    let agents = everybody
        .agents
        .iter()
        .map(|name| asked.holder(name.as_str(), entity(agent, name.as_str()), Some(Vec::new())));
    let people =
        humans.into_iter().map(|(id, groups)| asked.holder(id.as_str(), entity(human, id.as_str()), groups));
    // No human has the empty id, so no policy names this one.
    let members = named_groups
        .into_iter()
        .map(|group| asked.holder(&group, entity(human, ""), Some(vec![group.clone()])));
    Ok(WhoCan {
        operation: deed.operation.clone(),
        agents: agents.collect(),
        humans: people.collect(),
        groups: members.collect(),
        others: asked.holder("anybody else", entity(human, ""), Some(Vec::new())),
    })
}

/// The humans and groups whom the policies name.
fn named(set: &PolicySet) -> (BTreeSet<HumanId>, BTreeSet<String>) {
    let (mut humans, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for uid in set.rules.iter().flat_map(|rule| rule.policy.entity_literals()) {
        let id = uid.id().unescaped();
        if *uid.type_name() == set.types.group {
            groups.insert(id.to_owned());
        } else if *uid.type_name() == set.types.human {
            humans.extend(HumanId::new(id));
        }
    }
    (humans, groups)
}

struct Asked<'s> {
    set: &'s PolicySet,
    known: &'s Known,
    arguments: Arguments,
}

impl Asked<'_> {
    fn holder(&self, name: &str, principal: EntityUid, groups: Option<Vec<String>>) -> Holder {
        let view = View::new(self.set, principal, groups.as_deref().unwrap_or_default());
        let (mut permits, mut forbids, mut open) = (Vec::new(), Vec::new(), Vec::new());
        for rule in self.set.candidates(&view, self.known) {
            match (self.speaks(rule, &view), rule.effect) {
                // What must be met first is met or not when it is done.
                (Some(true), _) if rule.obligations.iter().any(Obligation::is_condition) => open.push(rule),
                (Some(true), Effect::Permit) => permits.push(rule.id.to_string()),
                (Some(true), Effect::Forbid) => forbids.push(rule.id.to_string()),
                (Some(false), _) => {}
                (None, _) => open.push(rule),
            }
        }
        let may_be_forbidden = open.iter().any(|rule| rule.effect == Effect::Forbid);
        let may_be_permitted = open.iter().any(|rule| rule.effect == Effect::Permit);
        let (may, policies) = match (permits.is_empty(), forbids.is_empty()) {
            (_, false) => (May::No, forbids),
            (false, true) if !may_be_forbidden => (May::Yes, permits),
            (true, true) if !may_be_permitted => (May::No, permits),
            (_, true) => (May::Depends, permits),
        };
        // A permit more changes nothing where one holds in any case.
        let matters =
            |rule: &&&Rule| may == May::Depends && (policies.is_empty() || rule.effect == Effect::Forbid);
        let conditions = open.iter().filter(matters).map(|rule| condition(rule)).collect();
        Holder { name: name.to_owned(), groups, may, policies, conditions }
    }

    /// Whether the policy speaks, its scope being true; `None` if that depends on what is not known here.
    fn speaks(&self, rule: &Rule, view: &View) -> Option<bool> {
        if !rule.conditional {
            return Some(true);
        }
        let read = read_arguments(&rule.policy.to_json().ok()?)?;
        if !read.iter().all(|name| self.arguments.contains_key(name)) {
            return None;
        }
        let arguments = self.arguments.iter().map(|(name, value)| (name.clone(), cedar(value)));
        let args = RestrictedExpression::new_record(arguments).ok()?;
        // It reads nothing of the context but these arguments, so nothing else need be there.
        let context = Context::from_pairs([("args".to_owned(), args)]).ok()?;
        let resource = self.set.services.get(&self.known.shape.service)?.clone();
        let request =
            Request::new(view.principal.clone(), self.known.action.clone(), resource, context, None).ok()?;
        let alone = cedar_policy::PolicySet::from_policies([rule.policy.clone()]).ok()?;
        let answer = self.set.authorizer.is_authorized(&request, &alone, view.entities()?);
        let failed = answer.diagnostics().errors().next().is_some();
        (!failed).then(|| answer.diagnostics().reason().next().is_some())
    }
}

fn condition(rule: &Rule) -> Condition {
    let Listed { id, effect, conditions, .. } = Listed::of(&rule.policy);
    let duties = rule.obligations.iter().filter(|it| it.is_condition()).map(|it| format!("@{it}"));
    let text: Vec<String> = duties.chain(Some(conditions).filter(|text| !text.is_empty())).collect();
    Condition { policy: id, effect, text: text.join(" ") }
}

/// The arguments that the conditions of a policy read, from its form in Cedar's JSON. `None` if they read anything else
/// of the context.
fn read_arguments(policy: &Value) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    reads_only_arguments(policy.get("conditions")?, &mut names).then_some(names)
}

fn reads_only_arguments(expression: &Value, names: &mut BTreeSet<String>) -> bool {
    if let Some(name) = argument(expression) {
        names.insert(name.to_owned());
        return true;
    }
    match expression {
        Value::Object(fields) => {
            let context = fields.get("Var").and_then(Value::as_str) == Some("context");
            !context && fields.values().all(|inner| reads_only_arguments(inner, names))
        }
        Value::Array(items) => items.iter().all(|inner| reads_only_arguments(inner, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The name in `context.args.NAME` or `context.args has NAME`.
fn argument(expression: &Value) -> Option<&str> {
    let asked = expression.get(".").or_else(|| expression.get("has"))?;
    let args = asked.get("left")?.get(".")?;
    let in_context = args.get("left")?.get("Var")?.as_str()? == "context";
    let of_args = args.get("attr")?.as_str()? == "args";
    asked.get("attr")?.as_str().filter(|_| in_context && of_args)
}
