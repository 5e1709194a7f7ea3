//! Deciding one action to its end: both keys, and what the policies ask for beside them.

use std::collections::BTreeSet;

use tokio_util::future::FutureExt as _;
use writ_core::event::{Counted, Keys, Terms};
use writ_core::obligation::Approve as Rule;
use writ_core::service::Needed;
use writ_core::{ApprovalId, Argument, Label, Mode, Obligation, Operation, Reason};

use crate::approval::Wanted;
use crate::gate::{Asked, Draft, Gate};
use crate::ledger::NotTaken;
use crate::limits;
use crate::port::{Moment, Owed, Verdict};

/// What an action may be done under.
pub(crate) struct Agreed {
    pub(crate) keys: Keys,
    pub(crate) terms: Terms,
}

impl Gate {
    /// Asks both keys and meets what is owed. Whatever changes meanwhile, in the session or in the policies, is decided
    /// again: what this returns was true at one moment, and is counted in the session from then on.
    pub(crate) async fn agree(
        &self,
        draft: &mut Draft<'_>,
        operation: &Operation,
        asked: &mut Asked<'_>,
    ) -> Result<Agreed, Reason> {
        let mut given: Vec<(ApprovalId, Vec<String>)> = Vec::new();
        for _ in 0..limits::DECISIONS_PER_ACTION_MAX {
            self.alive(&draft.session)?;
            let now = self.now();
            draft.labels = draft.session.ledger().labels();
            let verdict = self.decide(draft, operation, now)?;
            let is_watched = verdict.mode == Mode::Observe;
            let mut owing = Owing::of(&verdict.owed, operation)?;
            owing.labels.extend(operation.rule.labels.iter().cloned());
            if !draft.session.ledger().has_room(&owing.counted, now) {
                if !is_watched {
                    return Err(Reason::LimitReached);
                }
                draft.observed.get_or_insert(Reason::LimitReached);
                owing.counted.clear();
            }
            let (missing, approvals) = draft.missing(owing.rules, &given);
            match (missing.is_empty(), is_watched) {
                (true, _) => {}
                (false, true) => {
                    draft.observed.get_or_insert(Reason::ApprovalRequired);
                }
                (false, false) => {
                    given.push(self.approval(draft, operation, asked, &missing).await?);
                    continue;
                }
            }
            let what = (operation.rule.effect, &owing.labels);
            match draft.session.ledger().take(&draft.labels, what, &owing.counted, now) {
                Ok(acquired) => {
                    let labels = draft.labels.clone();
                    let terms = Terms { acquired, approvals, counted: owing.counted, labels };
                    return Ok(Agreed { keys: verdict.keys, terms });
                }
                Err(NotTaken::Full(reason)) if reason != Reason::LimitReached => return Err(reason),
                // Somebody else of the session was quicker.
                Err(NotTaken::Stale | NotTaken::Full(_)) => {}
            }
        }
        Err(Reason::Busy)
    }

    /// Both keys and the grants, without what is owed.
    fn decide(
        &self,
        draft: &mut Draft<'_>,
        operation: &Operation,
        at: writ_core::Timestamp,
    ) -> Result<Verdict, Reason> {
        let moment = Moment { at, programs: &draft.admitted.conn.exec };
        let verdict = self.ports().decide.decide(&draft.session, &draft.admitted.service, operation, &moment);
        draft.keys = Some(verdict.keys.clone());
        draft.observed = verdict.observed();
        if !verdict.permits() && draft.observed.is_none() {
            return Err(verdict.refusal());
        }
        if !draft.session.facts().delegation.grants.cover(operation) {
            return Err(Reason::NotGranted);
        }
        Ok(verdict)
    }

    /// Waits for people. All of the body is read first: what they approve is what is sent.
    async fn approval(
        &self,
        draft: &Draft<'_>,
        operation: &Operation,
        asked: &mut Asked<'_>,
        rules: &[(String, Rule)],
    ) -> Result<(ApprovalId, Vec<String>), Reason> {
        let request = draft.request.as_ref().ok_or(Reason::PolicyError)?;
        let wanted = Wanted {
            action: draft.id,
            session: &draft.session,
            operation,
            request,
            host: asked.host,
            head: &asked.head,
            body: asked.body.read(Needed::All).await?,
            rules,
        };
        let ended = draft.session.token();
        match self.ports().approve.ask(&wanted).with_cancellation_token_owned(ended).await {
            Some(approval) => Ok((approval?, rules.iter().map(Wanted::rule_text).collect())),
            None => Err(draft.session.cause().map_or(Reason::SessionEnded, crate::Cause::reason)),
        }
    }
}

impl Draft<'_> {
    /// The rules that nothing meets yet, and the approvals that meet the others.
    fn missing(
        &self,
        rules: Vec<(String, Rule)>,
        given: &[(ApprovalId, Vec<String>)],
    ) -> (Vec<(String, Rule)>, Vec<ApprovalId>) {
        let standing = self.request.as_ref().and_then(|request| self.session.ledger().standing(request));
        let standing = standing.map(|standing| (standing.approval, standing.rules));
        let mut approvals = BTreeSet::new();
        let mut missing = Vec::new();
        for rule in rules {
            let text = Wanted::rule_text(&rule);
            match given.iter().chain(&standing).find(|(_, met)| met.contains(&text)) {
                Some((approval, _)) => drop(approvals.insert(*approval)),
                None => missing.push(rule),
            }
        }
        (missing, approvals.into_iter().collect())
    }
}

/// What is owed, sorted by how it is met.
struct Owing {
    rules: Vec<(String, Rule)>,
    counted: Vec<Counted>,
    labels: BTreeSet<Label>,
}

impl Owing {
    fn of(owed: &[Owed], operation: &Operation) -> Result<Self, Reason> {
        let mut owing = Self { rules: Vec::new(), counted: Vec::new(), labels: BTreeSet::new() };
        for Owed { policy, obligation } in owed {
            match obligation {
                Obligation::Approve(rule) => owing.rules.push((policy.clone(), rule.clone())),
                Obligation::Limit(_) => owing.count(policy, obligation, 1),
                Obligation::Budget { argument, .. } => {
                    let amount = match operation.arguments.get(argument) {
                        Some(Argument::Integer(number)) => u64::try_from(*number).ok(),
                        _ => None,
                    };
                    owing.count(policy, obligation, amount.ok_or(Reason::ArgumentRefused)?);
                }
                Obligation::Label(labels) => owing.labels.extend(labels.iter().cloned()),
            }
        }
        Ok(owing)
    }

    fn count(&mut self, policy: &str, obligation: &Obligation, amount: u64) {
        let (obligation, policy) = (obligation.to_string(), policy.to_owned());
        self.counted.push(Counted { amount, obligation, policy });
    }
}
