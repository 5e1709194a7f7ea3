//! The disk, as the log needs it: a port, so that tests can let every step fail.
//!
//! Contract. Paths are relative to the log's folder.
//! * `allocate` makes a file of this length whose blocks exist, so that writing within it needs no room and its sync
//!   no metadata. If it fails, no such file is left.
//! * `write_at` then `sync`: durable when `sync` returns. When either fails, any part of what was written since the last
//!   sync may or may not be on disk.
//! * `rename` is atomic, and durable with the next `sync_folder`; before that a crash may leave either name.
//! * `put` writes a whole file that need not be durable before `sync_all`; a crash may leave any content. What is there
//!   already with the same content is not touched: a file under a signed checkpoint never gets worse.
//! * `replace` is atomic and durable.
//! * `sync_all` makes everything `put` before it durable.

#[cfg(test)]
pub(crate) mod faulty;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use writ_host::durable;

pub(crate) trait Storage: Send + Sync {
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn StorageFile>>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;
    fn sync_folder(&self) -> io::Result<()>;
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn sync_all(&self) -> io::Result<()>;
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The files of a folder, by name; none if it is not there.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

pub(crate) trait StorageFile: Send {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// The first bytes, as many as there are of so many, and the length of the file.
    fn begin(&mut self, bytes: usize) -> io::Result<(Vec<u8>, u64)>;
}

/// A folder of the host.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Held by the one who writes, for as long as it lives.
    _lock: Option<File>,
}

impl Disk {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        durable::folder(root, 0o700).map_err(|error| error.source)?;
        durable::folder(&root.join("segment"), 0o700).map_err(|error| error.source)?;
        let lock = File::options().write(true).create(true).truncate(false).open(root.join("lock"))?;
        // Two writers would give the same numbers to different events.
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another process has the log open"))?;
        Ok(Self { root: root.to_owned(), _lock: Some(lock) })
    }

    /// The folder as it is, to read: nothing is made and nothing changed.
    pub(crate) fn reading(root: &Path) -> Self {
        Self { root: root.to_owned(), _lock: None }
    }
}

impl Storage for Disk {
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn StorageFile>> {
        let path = self.root.join(path);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        // Written once, so that no later sync has to mark blocks as written.
        let filled = made.map_err(io::Error::from).and_then(|()| fill(&file, bytes));
        if let Err(error) = filled {
            drop(fs::remove_file(&path));
            return Err(error);
        }
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File::options().read(true).write(true).open(self.root.join(path))?))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(self.root.join("segment"))?.sync_all()
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if durable::read(&path).is_ok_and(|found| found.as_deref() == Some(bytes)) {
            return Ok(());
        }
        let written = path.with_added_extension("new");
        File::create(&written)?.write_all_at(bytes, 0)?;
        fs::rename(written, path)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable::replace(&self.root.join(path), bytes, 0o644).map_err(|error| error.source)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        durable::read(&self.root.join(path)).map_err(|error| error.source)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        durable::remove(&self.root.join(path)).map_err(|error| error.source)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| entry.map(|entry| folder.join(entry.file_name())));
        let mut paths: Vec<PathBuf> = names.collect::<io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    }
}

fn fill(file: &File, bytes: u64) -> io::Result<()> {
    let block = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from((bytes - at).min(block.len() as u64)).unwrap_or(block.len());
        file.write_all_at(block.get(..length).unwrap_or(&block), at)?;
        at += length as u64;
    }
    file.sync_all()
}

impl StorageFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn begin(&mut self, bytes: usize) -> io::Result<(Vec<u8>, u64)> {
        let length = self.metadata()?.len();
        let mut found = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(bytes)];
        self.read_exact_at(&mut found, 0)?;
        Ok((found, length))
    }
}
