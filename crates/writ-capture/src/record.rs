//! The records of `writ.h` as the kernel writes them, read field by field: no layout is assumed that is not spelled out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use writ_core::{Process, RunTag};

/// Bytes of one `struct origin`.
pub(crate) const ORIGIN: usize = 88;
/// Bytes of one `struct event`.
pub(crate) const EVENT: usize = 200;
/// Bytes of the recorded path.
const PATH: usize = 128;
/// Bytes of a Unix socket's path (`unix(7)`), its closing zero among them.
const UNIX_PATH: usize = 108;

/// Who opened a socket, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What was asked for, before any redirect. IPv4-mapped addresses are IPv4.
    pub address: SocketAddr,
    /// The run; cgroup and label agreed on it.
    pub run: Option<RunTag>,
    /// The process that called connect or sendmsg.
    pub process: Process,
    /// The process that executed the program which it runs: itself, or the one that it was forked from. It names the
    /// lineage. `None` if nothing was executed since the label.
    pub program: Option<Process>,
    /// Its thread.
    pub tid: u32,
    /// Its cgroup's id.
    pub cgroup: u64,
    /// The cookie of its socket.
    pub cookie: u64,
}

/// One event of the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) run: Option<RunTag>,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    pub(crate) parent: u32,
    /// The program that led to the one that was executed.
    pub(crate) before: Option<Process>,
    pub(crate) protocol: u32,
    pub(crate) path: String,
}

/// Reads one value after the other; short input gives `None`.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn address(&mut self) -> Option<IpAddr> {
        self.take::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    }
}

fn process(pid: u32, start_ns: u64, exec_generation: u32) -> Process {
    Process { exec_generation, pid, start_us: start_ns / 1_000 }
}

/// The process that executed a program; there is none before the first.
fn program(start_ns: u64, pid: u32) -> Option<Process> {
    (pid != 0).then(|| process(pid, start_ns, 0))
}

impl Origin {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes.get(..ORIGIN)?);
        let ip = cursor.address()?;
        let run = RunTag::from_kernel(cursor.u64()?);
        let (cgroup, start_ns, cookie, _netns) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let (pid, tid, generation) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let address = SocketAddr::new(ip, cursor.u16()?);
        let _family = cursor.u16()?;
        let program = program(cursor.u64()?, cursor.u32()?);
        let process = process(pid, start_ns, generation);
        Some(Self { address, run, process, program, tid, cgroup, cookie })
    }
}

impl Event {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes.get(..EVENT)?);
        let run = RunTag::from_kernel(cursor.u64()?);
        let start_ns = cursor.u64()?;
        let ip = cursor.address()?;
        let (kind, tgid, parent, generation, protocol) =
            (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let address = SocketAddr::new(ip, cursor.u16()?);
        let _padding = cursor.u16()?;
        let before = program(cursor.u64()?, cursor.u32()?);
        let _padding = cursor.u32()?;
        let path = cursor.take::<PATH>()?;
        let text = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = String::from_utf8_lossy(text).into_owned();
        Some(Self {
            kind,
            run,
            address,
            process: process(tgid, start_ns, generation),
            parent,
            before,
            protocol,
            path,
        })
    }
}

/// A `struct destination`: key of the map of destinations.
pub(crate) fn destination(ip: IpAddr, port: u16) -> [u8; 24] {
    let mut key = [0u8; 24];
    let (address, rest) = key.split_at_mut(16);
    address.copy_from_slice(&mapped(ip).octets());
    rest.iter_mut().zip(port.to_ne_bytes()).for_each(|(to, from)| *to = from);
    key
}

/// A `struct rule`.
pub(crate) fn rule(verdict: u16, real: Option<SocketAddr>) -> [u8; 24] {
    let real = real.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let mut value = destination(real.ip(), real.port());
    value.iter_mut().skip(18).zip(verdict.to_ne_bytes()).for_each(|(to, from)| *to = from);
    value
}

/// A `struct flow` of a question: the source of a packet on loopback.
pub(crate) fn flow(netns: u64, peer: SocketAddr) -> [u8; 32] {
    let mut key = [0u8; 32];
    let address = mapped(peer.ip()).octets();
    let parts = netns.to_ne_bytes().into_iter().chain(address).chain(u32::from(peer.port()).to_ne_bytes());
    key.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    key
}

/// A `struct run` that has reported nothing yet.
pub(crate) fn run(tag: RunTag) -> [u8; 24] {
    let mut value = [0u8; 24];
    value.iter_mut().zip(tag.get().to_ne_bytes()).for_each(|(to, from)| *to = from);
    value
}

/// A `struct label` before the first exec.
pub(crate) fn label(tag: RunTag) -> [u8; 24] {
    let mut value = [0u8; 24];
    value.iter_mut().zip(tag.get().to_ne_bytes()).for_each(|(to, from)| *to = from);
    value
}

/// A `struct unix_grant`; `None` for a path that no address can hold.
pub(crate) fn unix_grant(tag: RunTag, path: &Path) -> Option<[u8; 120]> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= UNIX_PATH || bytes.first() != Some(&b'/') {
        return None;
    }
    let mut key = [0u8; 120];
    let parts = tag.get().to_ne_bytes().into_iter().chain(bytes.iter().copied());
    key.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    Some(key)
}

/// A `struct settings`.
pub(crate) fn settings(relay: u16, resolver: u16) -> [u8; 8] {
    let ([a, b], [c, d]) = (relay.to_ne_bytes(), resolver.to_ne_bytes());
    [a, b, c, d, 0, 0, 0, 0]
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_ports_are_where_the_kernel_looks() {
        let key = destination("198.18.0.1".parse().unwrap(), 443);
        assert_eq!(&key[..16], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 0, 1]);
        assert_eq!(u16::from_ne_bytes([key[16], key[17]]), 443);
        let value = rule(2, Some("[2001:db8::1]:8443".parse().unwrap()));
        assert_eq!(u16::from_ne_bytes([value[16], value[17]]), 8443);
        assert_eq!(u16::from_ne_bytes([value[18], value[19]]), 2);
        let key = flow(7, "[::ffff:127.0.0.1]:1024".parse().unwrap());
        assert_eq!(&key[..8], &7u64.to_ne_bytes());
        assert_eq!(&key[8..24], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(u32::from_ne_bytes([key[24], key[25], key[26], key[27]]), 1024);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(Origin::read(&bytes).is_some(), bytes.len() >= ORIGIN);
            prop_assert_eq!(Event::read(&bytes).is_some(), bytes.len() >= EVENT);
        }
    }
}
