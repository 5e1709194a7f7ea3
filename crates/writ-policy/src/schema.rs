//! The Cedar schema: the shipped base and one action per operation of the catalog.
//!
//! Invariant: an operation's arguments are typed exactly as a request of that operation carries them, so a policy
//! that passes strict validation cannot ask for one that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use writ_core::config::{Place, Problems};
use writ_core::service::PathSegment;
use writ_core::{Effect, OperationName, Service, ServiceName};

/// The shipped base schema.
const BASE: &str = include_str!("../../../policies/writ.cedarschema");

/// What policy knows of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) service: ServiceName,
    pub(crate) effect: Effect,
    /// Arguments that every request of the operation has.
    pub(crate) required: BTreeSet<String>,
    /// Arguments that only some of its path templates have.
    pub(crate) optional: BTreeSet<String>,
}

impl Shape {
    /// Whether these are the arguments of a request of this operation.
    pub(crate) fn covers(&self, arguments: &BTreeMap<String, String>) -> bool {
        let needed = self.required.iter().all(|name| arguments.contains_key(name));
        let spare = arguments.len().saturating_sub(self.required.len());
        needed
            && (spare == 0
                || arguments.keys().all(|n| self.required.contains(n) || self.optional.contains(n)))
    }

    fn arguments(&self) -> impl Iterator<Item = (&String, &'static str)> {
        let required = self.required.iter().map(|name| (name, ""));
        required.chain(self.optional.iter().map(|name| (name, "?")))
    }
}

/// Every operation of the catalog by name.
pub(crate) type Shapes = BTreeMap<OperationName, Shape>;

/// Collects the operations; an operation with several path templates is one action.
pub(crate) fn shapes(services: &[Arc<Service>], problems: &mut Problems) -> Shapes {
    let mut shapes = Shapes::new();
    for service in services {
        for rule in &service.operations {
            let names = argument_names(&rule.path.segments);
            if rule.name.service() != service.name.as_str() {
                let what = format!("operation `{}` does not belong to service `{}`", rule.name, service.name);
                problems.push(Place::file("catalog"), what, None);
                continue;
            }
            let fresh = || Shape {
                service: service.name.clone(),
                effect: rule.effect,
                required: names.clone(),
                optional: BTreeSet::new(),
            };
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
            let every: BTreeSet<String> = shape.required.union(&names).cloned().collect();
            shape.required = shape.required.intersection(&names).cloned().collect();
            shape.optional.extend(every.difference(&shape.required).cloned());
        }
    }
    shapes
}

fn argument_names(segments: &[PathSegment]) -> BTreeSet<String> {
    let names = |segment: &PathSegment| match segment {
        PathSegment::Literal(_) => [None, None],
        PathSegment::Argument { name, .. } | PathSegment::Rest(name) => [Some(name.clone()), None],
        PathSegment::Pair(first, second) => [Some(first.clone()), Some(second.clone())],
    };
    segments.iter().flat_map(names).flatten().collect()
}

/// The whole schema in Cedar's schema language: what policies for these services are checked against.
pub fn schema_text(services: &[Arc<Service>]) -> String {
    render(&shapes(services, &mut Problems::default()))
}

pub(crate) fn render(shapes: &Shapes) -> String {
    let base = BASE.trim_end();
    let mut text = base.strip_suffix('}').unwrap_or(base).to_owned();
    for (name, shape) in shapes {
        let arguments: Vec<String> =
            shape.arguments().map(|(name, mark)| format!("{}{mark}: String", quoted(name))).collect();
        // Writing to a string cannot fail.
        writeln!(
            text,
            "\n  action {} in [{}] appliesTo {{\n    principal: [Agent, Human],\n    resource: [Service],\n    \
             context: {{ \"args\": {{ {} }}, \"session\": Session }},\n  }};",
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
