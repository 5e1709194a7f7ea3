//! Namespaces and mounts of a run: what it cannot see it cannot use.
//!
//! A user namespace of its own is what keeps processes of one uid apart: `/proc/PID/{environ,mem,fd}`, ptrace and
//! `pidfd_getfd` across it need a capability that nobody in it has. The mount namespace hides places and shows the
//! run's CA bundle. Every place is opened first and mounted on by its descriptor, so a link that is exchanged in
//! between changes nothing. Limits: a credential file that is *made* later by another process at a place that did
//! not exist is visible; processes outside are visible in `/proc` by name; and groups of an ordinary caller cannot
//! be dropped, so a member of `disk`, say, keeps reading disks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
};

use super::plan::{Bind, Mask, Plan};
use super::{LaunchError, syscall};

/// Gives the process its namespaces, hides and shows. Whether it could; `false` only if the plan allows it.
pub(super) fn enter(plan: &Plan) -> Result<bool, LaunchError> {
    // Tried in a child first: a host may allow the namespace and refuse what is done in it, and then this process
    // must not be left half-way.
    if plan.without_namespaces && !syscall::succeeds_in_child(|| isolate().is_ok()) {
        return Ok(false);
    }
    isolate().map_err(LaunchError::Namespace)?;
    for mask in &plan.masks {
        hide(mask).map_err(|source| LaunchError::Mount { path: mask.path.clone(), source })?;
    }
    for bind in &plan.binds {
        show(bind).map_err(|source| LaunchError::Mount { path: bind.target.clone(), source })?;
    }
    // The folder is held by the process from before, past every mask: enter it anew by its path.
    std::env::set_current_dir(&plan.folder)
        .map_err(|source| LaunchError::Folder { path: plan.folder.clone(), source })?;
    Ok(true)
}

fn isolate() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    syscall::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWIPC)?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags)?;
    // Made and dropped at once: where it is refused, nothing could be hidden.
    empty_folder("0700").map(drop)
}

fn write(path: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // One write: the kernel takes these files in one piece.
    let written = rustix::io::write(&file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A small empty file system, attached to nothing yet.
fn empty_folder(mode: &str) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "mode", mode)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "size", "16m")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn hide(mask: &Mask) -> io::Result<()> {
    let Some(place) = open(&mask.path)? else { return Ok(()) };
    if !is_folder(&place)? {
        return bind(Path::new("/dev/null"), &place);
    }
    // Opened before they are hidden.
    let mut reveal = Vec::new();
    for path in &mask.reveal {
        if let Some(file) = open(path)? {
            reveal.push((path.strip_prefix(&mask.path).unwrap_or(path), file));
        }
    }
    let empty = empty_folder(if mask.writable { "0700" } else { "0755" })?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(empty.as_fd(), "", place.as_fd(), "", flags)?;
    for (below, file) in reveal {
        uncover(empty.as_fd(), below, &file)?;
    }
    if !mask.writable {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount_remount(itself(&empty), flags, c"")?;
    }
    Ok(())
}

/// Makes a place for the file in the empty folder and shows it there.
fn uncover(folder: BorrowedFd<'_>, below: &Path, file: &OwnedFd) -> io::Result<()> {
    let parts: Vec<_> = below.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let Some((last, parents)) = parts.split_last() else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = |parent: BorrowedFd<'_>, name: &Component<'_>| -> io::Result<OwnedFd> {
        match rustix::fs::mkdirat(parent, name.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(rustix::fs::openat(parent, name.as_os_str(), flags, Mode::empty())?)
    };
    let mut parent = folder.try_clone_to_owned()?;
    for part in parents {
        parent = make(parent.as_fd(), part)?;
    }
    let place = if is_folder(file)? {
        make(parent.as_fd(), last)?
    } else {
        let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent.as_fd(), last.as_os_str(), flags, Mode::from_raw_mode(0o600))?
    };
    bind(&itself(file), &place)
}

fn show(wanted: &Bind) -> io::Result<()> {
    match open(&wanted.target)? {
        Some(place) => bind(&wanted.source, &place),
        None => Ok(()),
    }
}

fn bind(source: &Path, place: &OwnedFd) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(source, itself(place))?)
}

/// The place, links followed; `None` if it does not exist, or not for this user.
fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => Ok(Some(place)),
        // What this user cannot reach, the run cannot either: it has the same rights or fewer.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_folder(place: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode) == FileType::Directory)
}

fn itself(place: &OwnedFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", place.as_raw_fd()).into()
}
