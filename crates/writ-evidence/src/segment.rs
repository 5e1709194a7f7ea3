//! Segments: where an event is durable first.
//!
//! A segment is a preallocated file of records, `[length u32][crc32 u32][seq u64][group u64][leaf]`, all
//! little-endian, behind a head: `[magic][first sequence number u64][generation u64][crc32 of these u32][0 u32]`. It ends
//! at the first record that is not the next one: wrong length, wrong sum, wrong number. A torn tail, which was never
//! acknowledged, so cuts itself off.
//!
//! A segment whose leaves are archived is kept as a spare and written again from its beginning, which costs one small
//! write instead of a file full of zeros. Each use is a generation of its own, and the generation is part of every
//! record's sum: what stands there from before is never read as new.
//!
//! `group` is the number of the first record of the same write. A write begins only when the one before it is durable,
//! so each record also says that everything below its group was durable. That tells a torn tail from damage: a broken
//! record that a later one swears to was acknowledged, and the log must not go on as if it had never been.
//! Where the next segment begins, this one ends, whatever may stand behind: after a failed sync the same numbers are
//! written anew into a fresh segment.

use std::io;
use std::path::{Path, PathBuf};

use writ_gate::limits::LEAF_BYTES_MAX;

use crate::storage::{Storage, StorageFile};

/// Bytes of a segment: about 10,000 actions.
pub(crate) const SEGMENT_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 16 << 20 };
/// Segments kept for reuse at most: as many as may fill up before the archive takes over what is in them.
pub(crate) const SPARES_MAX: usize = 2;
const HEAD: usize = 32;
const MAGIC: [u8; 8] = *b"writseg2";
const RECORD_HEAD: usize = 24;

/// A segment that is written.
pub(crate) struct Segment {
    file: Box<dyn StorageFile>,
    first: u64,
    generation: u64,
    end: u64,
}

impl Segment {
    /// Makes a segment that begins with this number, from a spare if there is one: all of its blocks allocated and its
    /// head durable.
    pub(crate) fn create(storage: &dyn Storage, first: u64) -> io::Result<Self> {
        let path = name(first);
        for spare in spares(storage)? {
            if let Some(generation) = renew(storage, &spare, first)? {
                // Crash here: it is a spare still, of the next generation.
                storage.rename(&spare, &path)?;
                storage.sync_folder()?;
                return Ok(Self { file: storage.open(&path)?, first, generation, end: HEAD as u64 });
            }
            storage.remove(&spare)?;
        }
        let mut file = storage.allocate(&path, SEGMENT_BYTES)?;
        begin(&mut *file, first, 0)?;
        storage.sync_folder()?;
        Ok(Self { file, first, generation: 0, end: HEAD as u64 })
    }

    /// Goes on with a segment that was read.
    pub(crate) fn reopen(storage: &dyn Storage, read: &Read) -> io::Result<Self> {
        let file = storage.open(&name(read.first))?;
        Ok(Self { file, first: read.first, generation: read.generation, end: read.end })
    }

    /// Whether the records fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        // A record head of zeros must fit behind, so that the end is always recognisable.
        self.end + bytes as u64 + RECORD_HEAD as u64 <= SEGMENT_BYTES
    }

    /// The first number.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Writes records and makes them durable: one write, one sync. After an error nothing is known of what is on disk,
    /// and the segment must not be used any more.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let mut framed = [records, &[0; RECORD_HEAD]].concat();
        seal(&mut framed, self.generation);
        self.file.write_at(self.end, &framed)?;
        // Crash here: some of the records may be on disk, in order; none was acknowledged.
        self.file.sync()?;
        self.end += records.len() as u64;
        Ok(())
    }
}

/// Begins a spare anew, and gives its generation. `None` if that of before is not certain, or if the spare is not of the
/// size that is written today.
fn renew(storage: &dyn Storage, spare: &Path, first: u64) -> io::Result<Option<u64>> {
    let mut file = storage.open(spare)?;
    let (bytes, length) = file.begin(HEAD)?;
    let head = Head::read(&bytes).filter(|_| length == SEGMENT_BYTES);
    let Some(generation) = head.and_then(|head| head.generation.checked_add(1)) else { return Ok(None) };
    begin(&mut *file, first, generation)?;
    Ok(Some(generation))
}

/// Writes the head and the end behind it, durably.
fn begin(file: &mut dyn StorageFile, first: u64, generation: u64) -> io::Result<()> {
    let head = Head { first, generation }.bytes();
    // Zeros behind it, so that nothing of before looks like a write that was cut off.
    file.write_at(0, &[&head[..], &[0; RECORD_HEAD]].concat())?;
    file.sync()
}

/// Puts a segment aside whose leaves are archived, or removes it if there are enough.
pub(crate) fn retire(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match path.file_name().and_then(|name| name.to_str()) {
        // Not durable yet, and need not be: whichever name it has, nothing in it is missed.
        Some(name) if spares(storage)?.len() < SPARES_MAX => {
            storage.rename(path, &PathBuf::from(format!("segment/spare-{name}")))
        }
        _ => storage.remove(path),
    }
}

fn spares(storage: &dyn Storage) -> io::Result<Vec<PathBuf>> {
    let mut all = storage.list("segment".as_ref())?;
    all.retain(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("spare-"))
    });
    Ok(all)
}

/// What a segment begins with.
struct Head {
    first: u64,
    generation: u64,
}

impl Head {
    fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let told = [MAGIC, self.first.to_le_bytes(), self.generation.to_le_bytes()].concat();
        let sum = crc32fast::hash(&told).to_le_bytes();
        bytes.iter_mut().zip(told.into_iter().chain(sum)).for_each(|(to, from)| *to = from);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let head = Self { first: number(8)?, generation: number(16)? };
        (bytes.get(..HEAD)? == head.bytes()).then_some(head)
    }
}

/// Makes framed records part of a generation, up to a record head of zeros.
fn seal(records: &mut [u8], generation: u64) {
    let salt = salt(generation).to_le_bytes();
    let mut rest = records;
    while let Some((length, behind)) = rest.split_first_chunk_mut::<4>()
        && let Some((sum, behind)) = behind.split_first_chunk_mut::<4>()
    {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length == 0 {
            return;
        }
        sum.iter_mut().zip(salt).for_each(|(to, with)| *to ^= with);
        let record = length.saturating_add(RECORD_HEAD - 8).min(behind.len());
        rest = behind.split_at_mut(record).1;
    }
}

/// Generations that differ have sums that differ: a CRC tells apart what differs within 32 bits, and generations count
/// up from zero.
fn salt(generation: u64) -> u32 {
    crc32fast::hash(&generation.to_le_bytes())
}

/// Frames one leaf of the write that begins with the number `group`.
pub(crate) fn frame(out: &mut Vec<u8>, seq: u64, group: u64, leaf: &[u8]) {
    let length = u32::try_from(leaf.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(seq, group, leaf).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(leaf);
}

fn checksum(seq: u64, group: u64, leaf: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(&group.to_le_bytes());
    hasher.update(leaf);
    hasher.finalize()
}

/// What a segment holds.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) first: u64,
    generation: u64,
    pub(crate) leaves: Vec<Vec<u8>>,
    /// Where the next record would go.
    pub(crate) end: u64,
    /// Whether something that is no whole record stands there: a write that was cut off.
    pub(crate) torn: bool,
    /// Everything below this number was durable once, says a record behind the end.
    pub(crate) durable: u64,
}

/// Reads a segment; `None` if it has no head (a crash while it was made).
pub(crate) fn read(bytes: &[u8]) -> Option<Read> {
    let Head { first, generation } = Head::read(bytes)?;
    let (mut rest, salt) = (bytes.get(HEAD..)?, salt(generation));
    let (mut leaves, mut end) = (Vec::new(), HEAD as u64);
    while let Some((record, behind)) = record(rest, salt)
        && record.seq == first + leaves.len() as u64
    {
        leaves.push(record.leaf.to_vec());
        end += (RECORD_HEAD + record.leaf.len()) as u64;
        rest = behind;
    }
    let torn = rest.iter().take(RECORD_HEAD).any(|byte| *byte != 0);
    Some(Read { first, generation, leaves, end, torn, durable: sworn(rest, salt) })
}

/// The highest number below which, by any whole record in these bytes, everything was durable.
fn sworn(mut bytes: &[u8], salt: u32) -> u64 {
    let mut durable = 0;
    while let Some(zeros) = bytes.iter().position(|byte| *byte != 0) {
        // The first byte of a length may itself be zero; so up to three bytes before the first that is not.
        for back in (0..=zeros.min(3)).rev() {
            if let Some((found, _)) = bytes.get(zeros - back..).and_then(|bytes| record(bytes, salt)) {
                durable = durable.max(found.group);
            }
        }
        bytes = bytes.get(zeros + 1..).unwrap_or_default();
    }
    durable
}

struct Record<'a> {
    seq: u64,
    group: u64,
    leaf: &'a [u8],
}

/// The whole record at the beginning of these bytes, and what stands behind it.
fn record(bytes: &[u8], salt: u32) -> Option<(Record<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok();
    let length = length.filter(|length| (1..=LEAF_BYTES_MAX).contains(length))?;
    let (leaf, behind) = rest.split_at_checked(length)?;
    let (seq, group) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*group));
    // Cheap first: the scan behind a broken record tries every place.
    let whole = group <= seq && u32::from_le_bytes(*sum) ^ salt == checksum(seq, group, leaf);
    whole.then_some((Record { seq, group, leaf }, behind))
}

/// The file of the segment that begins with this number.
pub(crate) fn name(first: u64) -> PathBuf {
    PathBuf::from(format!("segment/{first:020}"))
}

/// The number that a segment's file begins with.
pub(crate) fn first_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(first: u64, leaves: &[&[u8]]) -> Vec<u8> {
        of_generation(0, first, leaves)
    }

    fn of_generation(generation: u64, first: u64, leaves: &[&[u8]]) -> Vec<u8> {
        let mut records = Vec::new();
        leaves.iter().zip(first..).for_each(|(leaf, seq)| frame(&mut records, seq, seq, leaf));
        seal(&mut records, generation);
        [&Head { first, generation }.bytes()[..], &records].concat()
    }

    #[test]
    fn a_torn_or_stale_tail_is_cut_off() {
        let whole = segment(5, &[b"one", b"two", b"three"]);
        assert_eq!(read(&whole).unwrap().leaves.len(), 3);
        for cut in HEAD + 1..whole.len() {
            assert!(read(&whole[..cut]).unwrap().leaves.len() < 3, "cut at {cut}");
        }
        let mut stale = segment(5, &[b"one"]);
        stale.extend_from_slice(&segment(2, &[b"old"])[HEAD..]);
        assert_eq!(read(&stale).unwrap().leaves, [b"one"]);
        let mut flipped = whole;
        let at = flipped.len() - 8;
        flipped[at] ^= 1;
        assert_eq!(read(&flipped).unwrap().leaves.len(), 2);
    }

    #[test]
    fn a_broken_record_that_a_later_write_swears_to_is_no_torn_tail() {
        let mut separate = segment(5, &[b"one", b"two", b"three"]);
        separate[HEAD + 2 * RECORD_HEAD + 4] ^= 1;
        let found = read(&separate).unwrap();
        assert_eq!((found.leaves.len(), found.durable), (1, 7), "two was durable when three was written");

        let mut together = segment(5, &[b"one"]);
        let second = together.len();
        let mut one_write = Vec::new();
        frame(&mut one_write, 6, 6, b"two");
        frame(&mut one_write, 7, 6, b"three");
        seal(&mut one_write, 0);
        together.extend(one_write);
        together[second + RECORD_HEAD] ^= 1;
        let found = read(&together).unwrap();
        assert_eq!((found.leaves.len(), found.torn), (1, true));
        assert!(found.durable <= 6, "two and three were one write, which nobody acknowledged");
    }

    /// The very numbers that come next, whole, at the very place: what a failed write may have left.
    #[test]
    fn records_of_an_earlier_use_are_never_read_as_new() {
        for (old, new) in [(0, 1), (1, 0), (1, 2), (255, 256), (u64::from(u32::MAX), 1 << 32), (3, 1 << 40)] {
            let stale = of_generation(old, 5, &[b"one", b"two", b"three"]);
            let mut reused = stale.clone();
            let begun = of_generation(new, 5, &[b"one"]);
            reused[..begun.len()].copy_from_slice(&begun);
            let found = read(&reused).unwrap();
            assert_eq!((found.leaves.len(), found.durable), (1, 0), "{old} {new}");
            // Only the head was written anew.
            let mut reused = stale;
            reused[..HEAD].copy_from_slice(&Head { first: 5, generation: new }.bytes());
            assert_eq!(read(&reused).unwrap().leaves.len(), 0, "{old} {new}");
        }
    }

    #[test]
    fn a_head_that_was_cut_off_is_none() {
        let (old, new) = (segment(5, &[b"one"]), of_generation(256, 900, &[]));
        for cut in 1..HEAD {
            let mut mixed = old.clone();
            mixed[..cut].copy_from_slice(&new[..cut]);
            assert!(read(&mixed).is_none() || mixed == old || mixed[..HEAD] == new[..HEAD], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _any = read(&bytes);
            let _any = read(&[&Head { first: 3, generation: 1 }.bytes()[..], &bytes].concat());
        }
    }
}
