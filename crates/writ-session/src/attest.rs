//! What a run is going to execute: digests taken through the very descriptors that the launcher holds.
//!
//! The launcher opens the program and names the descriptor; the daemon reads it through `/proc/PID/fd/N` of the
//! proven peer, so both speak of one file whatever happens to its path. The arguments decide nothing. Limits: who
//! can write the file may still change it between digest and execution; a script is opened again by its
//! interpreter, so its digest is marked as inferred; and a launcher other than `writ run` could execute something
//! else afterwards, which the kernel's exec record of the run then shows.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use writ_core::event::{Known, Script};

use crate::error::Error;
use crate::peer::Peer;

/// The program of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its path as the kernel resolved it.
    pub path: String,
    /// Its SHA-256, hex.
    pub sha256: String,
    /// The file it interprets, if any.
    pub script: Option<Script>,
}

/// Attests the program behind descriptor `program` of the peer and, for an interpreter, the file behind `script`.
///
/// Reads the whole file: 94 MiB take about 85 ms, so not on a thread that others wait for.
pub fn program(peer: &Peer, program: RawFd, script: Option<RawFd>) -> Result<Program, Error> {
    let (path, sha256) = file(peer, program)?;
    let script = script.map(|fd| file(peer, fd)).transpose()?;
    let script = script.map(|(path, sha256)| Script { how: Known::Inferred, path, sha256 });
    Ok(Program { path, sha256, script })
}

fn file(peer: &Peer, fd: RawFd) -> Result<(String, String), Error> {
    let failed = |what| move |source: io::Error| Error::Unattested { what, source };
    let fds = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(peer.folder(), "fd", fds, Mode::empty())
        .map_err(|errno| failed("its descriptors cannot be seen")(errno.into()))?;
    let name = fd.to_string();
    let opened = open_regular(&folder, &name).map_err(failed("it is no regular file that can be read"))?;
    let path = rustix::fs::readlinkat(&folder, &name, Vec::new())
        .map_err(|errno| failed("its path cannot be read")(errno.into()))?;
    let sha256 = digest(opened).map_err(failed("it cannot be read"))?;
    Ok((path.to_string_lossy().into_owned(), sha256))
}

/// Looks before it opens: opening a device or fifo could block or act.
fn open_regular(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let refused = || io::Error::from(io::ErrorKind::InvalidInput);
    let about = rustix::fs::statat(folder.as_fd(), name, AtFlags::empty())?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder.as_fd(), name, flags, Mode::empty())?);
    let opened = file.metadata()?;
    if opened.is_file() && (opened.dev(), opened.ino()) == (about.st_dev, about.st_ino) {
        Ok(file)
    } else {
        Err(refused())
    }
}

fn digest(mut file: File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => context.update(bytes),
        }
    }
    let mut hex = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        hex.extend([byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')));
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn digests_what_the_descriptor_holds_and_not_what_the_path_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        writ_host::durable::replace(&path, b"abc", 0o755).unwrap();
        let held = File::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        writ_host::durable::replace(&path, b"impostor", 0o755).unwrap();
        let (one, _two) = UnixStream::pair().unwrap();
        let peer = Peer::of(one.as_fd()).unwrap();
        let program = program(&peer, held.as_raw_fd(), Some(held.as_raw_fd())).unwrap();
        // FIPS 180-4, the digest of `abc`.
        assert_eq!(program.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(program.path.ends_with("/moved"), "{}", program.path);
        assert_eq!(program.script.unwrap().how, Known::Inferred);
    }

    #[test]
    fn devices_sockets_and_closed_descriptors_are_refused() {
        let (one, two) = UnixStream::pair().unwrap();
        let peer = Peer::of(one.as_fd()).unwrap();
        let null = File::open("/dev/null").unwrap();
        for fd in [null.as_raw_fd(), two.as_raw_fd(), 4_000] {
            assert!(matches!(program(&peer, fd, None), Err(Error::Unattested { .. })), "{fd}");
        }
    }
}
