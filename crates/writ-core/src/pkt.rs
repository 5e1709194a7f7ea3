//! Git's pkt-lines, as far as the commands of a push need them: four hex digits of length, themselves included, and what they
//! measure. Source: gitprotocol-common(5), gitprotocol-pack(5).

/// The longest line with its length before it (`LARGE_PACKET_MAX` of git).
const LINE_BYTES_MAX: usize = 65_520;

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0000`: what was sent in lines is over.
    Flush,
    /// A line, without the one line feed that it may end with.
    Line(&'a [u8]),
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// A packet, and the bytes after it.
    Packet(Packet<'a>, &'a [u8]),
    /// The beginning of a packet, or nothing.
    Unfinished,
    /// No packet, or one of those that are for other messages than a push (`0001`, `0002`).
    Malformed,
}

/// Reads one packet.
pub fn next(bytes: &[u8]) -> Next<'_> {
    let Some((head, rest)) = bytes.split_at_checked(4) else { return Next::Unfinished };
    let digits = std::str::from_utf8(head).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
    let length = digits.and_then(|text| usize::from_str_radix(text, 16).ok());
    match length {
        Some(0) => Next::Packet(Packet::Flush, rest),
        Some(length @ 5..=LINE_BYTES_MAX) => match rest.split_at_checked(length - 4) {
            Some((line, after)) => {
                Next::Packet(Packet::Line(line.strip_suffix(b"\n").unwrap_or(line)), after)
            }
            None => Next::Unfinished,
        },
        _ => Next::Malformed,
    }
}

/// How far the lines of a message have been looked through, so that no byte is looked at twice as more arrive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lines {
    passed: usize,
}

impl Lines {
    /// Whether these bytes, which begin with all that were given before, hold the lines to their end, or can never do so.
    pub fn are_over(&mut self, bytes: &[u8]) -> bool {
        loop {
            let rest = bytes.get(self.passed..).unwrap_or_default();
            match next(rest) {
                Next::Packet(Packet::Line(_), after) => self.passed = bytes.len() - after.len(),
                Next::Packet(Packet::Flush, _) | Next::Malformed => return true,
                Next::Unfinished => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_long_as_it_says() {
        for (bytes, found) in [
            (&b"0000PACK"[..], Next::Packet(Packet::Flush, b"PACK")),
            (b"0006a\nrest", Next::Packet(Packet::Line(b"a"), b"rest")),
            (b"0006a\n", Next::Packet(Packet::Line(b"a"), b"")),
            (b"0007a\n\n", Next::Packet(Packet::Line(b"a\n"), b"")),
            (b"000Aabcdef", Next::Packet(Packet::Line(b"abcdef"), b"")),
            (b"", Next::Unfinished),
            (b"000", Next::Unfinished),
            (b"0006a", Next::Unfinished),
            (b"0001", Next::Malformed),
            (b"0002", Next::Malformed),
            (b"0003", Next::Malformed),
            (b"0004", Next::Malformed),
            (b"+006a\n", Next::Malformed),
            (b" 006a\n", Next::Malformed),
            (b"fff1", Next::Malformed),
            (b"\xff\xff\xff\xff", Next::Malformed),
        ] {
            assert_eq!(next(bytes), found, "{bytes:?}");
        }
    }

    #[test]
    fn lines_are_over_at_their_flush_however_they_arrive() {
        let whole = b"0006a\n0009hello0000PACK";
        let mut lines = Lines::default();
        let over = (0..=whole.len()).find(|n| lines.are_over(&whole[..*n]));
        assert_eq!(over, Some(whole.len() - 4));
        assert!(Lines::default().are_over(b"0006a\n0001"), "what is malformed never ends better");
        assert!(!Lines::default().are_over(b"0006a\n000"));
    }
}
