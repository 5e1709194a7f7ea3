//! Deciding: both keys, from the set in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cedar_policy::{Context, EntityUid, Request, RestrictedExpression};
use writ_core::event::{Key, Keys};
use writ_core::service::OperationRule;
use writ_core::{AgentName, Argument, Effect, Mode, Operation, Reason, Service};
use writ_gate::{Decide, Moment, Parent, Session, Verdict};

use crate::schema::entity;
use crate::set::{Known, PolicySet};
use crate::slice::Slice;
use crate::turn::{Turn, reason, recorded};
use crate::view::{View, Views};

/// Decides by the policy set in force, which can be replaced at any time; a decision uses one set from start to end.
#[derive(Debug)]
pub struct Engine {
    current: ArcSwap<Snapshot>,
}

/// Agents whose actions are observed only.
pub type Observed = BTreeSet<AgentName>;

#[derive(Debug)]
struct Snapshot {
    set: Arc<PolicySet>,
    views: Views,
    observed: Observed,
}

impl Engine {
    /// An engine with this set in force, for all agents.
    pub fn new(set: Arc<PolicySet>) -> Self {
        Self::observing(set, Observed::new())
    }

    /// An engine with this set in force, which only advises about these agents.
    pub fn observing(set: Arc<PolicySet>, observed: Observed) -> Self {
        Self { current: ArcSwap::from_pointee(Snapshot { set, views: Views::default(), observed }) }
    }

    /// Puts another set in force, for every decision that begins from now on.
    pub fn replace(&self, set: Arc<PolicySet>, observed: Observed) {
        self.current.store(Arc::new(Snapshot { set, views: Views::default(), observed }));
    }

    /// The set in force.
    pub fn set(&self) -> Arc<PolicySet> {
        Arc::clone(&self.current.load().set)
    }
}

impl Decide for Engine {
    fn reach(&self, session: &Session, service: &Service) -> Verdict {
        let current = self.current.load();
        let verdict = current.hope(session, service, service.operations.iter().map(Arc::as_ref));
        Verdict { mode: current.mode(session, service), ..verdict }
    }

    fn could(&self, session: &Session, service: &Service, rule: &OperationRule) -> Verdict {
        let current = self.current.load();
        let verdict = current.hope(session, service, std::iter::once(rule));
        Verdict { mode: current.mode(session, service), ..verdict }
    }

    fn decide(
        &self,
        session: &Session,
        service: &Service,
        operation: &Operation,
        moment: &Moment<'_>,
    ) -> Verdict {
        let current = self.current.load();
        let verdict = current.decide((session, moment), service, operation);
        Verdict { mode: current.mode(session, service), ..verdict }
    }
}

/// One key, and whose obligations are owed if both turned.
struct Turned {
    key: Key,
    turn: Turn,
    binding: Vec<Arc<str>>,
}

/// One question, as both keys are asked it.
struct Asked<'a> {
    session: &'a Session,
    moment: &'a Moment<'a>,
    operation: &'a Operation,
    known: &'a Known,
    resource: &'a EntityUid,
    /// The human's view, which knows the groups: conditions of either key may ask for them.
    human: &'a View,
}

impl Snapshot {
    fn mode(&self, session: &Session, service: &Service) -> Mode {
        if self.observed.contains(&session.facts().agent) { Mode::Observe } else { service.mode }
    }

    fn decide(
        &self,
        (session, moment): (&Session, &Moment<'_>),
        service: &Service,
        operation: &Operation,
    ) -> Verdict {
        let Some((known, resource)) = self.set.known(service, operation) else {
            return self.unknown(operation);
        };
        let facts = session.facts();
        let agent = self.views.agent(&self.set, &facts.agent);
        let human = self.views.human(&self.set, &facts.human);
        let (Some(agent_slice), Some(human_slice)) =
            (agent.slice(&self.set, known), human.slice(&self.set, known))
        else {
            return self.failed();
        };
        let asked = Asked { session, moment, operation, known, resource, human: &human };
        let needs_context = agent_slice.is_conditional() || human_slice.is_conditional();
        let context = if needs_context { self.context(&asked) } else { None };
        let agent = self.key(&asked, &agent.principal, agent_slice, context.as_ref());
        let human = self.key(&asked, &human.principal, human_slice, context.as_ref());
        let why_not = reason(agent.turn, human.turn);
        let owed = match why_not {
            None => self.set.owed(agent.binding.iter().chain(&human.binding)),
            Some(_) => Vec::new(),
        };
        Verdict { owed, ..self.verdict(agent.key, human.key, why_not) }
    }

    /// Asks one key. Conditions that cannot be asked, because there is no context or no request, make it fail.
    fn key(
        &self,
        asked: &Asked<'_>,
        principal: &EntityUid,
        slice: &Slice,
        context: Option<&Context>,
    ) -> Turned {
        if !slice.is_conditional() {
            let (key, turn) = slice.settled();
            return Turned { key, turn, binding: slice.binding().cloned().collect() };
        }
        let request = context.and_then(|context| {
            let (action, resource) = (asked.known.action.clone(), asked.resource.clone());
            // Without a schema: the context was built to it, and the names were checked to be the set's.
            Request::new(principal.clone(), action, resource, context.clone(), None).ok()
        });
        match (request, asked.human.entities()) {
            (Some(request), Some(entities)) => {
                let answer = slice.answer(&self.set.authorizer, &request, entities);
                for (policy, _) in &answer.failed {
                    tracing::warn!(target: "writ::policy", %policy, "policy could not be evaluated");
                }
                let (key, turn) = answer.key();
                Turned { key, turn, binding: answer.binding().cloned().collect() }
            }
            _ => Turned { key: no_key(), turn: Turn::Failed, binding: Vec::new() },
        }
    }

    /// The context, which is the same for both keys.
    fn context(&self, asked: &Asked<'_>) -> Option<Context> {
        let facts = asked.session.facts();
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let agent = entity(&self.set.types.agent, facts.agent.as_str());
        let parents = &facts.delegation.parents;
        let led = |parent: &Parent| {
            RestrictedExpression::new_entity_uid(entity(&self.set.types.agent, parent.agent.as_str()))
        };
        let age = asked.moment.at.micros().saturating_sub(facts.opened.micros()) / 1_000_000;
        let session = [
            ("age".to_owned(), long(age)),
            ("agent".to_owned(), RestrictedExpression::new_entity_uid(agent)),
            ("assurance".to_owned(), text(facts.assurance.as_str())),
            ("chain".to_owned(), RestrictedExpression::new_set(parents.iter().map(led))),
            ("human".to_owned(), RestrictedExpression::new_entity_uid(asked.human.principal.clone())),
            ("id".to_owned(), text(&facts.id.to_string())),
            ("purpose".to_owned(), text(&facts.purpose)),
            (
                "runs".to_owned(),
                RestrictedExpression::new_set(parents.iter().map(|parent| text(parent.spiffe_id.as_str()))),
            ),
        ];
        let session = RestrictedExpression::new_record(session.into_iter().chain(self.past(asked)?));
        let arguments = asked.operation.arguments.iter().map(|(name, value)| (name.clone(), cedar(value)));
        let args = RestrictedExpression::new_record(arguments);
        let shown = if self.set.facts.contains("path") { asked.moment.programs } else { &[] };
        let programs = RestrictedExpression::new_set(shown.iter().map(|path| text(path)));
        let path = RestrictedExpression::new_record([("programs".to_owned(), programs)]);
        let parts = [("args", args), ("path", path), ("session", session)];
        let parts = parts.map(|(name, part)| part.map(|part| (name.to_owned(), part)));
        Context::from_pairs(parts.into_iter().collect::<Result<Vec<_>, _>>().ok()?).ok()
    }

    /// What the session did, as far as some policy may ask for it.
    fn past(&self, asked: &Asked<'_>) -> Option<Vec<(String, RestrictedExpression)>> {
        let read = |fact: &str| self.set.facts.contains(fact);
        let mut past = Vec::new();
        if !["approved", "done", "labels"].into_iter().any(read) {
            return Some(past);
        }
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let known = asked.session.ledger().facts(asked.moment.at);
        if read("approved") {
            let approved = known.approved.iter().map(|operation| text(operation.as_str()));
            past.push(("approved".to_owned(), RestrictedExpression::new_set(approved)));
        }
        if read("done") {
            past.push(("done".to_owned(), done(&known.done)?));
        }
        if read("labels") {
            let labels = known.labels.iter().map(|label| text(label.as_str()));
            past.push(("labels".to_owned(), RestrictedExpression::new_set(labels)));
        }
        Some(past)
    }

    /// Whether one of these operations could be permitted. Conditions count as fulfilled, so this never says no where a
    /// decision could say yes.
    fn hope<'r>(
        &self,
        session: &Session,
        service: &Service,
        rules: impl Iterator<Item = &'r OperationRule>,
    ) -> Verdict {
        let facts = session.facts();
        let agent = self.views.agent(&self.set, &facts.agent);
        let human = self.views.human(&self.set, &facts.human);
        let mut both = [Chance::default(), Chance::default()];
        for rule in rules {
            let Some(known) = self.set.operations.get(&rule.name) else { continue };
            let agrees = known.shape.service == service.name;
            let slices = (agent.slice(&self.set, known), human.slice(&self.set, known));
            let (true, (Some(agent), Some(human))) = (agrees, slices) else { continue };
            if agent.hopes().next().is_some() && human.hopes().next().is_some() {
                return self.verdict(hope(agent), hope(human), None);
            }
            let [agent_chance, human_chance] = &mut both;
            agent_chance.add(agent);
            human_chance.add(human);
        }
        let [agent, human] = both;
        let mut turns = (agent.turn(), human.turn());
        if turns == (Turn::Permitted, Turn::Permitted) {
            // Each may do something there, but nothing that both may.
            turns.1 = Turn::NotPermitted;
        }
        self.verdict(agent.key(turns.0), human.key(turns.1), reason(turns.0, turns.1))
    }

    /// The set does not know the operation: no policy can speak of it. Known under other facts: contradictory.
    fn unknown(&self, operation: &Operation) -> Verdict {
        if self.set.operations.contains_key(&operation.rule.name) {
            return self.failed();
        }
        self.verdict(no_key(), no_key(), Some(Reason::AgentNotPermitted))
    }

    fn failed(&self) -> Verdict {
        self.verdict(no_key(), no_key(), Some(Reason::PolicyError))
    }

    fn verdict(&self, agent: Key, human: Key, reason: Option<Reason>) -> Verdict {
        Verdict {
            keys: Keys { agent, human, policy_digest: self.set.digest.clone() },
            reason,
            owed: Vec::new(),
            mode: Mode::Enforce,
        }
    }
}

fn long(number: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}

/// What a session did, by effect and window.
fn done(counts: &BTreeMap<Effect, [u64; 3]>) -> Option<RestrictedExpression> {
    let count = |effect: Effect| {
        let [minute, hour, day] = counts.get(&effect).copied().unwrap_or_default();
        let windows = [("minute", minute), ("hour", hour), ("day", day)];
        let windows = windows.map(|(name, number)| (name.to_owned(), long(number)));
        Some((effect.as_str().to_owned(), RestrictedExpression::new_record(windows).ok()?))
    };
    let counts: Option<Vec<_>> = Effect::ALL.into_iter().map(count).collect();
    RestrictedExpression::new_record(counts?).ok()
}

/// The argument as Cedar has it.
pub(crate) fn cedar(argument: &Argument) -> RestrictedExpression {
    let text = |text: &String| RestrictedExpression::new_string(text.clone());
    match argument {
        Argument::String(value) => text(value),
        Argument::Integer(number) => RestrictedExpression::new_long(*number),
        Argument::Boolean(value) => RestrictedExpression::new_bool(*value),
        Argument::Strings(texts) => RestrictedExpression::new_set(texts.iter().map(text)),
    }
}

fn no_key() -> Key {
    Key { permitted: false, policies: Vec::new() }
}

fn hope(slice: &Slice) -> Key {
    Key { permitted: true, policies: recorded(slice.hopes()) }
}

/// What one key could do at a service.
#[derive(Debug, Default)]
struct Chance {
    hopes: Vec<Arc<str>>,
    forbids: Vec<Arc<str>>,
    /// Some operation is forbidden that a permit names.
    overruled: bool,
    /// Some operation is not forbidden.
    open: bool,
}

impl Chance {
    fn add(&mut self, slice: &Slice) {
        self.hopes.extend(slice.hopes().cloned());
        self.forbids.extend(slice.forbids().iter().cloned());
        let forbidden = !slice.forbids().is_empty();
        self.overruled |= forbidden && slice.is_named();
        self.open |= !forbidden;
    }

    /// A forbid is the reason only if it took a permit away or left nothing open.
    fn turn(&self) -> Turn {
        let forbidden = !self.forbids.is_empty() && (self.overruled || !self.open);
        match (self.hopes.is_empty(), forbidden) {
            (false, _) => Turn::Permitted,
            (true, true) => Turn::Forbidden,
            (true, false) => Turn::NotPermitted,
        }
    }

    fn key(&self, turn: Turn) -> Key {
        let policies = match turn {
            Turn::Permitted => recorded(self.hopes.iter()),
            Turn::Forbidden => recorded(self.forbids.iter()),
            Turn::NotPermitted | Turn::Failed => Vec::new(),
        };
        Key { permitted: turn == Turn::Permitted, policies }
    }
}
