//! Since when a human's tokens are worth nothing.
//!
//! A caller's token outlives the session at the issuer that it came from. Once the human is revoked, what was issued
//! before is refused until it is too old to be taken anyway. Kept, so that a restart forgets nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use writ_core::{HumanId, Secret, SecretName, Timestamp};
use writ_gate::limits;

use crate::error::Error;
use crate::keep::KeepError;
use crate::provider::{Ports, blocking};

/// The revocations of humans.
pub(crate) struct Cuts {
    ports: Ports,
    known: RwLock<Known>,
    disk: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// Everybody's tokens of before are refused: set when more is to be remembered than may be.
    floor: Timestamp,
    humans: HashMap<HumanId, Timestamp>,
}

impl Cuts {
    /// Reads what was kept. A record that cannot be read is an error: to forget it would make revoked tokens good.
    pub(crate) async fn open(ports: Ports) -> Result<Self, Error> {
        let (keep, name) = (Arc::clone(&ports.keep), name()?);
        let known = match blocking(move || keep.load(&name)).await? {
            Some(bytes) => {
                serde_json::from_slice(bytes.expose()).map_err(|error| KeepError(Box::new(error)))?
            }
            None => Known::default(),
        };
        Ok(Self { ports, known: RwLock::new(known), disk: tokio::sync::Mutex::new(()) })
    }

    /// Whether a token of this human, issued then, is still worth something.
    pub(crate) fn allow(&self, human: &HumanId, issued: Timestamp) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let cut = known.humans.get(human).copied().unwrap_or_default().max(known.floor);
        cut == Timestamp::default() || issued > cut
    }

    /// From now on, what was issued before is worth nothing. In memory when it returns.
    pub(crate) fn cut(&self, human: &HumanId) {
        let now = self.ports.now();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.humans.retain(|_, at| now.since(*at) <= limits::CALLER_TOKEN_AGE_MAX + limits::CLOCK_SKEW);
        if known.humans.len() >= limits::CALLERS_REMEMBERED_MAX {
            let eldest =
                known.humans.iter().min_by_key(|(_, at)| **at).map(|(human, at)| (human.clone(), *at));
            if let Some((eldest, at)) = eldest {
                known.humans.remove(&eldest);
                known.floor = known.floor.max(at);
            }
        }
        known.humans.insert(human.clone(), now);
    }

    /// Makes the cuts of before durable.
    pub(crate) async fn save(&self) -> Result<(), Error> {
        let _disk = self.disk.lock().await;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let bytes = serde_json::to_vec(&known).map_err(|error| KeepError(Box::new(error)))?;
        let (keep, name, value) = (Arc::clone(&self.ports.keep), name()?, Secret::<[u8]>::new(bytes)?);
        Ok(blocking(move || keep.store(&name, &value)).await?)
    }
}

fn name() -> Result<SecretName, Error> {
    SecretName::new("human-cuts").map_err(|error| Error::Keep(KeepError(Box::new(error))))
}
