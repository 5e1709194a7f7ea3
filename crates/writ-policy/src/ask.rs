//! A question of people: may this be done? Asked as a live session would ask, by [`crate::Engine`].

use std::collections::BTreeSet;
use std::sync::Arc;

use writ_core::argument::ArgumentKind;
use writ_core::{AgentName, Argument, Arguments, Assurance, HumanId, Operation, OperationName, Service};
use writ_gate::{Decide, Moment, Verdict};

use crate::engine::Engine;
use crate::question::{self, Circumstances, Past};
use crate::schema::Shape;
use crate::set::{Known, PolicySet};
use crate::words::{is_group, nearest};

/// What is asked about: an operation and arguments by name, each as it is typed.
#[derive(Debug, Clone)]
pub struct Deed {
    /// The operation.
    pub operation: OperationName,
    /// Its arguments. One that is a set of texts may be given more than once, a text each.
    pub arguments: Vec<(String, String)>,
}

/// Who is asked about.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The agent.
    pub agent: AgentName,
    /// The human.
    pub human: HumanId,
    /// The human's groups. None are looked up.
    pub groups: Vec<String>,
    /// The purpose of the session.
    pub purpose: String,
}

/// A question that does not fit the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misasked {
    /// What does not fit.
    pub what: String,
    /// What would.
    pub hint: Option<String>,
}

/// Asks both keys.
pub fn can(
    set: &Arc<PolicySet>,
    services: &[Arc<Service>],
    who: &Pair,
    deed: &Deed,
) -> Result<Verdict, Misasked> {
    let known = known(set, &deed.operation)?;
    let arguments = arguments(&known.shape, deed)?;
    if !known.shape.covers(&arguments) {
        let missing = known
            .shape
            .arguments
            .iter()
            .filter(|(name, typed)| typed.required && !arguments.contains_key(*name));
        let missing: Vec<&str> = missing.map(|(name, _)| name.as_str()).collect();
        let what = format!("`{}` is not asked about without {}", deed.operation, missing.join(", "));
        return Err(Misasked { what, hint: Some(format!("it has {}", known.shape.words())) });
    }
    if let Some(group) = who.groups.iter().find(|group| !is_group(group)) {
        let hint = Some("it is written `unix:NAME`, or `ISSUER:GROUP`".to_owned());
        return Err(Misasked { what: format!("`{group}` is not a group"), hint });
    }
    let rules = services.iter().flat_map(|s| s.operations.iter().map(move |rule| (s, rule)));
    let found = rules.into_iter().find(|(_, rule)| rule.name == deed.operation);
    let (Some((service, rule)), Some(actor)) =
        (found, question::nobody(who.agent.clone(), who.human.clone()))
    else {
        return Err(Misasked { what: format!("`{}` is not asked about", deed.operation), hint: None });
    };
    let circumstances = Circumstances {
        groups: who.groups.clone(),
        purpose: who.purpose.clone(),
        assurance: Assurance::Kernel,
        parents: Vec::new(),
        past: Past::default(),
    };
    let operation = Operation { rule: Arc::clone(rule), arguments };
    let session = question::session(&actor, circumstances);
    Ok(Engine::new(Arc::clone(set)).decide(&session, service, &operation, &Moment::default()))
}

pub(crate) fn known<'s>(set: &'s PolicySet, name: &OperationName) -> Result<&'s Known, Misasked> {
    set.operations.get(name).ok_or_else(|| {
        let near = nearest(name.as_str(), set.operations.keys().map(OperationName::as_str));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        Misasked { what: format!("no operation `{name}`"), hint }
    })
}

/// The arguments that were given, each of its type; some may be missing.
pub(crate) fn arguments(shape: &Shape, deed: &Deed) -> Result<Arguments, Misasked> {
    let mut arguments = Arguments::new();
    for (name, text) in &deed.arguments {
        let wrong = |what: String| Misasked { what, hint: Some(format!("it has {}", shape.words())) };
        let Some(typed) = shape.arguments.get(name) else {
            return Err(wrong(format!("`{}` has no argument `{name}`", deed.operation)));
        };
        let unfit = || wrong(format!("`{text}` is no {}, as `{name}` is", typed.kind.as_str()));
        let value = match typed.kind {
            ArgumentKind::String => Argument::String(text.clone()),
            ArgumentKind::Integer => text.parse().ok().and_then(Argument::integer).ok_or_else(unfit)?,
            ArgumentKind::Boolean => Argument::Boolean(text.parse().map_err(|_| unfit())?),
            ArgumentKind::Strings => {
                let known = match arguments.remove(name) {
                    Some(Argument::Strings(known)) => known,
                    _ => BTreeSet::new(),
                };
                Argument::Strings(known.into_iter().chain([text.clone()]).collect())
            }
        };
        if arguments.insert(name.clone(), value).is_some() {
            return Err(wrong(format!("`{name}` is given twice")));
        }
    }
    Ok(arguments)
}
