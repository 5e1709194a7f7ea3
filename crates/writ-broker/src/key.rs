//! The key that the store is sealed with: 32 random bytes in a file or in a systemd credential.
//!
//! What this protects: a copy of the store alone (a backup, a stolen disk without the key's folder) is unreadable,
//! and with a systemd credential sealed by a TPM so is the whole disk. What it does not: whoever can read the key's
//! file as root has both. A file that others could have read or written is refused, never repaired in silence.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustix::fs::{Mode, OFlags};
use writ_core::Secret;
use writ_host::durable;

use crate::error::Error;

/// Length of the key: AES-256.
pub(crate) const KEY_BYTES: usize = 32;

/// The store's key, in secret memory.
#[derive(Debug)]
pub struct StoreKey(Secret<[u8]>);

impl StoreKey {
    /// From a file with mode 0600 or stricter that belongs to this process's user; made on first use.
    ///
    /// The file is opened without following a link, and checked through the descriptor that is then read.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        if let Some(key) = read(path, 0o077)? {
            return Ok(key);
        }
        let mut fresh = vec![0u8; KEY_BYTES];
        SystemRandom::new().fill(&mut fresh).map_err(|_| Error::Cipher)?;
        let key = Secret::<[u8]>::new(fresh)?;
        durable::replace(path, key.expose(), 0o600)?;
        Ok(Self(key))
    }

    /// From a credential that systemd put at `path` (`$CREDENTIALS_DIRECTORY/writ-store-key`); never made here.
    ///
    /// systemd gives a unit with its own user access by an ACL, which shows as a group bit; only access by others
    /// is refused.
    pub fn from_credential(path: &Path) -> Result<Self, Error> {
        let hint = "see `LoadCredentialEncrypted=` in systemd.exec(5)";
        read(path, 0o007)?.ok_or_else(|| refused(path, "does not exist", hint))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

fn read(path: &Path, forbidden: u32) -> Result<Option<StoreKey>, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(refused(path, "is a symbolic link", "name the file itself"));
        }
        Err(_) => return Err(refused(path, "cannot be opened", "check its owner and mode")),
    };
    let unreadable = |_| refused(path, "cannot be read", "check the disk");
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(refused(path, "is not a regular file", "remove it, or name another"));
    }
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me && about.uid() != 0 {
        return Err(refused(path, "belongs to another user", "find out who put it there, then `chown` it"));
    }
    if about.mode() & forbidden != 0 {
        let hint = "treat it as exposed; if nobody read it, `chmod 600` it";
        return Err(refused(path, "can be read or written by other users", hint));
    }
    // One more than needed, so that a longer file is seen; the buffer never grows, so no copy is left behind.
    let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let key = Secret::<[u8]>::new(bytes)?;
    if key.len() != KEY_BYTES {
        return Err(refused(path, "is not 32 bytes long", "put back the key that the store was made with"));
    }
    Ok(Some(StoreKey(key)))
}

fn refused(path: &Path, problem: &'static str, hint: &'static str) -> Error {
    Error::KeyFile { path: path.to_owned(), problem, hint }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        (dir, path)
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn is_made_once_with_mode_0600_and_read_back() {
        let (_dir, path) = folder();
        let first = StoreKey::from_file(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(first.bytes(), StoreKey::from_file(&path).unwrap().bytes());
        assert_ne!(first.bytes(), [0u8; KEY_BYTES]);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_dir, path) = folder();
        StoreKey::from_file(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602] {
            chmod(&path, mode);
            let error = StoreKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("other users"), "{mode:o}: {error}");
        }
    }

    #[test]
    fn links_folders_fifos_and_wrong_lengths_are_refused() {
        let (dir, path) = folder();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(StoreKey::from_file(&path).unwrap_err().to_string().contains("symbolic link"));
        assert!(StoreKey::from_file(dir.path()).unwrap_err().to_string().contains("not a regular file"));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(StoreKey::from_file(&fifo).unwrap_err().to_string().contains("not a regular file"));
        for length in [0usize, 31, 33, 4096] {
            let path = dir.path().join(length.to_string());
            durable::replace(&path, &vec![7; length], 0o600).unwrap();
            assert!(StoreKey::from_file(&path).unwrap_err().to_string().contains("32 bytes"), "{length}");
        }
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let (_dir, path) = folder();
        StoreKey::from_file(&path).unwrap();
        if std::os::unix::fs::chown(&path, Some(4242), None).is_err() {
            println!("skipped: only root can give a file away");
            return;
        }
        assert!(StoreKey::from_file(&path).unwrap_err().to_string().contains("another user"));
    }

    #[test]
    fn a_credential_is_never_made_and_may_show_a_group_bit() {
        let (_dir, path) = folder();
        assert!(StoreKey::from_credential(&path).is_err());
        assert!(!path.exists());
        durable::replace(&path, &[9; KEY_BYTES], 0o440).unwrap();
        assert_eq!(StoreKey::from_credential(&path).unwrap().bytes(), [9; KEY_BYTES]);
        chmod(&path, 0o444);
        assert!(StoreKey::from_credential(&path).is_err());
    }
}
