//! The kernel's part as the daemon holds it: loaded, pinned, and told what may be reached.
//!
//! Programs, maps and links are pinned below a bpffs folder of their own, so they go on while the daemon is away. A
//! start loads the programs anew against the pinned maps and then swaps them in link by link: at every moment one of the
//! two is attached.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use writ_core::{Assurance, Process, RunId};

use crate::cgroup::{self, Tree};
use crate::error::Error;
use crate::govern::GovernId;
use crate::load::{self, Loaded, Maps, Pins};
use crate::probe::Switches;
use crate::process;
use crate::record::{self, Grantee, Label, Origin};
use crate::resolver::Mark;

/// Where the kernel's part lives.
#[derive(Debug, Clone)]
pub struct CaptureSettings {
    /// Name of the cgroup below the cgroup2 mount.
    pub cgroup: String,
    /// The bpffs folder for pins; mounted if it is not one yet.
    pub bpffs: PathBuf,
    /// The cgroup below which processes may be that are governed without having been launched by Writ: from the root of the
    /// hierarchy.
    pub watch: PathBuf,
}

/// What the kernel does with a destination that is listed. What is not listed is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Lead it to the relay.
    Take,
    /// Let it through to this address, untouched.
    Pass(SocketAddr),
}

/// One destination: the address and port that a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationRule {
    /// The address, synthetic or literal.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What is done.
    pub verdict: Verdict,
}

/// What the kernel has counted since the programs were first pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections and questions led to the daemon.
    pub taken: u64,
    /// Connections let through untouched.
    pub passed: u64,
    /// Refusals.
    pub refused: u64,
    /// Accepted connections that no flow led to.
    pub misses: u64,
    /// Packets dropped by the egress filter.
    pub dropped: u64,
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
}

/// The kernel's part. Shared by reference; every method may be called from any thread.
pub struct Capture {
    pub(crate) tree: Tree,
    pub(crate) maps: Maps,
    pub(crate) pins: Pins,
    /// What the programs are told when they are loaded.
    pub(crate) switches: Switches,
    /// The folder of the cgroup that is watched.
    pub(crate) watched: PathBuf,
    /// Programs whose processes of before were marked, with the key under which the kernel knows each.
    pub(crate) programs_known: Mutex<HashSet<(GovernId, Vec<u8>)>>,
    /// Held while what is governed changes.
    pub(crate) changes: Mutex<()>,
    /// The destinations that the kernel knows, so that a change removes what is gone.
    known: Mutex<Vec<DestinationRule>>,
}

impl Capture {
    /// Loads and pins everything, and moves this process into the daemon's cgroup. From here on governed processes are
    /// closed in; nothing is reachable until ports and destinations are set.
    pub fn open(settings: &CaptureSettings) -> Result<Self, Error> {
        Self::open_with(settings, Switches::probe())
    }

    /// As [`Capture::open`], but as on a kernel that offers nothing besides what is required. For tests: how Writ works
    /// on older kernels is seen on a newer one.
    #[doc(hidden)]
    pub fn open_bare(settings: &CaptureSettings) -> Result<Self, Error> {
        Self::open_with(settings, Switches { task_storage: false, unix: false })
    }

    fn open_with(settings: &CaptureSettings, switches: Switches) -> Result<Self, Error> {
        mount(&settings.bpffs)?;
        let tree = Tree::open(&settings.cgroup)?;
        cgroup::enter(&tree.daemon(), std::process::id())?;
        let Loaded { maps, pins } = load::load(&settings.bpffs, &tree, switches)?;
        let watch = settings.watch.strip_prefix("/").unwrap_or(&settings.watch);
        // Joined with nothing a path would end in a slash.
        let watched = if watch == Path::new("") { tree.mount().to_owned() } else { tree.absolute(watch) };
        let (known, changes, programs_known) = Default::default();
        let capture = Self { tree, maps, pins, switches, watched, programs_known, changes, known };
        capture.resume_watch()?;
        Ok(capture)
    }

    /// Removes every trace of an installation from the kernel: runs are ended, pins removed, cgroups removed.
    pub fn purge(settings: &CaptureSettings) -> Result<(), Error> {
        Tree::open(&settings.cgroup)?.purge()?;
        load::unpin(&settings.bpffs);
        unmount(&settings.bpffs);
        Ok(())
    }

    /// How strongly this kernel enforces.
    pub fn assurance(&self) -> Assurance {
        Assurance::Kernel
    }

    /// The ports on loopback that taken connections and questions are led to, and on which somebody listens in the calling
    /// thread's network.
    pub fn set_ports(&self, relay: u16, resolver: u16) -> Result<(), Error> {
        update(&self.maps.settings, &0u32.to_ne_bytes(), &record::settings(relay, resolver), "the ports")?;
        self.hear_here_only()
    }

    /// Makes these the destinations there are. What is new is added before what is gone is removed; what changes is
    /// replaced in place, so no destination that stays is ever refused in between.
    pub fn set_destinations(&self, rules: &[DestinationRule]) -> Result<(), Error> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for rule in rules {
            self.put(rule).map_err(|_| Error::Destinations { asked: rules.len() })?;
        }
        let stays: HashSet<_> =
            rules.iter().map(|rule| record::destination(rule.address, rule.port)).collect();
        // After a restart the map holds what an earlier daemon put there.
        let old: Vec<_> = self.maps.destinations.keys().collect();
        for key in old {
            let listed = key.first_chunk().is_some_and(|key| stays.contains(key));
            if !listed {
                drop(self.maps.destinations.delete(&key));
            }
        }
        *known = rules.to_vec();
        Ok(())
    }

    /// Adds one destination, as a name below a pattern gets its address.
    pub fn add_destination(&self, rule: &DestinationRule) -> Result<(), Error> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !known.contains(rule) {
            self.put(rule)?;
            known.push(*rule);
        }
        Ok(())
    }

    fn put(&self, rule: &DestinationRule) -> Result<(), Error> {
        let value = match rule.verdict {
            Verdict::Take => record::rule(1, None),
            Verdict::Pass(real) => record::rule(2, Some(real)),
        };
        update(
            &self.maps.destinations,
            &record::destination(rule.address, rule.port),
            &value,
            "a destination",
        )
    }

    /// Makes these the Unix sockets that the run may connect to, by exact absolute path of at most 107 bytes. A longer
    /// path cannot be connected to at all and is passed over.
    pub fn allow_unix(&self, run: RunId, paths: &[PathBuf]) -> Result<(), Error> {
        self.grant_unix(Grantee::Run(run.tag()), paths)
    }

    pub(crate) fn grant_unix(&self, to: Grantee, paths: &[PathBuf]) -> Result<(), Error> {
        let keys: HashSet<_> = paths.iter().filter_map(|path| record::unix_grant(to, path)).collect();
        for key in &keys {
            update(&self.maps.unix_allowed, key, &1u32.to_ne_bytes(), "a unix socket")?;
        }
        let old: Vec<_> = self.maps.unix_allowed.keys().filter(|key| key.starts_with(&to.prefix())).collect();
        for key in old.iter().filter(|key| !keys.contains(key.as_slice())) {
            drop(self.maps.unix_allowed.delete(key));
        }
        Ok(())
    }

    /// Makes the cgroup of a run and tells the kernel. Nothing is in it yet.
    pub fn create_run(&self, run: RunId) -> Result<(), Error> {
        let folder = self.tree.run(run);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::file("make", &folder)(error));
            }
            _ => {}
        }
        let id = cgroup::id(&folder)?;
        update(&self.maps.places, &id.to_ne_bytes(), &record::place_of_run(run.tag(), 0), "a run")
    }

    /// Labels a process and moves it into the cgroup of its run. It must have one thread, and must be the process that
    /// `expected` names, by pid and start. Sockets that it already has stay what they were: the launcher closes them
    /// first.
    pub fn adopt(&self, run: RunId, pidfd: BorrowedFd<'_>, expected: &Process) -> Result<(), Error> {
        let refused = |why| Error::Adopt { pid: expected.pid, why };
        if !process::is_the_one(expected) {
            return Err(refused("another process has its pid by now"));
        }
        if process::threads(expected.pid).is_none_or(|threads| threads != 1) {
            return Err(refused("it has more than one thread"));
        }
        let generation = self.generation(pidfd);
        self.label(pidfd, expected.pid, Label { run: run.tag(), governed: None, generation })?;
        cgroup::enter(&self.tree.run(run), expected.pid)?;
        // Had the pid been reused meanwhile, the pidfd's process would be gone.
        if process::is_alive(pidfd) { Ok(()) } else { Err(refused("it has ended")) }
    }

    /// The runs that have a cgroup: after a restart, those that went on.
    pub fn runs(&self) -> Result<Vec<RunId>, Error> {
        self.tree.list()
    }

    /// The run's control group, as a folder.
    pub fn folder_of(&self, run: RunId) -> PathBuf {
        self.tree.run(run)
    }

    /// The folder of the control group that a process is in.
    pub fn folder_of_process(&self, pid: u32) -> Option<PathBuf> {
        Some(self.tree.absolute(&process::cgroup(pid)?))
    }

    /// Where the hierarchy of control groups is mounted.
    pub fn hierarchy(&self) -> &Path {
        self.tree.mount()
    }

    /// The folder of the cgroup below which processes may be governed that Writ did not launch.
    pub fn watched(&self) -> &Path {
        &self.watched
    }

    /// Whether any process of the run is left.
    pub fn populated(&self, run: RunId) -> Result<bool, Error> {
        cgroup::populated(&self.tree.run(run))
    }

    /// Completes when no process of the run is left.
    pub async fn emptied(&self, run: RunId) -> Result<(), Error> {
        cgroup::emptied(&self.tree.run(run)).await
    }

    /// Ends every process of the run, at once.
    pub fn kill_run(&self, run: RunId) -> Result<(), Error> {
        cgroup::kill(&self.tree.run(run))
    }

    /// Forgets a run whose processes are gone, and removes its cgroup.
    pub fn forget_run(&self, run: RunId) -> Result<(), Error> {
        let folder = self.tree.run(run);
        drop(self.grant_unix(Grantee::Run(run.tag()), &[]));
        if let Ok(id) = cgroup::id(&folder) {
            drop(self.maps.places.delete(&id.to_ne_bytes()));
        }
        cgroup::remove_when_empty(&folder)
    }

    /// Who opened this accepted connection. `None` is a miss.
    pub fn origin(&self, accepted: BorrowedFd<'_>) -> Option<Origin> {
        let bytes = self.maps.sk_origin.lookup(&accepted.as_raw_fd().to_ne_bytes(), MapFlags::ANY).ok()??;
        Origin::read(&bytes)
    }

    /// Who sent a question to the resolver, by the mark of its datagram. Each mark answers once. Without a run but with a
    /// subtree it is a governed process that was assigned none yet.
    pub fn question(&self, mark: Mark) -> Option<Origin> {
        Origin::read(&self.maps.questions.lookup_and_delete(&mark.get().to_ne_bytes()).ok()??)
    }

    /// What the kernel has counted.
    pub fn counters(&self) -> Counters {
        let sum = |index: u32| {
            let values = self.maps.counters.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY).ok().flatten();
            let number = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |chunk| u64::from_ne_bytes(*chunk));
            values.unwrap_or_default().iter().map(number).sum()
        };
        Counters {
            taken: sum(0),
            passed: sum(1),
            refused: sum(2),
            misses: sum(4),
            dropped: sum(5),
            events_lost: sum(6),
        }
    }

    pub(crate) fn events_map(&self) -> &MapHandle {
        &self.maps.events
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("tree", &self.tree).finish_non_exhaustive()
    }
}

pub(crate) fn update(map: &MapHandle, key: &[u8], value: &[u8], what: &'static str) -> Result<(), Error> {
    map.update(key, value, MapFlags::ANY).map_err(Error::kernel(what))
}

/// A bpffs of our own, which nobody else may enter: whoever removes a pin opens a run.
fn mount(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("make", path))?;
    let is_bpffs = |path: &Path| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == libc::BPF_FS_MAGIC);
    if !is_bpffs(path) {
        let flags = rustix::mount::MountFlags::NOSUID
            | rustix::mount::MountFlags::NODEV
            | rustix::mount::MountFlags::NOEXEC;
        rustix::mount::mount("bpf", path, "bpf", flags, c"mode=0700")
            .map_err(|errno| Error::file("mount", path)(errno.into()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Error::file("protect", path))
}

fn unmount(path: &Path) {
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).ok();
}
