//! Paths as another process sees them: below its own root, and never led out of it by a link.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};

use super::Refusal;
use super::digest::Stamp;
use crate::peer::Peer;

/// The root of a process.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    /// Its working folder, as its mount namespace names it.
    work: PathBuf,
}

impl Root {
    pub(super) fn of(peer: &Peer) -> Result<Self, Refusal> {
        let failed = |errno: rustix::io::Errno| Refusal::unattested("its root cannot be seen", errno.into());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(peer.folder(), "root", flags, Mode::empty()).map_err(failed)?;
        let work = rustix::fs::readlinkat(peer.folder(), "cwd", Vec::new()).map_err(failed)?;
        Ok(Self { folder, work: PathBuf::from(std::ffi::OsStr::from_bytes(work.as_bytes())) })
    }

    /// That of this process.
    pub(super) fn own() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: rustix::fs::open("/", flags, Mode::empty())?, work: std::env::current_dir()? })
    }

    /// A path of the process's own, made absolute by its working folder.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.work.join(path)
    }

    /// Opens a regular file for reading.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        let held = self.hold(path)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", held.as_raw_fd()))
    }

    /// Where the file really is, links resolved.
    pub(super) fn resolved(file: &File) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    pub(super) fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.look(path).ok().map(|about| Stamp::from(&about))
    }

    pub(super) fn has_file(&self, path: &Path) -> bool {
        self.look(path).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::RegularFile)
    }

    /// The names in a folder, at most `max`; none if it cannot be read.
    pub(super) fn names(&self, folder: &Path, max: usize) -> Vec<PathBuf> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            self.open_with(folder, flags).and_then(|folder| Ok(rustix::fs::Dir::read_from(&folder)?));
        let Ok(entries) = opened else { return Vec::new() };
        let names = entries
            .flatten()
            .take(max)
            .map(|entry| PathBuf::from(std::ffi::OsStr::from_bytes(entry.file_name().to_bytes())));
        names.collect()
    }

    /// Whether the process could read the file itself, by owner, group and others of the file and of every folder above
    /// it. The daemon must not read for a process, not even to digest, what that process may not read. Access lists are
    /// not looked at.
    pub(super) fn readable_by(&self, peer: &Peer, path: &Path) -> bool {
        let may = |path: &Path, bit| self.look(path).is_ok_and(|about| allows(&about, peer, bit));
        may(path, 0o4) && path.ancestors().skip(1).all(|folder| may(folder, 0o1))
    }

    fn look(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.hold(path)?)?)
    }

    fn hold(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::CLOEXEC)
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let inside: PathBuf = path
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_)))
            .collect();
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { &inside };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.folder, inside, flags, Mode::empty(), resolve)?)
    }
}

fn allows(about: &Stat, peer: &Peer, bit: u32) -> bool {
    if peer.uid() == 0 {
        return true;
    }
    let shift = if about.st_uid == peer.uid() {
        6
    } else if about.st_gid == peer.gid() || peer.groups().contains(&about.st_gid) {
        3
    } else {
        0
    };
    (about.st_mode >> shift) & bit == bit
}
