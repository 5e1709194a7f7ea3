//! Where everything lies: one root, so that a test or the demo runs beside a real install.

use std::path::{Path, PathBuf};

/// The paths of one installation. `--root DIR` puts all of them below DIR; `/` is a real install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The installation below this folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that everything is below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Configuration: `/etc/writ`.
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc/writ")
    }

    /// The daemon's own settings: `/etc/writ/writd.toml`.
    pub fn settings(&self) -> PathBuf {
        self.etc().join("writd.toml")
    }

    /// Agents, one file each.
    pub fn agents(&self) -> PathBuf {
        self.etc().join("agents")
    }

    /// Services, one file each.
    pub fn services(&self) -> PathBuf {
        self.etc().join("services")
    }

    /// Policies, `*.cedar`.
    pub fn policies(&self) -> PathBuf {
        self.etc().join("policies")
    }

    /// State, mode 0700: `/var/lib/writ`.
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/writ")
    }

    /// The evidence log.
    pub fn evidence(&self) -> PathBuf {
        self.state().join("evidence")
    }

    /// The sealed secret store.
    pub fn secrets(&self) -> PathBuf {
        self.state().join("secrets")
    }

    /// Digests that are trusted for agents, one file each.
    pub fn pins(&self) -> PathBuf {
        self.state().join("pins")
    }

    /// The bundles of trust domains that are federated with, as they were last fetched.
    pub fn bundles(&self) -> PathBuf {
        self.state().join("bundles.json")
    }

    /// Sessions that must survive a restart.
    pub fn sessions(&self) -> PathBuf {
        self.state().join("sessions")
    }

    /// Processes whose run was taken away.
    pub fn barred(&self) -> PathBuf {
        self.state().join("barred.json")
    }

    /// Sockets and what runs need to read, mode 0755: `/run/writ`.
    pub fn run(&self) -> PathBuf {
        self.root.join("run/writ")
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// The Workload API's socket, mode 0666: who asks is proven, not let in.
    pub fn workload_socket(&self) -> PathBuf {
        self.run().join("workload.sock")
    }

    /// The socket of the process that holds the listeners while the daemon restarts, mode 0600.
    pub fn holder_socket(&self) -> PathBuf {
        self.run().join("holder.sock")
    }

    /// Files that runs read: CA certificates and bundles, one folder per run.
    pub fn run_files(&self) -> PathBuf {
        self.run().join("runs")
    }

    /// The same for what is governed without having been launched: one folder per agent.
    pub fn agent_files(&self) -> PathBuf {
        self.run().join("agents")
    }

    /// Pinned kernel objects: `/sys/fs/bpf/writ` in a real install, a mount of our own elsewhere.
    pub fn bpffs(&self) -> PathBuf {
        if self.root == Path::new("/") { PathBuf::from("/sys/fs/bpf/writ") } else { self.run().join("bpf") }
    }
}
