//! Fewer rights, for good: another user, no capabilities, no way to gain any, no abstract sockets or signals outside
//! the run, no core dump, the filter.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::{Become, LaunchError, syscall};

/// Becomes the user. Only root can.
pub(super) fn become_user(user: &Become) -> Result<(), LaunchError> {
    let failed =
        |errno: rustix::io::Errno| LaunchError::Host { doing: "become the run's user", source: errno.into() };
    if user.uid == 0 {
        return Err(LaunchError::Root);
    }
    let (uid, gid) = (rustix::process::Uid::from_raw(user.uid), rustix::process::Gid::from_raw(user.gid));
    let groups: Vec<_> = user.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    // These are the calls of one thread, which is all of the process: `unshare` checks that later.
    rustix::thread::set_thread_groups(&groups).map_err(failed)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    // A change of user makes the process undumpable, and its own `/proc` files root's; it has to write its uid map.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(failed)
}

/// Gives up every capability in every set and whatever would bring one back.
pub(super) fn drop_all() -> Result<(), LaunchError> {
    let failed =
        |errno: rustix::io::Errno| LaunchError::Host { doing: "give up capabilities", source: errno.into() };
    rustix::thread::clear_ambient_capability_set().map_err(failed)?;
    let empty = CapabilitySet::empty();
    let held = rustix::thread::capabilities(None).map_err(failed)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..64 {
            match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
                1 << bit,
            )) {
                Ok(()) => {}
                // Past the last one that this kernel knows.
                Err(rustix::io::Errno::INVAL) => break,
                Err(errno) => return Err(failed(errno)),
            }
        }
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        rustix::thread::set_capabilities_secure_bits(bits).map_err(failed)?;
    }
    let none = CapabilitySets { effective: empty, permitted: empty, inheritable: empty };
    rustix::thread::set_capabilities(None, none).map_err(failed)?;
    rustix::thread::set_no_new_privs(true).map_err(failed)?;
    // Where the kernel has no scopes, abstract sockets are the capture hooks' alone to refuse.
    syscall::scope().map_err(|source| LaunchError::Host { doing: "close off other processes", source })?;
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, no_core).map_err(failed)
}

/// Installs the filter; the last thing before the daemon looks.
pub(super) fn filter(io_uring: bool, isolated: bool) -> Result<(), LaunchError> {
    let failed = |error: seccompiler::Error| LaunchError::Host {
        doing: "install the system call filter",
        source: io::Error::other(error),
    };
    let programs = super::filter::programs(io_uring, isolated).map_err(|error| failed(error.into()))?;
    programs.iter().try_for_each(|program| seccompiler::apply_filter(program)).map_err(failed)
}
