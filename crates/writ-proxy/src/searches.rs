//! Searches for lent credentials, made once and used again within one session.
//!
//! To prepare a search costs more than to run it over a usual answer. A session is lent the same few values again and
//! again, so what was prepared for them is kept, beside the values themselves in their secret memory, until the
//! session ends.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use writ_core::{Placement, Secret};
use writ_gate::Credential;

use crate::scrub::Scrubber;

/// Prepared searches per session.
const SEARCHES_MAX: usize = 16;

/// The searches of one session.
#[derive(Default)]
pub(crate) struct Searches {
    known: Mutex<Vec<Known>>,
}

struct Known {
    credentials: Vec<(Placement, Secret<str>)>,
    scrubber: Scrubber,
}

impl Known {
    fn is_for(&self, credentials: &[Credential]) -> bool {
        let same = |((place, secret), lent): (&(Placement, Secret<str>), &Credential)| {
            *place == lent.place && secret.expose() == lent.secret.expose()
        };
        self.credentials.len() == credentials.len() && self.credentials.iter().zip(credentials).all(same)
    }
}

impl Searches {
    /// A scrubber for these credentials that counts its finds in `hits`; `None` when nothing was lent.
    pub(crate) fn scrubber(&self, credentials: &[Credential], hits: Arc<AtomicU64>) -> Option<Scrubber> {
        if credentials.is_empty() {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|known| known.is_for(credentials)) {
            return Some(found.scrubber.counting(hits));
        }
        let scrubber = Scrubber::new(credentials, hits)?;
        if known.len() >= SEARCHES_MAX {
            known.clear();
        }
        let kept = credentials.iter().map(|lent| (lent.place.clone(), lent.secret.share())).collect();
        known.push(Known { credentials: kept, scrubber: scrubber.clone() });
        Some(scrubber)
    }

    /// Forgets everything: the session is over.
    pub(crate) fn clear(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
