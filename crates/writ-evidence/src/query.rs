//! Reading the log: what matches, oldest first, from the archive and then from what is not archived yet.

use std::sync::Arc;

use writ_core::event::{Event, Leaf};
use writ_core::{ActionId, AgentName, ApprovalId, HumanId, ServiceName, SessionId, Timestamp};

use crate::archive::read_bundle;
use crate::error::Error;
use crate::facet::Facet;
use crate::index::Wanted;
use crate::log::{Log, Shared};
use crate::tail::Entry;
use crate::tile::WIDTH;

/// What to look for; everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// For this human.
    pub human: Option<HumanId>,
    /// At this service.
    pub service: Option<ServiceName>,
    /// Refusals only.
    pub denied: bool,
    /// Recorded at this time or later.
    pub since: Option<Timestamp>,
    /// Of this action.
    pub action: Option<ActionId>,
    /// Of this kind.
    pub kind: Option<&'static str>,
    /// From this number on.
    pub from: u64,
}

/// Leaves that match, one after the other. Between two calls nothing is held.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    query: Query,
    wanted: Wanted,
    next: u64,
    /// Matching leaves of the bundle that was read last, newest first.
    ready: Vec<Leaf>,
}

impl Log {
    /// Reads what matches.
    pub fn read(&self, query: Query) -> Reader {
        Reader::new(Arc::clone(self.shared()), query)
    }

    /// The number from which on the newest `limit` matches lie; 0 if there are fewer.
    pub fn newest(&self, query: &Query, limit: usize) -> Result<u64, Error> {
        let mut reader = self.read(query.clone());
        let mut last = std::collections::VecDeque::with_capacity(limit.min(4096));
        while let Some(leaf) = reader.next()? {
            if last.len() == limit {
                last.pop_front();
            }
            last.push_back(leaf.seq);
        }
        Ok(last.front().copied().unwrap_or(0))
    }

    /// Every leaf that speaks of an action, oldest first. Its id says when it began, so only what is newer is read.
    pub fn action(&self, action: ActionId) -> Result<Vec<Leaf>, Error> {
        // An id's milliseconds are rounded down; a clock may be set back a little in between.
        let began =
            Timestamp::from_micros(u64::try_from(action.bits() >> 80).unwrap_or(0).saturating_mul(1_000));
        let since = Timestamp::from_micros(began.micros().saturating_sub(SLACK_US));
        let mut reader = self.read(Query { action: Some(action), since: Some(since), ..Query::default() });
        let mut leaves = Vec::new();
        while let Some(leaf) = reader.next()? {
            let last = matches!(leaf.event, Event::ActionClosed(_) | Event::ActionRefused(_));
            leaves.push(leaf);
            if last {
                break;
            }
        }
        let asked = self.approvals(action, &leaves)?;
        Ok(asked.into_iter().chain(leaves).collect())
    }

    /// What people were asked and said of an action: those of its session that it rests on, or that it asked first.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are not about approvals")]
    fn approvals(&self, action: ActionId, leaves: &[Leaf]) -> Result<Vec<Leaf>, Error> {
        let mut wanted: Vec<ApprovalId> = Vec::new();
        let mut asked = false;
        for leaf in leaves {
            match &leaf.event {
                Event::ActionIntended(intent) => wanted.extend(&intent.terms.approvals),
                Event::ActionRefused(refused) => asked = refused.reason.code().starts_with("approval."),
                _ => {}
            }
        }
        let session = leaves.iter().find_map(|leaf| leaf.event.actor()).map(|actor| actor.session);
        let (Some(session), true) = (session, asked || !wanted.is_empty()) else { return Ok(Vec::new()) };
        let mut reader = self.read(Query { session: Some(session), ..Query::default() });
        let mut found = Vec::new();
        while let Some(leaf) = reader.next()? {
            let about = match &leaf.event {
                Event::ApprovalRequested(event) if event.action == action => {
                    wanted.push(event.approval);
                    true
                }
                Event::ApprovalRequested(event) => wanted.contains(&event.approval),
                Event::ApprovalAnswered(event) => wanted.contains(&event.approval),
                Event::ApprovalClosed(event) => wanted.contains(&event.approval),
                _ => false,
            };
            if about {
                found.push(leaf);
            }
        }
        Ok(found)
    }
}

/// How far a clock may be set back between an id and its record.
const SLACK_US: u64 = 60_000_000;

impl Reader {
    fn new(shared: Arc<Shared>, query: Query) -> Self {
        let texts = [
            ("session", query.session.map(|v| v.to_string())),
            ("agent", query.agent.as_ref().map(ToString::to_string)),
            ("human", query.human.as_ref().map(ToString::to_string)),
            ("service", query.service.as_ref().map(ToString::to_string)),
            ("denied", query.denied.then(|| "1".to_owned())),
            ("opening", (query.kind == Some("session.opened")).then(|| "1".to_owned())),
        ];
        let wanted = texts.into_iter().filter_map(|(kind, value)| Some((kind, value?))).collect();
        let next = query.from;
        Self { shared, query, wanted, next, ready: Vec::new() }
    }

    /// The next match that is there now.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not say that reading failed and go on later"
    )]
    pub fn next(&mut self) -> Result<Option<Leaf>, Error> {
        loop {
            if let Some(leaf) = self.ready.pop() {
                return Ok(Some(leaf));
            }
            // What is in memory is read from there; only what is older needs the disk.
            let first = self.shared.tail.first();
            if self.next >= first {
                match self.shared.tail.get(self.next) {
                    Some(entry) => {
                        self.next += 1;
                        if self.matches(&entry.facet) {
                            return Ok(Some(decode(&entry)?));
                        }
                    }
                    None if self.shared.tail.first() > self.next => {}
                    None => return Ok(None),
                }
            } else {
                self.read_bundle(first)?;
            }
        }
    }

    /// The next match, waiting for it if need be.
    pub async fn follow(&mut self) -> Result<Leaf, Error> {
        let mut size = self.shared.tail.watch();
        loop {
            size.mark_unchanged();
            if let Some(leaf) = self.next()? {
                return Ok(leaf);
            }
            if size.changed().await.is_err() {
                return Err(Error::damaged("the log was closed"));
            }
        }
    }

    /// Reads the next bundle below `end` that may hold a match.
    fn read_bundle(&mut self, end: u64) -> Result<(), Error> {
        let since = self.query.since.map_or(0, Timestamp::micros);
        let bundle = self.shared.index.next_bundle(self.next / WIDTH, since, &self.wanted)?;
        let Some(bundle) = bundle.filter(|bundle| bundle * WIDTH < end) else {
            self.next = self.next.max(end);
            return Ok(());
        };
        let width = (end - bundle * WIDTH).min(WIDTH);
        let from = self.next.max(bundle * WIDTH);
        for (bytes, seq) in read_bundle(&*self.shared.storage, bundle, width)?.iter().zip(bundle * WIDTH..) {
            if seq < from {
                continue;
            }
            let leaf = Leaf::decode(bytes).map_err(|error| Error::damaged(format!("leaf {seq}: {error}")))?;
            if self.matches(&Facet::of(&leaf)) {
                self.ready.push(leaf);
            }
        }
        self.ready.reverse();
        self.next = bundle * WIDTH + width;
        Ok(())
    }

    fn matches(&self, facet: &Facet) -> bool {
        fn holds<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let query = &self.query;
        holds(query.session.as_ref(), facet.session.as_ref())
            && holds(query.agent.as_ref(), facet.agent.as_ref())
            && holds(query.human.as_ref(), facet.human.as_ref())
            && holds(query.service.as_ref(), facet.service.as_ref())
            && holds(query.action.as_ref(), facet.action.as_ref())
            && query.kind.is_none_or(|kind| facet.kind == kind)
            && (!query.denied || facet.denied)
            && query.since.is_none_or(|since| facet.time >= since)
    }
}

fn decode(entry: &Entry) -> Result<Leaf, Error> {
    Leaf::decode(&entry.bytes).map_err(|error| Error::damaged(error.to_string()))
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}
