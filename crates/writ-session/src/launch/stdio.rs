//! The only descriptors that a run inherits: 0, 1 and 2, and only as terminal, pipe, file, or harmless device.
//!
//! A socket made before the run joined its cgroup would carry data past every hook, so an inherited one is refused,
//! except one end of a nameless unix socket pair, which some programs use in place of pipes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixStream};

use rustix::fs::{FileType, OFlags};
use rustix::net::AddressFamily;

use super::{Between, LaunchError};

/// Character devices that may be inherited beside terminals: null, zero, full, random, urandom.
const DEVICES: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];

/// Checks 0, 1 and 2. (The Rust runtime has put `/dev/null` in the place of those that were closed.)
pub(super) fn check() -> Result<(), LaunchError> {
    let named = [
        (rustix::stdio::stdin(), "input"),
        (rustix::stdio::stdout(), "output"),
        (rustix::stdio::stderr(), "error"),
    ];
    for (fd, name) in named {
        match what_is_wrong(fd) {
            Ok(None) => {}
            Ok(Some(found)) => return Err(LaunchError::Inherited { name, found }),
            Err(rustix::io::Errno::BADF) => {
                return Err(LaunchError::Inherited { name, found: "closed" });
            }
            Err(errno) => {
                return Err(LaunchError::Host { doing: "look at its descriptors", source: errno.into() });
            }
        }
    }
    Ok(())
}

fn what_is_wrong(fd: BorrowedFd<'_>) -> rustix::io::Result<Option<&'static str>> {
    let about = rustix::fs::fstat(fd)?;
    if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::PATH) {
        return Ok(Some("a path and no open file"));
    }
    Ok(match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile | FileType::Fifo => None,
        FileType::CharacterDevice => {
            let device = (rustix::fs::major(about.st_rdev), rustix::fs::minor(about.st_rdev));
            let harmless = DEVICES.contains(&device) || rustix::termios::isatty(fd);
            (!harmless).then_some("a device")
        }
        FileType::Socket => socket(fd)?,
        FileType::Directory => Some("a folder"),
        FileType::BlockDevice => Some("a disk"),
        FileType::Symlink | FileType::Unknown => Some("of an unknown kind"),
    })
}

fn socket(fd: BorrowedFd<'_>) -> rustix::io::Result<Option<&'static str>> {
    if rustix::net::sockopt::socket_domain(fd)? != AddressFamily::UNIX {
        return Ok(Some("a network socket, which would carry data past Writ"));
    }
    let socket = UnixStream::from(fd.try_clone_to_owned().map_err(|_| rustix::io::Errno::MFILE)?);
    let nameless = |end: io::Result<SocketAddr>| match end {
        Ok(address) => address.is_unnamed(),
        // The other end is gone: nobody is there to talk to.
        Err(error) => error.kind() == io::ErrorKind::NotConnected,
    };
    let pair = nameless(socket.local_addr()) && nameless(socket.peer_addr());
    Ok((!pair).then_some("a unix socket of another program"))
}

/// A socket pair between an MCP server and the daemon. Both ends close on exec.
pub(super) struct Pair {
    server: UnixStream,
    daemon: UnixStream,
}

impl Pair {
    pub(super) fn new() -> Result<Self, LaunchError> {
        let (server, daemon) =
            UnixStream::pair().map_err(|source| LaunchError::Host { doing: "make a socket pair", source })?;
        Ok(Self { server, daemon })
    }

    pub(super) fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.server.as_fd(), self.daemon.as_fd()]
    }

    pub(super) fn between(&self) -> Between {
        Between { server: self.server.as_raw_fd(), daemon: self.daemon.as_raw_fd() }
    }

    /// Puts the server's end in the place of 0 and 1; this process then has neither its client's ends nor the daemon's.
    pub(super) fn take_place(self) -> Result<(), LaunchError> {
        let placed =
            rustix::stdio::dup2_stdin(&self.server).and_then(|()| rustix::stdio::dup2_stdout(&self.server));
        placed.map_err(|errno| LaunchError::Host { doing: "replace its descriptors", source: errno.into() })
    }
}

/// Closes everything else that was inherited.
pub(super) fn close_others(keep: &[BorrowedFd<'_>]) -> Result<(), LaunchError> {
    crate::syscall::close_all_but(keep)
        .map_err(|source| LaunchError::Host { doing: "close inherited descriptors", source })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn found(fd: impl AsFd) -> Option<&'static str> {
        what_is_wrong(fd.as_fd()).unwrap()
    }

    #[test]
    fn inherited_sockets_are_refused_and_pipes_files_and_pairs_are_not() {
        let (one, two) = UnixStream::pair().unwrap();
        assert_eq!((found(&one), found(&two)), (None, None));
        let (read, write) = io::pipe().unwrap();
        assert_eq!((found(&read), found(&write)), (None, None));
        assert_eq!(found(std::fs::File::open("/dev/null").unwrap()), None);
        assert_eq!(found(tempfile::tempfile().unwrap()), None);

        assert!(found(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap().contains("network socket"));
        assert!(found(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap().contains("network socket"));
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let client = UnixStream::connect(dir.path().join("s")).unwrap();
        assert!(found(&client).unwrap().contains("unix socket"), "docker.sock as standard input, say");
        assert!(found(&listener).is_some());
        assert!(found(std::fs::File::open("/").unwrap()).unwrap().contains("folder"));
    }
}
