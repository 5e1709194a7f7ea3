//! One question: what is asked, of whom, and what was answered so far.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use writ_core::event::{Answer, ApprovalRequested, Request};
use writ_core::obligation::{Approve as Rule, Approver};
use writ_core::{AgentName, ApprovalId, HumanId, Timestamp};
use writ_gate::{Session, Wanted};

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answerer {
    /// The person.
    pub human: HumanId,
    /// Their groups.
    pub groups: Vec<String>,
    /// The agents that are theirs.
    pub owns: BTreeSet<AgentName>,
}

/// A question as those who may answer it see it.
#[derive(Debug, Clone)]
pub struct Question {
    /// The approval.
    pub id: ApprovalId,
    /// When it was asked.
    pub asked: Timestamp,
    /// Until when it may be answered, and used.
    pub expires: Timestamp,
    /// Who acts.
    pub session: Arc<Session>,
    /// What is asked for.
    pub request: Request,
    /// The policies that ask, each with whom it asks: `ID: approve owner, 10m`.
    pub rules: Vec<String>,
    /// Who said yes so far.
    pub approved_by: Vec<HumanId>,
    /// Whether it was approved and waits for the request to come again.
    pub is_settled: bool,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// SHA-256 of the body, hex.
    pub body_sha256: String,
    /// SHA-256 over all that is sent, hex.
    pub seal: String,
    /// The request as text; `None` after a restart, until it comes again: bodies are not recorded.
    pub preview: Option<String>,
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Waiting,
    Approved,
    Denied,
    Over,
}

/// A yes.
#[derive(Debug, Clone)]
pub(crate) struct Yes {
    by: HumanId,
    /// The policies whose rules it counts for.
    meets: Vec<String>,
    for_session: bool,
}

/// A question while it is open.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) event: ApprovalRequested,
    pub(crate) at: Timestamp,
    pub(crate) session: Arc<Session>,
    pub(crate) rules: Vec<(String, Rule)>,
    pub(crate) preview: Option<String>,
    pub(crate) yeses: Vec<Yes>,
    pub(crate) stage: watch::Sender<Stage>,
}

impl Asked {
    pub(crate) fn new(
        event: ApprovalRequested,
        at: Timestamp,
        session: Arc<Session>,
        rules: Vec<(String, Rule)>,
    ) -> Self {
        let stage = watch::Sender::new(Stage::Waiting);
        Self { event, at, session, rules, preview: None, yeses: Vec::new(), stage }
    }

    /// The rules of a question on record; `None` if they are not such.
    pub(crate) fn rules_on_record(event: &ApprovalRequested) -> Option<Vec<(String, Rule)>> {
        let rule = |text: &String| {
            let (policy, rule) = text.split_once(": approve ")?;
            Some((policy.to_owned(), rule.parse().ok()?))
        };
        event.rules.iter().map(rule).collect()
    }

    pub(crate) fn is(&self, stage: Stage) -> bool {
        *self.stage.borrow() == stage
    }

    /// Whether this is the question that the request asks.
    pub(crate) fn is_about(&self, session: &Session, seal: &str, rules: &[(String, Rule)]) -> bool {
        self.session.facts().id == session.facts().id && self.event.seal == seal && self.rules == rules
    }

    /// The policies whose rules a yes of this person counts for.
    pub(crate) fn met_by(&self, by: &Answerer) -> Vec<String> {
        let facts = self.session.facts();
        let fits = |rule: &Rule| {
            let is_self = by.human == facts.human.id;
            let asked = match &rule.by {
                Approver::Owner => by.owns.contains(&facts.agent),
                Approver::Human => is_self,
                Approver::Group(group) => by.groups.contains(group),
            };
            asked && !(rule.not_self && is_self)
        };
        self.rules.iter().filter(|(_, rule)| fits(rule)).map(|(policy, _)| policy.clone()).collect()
    }

    pub(crate) fn has_answered(&self, human: &HumanId) -> bool {
        self.yeses.iter().any(|yes| yes.by == *human)
    }

    /// Whether nobody else need be asked once this yes is added.
    pub(crate) fn would_settle(&self, meets: &[String]) -> bool {
        self.rules.iter().all(|(policy, rule)| {
            let more = usize::from(meets.contains(policy));
            let sofar = self.yeses.iter().filter(|yes| yes.meets.contains(policy)).count();
            sofar + more >= usize::from(rule.quorum)
        })
    }

    /// Whether it may be approved for the session: no rule is against it, and the record has the whole path.
    pub(crate) fn may_stand(&self) -> bool {
        !self.event.request.path.ends_with("...") && self.rules.iter().all(|(_, rule)| !rule.once)
    }

    /// Whether all who said yes said it for the session.
    pub(crate) fn stands(&self) -> bool {
        !self.yeses.is_empty() && self.yeses.iter().all(|yes| yes.for_session)
    }

    /// Takes an answer that is on record.
    pub(crate) fn take(&mut self, answer: Answer, by: HumanId, meets: Vec<String>, settled: bool) {
        let next = match answer {
            Answer::Denied => Stage::Denied,
            Answer::Approved | Answer::ApprovedForSession => {
                self.yeses.push(Yes { by, meets, for_session: answer == Answer::ApprovedForSession });
                if settled { Stage::Approved } else { Stage::Waiting }
            }
        };
        if next != Stage::Waiting {
            self.stage.send_replace(next);
        }
    }

    /// The rules as they are recorded.
    pub(crate) fn rule_texts(&self) -> Vec<String> {
        self.rules.iter().map(Wanted::rule_text).collect()
    }

    pub(crate) fn question(&self) -> Question {
        let event = &self.event;
        Question {
            id: event.approval,
            asked: self.at,
            expires: event.expires_us,
            session: Arc::clone(&self.session),
            request: event.request.clone(),
            rules: event.rules.clone(),
            approved_by: self.yeses.iter().map(|yes| yes.by.clone()).collect(),
            is_settled: self.is(Stage::Approved),
            body_bytes: event.body_bytes,
            body_sha256: event.body_sha256.clone(),
            seal: event.seal.clone(),
            preview: self.preview.clone(),
        }
    }
}
