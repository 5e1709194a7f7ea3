//! Processes that Writ did not launch: a subtree of cgroups that somebody else made is governed where it stands.
//!
//! The programs that hold runs are attached to the subtree as well. A process in it has no run at first, and is held: what
//! could be a service is led to the relay, names to the resolver, and nothing else leaves. Whoever answers there looks at
//! the process and assigns it a run, which goes on to its descendants. It stays in its cgroup.
//!
//! Not here: who a process is, and which run it is given. Invariant: an assignment holds for the program that was looked
//! at (the kernel compares generations), inside the subtree in which it was made, and nowhere else.

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore as _, MapFlags};
use writ_core::Process;

use crate::capture::{Capture, update};
use crate::cgroup;
use crate::cut::cut_standing;
use crate::diag::Cut;
use crate::error::Error;
use crate::load::Pins;
use crate::process;
use crate::record::{self, Grantee};

/// Levels of cgroups that the kernel's part looks through (`DEPTH_MAX` of `who.h`).
const DEPTH_MAX: usize = 32;

/// Names a governed subtree: to the kernel and in what it reports. The caller's choice; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GovernId(NonZeroU32);

impl GovernId {
    /// `None` for zero, which means "in no subtree".
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for GovernId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subtree that is governed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree {
    /// Its name.
    pub id: GovernId,
    /// The folder of its root.
    pub path: PathBuf,
    /// Whether the cgroup is still there. One that was removed, and made anew under the same path, is another one: it
    /// is open until it is governed again.
    pub present: bool,
}

/// What governing a subtree met.
#[derive(Debug)]
pub struct Governed {
    /// The subtree.
    pub subtree: Subtree,
    /// The processes that were in it. They are held from now on like any other.
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
    /// cannot be attached; nothing is governed by halves.
    pub fn govern(&self, path: &Path, id: GovernId) -> Result<Governed, Error> {
        let _one_at_a_time = self.subtrees.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let path = self.checked(path, id)?;
        let cgroup_id = cgroup::id(&path)?;
        let pins = self.pins.subtree(id);
        let standing = self.root_of(id);
        if standing.is_some_and(|root| root != cgroup_id) {
            // The cgroup that had this name is gone.
            self.release(id);
        }
        let is_new = standing != Some(cgroup_id) || !pins.exists();
        if is_new {
            // The place first: where programs are attached and no place is known, everything is refused.
            let place = record::place_of_subtree(id, 0);
            update(&self.maps.places, &cgroup_id.to_ne_bytes(), &place, "a subtree")?;
        }
        let attached = fs::create_dir_all(&pins)
            .and_then(|()| remember(&pins, &path))
            .map_err(Error::file("make", &pins))
            .and_then(|()| Pins::attach(&pins, &path, &self.hooks));
        if let Err(error) = attached {
            if is_new {
                self.release(id);
            }
            return Err(error);
        }
        let processes = cgroup::processes(&path)?;
        let connections = cut_standing(&path, &processes, is_new);
        let known = |pid: &u32| self.process(*pid, process::handle(*pid)?.as_fd());
        let processes = processes.iter().filter_map(known).collect();
        Ok(Governed { subtree: Subtree { id, path, present: true }, processes, connections })
    }

    /// Lets a subtree go: its processes are open again, and have no run any more.
    pub fn ungovern(&self, id: GovernId) -> Result<(), Error> {
        let _one_at_a_time = self.subtrees.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let subtree = self.subtree(id).ok_or(Error::NotGoverned { id })?;
        self.release(id);
        if subtree.present {
            self.unlabel(&subtree.path, |label| label.governed == Some(id))?;
        }
        Ok(())
    }

    /// The subtrees that are governed: after a restart, those that went on.
    pub fn governed(&self) -> Vec<Subtree> {
        let entries = fs::read_dir(&self.pins.subtrees).into_iter().flatten().flatten();
        let id = |entry: fs::DirEntry| GovernId::new(entry.file_name().to_str()?.parse().ok()?);
        let mut all: Vec<_> = entries.filter_map(id).filter_map(|id| self.subtree(id)).collect();
        all.sort_by_key(|subtree| subtree.id);
        all
    }

    /// Makes these the Unix sockets that may be connected to in a subtree, besides those that a process's run is granted
    /// ([`Capture::allow_unix`]). `None` means all, which is so from the start: what stands there already was made to
    /// talk to its neighbours. Abstract names are refused once there is a list. No kernel before 6.7 can refuse one.
    pub fn limit_unix(&self, id: GovernId, listed: Option<&[PathBuf]>) -> Result<(), Error> {
        let root = self.root_of(id).ok_or(Error::NotGoverned { id })?;
        self.grant_unix(Grantee::Subtree(id), listed.unwrap_or_default())?;
        let place = record::place_of_subtree(id, listed.map_or(0, |_| record::UNIX_LISTED));
        update(&self.maps.places, &root.to_ne_bytes(), &place, "a subtree")
    }

    /// The governed subtree that a process is in.
    pub fn subtree_of(&self, pid: u32) -> Option<GovernId> {
        let path = self.tree.absolute(&process::cgroup(pid)?);
        self.governed().into_iter().find(|one| one.present && path.starts_with(&one.path)).map(|one| one.id)
    }

    /// Puts the programs of this start in the place of those before, in every subtree. One whose cgroup is gone stays
    /// listed as absent.
    pub(crate) fn resume_subtrees(&self) -> Result<(), Error> {
        for subtree in self.governed().iter().filter(|subtree| subtree.present) {
            let attached = Pins::attach(&self.pins.subtree(subtree.id), &subtree.path, &self.hooks);
            // It may have been removed just now.
            if attached.is_err() && self.subtree(subtree.id).is_some_and(|subtree| subtree.present) {
                return attached;
            }
        }
        Ok(())
    }

    pub(crate) fn subtree(&self, id: GovernId) -> Option<Subtree> {
        let root = self.root_of(id)?;
        let path = fs::read_link(self.pins.subtree(id).join(PATH)).ok()?;
        let present = cgroup::id(&path).is_ok_and(|there| there == root);
        Some(Subtree { id, path, present })
    }

    /// The cgroup id of a subtree's root.
    fn root_of(&self, id: GovernId) -> Option<u64> {
        self.maps.places.keys().find_map(|key| {
            let place = self.maps.places.lookup(&key, MapFlags::ANY).ok()??;
            let root = u64::from_ne_bytes(*key.first_chunk()?);
            (record::subtree_of_place(&place) == Some(id)).then_some(root)
        })
    }

    /// Detaches and forgets. The place goes last: programs without one refuse.
    fn release(&self, id: GovernId) {
        Pins::detach_all(&self.pins.subtree(id));
        drop(self.grant_unix(Grantee::Subtree(id), &[]));
        if let Some(root) = self.root_of(id) {
            drop(self.maps.places.delete(&root.to_ne_bytes()));
        }
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
        let overlaps = |other: &Path| path.starts_with(other) || other.starts_with(&path);
        if overlaps(self.tree.base()) {
            return Err(refused("the daemon or its runs are in it, or it is in theirs"));
        }
        for other in self.governed() {
            if other.id == id && other.path != path && other.present {
                return Err(refused("another subtree is governed under this name"));
            }
            if other.id != id && other.present && overlaps(&other.path) {
                return Err(refused("it overlaps another governed subtree"));
            }
        }
        Ok(path)
    }
}

/// The name under which the path of a subtree is kept beside its links.
const PATH: &str = "path";

fn remember(pins: &Path, path: &Path) -> std::io::Result<()> {
    let link = pins.join(PATH);
    if fs::read_link(&link).is_ok_and(|kept| kept == path) {
        return Ok(());
    }
    drop(fs::remove_file(&link));
    std::os::unix::fs::symlink(path, link)
}
