//! Content codings, decoded as they stream (RFC 9110 section 8.4.1, RFC 7932, RFC 8878, RFC 9659).
//!
//! Invariant: however much a few bytes expand to, each stage makes about [`STEP_BYTES`] at a time; the next are made
//! when those are gone.

use std::io::{self, Write};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::header::{self, HeaderMap};
use writ_core::Reason;
use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// Bytes that one stage makes at a time.
const STEP_BYTES: usize = 32 * 1024;
/// More codings than this on one answer are not believed.
const CODINGS_MAX: usize = 4;
/// 8 MiB, the window that RFC 9659 allows.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings of a body, in the order in which they are undone.
pub(super) fn of(headers: &HeaderMap) -> Result<Vec<Coding>, Reason> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| Reason::EchoUnreadable)?;
        for word in value.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            codings.push(match word.as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(Reason::EchoUnreadable),
            });
        }
    }
    codings.reverse();
    if codings.len() > CODINGS_MAX { Err(Reason::EchoUnreadable) } else { Ok(codings) }
}

/// Undoes all codings of one body.
pub(super) struct Decoding {
    stages: Vec<Stage>,
}

struct Stage {
    decoder: Decoder,
    input: Bytes,
    /// Something came in.
    fed: bool,
    /// The last step filled its room, so there may be more to come.
    more: bool,
    /// The coding says that this may be the end.
    complete: bool,
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// Until the first two bytes show whether there is a zlib header: some services leave it out.
    DeflateUnknown(Vec<u8>),
    Deflate(Box<Decompress>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(zstd::stream::raw::Decoder<'static>),
}

impl Decoding {
    pub(super) fn new(codings: &[Coding]) -> io::Result<Self> {
        let stage = |coding| {
            let decoder = Decoder::new(coding)?;
            Ok(Stage { decoder, input: Bytes::new(), fed: false, more: false, complete: false })
        };
        Ok(Self { stages: codings.iter().map(|coding| stage(*coding)).collect::<io::Result<_>>()? })
    }

    /// Takes encoded bytes. All that came before must have been pulled.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        if let Some(stage) = self.stages.first_mut() {
            stage.feed(bytes);
        }
    }

    /// Gives the next decoded bytes; `None` when more has to be fed first.
    pub(super) fn pull(&mut self) -> io::Result<Option<Bytes>> {
        pull(&mut self.stages)
    }

    /// The body is over: an error if it is cut short.
    pub(super) fn end(&mut self) -> io::Result<()> {
        for stage in &mut self.stages {
            stage.end()?;
        }
        Ok(())
    }
}

fn pull(stages: &mut [Stage]) -> io::Result<Option<Bytes>> {
    let Some((last, before)) = stages.split_last_mut() else { return Ok(None) };
    loop {
        if last.more || !last.input.is_empty() {
            let out = last.step()?;
            if !out.is_empty() {
                return Ok(Some(out));
            }
        } else {
            match pull(before)? {
                Some(bytes) => last.feed(bytes),
                None => return Ok(None),
            }
        }
    }
}

impl Stage {
    fn feed(&mut self, bytes: Bytes) {
        self.fed |= !bytes.is_empty();
        self.input = bytes;
    }

    /// Makes some bytes of what came in. Uses something up, or gives something, or leaves `more` unset.
    fn step(&mut self) -> io::Result<Bytes> {
        let (used, out) = match &mut self.decoder {
            Decoder::Gzip(decoder) => gunzip(decoder, &self.input)?,
            Decoder::DeflateUnknown(_) => {
                self.look();
                return Ok(Bytes::new());
            }
            Decoder::Deflate(inflate) if !self.complete => {
                let (used, out, ended) = inflated(inflate, &self.input)?;
                self.complete = ended;
                (used, out)
            }
            Decoder::Brotli(state) if !self.complete => {
                let (used, out, ended) = unbrotli(state, &self.input)?;
                self.complete = ended;
                (used, out)
            }
            Decoder::Zstd(decoder) => {
                let (used, out, ended) = unzstd(decoder, &self.input)?;
                if used > 0 || !out.is_empty() {
                    self.complete = ended;
                }
                (used, out)
            }
            // What follows the end is not part of the body.
            Decoder::Deflate(_) | Decoder::Brotli(_) => (self.input.len(), Vec::new()),
        };
        if used == 0 && out.is_empty() && !self.input.is_empty() {
            return Err(malformed());
        }
        self.more = out.len() >= STEP_BYTES;
        self.input.advance(used);
        Ok(Bytes::from(out))
    }

    fn look(&mut self) {
        if let Decoder::DeflateUnknown(start) = &mut self.decoder {
            start.extend_from_slice(&self.input.split_to(1.min(self.input.len())));
            if let [first, second] = start.as_slice() {
                let zlib = first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0;
                let whole = [start.as_slice(), &self.input].concat();
                self.input = Bytes::from(whole);
                self.decoder = Decoder::Deflate(Box::new(Decompress::new(zlib)));
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let complete = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish().is_ok(),
            Decoder::DeflateUnknown(_) | Decoder::Deflate(_) | Decoder::Brotli(_) | Decoder::Zstd(_) => {
                self.complete
            }
        };
        if complete || !self.fed { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Decoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Deflate => Self::DeflateUnknown(Vec::with_capacity(2)),
            Coding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Self::Zstd(decoder)
            }
        })
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// One write makes as much as the decoder's own buffer holds, 32 KiB.
fn gunzip(decoder: &mut MultiGzDecoder<Vec<u8>>, input: &[u8]) -> io::Result<(usize, Vec<u8>)> {
    let used = decoder.write(input)?;
    if used == input.len() {
        decoder.flush()?;
    }
    Ok((used, std::mem::take(decoder.get_mut())))
}

fn inflated(inflate: &mut Decompress, input: &[u8]) -> io::Result<(usize, Vec<u8>, bool)> {
    let mut out = vec![0; STEP_BYTES];
    let (in_before, out_before) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, &mut out, FlushDecompress::None)?;
    let passed = |now: u64, before: u64| usize::try_from(now - before).map_err(|_| malformed());
    out.truncate(passed(inflate.total_out(), out_before)?);
    Ok((passed(inflate.total_in(), in_before)?, out, status == Status::StreamEnd))
}

fn unbrotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
) -> io::Result<(usize, Vec<u8>, bool)> {
    let mut out = vec![0; STEP_BYTES];
    let (mut left, mut used, mut room, mut made, mut total) = (input.len(), 0, STEP_BYTES, 0, 0);
    let result = BrotliDecompressStream(
        &mut left, &mut used, input, &mut room, &mut made, &mut out, &mut total, state,
    );
    if matches!(result, BrotliResult::ResultFailure) {
        return Err(malformed());
    }
    out.truncate(made);
    Ok((used, out, matches!(result, BrotliResult::ResultSuccess)))
}

fn unzstd(
    decoder: &mut zstd::stream::raw::Decoder<'static>,
    input: &[u8],
) -> io::Result<(usize, Vec<u8>, bool)> {
    let mut out = vec![0; STEP_BYTES];
    let mut from = InBuffer::around(input);
    let mut to = OutBuffer::around(out.as_mut_slice());
    let hint = decoder.run(&mut from, &mut to)?;
    let (used, made) = (from.pos(), to.pos());
    out.truncate(made);
    Ok((used, out, hint == 0))
}
