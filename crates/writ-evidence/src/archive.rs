//! The tree on disk: entry bundles, hash tiles, and the signed checkpoint over them.
//!
//! Leaves come here after they are durable in a segment. Files are written first, made durable together, and only then
//! is a checkpoint signed: a checkpoint never covers what is not there. A crash in between leaves files that the next
//! time writes the same again, since everything here follows from the leaves alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::note::{Checkpoint, Signer, VerifierKey};
use crate::storage::Storage;
use crate::tile::{self, WIDTH};
use crate::tree::{CompactRange, Hash, leaf_hash};

/// Where the checkpoint lies.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// One leaf's canonical bytes.
pub(crate) type Bytes = Arc<[u8]>;

pub(crate) struct Archive {
    storage: Arc<dyn Storage>,
    signer: Signer,
    range: CompactRange,
    /// The entries of the bundle that is not full.
    open: Vec<Bytes>,
    /// The hashes of the tile at each level that is not full.
    levels: Vec<Vec<Hash>>,
    /// Tiles and bundles that were filled and are not written yet.
    full: Vec<(PathBuf, Vec<u8>)>,
    signed: Checkpoint,
    /// Whether that checkpoint is on disk: not before the first of a new log.
    published: bool,
}

impl Archive {
    /// Opens what is on disk: the checkpoint's signature, and that the tree's right edge leads to its root. What lies
    /// left of the edge is only read by `writ verify`.
    pub(crate) fn open(storage: Arc<dyn Storage>, key: Signer) -> Result<Self, Error> {
        let origin = key.verifier().name().to_owned();
        let note = storage.read(CHECKPOINT.as_ref()).map_err(Error::read)?;
        let published = note.is_some();
        let empty = Checkpoint { origin, size: 0, root: CompactRange::default().root() };
        let signed = if let Some(text) = note {
            open_note(&text, key.verifier())?
        } else {
            fresh(&*storage)?;
            empty
        };
        let mut archive = Self {
            storage,
            signer: key,
            range: CompactRange::default(),
            open: Vec::new(),
            levels: Vec::new(),
            full: Vec::new(),
            signed: signed.clone(),
            published,
        };
        archive.resume(signed.size)?;
        if archive.range.root() != signed.root {
            return Err(Error::damaged(format!(
                "the tiles of {} leaves do not lead to the root that was signed",
                signed.size
            )));
        }
        Ok(archive)
    }

    /// Reads the right edge of the tree: the tiles that are not full, and the open bundle.
    fn resume(&mut self, size: u64) -> Result<(), Error> {
        let mut level = 0;
        while size >> (8 * level) > 0 {
            let (full, width) = tile::tiles(level, size);
            self.levels.push(read_tile(&*self.storage, level, full, width)?);
            level += 1;
        }
        self.range = CompactRange::from_edge(size, &self.levels);
        let (full, width) = tile::tiles(0, size);
        if width > 0 {
            self.open = read_bundle(&*self.storage, full, width)?.into_iter().map(Bytes::from).collect();
        }
        let hashed = self.open.iter().map(|entry| leaf_hash(entry));
        if !hashed.eq(self.levels.first().into_iter().flatten().copied()) {
            return Err(Error::damaged(format!(
                "leaves from {} on are not those that were signed",
                full * WIDTH
            )));
        }
        Ok(())
    }

    /// The latest signed checkpoint.
    pub(crate) fn signed(&self) -> &Checkpoint {
        &self.signed
    }

    /// How many leaves were appended.
    pub(crate) fn size(&self) -> u64 {
        self.range.size()
    }

    pub(crate) fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// Takes the next leaf. Nothing is written before [`Archive::sign`].
    pub(crate) fn append(&mut self, leaf: Bytes) {
        let hash = leaf_hash(&leaf);
        self.range.append(hash);
        self.open.push(leaf);
        if self.open.len() as u64 == WIDTH {
            let entries = std::mem::take(&mut self.open);
            let index = (self.range.size() - 1) / WIDTH;
            self.full.push((tile::entry_path(index, WIDTH), tile::bundle(entries.iter().map(AsRef::as_ref))));
        }
        self.append_hash(0, hash);
    }

    fn append_hash(&mut self, level: usize, hash: Hash) {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let Some(tile) = self.levels.get_mut(level) else { return };
        tile.push(hash);
        if (tile.len() as u64) < WIDTH {
            return;
        }
        let hashes = std::mem::take(tile);
        let number = u32::try_from(level).unwrap_or(u32::MAX);
        let (full, _) = tile::tiles(number, self.range.size());
        self.full.push((tile::hash_path(number, full - 1, WIDTH), hashes.concat()));
        self.append_hash(level + 1, crate::tree::root(&hashes));
    }

    /// Writes what is new, makes it durable, and signs a checkpoint over it. Nothing new: nothing is done; but a log that
    /// has no checkpoint yet gets one, so that its absence is always a fault.
    pub(crate) fn sign(&mut self) -> Result<(), Error> {
        if self.published && self.range.size() == self.signed.size {
            return Ok(());
        }
        for (path, bytes) in self.full.iter().chain(&self.partial()) {
            self.storage.put(path, bytes).map_err(Error::written)?;
        }
        self.storage.sync_all().map_err(Error::written)?;
        // Crash here: tiles are there that no checkpoint covers; they are written the same again.
        let origin = self.signed.origin.clone();
        let next = Checkpoint { origin, size: self.range.size(), root: self.range.root() };
        let note = next.sign(&self.signer);
        self.storage.replace(CHECKPOINT.as_ref(), note.as_bytes()).map_err(Error::written)?;
        self.full.clear();
        self.published = true;
        let before = std::mem::replace(&mut self.signed, next);
        self.prune(before.size);
        Ok(())
    }

    /// The tiles that are not full, each under its present width.
    fn partial(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let size = self.range.size();
        let mut files = Vec::new();
        let width = self.open.len() as u64;
        if width > 0 {
            files.push((
                tile::entry_path(size / WIDTH, width),
                tile::bundle(self.open.iter().map(AsRef::as_ref)),
            ));
        }
        for (level, hashes) in (0u32..).zip(&self.levels) {
            let (full, width) = tile::tiles(level, size);
            if width > 0 {
                files.push((tile::hash_path(level, full, width), hashes.concat()));
            }
        }
        files
    }

    /// Removes partial tiles of the last checkpoint whose full tile exists now. The others stay: they were published.
    fn prune(&self, old_size: u64) {
        for level in 0..8 {
            let (full, width) = tile::tiles(level, old_size);
            let (full_now, _) = tile::tiles(level, self.range.size());
            if width > 0 && full_now > full {
                let paths = [
                    Some(tile::hash_path(level, full, width)),
                    (level == 0).then(|| tile::entry_path(full, width)),
                ];
                for path in paths.into_iter().flatten() {
                    // A partial tile too many does no harm.
                    drop(self.storage.remove(&path));
                }
            }
        }
    }
}

/// A log without a checkpoint is one that never had any: a first segment at most, and files that were written before
/// the first signature.
fn fresh(storage: &dyn Storage) -> Result<(), Error> {
    let pruned = segments(storage)?.keys().next().is_some_and(|first| *first > 0);
    let tiles = !storage.list("tile/entries".as_ref()).map_err(Error::read)?.is_empty();
    let lost = tiles && segments(storage)?.is_empty();
    if pruned || lost {
        return Err(Error::damaged("the checkpoint is gone, and there are leaves that it covered"));
    }
    Ok(())
}

pub(crate) fn open_note(note: &[u8], key: &VerifierKey) -> Result<Checkpoint, Error> {
    let text = std::str::from_utf8(note).map_err(|_| Error::damaged("the checkpoint is no text"))?;
    Checkpoint::open(text, key).map_err(Error::Checkpoint)
}

/// The first `width` hashes of a tile, from the partial one of this width or the full one. The partial one comes first:
/// after a crash a full one may stand there that no checkpoint covers, with any content.
fn read_tile(storage: &dyn Storage, level: u32, index: u64, width: u64) -> Result<Vec<Hash>, Error> {
    if width == 0 {
        return Ok(Vec::new());
    }
    let read = |width| storage.read(&tile::hash_path(level, index, width)).map_err(Error::read);
    let bytes = match read(width)? {
        Some(bytes) => Some(bytes),
        None => read(WIDTH)?,
    };
    let missing = || Error::damaged(format!("tile {level}/{index} is missing or cut off"));
    let (hashes, _) = bytes.as_deref().ok_or_else(missing)?.as_chunks::<32>();
    hashes.get(..usize::try_from(width).unwrap_or(usize::MAX)).map(<[Hash]>::to_vec).ok_or_else(missing)
}

/// The entries of a bundle of which `width` are covered by the checkpoint: from the partial bundle of this width, or
/// the full one, in this order for the same reason as above.
pub(crate) fn read_bundle(storage: &dyn Storage, index: u64, width: u64) -> Result<Vec<Vec<u8>>, Error> {
    let missing = || Error::damaged(format!("leaf {}: its bundle is missing", index * WIDTH));
    let partial = storage.read(&tile::entry_path(index, width)).map_err(Error::read)?;
    let bytes = match partial {
        Some(bytes) => bytes,
        None => storage.read(&tile::entry_path(index, WIDTH)).map_err(Error::read)?.ok_or_else(missing)?,
    };
    let cut = || Error::damaged(format!("leaf {}: its bundle is cut off", index * WIDTH));
    let entries = tile::entries(&bytes).ok_or_else(cut)?;
    let wanted = usize::try_from(width).unwrap_or(usize::MAX);
    if entries.len() < wanted {
        return Err(cut());
    }
    Ok(entries.into_iter().take(wanted).map(<[u8]>::to_vec).collect())
}

/// The segments on disk by their first number.
pub(crate) fn segments(storage: &dyn Storage) -> Result<BTreeMap<u64, PathBuf>, Error> {
    let paths = storage.list("segment".as_ref()).map_err(Error::read)?;
    Ok(paths.into_iter().filter_map(|path| Some((crate::segment::first_of(&path)?, path))).collect())
}
