//! System calls that no crate here wraps safely: the peer's pidfd and what it tells, closing what was inherited, and
//! executing a descriptor. All unsafe code of the peer proof and the launcher.
#![expect(
    unsafe_code,
    reason = "SO_PEERPIDFD, PIDFD_GET_INFO, close_range and execveat have no safe wrapper"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const SO_PEERPIDFD: i32 = 77;

/// The pidfd of the process at the other end of a unix socket (Linux 6.5).
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut fd: RawFd = -1;
    let mut length = u32::try_from(size_of::<RawFd>()).map_err(io::Error::other)?;
    // SAFETY: both pointers are to live values of the sizes that the kernel is told.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id of the process's cgroup in the unified hierarchy (`PIDFD_GET_INFO`, Linux 6.13). `None` where the kernel does
/// not say.
pub(crate) fn cgroup_id(pidfd: BorrowedFd<'_>) -> Option<u64> {
    /// `_IOWR(0xff, 11, struct pidfd_info)`, with the 64 bytes that the structure had at first.
    const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
    const PIDFD_INFO_CGROUPID: u64 = 1 << 2;
    // The mask of what is asked for and then answered, the id, and 48 bytes of what is not looked at.
    let mut info = [PIDFD_INFO_CGROUPID, 0, 0, 0, 0, 0, 0, 0_u64];
    // SAFETY: the pointer is to a live value of the size that is part of the request's number.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO.into(), info.as_mut_ptr()) };
    let [answered, id, ..] = info;
    (done == 0 && answered & PIDFD_INFO_CGROUPID != 0).then_some(id)
}

/// Closes every descriptor above 2 but these.
///
/// Only for a process that is about to become another program: whatever in it still believes that it owns one of
/// the closed descriptors must not be used again.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut from = 3u32;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: no pointers; what the descriptors' former owners may do is the caller's promise above.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Becomes the program behind the descriptor (`execveat` with an empty path). Returns only if that failed.
pub(crate) fn execute(program: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in null, and they and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Gives the process namespaces of its own. Fails if it has more than one thread and the user's is among them.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no pointers. Descriptor tables are not among the flags that are passed here.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `act` succeeds in a child process, which ends then. For a process with one thread.
pub(crate) fn succeeds_in_child(act: impl FnOnce() -> bool) -> bool {
    // SAFETY: with one thread no lock can be held by another, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => {
            let code = i32::from(!act());
            // SAFETY: ends the child at once, without running what the parent registered for its own exit.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the child is ours, and `status` lives.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
                if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                    return false;
                }
            }
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

/// Undoes what the Rust runtime does to `SIGPIPE`, which a program would inherit.
pub(crate) fn default_signals() {
    // SAFETY: the default action is no handler, so nothing of ours can be called.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Keeps this process and its children from connecting to abstract unix sockets, and from signalling processes,
/// outside (Landlock scopes, <https://docs.kernel.org/userspace-api/landlock.html>). `false` on kernels before 6.12,
/// which have no such scopes. Needs `no_new_privs`.
pub(crate) fn scope() -> io::Result<bool> {
    /// `struct landlock_ruleset_attr`.
    #[repr(C)]
    struct Ruleset {
        filesystem: u64,
        network: u64,
        scoped: u64,
    }
    const ABSTRACT_UNIX_SOCKET: u64 = 1;
    const SIGNAL: u64 = 2;
    const VERSION_WITH_SCOPES: i64 = 6;
    const ASK_VERSION: u32 = 1;

    let none = ptr::null::<Ruleset>();
    // SAFETY: asking for the version takes no pointer.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, ASK_VERSION) };
    if version < VERSION_WITH_SCOPES {
        return Ok(false);
    }
    let ruleset = Ruleset { filesystem: 0, network: 0, scoped: ABSTRACT_UNIX_SOCKET | SIGNAL };
    // SAFETY: the pointer is to a live value of the size that the kernel is told.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0u32)
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointers.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0u32) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}
