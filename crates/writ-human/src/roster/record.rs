//! A sign-in as it is kept, sealed, for the next start of the daemon.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use writ_core::{Secret, SecretName, Timestamp};
use zeroize::Zeroize;

use super::{Arrival, Entry, Held, Roster, unnamed};
use crate::error::Error;
use crate::issuer::IssuerName;
use crate::keep::KeepError;
use crate::provider::{Provider, blocking};
use crate::signed_in::{LoginOwner, Person, Seat};

const PREFIX: &str = "human-seat-";

/// Everything of a sign-in that lasts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    boot: String,
    issuer: String,
    client_id: String,
    owner: LoginOwner,
    person: Person,
    nonce: Option<String>,
    refresh: Option<String>,
    access: Option<String>,
    since: Timestamp,
    expires: Timestamp,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.refresh.zeroize();
        self.access.zeroize();
    }
}

/// The entry of the store for a seat.
pub(super) fn name(seat: Seat) -> Result<SecretName, Error> {
    let name = match seat {
        (uid, Some(session)) => format!("{PREFIX}{uid}-{session}"),
        (uid, None) => format!("{PREFIX}{uid}"),
    };
    SecretName::new(&name).map_err(unnamed)
}

/// The record of an entry.
pub(super) fn written(entry: &Entry, held: &Held, boot: &str) -> Result<Secret<[u8]>, Error> {
    let shown = entry.shown();
    let text = |secret: &Option<Secret<str>>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let record = Record {
        boot: boot.to_owned(),
        issuer: entry.provider.issuer.issuer.clone(),
        client_id: entry.provider.issuer.client_id.clone(),
        owner: entry.owner,
        person: held.person.clone(),
        nonce: held.nonce.clone(),
        refresh: text(&held.refresh),
        access: text(&held.access),
        since: shown.since,
        expires: shown.expires,
    };
    let bytes = serde_json::to_vec(&record).map_err(|error| KeepError(Box::new(error)))?;
    Ok(Secret::<[u8]>::new(bytes)?)
}

impl Roster {
    /// Takes back from disk who was signed in. A record that no longer means anything is removed: another start of the
    /// machine (audit sessions are numbered anew), an issuer or client that is no longer configured, or bytes that
    /// cannot be read.
    pub(crate) async fn restore(&self, providers: &HashMap<IssuerName, Arc<Provider>>) -> Result<(), Error> {
        let keep = Arc::clone(&self.ports.keep);
        let names = blocking(move || keep.list()).await?;
        for name in names.into_iter().filter(|name| name.as_str().starts_with(PREFIX)) {
            let (keep, wanted) = (Arc::clone(&self.ports.keep), name.clone());
            let Some(sealed) = blocking(move || keep.load(&wanted)).await? else { continue };
            match self.entry_of(&sealed, providers) {
                Some(entry) if self::name(entry.owner.seat())? == name && !self.is_full() => {
                    let mut seats = self.seats.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                    seats.insert(entry.owner.seat(), Arc::new(entry));
                }
                _ => {
                    tracing::info!(target: "writ::human", entry = %name, "a kept sign-in is not taken up again");
                    let keep = Arc::clone(&self.ports.keep);
                    blocking(move || keep.remove(&name)).await?;
                }
            }
        }
        Ok(())
    }

    fn entry_of(
        &self,
        sealed: &Secret<[u8]>,
        providers: &HashMap<IssuerName, Arc<Provider>>,
    ) -> Option<Entry> {
        let mut record: Record = serde_json::from_slice(sealed.expose()).ok()?;
        let provider = providers.values().find(|provider| {
            provider.issuer.issuer == record.issuer && provider.issuer.client_id == record.client_id
        })?;
        if record.boot != self.boot && record.owner.audit_session.is_some() {
            return None;
        }
        let secret = |text: &mut Option<String>| match text.take() {
            Some(text) => Secret::<str>::new(text).ok().map(Some),
            None => Some(None),
        };
        let arrival = Arrival {
            provider: Arc::clone(provider),
            owner: record.owner,
            person: record.person.clone(),
            nonce: record.nonce.take(),
            refresh: secret(&mut record.refresh)?,
            access: secret(&mut record.access)?,
            expires: record.expires,
        };
        let entry = Entry::new(arrival, self.ports.now()).ok()?;
        let mut shown = (*entry.shown()).clone();
        shown.since = record.since;
        entry.show(shown);
        Some(entry)
    }
}
