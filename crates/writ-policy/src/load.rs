//! From policy text to a checked set: parse, name, validate. Every problem is found before any is told.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use cedar_policy::{
    Authorizer, Effect, Entities, Policy, PolicyId, Schema, ValidationMode, ValidationWarning, Validator,
};
use writ_core::argument::ArgumentKind;
use writ_core::config::{Place, Problem, Problems};
use writ_core::obligation::{Approve, Approver};
use writ_core::{Obligation, Service, ServiceName};
use writ_gate::limits::POLICY_ID_BYTES_MAX;

use crate::index::Index;
use crate::place::{Source, offset, said};
use crate::reads::{FACTS, reads};
use crate::schema::{self, Shape, Shapes, Types};
use crate::set::{Known, PolicySet};
use crate::slice::{Rule, Shared};
use crate::words::{Words, is_group, nearest};

/// A policy with where it stands.
struct Placed {
    policy: Policy,
    source: usize,
    start: usize,
    obligations: Vec<Obligation>,
}

/// Problems as they are found, in any order.
#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn push(&mut self, place: Place, what: impl Into<String>, hint: Option<String>) {
        self.0.push(Problem { place, what: what.into(), hint });
    }

    fn into_sorted(mut self) -> Vec<Problem> {
        let key = |p: &Problem| (Arc::clone(&p.place.file), p.place.line, p.place.column, p.what.clone());
        self.0.sort_by_key(key);
        self.0
    }
}

/// See [`PolicySet::load`].
pub(crate) fn load(files: &[(PathBuf, String)], services: &[Arc<Service>]) -> Result<PolicySet, Problems> {
    let mut problems = Problems::default();
    let shapes = schema::shapes(services, &mut problems);
    let text = schema::render(&shapes);
    let internal = |error: &dyn std::fmt::Display| {
        let mut problems = Problems::default();
        problems.push(Place::file("catalog"), format!("no schema can be made of it: {error}"), None);
        problems
    };
    let (schema, _) = Schema::from_cedarschema_str(&text).map_err(|error| internal(&error))?;
    let actions = schema.action_entities().map_err(|error| internal(&error))?;
    let types = Types::new().map_err(|error| internal(&*error))?;
    let names: Vec<ServiceName> = services.iter().map(|service| service.name.clone()).collect();

    let mut found = Found::default();
    let sources = sources(files);
    let placed = parse(&sources, &mut found);
    let mut placed = name(placed, &sources, &mut found);
    oblige(&mut placed, &sources, &shapes, &mut found);
    let words = Words { types: &types, shapes: &shapes, services: &names };
    let warnings = validate(&placed, &sources, (schema, words), &mut found);
    for problem in found.into_sorted() {
        problems.push(problem.place, problem.what, problem.hint);
    }
    let rules = placed.into_iter().map(|placed| Rule::new(placed.policy, placed.obligations));
    let rules = problems.or(rules.collect())?;
    Ok(assemble(rules, shapes, (types, actions, text), (names, warnings)))
}

fn assemble(
    rules: Vec<Rule>,
    shapes: Shapes,
    (types, actions, schema): (Types, Entities, String),
    (names, warnings): (Vec<ServiceName>, Vec<Problem>),
) -> PolicySet {
    let mut index = Index::default();
    for (number, rule) in (0..).zip(&rules) {
        index.insert(number, &rule.policy);
    }
    let operation = |(number, (name, shape)): (usize, (writ_core::OperationName, _))| {
        let action = schema::entity(&types.action, name.as_str());
        (name, Known { number, action, shape })
    };
    let operations = shapes.into_iter().enumerate().map(operation).collect();
    let services =
        names.into_iter().map(|name| (name.clone(), schema::entity(&types.service, name.as_str())));
    let obliging = rules.iter().filter(|rule| !rule.obligations.is_empty());
    let is_read = |fact: &&str| rules.iter().any(|rule| rule.conditional && reads(&rule.policy, &[*fact]));
    PolicySet {
        facts: FACTS.into_iter().filter(is_read).collect(),
        obligations: obliging.map(|rule| (Arc::clone(&rule.id), rule.obligations.clone())).collect(),
        services: services.collect(),
        digest: set_digest(&schema, &rules),
        authorizer: Authorizer::new(),
        shared: Shared::default(),
        types,
        rules,
        index,
        operations,
        actions,
        schema,
        warnings,
    }
}

fn sources(files: &[(PathBuf, String)]) -> Vec<Source> {
    let source = |(path, text): &(PathBuf, String)| Source {
        file: path.to_string_lossy().into(),
        stem: stem(path),
        text: text.as_str().into(),
    };
    let mut sources: Vec<Source> = files.iter().map(source).collect();
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The policies of every file that can be read at all, in the order of files and lines.
fn parse(sources: &[Source], found: &mut Found) -> Vec<Placed> {
    let mut all = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let set: cedar_policy::PolicySet = match source.text.parse() {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    let (what, hint) = said(error);
                    found.push(source.place(offset(error).unwrap_or(0)), what, hint);
                }
                continue;
            }
        };
        for template in set.templates() {
            let start = template.as_ref().loc().map_or(0, |loc| loc.span.offset());
            let hint = "write one policy for each principal or resource".to_owned();
            found.push(
                source.place(start),
                "a template (`?principal`, `?resource`) is no policy",
                Some(hint),
            );
        }
        let place = |policy: &Policy| Placed {
            start: policy.as_ref().loc().map_or(0, |loc| loc.span.offset()),
            policy: policy.clone(),
            source: number,
            obligations: Vec::new(),
        };
        let mut placed: Vec<Placed> = set.policies().map(place).collect();
        placed.sort_by_key(|placed| placed.start);
        all.extend(placed);
    }
    all
}

/// Gives every policy its id, and refuses one that is taken.
fn name(placed: Vec<Placed>, sources: &[Source], found: &mut Found) -> Vec<Placed> {
    let mut taken: HashMap<String, Place> = HashMap::new();
    let mut ordinals: HashMap<usize, usize> = HashMap::new();
    let mut named = Vec::with_capacity(placed.len());
    for mut placed in placed {
        let Some(source) = sources.get(placed.source) else { continue };
        let ordinal = ordinals.entry(placed.source).or_default();
        *ordinal += 1;
        let place = source.place(placed.start);
        let (id, given) = match placed.policy.annotation("id") {
            Some(id) => (id.to_owned(), true),
            None => (format!("{}#{ordinal}", source.stem), false),
        };
        if !is_id(&id) {
            let what =
                if given { format!("`{id}` is not a policy id") } else { format!("`{id}` would be its id") };
            let rule = format!("letters, digits and `. - _ / : #`, at most {POLICY_ID_BYTES_MAX}");
            found.push(place.clone(), what, Some(rule));
        }
        if let Some(first) = taken.get(&id) {
            found.push(place, format!("policy id `{id}` is taken"), Some(format!("it is used at {first}")));
            continue;
        }
        taken.insert(id.clone(), place);
        placed.policy = placed.policy.new_id(PolicyId::new(id));
        named.push(placed);
    }
    named
}

/// Reads the annotations. One that is not known is refused: it could be meant to bind.
fn oblige(placed: &mut [Placed], sources: &[Source], shapes: &Shapes, found: &mut Found) {
    for placed in placed {
        let Some(source) = sources.get(placed.source) else { continue };
        let annotations = placed.policy.annotations().map(|(name, text)| (name.to_owned(), text.to_owned()));
        for (name, text) in annotations.collect::<Vec<_>>() {
            match obligation(&name, &text, placed.policy.effect(), shapes) {
                Ok(obligation) => placed.obligations.extend(obligation),
                Err((what, hint)) => {
                    found.push(source.find(placed.start, &format!("@{name}")), what, hint);
                }
            }
        }
        placed.obligations.sort();
    }
}

fn obligation(
    name: &str,
    text: &str,
    effect: Effect,
    shapes: &Shapes,
) -> Result<Option<Obligation>, (String, Option<String>)> {
    const PLAIN: [&str; 2] = ["id", "description"];
    if PLAIN.contains(&name) {
        return Ok(None);
    }
    let Some(read) = Obligation::read(name, text) else {
        let known: Vec<&str> = Obligation::NAMES.into_iter().chain(PLAIN).collect();
        let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean `@{near}`?"));
        let hint = near.unwrap_or_else(|| format!("there are {}", known.join(", ")));
        return Err((format!("`@{name}` is no annotation that means something"), Some(hint)));
    };
    let obligation = read.map_err(|error| (format!("`@{name}`: {error}"), None))?;
    if effect == Effect::Forbid && !obligation.is_condition() {
        return Err((format!("`@{name}` on a forbid: nothing is done that could be labelled"), None));
    }
    match &obligation {
        Obligation::Budget { argument, .. } => {
            let fits = |shape: &Shape| {
                shape.arguments.get(argument).is_some_and(|typed| typed.kind == ArgumentKind::Integer)
            };
            if !shapes.values().any(fits) {
                let what = format!("`@budget`: no operation has a whole number `{argument}` as an argument");
                return Err((what, None));
            }
        }
        Obligation::Approve(Approve { by: Approver::Group(group), .. }) if !is_group(group) => {
            let hint = "it is written `unix:NAME`, or `ISSUER:GROUP`".to_owned();
            return Err((format!("`@approve`: `{group}` is not a group"), Some(hint)));
        }
        Obligation::Approve(_) | Obligation::Label(_) | Obligation::Limit(_) => {}
    }
    Ok(Some(obligation))
}

fn is_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:#".contains(&b);
    (1..=POLICY_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

/// Cedar's strict validation, and the names that it does not check. Gives the warnings.
fn validate(
    placed: &[Placed],
    sources: &[Source],
    (schema, words): (Schema, Words<'_>),
    found: &mut Found,
) -> Vec<Problem> {
    let mut by_id: BTreeMap<&PolicyId, (&Placed, &Source)> = BTreeMap::new();
    let mut set = cedar_policy::PolicySet::new();
    // What is wrong with a name is told in our words, and Cedar's about the same policy would only repeat it.
    for placed in placed {
        let Some(source) = sources.get(placed.source) else { continue };
        let slips = words.slips(&placed.policy);
        if slips.is_empty() {
            by_id.insert(placed.policy.id(), (placed, source));
            if let Err(error) = set.add(placed.policy.clone()) {
                found.push(source.place(placed.start), error.to_string(), None);
            }
        }
        for slip in slips {
            found.push(source.find(placed.start, &slip.at), slip.what, slip.hint);
        }
    }
    let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let place = |id: &PolicyId, at: Option<usize>| {
        by_id.get(id).map(|(placed, source)| source.place(at.unwrap_or(placed.start)))
    };
    let told = result.validation_errors().map(|error| {
        let (what, hint) = said(error);
        let place = place(error.policy_id(), offset(error)).unwrap_or_else(|| Place::file("policies"));
        (place, what, hint, std::mem::discriminant(error))
    });
    // Cedar reports once per pair of principal and action, in any order; the first stands for all of them.
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(place, what, ..)| (Arc::clone(&place.file), place.line, place.column, what.clone()));
    told.dedup_by(|b, a| (&a.0, a.3) == (&b.0, b.3));
    for (place, what, hint, _) in told {
        let hint = argument_hint(&what, words.shapes).or(hint);
        found.push(place, what, hint);
    }
    let mut warnings = Found::default();
    // An action that cannot apply makes the whole policy impossible, which is told by itself.
    let told = |w: &&ValidationWarning| !matches!(w, ValidationWarning::InvalidActionApplication(_));
    for warning in result.validation_warnings().filter(told) {
        let (what, hint) = said(warning);
        let place = place(warning.policy_id(), offset(warning)).unwrap_or_else(|| Place::file("policies"));
        let list = if is_hidden(warning) { &mut *found } else { &mut warnings };
        list.push(place, what, hint);
    }
    warnings.into_sorted()
}

/// For an argument that some operation has, but not every one in the policy's scope.
fn argument_hint(what: &str, shapes: &Shapes) -> Option<String> {
    let name = what.strip_prefix("attribute `args.")?.split_once('`')?.0;
    let exists = shapes.values().any(|shape| shape.arguments.contains_key(name));
    exists.then(|| format!("not every request in its scope has it; ask `context.args has {name} && ...`"))
}

/// Text that does not read as it is: nobody can review such a policy.
fn is_hidden(warning: &ValidationWarning) -> bool {
    matches!(warning, ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_))
}

/// Over the schema and, in the order of their ids, each policy's id and its form in Cedar's JSON, each with its
/// length before it.
fn set_digest(schema: &str, rules: &[Rule]) -> String {
    let mut canonical = String::from("writ policy set 1\n");
    let mut add = |text: &str| writeln!(canonical, "{} {text}", text.len()).unwrap_or_default();
    add(schema);
    let mut rules: Vec<&Rule> = rules.iter().collect();
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    for rule in rules {
        add(&rule.id);
        match rule.policy.to_json() {
            Ok(json) => add(&json.to_string()),
            // No static policy lacks this form; if one did, its text would still be told apart.
            Err(_) => add(&rule.policy.to_string()),
        }
    }
    digest(&SHA256, canonical.as_bytes()).as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}
