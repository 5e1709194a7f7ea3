//! Where the log's parts lie (<https://c2sp.org/tlog-tiles>): tiles of 256 hashes, bundles of 256 entries.

use std::path::PathBuf;

/// Entries in a full bundle, hashes in a full tile.
pub(crate) const WIDTH: u64 = 256;

/// The path of a hash tile below the log's folder; `width` below 256 makes it a partial one.
pub(crate) fn hash_path(level: u32, index: u64, width: u64) -> PathBuf {
    PathBuf::from(format!("tile/{level}/{}{}", number(index), partial(width)))
}

/// The path of an entry bundle.
pub(crate) fn entry_path(index: u64, width: u64) -> PathBuf {
    PathBuf::from(format!("tile/entries/{}{}", number(index), partial(width)))
}

fn partial(width: u64) -> String {
    if width < WIDTH { format!(".p/{width}") } else { String::new() }
}

/// In groups of three digits, all but the last with `x`: 1234067 is `x001/x234/067`.
fn number(mut index: u64) -> String {
    let mut text = format!("{:03}", index % 1000);
    while index >= 1000 {
        index /= 1000;
        text = format!("x{:03}/{text}", index % 1000);
    }
    text
}

/// The tiles of one level in a tree of this size: how many are full, and how wide the partial one is (0: none).
pub(crate) fn tiles(level: u32, size: u64) -> (u64, u64) {
    let hashes = size >> (8 * level).min(63);
    (hashes / WIDTH, hashes % WIDTH)
}

/// An entry bundle: each entry with its length, big-endian u16.
pub(crate) fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend(entry.iter().take(usize::from(length)));
    }
    out
}

/// The entries of a bundle; `None` if it is cut off.
pub(crate) fn entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        out.push(entry);
        bundle = rest;
    }
    bundle.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(entry_path(1_234_067, 256), PathBuf::from("tile/entries/x001/x234/067"));
        assert_eq!(hash_path(0, 273, 112), PathBuf::from("tile/0/273.p/112"));
        assert_eq!((tiles(0, 70_000), tiles(1, 70_000), tiles(2, 70_000)), ((273, 112), (1, 17), (0, 1)));
        assert_eq!((tiles(0, 256), tiles(1, 256)), ((1, 0), (0, 1)));
    }

    proptest! {
        #[test]
        fn bundles_round_trip_and_garbage_never_panics(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20), junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = bundle(parts.iter().map(Vec::as_slice));
            prop_assert_eq!(entries(&bytes).unwrap(), parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let _any = entries(&junk);
        }
    }
}
