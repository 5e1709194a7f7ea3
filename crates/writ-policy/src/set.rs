//! A checked policy set: everything that deciding needs and that does not depend on who asks.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use cedar_policy::{Authorizer, Entities, EntityUid};
use writ_core::config::{Problem, Problems};
use writ_core::{Obligation, Operation, OperationName, Service, ServiceName};
use writ_gate::Owed;

use crate::index::{Anchors, Index};
use crate::load;
use crate::reads::reads;
use crate::schema::{Shape, Types};
use crate::slice::{Rule, Shared, Slice};
use crate::view::View;

/// A set of policies that was checked against the operations of a catalog. Immutable; shared.
///
/// A set without policies is valid and refuses everything.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) types: Types,
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: Index,
    pub(crate) operations: HashMap<OperationName, Known>,
    pub(crate) services: HashMap<ServiceName, EntityUid>,
    /// The actions and their groups.
    pub(crate) actions: Entities,
    pub(crate) authorizer: Authorizer,
    pub(crate) shared: Shared,
    /// What policies ask for, by their ids; those that ask for nothing are not here.
    pub(crate) obligations: HashMap<Arc<str>, Vec<Obligation>>,
    /// Of [`crate::reads::FACTS`], those that some policy may read.
    pub(crate) facts: BTreeSet<&'static str>,
    pub(crate) digest: String,
    pub(crate) schema: String,
    pub(crate) warnings: Vec<Problem>,
}

/// An operation that the set was checked against.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its number, from 0 without gaps.
    pub(crate) number: usize,
    pub(crate) action: EntityUid,
    pub(crate) shape: Shape,
}

impl PolicySet {
    /// Reads and checks the policy files of one folder against the catalog's services. All problems come at once.
    ///
    /// Pure. The order of the files does not matter; a path is only used in messages and, without folder and ending,
    /// in the ids of policies that have no `@id("...")`: `FILE#N`, counted from 1.
    pub fn load(files: &[(PathBuf, String)], services: &[Arc<Service>]) -> Result<Self, Problems> {
        load::load(files, services)
    }

    /// SHA-256 over schema and policies, hex. Comments, white space and the order of files do not change it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no policy, so that everything is refused.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The ids of the policies, in the order of files and lines.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| &*rule.id)
    }

    /// Each policy's id and its text as Cedar prints it, in the order of files and lines.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        self.rules.iter().map(|rule| (&*rule.id, rule.policy.to_string()))
    }

    /// Whether some policy names a group. If none does, groups decide nothing.
    pub(crate) fn names_groups(&self) -> bool {
        let literals = self.rules.iter().flat_map(|rule| rule.policy.entity_literals());
        literals.into_iter().any(|uid| *uid.type_name() == self.types.group)
    }

    /// Whether some policy may read one of these attributes of the session.
    pub(crate) fn reads(&self, wanted: &[&str]) -> bool {
        self.rules.iter().any(|rule| rule.conditional && reads(&rule.policy, wanted))
    }

    /// The schema that the policies were checked against, in Cedar's schema language.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// What is suspicious but valid: policies that can never apply to anything in the catalog.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The operation, if the set knows it just as the request has it: anything else is contradictory.
    pub(crate) fn known(&self, service: &Service, operation: &Operation) -> Option<(&Known, &EntityUid)> {
        let known = self.operations.get(&operation.rule.name)?;
        let shape = &known.shape;
        let agrees = shape.service == service.name
            && shape.effect == operation.rule.effect
            && shape.covers(&operation.arguments);
        Some((known, self.services.get(&service.name)?)).filter(|_| agrees)
    }

    /// What these policies ask for, each once.
    pub(crate) fn owed<'i>(&self, policies: impl Iterator<Item = &'i Arc<str>>) -> Vec<Owed> {
        if self.obligations.is_empty() {
            return Vec::new();
        }
        let owed = |(policy, obligation): (&Arc<str>, &Obligation)| Owed {
            policy: policy.to_string(),
            obligation: obligation.clone(),
        };
        let known = policies.filter_map(|id| self.obligations.get_key_value(id));
        let all: BTreeSet<Owed> =
            known.flat_map(|(id, list)| list.iter().map(move |it| (id, it))).map(owed).collect();
        all.into_iter().collect()
    }

    /// The slice for one principal and operation; `entities` holds the principal's ancestors.
    pub(crate) fn slice(&self, principal: &EntityUid, operation: &Known, entities: &Entities) -> Slice {
        Slice::new(&self.numbers(principal, operation, entities), &self.rules, &self.shared)
    }

    /// The policies whose scope is true of one principal and operation.
    pub(crate) fn candidates(&self, view: &View, operation: &Known) -> Vec<&Rule> {
        let numbers = view.entities().map(|entities| self.numbers(&view.principal, operation, entities));
        let rule = |number: u32| self.rules.get(usize::try_from(number).ok()?);
        numbers.into_iter().flatten().filter_map(rule).collect()
    }

    fn numbers(&self, principal: &EntityUid, operation: &Known, entities: &Entities) -> Vec<u32> {
        let Some(resource) = self.services.get(&operation.shape.service) else { return Vec::new() };
        let action = Anchors::of(&operation.action, &self.actions);
        let resource = Anchors::of(resource, &self.actions);
        self.index.candidates(&Anchors::of(principal, entities), &action, &resource)
    }
}

/// What `writ policy check` says of a valid folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// How many policies.
    pub policies: usize,
    /// How many operations they were checked against.
    pub operations: usize,
    /// The digest of the set.
    pub digest: String,
    /// What is suspicious but valid.
    pub warnings: Vec<Problem>,
}

/// Checks the policy files of a folder as [`PolicySet::load`] does, and sums up.
pub fn check(files: &[(PathBuf, String)], services: &[Arc<Service>]) -> Result<Checked, Problems> {
    let set = PolicySet::load(files, services)?;
    Ok(Checked {
        policies: set.len(),
        operations: set.operations.len(),
        digest: set.digest,
        warnings: set.warnings,
    })
}
