//! The trust domain's authority: which keys sign, which are published, and when that changes.
//!
//! Keys come in generations: an intermediate with the chain to its root, and the keys of tokens. One is *active* and
//! signs. Before its time is half over the next one is *prepared*: it is published and signs nothing, so that whoever
//! polls bundles knows it when it begins. An *old* one signs nothing and stays published until the last thing that it
//! signed has ended.
//!
//! Nothing runs by itself: [`Authority::tick`] does what is due. Each step is stored before it is published and
//! published before it is used, so a crash at any point leaves nothing that was issued and cannot be checked.

mod generation;
mod source;
mod stored;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use writ_core::{Clock, IdSource, Timestamp, TrustDomain};

use crate::bundle::{Bundles, Publication};
use crate::issuer::{Issuer, Terms};
use crate::schedule;
use crate::{Error, IdentitySettings, Invalid, Keep};
use generation::{Generation, Phase};
pub(crate) use source::certificates;
pub use source::{CaSettings, VaultLogin, VaultSettings};
use source::{Origin, Source};
use stored::State;

/// The `Keep`, clock and randomness that an authority works with.
#[derive(Clone)]
pub struct Surroundings {
    /// Where keys are kept.
    pub keep: Arc<dyn Keep>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Randomness for serial numbers and jitter.
    pub ids: Arc<dyn IdSource>,
}

/// Something that [`Authority::tick`] did, or waits for. None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The next generation is published; it does not sign yet.
    Prepared {
        /// Which.
        generation: u64,
        /// Until when its certificate holds.
        not_after: Timestamp,
    },
    /// A generation signs from now on.
    Activated {
        /// Which.
        generation: u64,
    },
    /// A generation is no longer published: nothing that it signed is alive.
    Dropped {
        /// Which.
        generation: u64,
    },
    /// The operator must sign the request that was written.
    Waiting {
        /// The request.
        request: PathBuf,
    },
}

/// The authority of one trust domain. Shared; every method may be called from any thread.
pub struct Authority {
    trust_domain: TrustDomain,
    settings: IdentitySettings,
    surroundings: Surroundings,
    source: Source,
    publication: Arc<Publication>,
    issuer: Arc<Issuer>,
    state: Mutex<State>,
    /// What was done and not said yet.
    unsaid: StdMutex<Vec<Change>>,
    /// When the source last failed, microseconds.
    failed: AtomicU64,
}

impl Authority {
    /// Opens the authority with what was kept, or begins a new one, and does what is due.
    ///
    /// An upstream that cannot be asked, or has not signed yet, is no error: the issuer is not ready, and a later
    /// [`Authority::tick`] tries again. Keys that are kept and cannot be read are one.
    pub async fn open(
        trust_domain: TrustDomain,
        settings: IdentitySettings,
        surroundings: Surroundings,
    ) -> Result<Self, Error> {
        let state = State::load(&trust_domain, &*surroundings.keep)?;
        let source = Source::new(&settings.ca, trust_domain.clone(), settings.kind, surroundings.clone());
        let issuer = Issuer::new(Terms {
            trust_domain: trust_domain.clone(),
            lifetimes: settings.lifetimes,
            kind: settings.kind,
            issuer: settings.jwt_issuer.clone(),
            wit: settings.wit,
            clock: Arc::clone(&surroundings.clock),
            ids: Arc::clone(&surroundings.ids),
        });
        let own = state.bundle(&trust_domain, &settings)?;
        let authority = Self {
            trust_domain,
            source,
            publication: Arc::new(Publication::new(own)),
            issuer: Arc::new(issuer),
            state: Mutex::new(state),
            unsaid: StdMutex::default(),
            failed: AtomicU64::new(0),
            settings,
            surroundings,
        };
        let now = authority.surroundings.clock.now();
        authority.state.lock().await.install(&authority.issuer)?;
        match authority.begin(now).await {
            Err(
                error @ (Error::Fetch { .. }
                | Error::Answer { .. }
                | Error::Content { .. }
                | Error::Unusable { .. }),
            ) => {
                tracing::error!(target: "writ::identity", error = &error as &dyn std::error::Error, "no signing certificate");
            }
            done => done?,
        }
        Ok(authority)
    }

    /// The first turn; what it does is said by the first [`Authority::tick`].
    async fn begin(&self, now: Timestamp) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        self.turn(&mut state, now).await?;
        if self.wants_another(&state, now) {
            self.prepare(&mut state, now).await?;
        }
        Ok(())
    }

    /// What hands out identities.
    pub fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.issuer)
    }

    /// Where bundles of federated trust domains are put beside our own.
    pub fn publication(&self) -> Arc<Publication> {
        Arc::clone(&self.publication)
    }

    /// What is trusted, followed through every change.
    pub fn bundles(&self) -> watch::Receiver<Arc<Bundles>> {
        self.publication.subscribe()
    }

    /// Does what is due at `now` and says what was done since the last time that it said so. Costs next to nothing when
    /// nothing is due; to be called every few seconds. On an error what is due is tried again later, what was done is
    /// said then, and what signs goes on signing until it ends.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Change>, Error> {
        let mut state = self.state.lock().await;
        self.turn(&mut state, now).await?;
        let mut waiting = None;
        if self.wants_another(&state, now) && self.may_ask(now) {
            let asked = self.prepare(&mut state, now).await;
            if asked.is_err() {
                self.failed.store(now.micros(), Ordering::Relaxed);
            }
            waiting = asked?;
        }
        let mut changes = std::mem::take(&mut *self.unsaid.lock().unwrap_or_else(PoisonError::into_inner));
        changes.extend(waiting.map(|request| Change::Waiting { request }));
        Ok(changes)
    }

    /// Begins anew because a key may be known to others: a new root of our own where we have one, new keys, and a
    /// bundle with nothing else in it. Every identity that was issued before is worthless once this has activated a
    /// generation. Where an operator signs, the first call gives the request and another one takes what was signed.
    ///
    /// On an error nothing of what is published or signs has changed.
    pub async fn replace(&self, now: Timestamp) -> Result<Vec<Change>, Error> {
        let mut state = self.state.lock().await;
        self.source.forget().await?;
        let signed = match self.source.obtain(now, self.settings.intermediate_ttl).await? {
            Origin::Signed(signed) => signed,
            Origin::Waiting(request) => return Ok(vec![Change::Waiting { request }]),
        };
        let mut generation = Generation::new(state.numbers + 1, signed, now, &*self.surroundings.ids)?;
        generation.prove(&self.trust_domain, &self.settings, &*self.surroundings.ids, now)?;
        generation.phase = Phase::Active;
        let number = generation.number;
        let mut next = state.share();
        next.numbers = number;
        next.generations = vec![generation];
        self.commit(&mut state, next).await?;
        self.source.adopted().await?;
        Ok(vec![Change::Activated { generation: number }])
    }

    /// Asks for the next generation and publishes it; gives the request that an operator must sign first.
    async fn prepare(&self, state: &mut State, now: Timestamp) -> Result<Option<PathBuf>, Error> {
        let signed = match self.source.obtain(now, self.settings.intermediate_ttl).await? {
            Origin::Waiting(request) => return Ok(Some(request)),
            Origin::Signed(signed) => signed,
        };
        // Otherwise a crash came between storing it and forgetting its request.
        if !state.holds(&signed.chain) {
            let generation = Generation::new(state.numbers + 1, signed, now, &*self.surroundings.ids)?;
            generation.prove(&self.trust_domain, &self.settings, &*self.surroundings.ids, now)?;
            let change = Change::Prepared { generation: generation.number, not_after: generation.not_after };
            let next = state.with(generation);
            self.commit(state, next).await?;
            self.say([change]);
        }
        self.source.adopted().await?;
        self.turn(state, now).await?;
        Ok(None)
    }

    /// Stores, then publishes, then signs.
    async fn commit(&self, state: &mut State, mut next: State) -> Result<(), Error> {
        let published = next.bundle(&self.trust_domain, &self.settings)?.fingerprint();
        if next.published != published {
            next.published = published;
            next.sequence += 1;
        }
        next.store(&self.trust_domain, Arc::clone(&self.surroundings.keep)).await?;
        // Crash here: stored and unpublished; the next start publishes it before anything is signed with it.
        self.publication.set(next.bundle(&self.trust_domain, &self.settings)?);
        // Crash here: published and unused, which is what a prepared generation is anyway.
        next.install(&self.issuer)?;
        *state = next;
        Ok(())
    }

    /// Does everything that time alone brings about.
    async fn turn(&self, state: &mut State, now: Timestamp) -> Result<(), Error> {
        let mut next = state.share();
        let mut changes = Vec::new();
        let linger = self.settings.lifetimes.longest() + CLOCK_SLACK;
        next.generations.retain(|generation| {
            let dead = generation.dead(now, linger);
            if dead {
                changes.push(Change::Dropped { generation: generation.number });
            }
            !dead
        });
        if self.should_activate(&next, now) {
            for generation in &mut next.generations {
                match generation.phase {
                    Phase::Active => generation.phase = Phase::Old { since: now },
                    Phase::Prepared { .. } => {
                        generation.phase = Phase::Active;
                        changes.push(Change::Activated { generation: generation.number });
                    }
                    Phase::Old { .. } => {}
                }
            }
        }
        // The configuration may have changed what is published: the sequence must grow with it.
        let other = next.bundle(&self.trust_domain, &self.settings)?.fingerprint() != state.published;
        if !changes.is_empty() || other && !next.generations.is_empty() {
            self.commit(state, next).await?;
            self.say(changes);
        }
        Ok(())
    }

    fn say(&self, changes: impl IntoIterator<Item = Change>) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            tracing::info!(target: "writ::identity", ?change, "the authority changed");
            unsaid.push(change);
        }
    }

    /// Whether the source may be asked: while something signs, a source that failed is left alone for a moment.
    fn may_ask(&self, now: Timestamp) -> bool {
        let failed = Timestamp::from_micros(self.failed.load(Ordering::Relaxed));
        !self.issuer.is_ready() || now >= failed.plus(ASK_AGAIN) || now < failed
    }

    fn should_activate(&self, state: &State, now: Timestamp) -> bool {
        let Some(since) = state.prepared().and_then(Generation::prepared_since) else { return false };
        let Some(active) = state.active() else { return true };
        let known = now >= since.plus(self.lead(active));
        // Better a generation that not everyone knows yet than one that can sign nothing that lasts.
        let ending = now.plus(self.settings.lifetimes.x509) >= active.not_after;
        known && (now >= active.rotate_at || self.moved(active)) || ending
    }

    fn wants_another(&self, state: &State, now: Timestamp) -> bool {
        if state.prepared().is_some() {
            return false;
        }
        state
            .active()
            .is_none_or(|active| now.plus(self.lead(active)) >= active.rotate_at || self.moved(active))
    }

    /// Whether the configuration now names another authority than the one that signed this.
    fn moved(&self, generation: &Generation) -> bool {
        generation.source != self.source.name()
    }

    /// How long a generation is published before it signs: five refreshes, so that a consumer may miss a few.
    fn lead(&self, active: &Generation) -> Duration {
        let life = active.not_after.since(active.not_before);
        (self.settings.refresh_hint * LEAD_REFRESHES).min(life / 4)
    }

    /// When something that holds from `from` to `to` is best renewed.
    pub fn renew_at(&self, from: Timestamp, to: Timestamp) -> Timestamp {
        schedule::half_life(from, to, &*self.surroundings.ids)
    }
}

/// Refresh hints that pass between publication and use (SPIFFE Federation recommends three to five).
const LEAD_REFRESHES: u32 = 5;
/// How long a source that failed is left alone while something signs.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// By how much the clocks of those who check may differ from ours.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

fn unusable(origin: &str, source: Invalid, hint: &'static str) -> Error {
    Error::Unusable { origin: origin.to_owned(), source, hint }
}
