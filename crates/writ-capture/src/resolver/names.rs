//! The table of stand-ins: one synthetic IPv4 and IPv6 address per name, the same for every run.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use writ_core::synthetic::{self, V4_NETWORK, V4_PREFIX, V6_NETWORK};
use writ_core::{HostName, RunTag};
use writ_gate::limits;

/// Which name has which address.
///
/// An address is the SHA-256 of the name in the synthetic ranges, or the next free one after it, so that it is
/// nearly always the same after a restart. Once given it stays with its name as long as the daemon runs, also when the
/// name is no longer listed: a client that kept an address reaches that name's service or nothing, never another's.
/// When the table is full, new names are refused; none is ever evicted.
///
/// A lock and not a snapshot that is swapped: names below a pattern come one at a time, and a copy of the table for
/// each would let a run make the daemon work.
#[derive(Debug, Default)]
pub struct Names(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<HostName, u32>,
    names: HashMap<u32, HostName>,
    /// Names that runs asked for and no file lists, by the run that was first; each entry is at least one name.
    asked: HashMap<RunTag, usize>,
    asked_total: usize,
}

/// The addresses that stand for one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StandIn {
    /// In 198.18.0.0/15.
    pub v4: Ipv4Addr,
    /// In Writ's own unique local /64, with the same number in its low bits.
    pub v6: Ipv6Addr,
}

/// Addresses in the IPv4 range.
const SLOTS: u32 = 1 << (32 - V4_PREFIX);

impl Names {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the names of a configuration their addresses. Names that have one keep it. Returns those that found no
    /// place, which only a configuration of over 100 000 names can cause.
    pub fn list(&self, names: impl IntoIterator<Item = HostName>) -> Vec<HostName> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.into_iter().filter(|name| table.place(name).is_none()).collect()
    }

    /// The stand-in of a name, given now if it has none: a name below a pattern, asked for by a run that may. `None`
    /// when this run, or all runs together, have been given too many.
    pub fn stand_in(&self, run: RunTag, name: &HostName) -> Option<StandIn> {
        if let Some(known) = self.known(name) {
            return Some(known);
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !table.slots.contains_key(name) {
            table.count(run)?;
        }
        table.place(name).map(StandIn::of)
    }

    /// The stand-in that a name has been given.
    pub fn known(&self, name: &HostName) -> Option<StandIn> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).slots.get(name).copied().map(StandIn::of)
    }

    /// Every name that has been given one.
    pub fn all(&self) -> Vec<(HostName, StandIn)> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.slots.iter().map(|(name, slot)| (name.clone(), StandIn::of(*slot))).collect()
    }

    /// The name that an address stands for.
    pub fn name_of(&self, address: IpAddr) -> Option<HostName> {
        let slot = slot_of(address)?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).names.get(&slot).cloned()
    }

    /// How many names have an address.
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).slots.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    /// The slot of a name, taken now if it has none.
    fn place(&mut self, name: &HostName) -> Option<u32> {
        if let Some(slot) = self.slots.get(name) {
            return Some(*slot);
        }
        let start = preferred(name);
        let free = |slot: &u32| usable(*slot) && !self.names.contains_key(slot);
        let slot = (0..SLOTS).map(|step| (start + step) % SLOTS).find(free)?;
        self.slots.insert(name.clone(), slot);
        self.names.insert(slot, name.clone());
        Some(slot)
    }

    /// Counts one more name that a run asked for, if there is room.
    fn count(&mut self, run: RunTag) -> Option<()> {
        let by_run = self.asked.get(&run).copied().unwrap_or(0);
        if self.asked_total >= limits::NAMES_ASKED_MAX || by_run >= limits::NAMES_ASKED_PER_RUN_MAX {
            return None;
        }
        self.asked.insert(run, by_run + 1);
        self.asked_total += 1;
        Some(())
    }
}

impl StandIn {
    fn of(slot: u32) -> Self {
        Self {
            v4: Ipv4Addr::from_bits(V4_NETWORK.to_bits() | slot),
            v6: Ipv6Addr::from_bits(V6_NETWORK.to_bits() | u128::from(slot)),
        }
    }
}

fn slot_of(address: IpAddr) -> Option<u32> {
    let address = address.to_canonical();
    if !synthetic::contains(address) {
        return None;
    }
    match address {
        IpAddr::V4(address) => Some(address.to_bits() % SLOTS),
        IpAddr::V6(address) => {
            u32::try_from(address.to_bits() ^ V6_NETWORK.to_bits()).ok().filter(|slot| *slot < SLOTS)
        }
    }
}

/// Where a name would like to be.
fn preferred(name: &HostName) -> u32 {
    let hash = digest(&SHA256, name.as_str().as_bytes());
    let head = hash.as_ref().iter().take(4).fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte));
    head % SLOTS
}

/// Addresses that end in 0 or 255 look like networks and broadcasts to some programs.
fn usable(slot: u32) -> bool {
    !matches!(slot & 0xff, 0 | 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostName {
        HostName::new(text).unwrap()
    }

    fn run(bits: u64) -> RunTag {
        RunTag::from_kernel(bits).unwrap()
    }

    #[test]
    fn a_name_has_one_address_of_each_family_and_leads_back() {
        let names = Names::new();
        assert!(names.is_empty());
        assert_eq!(names.list([host("forge.test"), host("api.test")]), []);
        let forge = names.known(&host("forge.test")).unwrap();
        assert!(synthetic::contains(forge.v4.into()) && synthetic::contains(forge.v6.into()));
        assert_eq!(names.name_of(forge.v4.into()), Some(host("forge.test")));
        assert_eq!(names.name_of(forge.v6.into()), Some(host("forge.test")));
        assert_eq!(names.name_of(forge.v4.to_ipv6_mapped().into()), Some(host("forge.test")));
        let other = forge.v6.to_bits() | 1 << 40;
        for stranger in
            ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap(), Ipv6Addr::from_bits(other).into()]
        {
            assert_eq!(names.name_of(stranger), None);
        }
    }

    #[test]
    fn addresses_are_the_same_after_a_restart_and_never_move() {
        let (names, again) = (Names::new(), Names::new());
        names.list([host("forge.test"), host("api.test")]);
        again.list([host("api.test"), host("other.test"), host("forge.test")]);
        let before = names.known(&host("forge.test"));
        assert_eq!(before, again.known(&host("forge.test")));
        names.list((0..1000).map(|n| host(&format!("h{n}.test"))));
        assert_eq!(before, names.known(&host("forge.test")));
        assert_eq!(names.len(), 1002);
    }

    #[test]
    fn colliding_names_get_neighbours() {
        let names = Names::new();
        // Many more names than the birthday bound, so that some do collide.
        let hosts: Vec<HostName> = (0..5000).map(|n| host(&format!("h{n}.test"))).collect();
        let wanted: std::collections::HashSet<u32> = hosts.iter().map(preferred).collect();
        assert!(wanted.len() < hosts.len());
        assert_eq!(names.list(hosts.iter().cloned()), []);
        for name in &hosts {
            let stand_in = names.known(name).unwrap();
            assert_eq!(names.name_of(stand_in.v4.into()).as_ref(), Some(name));
            assert!(!matches!(stand_in.v4.octets()[3], 0 | 255));
        }
    }

    #[test]
    fn a_run_that_asks_for_too_many_names_is_refused_and_starves_nobody() {
        let names = Names::new();
        let ask = |bits, n| names.stand_in(run(bits), &host(&format!("r{bits}h{n}.x.test")));
        for n in 0..limits::NAMES_ASKED_PER_RUN_MAX {
            assert!(ask(1, n).is_some());
        }
        assert_eq!(ask(1, usize::MAX), None);
        let first = ask(1, 0);
        assert!(first.is_some() && ask(2, 0).is_some());
        // All runs together are bounded too, and what was given stays.
        let runs = limits::NAMES_ASKED_MAX / limits::NAMES_ASKED_PER_RUN_MAX;
        for bits in 2..2 + runs as u64 {
            for n in 0..limits::NAMES_ASKED_PER_RUN_MAX {
                ask(bits, n);
            }
        }
        assert_eq!(ask(9999, 0), None);
        assert_eq!((names.len(), ask(1, 0)), (limits::NAMES_ASKED_MAX, first));
        // Names of a configuration still find their place.
        assert_eq!(names.list([host("forge.test")]), []);
    }
}
