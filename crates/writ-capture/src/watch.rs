//! Where processes are governed that Writ did not launch, and what the kernel's part awaits there.
//!
//! The hooks are attached while there is anything to govern, and not before: a host that governs nothing has none of them
//! outside of Writ's own cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use libbpf_rs::{MapCore as _, MapFlags};

use crate::capture::{Capture, update};
use crate::cgroup;
use crate::error::Error;
use crate::govern::GovernId;
use crate::load::{self, Pins};
use crate::record::{self, Watch};

/// The id of the root of all cgroups.
const ROOT: u64 = 1;

/// A cgroup that is to be governed once it is made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// By its path from the root of the hierarchy, at most 255 bytes.
    Path(PathBuf),
    /// By its name, at most 255 bytes, below slices and nothing else: a unit of the system manager.
    Unit(String),
}

impl Awaited {
    fn key(&self) -> Option<[u8; record::CGROUP_PATH]> {
        let text = match self {
            Self::Path(path) => path.to_str().filter(|path| path.starts_with('/'))?,
            Self::Unit(name) => name.as_str(),
        };
        record::awaited(text)
    }
}

impl Capture {
    /// Makes these the cgroups that the kernel governs from the moment they are made. `containers`: as what a new cgroup is
    /// governed that a container runtime seems to have made, until it is governed under another name
    /// ([`Capture::govern`]) or let go ([`Capture::let_go`]).
    ///
    /// Cgroups that are there already are not looked for.
    pub fn await_cgroups(
        &self,
        awaited: &[(Awaited, GovernId)],
        containers: Option<GovernId>,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.watching();
        if !awaited.is_empty() || containers.is_some() {
            self.watch()?;
        }
        let mut keys = Vec::new();
        for (what, id) in awaited {
            let key = what.key().ok_or_else(|| Error::Awaited { what: format!("{what:?}") })?;
            update(&self.maps.awaited, &key, &id.get().to_ne_bytes(), "an awaited cgroup")?;
            keys.push(key);
        }
        let old: Vec<_> = self.maps.awaited.keys().collect();
        for key in old.iter().filter(|key| !keys.iter().any(|kept| kept == key.as_slice())) {
            drop(self.maps.awaited.delete(key));
        }
        self.change_watch(|watch| watch.containers = containers.map_or(0, GovernId::get))?;
        self.unwatch_if_idle();
        Ok(())
    }

    /// As what new containers are governed.
    pub(crate) fn containers(&self) -> Option<GovernId> {
        GovernId::from_kernel(self.read_watch().containers)
    }

    /// Held while what is governed changes.
    pub(crate) fn watching(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches the hooks, if they are not.
    pub(crate) fn watch(&self) -> Result<(), Error> {
        if self.read_watch().cgroup != 0 {
            return Ok(());
        }
        if cgroup::id(self.tree.mount())? != ROOT {
            return Err(Error::CgroupNamespace);
        }
        load::watch(&self.pins, &self.watched, self.switches)?;
        let (cgroup, level) = (cgroup::id(&self.watched)?, self.level()?);
        self.change_watch(|watch| (watch.cgroup, watch.level) = (cgroup, level))
    }

    /// Puts the hooks of this start in the place of those before.
    pub(crate) fn resume_watch(&self) -> Result<(), Error> {
        let was = self.read_watch();
        if was.cgroup == 0 {
            return Ok(());
        }
        let (cgroup, level) = (cgroup::id(&self.watched)?, self.level()?);
        if was.cgroup != cgroup {
            // The setting names another cgroup than before: hooks are attached there before they go here.
            // A name in a bpffs has no dot. If it is there, a start ended here.
            let standing = self.pins.watch.with_file_name("watch_before");
            if !standing.exists() {
                fs::rename(&self.pins.watch, &standing).map_err(Error::file("rename", &self.pins.watch))?;
                fs::create_dir(&self.pins.watch).map_err(Error::file("make", &self.pins.watch))?;
            }
            load::watch(&self.pins, &self.watched, self.switches)?;
            self.change_watch(|watch| (watch.cgroup, watch.level) = (cgroup, level))?;
            Pins::detach_all(&standing);
            return fs::remove_dir(&standing).map_err(Error::file("remove", &standing));
        }
        load::watch(&self.pins, &self.watched, self.switches)
    }

    /// Takes the hooks away once nothing is governed or awaited.
    pub(crate) fn unwatch_if_idle(&self) {
        let watch = self.read_watch();
        let idle = watch.containers == 0
            && watch.programs == 0
            && self.maps.awaited.keys().next().is_none()
            && self.governed().is_empty();
        if idle && watch.cgroup != 0 {
            drop(self.change_watch(|watch| watch.cgroup = 0));
            Pins::detach_all(&self.pins.watch);
        }
    }

    pub(crate) fn read_watch(&self) -> Watch {
        let bytes = self.maps.watches.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        bytes.and_then(|bytes| Watch::read(&bytes)).unwrap_or_default()
    }

    pub(crate) fn change_watch(&self, change: impl FnOnce(&mut Watch)) -> Result<(), Error> {
        let mut watch = self.read_watch();
        change(&mut watch);
        update(&self.maps.watches, &0u32.to_ne_bytes(), &watch.bytes(), "where to look")
    }

    /// How deep the cgroup that is watched lies below the root.
    fn level(&self) -> Result<u32, Error> {
        let below = self.watched.strip_prefix(self.tree.mount()).unwrap_or_else(|_| Path::new(""));
        u32::try_from(below.components().count()).map_err(|_| Error::CgroupNamespace)
    }
}
