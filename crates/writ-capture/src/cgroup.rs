//! The cgroups of an installation: `NAME/daemon` for the daemon and its holder, `NAME/run/ULID` for each run.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use writ_core::RunId;

use crate::error::Error;
use crate::syscall;

/// The cgroup2 folders of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    mount: PathBuf,
    base: PathBuf,
}

impl Tree {
    /// Finds the cgroup2 mount and makes the folders. `name` is one path segment.
    pub(crate) fn open(name: &str) -> Result<Self, Error> {
        let mount = mount()?;
        let tree = Self { base: mount.join(name), mount };
        for folder in [&tree.base, &tree.daemon(), &tree.runs()] {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::file("make", folder)(error));
                }
                _ => {}
            }
        }
        Ok(tree)
    }

    /// Where cgroup2 is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// The folder of the installation.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// A path below the mount as an absolute one; an absolute one as it is.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.mount.join(path)
    }

    pub(crate) fn daemon(&self) -> PathBuf {
        self.base.join("daemon")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.base.join("run")
    }

    pub(crate) fn run(&self, run: RunId) -> PathBuf {
        self.runs().join(run.to_string())
    }

    /// The runs that have a cgroup.
    pub(crate) fn list(&self) -> Result<Vec<RunId>, Error> {
        let runs = self.runs();
        let entries = fs::read_dir(&runs).map_err(Error::file("read", &runs))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Ends every process below the tree's runs and removes all of its folders but the daemon's own, if that is busy.
    pub(crate) fn purge(&self) -> Result<(), Error> {
        for run in self.list()? {
            kill(&self.run(run))?;
            remove_when_empty(&self.run(run))?;
        }
        for folder in [self.runs(), self.daemon(), self.base.clone()] {
            remove_when_empty(&folder)?;
        }
        Ok(())
    }
}

/// Where cgroup2 is mounted: on hybrid hosts that is not `/sys/fs/cgroup`.
fn mount() -> Result<PathBuf, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    // proc(5): fields up to ` - ` are optional in number; the mount point is the fifth, the type follows the dash.
    let of_line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    text.lines().find_map(of_line).ok_or(Error::NoCgroup2)
}

/// The id by which the kernel knows a cgroup: its folder's inode.
pub(crate) fn id(folder: &Path) -> Result<u64, Error> {
    Ok(fs::metadata(folder).map_err(Error::file("read", folder))?.ino())
}

/// The folder of the cgroup with this id, if it is there.
pub(crate) fn folder_of(mount: &Path, id: u64) -> Option<PathBuf> {
    let folder = syscall::open_cgroup(fs::File::open(mount).ok()?.as_fd(), id).ok()?;
    let path = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
    path.is_dir().then_some(path)
}

/// The ids of a cgroup and of all below it.
pub(crate) fn ids(folder: &Path) -> HashSet<u64> {
    let mut all = HashSet::new();
    walk(folder, &mut |below| all.extend(id(below).ok()));
    all
}

/// The processes in a cgroup and below it, each once.
pub(crate) fn processes(folder: &Path) -> Result<Vec<u32>, Error> {
    let mut all = BTreeSet::new();
    let mut failed = None;
    walk(folder, &mut |below| {
        let file = below.join("cgroup.procs");
        match fs::read_to_string(&file) {
            Ok(text) => all.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            // It was removed meanwhile, or is threaded: then its processes are listed above it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
            Err(error) => failed = Some(Error::file("read", &file)(error)),
        }
    });
    failed.map_or(Ok(all.into_iter().filter(|pid| *pid != 0).collect()), Err)
}

/// Shows a folder and all below it, without recursion: trees may be deep.
fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        see(&next);
        let entries = fs::read_dir(&next).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(folders.map(|entry| entry.path()));
    }
}

/// Moves a process (all its threads) into the cgroup.
pub(crate) fn enter(folder: &Path, pid: u32) -> Result<(), Error> {
    write(&folder.join("cgroup.procs"), &pid.to_string())
}

/// Ends every process in it, at once.
pub(crate) fn kill(folder: &Path) -> Result<(), Error> {
    write(&folder.join("cgroup.kill"), "1")
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    let failed = Error::file("write", file);
    let opened = fs::File::options().write(true).open(file);
    opened.and_then(|mut opened| io::Write::write_all(&mut opened, text.as_bytes())).map_err(failed)
}

/// Whether any process is left in it or below.
pub(crate) fn populated(folder: &Path) -> Result<bool, Error> {
    let events = folder.join("cgroup.events");
    match fs::read_to_string(&events) {
        Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("read", &events)(error)),
    }
}

/// Completes when no process is left. The kernel tells through `cgroup.events`; nothing is polled in a loop.
pub(crate) async fn emptied(folder: &Path) -> Result<(), Error> {
    let path = folder.join("cgroup.events");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("watch", &path)(error)),
    };
    let watch = syscall::watched(file).map_err(Error::file("watch", &path))?;
    // Looked at after the watch began, so that no change falls in between.
    while populated(folder)? {
        let mut change = watch.ready(Interest::PRIORITY).await.map_err(Error::file("watch", &path))?;
        // Reading is what re-arms it.
        rustix::io::pread(watch.get_ref(), &mut [0u8; 64], 0).ok();
        change.clear_ready();
    }
    Ok(())
}

/// Removes the folder once it is empty: processes that were killed may take a moment to leave.
pub(crate) fn remove_when_empty(folder: &Path) -> Result<(), Error> {
    let busy = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error());
    let path = folder.join("cgroup.events");
    let watch = fs::File::open(&path).ok();
    for _ in 0..50 {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if busy(&error) => wait(watch.as_ref()),
            Err(error) => return Err(Error::file("remove", folder)(error)),
        }
    }
    Err(Error::Busy { folder: folder.to_owned() })
}

/// Until `cgroup.events` changes, at most a tenth of a second.
fn wait(watch: Option<&fs::File>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Some(file) = watch else { return };
    rustix::io::pread(file, &mut [0u8; 64], 0).ok();
    let bound = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    poll(&mut [PollFd::new(file, PollFlags::PRI)], Some(&bound)).ok();
}
