//! The cgroup, and what systemd's names in its path say.
//!
//! Cgroups v2 only (the line `0::` of `/proc/PID/cgroup`), as the daemon's own cgroup namespace names them. Only root, or
//! who was given a subtree, makes cgroups and moves processes. A user's systemd manager has such a subtree, so what is
//! below `user@UID.service` is the user's to choose and has keys of its own; so is what a service with `Delegate=` makes
//! below itself, which is not looked at: the unit is the first one.

use writ_core::Attestor;
use writ_core::selector::Key;

use super::{Attest, Facts, Subject, Unknown};
use crate::peer::Peer;

/// The attestor of cgroups.
#[derive(Debug)]
pub(super) struct Cgroups;

/// The attestor of units and slices.
#[derive(Debug)]
pub(super) struct Systemd;

impl Attest for Cgroups {
    fn attestor(&self) -> Attestor {
        Attestor::Cgroup
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let path = of(subject.peer).map_err(|what| Unknown { attestor: Attestor::Cgroup, what })?;
        facts.add(Key::CgroupPath, &path);
        for (end, _) in path.match_indices('/').skip(1) {
            facts.add(Key::CgroupUnder, path.get(..end).unwrap_or_default());
        }
        facts.add(Key::CgroupUnder, &path);
        facts.add(Key::CgroupUnder, "/");
        Ok(())
    }
}

impl Attest for Systemd {
    fn attestor(&self) -> Attestor {
        Attestor::Systemd
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let path = of(subject.peer).map_err(|what| Unknown { attestor: Attestor::Systemd, what })?;
        let units = Units::parse(&path);
        let named = [(Key::SystemdUnit, units.unit), (Key::SystemdUserUnit, units.user_unit)];
        let slices = units.slices.into_iter().map(|slice| (Key::SystemdSlice, slice));
        let user_slices = units.user_slices.into_iter().map(|slice| (Key::SystemdUserSlice, slice));
        let units = named.into_iter().filter_map(|(key, unit)| Some((key, unit?)));
        for (key, value) in units.chain(slices).chain(user_slices) {
            facts.add(key, &unescaped(value));
        }
        Ok(())
    }
}

/// The cgroup of a process. An error says what was wrong.
pub(super) fn of(peer: &Peer) -> Result<String, String> {
    let text = peer.file("cgroup").map_err(|_| "its cgroup cannot be read".to_owned())?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or_else(|| "the host has no cgroups v2".to_owned())?;
    // Outside the daemon's cgroup namespace, or removed: then it is no place that a rule can name.
    if path.split('/').any(|part| part == "..") || path.ends_with(" (deleted)") || !path.starts_with('/') {
        return Err("its cgroup lies outside what the daemon sees".to_owned());
    }
    Ok(path.to_owned())
}

/// What a path says of units. systemd.resource-control(7), `CGROUP_DELEGATION.md` of systemd.
#[derive(Debug, Default, PartialEq, Eq)]
struct Units<'p> {
    unit: Option<&'p str>,
    slices: Vec<&'p str>,
    user_unit: Option<&'p str>,
    user_slices: Vec<&'p str>,
}

impl<'p> Units<'p> {
    fn parse(path: &'p str) -> Self {
        let mut units = Self::default();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let kind = part.rsplit_once('.').map_or("", |(_, kind)| kind);
            let (slice, unit) = (kind == "slice", matches!(kind, "service" | "scope"));
            let user = units.unit.is_some_and(|manager| manager.starts_with("user@"));
            match (units.unit, slice, unit) {
                (None, true, _) => units.slices.push(part),
                (None, _, true) => units.unit = Some(part),
                (Some(_), true, _) if user => units.user_slices.push(part),
                (Some(_), _, true) if user => {
                    units.user_unit = Some(part);
                    break;
                }
                // No path of systemd's, or below a unit: there its service makes what it likes.
                _ => break,
            }
        }
        units
    }
}

/// systemd puts `_` before names that would clash with the kernel's files (`cg_escape`).
fn unescaped(name: &str) -> String {
    name.strip_prefix('_').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn the_attestors_conform() {
        conformance::check(&Cgroups);
        conformance::check(&Systemd);
    }

    #[test]
    fn units_and_slices_of_both_managers_are_told_apart() {
        let units = Units::parse("/agents.slice/agents-ci.slice/ci@1.service/worker.service");
        assert_eq!(units.unit, Some("ci@1.service"), "what a service makes below itself is its own");
        assert_eq!(units.slices, ["agents.slice", "agents-ci.slice"]);
        assert_eq!(units.user_unit, None);
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/coder.service/sub";
        let units = Units::parse(path);
        assert_eq!((units.unit, units.user_unit), (Some("user@1000.service"), Some("coder.service")));
        assert_eq!((units.slices.len(), units.user_slices), (2, vec!["app.slice"]));
        let session = Units::parse("/user.slice/user-1000.slice/session-3.scope");
        assert_eq!((session.unit, session.user_unit), (Some("session-3.scope"), None));
        for none in ["/", "/docker/ci.service", "/writ/run/01/ci.service"] {
            assert_eq!(Units::parse(none), Units::default(), "{none}");
        }
    }

    #[test]
    fn a_user_cannot_name_a_unit_of_the_system() {
        let path = "/user.slice/user-1000.slice/user@1000.service/system.slice/ci.service";
        let units = Units::parse(path);
        assert_eq!(units.unit, Some("user@1000.service"));
        assert!(!units.slices.contains(&"system.slice"));
    }
}
