//! Network namespaces: what is governed may have one of its own, as containers do, and 127.0.0.1 there is another one.
//!
//! A socket belongs to the namespace in which it was made, for good. So whoever serves a governed process makes listeners
//! there ([`Network::within`]), on the ports of [`Capture::set_ports`], and says so ([`Capture::hear`]); until then what it
//! sends is lost and sent again. How a connection is attributed is the same.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use libbpf_rs::MapCore as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::capture::{Capture, update};
use crate::error::Error;
use crate::syscall;

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

    /// The number by which the kernel's part knows it.
    fn cookie(&self) -> io::Result<u64> {
        self.within(|| syscall::network_cookie(std::net::UdpSocket::bind("127.0.0.1:0")?.as_fd()))
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

/// A network in which somebody listens to what is led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard(u64);

impl Capture {
    /// From now on what governed processes in this network send to the daemon is delivered there.
    pub fn hear(&self, network: &Network) -> Result<Heard, Error> {
        let cookie = network.cookie().map_err(|source| Error::Network { source })?;
        update(&self.maps.heard, &cookie.to_ne_bytes(), &1u32.to_ne_bytes(), "a network")?;
        Ok(Heard(cookie))
    }

    /// Nobody listens there any more.
    pub fn unhear(&self, heard: Heard) {
        drop(self.maps.heard.delete(&heard.0.to_ne_bytes()));
    }

    /// Nobody listens anywhere but here: the listeners of others ended with the daemon before.
    pub(crate) fn hear_here_only(&self) -> Result<(), Error> {
        let here = Network::here().map_err(|source| Error::Network { source })?;
        let here = self.hear(&here)?;
        let others: Vec<_> = self.maps.heard.keys().filter(|key| *key != here.0.to_ne_bytes()).collect();
        for other in others {
            drop(self.maps.heard.delete(&other));
        }
        Ok(())
    }
}
