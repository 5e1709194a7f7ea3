//! The evidence as the control API asks for it, within what the caller may see.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use writ_control::api::{ActionQuery, Checkpoint, LeafText, LogQuery, Story};
use writ_control::{Class, Clearance, Fault, LeafStream, Scope};
use writ_core::SessionId;
use writ_core::event::{Event, Leaf};
use writ_evidence::{Query, Reader, story};

use crate::configuration::hex;
use crate::world::World;

/// Leaves at the most when nobody asked for a number.
const LIMIT: u32 = 1_000;

/// `log.query`.
pub(crate) async fn query(world: &Arc<World>, by: &Clearance, ask: LogQuery) -> Result<LeafStream, Fault> {
    let mut query = Query {
        session: ask.session,
        agent: ask.agent,
        human: ask.human,
        service: ask.service,
        denied: ask.denied,
        since: ask.since.map(|time| time.0),
        ..Query::default()
    };
    let limit = ask.limit.unwrap_or(LIMIT);
    let scope = by.scope();
    let seer = Seer::new(world, scope)?;
    let counted = Arc::clone(world);
    let from = {
        let query = query.clone();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        off_runtime(move || counted.log.newest(&query, limit)).await?
    };
    query.from = from;
    let reading =
        Reading { reader: world.log.read(query), seer, follow: ask.follow, stop: world.stop.clone() };
    Ok(stream::unfold(reading, next).boxed())
}

struct Reading {
    reader: Reader,
    seer: Seer,
    follow: bool,
    stop: tokio_util::sync::CancellationToken,
}

/// The next leaf that the caller may see.
async fn next(mut reading: Reading) -> Option<(Result<Leaf, Fault>, Reading)> {
    loop {
        let leaf = if reading.follow {
            tokio::select! {
                leaf = reading.reader.follow() => leaf.map(Some),
                () = reading.stop.cancelled() => return None,
            }
        } else {
            reading.reader.next()
        };
        match leaf {
            Ok(Some(leaf)) if reading.seer.sees(&leaf) => return Some((Ok(leaf), reading)),
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some((Err(unreadable(&error)), reading)),
        }
    }
}

/// `action.why`.
pub(crate) async fn why(world: &Arc<World>, by: &Clearance, ask: ActionQuery) -> Result<Story, Fault> {
    let reading = Arc::clone(world);
    let leaves = off_runtime(move || reading.log.action(ask.action)).await?;
    let mut seer = Seer::new(world, by.scope())?;
    let leaves: Vec<Leaf> = leaves.into_iter().filter(|leaf| seer.sees(leaf)).collect();
    if leaves.is_empty() {
        return Err(Fault::missing("action", &ask.action));
    }
    let text = story::why(&leaves);
    Ok(Story { action: ask.action, leaves: leaves.into_iter().map(LeafText).collect(), text })
}

/// The latest checkpoint.
pub(crate) fn checkpoint(world: &World) -> Option<Checkpoint> {
    let (checkpoint, text) = world.log.checkpoint()?;
    Some(Checkpoint {
        origin: checkpoint.origin,
        root_hash: hex(&checkpoint.root),
        size: checkpoint.size,
        text,
        verifier_key: world.log.status().verifier_key,
    })
}

/// Which leaves a caller sees: all, or those of the sessions of its uid. A session's opening says whose it is, and
/// comes before everything else of it.
struct Seer {
    uid: Option<u32>,
    own: HashSet<SessionId>,
}

impl Seer {
    fn new(world: &World, scope: Scope) -> Result<Self, Fault> {
        let Scope::Uid(uid) = scope else { return Ok(Self { uid: None, own: HashSet::new() }) };
        let mut seer = Self { uid: Some(uid), own: HashSet::new() };
        let mut reader = world.log.read(Query { kind: Some("session.opened"), ..Query::default() });
        while let Some(leaf) = reader.next().map_err(|error| unreadable(&error))? {
            seer.sees(&leaf);
        }
        Ok(seer)
    }

    fn sees(&mut self, leaf: &Leaf) -> bool {
        let Some(uid) = self.uid else { return true };
        if let Event::SessionOpened(opened) = &leaf.event
            && opened.uid == uid
        {
            self.own.insert(opened.actor.session);
        }
        leaf.event.actor().is_some_and(|actor| self.own.contains(&actor.session))
    }
}

async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, writ_evidence::Error> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::local(Class::Failed, "evidence.failed", error.to_string()))?
        .map_err(|e| unreadable(&e))
}

fn unreadable(error: &writ_evidence::Error) -> Fault {
    tracing::error!(target: "writ::evidence", %error, "the evidence cannot be read");
    Fault::local(Class::Failed, "evidence.unreadable", error.to_string()).hint("run `writ verify`")
}
