//! Processes that Writ did not launch: what a cgroup holds that somebody else made, and whoever runs a program, is governed
//! where it stands.
//!
//! The programs that hold runs are attached to the cgroup below which all of this may be ([`CaptureSettings::watch`]), and
//! let pass what is not governed. A governed process has no run at first, and is held: what could be a service is led to
//! the relay, names to the resolver, and nothing else leaves. Whoever answers there looks at the process and assigns it a
//! run, which goes on to its descendants. It stays in its cgroup.
//!
//! Not here: who a process is, and which run it is given. Invariants: what is to be governed is so before its first
//! instruction, because the kernel itself knows the names of cgroups and programs; an assignment holds for the program
//! that was looked at (the kernel compares generations), under what it was made, and nowhere else.
//!
//! [`CaptureSettings::watch`]: crate::CaptureSettings::watch

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore as _, MapFlags};
use writ_core::Process;

use crate::capture::{Capture, update};
use crate::cgroup;
use crate::diag::Cut;
use crate::error::Error;
use crate::process;
use crate::record::{self, Grantee};

/// Levels of cgroups that the kernel's part looks through (`DEPTH_MAX` of `who.h`).
const DEPTH_MAX: usize = 32;

/// Names what is governed: to the kernel and in what it reports. The caller's choice; never zero. Several cgroups may have
/// one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GovernId(NonZeroU32);

impl GovernId {
    /// Names cgroups by a number, of which the highest bit is not looked at. `None` for zero, which means "not governed".
    pub const fn new(number: u32) -> Option<Self> {
        Self::from_kernel(number & !record::OF_PROGRAM)
    }

    /// Names a program by a number, of which the highest bit is not looked at.
    pub const fn of_program(number: u32) -> Option<Self> {
        Self::from_kernel(number | record::OF_PROGRAM)
    }

    pub(crate) const fn from_kernel(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, as the kernel has it.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Whether it names a program, and not cgroups.
    pub const fn is_program(self) -> bool {
        self.get() & record::OF_PROGRAM != 0
    }
}

impl fmt::Display for GovernId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subtree of cgroups that is governed. It ends when its cgroup is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree {
    /// As what it is governed.
    pub id: GovernId,
    /// The folder of its root.
    pub path: PathBuf,
}

/// What governing met.
#[derive(Debug)]
pub struct Governed {
    /// The processes that were there. They are held from now on like any other.
    pub processes: Vec<Process>,
    /// What became of the connections that they had.
    pub connections: Cut,
}

impl Capture {
    /// Governs the processes below a cgroup: an absolute folder, or one relative to the cgroup2 mount.
    ///
    /// When this returns, nobody in it can open anything that is not held. Connections of before are cut, those that
    /// cannot be are named in the result. Repeated with the same arguments it changes nothing but looks again. What it
    /// does not find: sockets that were made in another cgroup and are neither bound nor connected yet.
    ///
    /// Refused for the root, for whatever overlaps this installation or another governed subtree, and where a program
    /// cannot be attached. A cgroup that is governed only until its container is known may be given another name.
    pub fn govern(&self, path: &Path, id: GovernId) -> Result<Governed, Error> {
        let _one_at_a_time = self.watching();
        let path = self.checked(path, id)?;
        let cgroup_id = cgroup::id(&path)?;
        self.watch()?;
        let standing = self.governs(cgroup_id);
        if standing != Some(id) {
            let place = record::place_governed(id, 0);
            update(&self.maps.places, &cgroup_id.to_ne_bytes(), &place, "a subtree")?;
        }
        let pids = cgroup::processes(&path)?;
        let connections = crate::cut::cut_standing(&path, &pids, standing.is_none());
        Ok(Governed { processes: self.processes_of(&pids), connections })
    }

    /// Lets go: these processes are open again, and have no run any more.
    pub fn ungovern(&self, id: GovernId) -> Result<(), Error> {
        let _one_at_a_time = self.watching();
        let subtrees: Vec<_> = self.governed().into_iter().filter(|subtree| subtree.id == id).collect();
        if subtrees.is_empty() && !self.has_program(id) {
            return Err(Error::NotGoverned { id });
        }
        for subtree in &subtrees {
            self.release(&subtree.path)?;
        }
        drop(self.grant_unix(Grantee::Governed(id), &[]));
        let unlabelled = self.unlabel(&subtrees, |label| label.governed == Some(id));
        if id.is_program() {
            self.forget_program(id)?;
        }
        self.unwatch_if_idle();
        unlabelled
    }

    /// Lets one of the cgroups of a name go, with what is in it: it was governed only until its container was known.
    pub fn let_go(&self, path: &Path) -> Result<(), Error> {
        let _one_at_a_time = self.watching();
        self.release(&self.tree.absolute(path))?;
        self.unwatch_if_idle();
        Ok(())
    }

    /// The subtrees that are governed: after a restart, those that went on.
    pub fn governed(&self) -> Vec<Subtree> {
        let subtree = |key: Vec<u8>| {
            let cgroup_id = u64::from_ne_bytes(*key.first_chunk()?);
            let id = self.governs(cgroup_id).filter(|id| !id.is_program())?;
            Some(Subtree { id, path: cgroup::folder_of(self.tree.mount(), cgroup_id)? })
        };
        let mut all: Vec<_> = self.maps.places.keys().filter_map(subtree).collect();
        all.sort_by(|one, other| (one.id, &one.path).cmp(&(other.id, &other.path)));
        all
    }

    /// All processes that are governed.
    pub fn members(&self) -> Result<Vec<Process>, Error> {
        let mut pids = BTreeSet::new();
        for subtree in self.governed() {
            pids.extend(cgroup::processes(&subtree.path)?);
        }
        if self.governs_programs() {
            pids.extend(process::all().into_iter().filter(|pid| self.mark_of(*pid).is_some()));
        }
        Ok(self.processes_of(&pids.into_iter().collect::<Vec<_>>()))
    }

    /// Makes these the Unix sockets that may be connected to under a name, besides those that a process's run is granted
    /// ([`Capture::allow_unix`]). `None` means all, which is so from the start: what stands there already was made to
    /// talk to its neighbours. Abstract names are refused once there is a list. No kernel before 6.7 can refuse one.
    /// Holds for the cgroups that are governed now.
    pub fn limit_unix(&self, id: GovernId, listed: Option<&[PathBuf]>) -> Result<(), Error> {
        let all = self.governed();
        let mut subtrees = all.iter().filter(|subtree| subtree.id == id).peekable();
        subtrees.peek().ok_or(Error::NotGoverned { id })?;
        self.grant_unix(Grantee::Governed(id), listed.unwrap_or_default())?;
        let place = record::place_governed(id, listed.map_or(0, |_| record::UNIX_LISTED));
        for subtree in subtrees {
            update(&self.maps.places, &cgroup::id(&subtree.path)?.to_ne_bytes(), &place, "a subtree")?;
        }
        Ok(())
    }

    /// By what a process is governed: the subtree that it is in, or else the program by which it came.
    pub fn governs_process(&self, pid: u32) -> Option<GovernId> {
        self.subtree_of(pid).map(|subtree| subtree.id).or_else(|| self.mark_of(pid))
    }

    /// The governed subtree that a process is in.
    pub(crate) fn subtree_of(&self, pid: u32) -> Option<Subtree> {
        let folder = self.tree.absolute(&process::cgroup(pid)?);
        folder.ancestors().take_while(|above| *above != self.tree.mount()).find_map(|above| {
            let id = self.governs(cgroup::id(above).ok()?)?;
            Some(Subtree { id, path: above.to_owned() })
        })
    }

    /// As what the cgroup with this id is governed.
    pub(crate) fn governs(&self, cgroup_id: u64) -> Option<GovernId> {
        let place = self.maps.places.lookup(&cgroup_id.to_ne_bytes(), MapFlags::ANY).ok()??;
        record::governed_by(&place)
    }

    pub(crate) fn processes_of(&self, pids: &[u32]) -> Vec<Process> {
        let known = |pid: &u32| self.process(*pid, process::handle(*pid)?.as_fd());
        pids.iter().filter_map(known).collect()
    }

    fn release(&self, folder: &Path) -> Result<(), Error> {
        drop(self.maps.places.delete(&cgroup::id(folder)?.to_ne_bytes()));
        Ok(())
    }

    /// The canonical folder, if it may be governed under this name.
    fn checked(&self, path: &Path, id: GovernId) -> Result<PathBuf, Error> {
        let asked = self.tree.absolute(path);
        let refused = |why| Error::Govern { path: asked.clone(), why };
        let path = fs::canonicalize(&asked).map_err(Error::file("open", &asked))?;
        let below = path.strip_prefix(self.tree.mount()).map_err(|_| refused("it is no cgroup"))?;
        match below.components().count() {
            0 => return Err(refused("it is the root of all cgroups")),
            depth if depth >= DEPTH_MAX => return Err(refused("it lies too deep")),
            _ => {}
        }
        if !path.starts_with(&self.watched) {
            return Err(refused("it lies outside of `capture.watch`"));
        }
        let overlaps = |other: &Path| path.starts_with(other) || other.starts_with(&path);
        if overlaps(self.tree.base()) {
            return Err(refused("the daemon or its runs are in it, or it is in theirs"));
        }
        if id.is_program() {
            return Err(refused("the name is a program's"));
        }
        let doubtful = self.containers();
        for other in self.governed() {
            if other.path == path && other.id != id && Some(other.id) != doubtful {
                return Err(refused("it is governed under another name"));
            }
            if other.path != path && overlaps(&other.path) {
                return Err(refused("it overlaps another governed subtree"));
            }
        }
        Ok(path)
    }
}
