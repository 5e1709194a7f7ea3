//! The Cedar schema: the shipped base and one action per operation of the catalog.
//!
//! Invariant: an operation's arguments are typed exactly as a request of that operation carries them, so a policy
//! that passes strict validation cannot ask for one that is not there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use writ_core::argument::ArgumentKind;
use writ_core::config::{Place, Problems};
use writ_core::service::{OperationRule, PathSegment};
use writ_core::{Arguments, Effect, OperationName, Service, ServiceName};

/// The shipped base schema.
const BASE: &str = include_str!("../../../policies/writ.cedarschema");

/// What policy knows of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) service: ServiceName,
    pub(crate) effect: Effect,
    /// Its arguments, by name.
    pub(crate) arguments: BTreeMap<String, Typed>,
}

/// What policy knows of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) kind: ArgumentKind,
    /// Whether every request of the operation has it.
    pub(crate) required: bool,
}

impl Shape {
    /// Whether these are the arguments of a request of this operation.
    pub(crate) fn covers(&self, arguments: &Arguments) -> bool {
        let known = |(name, argument): (&String, &writ_core::Argument)| {
            self.arguments.get(name).is_some_and(|typed| typed.kind == argument.kind())
        };
        let there = |(name, typed): (&String, &Typed)| !typed.required || arguments.contains_key(name);
        arguments.iter().all(known) && self.arguments.iter().all(there)
    }

    /// Its arguments in words: `draft (boolean, optional), owner`. What says no type is text.
    pub(crate) fn words(&self) -> String {
        let word = |(name, typed): (&String, &Typed)| match (typed.kind, typed.required) {
            (ArgumentKind::String, true) => name.clone(),
            (kind, true) => format!("{name} ({})", kind.as_str()),
            (kind, false) => format!("{name} ({}, optional)", kind.as_str()),
        };
        let words: Vec<String> = self.arguments.iter().map(word).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }

    /// Takes in another rule of the same operation: what only one of both has is not in every request.
    fn merge(&mut self, other: BTreeMap<String, Typed>) -> Result<(), String> {
        for (name, typed) in &mut self.arguments {
            typed.required &= other.get(name).is_some_and(|other| other.required);
        }
        for (name, typed) in other {
            let known = self.arguments.entry(name.clone()).or_insert(Typed { required: false, ..typed });
            if known.kind != typed.kind {
                return Err(name);
            }
        }
        Ok(())
    }
}

/// Every operation of the catalog by name.
pub(crate) type Shapes = BTreeMap<OperationName, Shape>;

/// Collects the operations; an operation with several rules is one action.
pub(crate) fn shapes(services: &[Arc<Service>], problems: &mut Problems) -> Shapes {
    let mut shapes = Shapes::new();
    for service in services {
        for rule in &service.operations {
            if rule.name.service() != service.name.as_str() {
                let what = format!("operation `{}` does not belong to service `{}`", rule.name, service.name);
                problems.push(Place::file("catalog"), what, None);
                continue;
            }
            let fresh =
                || Shape { service: service.name.clone(), effect: rule.effect, arguments: arguments(rule) };
            let shape = shapes.entry(rule.name.clone()).or_insert_with(fresh);
            if shape.effect != rule.effect {
                let what = format!(
                    "operation `{}` is `{}` in one place and `{}` in another",
                    rule.name,
                    shape.effect.as_str(),
                    rule.effect.as_str()
                );
                problems.push(
                    Place::file("catalog"),
                    what,
                    Some("give each effect its own operation".into()),
                );
            }
            if let Err(name) = shape.merge(arguments(rule)) {
                let what =
                    format!("argument `{name}` of operation `{}` has two types in two places", rule.name);
                problems.push(Place::file("catalog"), what, None);
            }
        }
    }
    shapes
}

/// The arguments of one rule. Those of its path are text, and always there.
fn arguments(rule: &OperationRule) -> BTreeMap<String, Typed> {
    let names = |segment: &PathSegment| match segment {
        PathSegment::Literal(_) => [None, None],
        PathSegment::Argument { name, .. } | PathSegment::Encoded(name) | PathSegment::Rest(name) => {
            [Some(name.clone()), None]
        }
        PathSegment::Pair(first, second) => [Some(first.clone()), Some(second.clone())],
    };
    let text = Typed { kind: ArgumentKind::String, required: true };
    let in_path = rule.path.segments.iter().flat_map(names).flatten().map(|name| (name, text));
    let others = rule.arguments.iter();
    let others =
        others.map(|(name, rule)| (name.clone(), Typed { kind: rule.kind, required: rule.required }));
    in_path.chain(others).collect()
}

/// The type in Cedar.
const fn cedar(kind: ArgumentKind) -> &'static str {
    match kind {
        ArgumentKind::String => "String",
        ArgumentKind::Integer => "Long",
        ArgumentKind::Boolean => "Bool",
        ArgumentKind::Strings => "Set<String>",
    }
}

/// The whole schema in Cedar's schema language: what policies for these services are checked against.
pub fn schema_text(services: &[Arc<Service>]) -> String {
    render(&shapes(services, &mut Problems::default()))
}

pub(crate) fn render(shapes: &Shapes) -> String {
    let base = BASE.trim_end();
    let mut text = base.strip_suffix('}').unwrap_or(base).to_owned();
    for (name, shape) in shapes {
        let argument = |(name, typed): (&String, &Typed)| {
            format!("{}{}: {}", quoted(name), if typed.required { "" } else { "?" }, cedar(typed.kind))
        };
        let arguments: Vec<String> = shape.arguments.iter().map(argument).collect();
        // Writing to a string cannot fail.
        writeln!(
            text,
            "\n  action {} in [{}] appliesTo {{\n    principal: [Agent, Human],\n    resource: [Service],\n    \
             context: {{ \"args\": {{ {} }}, \"path\": Path, \"session\": Session }},\n  }};",
            quoted(name.as_str()),
            quoted(shape.effect.as_str()),
            arguments.join(", ")
        )
        .unwrap_or_default();
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// The entity types of the schema.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    pub(crate) action: EntityTypeName,
    pub(crate) agent: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) human: EntityTypeName,
    pub(crate) service: EntityTypeName,
}

impl Types {
    pub(crate) fn new() -> Result<Self, Box<cedar_policy::ParseErrors>> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(Box::new);
        Ok(Self {
            action: kind("Writ::Action")?,
            agent: kind("Writ::Agent")?,
            group: kind("Writ::Group")?,
            human: kind("Writ::Human")?,
            service: kind("Writ::Service")?,
        })
    }
}

/// The entity of this type and id; any text is a valid id.
pub(crate) fn entity(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
