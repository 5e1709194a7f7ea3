//! Every open question, and the order of things: recorded, then true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use writ_core::event::{
    ActionIntended, Answer, ApprovalAnswered, ApprovalClosed, ApprovalRequested, Event, Leaf,
};
use writ_core::obligation::Approve as Rule;
use writ_core::{ApprovalId, Clock, IdSource, Reason, Timestamp};
use writ_gate::{Approve, BoxFuture, Record, Session, Standing, Wanted, limits};

use crate::question::{Answerer, Asked, Question, Stage};
use crate::seal::{preview, seal, sha256};

/// What approvals ask of others.
#[derive(Clone)]
pub struct Ports {
    /// The evidence.
    pub record: Arc<dyn Record>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub ids: Arc<dyn IdSource>,
}

/// The open questions. Answers are rare and slow, so one lock orders everything, and is held while an event becomes durable.
pub struct Approvals {
    ports: Ports,
    /// How long a request waits on the wire.
    wait: Duration,
    open: Mutex<BTreeMap<ApprovalId, Asked>>,
}

/// What an answer led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Whether nobody else needs to be asked.
    pub settled: bool,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// There is no such question, or not any more.
    #[error("nobody asks for this approval now; hint: it may have been used or have expired, see `writ log`")]
    Missing,
    /// It was answered before.
    #[error("it was {0} before")]
    Settled(&'static str),
    /// The same person answered before.
    #[error("you said yes to this before; hint: its policy asks for another person too")]
    Twice,
    /// The person is none of those who are asked.
    #[error("none of its policies asks you; hint: it asks {0}")]
    NotAsked(String),
    /// It cannot hold for a session.
    #[error(
        "this can be approved for one action only; hint: its policy says `once`, or its path is too long"
    )]
    OnceOnly,
    /// The answer could not be recorded.
    #[error("the answer cannot be recorded, so it does not count: {0}")]
    Unrecorded(String),
}

impl Approvals {
    /// No questions yet.
    pub fn new(ports: Ports) -> Self {
        Self::waiting(ports, limits::APPROVAL_WAIT)
    }

    /// As [`Self::new`], with another time for a request to wait.
    pub fn waiting(ports: Ports, wait: Duration) -> Self {
        Self { ports, wait, open: Mutex::default() }
    }

    /// The questions that this person may answer, or all; oldest first.
    pub async fn list(&self, of: Option<&Answerer>) -> Vec<Question> {
        let open = self.swept().await;
        let theirs = |asked: &&Asked| of.is_none_or(|by| !asked.met_by(by).is_empty());
        let shown = open.values().filter(|asked| asked.is(Stage::Waiting) || asked.is(Stage::Approved));
        shown.filter(theirs).map(Asked::question).collect()
    }

    /// Takes an answer. When this returns it is on record.
    pub async fn answer(
        &self,
        id: ApprovalId,
        by: &Answerer,
        answer: Answer,
        note: Option<String>,
    ) -> Result<Answered, NotAnswered> {
        let mut open = self.swept().await;
        let asked = open.get_mut(&id).ok_or(NotAnswered::Missing)?;
        let meets = asked.met_by(by);
        if meets.is_empty() {
            return Err(NotAnswered::NotAsked(asked.rule_texts().join("; ")));
        }
        match *asked.stage.borrow() {
            Stage::Waiting => {}
            Stage::Approved => return Err(NotAnswered::Settled("approved")),
            Stage::Denied => return Err(NotAnswered::Settled("denied")),
            Stage::Over => return Err(NotAnswered::Missing),
        }
        let settled = match answer {
            Answer::Denied => true,
            _ if asked.has_answered(&by.human) => return Err(NotAnswered::Twice),
            Answer::ApprovedForSession if !asked.may_stand() => return Err(NotAnswered::OnceOnly),
            Answer::Approved | Answer::ApprovedForSession => asked.would_settle(&meets),
        };
        let event = ApprovalAnswered {
            actor: asked.session.actor(),
            answer,
            approval: id,
            by: by.human.clone(),
            meets: meets.clone(),
            note,
            settled,
        };
        let recorded = self.ports.record.fact(event.into()).await;
        // Crash here: the answer is on record, and the next start finds it there.
        recorded.map_err(|error| NotAnswered::Unrecorded(error.to_string()))?;
        asked.take(answer, by.human.clone(), meets, settled);
        stand(asked);
        Ok(Answered { settled })
    }

    /// Ends what can be answered or used no more.
    pub async fn expire_due(&self) {
        drop(self.swept().await);
    }

    /// Enters what the record says, oldest first, of a session that is live again. For a daemon that starts; blocks, and is
    /// not to be called on a runtime's thread.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are not about approvals")]
    pub fn recall(&self, leaf: &Leaf, session: &Arc<Session>) {
        let mut open = self.open.blocking_lock();
        match &leaf.event {
            Event::ApprovalRequested(event) => {
                // What cannot be read back cannot be answered: its action is refused, and asks anew.
                let Some(rules) = Asked::rules_on_record(event) else { return };
                let asked = Asked::new((**event).clone(), leaf.time, Arc::clone(session), rules);
                open.insert(event.approval, asked);
            }
            Event::ApprovalAnswered(event) => {
                let Some(asked) = open.get_mut(&event.approval) else { return };
                asked.take(event.answer, event.by.clone(), event.meets.clone(), event.settled);
                stand(asked);
            }
            Event::ApprovalClosed(event) => drop(open.remove(&event.approval)),
            Event::ActionIntended(intent) => spend(&mut open, intent),
            _ => {}
        }
    }

    /// The open questions, without those whose time is over.
    async fn swept(&self) -> MutexGuard<'_, BTreeMap<ApprovalId, Asked>> {
        let mut open = self.open.lock().await;
        let now = self.ports.clock.now();
        open.retain(|id, asked| {
            let cause = match asked.session.cause() {
                Some(_) => "session-ended",
                None if asked.event.expires_us <= now => "expired",
                None => return true,
            };
            // What was denied is over already, and what stands goes on: that they are forgotten here is nothing to tell.
            if !asked.is(Stage::Denied) && !asked.stands() {
                let (actor, cause) = (asked.session.actor(), cause.to_owned());
                self.ports.record.note(ApprovalClosed { actor, approval: *id, cause }.into());
            }
            asked.stage.send_replace(Stage::Over);
            false
        });
        open
    }

    /// The question that this request asks: one that is open, or a new one, which is then on record.
    async fn question(
        &self,
        wanted: &Wanted<'_>,
        seal: &str,
    ) -> Result<(ApprovalId, watch::Receiver<Stage>), Reason> {
        let mut open = self.swept().await;
        let is_same = |asked: &&mut Asked| asked.is_about(wanted.session, seal, wanted.rules);
        if let Some(asked) = open.values_mut().find(is_same) {
            asked.preview.get_or_insert_with(|| preview(wanted));
            return Ok((asked.event.approval, asked.stage.subscribe()));
        }
        let session = wanted.session.facts().id;
        let own = open.values().filter(|asked| asked.session.facts().id == session).count();
        if open.len() >= limits::APPROVALS_MAX || own >= limits::APPROVALS_PER_SESSION_MAX {
            return Err(Reason::Busy);
        }
        let now = self.ports.clock.now();
        let event = self.event(wanted, seal, now);
        let recorded = self.ports.record.fact(event.clone().into()).await;
        recorded.map_err(|_| Reason::EvidenceUnavailable)?;
        let (id, rules) = (event.approval, wanted.rules.to_vec());
        let mut asked = Asked::new(event, now, Arc::clone(wanted.session), rules);
        asked.preview = Some(preview(wanted));
        let stage = asked.stage.subscribe();
        open.insert(id, asked);
        Ok((id, stage))
    }

    fn event(&self, wanted: &Wanted<'_>, seal: &str, now: Timestamp) -> ApprovalRequested {
        let ttl = wanted.rules.iter().map(|(_, rule)| rule.ttl).min().unwrap_or(Rule::TTL_DEFAULT);
        ApprovalRequested {
            action: wanted.action,
            actor: wanted.session.actor(),
            approval: ApprovalId::new(now, &*self.ports.ids),
            body_bytes: u64::try_from(wanted.body.len()).unwrap_or(u64::MAX),
            body_sha256: sha256(wanted.body),
            expires_us: now.plus(ttl).min(wanted.session.expires()),
            request: wanted.request.clone(),
            rules: wanted.rules.iter().map(Wanted::rule_text).collect(),
            seal: seal.to_owned(),
        }
    }

    /// Spends a yes for one action. `false` if another action was quicker.
    async fn spent(&self, id: ApprovalId) -> bool {
        let mut open = self.swept().await;
        match open.get(&id) {
            Some(asked) if asked.is(Stage::Approved) => {
                open.remove(&id);
                true
            }
            _ => false,
        }
    }

    async fn settled(&self, wanted: &Wanted<'_>) -> Result<ApprovalId, Reason> {
        let seal = seal(wanted);
        loop {
            let (id, mut stage) = self.question(wanted, &seal).await?;
            let settled = stage.wait_for(|stage| *stage != Stage::Waiting).await.map(|stage| *stage);
            match settled {
                Ok(Stage::Approved) if self.spent(id).await => return Ok(id),
                // Another action of the same request took it; this one asks for itself.
                Ok(Stage::Approved | Stage::Waiting) => {}
                Ok(Stage::Denied) => return Err(Reason::ApprovalDenied),
                Ok(Stage::Over) | Err(_) => return Err(Reason::ApprovalExpired),
            }
        }
    }
}

impl Approve for Approvals {
    fn ask<'a>(&'a self, wanted: &'a Wanted<'a>) -> BoxFuture<'a, Result<ApprovalId, Reason>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.wait, self.settled(wanted)).await;
            answer.unwrap_or(Err(Reason::ApprovalPending))
        })
    }
}

/// Lets a yes for the session hold.
fn stand(asked: &Asked) {
    if asked.is(Stage::Approved) && asked.stands() {
        let standing = Standing { approval: asked.event.approval, rules: asked.rule_texts() };
        asked.session.ledger().stand(&asked.event.request, standing);
    }
}

fn spend(open: &mut BTreeMap<ApprovalId, Asked>, intent: &ActionIntended) {
    for approval in &intent.terms.approvals {
        open.remove(approval);
    }
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approvals")
    }
}
