//! The system call filter of a run.
//!
//! It closes what the capture hooks cannot see or what would lead past the run's mounts: socket families and types
//! other than those that are taken or refused by the kernel programs, namespaces, mounts, keyrings, handles, BPF,
//! and typing into the terminal (TIOCSTI). 32-bit calls end the process; the x32 ABI answers ENOSYS. What it does
//! not do: make room for programs that sandbox themselves with user namespaces (browsers, bubblewrap), decide
//! destinations, or read memory that arguments point at (so `clone3`, whose flags lie in memory, is
//! answered with ENOSYS, upon which C libraries fall back to `clone`).

use std::collections::BTreeMap;

use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

/// The programs, in the order in which to install them.
pub(super) fn programs(io_uring: bool, isolated: bool) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut programs = Vec::new();
    #[cfg(target_arch = "x86_64")]
    programs.push(without_x32());
    for (errno, rules) in [
        (libc::EPERM, denied(isolated)?),
        (libc::EAFNOSUPPORT, families()?),
        (libc::ENOSYS, absent(io_uring)),
    ] {
        let refused = SeccompAction::Errno(errno.unsigned_abs());
        programs.push(SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()?);
    }
    Ok(programs)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that no program in a run has business with.
const DENIED: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_pidfd_getfd,
    libc::SYS_chroot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

const IO_URING: &[i64] = &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Calls into other processes: a user namespace of its own closes them, and without one the filter must.
const OTHERS: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
];

fn denied(isolated: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    if !isolated {
        rules.extend(OTHERS.iter().map(|call| (*call, Vec::new())));
    }
    let user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    let new_user = || SeccompRule::new(vec![SeccompCondition::new(0, Dword, MaskedEq(user), user)?]);
    rules.insert(libc::SYS_clone, vec![new_user()?]);
    rules.insert(libc::SYS_unshare, vec![new_user()?]);
    let types = |request: u64| SeccompRule::new(vec![SeccompCondition::new(1, Dword, Eq, request)?]);
    rules.insert(libc::SYS_ioctl, vec![types(libc::TIOCSTI)?, types(libc::TIOCLINUX)?]);
    Ok(rules)
}

/// Calls that are as if the kernel did not have them, so that programs fall back. `io_uring` makes sockets that this
/// filter never sees.
fn absent(io_uring: bool) -> Rules {
    let uring = IO_URING.iter().filter(|_| !io_uring);
    uring.chain(&[libc::SYS_clone3]).map(|call| (*call, Vec::new())).collect()
}

/// `socket` and `socketpair`: unix; inet and inet6 as stream or datagram, without SCTP and raw; route netlink.
fn families() -> Result<Rules, seccompiler::BackendError> {
    const TYPE_MASK: u64 = 0xf;
    const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let number = |n: i32| u64::from(n.unsigned_abs());
    let family = |op, of: i32| SeccompCondition::new(0, Dword, op, number(of));
    let kind = |of: i32| SeccompCondition::new(1, Dword, MaskedEq(TYPE_MASK), number(of));
    let protocol = |op, of: i32| SeccompCondition::new(2, Dword, op, number(of));

    let others = FAMILIES.into_iter().map(|of| family(Ne, of)).collect::<Result<_, _>>()?;
    let mut rules = vec![SeccompRule::new(others)?];
    let route = vec![family(Eq, libc::AF_NETLINK)?, protocol(Ne, libc::NETLINK_ROUTE)?];
    rules.push(SeccompRule::new(route)?);
    for inet in [libc::AF_INET, libc::AF_INET6] {
        for refused in [libc::SOCK_RAW, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, libc::SOCK_RDM, SOCK_PACKET] {
            rules.push(SeccompRule::new(vec![family(Eq, inet)?, kind(refused)?])?);
        }
        for refused in
            [libc::IPPROTO_SCTP, libc::IPPROTO_UDPLITE, IPPROTO_SMC, libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6]
        {
            rules.push(SeccompRule::new(vec![family(Eq, inet)?, protocol(Eq, refused)?])?);
        }
    }
    Ok(BTreeMap::from([(libc::SYS_socket, rules.clone()), (libc::SYS_socketpair, rules)]))
}

const IPPROTO_SMC: i32 = 256;
/// The old way to packet sockets, still understood.
const SOCK_PACKET: i32 = 10;

/// Answers ENOSYS to every call with the x32 bit, which shares its architecture number with the native ones.
#[cfg(target_arch = "x86_64")]
fn without_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = 0x20;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 0),
        step(JUMP_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, ERRNO | libc::ENOSYS.unsigned_abs()),
        step(RETURN, 0, 0, ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on a call number as the kernel would: load, compare, return.
    #[cfg(target_arch = "x86_64")]
    fn answer(number: u32) -> u32 {
        let program = without_x32();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                0x20 => loaded = number,
                0x35 => at += usize::from(if loaded >= step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_x32_interface_is_closed_and_the_native_one_is_not() {
        assert_eq!(answer(41), 0x7fff_0000);
        for number in [0x4000_0000, 0x4000_0029, u32::MAX] {
            assert_eq!(answer(number), 0x0005_0026);
        }
    }

    #[test]
    fn every_variant_compiles_and_fits_the_kernel() {
        for (io_uring, isolated) in [(true, true), (false, false)] {
            let programs = programs(io_uring, isolated).unwrap();
            assert!(programs.iter().all(|program| !program.is_empty() && program.len() <= 4096));
        }
    }
}
