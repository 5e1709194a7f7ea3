//! A disk in memory that fails or loses power at a chosen step, for tests.
//!
//! It keeps what is durable apart from what was only written, and after a power cut gives back any mixture that the
//! storage contract allows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Storage, StorageFile};

/// Files by their path.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What goes wrong, and at which changing step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The step does nothing and fails.
    Fails(u64),
    /// The step does its work durably, and fails all the same.
    FailsButPersists(u64),
    /// From this step on nothing works.
    PowerCut(u64),
    /// Every allocation and new file fails while this is set.
    Full,
}

#[derive(Clone)]
pub(crate) struct Faulty(Arc<Mutex<Inner>>);

struct Inner {
    live: Files,
    durable: Files,
    /// Writes that no sync covered: file, offset (`None`: the whole file), bytes.
    pending: Vec<(PathBuf, Option<u64>, Vec<u8>)>,
    /// Renames that no sync of the folder covered.
    renamed: Vec<(PathBuf, PathBuf)>,
    fault: Fault,
    steps: u64,
    allocations: u64,
}

impl Faulty {
    pub(crate) fn new(files: Files, fault: Fault) -> Self {
        let (live, durable) = (files.clone(), files);
        let (pending, renamed) = (Vec::new(), Vec::new());
        let inner = Inner { live, durable, pending, renamed, fault, steps: 0, allocations: 0 };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// How many files were filled with zeros.
    pub(crate) fn allocations(&self) -> u64 {
        self.lock().allocations
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// The files as a reader sees them.
    pub(crate) fn files(&self) -> Files {
        self.lock().live.clone()
    }

    /// What is there after a power cut: what was durable, and some of the rest, the last of it torn.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Files {
        let inner = self.lock();
        let mut files = inner.durable.clone();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        // A directory keeps its order: the first of these names may be kept and the later ones not.
        let kept = usize::try_from(next()).unwrap() % (inner.renamed.len() + 1);
        for (from, to) in &inner.renamed[..kept] {
            rename(&mut files, from, to);
        }
        for (path, offset, bytes) in &inner.pending {
            // The file has the old name still if the new one is not kept.
            let path = &earlier(&inner.renamed[kept..], path);
            let random = next();
            let kept = match random % 3 {
                0 => continue,
                1 => bytes.len(),
                _ => usize::try_from(random / 3).unwrap() % (bytes.len() + 1),
            };
            apply(&mut files, path, *offset, &bytes[..kept]);
        }
        files
    }
}

/// The name that a file had before these renames.
fn earlier(renamed: &[(PathBuf, PathBuf)], path: &Path) -> PathBuf {
    renamed
        .iter()
        .rev()
        .fold(path.to_owned(), |path, (from, to)| if path == *to { from.clone() } else { path })
}

fn rename(files: &mut Files, from: &Path, to: &Path) {
    if let Some(bytes) = files.remove(from) {
        files.insert(to.to_owned(), bytes);
    }
}

fn apply(files: &mut Files, path: &Path, offset: Option<u64>, bytes: &[u8]) {
    let Some(offset) = offset else {
        files.insert(path.to_owned(), bytes.to_vec());
        return;
    };
    let offset = usize::try_from(offset).unwrap();
    let file = files.entry(path.to_owned()).or_default();
    let end = (offset + bytes.len()).max(file.len());
    file.resize(end, 0);
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Inner {
    /// Runs one changing step under the fault. `work` is told whether its effect must be durable at once.
    fn step(&mut self, needs_space: bool, work: impl FnOnce(&mut Self, bool)) -> io::Result<()> {
        self.steps += 1;
        let fail = || Err(io::Error::other("planted fault"));
        match self.fault {
            Fault::Full if needs_space => Err(io::ErrorKind::StorageFull.into()),
            Fault::Fails(at) if at == self.steps => fail(),
            Fault::FailsButPersists(at) if at == self.steps => {
                work(self, true);
                fail()
            }
            Fault::PowerCut(at) if self.steps >= at => fail(),
            Fault::None | Fault::Fails(_) | Fault::FailsButPersists(_) | Fault::PowerCut(_) | Fault::Full => {
                work(self, false);
                Ok(())
            }
        }
    }

    fn write(&mut self, path: &Path, offset: Option<u64>, bytes: &[u8], now: bool) {
        apply(&mut self.live, path, offset, bytes);
        if now {
            apply(&mut self.durable, &earlier(&self.renamed, path), offset, bytes);
        } else {
            self.pending.push((path.to_owned(), offset, bytes.to_vec()));
        }
    }

    /// The names of files are durable.
    fn settle(&mut self) {
        for (from, to) in std::mem::take(&mut self.renamed) {
            rename(&mut self.durable, &from, &to);
        }
    }

    fn sync(&mut self, only: Option<&Path>) {
        for (path, offset, bytes) in std::mem::take(&mut self.pending) {
            if only.is_none_or(|only| only == path) {
                apply(&mut self.durable, &earlier(&self.renamed, &path), offset, &bytes);
            } else {
                self.pending.push((path, offset, bytes));
            }
        }
    }
}

impl Storage for Faulty {
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn StorageFile>> {
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        self.lock().step(true, |inner, _| {
            inner.settle();
            inner.allocations += 1;
            inner.pending.retain(|pending| pending.0 != path);
            inner.write(path, None, &zeros, true);
        })?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        if !self.lock().live.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(FaultyFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.lock().step(false, |inner, _| inner.settle())
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.lock().live.get(path).is_some_and(|found| found == bytes) {
            return Ok(());
        }
        self.lock().step(true, |inner, now| inner.write(path, None, bytes, now))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.lock().step(true, |inner, _| inner.write(path, None, bytes, true))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.lock().step(false, |inner, _| {
            inner.settle();
            inner.sync(None);
        })
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().live.get(path).cloned())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().step(false, |inner, _| {
            inner.settle();
            inner.pending.retain(|pending| pending.0 != path);
            inner.live.remove(path);
            inner.durable.remove(path);
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.lock().live.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.lock().step(false, |inner, now| {
            rename(&mut inner.live, from, to);
            inner.pending.retain(|pending| pending.0 != to);
            inner.pending.iter_mut().filter(|one| one.0 == from).for_each(|one| to.clone_into(&mut one.0));
            inner.renamed.push((from.to_owned(), to.to_owned()));
            if now {
                inner.settle();
            }
        })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.lock();
        Ok(inner.live.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }
}

struct FaultyFile {
    disk: Faulty,
    path: PathBuf,
}

impl StorageFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.lock().step(false, |inner, now| inner.write(&self.path, Some(offset), bytes, now))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.lock().step(false, |inner, _| inner.sync(Some(&self.path)))
    }

    fn begin(&mut self, bytes: usize) -> io::Result<(Vec<u8>, u64)> {
        let inner = self.disk.lock();
        let file = inner.live.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        Ok((file[..file.len().min(bytes)].to_vec(), file.len() as u64))
    }
}
