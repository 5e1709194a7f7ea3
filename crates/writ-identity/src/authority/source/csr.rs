//! An authority that signs by hand: a request is written, and some time later what was signed lies where it was asked for.

use std::path::Path;

use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use writ_core::{Secret, Timestamp};
use writ_host::durable;
use zeroize::Zeroizing;

use super::{Origin, Source, arrange, certificates};
use crate::authority::unusable;
use crate::facts::Facts;
use crate::{Error, Invalid, certificate, key};

/// Under which name the key of the request is kept until it is signed.
const NAME: &str = "identity-request";

pub(super) async fn obtain(
    source: &Source,
    now: Timestamp,
    request: &Path,
    signed: &Path,
) -> Result<Origin, Error> {
    let secret = match source.load(NAME)?.filter(|kept| !kept.is_empty()) {
        Some(kept) if key::certificates(source.kind, &kept).is_ok() => kept,
        Some(_) | None => {
            let fresh = key::generate(source.kind)?;
            // The key first: a request whose key is lost would be signed in vain.
            source.store(NAME, Zeroizing::new(fresh.expose().to_vec())).await?;
            fresh
        }
    };
    let pair = key::certificates(source.kind, &secret)?;
    if let Some(found) = answer(source, &secret, now, signed)? {
        // The key belongs to the generation from now on; the next request is for another. Crash before the generation
        // is stored: the certificate is refused as another key's, and a new request is written.
        return Ok(found);
    }
    if durable::read(request)?.is_none() || !same(request, &pair) {
        let name = certificate::serial(&*source.surroundings.ids);
        let text = certificate::request(&source.domain, name, &pair)?.pem()?;
        durable::replace(request, text.as_bytes(), 0o644)?;
        tracing::warn!(target: "writ::identity", request = %request.display(), answer = %signed.display(), "an operator must sign this request");
    }
    Ok(Origin::Waiting(request.to_owned()))
}

/// The next request is for a new key.
pub(super) async fn forget(source: &Source) -> Result<(), Error> {
    source.store(NAME, Zeroizing::new(Vec::new())).await
}

/// What was signed, if it is of this key; what lies there from the time before is passed over.
fn answer(
    source: &Source,
    secret: &Secret<[u8]>,
    now: Timestamp,
    signed: &Path,
) -> Result<Option<Origin>, Error> {
    if durable::read(signed)?.is_none() {
        return Ok(None);
    }
    let spki = key::certificates(source.kind, secret)?.subject_public_key_info();
    let (mut chain, roots) = arrange(certificates(signed)?, signed)?;
    let facts: Vec<_> = chain.iter().filter_map(|certificate| Facts::read(certificate).ok()).collect();
    let Some((at, facts)) = facts.iter().enumerate().find(|(_, facts)| facts.spki == spki) else {
        return Ok(None);
    };
    let origin = signed.display().to_string();
    let hint = "sign the request again, as an intermediate authority";
    facts.signing().map_err(|problem| unusable(&origin, problem, hint))?;
    match facts.holds(now) {
        Ok(()) => {}
        // The clock of whoever signed it is ahead of ours: in a moment it holds.
        Err(Invalid::NotYet) => return Ok(None),
        Err(problem) => return Err(unusable(&origin, problem, hint)),
    }
    // Whatever the order in the file: the intermediate first.
    if let Some(before) = chain.get_mut(..=at) {
        before.rotate_right(1);
    }
    Ok(Some(Origin::Signed(source.signed(secret.share(), chain, roots))))
}

/// Whether the request that lies there is for this key.
fn same(request: &Path, pair: &rcgen::KeyPair) -> bool {
    let Ok(Some(text)) = durable::read(request) else { return false };
    let Ok(der) = CertificateSigningRequestDer::from_pem_slice(&text) else { return false };
    let spki = pair.subject_public_key_info();
    der.windows(spki.len()).any(|window| window == spki)
}
