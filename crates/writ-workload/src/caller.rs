//! The process at the other end of a connection, held from accept to the end.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use writ_session::Peer;

/// A caller on the Workload API, as the kernel named it when it connected.
#[derive(Debug)]
pub(crate) struct Caller {
    peer: Peer,
}

impl Caller {
    /// The peer of an accepted socket. Fails if it is gone already: its pid may be somebody else's by now.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self, writ_session::Error> {
        Ok(Self { peer: Peer::of(socket)? })
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Ends when the process does. A process that it started and that kept the socket does not count.
    pub(crate) fn gone(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let pidfd: OwnedFd = self.peer.pidfd().try_clone_to_owned()?;
        // A pidfd becomes readable when its process exits.
        #[expect(
            deprecated,
            reason = "an `OwnedFd` stays open for as long as it is there; the new way is unsafe"
        )]
        let watched = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(async move {
            // A pidfd that cannot be watched is one of a process that is not to be served any more.
            if let Err(error) = watched.readable().await {
                tracing::warn!(target: "writ::workload", %error, "a caller cannot be watched");
            }
        })
    }
}
