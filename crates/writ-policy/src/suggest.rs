//! Policies from the record: the least that an agent and its people need to do again what they did.
//!
//! A suggestion is text to be read and put in force by somebody. Invariants: one agent's record never widens what
//! another may, because the human's key asks for the agent too; what was refused and not done is never suggested, nor
//! what a forbid speaks against, then or now; and nothing is suggested but permits, so every forbid keeps its say.

mod text;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cedar_policy::Effect;
use serde::Serialize;
use writ_core::event::{Key, Keys};
use writ_core::{ActionId, AgentName, HumanId, OperationName, Reason, Service, ServiceName, Timestamp};
use writ_gate::limits::DETERMINING_POLICIES_MAX;
use writ_gate::{Verdict, is_whole};

use crate::replay::{Recorded, Replay, ReplayScope, Skipped};
use crate::schema::Shapes;
use crate::set::PolicySet;
use values::Values;

/// Whose record is read.
#[derive(Debug, Clone)]
pub struct SuggestScope {
    /// The agent.
    pub agent: AgentName,
    /// Only what it did for this human; the agent's key then asks for the human too.
    pub human: Option<HumanId>,
    /// Recorded at this time or later.
    pub since: Option<Timestamp>,
}

/// A suggestion in the making: every leaf of the log is taken, oldest first, those before the scope too.
#[derive(Debug)]
pub struct Suggest {
    replay: Replay,
    scope: SuggestScope,
    shapes: Shapes,
    /// Permits that ask for more than their yes.
    owing: BTreeSet<String>,
    actions: u64,
    suggested: u64,
    seen: BTreeMap<(Whose, OperationName), Seen>,
    left_out: BTreeMap<LeftOut, u64>,
}

/// Policies for one agent, and what they rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggested {
    /// The agent.
    pub agent: AgentName,
    /// Actions in the scope.
    pub actions: u64,
    /// Of these, those that the policies are made of.
    pub suggested: u64,
    /// The policies: the agent's first, then each human's.
    pub policies: Vec<Suggestion>,
    /// Actions that nothing is suggested for, by why.
    pub left_out: Vec<LeftOutCount>,
    /// All of it as the text of a policy file.
    pub text: String,
}

/// One permit, for one key and operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// Its `@id`; absent if the names do not fit in one.
    pub id: Option<String>,
    /// The human whose key it is; absent if it is the agent's.
    pub human: Option<HumanId>,
    /// The operation.
    pub operation: OperationName,
    /// Actions that it rests on.
    pub actions: u64,
    /// Of these, those that policy did not permit and that were done because they were observed.
    pub observed: u64,
    /// The oldest of them.
    pub first: ActionId,
    /// The newest of them.
    pub newest: ActionId,
    /// Arguments that it leaves open, by why.
    pub open: BTreeMap<String, Open>,
    /// What it asks for, each a Boolean expression of Cedar.
    pub conditions: Vec<String>,
}

/// Why an argument is left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// Some value was text in people's words, or longer than names are.
    FreeText,
    /// It had more values than a policy should list.
    ManyValues,
    /// It was true and it was false.
    Both,
}

impl Open {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::FreeText => "free text",
            Self::ManyValues => "many values",
            Self::Both => "true and false",
        }
    }
}

/// Why nothing is suggested for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// It was refused, and not done.
    Refused,
    /// A forbid or a policy that fails spoke against it when it was recorded.
    Forbidden,
    /// One speaks against it now.
    ForbiddenNow,
    /// A permit that asks for an approval, a limit or a label spoke for it. Another permit in its place would not ask.
    Owing,
    /// An argument has a text that no policy can have, because it does not read as it is.
    Hidden,
    /// It cannot be asked about.
    #[serde(untagged)]
    Unasked(Skipped),
}

impl LeftOut {
    /// In words, behind a number of actions.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused and not observed",
            Self::Forbidden => "done because they were observed, and forbidden",
            Self::ForbiddenNow => "forbidden by these policies",
            Self::Owing => "under a permit with obligations, which stays as it is",
            Self::Hidden => "with marks in an argument that turn the direction of text",
            Self::Unasked(why) => why.text(),
        }
    }
}

/// How many were left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutCount {
    /// Why.
    pub why: LeftOut,
    /// How many.
    pub count: u64,
}

/// Whose key turned. Also the order in which policies are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Agent,
    Human(HumanId),
}

/// What one key did with one operation.
#[derive(Debug)]
struct Seen {
    service: ServiceName,
    actions: u64,
    observed: u64,
    first: ActionId,
    newest: ActionId,
    arguments: BTreeMap<String, Values>,
}

impl Suggest {
    /// For this scope; `set` is what speaks now, and was checked against these services.
    pub fn new(set: Arc<PolicySet>, services: &[Arc<Service>], scope: SuggestScope) -> Self {
        let shapes = set.operations.iter().map(|(name, known)| (name.clone(), known.shape.clone())).collect();
        let owing =
            set.rules.iter().filter(|rule| rule.effect == Effect::Permit && !rule.obligations.is_empty());
        let owing = owing.map(|rule| rule.id.to_string()).collect();
        let of = ReplayScope { since: scope.since, agent: Some(scope.agent.clone()) };
        Self {
            replay: Replay::new(set, services, of),
            scope,
            shapes,
            owing,
            actions: 0,
            suggested: 0,
            seen: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Takes the next leaf.
    pub fn take(&mut self, leaf: &writ_core::event::Leaf) {
        let decided = self.replay.read(leaf);
        let whose = leaf.event.actor().map(|actor| &actor.human);
        if self.scope.human.as_ref().is_some_and(|human| whose != Some(human)) {
            return;
        }
        let why = match decided {
            None => return,
            Some(Err(why)) => Some(LeftOut::Unasked(why)),
            Some(Ok(recorded)) => match self.spoken_against(&recorded) {
                None => {
                    self.keep(&recorded);
                    None
                }
                against => against,
            },
        };
        self.actions += 1;
        match why {
            Some(why) => *self.left_out.entry(why).or_default() += 1,
            None => self.suggested += 1,
        }
    }

    /// What was found, as policies.
    pub fn finish(self) -> Suggested {
        let mut policies = Vec::new();
        let mut texts = Vec::new();
        for ((whose, operation), seen) in &self.seen {
            let Some(shape) = self.shapes.get(operation) else { continue };
            let key = text::Key { scope: &self.scope, whose, operation, service: &seen.service };
            let suggestion = suggestion(&key, seen, shape);
            texts.push(text::policy(&key, &suggestion));
            policies.push(suggestion);
        }
        let left_out: Vec<_> =
            self.left_out.into_iter().map(|(why, count)| LeftOutCount { why, count }).collect();
        let mut found = Suggested {
            agent: self.scope.agent,
            actions: self.actions,
            suggested: self.suggested,
            policies,
            left_out,
            text: String::new(),
        };
        found.text = text::file(&found, &texts);
        found
    }

    /// Why it is not to be permitted.
    fn spoken_against(&self, recorded: &Recorded<'_>) -> Option<LeftOut> {
        if !recorded.done {
            return Some(LeftOut::Refused);
        }
        if forbidden(recorded.keys, recorded.reason) {
            return Some(LeftOut::Forbidden);
        }
        if recorded.request.arguments.values().any(values::is_hidden) {
            return Some(LeftOut::Hidden);
        }
        if self.owes(recorded.keys) {
            return Some(LeftOut::Owing);
        }
        match self.replay.ask(recorded) {
            Ok(Verdict { keys, reason, .. }) if forbidden(&keys, reason) => Some(LeftOut::ForbiddenNow),
            Ok(Verdict { keys, .. }) => self.owes(&keys).then_some(LeftOut::Owing),
            // Whether a permit or a forbid asked for the approval cannot be told.
            Err(Skipped::ArgumentsCut | Skipped::NoPast) if recorded.asked => Some(LeftOut::Owing),
            // What is cut is left open as free text. Forbids of it, and of what a session did before, keep their say.
            Err(Skipped::ArgumentsCut | Skipped::NoPast) => None,
            Err(why) => Some(LeftOut::Unasked(why)),
        }
    }

    /// Whether a permit with obligations is among those that turned a key; or could be, where not all are named.
    fn owes(&self, keys: &Keys) -> bool {
        let cut = |key: &Key| key.policies.len() > DETERMINING_POLICIES_MAX;
        let named = |key: &Key| key.policies.iter().any(|id| self.owing.contains(id));
        [&keys.agent, &keys.human].into_iter().any(|key| named(key) || (cut(key) && !self.owing.is_empty()))
    }

    fn keep(&mut self, recorded: &Recorded<'_>) {
        let Recorded { action, actor, request, .. } = *recorded;
        let whole = is_whole(&request.arguments);
        for whose in [Whose::Agent, Whose::Human(actor.human.clone())] {
            let seen = self.seen.entry((whose, request.operation.clone())).or_insert_with(|| Seen {
                service: request.service.clone(),
                actions: 0,
                observed: 0,
                first: action,
                newest: action,
                arguments: BTreeMap::new(),
            });
            seen.actions += 1;
            seen.observed += u64::from(recorded.reason.is_some());
            seen.newest = action;
            for (name, argument) in &request.arguments {
                seen.arguments.entry(name.clone()).or_default().add(argument, whole);
            }
        }
    }
}

/// Whether anything but the lack of a permit stood against it: a key that did not turn, and a policy that determined it.
fn forbidden(keys: &Keys, reason: Option<Reason>) -> bool {
    let spoken = |key: &Key| !key.permitted && !key.policies.is_empty();
    let lacks = |reason| matches!(reason, Reason::AgentNotPermitted | Reason::HumanNotPermitted);
    spoken(&keys.agent) || spoken(&keys.human) || reason.is_some_and(|reason| !lacks(reason))
}

fn suggestion(key: &text::Key<'_>, seen: &Seen, shape: &crate::schema::Shape) -> Suggestion {
    let mut conditions = key.conditions();
    let mut open = BTreeMap::new();
    let never = Values::default();
    for (name, typed) in &shape.arguments {
        let values = seen.arguments.get(name).unwrap_or(&never);
        match values.condition(name, *typed, seen.actions) {
            Ok(condition) => conditions.push(condition),
            Err(why) => {
                open.insert(name.clone(), why);
            }
        }
    }
    Suggestion {
        id: key.id(),
        human: match key.whose {
            Whose::Agent => None,
            Whose::Human(human) => Some(human.clone()),
        },
        operation: key.operation.clone(),
        actions: seen.actions,
        observed: seen.observed,
        first: seen.first,
        newest: seen.newest,
        open,
        conditions,
    }
}

impl Suggested {
    /// The people whose keys are among the policies.
    pub fn humans(&self) -> BTreeSet<&HumanId> {
        self.policies.iter().filter_map(|policy| policy.human.as_ref()).collect()
    }
}
