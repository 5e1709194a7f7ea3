//! Removes from an answer what was lent for it: in the head, in the body as it streams, in trailers.
//!
//! Searched for is every form of [`forms`]: raw, base64 in any position, percent-encoded, JSON and HTML escapes, hex. A
//! find is overwritten with `*` at equal length, so a `Content-Length` still holds. Encoded bodies (gzip, deflate,
//! br, zstd, stacked) are decoded as they stream and passed on as they are then, with no `Content-Encoding`,
//! `Content-Length` or digest of the encoded form, and with a weak `ETag`; any other encoding is refused
//! ([`Reason::EchoUnreadable`]).
//!
//! Invariant: with a credential lent, no whole form of it leaves here, however the body is cut into chunks.
//!
//! Limits, to be known: a service that splits or transforms the value (reverses it, encrypts it, sends it in two
//! answers) gets it through. At most [`flow::HOLD_BYTES_MIN`]` - 1` leading bytes can show: so few are not held back,
//! because an interactive stream would stall whenever a message happens to end like the beginning of a secret.
//! Base64 of a larger text shows up to four bits at either end. Secrets shorter than [`SHORT_BYTES`] are removed from
//! headers as whole words only; in a body they would be mistaken for other text.

pub(crate) mod body;
mod coding;
mod flow;
mod forms;
mod needles;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, StatusCode};
use writ_core::Reason;
use writ_gate::Credential;
use zeroize::Zeroizing;

use body::ScrubbedBody;
use coding::Coding;
pub(crate) use flow::Flow;
use needles::Needles;

/// Secrets shorter than this are too unspecific to be looked for inside other text.
pub(crate) const SHORT_BYTES: usize = 8;

/// What was lent for one action, ready to be found.
#[derive(Clone)]
pub(crate) struct Scrubber {
    lent: Arc<Lent>,
    hits: Arc<AtomicU64>,
}

struct Lent {
    needles: Arc<Needles>,
    /// For header names, which HTTP/2 sends in lower case.
    lower: Needles,
    short: Vec<Zeroizing<Vec<u8>>>,
}

/// How a body has to be treated, as its head says.
pub(crate) struct Treatment {
    codings: Vec<Coding>,
    /// The body is a part of another one, and may begin or end inside a secret.
    partial: bool,
}

impl Scrubber {
    /// Looks for these credentials and counts finds in `hits`; `None` when nothing was lent.
    pub(crate) fn new(credentials: &[Credential], hits: Arc<AtomicU64>) -> Option<Self> {
        if credentials.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        let mut short = Vec::new();
        for credential in credentials {
            forms::of(credential, &mut all);
            let secret = credential.secret.expose().as_bytes();
            if !secret.is_empty() && secret.len() < SHORT_BYTES {
                short.push(Zeroizing::new(secret.to_vec()));
            }
        }
        let lower = all.iter().map(|form| Zeroizing::new(form.to_ascii_lowercase())).collect();
        let lent = Lent { needles: Arc::new(Needles::new(all)), lower: Needles::new(lower), short };
        Some(Self { lent: Arc::new(lent), hits })
    }

    /// The same search, for another action: finds are counted in `hits`.
    pub(crate) fn counting(&self, hits: Arc<AtomicU64>) -> Self {
        Self { lent: Arc::clone(&self.lent), hits }
    }

    /// Cleans the head, and says how the body has to be treated.
    pub(crate) fn head(&self, method: &Method, parts: &mut Parts) -> Result<Treatment, Reason> {
        self.headers(&mut parts.headers);
        let bodiless = method == Method::HEAD
            || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
        let partial = parts.status == StatusCode::PARTIAL_CONTENT;
        let codings = match coding::of(&parts.headers) {
            Ok(codings) if !partial || codings.is_empty() => codings,
            _ if bodiless => Vec::new(),
            _ => return Err(Reason::EchoUnreadable),
        };
        if !codings.is_empty() {
            as_decoded(&mut parts.headers);
        }
        Ok(Treatment { codings, partial })
    }

    /// Cleans trailers or other headers.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        let mut hits = 0;
        let mut gone: Vec<HeaderName> = Vec::new();
        for (name, value) in headers.iter_mut() {
            if self.lent.lower.find(name.as_str().as_bytes(), 0).is_some() {
                gone.push(name.clone());
            }
            let bytes = value.as_bytes();
            let short = self.lent.short.iter().any(|word| has_word(bytes, word));
            if !short && self.lent.needles.find(bytes, 0).is_none() {
                continue;
            }
            let mut clean = bytes.to_vec();
            hits += self.lent.needles.mask(bytes, &mut clean);
            if short {
                hits += 1;
                clean.fill(b'*');
            }
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("*"));
        }
        for name in gone {
            hits += 1;
            headers.remove(name);
        }
        if hits > 0 {
            self.hits.fetch_add(hits, Ordering::Relaxed);
        }
    }

    /// Cleans the body as it streams.
    pub(crate) fn body<B>(&self, body: B, treatment: Treatment) -> ScrubbedBody<B> {
        ScrubbedBody::new(body, self.clone(), treatment)
    }

    /// Cleans a stream of bytes.
    pub(crate) fn flow(&self) -> Flow {
        Flow::new(Arc::clone(&self.lent.needles), Arc::clone(&self.hits), false)
    }
}

/// Whether the word stands in the text by itself.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let part_of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    memchr::memmem::find_iter(text, word).any(|at| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        let after = text.get(at + word.len());
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// What the head says of a body that is no longer encoded.
fn as_decoded(headers: &mut HeaderMap) {
    for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes) else { return };
    if tag.starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat())
    {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
