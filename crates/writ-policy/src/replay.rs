//! Recorded actions asked again, of a set that is not in force: which would be decided otherwise.
//!
//! The same [`Engine`] that decides live answers, with the facts that the record has and no others. Invariant: what a
//! record does not say is never guessed; the action is counted as not replayed instead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use writ_core::event::{Actor, Event, Hop, HopKind, Key, Keys, Leaf, Request};
use writ_core::service::OperationRule;
use writ_core::{
    ActionId, AgentName, Assurance, Label, Operation, OperationName, Reason, RunId, Service, SessionId,
    Timestamp,
};
use writ_gate::{Decide, Parent, Verdict, is_whole};

use crate::engine::Engine;
use crate::question::{self, Circumstances, Past};
use crate::set::PolicySet;

/// Which actions are asked again; everything that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct ReplayScope {
    /// Recorded at this time or later.
    pub since: Option<Timestamp>,
    /// Of this agent.
    pub agent: Option<AgentName>,
}

/// A replay under way: every leaf of the log is taken, oldest first, those before the scope too, because they tell what
/// the sessions were.
#[derive(Debug)]
pub struct Replay {
    engine: Engine,
    scope: ReplayScope,
    rules: HashMap<OperationName, (Arc<Service>, Arc<OperationRule>)>,
    names_groups: bool,
    reads_past: bool,
    sessions: HashMap<SessionId, Opened>,
    runs: HashMap<RunId, Actor>,
    actions: u64,
    replayed: u64,
    observed: u64,
    skipped: BTreeMap<Skipped, u64>,
    changes: BTreeMap<Kind, Change>,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Actions in the scope.
    pub actions: u64,
    /// Of these, those that were asked again.
    pub replayed: u64,
    /// Those that would be decided otherwise; what would be refused comes first.
    pub changes: Vec<Change>,
    /// Done although policy refused them, because their agent or service was observed only; and still refused. They are no
    /// change of a verdict.
    pub observed: u64,
    /// Those that could not be asked again, by why.
    pub skipped: Vec<SkippedCount>,
}

/// Actions of one agent and operation that would be decided otherwise, in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The agent.
    pub agent: AgentName,
    /// The operation.
    pub operation: OperationName,
    /// What was decided.
    pub was: Decided,
    /// What would be.
    pub now: Decided,
    /// How many.
    pub count: u64,
    /// Why they would be refused; or why they were.
    pub reasons: BTreeSet<&'static str>,
    /// The policies that would decide the keys that turn otherwise; none if nothing permits.
    pub policies: BTreeSet<String>,
    /// The policies that decided these keys; none if nothing permitted.
    pub policies_before: BTreeSet<String>,
    /// The newest of them.
    pub example: ActionId,
}

/// A decision in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    /// Both keys turned.
    Permitted,
    /// Both keys turned, but somebody must approve it first.
    Asked,
    /// They did not.
    Refused,
}

impl Decided {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Asked => "asked",
            Self::Refused => "refused",
        }
    }

    const fn of(permitted: bool, asked: bool) -> Self {
        match (permitted, asked) {
            (true, false) => Self::Permitted,
            (true, true) => Self::Asked,
            (false, _) => Self::Refused,
        }
    }
}

/// Why an action could not be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// It was refused before policy was asked.
    NotDecided,
    /// The catalog has no such service or operation any more.
    NoOperation,
    /// The operation has other arguments now.
    OtherArguments,
    /// The record has only the beginning of its arguments.
    ArgumentsCut,
    /// The record has no opening of its session.
    NoSession,
    /// The record does not say in which groups its human was, and the policies name groups.
    NoGroups,
    /// The record does not say what its session did before, and the policies ask for that.
    NoPast,
    /// The record does not say of which agents the runs are that led to it.
    NoChain,
}

impl Skipped {
    /// In words, behind a number of actions.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotDecided => "refused before policy was asked",
            Self::NoOperation => "of an operation that the catalog does not have now",
            Self::OtherArguments => "of an operation that has other arguments now",
            Self::ArgumentsCut => "with arguments that are cut in the record",
            Self::NoSession => "of a session whose opening is not in the record",
            Self::NoGroups => "for a human whose groups are not in the record",
            Self::NoPast => "judged by what its session did before, which is not in the record",
            Self::NoChain => "led to by runs that are not in the record",
        }
    }
}

/// How many could not be asked again for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedCount {
    /// Why.
    pub why: Skipped,
    /// How many.
    pub count: u64,
}

/// What changes are counted by: what was decided, and of whom. Also the order in which they are told.
type Kind = (Decided, Decided, AgentName, OperationName);

/// What the record says of a session.
#[derive(Debug, Clone)]
struct Opened {
    groups: Option<Vec<String>>,
    purpose: String,
    at: Timestamp,
}

/// A decision on record.
pub(crate) struct Recorded<'a> {
    pub(crate) action: ActionId,
    pub(crate) actor: &'a Actor,
    assurance: Assurance,
    /// When.
    at: Timestamp,
    /// The labels that its session had.
    labels: &'a BTreeSet<Label>,
    /// Whether somebody was asked for approval.
    pub(crate) asked: bool,
    /// The way that led to it.
    path: &'a [Hop],
    pub(crate) request: &'a Request,
    pub(crate) keys: &'a Keys,
    /// Why it was refused, or would have been.
    pub(crate) reason: Option<Reason>,
    /// Whether it was done; what is observed is, in spite of policy.
    pub(crate) done: bool,
}

impl Replay {
    /// A replay against this set, which was checked against these services.
    pub fn new(set: Arc<PolicySet>, services: &[Arc<Service>], scope: ReplayScope) -> Self {
        let mut rules = HashMap::new();
        for (service, rule) in services.iter().flat_map(|s| s.operations.iter().map(move |rule| (s, rule))) {
            rules.entry(rule.name.clone()).or_insert_with(|| (Arc::clone(service), Arc::clone(rule)));
        }
        Self {
            names_groups: set.names_groups(),
            reads_past: set.reads(&["done", "approved"]),
            engine: Engine::new(set),
            scope,
            rules,
            sessions: HashMap::new(),
            runs: HashMap::new(),
            actions: 0,
            replayed: 0,
            observed: 0,
            skipped: BTreeMap::new(),
            changes: BTreeMap::new(),
        }
    }

    /// Takes the next leaf.
    pub fn take(&mut self, leaf: &Leaf) {
        match self.read(leaf) {
            None => {}
            Some(Ok(recorded)) => self.again(&recorded),
            Some(Err(why)) => {
                self.actions += 1;
                self.skip(why);
            }
        }
    }

    /// Keeps what the leaf says of sessions. If it is an action in the scope, the decision that it records, or why there is
    /// none.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other events neither open a session nor are decided")]
    pub(crate) fn read<'l>(&mut self, leaf: &'l Leaf) -> Option<Result<Recorded<'l>, Skipped>> {
        match &leaf.event {
            Event::SessionOpened(opened) => {
                let (groups, purpose) = (opened.groups.clone(), opened.purpose.clone());
                let known = Opened { groups, purpose, at: leaf.time };
                self.sessions.insert(opened.actor.session, known);
                self.runs.insert(opened.actor.run, opened.actor.clone());
                None
            }
            Event::SessionJoined(joined) => {
                // A caller's session has the purpose of the run's own.
                let base = self.sessions.get(&joined.below)?;
                let (groups, purpose) = (joined.groups.clone(), base.purpose.clone());
                let known = Opened { groups, purpose, at: leaf.time };
                self.sessions.insert(joined.actor.session, known);
                None
            }
            Event::ActionIntended(intent) if self.covers(leaf.time, &intent.actor) => Some(Ok(Recorded {
                action: intent.action,
                actor: &intent.actor,
                assurance: intent.assurance,
                at: leaf.time,
                labels: &intent.terms.labels,
                asked: !intent.terms.approvals.is_empty(),
                path: &intent.tool_path,
                request: &intent.request,
                keys: &intent.keys,
                reason: intent.observed,
                done: true,
            })),
            Event::ActionRefused(refused) if self.covers(leaf.time, &refused.actor) => {
                let (Some(request), Some(keys)) = (&refused.request, &refused.keys) else {
                    return Some(Err(Skipped::NotDecided));
                };
                Some(Ok(Recorded {
                    action: refused.action,
                    actor: &refused.actor,
                    assurance: refused.assurance,
                    at: leaf.time,
                    labels: &refused.labels,
                    asked: waited(refused.reason),
                    path: &refused.tool_path,
                    request,
                    keys,
                    reason: Some(refused.reason),
                    done: false,
                }))
            }
            _ => None,
        }
    }

    /// What was found.
    pub fn finish(self) -> Replayed {
        let skipped = self.skipped.into_iter().map(|(why, count)| SkippedCount { why, count });
        Replayed {
            actions: self.actions,
            replayed: self.replayed,
            changes: self.changes.into_values().collect(),
            observed: self.observed,
            skipped: skipped.collect(),
        }
    }

    fn covers(&self, time: Timestamp, actor: &Actor) -> bool {
        self.scope.since.is_none_or(|since| time >= since)
            && self.scope.agent.as_ref().is_none_or(|agent| *agent == actor.agent)
    }

    fn skip(&mut self, why: Skipped) {
        *self.skipped.entry(why).or_default() += 1;
    }

    fn again(&mut self, recorded: &Recorded<'_>) {
        self.actions += 1;
        match self.ask(recorded) {
            Ok(verdict) => {
                self.replayed += 1;
                self.compare(recorded, &verdict);
            }
            Err(why) => self.skip(why),
        }
    }

    /// What the set says to it.
    pub(crate) fn ask(&self, recorded: &Recorded<'_>) -> Result<Verdict, Skipped> {
        let Recorded { actor, request, .. } = *recorded;
        let (service, rule) = self.rules.get(&request.operation).ok_or(Skipped::NoOperation)?;
        let operation = Operation { rule: Arc::clone(rule), arguments: request.arguments.clone() };
        // A cut argument is still of its type.
        if self.engine.set().known(service, &operation).is_none() {
            return Err(Skipped::OtherArguments);
        }
        if !is_whole(&request.arguments) {
            return Err(Skipped::ArgumentsCut);
        }
        let opened = self.sessions.get(&actor.session).ok_or(Skipped::NoSession)?;
        let groups = match &opened.groups {
            Some(groups) => groups.clone(),
            // No policy can tell who is in a group from who is not.
            None if !self.names_groups => Vec::new(),
            None => return Err(Skipped::NoGroups),
        };
        let parent = |run: &RunId| self.runs.get(run).cloned().map(question::led);
        let parents: Option<Vec<Parent>> = through(recorded.path, actor).iter().map(parent).collect();
        if self.reads_past {
            return Err(Skipped::NoPast);
        }
        let age = Duration::from_micros(recorded.at.micros().saturating_sub(opened.at.micros()));
        let circumstances = Circumstances {
            groups,
            purpose: opened.purpose.clone(),
            assurance: recorded.assurance,
            parents: parents.ok_or(Skipped::NoChain)?,
            past: Past { age, labels: recorded.labels.clone(), ..Past::default() },
        };
        let session = question::session(actor, circumstances);
        let programs = recorded.path.iter().filter(|hop| hop.kind == HopKind::Exec);
        let programs: Vec<String> = programs.map(|hop| hop.name.clone()).collect();
        let moment = question::moment(&session, age, &programs);
        Ok(self.engine.decide(&session, service, &operation, &moment))
    }

    fn compare(&mut self, recorded: &Recorded<'_>, verdict: &Verdict) {
        let Keys { agent, human, .. } = recorded.keys;
        let was = Decided::of(agent.permitted && human.permitted, recorded.asked);
        let now = Decided::of(verdict.permits(), verdict.asks());
        self.observed += u64::from(recorded.done && (was, now) == (Decided::Refused, Decided::Refused));
        // What its session was not granted stays refused, whatever policy says.
        if was == now || recorded.reason == Some(Reason::NotGranted) {
            return;
        }
        let (agent_now, human_now) = (&verdict.keys.agent, &verdict.keys.human);
        let keys = [(agent, agent_now), (human, human_now)];
        let turned = |(then, now): &(&Key, &Key)| then.permitted != now.permitted;
        let reason = match now {
            Decided::Refused => Some(verdict.refusal()),
            Decided::Permitted | Decided::Asked => recorded.reason,
        };
        let (name, operation) = (&recorded.actor.agent, &recorded.request.operation);
        let change = match self.changes.entry((was, now, name.clone(), operation.clone())) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Change {
                agent: name.clone(),
                operation: operation.clone(),
                was,
                now,
                count: 0,
                reasons: BTreeSet::new(),
                policies: BTreeSet::new(),
                policies_before: BTreeSet::new(),
                example: recorded.action,
            }),
        };
        change.count += 1;
        change.example = recorded.action;
        change.reasons.extend(reason.map(Reason::code));
        for (then, now) in keys.into_iter().filter(turned) {
            change.policies.extend(now.policies.iter().cloned());
            change.policies_before.extend(then.policies.iter().cloned());
        }
    }
}

/// Whether an action that was refused for this had waited for people.
fn waited(reason: Reason) -> bool {
    [Reason::ApprovalDenied, Reason::ApprovalExpired, Reason::ApprovalPending].contains(&reason)
}

/// The runs before the actor's own in the way to its action.
fn through(path: &[Hop], actor: &Actor) -> Vec<RunId> {
    let runs = path.iter().filter(|hop| hop.kind == HopKind::Run);
    runs.filter_map(|hop| hop.name.parse().ok()).filter(|run| *run != actor.run).collect()
}
