//! Secrets at rest: one sealed file each, replaced whole, opened once and then kept in secret memory.
//!
//! There are two spaces. Operators manage `user` with `writ secret`; the daemon keeps its own keys in `internal`,
//! which no name given by an operator can reach. Invariants: a value is on disk only sealed; a file opens only
//! under the name it was sealed for; a damaged entry is an error that names it, and harms no other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use writ_core::{Secret, SecretName, Timestamp};
use writ_gate::limits;
use writ_host::durable;

use crate::error::Error;
use crate::key::StoreKey;
use crate::seal::{self, Label};

const USER: &str = "user";
const INTERNAL: &str = "internal";
const SUFFIX: &str = ".sealed";
const CHECK: Label<'static> = Label { space: "check", name: "key" };

/// The sealed store. Shared by reference; every method may be called from any thread. Methods touch the disk and
/// may block for as long as it does.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    key: StoreKey,
    opened: RwLock<Opened>,
    /// Held by whoever reads or writes files, so that an old value is never put back over a new one.
    disk: Mutex<()>,
}

/// Values by space and name.
type Opened = HashMap<(&'static str, String), Secret<[u8]>>;

/// What may be known of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: SecretName,
    /// When it was set, and the length of its value in bytes; `None` if the entry is damaged.
    pub state: Option<(Timestamp, usize)>,
}

impl Store {
    /// Opens the store in this folder, which is made if it is missing. The wrong key is noticed here.
    pub fn open(folder: impl Into<PathBuf>, key: StoreKey) -> Result<Self, Error> {
        let folder = folder.into();
        durable::folder(&folder, 0o700)?;
        for space in [USER, INTERNAL] {
            durable::folder(&folder.join(space), 0o700)?;
        }
        let store = Self { folder, key, opened: RwLock::default(), disk: Mutex::default() };
        store.check_key()?;
        Ok(store)
    }

    /// An entry sealed when the store was made tells whether this is its key.
    fn check_key(&self) -> Result<(), Error> {
        let path = self.folder.join("key-check");
        if let Some(sealed) = durable::read(&path)? {
            return seal::open(&self.key, CHECK, &sealed).map(drop).ok_or(Error::WrongKey);
        }
        // Crash before this is written: there is no entry yet, and the next start writes it. Entries without it
        // mean that somebody removed it, and then one of them must open.
        for space in [USER, INTERNAL] {
            if let Some(name) = self.names(space)?.first() {
                let label = Label { space, name };
                let sealed = durable::read(&self.path(label))?.unwrap_or_default();
                let (value, _) = seal::open(&self.key, label, &sealed).ok_or(Error::WrongKey)?;
                drop(seal::keep(value)?);
                break;
            }
        }
        let sealed = seal::seal(&self.key, CHECK, b"writ", Timestamp::default())?;
        Ok(durable::replace(&path, &sealed, 0o600)?)
    }

    /// Stores or replaces a secret that is to be placed in requests. Durable when it returns.
    ///
    /// A value that could break out of a header (CR, LF, NUL, other control characters), that is empty, too long or
    /// no UTF-8 is refused.
    pub fn set(&self, name: &SecretName, value: &Secret<[u8]>, now: Timestamp) -> Result<(), Error> {
        check_value(name, value)?;
        self.write(Label { space: USER, name: name.as_str() }, value, now)
    }

    /// Every secret, by name. Each is opened, so that a damaged one is seen.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for name in self.names(USER)? {
            let Ok(known) = SecretName::new(&name) else { continue };
            let label = Label { space: USER, name: &name };
            // Removed since the folder was read: then it is no longer an entry.
            let Some(sealed) = durable::read(&self.path(label))? else { continue };
            let state = match seal::open(&self.key, label, &sealed) {
                Some((value, set_at)) => {
                    let kept = seal::keep(value)?;
                    Some((set_at, kept.len()))
                }
                None => None,
            };
            entries.push(Entry { name: known, state });
        }
        Ok(entries)
    }

    /// Removes a secret, durably. Whether there was one.
    pub fn remove(&self, name: &SecretName) -> Result<bool, Error> {
        self.delete(Label { space: USER, name: name.as_str() })
    }

    /// The secret of this name; `None` if there is none.
    pub fn get(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, Error> {
        self.read(Label { space: USER, name: name.as_str() })
    }

    /// What the daemon keeps for itself.
    pub fn internal(&self) -> Internal<'_> {
        Internal(self)
    }

    /// The secret if it is already open: no disk is touched.
    pub(crate) fn opened(&self, name: &SecretName) -> Option<Secret<[u8]>> {
        self.cached(Label { space: USER, name: name.as_str() })
    }

    fn cached(&self, label: Label<'_>) -> Option<Secret<[u8]>> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.get(&(label.space, label.name.to_owned())).map(Secret::share)
    }

    fn read(&self, label: Label<'_>) -> Result<Option<Secret<[u8]>>, Error> {
        if let Some(secret) = self.cached(label) {
            return Ok(Some(secret));
        }
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sealed) = durable::read(&self.path(label))? else { return Ok(None) };
        let corrupt = || Error::Corrupt { name: label.name.to_owned() };
        let (value, _) = seal::open(&self.key, label, &sealed).ok_or_else(corrupt)?;
        let secret = seal::keep(value)?;
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        opened.insert((label.space, label.name.to_owned()), secret.share());
        Ok(Some(secret))
    }

    fn write(&self, label: Label<'_>, value: &Secret<[u8]>, now: Timestamp) -> Result<(), Error> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names(label.space)?;
        if names.len() >= limits::SECRETS_MAX && !names.iter().any(|name| name == label.name) {
            return Err(Error::Full { max: limits::SECRETS_MAX });
        }
        let sealed = seal::seal(&self.key, label, value.expose(), now)?;
        // Forgotten first: if the write fails half-way, the next reader learns from the disk which value stands.
        self.forget(label);
        Ok(durable::replace(&self.path(label), &sealed, 0o600)?)
    }

    fn delete(&self, label: Label<'_>) -> Result<bool, Error> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(label);
        let existed = std::fs::symlink_metadata(&path).is_ok();
        self.forget(label);
        durable::remove(&path)?;
        Ok(existed)
    }

    fn forget(&self, label: Label<'_>) {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        opened.remove(&(label.space, label.name.to_owned()));
    }

    fn path(&self, label: Label<'_>) -> PathBuf {
        self.folder.join(label.space).join(format!("{}{SUFFIX}", label.name))
    }

    fn names(&self, space: &str) -> Result<Vec<String>, Error> {
        names(&self.folder.join(space))
    }
}

/// The daemon's own keys. `writ secret` neither lists nor reaches them.
#[derive(Debug, Clone, Copy)]
pub struct Internal<'a>(&'a Store);

impl Internal<'_> {
    /// Stores or replaces a key of the daemon, durably. Any bytes will do, but not none.
    pub fn set(&self, name: &SecretName, value: &Secret<[u8]>, now: Timestamp) -> Result<(), Error> {
        if value.is_empty() {
            return Err(refused(name, "is empty", "a key has at least one byte"));
        }
        self.0.write(Label { space: INTERNAL, name: name.as_str() }, value, now)
    }

    /// The key of this name; `None` if there is none.
    pub fn get(&self, name: &SecretName) -> Result<Option<Secret<[u8]>>, Error> {
        self.0.read(Label { space: INTERNAL, name: name.as_str() })
    }

    /// Removes a key, durably. Whether there was one.
    pub fn remove(&self, name: &SecretName) -> Result<bool, Error> {
        self.0.delete(Label { space: INTERNAL, name: name.as_str() })
    }

    /// The names of all keys.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        self.0.names(INTERNAL)
    }
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(SUFFIX)) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn check_value(name: &SecretName, value: &Secret<[u8]>) -> Result<(), Error> {
    let bytes = value.expose();
    match bytes {
        [] => {
            Err(refused(name, "is empty", "pipe the value into `writ secret set`, or type it at the prompt"))
        }
        _ if bytes.len() > limits::SECRET_BYTES_MAX => {
            Err(refused(name, "is too long to be placed in a request", "see the limits page"))
        }
        _ if std::str::from_utf8(bytes).is_err() => {
            Err(refused(name, "is not UTF-8 text", "encode it, in base64 say, if the service takes that"))
        }
        _ if bytes.iter().any(u8::is_ascii_control) => {
            let hint = "store the bare value: line breaks and NUL would break out of a header";
            Err(refused(name, "holds control characters", hint))
        }
        _ => Ok(()),
    }
}

fn refused(name: &SecretName, problem: &'static str, hint: &'static str) -> Error {
    Error::Value { name: name.to_string(), problem, hint }
}

#[cfg(test)]
mod tests;
