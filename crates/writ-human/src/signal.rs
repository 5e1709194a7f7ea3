//! Shared Signals: what a transmitter tells about its humans (`OpenID` SSF 1.0, CAEP 1.0, RISC 1.0; RFC 8417).
//!
//! A transmitter belongs to one issuer and speaks about that issuer's humans only: its word about others moves
//! nothing. What ends, ends in memory and at whoever is told before anything else happens; the answer to the
//! transmitter waits until it is durable.

mod event;
mod poll;
mod push;
mod set;
mod subject;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use writ_core::{HumanId, Timestamp};
use writ_gate::limits;

use crate::caller::Callers;
use crate::cuts::Cuts;
use crate::error::Error;
use crate::issuer::{Delivery, IssuerName, Transmitter};
use crate::keys::Keys;
use crate::people::end;
use crate::provider::{Ports, Provider};
use crate::refusal::Refusal;
use crate::roster::Roster;
use crate::signed_in::EndCause;

pub use event::{Action, Event};
pub use subject::Subject;

/// What a transmitter said, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Its id at the transmitter (`jti`).
    pub id: String,
    /// How configuration calls the issuer whose transmitter it was.
    pub issuer: IssuerName,
    /// What happened.
    pub event: Event,
    /// What follows from it here.
    pub action: Action,
    /// The humans that it names, as far as they are known or can be named.
    pub humans: Vec<HumanId>,
    /// When it happened, if the transmitter says so; when it was issued otherwise.
    pub at: Timestamp,
}

/// Receives signals.
pub struct Signals {
    sources: Vec<Arc<Source>>,
    ports: Option<Ports>,
    roster: Arc<Roster>,
    callers: Arc<Callers>,
    cuts: Arc<Cuts>,
}

/// One transmitter.
struct Source {
    provider: Arc<Provider>,
    transmitter: Transmitter,
    keys: Keys,
    seen: Mutex<HashMap<String, Timestamp>>,
}

impl Signals {
    pub(crate) fn new(
        providers: &HashMap<IssuerName, Arc<Provider>>,
        roster: Arc<Roster>,
        callers: Arc<Callers>,
        cuts: Arc<Cuts>,
    ) -> Self {
        let source = |provider: &Arc<Provider>| {
            let transmitter = provider.issuer.signals.clone()?;
            let provider = Arc::clone(provider);
            Some(Arc::new(Source { provider, transmitter, keys: Keys::new(), seen: Mutex::default() }))
        };
        let sources: Vec<_> = providers.values().filter_map(source).collect();
        let ports = sources.first().map(|source| source.provider.ports.clone());
        Self { sources, ports, roster, callers, cuts }
    }

    /// Whether a transmitter is configured to send here: whether a path for it is wanted.
    pub fn takes_push(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.transmitter.delivery, Delivery::Push { .. }))
    }

    /// Fetches from every transmitter that is polled, for as long as it is polled itself.
    pub(crate) async fn listen(&self) {
        join_all(self.sources.iter().map(|source| self.fetch_from(source))).await;
    }

    /// Verifies one security event token and does what follows. Durable when it returns.
    async fn take(&self, source: &Source, token: &str) -> Result<(), Error> {
        let said = source.verified(token).await?;
        if !source.is_new(&said.id, said.issued) {
            return Err(Refusal::Replayed.into());
        }
        let done = self.act(source, &said).await;
        if done.is_err() {
            // It must be taken when it is sent again.
            source.forget(&said.id);
        }
        done
    }

    async fn act(&self, source: &Source, said: &set::Said) -> Result<(), Error> {
        let mut done = Ok(());
        for happened in &said.events {
            let humans = self.humans(source, &happened.subject);
            let signal = Signal {
                id: said.id.clone(),
                issuer: Arc::clone(&source.provider.issuer.name),
                event: happened.event.clone(),
                action: happened.event.action(),
                humans,
                at: happened.at.unwrap_or(said.issued),
            };
            let acted = self.follow(source, &signal).await;
            done = done.and(acted);
        }
        done
    }

    async fn follow(&self, source: &Source, signal: &Signal) -> Result<(), Error> {
        tracing::info!(
            target: "writ::human", issuer = %signal.issuer, event = signal.event.as_str(),
            action = signal.action.as_str(), humans = signal.humans.len(), "a signal"
        );
        let ports = &source.provider.ports;
        let mut done = Ok(());
        match signal.action {
            Action::End => {
                for human in &signal.humans {
                    let ended = end(human, EndCause::Signalled, (&self.roster, &self.cuts, ports)).await;
                    done = done.and(ended);
                }
            }
            Action::Recheck => {
                join_all(signal.humans.iter().map(|human| self.roster.recheck(human))).await;
            }
            Action::Note => {}
        }
        ports.tell.signalled(signal);
        done
    }

    /// The humans that a subject names: only this issuer's.
    fn humans(&self, source: &Source, subject: &Subject) -> Vec<HumanId> {
        let issuer = &source.provider.issuer;
        let mut humans = Vec::new();
        for part in subject.parts() {
            match part {
                Subject::IssSub { iss, sub } if *iss == issuer.issuer => {
                    humans.extend(crate::signed_in::human_id(iss, sub).ok());
                }
                Subject::Opaque(id) => humans.extend(crate::signed_in::human_id(&issuer.issuer, id).ok()),
                Subject::Email(email) => {
                    humans.extend(self.roster.with_email(&issuer.name, email));
                    humans.extend(self.callers.with_email(&issuer.name, email));
                }
                Subject::IssSub { .. } | Subject::Several(_) | Subject::Other => {}
            }
        }
        humans.sort();
        humans.dedup();
        humans
    }
}

/// Whether an event that is not believed now may be later: its key may be newer than those known.
fn is_for_later(error: &Error) -> bool {
    error.refusal() == Some(Refusal::KeyLater)
}

impl Source {
    /// Whether a signal was not seen before; it then has been.
    fn is_new(&self, id: &str, issued: Timestamp) -> bool {
        let now = self.provider.ports.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains_key(id) {
            return false;
        }
        if seen.len() >= limits::SIGNALS_REMEMBERED_MAX {
            seen.retain(|_, at| now.since(*at) <= limits::SIGNAL_AGE_MAX);
        }
        if seen.len() >= limits::SIGNALS_REMEMBERED_MAX {
            // To refuse new ones would be worse than to take an old one twice: all that follows is an end.
            let eldest = seen.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            eldest.and_then(|id| seen.remove(&id));
        }
        seen.insert(id.to_owned(), issued);
        true
    }

    fn forget(&self, id: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}
