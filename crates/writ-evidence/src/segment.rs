//! Segments: where an event is durable first.
//!
//! A segment is a preallocated file of records, `[length u32][crc32 u32][seq u64][group u64][leaf]`, all
//! little-endian, behind a head with the first sequence number. It ends at the first record that is not the next one:
//! wrong length, wrong sum, wrong number. A torn tail, which was never acknowledged, so cuts itself off.
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
const HEAD: u64 = 16;
const MAGIC: [u8; 8] = *b"writseg1";
const RECORD_HEAD: usize = 24;

/// A segment that is written.
pub(crate) struct Segment {
    file: Box<dyn StorageFile>,
    first: u64,
    end: u64,
}

impl Segment {
    /// Makes a segment that begins with this number, all of its blocks allocated and its head durable.
    pub(crate) fn create(storage: &dyn Storage, first: u64) -> io::Result<Self> {
        let mut file = storage.allocate(&name(first), SEGMENT_BYTES)?;
        file.write_at(0, &[MAGIC, first.to_le_bytes()].concat())?;
        file.sync()?;
        storage.sync_folder()?;
        Ok(Self { file, first, end: HEAD })
    }

    /// Goes on with a segment that was read up to `end`.
    pub(crate) fn reopen(storage: &dyn Storage, first: u64, end: u64) -> io::Result<Self> {
        Ok(Self { file: storage.open(&name(first))?, first, end })
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
        let framed = [records, &[0; RECORD_HEAD]].concat();
        self.file.write_at(self.end, &framed)?;
        // Crash here: some of the records may be on disk, in order; none was acknowledged.
        self.file.sync()?;
        self.end += records.len() as u64;
        Ok(())
    }
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
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (first, mut rest) = rest.split_first_chunk::<8>()?;
    if *magic != MAGIC {
        return None;
    }
    let first = u64::from_le_bytes(*first);
    let (mut leaves, mut end) = (Vec::new(), HEAD);
    while let Some((record, behind)) = record(rest)
        && record.seq == first + leaves.len() as u64
    {
        leaves.push(record.leaf.to_vec());
        end += (RECORD_HEAD + record.leaf.len()) as u64;
        rest = behind;
    }
    let torn = rest.iter().take(RECORD_HEAD).any(|byte| *byte != 0);
    Some(Read { first, leaves, end, torn, durable: sworn(rest) })
}

/// The highest number below which, by any whole record in these bytes, everything was durable.
fn sworn(mut bytes: &[u8]) -> u64 {
    let mut durable = 0;
    while let Some(zeros) = bytes.iter().position(|byte| *byte != 0) {
        // The first byte of a length may itself be zero; so up to three bytes before the first that is not.
        for back in (0..=zeros.min(3)).rev() {
            if let Some((found, _)) = bytes.get(zeros - back..).and_then(record) {
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
fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok();
    let length = length.filter(|length| (1..=LEAF_BYTES_MAX).contains(length))?;
    let (leaf, behind) = rest.split_at_checked(length)?;
    let (seq, group) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*group));
    // Cheap first: the scan behind a broken record tries every place.
    let whole = group <= seq && u32::from_le_bytes(*sum) == checksum(seq, group, leaf);
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
        let mut bytes = [MAGIC, first.to_le_bytes()].concat();
        leaves.iter().zip(first..).for_each(|(leaf, seq)| frame(&mut bytes, seq, seq, leaf));
        bytes
    }

    #[test]
    fn a_torn_or_stale_tail_is_cut_off() {
        let whole = segment(5, &[b"one", b"two", b"three"]);
        assert_eq!(read(&whole).unwrap().leaves.len(), 3);
        for cut in 17..whole.len() {
            assert!(read(&whole[..cut]).unwrap().leaves.len() < 3, "cut at {cut}");
        }
        let mut stale = segment(5, &[b"one"]);
        stale.extend_from_slice(&segment(2, &[b"old"])[16..]);
        assert_eq!(read(&stale).unwrap().leaves, [b"one"]);
        let mut flipped = whole;
        let at = flipped.len() - 8;
        flipped[at] ^= 1;
        assert_eq!(read(&flipped).unwrap().leaves.len(), 2);
    }

    #[test]
    fn a_broken_record_that_a_later_write_swears_to_is_no_torn_tail() {
        let mut separate = segment(5, &[b"one", b"two", b"three"]);
        separate[16 + 2 * RECORD_HEAD + 4] ^= 1;
        let found = read(&separate).unwrap();
        assert_eq!((found.leaves.len(), found.durable), (1, 7), "two was durable when three was written");

        let mut together = segment(5, &[b"one"]);
        let second = together.len();
        frame(&mut together, 6, 6, b"two");
        frame(&mut together, 7, 6, b"three");
        together[second + RECORD_HEAD] ^= 1;
        let found = read(&together).unwrap();
        assert_eq!((found.leaves.len(), found.torn), (1, true));
        assert!(found.durable <= 6, "two and three were one write, which nobody acknowledged");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _any = read(&bytes);
            let _any = read(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
