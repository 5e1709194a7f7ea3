//! Policies as people compare them: one line each, and what differs between two sets.

use std::collections::BTreeMap;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PrincipalConstraint, ResourceConstraint,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::set::PolicySet;

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Whom, what and where it is about, in one line.
    pub scope: String,
    /// Its conditions in one line; empty if it has none.
    pub conditions: String,
    /// Whether its file names it, so that it keeps its id wherever it stands.
    #[serde(skip)]
    named: bool,
    /// All that decides, in Cedar's JSON.
    #[serde(skip)]
    body: String,
}

/// What one set has against another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Policies that the other does not have.
    pub added: Vec<Listed>,
    /// Policies that only the other has.
    pub removed: Vec<Listed>,
    /// Policies that are in both under one id, and differ.
    pub changed: Vec<Changed>,
}

/// A policy that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// As it is in the other set.
    pub was: Listed,
    /// As it is in this one.
    pub now: Listed,
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Listed {
    /// A policy that somebody has in force, from its id and text.
    pub fn parse(id: &str, text: &str) -> Option<Self> {
        Policy::parse(Some(PolicyId::new(id)), text).ok().map(|policy| Self::of(&policy))
    }

    pub(crate) fn of(policy: &Policy) -> Self {
        let mut body = policy.to_json().unwrap_or_default();
        if let Value::Object(fields) = &mut body {
            fields.remove("annotations");
        }
        Self {
            id: policy.id().to_string(),
            effect: word(policy.effect()),
            scope: scope(policy),
            conditions: conditions(&body),
            named: policy.annotation("id").is_some(),
            // What has no such form is told apart by its text.
            body: if body.is_null() { policy.to_string() } else { body.to_string() },
        }
    }
}

impl PolicySet {
    /// The policies in the order of files and lines.
    pub fn listed(&self) -> Vec<Listed> {
        self.rules.iter().map(|rule| Listed::of(&rule.policy)).collect()
    }
}

/// What `now` has against `was`. Policies with an `@id` are compared by it, others by what they say.
pub fn difference(now: Vec<Listed>, was: Vec<Listed>) -> Difference {
    let (mut by_id, mut by_body) = (BTreeMap::new(), BTreeMap::<String, Vec<Listed>>::new());
    for policy in was {
        if policy.named {
            by_id.insert(policy.id.clone(), policy);
        } else {
            by_body.entry(policy.body.clone()).or_default().push(policy);
        }
    }
    let mut difference = Difference::default();
    for policy in now {
        let was = if policy.named {
            by_id.remove(&policy.id)
        } else {
            by_body.get_mut(&policy.body).and_then(Vec::pop)
        };
        match was {
            None => difference.added.push(policy),
            Some(was) if was.body != policy.body => {
                difference.changed.push(Changed { was, now: policy });
            }
            Some(_) => {}
        }
    }
    difference.removed = by_id.into_values().chain(by_body.into_values().flatten()).collect();
    difference.removed.sort_by(|a, b| a.id.cmp(&b.id));
    difference
}

const fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

fn scope(policy: &Policy) -> String {
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => "principal".to_owned(),
        PrincipalConstraint::Eq(uid) => format!("principal == {uid}"),
        PrincipalConstraint::In(uid) => format!("principal in {uid}"),
        PrincipalConstraint::Is(kind) => format!("principal is {kind}"),
        PrincipalConstraint::IsIn(kind, uid) => format!("principal is {kind} in {uid}"),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => "resource".to_owned(),
        ResourceConstraint::Eq(uid) => format!("resource == {uid}"),
        ResourceConstraint::In(uid) => format!("resource in {uid}"),
        ResourceConstraint::Is(kind) => format!("resource is {kind}"),
        ResourceConstraint::IsIn(kind, uid) => format!("resource is {kind} in {uid}"),
    };
    let action = match policy.action_constraint() {
        ActionConstraint::Any => "action".to_owned(),
        ActionConstraint::Eq(uid) => format!("action == {uid}"),
        ActionConstraint::In(uids) => {
            let names: Vec<String> = uids.iter().map(EntityUid::to_string).collect();
            let several = names.len() != 1;
            format!(
                "action in {}{}{}",
                if several { "[" } else { "" },
                names.join(", "),
                if several { "]" } else { "" }
            )
        }
    };
    format!("{principal}, {action}, {resource}")
}

/// The conditions as Cedar prints them, in one line. Printed with a scope of which the text is known, because Cedar
/// prints whole policies only.
fn conditions(body: &Value) -> String {
    let any = json!({ "op": "All" });
    let bare = |conditions: &Value| {
        let policy = json!({ "effect": "permit", "principal": any, "action": any, "resource": any,
            "conditions": conditions });
        Policy::from_json(None, policy).ok().map(|policy| one_line(&policy.to_string()))
    };
    let Some(conditions) = body.get("conditions") else { return String::new() };
    let (Some(with), Some(without)) = (bare(conditions), bare(&json!([]))) else { return String::new() };
    let scope = without.trim_end_matches(';').trim_end();
    with.strip_prefix(scope).unwrap_or(&with).trim_end_matches(';').trim().to_owned()
}

/// Line breaks and what surrounds them become one blank. Cedar escapes those within texts, so none is lost.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
