//! Samples: questions with the answers that a policy must give. They are tests, documentation and demo at once.
//!
//! A sample is decided by the same [`Engine`] as a real action, for a session made up for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use writ_core::config::{self, KeyDoc, Place, Problems, Setting, Table, Value, Wrong};
use writ_core::units::Span;
use writ_core::{
    AgentName, Argument, Arguments, Assurance, Effect, HumanId, Operation, OperationName, Reason, Service,
};
use writ_gate::{Decide, Session, Verdict};

use crate::engine::Engine;
use crate::explain::explain;
use crate::question::{self, Circumstances, Past};
use crate::replay::Decided;
use crate::schema::shapes;
use crate::set::PolicySet;
use crate::words::nearest;

/// The keys of a file of samples.
pub const SAMPLE_KEYS: &[KeyDoc] = &[
    KeyDoc::required("sample.title", "text", "What the sample shows."),
    KeyDoc::required("sample.agent", "agent name", "The agent that asks."),
    KeyDoc::required("sample.human", "human id", "The human behind it, `unix:NAME`."),
    KeyDoc::optional("sample.groups", "list of texts", "none", "The human's groups, `unix:NAME` each."),
    KeyDoc::optional(
        "sample.chain",
        "list of agent names",
        "none",
        "The agents whose runs led to it, eldest first: those that called it or started it.",
    ),
    KeyDoc::defaulted("sample.purpose", "text", "\"\"", "The purpose of the session."),
    KeyDoc::defaulted(
        "sample.assurance",
        "`kernel` or `kernel-lsm`",
        "\"kernel\"",
        "How strongly it is enforced.",
    ),
    KeyDoc::required("sample.operation", "operation name", "What is asked for: `service/operation`."),
    KeyDoc::optional(
        "sample.arguments.*",
        "text, a whole number, `true`, `false` or a list of texts",
        "none",
        "The arguments of the operation, each as its type is written; all that are required.",
    ),
    KeyDoc::optional("sample.labels", "list of labels", "none", "The labels that the session has acquired."),
    KeyDoc::defaulted("sample.age", "a length of time", "\"0s\"", "For how long the session has been open."),
    KeyDoc::optional(
        "sample.done.*",
        "a whole number",
        "none",
        "How many actions the session did just before, by their effect: `done = { write = 3 }`.",
    ),
    KeyDoc::optional("sample.programs", "list of texts", "none", "The programs that led to it, by path."),
    KeyDoc::required(
        "sample.expect",
        "`permit`, `ask` or `refuse`",
        "What must be answered: `ask` if somebody must approve it.",
    ),
    KeyDoc::optional(
        "sample.reason",
        "reason code",
        "any reason",
        "Why it must be refused: `policy.agent_forbidden`.",
    ),
    KeyDoc::optional(
        "sample.owes",
        "list of texts",
        "anything",
        "What must be owed if it is permitted, all of it: `[\"approve owner, 10m\", \"limit 10/min\"]`.",
    ),
];

/// What a sample expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Both keys turn, and nobody needs to approve it.
    Permit,
    /// Both keys turn, and somebody must approve it.
    Ask,
    /// They do not; for this reason, if one is given.
    Refuse(Option<Reason>),
}

impl Expect {
    /// Whether the verdict is as expected.
    pub fn is_met(self, verdict: &Verdict) -> bool {
        match self {
            Self::Permit => verdict.permits() && !verdict.asks(),
            Self::Ask => verdict.permits() && verdict.asks(),
            Self::Refuse(None) => !verdict.permits(),
            Self::Refuse(Some(reason)) => !verdict.permits() && verdict.refusal() == reason,
        }
    }
}

/// One question and its answer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where it stands.
    pub place: Place,
    /// What it shows.
    pub title: String,
    /// Who asks, and for whom: a session made up for it.
    pub session: Arc<Session>,
    /// For how long it has been open.
    pub age: Duration,
    /// The programs that led to it.
    pub programs: Vec<String>,
    /// At which service.
    pub service: Arc<Service>,
    /// What.
    pub operation: Operation,
    /// The answer that is right.
    pub expect: Expect,
    /// What must be owed for it, every obligation in words; none if that is not said.
    pub owes: BTreeSet<String>,
}

/// A sample with the answer that was given.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The sample.
    pub sample: Sample,
    /// What was answered.
    pub verdict: Verdict,
    /// The answer in sentences.
    pub explanation: String,
    /// Whether it is as expected.
    pub passed: bool,
}

/// What running samples gave, in their order.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One for each sample.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// How many were not answered as expected.
    pub fn failures(&self) -> usize {
        self.outcomes.iter().filter(|outcome| !outcome.passed).count()
    }

    /// Whether every sample was answered as expected. True when there is none.
    pub fn passed(&self) -> bool {
        self.failures() == 0
    }
}

/// Runs samples against a policy set.
pub fn run_samples(set: &Arc<PolicySet>, samples: &[Sample]) -> Report {
    let engine = Engine::new(Arc::clone(set));
    let run = |sample: &Sample| {
        let moment = question::moment(&sample.session, sample.age, &sample.programs);
        let verdict = engine.decide(&sample.session, &sample.service, &sample.operation, &moment);
        Outcome {
            explanation: explain(&verdict),
            passed: sample.expect.is_met(&verdict)
                && (sample.owes.is_empty() || sample.owes == owed(&verdict)),
            sample: sample.clone(),
            verdict,
        }
    };
    Report { outcomes: samples.iter().map(run).collect() }
}

/// Reads files of samples; all problems come at once. Operations and arguments must be the catalog's.
pub fn read_samples(files: &[(PathBuf, String)], services: &[Arc<Service>]) -> Result<Vec<Sample>, Problems> {
    let mut problems = Problems::default();
    let mut samples = Vec::new();
    for (path, text) in files {
        let read = |root: &Table<'_>| {
            let all: Vec<Option<Sample>> =
                root.tables("sample").iter().map(|table| sample(table, services)).collect();
            all.into_iter().collect::<Option<Vec<Sample>>>()
        };
        let file = path.to_string_lossy();
        samples.extend(config::read(&file, text, SAMPLE_KEYS, &mut problems, read).into_iter().flatten());
    }
    problems.or(samples)
}

fn sample(table: &Table<'_>, services: &[Arc<Service>]) -> Option<Sample> {
    let title = table.required("title");
    let agent = table.required::<Word<AgentName>>("agent");
    let human = table.required::<Word<HumanId>>("human");
    let groups = table.list::<String>("groups");
    let purpose = table.defaulted::<String>("purpose");
    let chain = table.list::<AgentName>("chain");
    let assurance = table.defaulted::<Word<Assurance>>("assurance");
    let name = table.required::<OperationName>("operation");
    let arguments = table.map::<Argument>("arguments");
    let permits = table.required::<Word<Decided>>("expect");
    let reason = table.optional::<Word<Reason>>("reason").map(|word| word.0);
    let age = table.defaulted::<Span>("age").map(Span::get).unwrap_or_default();
    let done = table.map::<u64>("done");
    let done = done.into_iter().filter_map(|(word, number)| Some((effect(table, &word)?, number))).collect();
    let programs = table.list::<String>("programs");
    let owes = table.list::<String>("owes").into_iter().collect();
    let (service, operation) = operation(table, &name?, arguments, services)?;
    let expect = match (permits?.0, reason) {
        (Decided::Permitted, None) => Expect::Permit,
        (Decided::Asked, None) => Expect::Ask,
        (Decided::Refused, reason) => Expect::Refuse(reason),
        (Decided::Permitted | Decided::Asked, Some(_)) => {
            table.problem(
                "reason",
                "what is not refused has no reason",
                Some("leave it out, or expect `refuse`"),
            );
            return None;
        }
    };
    let actor = question::nobody(agent?.0, human?.0)?;
    let chain = chain.into_iter().filter_map(|agent| question::nobody(agent, actor.human.clone()));
    let circumstances = Circumstances {
        groups,
        purpose: purpose?,
        assurance: assurance?.0,
        parents: chain.map(question::led).collect(),
        past: Past { age, labels: table.list("labels").into_iter().collect(), done },
    };
    let session = Arc::new(question::session(&actor, circumstances));
    let place = table.place("title");
    Some(Sample { place, title: title?, session, age, programs, service, operation, expect, owes })
}

fn effect(table: &Table<'_>, word: &str) -> Option<Effect> {
    let known = Effect::ALL.into_iter().find(|effect| effect.as_str() == word);
    if known.is_none() {
        let words = Effect::ALL.map(Effect::as_str).join(", ");
        table.problem("done", format!("`{word}` is no effect"), Some(&format!("there are {words}")));
    }
    known
}

/// What is owed, in words.
fn owed(verdict: &Verdict) -> BTreeSet<String> {
    verdict.owed.iter().map(|owed| owed.obligation.to_string()).collect()
}

fn operation(
    table: &Table<'_>,
    name: &OperationName,
    arguments: Arguments,
    services: &[Arc<Service>],
) -> Option<(Arc<Service>, Operation)> {
    let rules = services.iter().flat_map(|s| s.operations.iter().map(move |rule| (s, rule)));
    let Some((service, rule)) = rules.clone().find(|(_, rule)| rule.name == *name) else {
        let near = nearest(name.as_str(), rules.map(|(_, rule)| rule.name.as_str()));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        table.problem("operation", format!("no operation `{name}`"), hint.as_deref());
        return None;
    };
    let shapes = shapes(std::slice::from_ref(service), &mut Problems::default());
    if let Some(shape) = shapes.get(name).filter(|shape| !shape.covers(&arguments)) {
        let hint = format!("it has {}", shape.words());
        table.problem("arguments", format!("not the arguments of `{name}`"), Some(&hint));
        return None;
    }
    Some((Arc::clone(service), Operation { rule: Arc::clone(rule), arguments }))
}

/// A word of a sample, parsed.
struct Word<T>(T);

macro_rules! words {
    ($($type:ty, $expected:literal, $example:literal, $read:expr;)*) => {
        $(impl Setting for Word<$type> {
            const EXPECTED: &'static str = $expected;
            const EXAMPLE: &'static str = $example;
            fn read(value: &Value<'_>) -> Result<Self, Wrong> {
                let read: fn(&Value<'_>) -> Result<$type, Wrong> = $read;
                read(value).map(Self)
            }
        })*
    };
}

words! {
    AgentName, "an agent name", "\"coder\"", |value| value.parse();
    HumanId, "a human id", "\"unix:alice\"", |value| value.parse();
    Assurance, "an assurance", "\"kernel\"", |value| value.one_of(&[
        (Assurance::Kernel.as_str(), Assurance::Kernel),
        (Assurance::KernelLsm.as_str(), Assurance::KernelLsm),
    ]);
    Decided, "`permit`, `ask` or `refuse`", "\"permit\"", |value| value.one_of(&[
        ("permit", Decided::Permitted),
        ("ask", Decided::Asked),
        ("refuse", Decided::Refused),
    ]);
    Reason, "a reason code", "\"policy.agent_forbidden\"", |value| {
        let codes: Vec<(&str, Reason)> = Reason::ALL.iter().map(|r| (r.code(), *r))
            .filter(|(code, _)| code.starts_with("policy.")).collect();
        value.one_of(&codes)
    };
}
