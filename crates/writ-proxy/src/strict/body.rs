//! The framing of a request body: how far it reaches. Chunk extensions are refused, since nobody needs them.

use writ_core::Reason;

/// Trailer lines of one body, bytes.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: u8 = 15;

/// Where in a body the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes remain.
    Length(u64),
    /// Within chunked framing.
    Chunked(Chunk),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Size { value: u64, digits: u8 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer(Trailer),
    Ended,
}

/// After the last chunk: lines of trailers up to an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    seen: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Line,
    LineLf,
    LastLf,
}

impl Framing {
    pub(super) const fn length(length: u64) -> Self {
        Self::Length(length)
    }

    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunk::Size { value: 0, digits: 0 })
    }

    pub(super) const fn ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Ended))
    }

    /// Follows the body through `bytes`; returns how many belong to it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        match self {
            Self::Length(left) => Ok(skip(left, bytes)),
            Self::Chunked(chunk) => {
                let mut done = 0;
                while let Some((&first, rest)) = bytes.get(done..).and_then(<[u8]>::split_first) {
                    match chunk {
                        Chunk::Ended => break,
                        Chunk::Data { left } => {
                            done += skip(left, bytes.get(done..).unwrap_or(rest));
                            if *left == 0 {
                                *chunk = Chunk::DataCr;
                            }
                        }
                        Chunk::Size { .. }
                        | Chunk::SizeLf { .. }
                        | Chunk::DataCr
                        | Chunk::DataLf
                        | Chunk::Trailer(_) => {
                            *chunk = chunk.after(first).ok_or(Reason::BadRequest)?;
                            done += 1;
                        }
                    }
                }
                Ok(done)
            }
        }
    }
}

impl Chunk {
    /// The place after one byte; `None` if it may not stand here.
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Size { value, digits: 1.. }, b'\r') => Some(Self::SizeLf { value }),
            (Self::Size { value, digits }, _) if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16)?;
                Some(Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            (Self::SizeLf { value: 0 }, b'\n') => {
                Some(Self::Trailer(Trailer { seen: 0, place: Place::Start }))
            }
            (Self::SizeLf { value }, b'\n') => Some(Self::Data { left: value }),
            (Self::DataCr, b'\r') => Some(Self::DataLf),
            (Self::DataLf, b'\n') => Some(Self::Size { value: 0, digits: 0 }),
            (Self::Trailer(trailer), _) => trailer.after(byte),
            _ => None,
        }
    }
}

impl Trailer {
    fn after(self, byte: u8) -> Option<Chunk> {
        let place = match (self.place, byte) {
            (Place::Start, b'\r') => Place::LastLf,
            // A line that begins with white space would continue the one before it (obs-fold).
            (Place::Start, b' ' | b'\t' | b'\n') | (Place::Line, b'\n' | 0) => return None,
            (Place::Line, b'\r') => Place::LineLf,
            (Place::Start | Place::Line, _) => Place::Line,
            (Place::LineLf, b'\n') => Place::Start,
            (Place::LastLf, b'\n') => return Some(Chunk::Ended),
            (Place::LineLf | Place::LastLf, _) => return None,
        };
        let seen = self.seen + 1;
        (seen <= TRAILER_BYTES_MAX).then_some(Chunk::Trailer(Self { seen, place }))
    }
}

fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= now as u64;
    now
}
