//! Who is at the other end of a Unix socket, as the kernel says it.

mod socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The process that connected: credentials of the time of connect, and a pidfd that can never mean another process.
#[derive(Debug, Clone)]
pub struct Caller {
    uid: u32,
    gid: u32,
    groups: Arc<[u32]>,
    pid: u32,
    pidfd: Arc<OwnedFd>,
}

/// The kernel did not say who is there, so nobody is.
#[derive(Debug, thiserror::Error)]
#[error("cannot learn who connected ({what}); hint: Linux 6.5 or newer is needed")]
pub struct PeerError {
    what: &'static str,
    #[source]
    source: io::Error,
}

impl Caller {
    /// Asks the kernel about the peer of a connected Unix stream socket.
    pub fn of(socket: BorrowedFd<'_>) -> Result<Self, PeerError> {
        let failed = |what| move |source: io::Error| PeerError { what, source };
        let credentials =
            rustix::net::sockopt::socket_peercred(socket).map_err(|e| failed("SO_PEERCRED")(e.into()))?;
        let pidfd = socket::peer_pidfd(socket).map_err(failed("SO_PEERPIDFD"))?;
        let groups = socket::peer_groups(socket).map_err(failed("SO_PEERGROUPS"))?;
        Ok(Self {
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            groups: groups.into(),
            pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            pidfd: Arc::new(pidfd),
        })
    }

    /// A caller put together by hand, for tests of a [`Daemon`](crate::Daemon).
    pub fn from_parts(uid: u32, gid: u32, groups: &[u32], pid: u32, pidfd: OwnedFd) -> Self {
        Self { uid, gid, groups: groups.into(), pid, pidfd: Arc::new(pidfd) }
    }

    /// Effective uid.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Effective gid.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether this is its primary or a supplementary group.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// The pid, for records. Act through [`Caller::pidfd`], never through this number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process itself.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
