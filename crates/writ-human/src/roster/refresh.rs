//! Refreshing before the end, one at a time per grant, with rotation.
//!
//! Crash points, in the order of one refresh: before the issuer answers, nothing happened; after it rotated and before
//! the new token is stored, the old one is left on disk and will be refused as used, so the human logs in again; after
//! that, the new one stands. Nothing is ever used that is not on disk.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use writ_core::{HumanId, Secret, Timestamp};

use super::{Entry, Held, Roster, Stage, shown};
use crate::claims::{Beside, Nonce};
use crate::error::Error;
use crate::provider::Tokens;
use crate::refusal::Refusal;
use crate::signed_in::{EndCause, Person};

/// Refreshes under way at once.
const AT_ONCE: usize = 8;
/// The longest wait before looking again: wall time may jump.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Between two attempts: the first wait, doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

/// What a refresh came to.
enum Outcome {
    /// Refreshed, or there was nothing to do.
    Fine,
    /// The issuer takes it back, or says what cannot be believed.
    Over,
    /// It did not work this time.
    Again,
}

impl Roster {
    /// Refreshes what is due and ends what is over, for as long as it is polled.
    pub(crate) async fn keep_fresh(&self) {
        loop {
            self.tend().await;
            let now = self.ports.now();
            let next = self.entries().iter().map(|entry| entry.due()).min();
            let wait =
                next.map_or(LOOK_AGAIN, |next| next.since(now).clamp(Duration::from_millis(100), LOOK_AGAIN));
            tokio::select! {
                () = self.ports.pace.pause(wait) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Looks once at everything that is due, and gives back what has ended.
    pub(crate) async fn tend(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        let given_back = stream::iter(leaving).for_each_concurrent(AT_ONCE, |entry| async move {
            entry.take_back().await;
        });
        let now = self.ports.now();
        let due: Vec<_> = self.entries().into_iter().filter(|entry| entry.due() <= now).collect();
        let looked = async {
            for some in due.chunks(AT_ONCE) {
                join_all(some.iter().map(|entry| self.look_at(entry, false))).await;
            }
        };
        tokio::join!(given_back, looked);
    }

    /// Asks the issuer anew about a human, due or not.
    pub(crate) async fn recheck(&self, human: &HumanId) {
        for entry in self.of(human) {
            self.look_at(&entry, true).await;
        }
    }

    async fn look_at(&self, entry: &Arc<Entry>, forced: bool) {
        let seen = entry.shown();
        let mut held = entry.flight.lock().await;
        let now = self.ports.now();
        // Whoever had the turn before has done it.
        let done = if forced { !Arc::ptr_eq(&seen, &entry.shown()) } else { entry.due() > now };
        if done || held.stage == Stage::Gone {
            return;
        }
        let passed = seen.expires <= now;
        if passed && held.failures > 0 {
            self.lapse(entry, &mut held);
        }
        let outcome = match (&held.refresh, forced) {
            (Some(_), _) => self.refresh(entry, &mut held).await,
            // Nothing to ask with: what was proven stands until its end.
            (None, true) => return,
            (None, false) if passed => return self.finish(entry, held, EndCause::Expired).await,
            (None, false) => return entry.set_due(seen.expires),
        };
        match outcome {
            Outcome::Fine => held.failures = 0,
            Outcome::Over => self.finish(entry, held, EndCause::Refused).await,
            Outcome::Again => {
                held.failures += 1;
                let wait = (RETRY.0 * 2u32.saturating_pow(held.failures.min(16) - 1)).min(RETRY.1);
                let now = self.ports.now();
                if entry.shown().expires <= now {
                    self.lapse(entry, &mut held);
                    entry.set_due(now.plus(wait));
                } else {
                    entry.set_due(now.plus(wait).min(entry.shown().expires));
                }
            }
        }
    }

    async fn finish(&self, entry: &Arc<Entry>, mut held: tokio::sync::MutexGuard<'_, Held>, cause: EndCause) {
        held.stage = Stage::Gone;
        drop(held);
        if let Err(error) = self.end(entry, cause).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(target: "writ::human", error, "a sign-in that is over is still on disk");
        }
    }

    /// Tells, once, that the time has passed.
    fn lapse(&self, entry: &Entry, held: &mut Held) {
        if held.stage != Stage::Lapsed {
            held.stage = Stage::Lapsed;
            self.tell(entry, EndCause::Expired);
        }
    }

    async fn refresh(&self, entry: &Arc<Entry>, held: &mut Held) -> Outcome {
        if held.stage == Stage::Unsaved {
            if let Err(error) = self.save(entry, held).await {
                warn(&error, "a refresh token cannot be stored, so it is not used");
                return Outcome::Again;
            }
            held.stage = Stage::Kept;
        }
        let Some(token) = held.refresh.as_ref().map(Secret::share) else { return Outcome::Again };
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
        let mut tokens = match entry.provider.tokens(&form).await {
            Ok(tokens) => tokens,
            Err(error) if error.taken_back() => return Outcome::Over,
            Err(error) => {
                warn(&error, "a sign-in cannot be refreshed");
                return Outcome::Again;
            }
        };
        if let Some(token) = tokens.refresh.take() {
            held.refresh = Some(token);
        }
        let believed = self.believe(entry, held, &tokens).await;
        let outcome = self.taken_over(entry, held, believed);
        // Crash here: see the top.
        if matches!(outcome, Outcome::Over) {
            return outcome;
        }
        if let Err(error) = self.save(entry, held).await {
            warn(&error, "a new refresh token cannot be stored");
            held.stage = Stage::Unsaved;
        }
        outcome
    }

    fn taken_over(
        &self,
        entry: &Entry,
        held: &mut Held,
        believed: Result<(Person, Timestamp), Error>,
    ) -> Outcome {
        let (person, expires) = match believed {
            Ok(believed) => believed,
            Err(error) if error.refusal().is_some() => {
                warn(&error, "a refreshed sign-in is not believed");
                return Outcome::Over;
            }
            Err(error) => {
                warn(&error, "a refreshed sign-in cannot be verified");
                return Outcome::Again;
            }
        };
        let now = self.ports.now();
        let before = entry.shown();
        let Ok(mut fresh) = shown(&entry.provider, &person, entry.owner, before.since) else {
            return Outcome::Over;
        };
        fresh.expires = before.expires;
        held.person = person;
        entry.show(fresh);
        entry.lasts_until(expires, now);
        let after = entry.shown();
        if after.expires <= now {
            return Outcome::Over;
        }
        let lapsed = held.stage == Stage::Lapsed;
        held.stage = Stage::Kept;
        let same = before.groups == after.groups && before.acr == after.acr && before.amr == after.amr;
        if lapsed || !same {
            self.ports.tell.changed(&after);
        }
        Outcome::Fine
    }

    /// What the answer says of the human: the same human as before, or nothing is believed.
    async fn believe(
        &self,
        entry: &Entry,
        held: &Held,
        tokens: &Tokens,
    ) -> Result<(Person, Timestamp), Error> {
        let provider = &entry.provider;
        let now = self.ports.now();
        let Some(id) = &tokens.id else {
            // `OpenID` Connect Core, section 12.2: there need not be one. What was known still holds.
            let expires = tokens.expires.ok_or_else(|| provider.wrong("tokens without an end"))?;
            return Ok((held.person.clone(), expires));
        };
        let claims = provider.verified(id).await?;
        let nonce = Nonce::IfAny(held.nonce.as_deref());
        let beside = Beside { nonce, access_token: Some(&tokens.access), code: None, now };
        claims.believe_id(&provider.issuer, beside)?;
        if claims.subject()? != held.person.subject {
            return Err(Refusal::Subject.into());
        }
        let mut person = provider.person(&claims, &tokens.access).await?;
        if claims.object.get("auth_time").is_none() {
            person.auth_time = held.person.auth_time;
        }
        let expires = tokens.expires.unwrap_or(claims.required_time("exp")?);
        Ok((person, expires))
    }
}

fn warn(error: &Error, what: &'static str) {
    tracing::warn!(target: "writ::human", error = error as &dyn std::error::Error, what);
}
