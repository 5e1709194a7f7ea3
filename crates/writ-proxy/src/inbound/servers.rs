//! Which run listens on a loopback port, from the kernel's own list of sockets.
//!
//! A socket keeps the control group that it was made in, whoever holds it later, and the kernel tells it to anybody
//! (`sock_diag(7)`, attribute `INET_DIAG_CGROUP_ID`). So a process outside the run that takes the port is seen, and one that
//! was handed a socket is not mistaken for who made it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use writ_core::{AgentName, Reason};
use writ_gate::{Behind, Session};

/// A live session of a run, with the folder of the run's control group.
pub type Running = (Arc<Session>, PathBuf);

/// [`Behind`] for runs that have a control group each.
pub struct Servers<F>(F);

impl<F> Servers<F>
where
    F: Fn(&AgentName) -> Vec<Running> + Send + Sync,
{
    /// `runs` gives the live sessions of an agent's runs.
    pub fn new(runs: F) -> Self {
        Self(runs)
    }
}

impl<F> std::fmt::Debug for Servers<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers")
    }
}

impl<F> Behind for Servers<F>
where
    F: Fn(&AgentName) -> Vec<Running> + Send + Sync,
{
    fn behind(&self, agent: &AgentName, port: u16) -> Result<Arc<Session>, Reason> {
        let groups = listening(port).map_err(|error| {
            tracing::error!(target: "writ::proxy", %error, "the kernel does not say who listens");
            Reason::NoServer
        })?;
        let (first, others) = groups.split_first().ok_or(Reason::NoServer)?;
        if others.iter().any(|other| other != first) {
            return Err(Reason::NoServer);
        }
        let made_it =
            |(_, folder): &Running| std::fs::metadata(folder).is_ok_and(|about| about.ino() == *first);
        let (session, _) = (self.0)(agent).into_iter().find(made_it).ok_or(Reason::NoServer)?;
        match session.cause() {
            Some(_) => Err(Reason::NoServer),
            None => Ok(session),
        }
    }
}

/// Bytes of `struct nlmsghdr` (netlink(7)).
const HEADER: usize = 16;
/// Bytes of `struct inet_diag_msg` (`linux/inet_diag.h`).
const MESSAGE: usize = 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const TCP_LISTEN: u32 = 10;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// What the kernel sends at most at once in a dump.
const ANSWER_BYTES: usize = 32 * 1024;

/// The control groups of every socket that would take a connection to 127.0.0.1 and this port, one entry each.
fn listening(port: u16) -> io::Result<Vec<u64>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG))?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut groups = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let request = request(family, port);
        rustix::net::send(&socket, &request, SendFlags::empty())?;
        let mut answer = vec![0u8; ANSWER_BYTES];
        loop {
            let (read, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = answer.get(..read).ok_or_else(malformed)?;
            if rest.is_empty() {
                return Err(malformed());
            }
            if !messages(&mut rest, port, &mut groups)? {
                break;
            }
        }
    }
    Ok(groups)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for listening TCP sockets of one port.
fn request(family: AddressFamily, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 56);
    let length = u32::try_from(HEADER + 56).unwrap_or(0);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    let family = u8::try_from(family.as_raw()).unwrap_or(0);
    let tcp = 6;
    bytes.extend([family, tcp, 0, 0]);
    bytes.extend((1u32 << TCP_LISTEN).to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(HEADER + 56, 0);
    bytes
}

/// Reads the messages of one answer; whether more follow.
fn messages(rest: &mut &[u8], port: u16, groups: &mut Vec<u64>) -> io::Result<bool> {
    while !rest.is_empty() {
        let length = usize::try_from(u32::from_ne_bytes(field(rest, 0)?)).map_err(|_| malformed())?;
        let kind = u16::from_ne_bytes(field(rest, 4)?);
        let message = rest.get(HEADER..length).ok_or_else(malformed)?;
        match kind {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => {
                let code = i32::from_ne_bytes(field(message, 0)?);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY
                if u16::from_be_bytes(field(message, 4)?) == port && takes_loopback(message)? =>
            {
                groups.push(group(message)?);
            }
            _ => {}
        }
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Whether the socket's own address is one that a connection to 127.0.0.1 may find.
fn takes_loopback(message: &[u8]) -> io::Result<bool> {
    let source: [u8; 16] = field(message, 8)?;
    let address = std::net::Ipv6Addr::from(source);
    let v4: [u8; 4] = field(message, 8)?;
    let is_v4 = message.first().is_some_and(|family| u16::from(*family) == AddressFamily::INET.as_raw());
    Ok(if is_v4 {
        let address = std::net::Ipv4Addr::from(v4);
        address.is_loopback() || address.is_unspecified()
    } else {
        address.is_unspecified() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
    })
}

/// The control group, from the attributes.
fn group(message: &[u8]) -> io::Result<u64> {
    let mut rest = message.get(MESSAGE..).ok_or_else(malformed)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes(field(rest, 0)?));
        if u16::from_ne_bytes(field(rest, 2)?) == INET_DIAG_CGROUP_ID {
            return Ok(u64::from_ne_bytes(field(rest, 4)?));
        }
        if length < 4 {
            return Err(malformed());
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Err(io::Error::other("the kernel does not tell the control group of sockets"))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer of the kernel cannot be read")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The id of the control group that this process is in.
    fn own_group() -> u64 {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let path = format!("/sys/fs/cgroup{path}");
        std::fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_listener_tells_the_control_group_that_made_it() {
        let own = own_group();
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(listening(port).unwrap(), [own], "{address}");
            let connected = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            assert_eq!(listening(port).unwrap(), [own], "{address}: a connection is no listener");
            drop((listener, connected));
            assert!(listening(port).unwrap().is_empty());
        }
        let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
        assert_eq!(listening(elsewhere.local_addr().unwrap().port()).unwrap(), [own]);
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        assert!(listening(v6.local_addr().unwrap().port()).unwrap().is_empty());
    }
}
