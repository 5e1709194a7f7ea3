//! What the daemon itself sees of a process that says it is ready: is it confined as `writ run` confines?
//!
//! The launcher runs with the caller's rights, so its word counts for nothing; this looks. It cannot see *which*
//! filter or which mounts there are: a caller who writes their own launcher deceives only themselves, since they
//! could run the program ungoverned as well.

use rustix::fs::AtFlags;

use crate::error::Error;
use crate::peer::Peer;

/// The state of a process before it executes its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Whether it has a user and a mount namespace of its own.
    pub namespaces: bool,
    /// The uid that it has.
    pub uid: u32,
}

impl Confinement {
    /// Checks the peer: one thread, one uid that is not root, no capability in any set, `no_new_privs`, a seccomp
    /// filter, and namespaces unless the agent may do without.
    pub fn observe(peer: &Peer, run_uid: u32, without_namespaces: bool) -> Result<Self, Error> {
        let status = peer.status()?;
        let missing = |what| Err(Error::Unconfined { what });
        if status.uids.len() != 4 || status.uids.iter().any(|uid| *uid != run_uid) || run_uid == 0 {
            return missing("it does not have the uid of the run");
        }
        if !status.no_new_privs {
            return missing("it could gain privileges (no_new_privs)");
        }
        if status.seccomp != 2 {
            return missing("it has no system call filter");
        }
        if status.threads != 1 {
            return missing("it has more than one thread");
        }
        let namespaces = differs(peer, "ns/user")? && differs(peer, "ns/mnt")?;
        if !namespaces && !without_namespaces {
            return missing("it has no user and mount namespace of its own");
        }
        // Without a namespace of its own an ordinary user may not empty the bounding set; no_new_privs makes what
        // is in it unreachable.
        if status.held != 0 || (namespaces && status.bounding != 0) {
            return missing("it has capabilities");
        }
        Ok(Self { namespaces, uid: run_uid })
    }
}

fn differs(peer: &Peer, name: &str) -> Result<bool, Error> {
    let unreadable = |errno: rustix::io::Errno| Error::Unproven {
        what: "its namespaces cannot be read",
        source: errno.into(),
    };
    let theirs = rustix::fs::statat(peer.folder(), name, AtFlags::empty()).map_err(unreadable)?;
    let ours = rustix::fs::stat(format!("/proc/self/{name}")).map_err(unreadable)?;
    Ok((theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino))
}
