//! Digests of files, kept by what the kernel says of the file: device, inode, size, and both times.
//!
//! `ctime` cannot be set by anyone but the clock, so a file that was written has another stamp, if the clock has moved on
//! since; a file that changed within the last second is therefore digested anew each time. What is not noticed: a
//! writer that keeps a shared mapping open, or the disk below being written; `exec` refuses files that are open for
//! writing, so a *running* program is safe from the first. Files of a FUSE file system are refused, because the user
//! who serves them can answer each reader differently.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::Stat;
use writ_core::{Clock, Timestamp};
use writ_gate::limits;

/// A file and its state: equal stamps are equal contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for Stamp {
    fn from(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified_ns: nanos(about.mtime(), about.mtime_nsec()),
            changed_ns: nanos(about.ctime(), about.ctime_nsec()),
        }
    }
}

impl From<&Stat> for Stamp {
    #[expect(clippy::allow_attributes, reason = "the types of the fields differ between architectures")]
    #[allow(clippy::useless_conversion, clippy::cast_possible_wrap, reason = "as above")]
    fn from(about: &Stat) -> Self {
        Self {
            device: about.st_dev,
            inode: about.st_ino,
            size: u64::try_from(about.st_size).unwrap_or_default(),
            modified_ns: nanos(about.st_mtime.into(), about.st_mtime_nsec as i64),
            changed_ns: nanos(about.st_ctime.into(), about.st_ctime_nsec as i64),
        }
    }
}

fn nanos(seconds: i64, nanos: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

/// The cache. Shared; bounded; two callers who ask for one file at once read it once.
pub(crate) struct Digests {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

/// A digest, or the place where the one who reads the file will put it.
type Slot = Arc<Mutex<Option<Arc<str>>>>;

#[derive(Default)]
struct Kept {
    slots: HashMap<Stamp, Slot>,
    /// Oldest first.
    order: VecDeque<Stamp>,
}

/// How long ago a file must have changed for its stamp to tell it from its next state: far above the clock's tick.
const SETTLED: Duration = Duration::from_secs(1);
/// `FUSE_SUPER_MAGIC` (statfs(2)).
const FUSE: i64 = 0x6573_5546;

impl Digests {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// SHA-256 of the file in hex, with its stamp. Reads the file if it is not known: not for the runtime's threads.
    pub(crate) fn of(&self, file: &File) -> io::Result<(Stamp, Arc<str>)> {
        let stamp = Stamp::from(&file.metadata()?);
        if stamp.size > limits::ATTESTED_FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if served_by_a_user(file)? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "its file system is served by a process (FUSE)",
            ));
        }
        let slot = self.slot(stamp);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.as_ref() {
            return Ok((stamp, Arc::clone(known)));
        }
        let digest: Arc<str> = sha256(file)?.into();
        if Stamp::from(&file.metadata()?) != stamp {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changed while it was read"));
        }
        if self.settled(&stamp) {
            *slot = Some(Arc::clone(&digest));
        }
        Ok((stamp, digest))
    }

    fn slot(&self, stamp: Stamp) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.slots.get(&stamp) {
            return Arc::clone(slot);
        }
        if kept.order.len() >= limits::DIGESTS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.slots.remove(&oldest);
        }
        kept.order.push_back(stamp);
        Arc::clone(kept.slots.entry(stamp).or_default())
    }

    fn settled(&self, stamp: &Stamp) -> bool {
        let changed =
            u64::try_from(stamp.changed_ns / 1_000).map_or(Timestamp::default(), Timestamp::from_micros);
        self.clock.now().since(changed) > SETTLED
    }
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").finish_non_exhaustive()
    }
}

#[expect(clippy::allow_attributes, reason = "the type of the field differs between architectures")]
#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "as above")]
fn served_by_a_user(file: &File) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(file)?.f_type as i64 == FUSE)
}

fn sha256(mut file: &File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0u8; 256 * 1024];
    let mut left = limits::ATTESTED_FILE_BYTES_MAX;
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => break,
            Some(bytes) => context.update(bytes),
        }
        // A file can grow, or claim a size of nothing.
        left = left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
    }
    Ok(hex(context.finish().as_ref()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        hex.extend([byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_core::clock::ManualClock;
    use writ_host::durable;

    /// FIPS 180-4, the digest of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn known(digests: &Digests, stamp: &Stamp) -> Option<Arc<str>> {
        digests.kept.lock().unwrap().slots.get(stamp)?.lock().unwrap().clone()
    }

    fn late() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_micros(4_000_000_000_000_000)))
    }

    #[test]
    fn a_digest_is_kept_until_the_file_is_another_or_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        durable::replace(&path, b"abc", 0o755).unwrap();
        let digests = Digests::new(late());
        let (stamp, digest) = digests.of(&File::open(&path).unwrap()).unwrap();
        assert_eq!((&*digest, known(&digests, &stamp).as_deref()), (ABC, Some(ABC)));
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map(|mut file| io::Write::write_all(&mut file, b"abd"))
            .unwrap()
            .unwrap();
        let written = Stamp::from(&path.metadata().unwrap());
        assert!(written != stamp && written.same_file(&stamp) && known(&digests, &written).is_none());
        assert_ne!(&*digests.of(&File::open(&path).unwrap()).unwrap().1, ABC);
    }

    #[test]
    fn a_file_that_changed_just_now_is_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        durable::replace(&path, b"abc", 0o755).unwrap();
        let stamp = Stamp::from(&path.metadata().unwrap());
        let now = u64::try_from(stamp.changed_ns / 1_000).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(now)));
        let digests = Digests::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(&*digests.of(&File::open(&path).unwrap()).unwrap().1, ABC);
        assert!(known(&digests, &stamp).is_none());
        clock.advance(Duration::from_secs(2));
        digests.of(&File::open(&path).unwrap()).unwrap();
        assert!(known(&digests, &stamp).is_some());
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_the_oldest() {
        let digests = Digests::new(late());
        let stamp = |inode| Stamp { device: 1, inode, size: 0, modified_ns: 0, changed_ns: 0 };
        for inode in 0..=limits::DIGESTS_MAX as u64 {
            digests.slot(stamp(inode));
        }
        let kept = digests.kept.lock().unwrap();
        assert_eq!((kept.slots.len(), kept.order.len()), (limits::DIGESTS_MAX, limits::DIGESTS_MAX));
        assert!(!kept.slots.contains_key(&stamp(0)) && kept.slots.contains_key(&stamp(1)));
    }
}
