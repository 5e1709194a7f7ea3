//! Digests that were trusted on first use, and those that somebody approved: one file for each agent.
//!
//! The first digest that an agent runs with is pinned before anything happens under it. Any other is held: it is written
//! down, and refused until it is approved. A file that cannot be read refuses its agent: it is never taken for an empty
//! one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use writ_core::selector::Key;
use writ_core::{AgentName, Clock, Reason, Selector, Timestamp};
use writ_gate::limits;
use writ_host::durable;

use super::Agent;
use super::rule::Pin;
use crate::attest::{Attested, Refusal};
use crate::error::Error;

/// The store. Shared by reference; calls wait for each other and for the disk.
pub struct Pins {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    writing: Mutex<()>,
}

/// What is known of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// It is pinned.
    Known,
    /// It was the first, and is pinned from now on.
    First,
    /// It is another one than those that are pinned.
    Changed {
        /// The digest that waits for approval.
        held: String,
    },
}

/// What an agent was seen with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// May run, oldest first.
    pub pinned: Vec<Digest>,
    /// Wait for approval, oldest first.
    pub held: Vec<Digest>,
}

/// One digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// SHA-256, hex.
    pub sha256: String,
    /// When it was seen or approved.
    pub since_us: Timestamp,
    /// The uid that approved it; absent for trust on first use.
    pub approved_by: Option<u32>,
}

/// Held digests kept for one agent.
const HELD_MAX: usize = 32;

impl Pins {
    /// The store in this folder, which is made if it is missing.
    pub fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let folder = folder.into();
        durable::folder(&folder, 0o700)?;
        Ok(Self { folder, clock, writing: Mutex::default() })
    }

    /// Whether the agent may run with this digest. When this says that it is the first, that is durable.
    pub fn check(&self, agent: &AgentName, digest: &str) -> Result<Pinned, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = self.read(agent)?;
        let has = |list: &[Digest]| list.iter().any(|known| known.sha256 == digest);
        if has(&seen.pinned) {
            return Ok(Pinned::Known);
        }
        let now = Digest { sha256: digest.to_owned(), since_us: self.clock.now(), approved_by: None };
        if seen.pinned.is_empty() {
            seen.pinned.push(now);
            // Crash here: nothing ran under it yet, and the next start is the first again.
            self.write(agent, &seen)?;
            return Ok(Pinned::First);
        }
        if !has(&seen.held) {
            seen.held.push(now);
            keep_newest(&mut seen.held, HELD_MAX);
            self.write(agent, &seen)?;
        }
        Ok(Pinned::Changed { held: digest.to_owned() })
    }

    /// Lets the agent run with this digest too. `by` is the uid that says so. Whether that is new.
    pub fn approve(&self, agent: &AgentName, digest: &str, by: u32) -> Result<bool, Error> {
        if Selector::new(Key::ExeSha256, digest).is_err() {
            return Err(Error::Digest { text: digest.chars().take(80).collect() });
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = self.read(agent)?;
        if seen.pinned.iter().any(|known| known.sha256 == digest) {
            return Ok(false);
        }
        seen.held.retain(|held| held.sha256 != digest);
        let (sha256, since_us) = (digest.to_owned(), self.clock.now());
        seen.pinned.push(Digest { sha256, since_us, approved_by: Some(by) });
        keep_newest(&mut seen.pinned, limits::PINS_PER_AGENT_MAX);
        self.write(agent, &seen)?;
        Ok(true)
    }

    /// What the agent was seen with.
    pub fn list(&self, agent: &AgentName) -> Result<Seen, Error> {
        self.read(agent)
    }

    fn path(&self, agent: &AgentName) -> PathBuf {
        Path::new(&self.folder).join(format!("{agent}.json"))
    }

    fn read(&self, agent: &AgentName) -> Result<Seen, Error> {
        let path = self.path(agent);
        let Some(bytes) = durable::read(&path)? else { return Ok(Seen::default()) };
        serde_json::from_slice(&bytes).map_err(|source| Error::Pins { path, source })
    }

    fn write(&self, agent: &AgentName, seen: &Seen) -> Result<(), Error> {
        let path = self.path(agent);
        let bytes =
            serde_json::to_vec_pretty(seen).map_err(|source| Error::Pins { path: path.clone(), source })?;
        Ok(durable::replace(&path, &bytes, 0o600)?)
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pins").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn keep_newest(list: &mut Vec<Digest>, max: usize) {
    list.drain(..list.len().saturating_sub(max));
}

/// Whether an admitted process has the digest that its agent is trusted with. Asked after [`super::admits`] or
/// [`super::matching`]; for an agent that trusts on first use it may write. A digest is given back if it was pinned just now,
/// for the record.
pub fn pinned(pins: &Pins, agent: &Agent, attested: &Attested) -> Result<Option<String>, Refusal> {
    let refused =
        |what: &str| Refusal::new(Reason::IdentityChanged, format!("agent `{}`: {what}", agent.name));
    if agent.pin != Pin::FirstUse {
        return Ok(None);
    }
    let digest = attested.digest().ok_or_else(|| refused("what it runs has no digest"))?;
    match pins.check(&agent.name, digest)? {
        Pinned::Known => Ok(None),
        Pinned::First => Ok(Some(digest.to_owned())),
        Pinned::Changed { .. } => {
            Err(refused("what it runs has changed, and waits; hint: run `writ agent approve`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use writ_host::SystemClock;

    use super::*;

    fn digest(letter: &str) -> String {
        letter.repeat(64)
    }

    fn pins(dir: &Path) -> Pins {
        Pins::new(dir.join("pins"), Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn the_first_digest_is_trusted_and_a_change_waits_for_approval() {
        let dir = tempfile::tempdir().unwrap();
        let (store, coder, other) = (pins(dir.path()), "coder".parse().unwrap(), "other".parse().unwrap());
        let (a, b) = (digest("a"), digest("b"));
        assert_eq!(store.check(&coder, &a).unwrap(), Pinned::First);
        assert_eq!(store.check(&coder, &a).unwrap(), Pinned::Known);
        assert_eq!(store.check(&coder, &b).unwrap(), Pinned::Changed { held: b.clone() });
        assert_eq!(store.check(&other, &b).unwrap(), Pinned::First, "agents have nothing in common");
        // As after a restart.
        let store = pins(dir.path());
        assert_eq!(store.check(&coder, &b).unwrap(), Pinned::Changed { held: b.clone() });
        assert_eq!(store.list(&coder).unwrap().held.len(), 1);
        assert!(store.approve(&coder, &b, 1000).unwrap() && !store.approve(&coder, &b, 1000).unwrap());
        assert_eq!(store.check(&coder, &b).unwrap(), Pinned::Known);
        assert_eq!(store.check(&coder, &a).unwrap(), Pinned::Known);
        let seen = store.list(&coder).unwrap();
        assert_eq!((seen.pinned[1].approved_by, seen.held.len()), (Some(1000), 0));
        assert!(store.approve(&coder, "sha256:aa", 0).is_err());
    }

    #[test]
    fn a_damaged_file_is_no_first_use() {
        let dir = tempfile::tempdir().unwrap();
        let (store, coder) = (pins(dir.path()), "coder".parse().unwrap());
        store.check(&coder, &digest("a")).unwrap();
        durable::replace(&store.path(&coder), b"{", 0o600).unwrap();
        assert!(matches!(store.check(&coder, &digest("b")), Err(Error::Pins { .. })));
        assert!(store.approve(&coder, &digest("b"), 0).is_err());
    }

    #[test]
    fn what_waits_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (store, coder) = (pins(dir.path()), "coder".parse().unwrap());
        store.check(&coder, &digest("a")).unwrap();
        for number in 0..=HELD_MAX {
            store.check(&coder, &format!("{number:064x}")).unwrap();
        }
        let held = store.list(&coder).unwrap().held;
        assert_eq!((held.len(), held[0].sha256.clone()), (HELD_MAX, format!("{:064x}", 1)));
    }
}
