//! Pages for secrets. The only unsafe code of this crate: mapping, filling and zeroing memory that no allocator
//! knows of. One mapping a secret; secrets are few and long-lived, so a page each is cheap and keeps them apart.
#![expect(unsafe_code, reason = "mmap of memfd_secret has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use zeroize::Zeroize;

/// How a secret's pages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret(2)`: not in the direct map, unreadable through `/proc/PID/mem` and ptrace.
    MemfdSecret,
    /// Anonymous, locked against swap and excluded from core dumps.
    Locked,
}

/// The kernel gave no memory to keep a secret in.
#[derive(Debug, thiserror::Error)]
#[error("no protected memory for a secret of {bytes} bytes; hint: raise RLIMIT_MEMLOCK")]
pub struct MemoryError {
    bytes: usize,
    #[source]
    source: io::Error,
}

pub(super) struct SecretMemory {
    start: NonNull<u8>,
    used: usize,
    mapped: usize,
    protection: Protection,
}

// SAFETY: the mapping belongs to this value alone and is never written after construction.
unsafe impl Send for SecretMemory {}
// SAFETY: as above: shared access only reads.
unsafe impl Sync for SecretMemory {}

impl SecretMemory {
    pub(super) fn new(bytes: &[u8]) -> Result<Self, MemoryError> {
        let mapped = bytes.len().max(1).next_multiple_of(PAGE);
        let failed = |source| MemoryError { bytes: bytes.len(), source };
        let (start, protection) = match map_secret(mapped) {
            Ok(start) => (start, Protection::MemfdSecret),
            Err(_) => (map_locked(mapped).map_err(failed)?, Protection::Locked),
        };
        // SAFETY: the mapping is at least `bytes.len()` long, writable, fresh, and so cannot overlap `bytes`.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(Self { start, used: bytes.len(), mapped, protection })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `used` bytes were written in `new`, and nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.used) }
    }

    pub(super) fn protection(&self) -> Protection {
        self.protection
    }
}

impl Drop for SecretMemory {
    fn drop(&mut self) {
        // SAFETY: exclusive access, the whole mapping is ours and writable.
        let all = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.mapped) };
        all.zeroize();
        // SAFETY: the mapping was made with exactly this address and length.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}

const PAGE: usize = 4096;

fn map_secret(length: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: plain system call without pointers; FD_CLOEXEC is its only flag.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let raw = i32::try_from(raw).map_err(io::Error::other)?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and belongs to nobody else.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    let size = libc::off_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: a live descriptor of a fresh file.
    if unsafe { libc::ftruncate(file.as_raw_fd(), size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    map(length, libc::MAP_SHARED, file.as_raw_fd())
}

fn map_locked(length: usize) -> io::Result<NonNull<u8>> {
    let start = map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED, -1)?;
    // SAFETY: the range was mapped just now. A kernel that refuses the advice still keeps the page locked.
    unsafe { libc::madvise(start.as_ptr().cast(), length, libc::MADV_DONTDUMP) };
    Ok(start)
}

fn map(length: usize, flags: i32, fd: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; no existing memory is touched.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
}
