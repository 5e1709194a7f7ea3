//! The records of `writ.h` as the kernel writes them, read field by field: no layout is assumed that is not spelled out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use writ_core::{Process, RunTag};

use crate::govern::GovernId;

/// Bytes of one `struct origin`.
pub(crate) const ORIGIN: usize = 88;
/// Bytes of one `struct event`.
pub(crate) const EVENT: usize = 200;
/// Bytes of the path or name of a `struct awaited`, and of the name of a `struct entry`; a closing zero among them.
pub(crate) const CGROUP_PATH: usize = 256;
const PROGRAM_NAME: usize = 64;
/// What tells names of programs from those of cgroups, and the keys of their places.
pub(crate) const OF_PROGRAM: u32 = 0x8000_0000;
const PROGRAM_PLACE: u64 = 0x8000_0000_0000_0000;
/// Bytes of the recorded path.
const PATH: usize = 128;
/// Bytes of a Unix socket's path (`unix(7)`), its closing zero among them.
const UNIX_PATH: usize = 108;

/// Who opened a socket, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What was asked for, before any redirect. IPv4-mapped addresses are IPv4.
    pub address: SocketAddr,
    /// The run; cgroup and label agreed on it. `None` for a governed process that was assigned none.
    pub run: Option<RunTag>,
    /// By what it is governed, if Writ did not launch it.
    pub governed: Option<GovernId>,
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
    pub(crate) governed: Option<GovernId>,
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
        let _led = cursor.u16()?;
        let program = program(cursor.u64()?, cursor.u32()?);
        let governed = GovernId::from_kernel(cursor.u32()?);
        let process = process(pid, start_ns, generation);
        Some(Self { address, run, governed, process, program, tid, cgroup, cookie })
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
        let governed = GovernId::from_kernel(cursor.u32()?);
        let path = cursor.take::<PATH>()?;
        let text = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = String::from_utf8_lossy(text).into_owned();
        Some(Self {
            kind,
            run,
            governed,
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

/// A `struct passed`: where a socket was let through to, and for which run.
pub(crate) fn passed(bytes: &[u8]) -> Option<(SocketAddr, Option<RunTag>)> {
    let mut cursor = Cursor(bytes);
    let (ip, port, _padding) = (cursor.address()?, cursor.u16()?, cursor.take::<6>()?);
    Some((SocketAddr::new(ip, port), RunTag::from_kernel(cursor.u64()?)))
}

/// `enum limit`.
pub(crate) const UNIX_LISTED: u32 = 1;
pub(crate) const NOTHING_PASSES: u32 = 2;

/// A `struct place` that has reported nothing yet: the cgroup of a run.
pub(crate) fn place_of_run(tag: RunTag, limits: u32) -> [u8; 32] {
    joined(&[&tag.get().to_ne_bytes(), &[0; 20], &limits.to_ne_bytes()])
}

/// A `struct place` that has reported nothing yet: the root of a governed subtree, or a governed program.
pub(crate) fn place_governed(id: GovernId, limits: u32) -> [u8; 32] {
    joined(&[&[0; 24], &id.get().to_ne_bytes(), &limits.to_ne_bytes()])
}

/// The key of the place of a governed program.
pub(crate) fn place_of_program(id: GovernId) -> [u8; 8] {
    (PROGRAM_PLACE | u64::from(id.get())).to_ne_bytes()
}

/// As what the place is governed, if it is not a run's.
pub(crate) fn governed_by(bytes: &[u8]) -> Option<GovernId> {
    let mut cursor = Cursor(bytes);
    cursor.take::<24>()?;
    GovernId::from_kernel(cursor.u32()?)
}

/// A `struct label`. It holds for a process that executed as many programs as `generation` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) run: RunTag,
    pub(crate) governed: Option<GovernId>,
    pub(crate) generation: u32,
}

impl Label {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let run = RunTag::from_kernel(cursor.u64()?)?;
        Some(Self { run, governed: GovernId::from_kernel(cursor.u32()?), generation: cursor.u32()? })
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        let governed = self.governed.map_or(0, GovernId::get);
        joined(&[&self.run.get().to_ne_bytes(), &governed.to_ne_bytes(), &self.generation.to_ne_bytes()])
    }
}

/// How many programs a process executed, by its `struct program`.
pub(crate) fn generation(bytes: &[u8]) -> Option<u32> {
    let mut cursor = Cursor(bytes);
    cursor.take::<12>()?;
    cursor.u32()
}

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grantee {
    Run(RunTag),
    Governed(GovernId),
}

impl Grantee {
    /// The beginning of all keys of its grants.
    pub(crate) fn prefix(self) -> [u8; 12] {
        match self {
            Self::Run(tag) => joined(&[&tag.get().to_ne_bytes()]),
            Self::Governed(id) => joined(&[&[0; 8], &id.get().to_ne_bytes()]),
        }
    }
}

/// A `struct unix_grant`; `None` for a path that no address can hold.
pub(crate) fn unix_grant(to: Grantee, path: &Path) -> Option<[u8; 120]> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= UNIX_PATH || bytes.first() != Some(&b'/') {
        return None;
    }
    Some(joined(&[&to.prefix(), bytes]))
}

/// Parts one after the other, then zeros.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut all = [0u8; N];
    all.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
    all
}

/// A `struct awaited`; `None` for a name that has no room.
pub(crate) fn awaited(path: &str) -> Option<[u8; CGROUP_PATH]> {
    (!path.is_empty() && path.len() < CGROUP_PATH).then(|| joined(&[path.as_bytes()]))
}

/// A `struct entry`; `None` for a name that has no room.
pub(crate) fn entry(folder: u64, device: u32, name: &[u8]) -> Option<Vec<u8>> {
    let all: [u8; 16 + PROGRAM_NAME] = joined(&[&folder.to_ne_bytes(), &device.to_ne_bytes(), &[0; 4], name]);
    (!name.is_empty() && name.len() < PROGRAM_NAME).then(|| all.to_vec())
}

/// A `struct watch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The cgroup that is watched; 0 for none.
    pub(crate) cgroup: u64,
    pub(crate) level: u32,
    /// As what new containers are governed; 0 if they are not.
    pub(crate) containers: u32,
    /// Whether programs are governed.
    pub(crate) programs: u32,
}

impl Watch {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let cgroup = cursor.u64()?;
        Some(Self { cgroup, level: cursor.u32()?, containers: cursor.u32()?, programs: cursor.u32()? })
    }

    pub(crate) fn bytes(&self) -> [u8; 24] {
        let Self { cgroup, level, containers, programs } = self;
        let numbers = [level, containers, programs].map(|number| number.to_ne_bytes()).concat();
        joined(&[&cgroup.to_ne_bytes(), &numbers])
    }
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
        let run = RunTag::from_kernel(7).unwrap();
        let socket =
            passed(&[&destination("10.0.0.1".parse().unwrap(), 80)[..], &7u64.to_ne_bytes()].concat());
        assert_eq!(socket, Some(("10.0.0.1:80".parse().unwrap(), Some(run))));
    }

    #[test]
    fn who_is_meant_is_where_the_kernel_looks() {
        let (run, id) = (RunTag::from_kernel(7).unwrap(), GovernId::new(9).unwrap());
        let label = Label { run, governed: Some(id), generation: 3 };
        assert_eq!(Label::read(&label.bytes()), Some(label));
        assert_eq!(&label.bytes()[8..], &[9u32.to_ne_bytes(), 3u32.to_ne_bytes()].concat());
        assert_eq!(governed_by(&place_governed(id, UNIX_LISTED)), Some(id));
        assert_eq!(governed_by(&place_of_run(run, NOTHING_PASSES)), None);
        let program = GovernId::of_program(9).unwrap();
        assert_eq!((id.get(), program.get(), program.is_program()), (9, 0x8000_0009, true));
        assert_eq!(u64::from_ne_bytes(place_of_program(program)), 0x8000_0000_8000_0009);
        let watch = Watch { cgroup: 1, level: 2, containers: 3, programs: 4 };
        assert_eq!(Watch::read(&watch.bytes()), Some(watch));
        let entry = entry(1, 2, b"sh").unwrap();
        assert_eq!((entry.len(), &entry[16..19]), (80, &b"sh\0"[..]));
        assert_eq!((awaited(&"x".repeat(256)), super::entry(1, 2, &[b'x'; 64])), (None, None));
        let key = unix_grant(Grantee::Governed(id), Path::new("/s")).unwrap();
        assert_eq!(&key[8..15], &[&9u32.to_ne_bytes()[..], b"/s\0"].concat());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(Origin::read(&bytes).is_some(), bytes.len() >= ORIGIN);
            prop_assert_eq!(Event::read(&bytes).is_some(), bytes.len() >= EVENT);
        }
    }
}
