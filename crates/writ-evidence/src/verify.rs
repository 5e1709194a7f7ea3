//! The whole log, offline: nothing that the log's own programs say is believed but what follows from the files.

use std::collections::HashMap;
use std::path::Path;

use writ_core::ActionId;
use writ_core::event::{Event, Leaf};

use crate::archive::{CHECKPOINT, open_note, read_bundle, segments};
use crate::error::Error;
use crate::note::{Checkpoint, VerifierKey};
use crate::segment;
use crate::storage::{Disk, Storage};
use crate::tile::{self, WIDTH};
use crate::tree::{Growth, Hash, consistency_proof, leaf_hash, root, verify_consistency};

/// What was found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint that everything was checked against.
    pub checkpoint: Checkpoint,
    /// Durable leaves behind it, not signed yet.
    pub unsigned: u64,
    /// Actions with intent and receipt.
    pub actions: u64,
    /// Intents behind which no receipt stands yet: actions under way, or cut off by a crash.
    pub open: u64,
    /// Starts of the daemon without a stop before them: it was killed.
    pub killed: u64,
    /// The size of the older checkpoint that this log was shown to continue.
    pub since: Option<u64>,
}

/// Checks a log's folder against its key. `older` is a checkpoint that was kept elsewhere: what makes it visible that
/// history was cut off or rewritten.
///
/// The first thing that does not hold is the error; it names leaf, tile or file.
pub fn verify(dir: &Path, key: &VerifierKey, older: Option<&str>) -> Result<Report, Error> {
    read_verified(dir, key, older, |_| {})
}

/// The same, and shows every leaf, oldest first. What was shown holds only if this returns a report: whether a leaf
/// belongs there is known when all were read.
pub fn read_verified(
    dir: &Path,
    key: &VerifierKey,
    older: Option<&str>,
    mut show: impl FnMut(&Leaf),
) -> Result<Report, Error> {
    verify_each(&Disk::reading(dir), key, older, &mut show)
}

#[cfg(test)]
pub(crate) fn verify_storage(
    storage: &dyn Storage,
    key: &VerifierKey,
    older: Option<&str>,
) -> Result<Report, Error> {
    verify_each(storage, key, older, &mut |_| {})
}

pub(crate) fn verify_each(
    storage: &dyn Storage,
    key: &VerifierKey,
    older: Option<&str>,
    show: &mut dyn FnMut(&Leaf),
) -> Result<Report, Error> {
    let note = storage.read(CHECKPOINT.as_ref()).map_err(Error::read)?;
    let note = note.ok_or_else(|| Error::damaged("there is no checkpoint"))?;
    let checkpoint = open_note(&note, key)?;
    let mut account = Account::default();
    let mut hashes = Vec::new();
    for bundle in 0..checkpoint.size.div_ceil(WIDTH) {
        let width = (checkpoint.size - bundle * WIDTH).min(WIDTH);
        for leaf in read_bundle(storage, bundle, width)? {
            show(&account.take(&leaf)?);
            hashes.push(leaf_hash(&leaf));
        }
    }
    check_tiles(storage, &hashes)?;
    if root(&hashes) != checkpoint.root {
        return Err(Error::damaged("the leaves do not lead to the root that was signed"));
    }
    let since = older.map(|note| continues(note, key, &checkpoint, &hashes)).transpose()?;
    let unsigned = tail(storage, &mut account, show)?;
    let Account { actions, open, killed, .. } = account;
    Ok(Report { checkpoint, unsigned, actions, open: open.len() as u64, killed, since })
}

/// The key of a log from its key file: for those who may read it.
pub fn verifier_of(origin: &str, key_file: &Path) -> Result<VerifierKey, Error> {
    let bad = |why| Error::Key { path: key_file.to_owned(), why };
    let seed = writ_host::durable::read(key_file).map_err(|error| Error::read(error.source))?;
    let seed = seed.ok_or_else(|| bad("it is not there"))?;
    let signer =
        crate::note::Signer::from_seed(origin, &seed).map_err(|_| bad("it is no seed of 32 bytes"))?;
    Ok(signer.verifier().clone())
}

fn continues(note: &str, key: &VerifierKey, now: &Checkpoint, hashes: &[Hash]) -> Result<u64, Error> {
    let old = open_note(note.as_bytes(), key)?;
    if old.size == 0 {
        return Ok(0);
    }
    let size = usize::try_from(old.size).unwrap_or(usize::MAX);
    let lost = || {
        Error::damaged(format!(
            "the log has {} leaves, and had {} before: history was cut off",
            now.size, old.size
        ))
    };
    let proof = consistency_proof(hashes, size).ok_or_else(lost)?;
    let growth = Growth { old_size: old.size, new_size: now.size, old_root: &old.root, new_root: &now.root };
    verify_consistency(growth, &proof).map_err(|_| {
        Error::damaged(format!(
            "the first {} leaves are not those of the older checkpoint: history was rewritten",
            old.size
        ))
    })?;
    Ok(old.size)
}

/// Every tile that others may fetch must follow from the leaves.
fn check_tiles(storage: &dyn Storage, leaves: &[Hash]) -> Result<(), Error> {
    let mut hashes = leaves.to_vec();
    for level in 0u32.. {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut above = Vec::new();
        for (tile, index) in hashes.chunks(256).zip(0u64..) {
            let path = tile::hash_path(level, index, tile.len() as u64);
            let found = storage.read(&path).map_err(Error::read)?;
            if level == 0 {
                check_leaves(storage, tile, index)?;
            }
            let full = storage.read(&tile::hash_path(level, index, WIDTH)).map_err(Error::read)?;
            let good = [found, full].into_iter().flatten().any(|bytes| bytes.starts_with(&tile.concat()));
            if !good {
                return Err(Error::damaged(format!(
                    "tile {level}/{index} is missing or does not follow from its leaves"
                )));
            }
            if tile.len() == 256 {
                above.push(root(tile));
            }
        }
        hashes = above;
    }
    Ok(())
}

/// Names the first leaf of a bundle that is not the one whose hash stands in its tile.
fn check_leaves(storage: &dyn Storage, leaves: &[Hash], index: u64) -> Result<(), Error> {
    let width = leaves.len() as u64;
    let tile = match storage.read(&tile::hash_path(0, index, width)).map_err(Error::read)? {
        Some(tile) => Some(tile),
        None => storage.read(&tile::hash_path(0, index, WIDTH)).map_err(Error::read)?,
    };
    let tile = tile.unwrap_or_default();
    let (hashes, _) = tile.as_chunks::<32>();
    match leaves.iter().zip(hashes).position(|(leaf, hash)| leaf != hash) {
        Some(at) => {
            Err(Error::damaged(format!("leaf {} is not the one in its tile", index * WIDTH + at as u64)))
        }
        None => Ok(()),
    }
}

/// What is durable and not signed yet.
fn tail(storage: &dyn Storage, account: &mut Account, show: &mut dyn FnMut(&Leaf)) -> Result<u64, Error> {
    let before = account.next;
    let files = segments(storage)?;
    let firsts: Vec<u64> = files.keys().copied().collect();
    for (number, (first, path)) in files.iter().enumerate() {
        let bytes = storage.read(path).map_err(Error::read)?.unwrap_or_default();
        let Some(read) = segment::read(&bytes).filter(|read| read.first == *first) else { continue };
        let until = firsts.get(number + 1).copied().unwrap_or(u64::MAX);
        let end = read.first + read.leaves.len() as u64;
        if read.first > account.next || read.durable.min(until) > end {
            if moved_on(storage, before)? {
                break;
            }
            let lost = account.next.max(if read.first > account.next { 0 } else { end });
            return Err(Error::damaged(format!(
                "leaf {lost} is missing: it was durable, and no checkpoint covers it"
            )));
        }
        for (leaf, seq) in read.leaves.iter().zip(read.first..until) {
            if seq == account.next {
                show(&account.take(leaf)?);
            }
        }
    }
    Ok(account.next - before)
}

/// Whether a live log signed a newer checkpoint meanwhile, and may have removed segments that it covers.
fn moved_on(storage: &dyn Storage, size: u64) -> Result<bool, Error> {
    let note = storage.read(CHECKPOINT.as_ref()).map_err(Error::read)?.unwrap_or_default();
    let newer = String::from_utf8(note).ok().and_then(|note| note.lines().nth(1)?.parse::<u64>().ok());
    Ok(newer.is_some_and(|newer| newer > size))
}

/// Keeps account of the leaves one after the other.
#[derive(Debug, Default)]
struct Account {
    next: u64,
    actions: u64,
    killed: u64,
    running: bool,
    open: HashMap<ActionId, u64>,
    /// Actions whose receipt or refusal was seen, so that a second one is noticed.
    ended: std::collections::HashSet<ActionId>,
}

impl Account {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other kinds stand for themselves")]
    fn take(&mut self, bytes: &[u8]) -> Result<Leaf, Error> {
        let seq = self.next;
        let bad = |what: &str| Err(Error::damaged(format!("leaf {seq}: {what}")));
        let leaf = Leaf::decode(bytes).map_err(|error| Error::damaged(format!("leaf {seq}: {error}")))?;
        if leaf.seq != seq {
            return bad(&format!("it says that it is leaf {}", leaf.seq));
        }
        if leaf.encode().ok().as_deref() != Some(bytes) {
            return bad("it is not in canonical form");
        }
        match &leaf.event {
            Event::ActionIntended(intent) if self.open.insert(intent.action, seq).is_some() => {
                return bad("the same action was intended before");
            }
            Event::ActionClosed(closed) => {
                if self.open.remove(&closed.action).is_none() {
                    return bad("a receipt without an open intent");
                }
                self.ended.insert(closed.action);
                self.actions += 1;
            }
            Event::ActionRefused(refused) if !self.ended.insert(refused.action) => {
                return bad("the action had ended before");
            }
            Event::NodeStarted(_) => {
                // Whoever opens a log closes what an earlier process left open before anything else.
                if let Some((action, intent)) = self.open.iter().next() {
                    return bad(&format!(
                        "a start behind the intent of action {action} (leaf {intent}), which has no receipt"
                    ));
                }
                self.killed += u64::from(self.running);
                self.running = true;
            }
            Event::NodeStopped(_) => self.running = false,
            _ => {}
        }
        self.next += 1;
        Ok(leaf)
    }
}
