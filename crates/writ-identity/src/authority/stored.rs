//! The generations as they are kept: one sealed value, written whole.
//!
//! A version byte, then fields, each with its length in four bytes before it. No JSON: its strings would leave copies
//! of keys in memory.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use writ_core::{Secret, Timestamp, TrustDomain};
use zeroize::Zeroizing;

use super::generation::{Generation, Phase};
use crate::bundle::Bundle;
use crate::issuer::Issuer;
use crate::{Error, IdentitySettings, Keep, KeyKind};

/// Under which name generations are kept.
const NAME: &str = "identity-generations";
/// First byte of the kept form.
const VERSION: u8 = 1;

/// Every generation, and the counters that only grow.
pub(super) struct State {
    pub(super) generations: Vec<Generation>,
    /// The newest number that was given.
    pub(super) numbers: u64,
    /// The sequence of the bundle.
    pub(super) sequence: u64,
    /// The fingerprint of what was published under that sequence.
    pub(super) published: [u8; 32],
}

impl State {
    /// What was kept, or the state before the first generation.
    pub(super) fn load(domain: &TrustDomain, keep: &dyn Keep) -> Result<Self, Error> {
        let kept = keep.load(NAME).map_err(|source| Error::Keep { name: NAME, verb: "loaded", source })?;
        match kept {
            Some(kept) => Self::read(domain, kept.expose()),
            None => Ok(Self { generations: Vec::new(), numbers: 0, sequence: 0, published: [0; 32] }),
        }
    }

    pub(super) async fn store(&self, domain: &TrustDomain, keep: Arc<dyn Keep>) -> Result<(), Error> {
        let bytes = self.write(domain)?;
        let stored = tokio::task::spawn_blocking(move || keep.store(NAME, &bytes)).await;
        let stored = stored.unwrap_or_else(|error| Err(error.into()));
        stored.map_err(|source| Error::Keep { name: NAME, verb: "stored", source })
    }

    pub(super) fn share(&self) -> Self {
        let generations = self.generations.iter().map(Generation::share).collect();
        Self { generations, numbers: self.numbers, sequence: self.sequence, published: self.published }
    }

    /// The same with another generation, whose number is the newest.
    pub(super) fn with(&self, generation: Generation) -> Self {
        let mut next = self.share();
        next.numbers = generation.number;
        next.generations.push(generation);
        next
    }

    /// Whether there is a generation with this certificate already.
    pub(super) fn holds(&self, chain: &[CertificateDer<'static>]) -> bool {
        self.generations.iter().any(|generation| generation.chain.first() == chain.first())
    }

    pub(super) fn active(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.phase == Phase::Active)
    }

    pub(super) fn prepared(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.prepared_since().is_some())
    }

    /// What everyone else checks with: all generations, whatever they do.
    pub(super) fn bundle(&self, domain: &TrustDomain, settings: &IdentitySettings) -> Result<Bundle, Error> {
        let mut bundle = Bundle::empty(domain.clone());
        bundle.sequence = Some(self.sequence);
        bundle.refresh_hint = Some(settings.refresh_hint);
        self.generations.iter().try_for_each(|generation| generation.publish(&mut bundle, settings.wit))?;
        Ok(bundle)
    }

    /// Lets the issuer sign with the active generation, or with none.
    pub(super) fn install(&self, issuer: &Issuer) -> Result<(), Error> {
        issuer.set(self.active().map(Generation::signer).transpose()?);
        Ok(())
    }

    fn write(&self, domain: &TrustDomain) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Ample from the start: a vector that grew would leave a copy of its keys behind.
        let mut out = Writer(Zeroizing::new(Vec::with_capacity(64 * 1024)));
        out.0.push(VERSION);
        out.text(domain.as_str())?;
        out.number(self.numbers);
        out.number(self.sequence);
        out.0.extend_from_slice(&self.published);
        for generation in &self.generations {
            out.number(generation.number);
            let (phase, since) = match generation.phase {
                Phase::Prepared { since } => (0, since),
                Phase::Active => (1, Timestamp::from_micros(0)),
                Phase::Old { since } => (2, since),
            };
            out.number(phase);
            out.number(since.micros());
            out.number(generation.rotate_at.micros());
            out.number(generation.not_before.micros());
            out.number(generation.not_after.micros());
            out.number(u64::from(generation.kind == KeyKind::P384));
            out.text(&generation.source)?;
            for certificates in [&generation.chain, &generation.roots] {
                out.number(certificates.len() as u64);
                certificates.iter().try_for_each(|certificate| out.bytes(certificate))?;
            }
            for key in [&generation.key, &generation.jwt, &generation.wit] {
                out.bytes(key.expose())?;
            }
        }
        Ok(out.0)
    }

    fn read(domain: &TrustDomain, bytes: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::Kept { name: NAME };
        let (&VERSION, rest) = bytes.split_first().ok_or_else(malformed)? else { return Err(malformed()) };
        let mut reader = Reader(rest);
        // A trust domain that was renamed would sign under the new name with keys that others know by the old one.
        if reader.bytes() != Some(domain.as_str().as_bytes()) {
            return Err(malformed());
        }
        let (numbers, sequence) = reader.number().zip(reader.number()).ok_or_else(malformed)?;
        let (published, rest) = reader.0.split_first_chunk::<32>().ok_or_else(malformed)?;
        reader.0 = rest;
        let mut generations = Vec::new();
        while !reader.0.is_empty() {
            generations.push(generation(&mut reader)?.ok_or_else(malformed)?);
        }
        Ok(Self { generations, numbers, sequence, published: *published })
    }
}

fn generation(reader: &mut Reader<'_>) -> Result<Option<Generation>, Error> {
    let mut numbers = [0; 7];
    for number in &mut numbers {
        let Some(read) = reader.number() else { return Ok(None) };
        *number = read;
    }
    let [number, phase, since, rotate_at, not_before, not_after, kind] = numbers;
    let since = Timestamp::from_micros(since);
    let phase = match phase {
        0 => Phase::Prepared { since },
        1 => Phase::Active,
        2 => Phase::Old { since },
        _ => return Ok(None),
    };
    let source = reader.bytes().and_then(|text| String::from_utf8(text.to_vec()).ok());
    let (chain, roots) = (reader.certificates(), reader.certificates());
    let mut keys = [None, None, None];
    for key in &mut keys {
        *key = reader.bytes().map(|key| Secret::<[u8]>::new(key.to_vec())).transpose()?;
    }
    let (Some(source), Some(chain), Some(roots), [Some(key), Some(jwt), Some(wit)]) =
        (source, chain, roots, keys)
    else {
        return Ok(None);
    };
    Ok(Some(Generation {
        number,
        phase,
        source,
        kind: if kind == 0 { KeyKind::P256 } else { KeyKind::P384 },
        chain,
        roots,
        key,
        jwt,
        wit,
        not_before: Timestamp::from_micros(not_before),
        not_after: Timestamp::from_micros(not_after),
        rotate_at: Timestamp::from_micros(rotate_at),
    }))
}

pub(super) struct Writer(pub(super) Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len()).map_err(|_| Error::Kept { name: NAME })?;
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }
}

pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    pub(super) fn bytes(&mut self) -> Option<&'b [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn certificates(&mut self) -> Option<Vec<CertificateDer<'static>>> {
        let count = self.number()?;
        (0..count).map(|_| self.bytes().map(|der| CertificateDer::from(der.to_vec()))).collect()
    }
}
