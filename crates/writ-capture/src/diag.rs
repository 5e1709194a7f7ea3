//! Live sockets, as the kernel lists them (`sock_diag(7)`), and their end: `SOCK_DESTROY` (`CONFIG_INET_DIAG_DESTROY`).
//!
//! A dump sees one network namespace, and of its sockets those that are bound or connected. Invariant: a socket is
//! destroyed under the cookie with which it was listed, so it can be no other.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libbpf_rs::MapHandle;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::network::Network;

/// Message types of `linux/sock_diag.h` and `linux/netlink.h`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, and with it `NLM_F_ACK` or `NLM_F_DUMP`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Bytes of `struct nlmsghdr`, `struct inet_diag_sockid` and `struct inet_diag_msg`.
const HEAD: usize = 16;
const SOCKET_ID: usize = 48;
const ENTRY: usize = 72;
/// Attributes of `linux/inet_diag.h`: asked for and answered.
const ASK_STORAGES: u16 = 2;
const STORAGES: u16 = 20;
const CGROUP_ID: u16 = 21;
/// Within them, of `linux/sock_diag.h`.
const STORAGE_MAP_FD: u16 = 1;
const STORAGE_VALUE: u16 = 3;
/// The kernel marks attributes that hold others, or are in network order.
const TYPE_BITS: u16 = 0x3fff;
/// `TCP_ESTABLISHED`, `TCP_CLOSE` and `TCP_LISTEN` of `linux/tcp_states.h`; datagram sockets use the first two.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
/// Families and protocols, in the one byte that they have here.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// What a dump answers at once at most.
const ANSWER: usize = 64 * 1024;

/// A socket that is bound or connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// Its own address.
    pub local: SocketAddr,
    /// Its peer's; unspecified if it has none.
    pub remote: SocketAddr,
    /// The id of the cgroup in which it was made; 0 if the kernel does not say.
    pub cgroup: u64,
    /// The inode behind its descriptors; 0 if nobody holds it any more.
    pub inode: u32,
    state: u8,
    family: u8,
    id: [u8; SOCKET_ID],
    /// What the kernel's part keeps with it, if that was asked for.
    pub(crate) storage: Option<Vec<u8>>,
}

impl Socket {
    pub(crate) fn is_connected(&self) -> bool {
        self.state != LISTEN && self.state != CLOSE || self.remote.port() != 0
    }
}

/// What became of sockets that were to be cut.
#[derive(Debug, Default)]
pub struct Cut {
    /// Destroyed: whoever reads or writes them gets an error.
    pub cut: usize,
    /// Still there. They end with their process.
    pub left: Vec<Socket>,
    /// Why some are still there, or could not be looked for.
    pub trouble: Option<io::Error>,
}

impl Cut {
    fn add(&mut self, other: Self) {
        self.cut += other.cut;
        self.left.extend(other.left);
        self.trouble = other.trouble.or(self.trouble.take());
    }

    fn failed(error: io::Error) -> Self {
        Self { trouble: Some(error), ..Self::default() }
    }
}

/// A connection to the kernel's list of sockets of one network namespace.
pub(crate) struct Diag(OwnedFd);

impl Diag {
    /// Of the calling thread's network namespace.
    fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(Self(socket))
    }

    /// Destroys the sockets that are meant. `with`: their storage in this map is shown to whoever means them.
    pub(crate) fn cut(&self, with: Option<&MapHandle>, meant: &dyn Fn(&Socket) -> bool) -> Cut {
        let mut all = Cut::default();
        for (family, protocol) in [(IPV4, TCP), (IPV6, TCP), (IPV4, UDP), (IPV6, UDP)] {
            match self.list(family, protocol, with) {
                Ok(sockets) => all.add(self.destroy_all(sockets.into_iter().filter(|one| meant(one)))),
                Err(error) => all.trouble = Some(error),
            }
        }
        all
    }

    fn destroy_all(&self, sockets: impl Iterator<Item = Socket>) -> Cut {
        let mut all = Cut::default();
        for socket in sockets {
            match self.destroy(&socket) {
                Ok(()) => all.cut += 1,
                // It ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    all.left.push(socket);
                    all.trouble = Some(error);
                }
            }
        }
        all
    }

    /// All sockets of a family and protocol.
    fn list(&self, family: u8, protocol: u8, with: Option<&MapHandle>) -> io::Result<Vec<Socket>> {
        let mut body = request(family, protocol, &[0; SOCKET_ID]);
        if let Some(map) = with {
            let fd = attribute(STORAGE_MAP_FD, &map.as_fd().as_raw_fd().to_ne_bytes());
            body.extend(attribute(ASK_STORAGES, &fd));
        }
        self.send(BY_FAMILY, REQUEST | DUMP, &body)?;
        let mut sockets = Vec::new();
        let mut answer = vec![0; ANSWER];
        loop {
            let (length, _) = rustix::net::recv(&self.0, answer.as_mut_slice(), RecvFlags::empty())?;
            for message in Messages(answer.get(..length).unwrap_or_default()) {
                match message.kind {
                    BY_FAMILY => sockets.extend(read(protocol, message.body)),
                    DONE => return Ok(sockets),
                    ERROR => outcome(message.body)?,
                    _ => {}
                }
            }
        }
    }

    fn destroy(&self, socket: &Socket) -> io::Result<()> {
        self.send(DESTROY, REQUEST | ACK, &request(socket.family, socket.protocol, &socket.id))?;
        let mut answer = vec![0; ANSWER];
        let (length, _) = rustix::net::recv(&self.0, answer.as_mut_slice(), RecvFlags::empty())?;
        let mut messages = Messages(answer.get(..length).unwrap_or_default());
        let error = messages.find(|message| message.kind == ERROR);
        error.map_or(Err(io::ErrorKind::InvalidData.into()), |message| outcome(message.body))
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEAD + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEAD + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        rustix::net::send(&self.0, &message, SendFlags::empty())?;
        Ok(())
    }
}

/// Does this in the caller's network namespace, and in each other one that these processes are in.
pub(crate) fn in_networks_of(pids: &[u32], act: &(dyn Fn(&Diag) -> Cut + Sync)) -> Cut {
    let here = || Diag::open().map(|diag| act(&diag));
    let own = Network::here().and_then(|network| network.id()).ok();
    let mut others = HashMap::new();
    for network in pids.iter().filter_map(|pid| Network::of(*pid).ok()) {
        if let Some(id) = network.id().ok().filter(|id| Some(*id) != own) {
            others.insert(id, network);
        }
    }
    let mut all = here().unwrap_or_else(Cut::failed);
    for network in others.values() {
        all.add(network.within(here).unwrap_or_else(Cut::failed));
    }
    all
}

/// The inodes of the sockets that a process holds.
pub(crate) fn inodes_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

/// A `struct inet_diag_req_v2` for sockets in any state.
fn request(family: u8, protocol: u8, id: &[u8; SOCKET_ID]) -> Vec<u8> {
    let mut body = vec![family, protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(id);
    body
}

/// A `struct nlattr` with its value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What the kernel answered to a command: an error below zero, or zero.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// One message of an answer.
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// Messages or attributes, one after the other; what is cut off ends them.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(*self.0.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let body = self.0.get(HEAD..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    }
}

struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE_BITS;
        let body = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    }
}

/// A `struct inet_diag_msg` with its attributes.
fn read(protocol: u8, body: &[u8]) -> Option<Socket> {
    let family = *body.first()?;
    let state = *body.get(1)?;
    let id: [u8; SOCKET_ID] = *body.get(4..)?.first_chunk()?;
    let inode = u32::from_ne_bytes(*body.get(ENTRY - 4..)?.first_chunk()?);
    let port = |at: usize| Some(u16::from_be_bytes(*id.get(at..)?.first_chunk()?));
    let ip = |at: usize| {
        let bytes = id.get(at..)?;
        Some(if family == IPV4 {
            IpAddr::from(*bytes.first_chunk::<4>()?)
        } else {
            IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical()
        })
    };
    let (local, remote) = (SocketAddr::new(ip(4)?, port(0)?), SocketAddr::new(ip(20)?, port(2)?));
    let mut socket = Socket { protocol, local, remote, cgroup: 0, inode, state, family, id, storage: None };
    for attribute in Attributes(body.get(ENTRY..)?) {
        match attribute.kind {
            CGROUP_ID => socket.cgroup = u64::from_ne_bytes(*attribute.body.first_chunk()?),
            STORAGES => {
                let values = Attributes(attribute.body).flat_map(|one| Attributes(one.body));
                let value = values.into_iter().find(|one| one.kind == STORAGE_VALUE);
                socket.storage = value.map(|one| one.body.to_vec());
            }
            _ => {}
        }
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic_and_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let messages = Messages(&bytes).count();
            let attributes = Attributes(&bytes).count();
            prop_assert!(messages <= 400 && attributes <= 400);
            drop(read(TCP, &bytes));
        }
    }

    #[test]
    fn an_empty_message_ends_the_list() {
        assert_eq!(Messages(&[0; 64]).count(), 0);
        assert_eq!(Attributes(&[0; 64]).count(), 0);
    }
}
