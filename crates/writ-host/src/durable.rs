//! Files that are there after a crash, and are the files that were meant.
//!
//! [`replace`] is atomic: after a crash at any point a reader finds the whole old content or the whole new one.
//! Nothing here follows a symbolic link in the last component of a path.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

/// A file could not be read or made to last.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} `{}`", path.display())]
pub struct FileError {
    verb: &'static str,
    path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> FileError {
    let path = path.to_owned();
    move |errno| FileError { verb, path, source: errno.into() }
}

/// Makes the file's content `bytes` and its permissions `mode`, atomically and durably.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let io = |source| FileError { verb: "write", path: path.to_owned(), source };
    let (folder, name) = split(path)?;
    let mut temporary = name.to_owned();
    temporary.push(".new");
    // A leftover of an earlier crash is removed rather than reused: its mode and owner are unknown.
    match rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(failed("write", path)(errno)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, &temporary, flags, Mode::from_raw_mode(mode))
        .map_err(failed("write", path))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("write", path))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    // Crash here: the old content stands, `.new` is left over and removed by the next call.
    rustix::fs::renameat(&folder, &temporary, &folder, name).map_err(failed("write", path))?;
    // Crash here: either name may be on disk; both contents are whole.
    rustix::fs::fsync(&folder).map_err(failed("write", path))
}

/// Removes the file, durably. A file that is not there is no error.
pub fn remove(path: &Path) -> Result<(), FileError> {
    let (folder, name) = split(path)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => rustix::fs::fsync(&folder).map_err(failed("remove", path)),
        Err(errno) => Err(failed("remove", path)(errno)),
    }
}

/// The whole content; the last component must not be a symbolic link. `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("read", path)(errno)),
    };
    let mut bytes = Vec::new();
    let read = File::from(file).read_to_end(&mut bytes);
    read.map_err(|source| FileError { verb: "read", path: path.to_owned(), source })?;
    Ok(Some(bytes))
}

/// Makes the folder and its parents; the last one has exactly the permissions `mode` afterwards.
pub fn folder(path: &Path, mode: u32) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(|source| FileError {
        verb: "make",
        path: path.to_owned(),
        source,
    })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open", path))?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode)).map_err(failed("protect", path))
}

fn split(path: &Path) -> Result<(OwnedFd, &std::ffi::OsStr), FileError> {
    let name = path.file_name().ok_or_else(|| failed("write", path)(rustix::io::Errno::ISDIR))?;
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, Mode::empty()).map_err(failed("open", parent))?;
    Ok((folder, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_whole_files_with_the_given_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o640).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read(&path).unwrap().is_none());
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        replace(&victim, b"victim", 0o600).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(read(&link).is_err());
        replace(&link, b"new", 0o600).unwrap();
        assert_eq!(read(&victim).unwrap().unwrap(), b"victim");
        assert_eq!(read(&link).unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_leftover_of_a_crash_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::os::unix::fs::symlink("/nonexistent/elsewhere", dir.path().join("state.new")).unwrap();
        replace(&path, b"whole", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"whole");
    }
}
