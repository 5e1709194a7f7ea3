//! Network namespaces: what is governed may have one of its own, as containers do, and 127.0.0.1 there is another one.
//!
//! A socket belongs to the namespace in which it was made, for good. So whoever serves a governed process makes listeners
//! there ([`Network::within`]), on the ports of [`Capture::set_ports`]; without them its connections are refused. How a
//! connection is attributed is the same.
//!
//! [`Capture::set_ports`]: crate::Capture::set_ports

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, which lives at least as long as this.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// The calling thread's own.
    pub fn here() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    /// The one that a process is in. Compare the process afterwards, if its pid comes from elsewhere.
    pub fn of(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/ns/net")).map(Self)
    }

    /// What tells it from others that live.
    pub fn id(&self) -> io::Result<(u64, u64)> {
        self.0.metadata().map(|found| (found.dev(), found.ino()))
    }

    /// Does this in the namespace, on a thread of its own that ends with it: the sockets that it makes stay there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let there = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            act()
        };
        let ended = std::thread::scope(|scope| scope.spawn(there).join());
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread in another network ended")))
    }
}
