//! Two socket options that have no safe wrapper. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "getsockopt for SO_PEERPIDFD and SO_PEERGROUPS has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor of the process that connected (Linux 6.5). Already closed-on-exec.
pub(super) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut raw = [-1i32];
    let length = get(socket, libc::SO_PEERPIDFD, &mut raw)?;
    match raw {
        // SAFETY: the kernel installed this descriptor for us just now; nobody else knows of it.
        [fd] if length == 1 && fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::other("no descriptor")),
    }
}

/// The supplementary groups at the time of connect (Linux 4.13). At most 65536 (`NGROUPS_MAX`).
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    for capacity in [64, 65_536] {
        let mut groups = vec![0u32; capacity];
        match get(socket, libc::SO_PEERGROUPS, &mut groups) {
            Ok(length) => {
                groups.truncate(length);
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ERANGE))
}

trait Word: Copy {}
impl Word for i32 {}
impl Word for u32 {}

/// Reads an option that is an array of 32-bit words; says how many there are.
fn get<T: Word>(socket: BorrowedFd<'_>, option: i32, words: &mut [T]) -> io::Result<usize> {
    let mut bytes = libc::socklen_t::try_from(size_of_val(words)).map_err(io::Error::other)?;
    let at: *mut T = words.as_mut_ptr();
    // SAFETY: `at` is valid for `bytes` bytes of plain integers, and the kernel writes at most that much.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, at.cast(), &raw mut bytes) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).map_err(io::Error::other)? / size_of::<T>())
}
