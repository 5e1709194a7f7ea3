//! One sealed entry as bytes: a head in the clear, then AES-256-GCM ciphertext and tag (NIST SP 800-38D).
//!
//! ```text
//! magic 8 | version 1 | set-at us 8 LE | nonce 12 | ciphertext | tag 16
//! ```
//!
//! Everything before the nonce, and the entry's space and name, is additional data: a file under another name, or
//! with another time, does not open. Nonces are random 96-bit values; with at most a few thousand entries and
//! writes by hand the bound of 2^32 seals per key is out of reach. An older file of the *same* entry does open:
//! whoever can write the store's folder can bring back a former value.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use writ_core::{Secret, Timestamp};
use zeroize::Zeroize;

use crate::error::Error;
use crate::key::StoreKey;

const MAGIC: &[u8; 8] = b"writ-sec";
const VERSION: u8 = 1;
const CLEAR: usize = 8 + 1 + 8;
const TAG: usize = 16;

/// Bytes that an entry takes beyond its value.
pub(crate) const OVERHEAD: usize = CLEAR + NONCE_LEN + TAG;

/// Which entry: its space and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    pub(crate) space: &'static str,
    pub(crate) name: &'a str,
}

impl Label<'_> {
    fn additional(self, clear: &[u8]) -> Vec<u8> {
        // Neither part can hold a zero byte, so the encoding is unambiguous.
        [clear, b"\0", self.space.as_bytes(), b"\0", self.name.as_bytes()].concat()
    }
}

/// Seals a value.
pub(crate) fn seal(
    key: &StoreKey,
    label: Label<'_>,
    value: &[u8],
    set_at: Timestamp,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(OVERHEAD + value.len());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&set_at.micros().to_le_bytes());
    let additional = label.additional(&out);

    let mut nonce = [0u8; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::Cipher)?;
    out.extend_from_slice(&nonce);

    let mut body = Vec::with_capacity(value.len());
    body.extend_from_slice(value);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let Ok(tag) = cipher(key)?.seal_in_place_separate_tag(nonce, Aad::from(additional), &mut body) else {
        body.zeroize();
        return Err(Error::Cipher);
    };
    out.extend_from_slice(&body);
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens a sealed entry: its value and when it was set. `None` says nothing about why not.
pub(crate) fn open(key: &StoreKey, label: Label<'_>, sealed: &[u8]) -> Option<(Vec<u8>, Timestamp)> {
    let (clear, rest) = sealed.split_at_checked(CLEAR)?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    let time = clear.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let set_at = Timestamp::from_micros(u64::from_le_bytes(time.try_into().ok()?));
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = body.to_vec();
    let plain = cipher(key)
        .ok()?
        .open_in_place(nonce, Aad::from(label.additional(clear)), &mut body)
        .map(|p| p.len());
    if let Ok(length) = plain {
        body.truncate(length);
        Some((body, set_at))
    } else {
        body.zeroize();
        None
    }
}

/// Made for each use, so that no expanded key stays on the heap; the library clears it on drop.
fn cipher(key: &StoreKey) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, key.bytes()).map(LessSafeKey::new).map_err(|_| Error::Cipher)
}

/// Moves an opened value into secret memory.
pub(crate) fn keep(value: Vec<u8>) -> Result<Secret<[u8]>, Error> {
    Ok(Secret::<[u8]>::new(value)?)
}
