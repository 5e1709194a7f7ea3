//! Approvals: questions whether an action may be done, and their answers.

use serde::{Deserialize, Serialize};
use writ_core::event::{Answer, Request};
use writ_core::{AgentName, ApprovalId, HumanId, SessionId};

use super::Time;

/// One open question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionRow {
    /// Who acts.
    pub agent: AgentName,
    /// The approval.
    pub approval: ApprovalId,
    /// Who said yes so far.
    pub approved_by: Vec<HumanId>,
    /// When it was asked.
    pub asked: Time,
    /// Bytes of the body that would be sent.
    pub body_bytes: u64,
    /// SHA-256 of that body, hex.
    pub body_sha256: String,
    /// Until when it may be answered, and used.
    pub expires: Time,
    /// For whom.
    pub human: HumanId,
    /// The request as text, the body cut if it is long; absent after a restart, until the request comes again.
    pub preview: Option<String>,
    /// What the session is for.
    pub purpose: String,
    /// What is asked for.
    pub request: Request,
    /// The policies that ask, each with whom it asks.
    pub rules: Vec<String>,
    /// The session.
    pub session: SessionId,
    /// Whether it is approved, and waits for the request to come again.
    pub settled: bool,
    /// Whether the caller is among those who are asked.
    pub yours: bool,
}

/// The answer to `approval.list`, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// The questions.
    pub questions: Vec<QuestionRow>,
}

/// `approval.answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerGiven {
    /// Yes, yes for the session, or no.
    pub answer: Answer,
    /// To which question.
    pub approval: ApprovalId,
    /// Why; recorded.
    pub note: Option<String>,
}

/// The answer to `approval.answer`: it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerTaken {
    /// Who answered.
    pub by: HumanId,
    /// Whether nobody else needs to be asked.
    pub settled: bool,
}
