//! Who is signed in: in memory for those who ask, sealed on disk for the next start of the daemon.
//!
//! Invariants: [`Roster::who`] touches neither disk nor network; of a grant's refresh tokens one is used at a time and
//! never twice, the new one being stored before it is used; what has ended is not answered for when it is told.
//!
//! The disk lock orders what is written: a record is written only for who holds the seat in memory, and removed only
//! when nobody does.

mod record;
mod refresh;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Mutex as Turn, Notify};
use writ_core::{HumanId, Secret, Timestamp};
use writ_gate::limits;

use crate::error::Error;
use crate::issuer::IssuerName;
use crate::keep::KeepError;
use crate::provider::{Ports, Provider, blocking};
use crate::signed_in::{EndCause, Ended, LoginOwner, Person, Seat, SignedIn, human_id};

/// Everybody who is signed in.
pub(crate) struct Roster {
    ports: Ports,
    /// Which start of the machine this is: audit sessions are numbered anew at each.
    boot: String,
    seats: RwLock<HashMap<Seat, Arc<Entry>>>,
    disk: Turn<()>,
    changed: Notify,
    /// Sign-ins that ended and whose tokens the issuer shall have back: whoever ends many waits for no issuer. What is
    /// here when the daemon dies is left to expire.
    leaving: Mutex<Vec<Arc<Entry>>>,
}

/// One sign-in.
pub(crate) struct Entry {
    provider: Arc<Provider>,
    owner: LoginOwner,
    shown: Mutex<Arc<SignedIn>>,
    /// When it must be looked at next, microseconds.
    due: AtomicU64,
    /// Held by whoever refreshes: the second waits.
    flight: Turn<Held>,
}

/// What proves the sign-in to the issuer.
pub(crate) struct Held {
    pub(crate) refresh: Option<Secret<str>>,
    /// Only where there is no refresh token: what a sign-out takes back.
    pub(crate) access: Option<Secret<str>>,
    pub(crate) nonce: Option<String>,
    pub(crate) person: Person,
    stage: Stage,
    failures: u32,
}

/// Where a sign-in stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// As it is on disk.
    Kept,
    /// The newest refresh token is in memory only: it must not be used before it is stored.
    Unsaved,
    /// Its time passed, and that was told; a refresh may bring it back.
    Lapsed,
    /// It is over.
    Gone,
}

/// A sign-in that begins.
pub(crate) struct Arrival {
    pub(crate) provider: Arc<Provider>,
    pub(crate) owner: LoginOwner,
    pub(crate) person: Person,
    pub(crate) nonce: Option<String>,
    pub(crate) refresh: Option<Secret<str>>,
    pub(crate) access: Option<Secret<str>>,
    pub(crate) expires: Timestamp,
}

/// What a sign-out came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOut {
    /// Who it was.
    pub human: HumanId,
    /// Whether the issuer took back what it had given.
    pub revoked: bool,
    /// Where a browser ends the session at the issuer, if it has such a place.
    pub end_session: Option<String>,
}

impl Roster {
    pub(crate) fn new(ports: Ports, boot: String) -> Self {
        Self {
            ports,
            boot,
            seats: RwLock::default(),
            disk: Turn::new(()),
            changed: Notify::new(),
            leaving: Mutex::default(),
        }
    }

    /// Who is signed in there. From memory.
    pub(crate) fn who(&self, seat: Seat) -> Option<Arc<SignedIn>> {
        let shown = self.entry(seat)?.shown();
        (shown.expires > self.ports.now()).then_some(shown)
    }

    /// Everybody whose time has not passed.
    pub(crate) fn all(&self) -> Vec<Arc<SignedIn>> {
        let now = self.ports.now();
        let mut all: Vec<_> = self.entries().iter().map(|entry| entry.shown()).collect();
        all.retain(|shown| shown.expires > now);
        all.sort_by_key(|shown| shown.owner.seat());
        all
    }

    /// The humans of an issuer that have this address, lapsed ones included.
    pub(crate) fn with_email(&self, issuer: &IssuerName, email: &str) -> Vec<HumanId> {
        let shown = self.entries().into_iter().map(|entry| entry.shown());
        let same = |shown: &Arc<SignedIn>| {
            shown.issuer == *issuer
                && shown.email.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(email))
        };
        shown.filter(same).map(|shown| shown.human.clone()).collect()
    }

    /// Signs somebody in. Durable when it returns.
    pub(crate) async fn sign_in(&self, arrival: Arrival) -> Result<Arc<SignedIn>, Error> {
        let entry = Arc::new(Entry::new(arrival, self.ports.now())?);
        let seat = entry.owner.seat();
        let shown = entry.shown();
        let before = {
            let _disk = self.disk.lock().await;
            if let Some(lapsed) = self.make_room(seat)? {
                self.clear_room(&lapsed).await?;
            }
            self.write(&entry, &*entry.flight.lock().await).await?;
            // Crash here: the next start finds the new sign-in; what the old one stood for is not told, and its
            // sessions are judged by who is signed in then.
            let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
            seats.insert(seat, Arc::clone(&entry))
        };
        self.changed.notify_one();
        if let Some(before) = before {
            let old = before.shown();
            if old.human != shown.human {
                self.tell(&before, EndCause::Replaced);
            }
            before.take_back().await;
        }
        Ok(shown)
    }

    /// Signs out and takes back what the issuer gave. `None` if nobody was signed in.
    pub(crate) async fn sign_out(&self, seat: Seat) -> Result<Option<SignedOut>, Error> {
        let Some(entry) = self.entry(seat) else { return Ok(None) };
        let forgotten = self.end(&entry, EndCause::SignedOut).await;
        let human = entry.shown().human.clone();
        let revoked = entry.take_back().await;
        let end_session = match entry.provider.metadata().await {
            Ok(metadata) => metadata.end_session.as_ref().map(|place| {
                place.with_query(&crate::form::query(&[("client_id", &entry.provider.issuer.client_id)]))
            }),
            Err(_) => None,
        };
        forgotten?;
        Ok(Some(SignedOut { human, revoked, end_session }))
    }

    /// Ends every sign-in of a human in memory, and tells. The disk comes with [`Roster::clear_away`].
    pub(crate) fn expel(&self, human: &HumanId, cause: EndCause) -> Vec<Arc<Entry>> {
        let mut gone = self.of(human);
        gone.retain(|entry| self.vanish(entry, cause));
        gone
    }

    /// Erases what is left of sign-ins that have ended; the first error is returned when all has been tried. Their
    /// tokens are given back by [`Roster::tend`].
    pub(crate) async fn clear_away(&self, gone: Vec<Arc<Entry>>) -> Result<(), Error> {
        let mut done = Ok(());
        for entry in &gone {
            let erased = self.erase(entry).await;
            done = done.and(erased);
        }
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).extend(gone);
        self.changed.notify_one();
        done
    }

    fn of(&self, human: &HumanId) -> Vec<Arc<Entry>> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.shown().human == *human);
        entries
    }

    /// Memory first and told at once; then the disk.
    async fn end(&self, entry: &Arc<Entry>, cause: EndCause) -> Result<(), Error> {
        if self.vanish(entry, cause) { self.erase(entry).await } else { Ok(()) }
    }

    /// Takes the entry from its seat and tells. Whether it still was there.
    fn vanish(&self, entry: &Arc<Entry>, cause: EndCause) -> bool {
        let seat = entry.owner.seat();
        {
            let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
            if !seats.get(&seat).is_some_and(|current| Arc::ptr_eq(current, entry)) {
                return false;
            }
            seats.remove(&seat);
        }
        self.tell(entry, cause);
        true
    }

    /// Removes the record, unless somebody has taken the seat since.
    async fn erase(&self, entry: &Entry) -> Result<(), Error> {
        // Crash here: the record is found again; if its refresh token was taken back it ends at its first refresh.
        let seat = entry.owner.seat();
        let _disk = self.disk.lock().await;
        if self.entry(seat).is_none() {
            let (keep, name) = (Arc::clone(&self.ports.keep), record::name(seat)?);
            blocking(move || keep.remove(&name)).await?;
        }
        Ok(())
    }

    /// Writes the record, if the entry still holds its seat.
    async fn save(&self, entry: &Arc<Entry>, held: &Held) -> Result<(), Error> {
        let _disk = self.disk.lock().await;
        let current = self.entry(entry.owner.seat());
        if current.is_some_and(|current| Arc::ptr_eq(&current, entry)) {
            self.write(entry, held).await?;
        }
        Ok(())
    }

    async fn write(&self, entry: &Entry, held: &Held) -> Result<(), Error> {
        let sealed = record::written(entry, held, &self.boot)?;
        let (keep, name) = (Arc::clone(&self.ports.keep), record::name(entry.owner.seat())?);
        Ok(blocking(move || keep.store(&name, &sealed)).await?)
    }

    fn tell(&self, entry: &Entry, cause: EndCause) {
        let human = entry.shown().human.clone();
        tracing::info!(target: "writ::human", %human, cause = cause.as_str(), "a sign-in has ended");
        self.ports.tell.ended(&Ended { human, owner: Some(entry.owner), cause });
    }

    /// Room for one more: whoever's time passed first makes it. Who that was, if it was needed.
    fn make_room(&self, seat: Seat) -> Result<Option<Arc<Entry>>, Error> {
        let now = self.ports.now();
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        if seats.len() < limits::SIGN_INS_MAX || seats.contains_key(&seat) {
            return Ok(None);
        }
        let lapsed = seats.iter().filter(|(_, entry)| entry.shown().expires <= now);
        let eldest = lapsed.min_by_key(|(_, entry)| entry.shown().expires).map(|(seat, _)| *seat);
        let eldest = eldest.ok_or(Error::Full { max: limits::SIGN_INS_MAX })?;
        Ok(seats.remove(&eldest))
    }

    /// Tells and erases what made room; the disk lock is the caller's.
    async fn clear_room(&self, lapsed: &Entry) -> Result<(), Error> {
        let told = lapsed.flight.try_lock().is_ok_and(|held| held.stage == Stage::Lapsed);
        if !told {
            self.tell(lapsed, EndCause::Expired);
        }
        let (keep, name) = (Arc::clone(&self.ports.keep), record::name(lapsed.owner.seat())?);
        Ok(blocking(move || keep.remove(&name)).await?)
    }

    fn is_full(&self) -> bool {
        self.seats.read().unwrap_or_else(PoisonError::into_inner).len() >= limits::SIGN_INS_MAX
    }

    fn entry(&self, seat: Seat) -> Option<Arc<Entry>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner).get(&seat).map(Arc::clone)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }
}

impl Entry {
    fn new(arrival: Arrival, now: Timestamp) -> Result<Self, Error> {
        let Arrival { provider, owner, person, nonce, refresh, access, expires } = arrival;
        let shown = shown(&provider, &person, owner, now)?;
        let held = Held {
            access: if refresh.is_some() { None } else { access },
            refresh,
            nonce,
            person,
            stage: Stage::Kept,
            failures: 0,
        };
        let entry = Self {
            provider,
            owner,
            shown: Mutex::new(Arc::new(shown)),
            due: AtomicU64::new(0),
            flight: Turn::new(held),
        };
        entry.lasts_until(expires, now);
        Ok(entry)
    }

    fn shown(&self) -> Arc<SignedIn> {
        Arc::clone(&self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, shown: SignedIn) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
    }

    fn due(&self) -> Timestamp {
        Timestamp::from_micros(self.due.load(Ordering::Relaxed))
    }

    fn set_due(&self, at: Timestamp) {
        self.due.store(at.micros(), Ordering::Relaxed);
    }

    /// Sets the end, bounded by how old the authentication may become, and when to refresh: at four fifths.
    fn lasts_until(&self, expires: Timestamp, now: Timestamp) {
        let mut shown = SignedIn::clone(&self.shown());
        shown.expires = match (self.provider.issuer.max_age, shown.auth_time) {
            (Some(age), Some(at)) => expires.min(at.plus(age)),
            _ => expires,
        };
        let left = shown.expires.since(now);
        self.set_due(now.plus(left * 4 / 5));
        self.show(shown);
    }

    /// Gives the tokens back to the issuer; whoever is refreshing is waited for. Whether they were taken.
    async fn take_back(&self) -> bool {
        let mut held = self.flight.lock().await;
        held.stage = Stage::Gone;
        let (token, hint) = match (held.refresh.take(), held.access.take()) {
            (Some(token), _) => (token, "refresh_token"),
            (None, Some(token)) => (token, "access_token"),
            (None, None) => return false,
        };
        match self.provider.revoke(&token, hint).await {
            Ok(revoked) => revoked,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(target: "writ::human", error, "tokens could not be given back");
                false
            }
        }
    }
}

fn shown(
    provider: &Provider,
    person: &Person,
    owner: LoginOwner,
    since: Timestamp,
) -> Result<SignedIn, Error> {
    Ok(SignedIn {
        human: human_id(&provider.issuer.issuer, &person.subject)?,
        issuer: Arc::clone(&provider.issuer.name),
        subject: person.subject.clone(),
        display: person.display.clone(),
        email: person.email.clone(),
        groups: person.groups.clone(),
        amr: person.amr.clone(),
        acr: person.acr.clone(),
        auth_time: person.auth_time,
        since,
        expires: since,
        owner,
    })
}

/// The name of the store's entry cannot be made; it always can.
fn unnamed(error: writ_core::NameError) -> Error {
    Error::Keep(KeepError(Box::new(error)))
}
