//! What can go wrong between the daemon and the kernel.

use std::io;
use std::path::{Path, PathBuf};

use crate::govern::GovernId;

/// Capture could not be set up or used. Nothing is governed by halves: the caller refuses to go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no cgroup v2.
    #[error("no cgroup2 file system is mounted; hint: `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup2,
    /// A file of the kernel's could not be used.
    #[error("cannot {verb} `{}`", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel did not take a program or map.
    #[error("the kernel refused {what}; hint: run `writ doctor`, and `writd --purge` after an upgrade")]
    Kernel {
        /// What.
        what: &'static str,
        /// What libbpf said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A program could not be attached.
    #[error(
        "cannot attach `{name}`; hint: see whether another program holds the cgroup for itself (`bpftool cgroup`)"
    )]
    Attach {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something that every start needs is missing.
    #[error("this kernel cannot enforce: {missing}; hint: run `writ doctor`")]
    Unable {
        /// What is missing.
        missing: String,
    },
    /// A process is not the one that was meant.
    #[error("process {pid} cannot be adopted: {why}")]
    Adopt {
        /// The process.
        pid: u32,
        /// Why.
        why: &'static str,
    },
    /// A process cannot be given a run where it stands.
    #[error("process {pid} cannot be assigned a run: {why}")]
    Assign {
        /// The process.
        pid: u32,
        /// Why.
        why: &'static str,
    },
    /// A subtree of cgroups that may not be governed.
    #[error("`{}` cannot be governed: {why}", path.display())]
    Govern {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Nothing is governed under this name.
    #[error("nothing is governed as {id}")]
    NotGoverned {
        /// The name.
        id: GovernId,
    },
    /// A cgroup that cannot be awaited.
    #[error("{what} cannot be awaited: it is longer than 255 bytes, or no absolute path")]
    Awaited {
        /// What was to be awaited.
        what: String,
    },
    /// Names of cgroups mean something else here than to the kernel.
    #[error(
        "processes that Writ did not launch cannot be governed from a cgroup namespace; hint: run writd in that of the host"
    )]
    CgroupNamespace,
    /// A network namespace cannot be named.
    #[error("the network of a process cannot be named")]
    Network {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's events cannot be waited for.
    #[error("the kernel's events cannot be waited for")]
    Events {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Runs are inherited faster than they can be taken away.
    #[error("processes with a run that is to be taken away start others all the time; hint: stop them")]
    Labels,
    /// Processes do not leave a cgroup.
    #[error("`{}` does not become empty; hint: see its `cgroup.procs`", folder.display())]
    Busy {
        /// The cgroup.
        folder: PathBuf,
    },
    /// More destinations than the kernel's map holds.
    #[error("{asked} destinations are more than the kernel's table holds")]
    Destinations {
        /// How many.
        asked: usize,
    },
}

impl Error {
    pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }

    pub(crate) fn attach(name: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Attach { name, source }
    }

    pub(crate) fn kernel(what: &'static str) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Kernel { what, source }
    }
}
