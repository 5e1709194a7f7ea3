//! Search for several byte strings at once.
//!
//! The method is that of Wu and Manber ("A Fast Algorithm for Multi-Pattern Searching", 1994): a table of three-byte
//! blocks says how far the window may jump, so most bytes of a long text are never looked at. Its table is small and
//! quick to build, which an automaton is not; it is built for every lease.

use zeroize::Zeroizing;

const BLOCK: usize = 3;
const SLOTS: usize = 4096;

/// The strings, and the table of jumps.
pub(super) struct Needles {
    forms: Vec<Zeroizing<Vec<u8>>>,
    jumps: Box<[u8; SLOTS]>,
    firsts: [bool; 256],
    /// Length of the shortest, which is the window; zero if there is none.
    window: usize,
    longest: usize,
}

impl Needles {
    /// Strings shorter than a block are ignored.
    pub(super) fn new(mut needles: Vec<Zeroizing<Vec<u8>>>) -> Self {
        needles.retain(|needle| needle.len() >= BLOCK);
        let window = needles.iter().map(|needle| needle.len()).min().unwrap_or(0);
        let longest = needles.iter().map(|needle| needle.len()).max().unwrap_or(0);
        let furthest = window.saturating_sub(BLOCK - 1);
        let mut jumps = Box::new([u8::try_from(furthest).unwrap_or(u8::MAX); SLOTS]);
        let mut firsts = [false; 256];
        for needle in &needles {
            if let Some(first) = needle.first().and_then(|first| firsts.get_mut(usize::from(*first))) {
                *first = true;
            }
            for (at, block) in needle.windows(BLOCK).take(furthest).enumerate() {
                let jump = u8::try_from(furthest - 1 - at).unwrap_or(u8::MAX);
                if let Some(slot) = jumps.get_mut(slot(block)) {
                    *slot = jump.min(*slot);
                }
            }
        }
        Self { forms: needles, jumps, firsts, window, longest }
    }

    /// Length of the longest.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Start and length of the first find at or after `from`; the longest where several begin.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        if self.window == 0 {
            return None;
        }
        let mut end = from + self.window;
        while let Some(block) = text.get(end - BLOCK..end) {
            let jump = self.jumps.get(slot(block)).copied().unwrap_or(0);
            if jump > 0 {
                end += usize::from(jump);
                continue;
            }
            let start = end - self.window;
            if let Some(length) = self.longest_at(text.get(start..).unwrap_or_default()) {
                return Some((start, length));
            }
            end += 1;
        }
        None
    }

    fn longest_at(&self, text: &[u8]) -> Option<usize> {
        self.forms.iter().filter(|needle| text.starts_with(needle)).map(|needle| needle.len()).max()
    }

    /// Overwrites every find of `text` in `image`, overlapping ones too, and counts them.
    pub(super) fn mask(&self, text: &[u8], image: &mut [u8]) -> u64 {
        self.mask_new(text, image, 0)
    }

    /// The same, but counts only finds that end after `known`.
    pub(super) fn mask_new(&self, text: &[u8], image: &mut [u8], known: usize) -> u64 {
        let (mut hits, mut from, mut covered) = (0, 0, 0);
        while let Some((start, length)) = self.find(text, from) {
            let end = start + length;
            if let Some(found) = image.get_mut(start..end) {
                found.fill(b'*');
            }
            if start >= covered && end > known {
                hits += 1;
            }
            covered = covered.max(end);
            from = start + 1;
        }
        hits
    }

    /// Length of the longest end of `text` with which a find may begin.
    pub(super) fn begun(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(self.longest.saturating_sub(1));
        let tail = text.get(from..).unwrap_or_default();
        for (at, byte) in tail.iter().enumerate() {
            if !self.firsts.get(usize::from(*byte)).copied().unwrap_or(true) {
                continue;
            }
            let rest = tail.get(at..).unwrap_or_default();
            if self.forms.iter().any(|needle| needle.len() > rest.len() && needle.starts_with(rest)) {
                return rest.len();
            }
        }
        0
    }

    /// Length of the longest beginning of `text` with which a find may have ended.
    pub(super) fn ended(&self, text: &[u8]) -> usize {
        let ends = |needle: &[u8]| {
            let lengths = 1..needle.len();
            lengths
                .rev()
                .find(|length| needle.get(needle.len() - length..).is_some_and(|end| text.starts_with(end)))
        };
        self.forms.iter().filter_map(|needle| ends(needle)).max().unwrap_or(0)
    }
}

fn slot(block: &[u8]) -> usize {
    let [a, b, c] = block else { return 0 };
    let mixed = u32::from(*a) ^ (u32::from(*b) << 4) ^ (u32::from(*c) << 7);
    (mixed as usize ^ (mixed as usize >> 12)) & (SLOTS - 1)
}
