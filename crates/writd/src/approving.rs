//! Approvals as the control API asks for them, and the past of sessions that outlived the daemon.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use writ_approval::{Answerer, NotAnswered, Question};
use writ_control::api::{AnswerGiven, AnswerTaken, QuestionRow, Questions};
use writ_control::{Class, Clearance, Fault, Scope};
use writ_core::event::Event;
use writ_core::{RunId, SessionId, Timestamp};
use writ_evidence::Query;
use writ_gate::{Ledger, Session};
use writ_session::Live;

use crate::people;
use crate::world::World;

/// `approval.list`: administrators see every question, others those that they may answer and those of their own sessions.
pub(crate) async fn list(world: &World, by: &Clearance) -> Result<Questions, Fault> {
    let answerer = answerer(world, by).await?;
    let all = world.approvals.list(None).await;
    let theirs = world.approvals.list(Some(&answerer)).await;
    let is_theirs = |question: &Question| theirs.iter().any(|it| it.id == question.id);
    let is_shown = |question: &Question| match by.scope() {
        Scope::All => true,
        Scope::Uid(uid) => is_theirs(question) || question.session.facts().human.uid == uid,
    };
    let rows = all.into_iter().filter(is_shown).map(|question| {
        let yours = is_theirs(&question);
        row(question, yours)
    });
    Ok(Questions { questions: rows.collect() })
}

/// `approval.answer`.
pub(crate) async fn answer(world: &World, by: &Clearance, ask: AnswerGiven) -> Result<AnswerTaken, Fault> {
    let answerer = answerer(world, by).await?;
    let taken = world.approvals.answer(ask.approval, &answerer, ask.answer, ask.note).await;
    let taken = taken.map_err(|error| {
        let class = match &error {
            NotAnswered::Missing => Class::Missing,
            NotAnswered::NotAsked(_) => Class::Denied,
            NotAnswered::Settled(_) | NotAnswered::Twice | NotAnswered::OnceOnly => Class::Usage,
            NotAnswered::Unrecorded(_) => {
                return Fault::local(Class::Failed, "evidence.failed", error.to_string());
            }
        };
        Fault::caller(class, "approval.not_taken", error.to_string())
    })?;
    Ok(AnswerTaken { by: answerer.human, settled: taken.settled })
}

async fn answerer(world: &World, by: &Clearance) -> Result<Answerer, Fault> {
    let human = people::caller(world, by).await?;
    let configuration = world.configuration.load();
    let owned = configuration.agents.values().filter(|agent| agent.owner_human.as_ref() == Some(&human.id));
    Ok(Answerer {
        owns: owned.map(|agent| agent.name.clone()).collect(),
        human: human.id,
        groups: human.groups,
    })
}

fn row(question: Question, yours: bool) -> QuestionRow {
    let facts = question.session.facts();
    QuestionRow {
        agent: facts.agent.clone(),
        approval: question.id,
        approved_by: question.approved_by,
        asked: question.asked.into(),
        body_bytes: question.body_bytes,
        body_sha256: question.body_sha256,
        expires: question.expires.into(),
        human: facts.human.id.clone(),
        preview: question.preview,
        purpose: facts.purpose.clone(),
        request: question.request,
        rules: question.rules,
        session: facts.id,
        settled: question.is_settled,
        yours,
    }
}

/// Ends questions whose time is over, until the daemon stops.
pub(crate) async fn tend(world: Arc<World>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => world.approvals.expire_due().await,
            () = world.stop.cancelled() => return,
        }
    }
}

/// Makes the ledgers and open questions of the live sessions again, from the evidence. Called before anything may act.
pub(crate) async fn recall(world: &Arc<World>) -> anyhow::Result<()> {
    let reading = Arc::clone(world);
    tokio::task::spawn_blocking(move || Past::of(&reading).and_then(|past| past.recall(&reading)))
        .await?
        .context("what the live sessions did before cannot be read from the evidence")
}

/// Sessions whose past counts: the live ones, and those that shared a ledger with them.
struct Past(Vec<Member>);

struct Member {
    id: SessionId,
    opened: Timestamp,
    ledger: Arc<Ledger>,
    /// The session, if it is live.
    session: Option<Arc<Session>>,
}

impl Past {
    fn of(world: &World) -> anyhow::Result<Self> {
        let live = world.registry.list();
        let mut ledgers: HashMap<RunId, Arc<Ledger>> = HashMap::new();
        let mut since: Option<Timestamp> = None;
        for Live { session, .. } in live.iter().map(AsRef::as_ref) {
            let (facts, eldest) = (session.facts(), session.facts().delegation.parents.first());
            let (root, run) = eldest.map_or((facts.id, facts.run), |eldest| (eldest.session, eldest.run));
            ledgers.insert(run, Arc::clone(session.ledger()));
            let opened = began(root);
            since = Some(since.map_or(opened, |since| since.min(opened)));
        }
        let mut past = Self(Vec::new());
        let Some(since) = since else { return Ok(past) };
        let opened = Query { kind: Some("session.opened"), since: Some(since), ..Query::default() };
        let mut reader = world.log.read(opened);
        while let Some(leaf) = reader.next()? {
            let Event::SessionOpened(opened) = &leaf.event else { continue };
            let run = opened.parents.first().copied().unwrap_or(opened.actor.run);
            let Some(ledger) = ledgers.get(&run) else { continue };
            let id = opened.actor.session;
            let session = live.iter().find(|live| live.session.facts().id == id);
            let session = session.map(|live| Arc::clone(&live.session));
            past.0.push(Member { id, opened: leaf.time, ledger: Arc::clone(ledger), session });
        }
        Ok(past)
    }

    fn recall(self, world: &World) -> anyhow::Result<()> {
        for Member { id, opened, ledger, session } in self.0 {
            let query = Query { session: Some(id), since: Some(opened), ..Query::default() };
            let mut reader = world.log.read(query);
            while let Some(leaf) = reader.next()? {
                if let Event::ActionIntended(intent) = &leaf.event {
                    ledger.recall(intent, leaf.time);
                }
                if let Some(session) = &session {
                    world.approvals.recall(&leaf, session);
                }
            }
        }
        Ok(())
    }
}

/// When a session was opened at the latest: its id is made before.
fn began(session: SessionId) -> Timestamp {
    /// How far a clock may be set back between an id and its record.
    const SLACK_US: u64 = 60_000_000;
    let millis = u64::try_from(session.bits() >> 80).unwrap_or(0);
    Timestamp::from_micros(millis.saturating_mul(1_000).saturating_sub(SLACK_US))
}
