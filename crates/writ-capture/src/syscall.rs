//! The few system calls that have no safe wrapper.
#![expect(unsafe_code, reason = "what no safe wrapper offers")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libbpf_rs::libbpf_sys;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file whose priority events (`poll(2)`) can be awaited.
pub(crate) fn watched(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` keeps its one descriptor open until it is dropped.
    unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }.map_err(io::Error::from)
}

/// Attaches a program to a cgroup; detached when the descriptor is closed, unless it is pinned.
pub(crate) fn link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    // SAFETY: two live descriptors, and no options.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), cgroup.as_raw_fd(), attach_type, std::ptr::null())
    };
    owned(fd)
}

/// Puts another program in the place of a link's. `ENOLINK` if its cgroup is gone.
pub(crate) fn relink(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: two live descriptors, and no options.
    done(unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) })
}

/// Makes a link last below a bpffs.
pub(crate) fn pin(link: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a live descriptor, and a string that ends with zero.
    done(unsafe { libbpf_sys::bpf_obj_pin(link.as_raw_fd(), path.as_ptr()) })
}

/// Takes a link's program off its cgroup, at once: removing the pin does so when the kernel finds the time.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a live descriptor.
    done(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) })
}

/// Opens what is pinned.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with zero.
    owned(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })
}

/// libbpf answers with a descriptor, or with an error below zero.
fn owned(answer: i32) -> io::Result<OwnedFd> {
    if answer < 0 {
        return Err(io::Error::from_raw_os_error(-answer));
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

fn done(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(()) }
}

/// Opens a cgroup's folder by its id (`open_by_handle_at(2)`; the kernel's handle of such a folder is its id). `ESTALE` if it
/// is gone.
pub(crate) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    /// `struct file_handle` with room for an id.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    /// `FILEID_KERNFS` of linux/exportfs.h.
    const KERNFS: i32 = 0xfe;
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a live descriptor, and a handle of the length that it states.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `SO_NETNS_COOKIE` (Linux 5.14): the number of the network that a socket is in.
pub(crate) fn network_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: both pointers are to live values of the sizes that the kernel is told.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor of our own for what libbpf shows by number, whose being readable can be awaited.
pub(crate) fn duplicate_watched(fd: RawFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no pointers; a number that is no descriptor is an error.
    let fd = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows, open until it is dropped.
    unsafe { AsyncFd::register_with_interest(OwnedFd::from_raw_fd(fd), Interest::READABLE) }
        .map_err(io::Error::from)
}

/// `SO_RCVMARK` (Linux 5.19): each datagram comes with its mark.
const SO_RCVMARK: libc::c_int = 75;

/// Asks for the marks of datagrams.
pub(crate) fn receive_marks(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: a live descriptor, and a value of the stated length.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_RCVMARK, (&raw const on).cast(), 4)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of a `sockaddr_storage`.
const ADDRESS: libc::socklen_t = 128;

/// Room for one control message with a number, aligned as they must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Receives one datagram: its length, where it came from, and its mark (0 if it has none). Cut to the buffer.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, u32)> {
    let mut from = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all of its fields are numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = ADDRESS;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: a live descriptor; every pointer leads to a live buffer of the stated length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let mut mark = 0;
    // SAFETY: the macros walk the control messages that the kernel wrote into the live buffer above.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(one) = head.as_ref() {
            if one.cmsg_level == libc::SOL_SOCKET && one.cmsg_type == libc::SO_MARK {
                mark = libc::CMSG_DATA(head).cast::<u32>().read_unaligned();
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    // SAFETY: zeroed above, then written by the kernel: numbers all of them.
    let from = address(&unsafe { from.assume_init() });
    Ok((length, from.ok_or(io::ErrorKind::Unsupported)?, mark))
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let at = &raw const *storage;
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is, and the storage is large enough for each and aligned for all.
            let v4 = unsafe { at.cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { at.cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
