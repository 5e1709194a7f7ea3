//! Users and groups as the host's databases know them (passwd, LDAP, whatever NSS is set up with).
//!
//! The only unsafe code here is the C library's reentrant lookups; std has none.
#![expect(unsafe_code, reason = "getpwuid_r, getpwnam_r, getgrgid_r and getgrouplist have no safe wrapper")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::raw::c_char;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

/// A lookup failed, or found nothing.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("there is no user `{0}`; hint: see `getent passwd`")]
    Unknown(String),
    /// The database did not answer.
    #[error("the user database does not answer")]
    Lookup(#[source] io::Error),
}

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home folder.
    pub home: PathBuf,
}

/// Room for one entry; entries of large groups need more, and get it.
const ROOM: usize = 4 * 1024;
const ROOM_MAX: usize = 1024 * 1024;

impl Account {
    /// The user with this uid; `None` if there is none.
    pub fn of_uid(uid: u32) -> Result<Option<Self>, AccountError> {
        // SAFETY: all pointers come from `lookup` and are valid for the call.
        lookup(
            |entry, room, length, found| unsafe { libc::getpwuid_r(uid, entry, room, length, found) },
            account,
        )
    }

    /// The user of this name; `None` if there is none.
    pub fn of_name(name: &str) -> Result<Option<Self>, AccountError> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        let name = name.as_ptr();
        // SAFETY: as above, and `name` outlives the call.
        lookup(
            |entry, room, length, found| unsafe { libc::getpwnam_r(name, entry, room, length, found) },
            account,
        )
    }

    /// Every group of the user, the primary one included.
    pub fn groups(&self) -> Result<Vec<u32>, AccountError> {
        let Ok(name) = CString::new(self.name.as_str()) else { return Ok(vec![self.gid]) };
        let mut groups = vec![0; 64];
        loop {
            let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
            // SAFETY: `groups` has room for `count` entries, and the name outlives the call.
            let fits =
                unsafe { libc::getgrouplist(name.as_ptr(), self.gid, groups.as_mut_ptr(), &raw mut count) };
            let count = usize::try_from(count).unwrap_or_default();
            if fits >= 0 {
                groups.truncate(count);
                return Ok(groups);
            }
            if groups.len() >= ROOM_MAX {
                return Err(AccountError::Lookup(io::ErrorKind::OutOfMemory.into()));
            }
            groups.resize(count.max(groups.len() * 2), 0);
        }
    }
}

/// The name of a group; `None` if it has none.
pub(crate) fn group_name(gid: u32) -> Result<Option<String>, AccountError> {
    lookup(
        // SAFETY: all pointers come from `lookup` and are valid for the call.
        |entry: *mut libc::group, room, length, found| unsafe {
            libc::getgrgid_r(gid, entry, room, length, found)
        },
        // SAFETY: the library filled the entry, whose strings live in the room that is still there.
        |entry| unsafe { text(entry.gr_name) },
    )
}

fn account(entry: &libc::passwd) -> Account {
    // SAFETY: the library filled the entry, whose strings live in the room that is still there.
    let (name, home) = unsafe { (text(entry.pw_name), bytes(entry.pw_dir)) };
    Account { name, uid: entry.pw_uid, gid: entry.pw_gid, home: OsStr::from_bytes(home).into() }
}

/// # Safety
/// `at` is null or points to a string that lives for `'a`.
unsafe fn bytes<'a>(at: *const c_char) -> &'a [u8] {
    if at.is_null() {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(at) }.to_bytes()
}

/// # Safety
/// As for `bytes`.
unsafe fn text(at: *const c_char) -> String {
    // SAFETY: promised by the caller.
    String::from_utf8_lossy(unsafe { bytes(at) }).into_owned()
}

/// Calls a reentrant lookup with room that grows until the entry fits.
fn lookup<E, T>(
    call: impl Fn(*mut E, *mut c_char, usize, *mut *mut E) -> i32,
    read: impl Fn(&E) -> T,
) -> Result<Option<T>, AccountError> {
    let mut room: Vec<c_char> = vec![0; ROOM];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found: *mut E = ptr::null_mut();
        match call(entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &raw mut found) {
            libc::EINTR => {}
            libc::ERANGE if room.len() < ROOM_MAX => room.resize(room.len() * 2, 0),
            // Some databases say so when there is no such entry.
            0 | libc::ENOENT | libc::ESRCH if found.is_null() => return Ok(None),
            // SAFETY: success with a result means that `entry` was filled, and its strings lie in `room`.
            0 => return Ok(Some(read(unsafe { entry.assume_init_ref() }))),
            code => return Err(AccountError::Lookup(io::Error::from_raw_os_error(code))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_root_by_uid_and_name_and_misses_strangers() {
        let root = Account::of_uid(0).unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.gid), ("root", 0));
        assert_eq!(Account::of_name("root").unwrap(), Some(root.clone()));
        assert!(root.groups().unwrap().contains(&0));
        assert_eq!(Account::of_uid(3_999_999_999).unwrap(), None);
        assert_eq!(Account::of_name("no-such-user-here").unwrap(), None);
        assert_eq!(group_name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(group_name(3_999_999_999).unwrap(), None);
    }
}
