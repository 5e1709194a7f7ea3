//! Opening a log: the archive below its checkpoint, then the segments behind it, then what was left open.
//!
//! The same functions run when nothing went wrong: every start reads the segments, appends what the archive lacks, and
//! closes intents without a receipt.

use std::collections::HashMap;
use writ_core::event::{ActionIntended, Event, EvidenceRecovered, Leaf};
use writ_core::{ActionId, Clock, Reason};
use writ_gate::abandoned;

use crate::archive::{self, Archive};
use crate::error::Error;
use crate::facet::Facet;
use crate::segment::{self, Segment};
use crate::storage::Storage;
use crate::tail::Entry;

/// What the segments hold beyond the archive.
pub(crate) struct Recovered {
    /// The leaves behind the archive's, in order.
    pub(crate) leaves: Vec<Entry>,
    /// The segment to go on with.
    pub(crate) segment: Option<Segment>,
    /// Whether the last write was cut off; nothing of it was acknowledged.
    pub(crate) torn: bool,
}

/// Reads all segments in order and keeps what the archive does not have.
pub(crate) fn read(storage: &dyn Storage, archive: &Archive) -> Result<Recovered, Error> {
    let files = archive::segments(storage)?;
    let firsts: Vec<u64> = files.keys().copied().collect();
    let mut next = archive.size();
    let mut leaves: Vec<Entry> = Vec::new();
    let mut last = None;
    for (number, (first, path)) in files.iter().enumerate() {
        let bytes = storage.read(path).map_err(Error::read)?.unwrap_or_default();
        let Some(read) = segment::read(&bytes).filter(|read| read.first == *first) else {
            // Its head was never durable, or it was about to be used again: nothing in it was acknowledged and is missed.
            continue;
        };
        // Where the next segment begins, this one ends.
        let until = firsts.get(number + 1).copied().unwrap_or(u64::MAX);
        if *first > next {
            return Err(Error::damaged(format!(
                "leaves {next} to {} are missing: a segment is gone",
                first - 1
            )));
        }
        let end = *first + read.leaves.len() as u64;
        if read.durable.min(until) > end {
            return Err(Error::damaged(format!(
                "leaf {end} cannot be read, and was durable when later ones were written"
            )));
        }
        for (leaf, seq) in read.leaves.iter().zip(*first..until) {
            if seq == next {
                let facet = check(leaf, seq)?;
                leaves.push(Entry { bytes: leaf.as_slice().into(), facet });
                next += 1;
            }
        }
        last = Some((read, end));
    }
    // Only the newest segment can be gone on with, and only if it ends where the log does.
    let torn = last.as_ref().is_some_and(|(read, _)| read.torn);
    let segment = match last.filter(|(_, end)| *end == next) {
        Some((read, _)) => Some(Segment::reopen(storage, &read).map_err(Error::read)?),
        None => None,
    };
    Ok(Recovered { leaves, segment, torn })
}

fn check(leaf: &[u8], seq: u64) -> Result<Facet, Error> {
    match Leaf::decode(leaf) {
        Ok(leaf) if leaf.seq == seq => Ok(Facet::of(&leaf)),
        Ok(leaf) => Err(Error::damaged(format!("leaf {seq} says that it is leaf {}", leaf.seq))),
        Err(error) => Err(Error::damaged(format!("leaf {seq}: {error}"))),
    }
}

/// The receipts for intents that have none: those that the index holds open, and those of the recovered leaves.
pub(crate) fn missing_receipts(open: Vec<Vec<u8>>, recovered: &[Entry]) -> Vec<Event> {
    let mut intents: HashMap<ActionId, Box<ActionIntended>> = HashMap::new();
    let opening =
        recovered.iter().filter(|entry| entry.facet.opens.is_some()).map(|entry| entry.bytes.to_vec());
    for bytes in open.into_iter().chain(opening) {
        if let Ok(Leaf { event: Event::ActionIntended(intent), .. }) = Leaf::decode(&bytes) {
            intents.insert(intent.action, intent);
        }
    }
    for closed in recovered.iter().filter_map(|entry| entry.facet.closes) {
        intents.remove(&closed);
    }
    let mut intents: Vec<_> = intents.into_values().collect();
    intents.sort_by_key(|intent| intent.action);
    intents.iter().map(|intent| abandoned(intent, Reason::Abandoned).into()).collect()
}

/// Appends what recovery found behind what was recovered, durably: that it was needed, and the receipts of abandoned
/// intents. After a clean stop there is nothing to say.
pub(crate) fn put_in_order(
    storage: &dyn Storage,
    clock: &dyn Clock,
    recovered: &mut Recovered,
    archived: u64,
    receipts: Vec<Event>,
) -> Result<(), Error> {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (abandoned, replayed) = (count(receipts.len()), count(recovered.leaves.len()));
    if abandoned == 0 && replayed == 0 && !recovered.torn {
        return Ok(());
    }
    let needed = EvidenceRecovered { abandoned, cut: u64::from(recovered.torn), replayed };
    let first = archived + recovered.leaves.len() as u64;
    let (mut records, mut leaves) = (Vec::new(), Vec::new());
    for (event, seq) in std::iter::once(needed.into()).chain(receipts).zip(first..) {
        let leaf = Leaf { event, seq, time: clock.now() };
        let bytes = leaf.encode().map_err(|error| Error::damaged(error.to_string()))?;
        segment::frame(&mut records, seq, first, &bytes);
        leaves.push(Entry { facet: Facet::of(&leaf), bytes: bytes.into() });
    }
    let fits = recovered.segment.as_ref().is_some_and(|segment| segment.has_room(records.len()));
    if !fits {
        recovered.segment = Some(Segment::create(storage, first).map_err(Error::written)?);
    }
    if let Some(segment) = &mut recovered.segment {
        // Crash here: some receipts may be on disk; the next start writes the others.
        segment.append(&records).map_err(Error::written)?;
    }
    recovered.leaves.extend(leaves);
    Ok(())
}
