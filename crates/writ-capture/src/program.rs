//! Programs whose processes are governed, wherever they are.
//!
//! The kernel compares what is executed with a folder and a name in it, so that a program which is replaced stays governed
//! without a moment between. A process that executed it is marked, and so is whatever it starts, for good. A copy elsewhere
//! is another program: who must not leave is governed by a cgroup.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::PoisonError;

use libbpf_rs::{MapCore as _, MapFlags};

use crate::capture::{Capture, update};
use crate::error::Error;
use crate::govern::{GovernId, Governed};
use crate::process;
use crate::record;

/// How often processes are looked for again, while new ones appear.
const ROUNDS: usize = 16;

impl Capture {
    /// Governs whoever executes the program at this absolute path, in or below the cgroup that is watched, and whoever runs
    /// it now, with all that they start. The program need not be there yet, but its folder must.
    ///
    /// Repeated it looks whether the path leads elsewhere by now, and changes nothing else.
    pub fn govern_program(&self, path: &Path, id: GovernId) -> Result<Governed, Error> {
        let _one_at_a_time = self.watching();
        let refused = |why| Error::Govern { path: path.to_owned(), why };
        if !id.is_program() {
            return Err(refused("the name is that of cgroups"));
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused("it is no program"));
        };
        let about = fs::metadata(folder).map_err(Error::file("open", folder))?;
        let entry = record::entry(about.ino(), device(folder)?, name.as_encoded_bytes())
            .ok_or(refused("its name is too long"))?;
        let looked_at = (id, entry.clone());
        // Once for each start: whether one before had marked all of them is not known.
        let mut known = self.programs_known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&looked_at) && self.entries(id).contains(&entry) {
            return Ok(Governed { processes: Vec::new(), connections: crate::diag::Cut::default() });
        }
        self.watch()?;
        let place = record::place_governed(id, 0);
        update(&self.maps.places, &record::place_of_program(id), &place, "a program")?;
        let before = self.entries(id);
        update(&self.maps.programs, &entry, &id.get().to_ne_bytes(), "a program")?;
        self.change_watch(|watch| watch.programs = 1)?;
        for old in before.iter().filter(|old| **old != entry) {
            drop(self.maps.programs.delete(old));
        }
        let pids = self.mark_all(path, id)?;
        let connections = self.cut_brought(&pids, id);
        known.insert(looked_at);
        Ok(Governed { processes: self.processes_of(&pids), connections })
    }

    /// Whether a program is governed under this name.
    pub(crate) fn has_program(&self, id: GovernId) -> bool {
        self.governs(u64::from_ne_bytes(record::place_of_program(id))).is_some()
    }

    /// Forgets a program.
    pub(crate) fn forget_program(&self, id: GovernId) -> Result<(), Error> {
        self.entries(id).iter().for_each(|entry| drop(self.maps.programs.delete(entry)));
        for pid in self.marked(id) {
            if let Some(pidfd) = process::handle(pid) {
                drop(self.maps.task_mark.delete(&pidfd.as_raw_fd().to_ne_bytes()));
                drop(self.maps.tgid_mark.delete(&pid.to_ne_bytes()));
            }
        }
        // A mark without its place means nothing.
        drop(self.maps.places.delete(&record::place_of_program(id)));
        if self.maps.programs.keys().next().is_none() {
            self.change_watch(|watch| watch.programs = 0)?;
        }
        Ok(())
    }

    /// The program by which a process is governed.
    pub(crate) fn mark_of(&self, pid: u32) -> Option<GovernId> {
        let pidfd = process::handle(pid)?;
        let mark = self.maps.task_mark.lookup(&pidfd.as_raw_fd().to_ne_bytes(), MapFlags::ANY).ok()??;
        let id = GovernId::from_kernel(u32::from_ne_bytes(*mark.first_chunk()?))?;
        self.has_program(id).then_some(id)
    }

    /// The names under which programs are governed.
    pub fn programs(&self) -> Vec<GovernId> {
        let value = |key: Vec<u8>| self.maps.programs.lookup(&key, MapFlags::ANY).ok().flatten();
        let id = |value: Vec<u8>| GovernId::from_kernel(u32::from_ne_bytes(*value.first_chunk()?));
        self.maps.programs.keys().filter_map(value).filter_map(id).collect()
    }

    /// Whether any program is governed.
    pub(crate) fn governs_programs(&self) -> bool {
        self.read_watch().programs != 0
    }

    /// Every process that has this mark.
    pub(crate) fn marked(&self, id: GovernId) -> Vec<u32> {
        process::all().into_iter().filter(|pid| self.mark_of(*pid) == Some(id)).collect()
    }

    /// The keys under which a program is known to the kernel.
    fn entries(&self, id: GovernId) -> Vec<Vec<u8>> {
        let is_its = |key: &Vec<u8>| {
            let value = self.maps.programs.lookup(key, MapFlags::ANY).ok().flatten();
            value.is_some_and(|value| value == id.get().to_ne_bytes())
        };
        self.maps.programs.keys().filter(is_its).collect()
    }

    /// Marks whoever runs the program by now, and their descendants; who starts it from now on is marked by the kernel.
    fn mark_all(&self, path: &Path, id: GovernId) -> Result<Vec<u32>, Error> {
        let mut marked = HashSet::new();
        for _ in 0..ROUNDS {
            let all = process::all();
            let parents: HashMap<_, _> =
                all.iter().filter_map(|pid| Some((*pid, process::parent(*pid)?))).collect();
            // Parents have mostly the lower number, but not always: until no more are found.
            let mut fresh: HashSet<u32> = all
                .iter()
                .copied()
                .filter(|pid| !marked.contains(pid) && self.executes(*pid, path))
                .collect();
            loop {
                let is_child = |pid: &u32| {
                    let parent = parents.get(pid);
                    !marked.contains(pid)
                        && !fresh.contains(pid)
                        && parent.is_some_and(|parent| marked.contains(parent) || fresh.contains(parent))
                        && self.may_be_marked(*pid)
                };
                let children: Vec<_> = all.iter().copied().filter(is_child).collect();
                if children.is_empty() {
                    break;
                }
                fresh.extend(children);
            }
            if fresh.is_empty() {
                return Ok(marked.into_iter().collect());
            }
            for pid in fresh {
                let Some(pidfd) = process::handle(pid) else { continue };
                if self.mark_of(pid).is_none() {
                    let (mark, fd) = (id.get().to_ne_bytes(), pidfd.as_raw_fd().to_ne_bytes());
                    // It may have ended.
                    drop(self.maps.task_mark.update(&fd, &mark, MapFlags::ANY));
                    if !self.switches.task_storage {
                        drop(self.maps.tgid_mark.update(&pid.to_ne_bytes(), &mark, MapFlags::ANY));
                    }
                }
                marked.insert(pid);
            }
        }
        Err(Error::Govern { path: path.to_owned(), why: "it is started faster than can be looked at" })
    }

    /// Whether a process that Writ did not launch runs the program.
    fn executes(&self, pid: u32, path: &Path) -> bool {
        let exe = format!("/proc/{pid}/exe");
        let file = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
        let same = file(Path::new(&exe)).is_some_and(|runs| Some(runs) == file(path));
        // What was replaced is still called so, if both see the same file systems.
        let replaced = || {
            let mut deleted = path.as_os_str().to_owned();
            deleted.push(" (deleted)");
            let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
            fs::read_link(&exe).is_ok_and(|shown| shown == deleted)
                && space(&pid.to_string()) == space("self")
        };
        (same || replaced()) && self.may_be_marked(pid)
    }

    fn may_be_marked(&self, pid: u32) -> bool {
        let is_watched =
            process::cgroup(pid).is_some_and(|path| self.tree.absolute(&path).starts_with(&self.watched));
        let is_launched = || {
            let label = process::handle(pid).and_then(|pidfd| self.label_of(pidfd.as_fd()));
            label.is_some_and(|label| label.governed.is_none())
        };
        is_watched && !is_launched()
    }
}

/// The device of a folder's file system as the kernel itself calls it: what `stat` shows may be another one (btrfs).
fn device(folder: &Path) -> Result<u32, Error> {
    let failed = || Error::Govern { path: folder.to_owned(), why: "its file system is not known" };
    let file = File::open(folder).map_err(Error::file("open", folder))?;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
    let about = about.map_err(Error::file("read", folder))?;
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).ok_or_else(failed)?.trim();
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(mounts).map_err(Error::file("read", mounts))?;
    // proc(5): the mount's id, its parent's, and the device as major:minor.
    let of_line = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = (words.next() == Some(mount)).then(|| words.nth(1))??.split_once(':')?;
        // `MKDEV` of linux/kdev_t.h.
        Some(major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?)
    };
    text.lines().find_map(of_line).ok_or_else(failed)
}
