//! An authority whose certificate and key lie in files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use writ_core::Timestamp;
use zeroize::Zeroizing;

use super::{Origin, Source, arrange, certificates};
use crate::certificate::{self, Validity};
use crate::facts::Facts;
use crate::{Error, key};

/// Where it lies.
pub(super) struct Files<'s> {
    pub(super) certificate: &'s Path,
    pub(super) key: &'s Path,
    pub(super) bundle: Option<&'s Path>,
}

pub(super) fn obtain(
    source: &Source,
    now: Timestamp,
    ttl: Duration,
    files: &Files<'_>,
) -> Result<Origin, Error> {
    let given = certificates(files.certificate)?;
    let signing = given.first().cloned().ok_or(Error::NotReady)?;
    let (mut chain, mut roots) = arrange(given, files.certificate)?;
    if let Some(bundle) = files.bundle {
        roots.extend(certificates(bundle)?);
    }
    let facts =
        Facts::read(&signing).and_then(|facts| facts.signing().map(|()| facts)).map_err(|problem| {
            super::super::unusable(
                &files.certificate.display().to_string(),
                problem,
                "it must be a signing certificate",
            )
        })?;
    let issuer = Issuer::from_ca_cert_der(&signing, authority_key(files.key)?)?;
    let secret = key::generate(source.kind)?;
    let pair = key::certificates(source.kind, &secret)?;
    let validity = Validity::new(now, ttl, &[facts.not_after]);
    let serial = certificate::serial(&*source.surroundings.ids);
    chain.insert(0, certificate::intermediate(&source.domain, validity, serial, &pair, &issuer)?);
    Ok(Origin::Signed(source.signed(secret, chain, roots)))
}

fn authority_key(path: &Path) -> Result<KeyPair, Error> {
    let content = |problem, hint| Error::Content { path: path.to_owned(), problem, hint };
    let text = writ_host::durable::read(path)?.map(Zeroizing::new);
    let text = text.ok_or_else(|| content("does not exist", "write the authority's key there, PEM"))?;
    let open = std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if open {
        return Err(content(
            "can be read by everyone",
            "treat the key as exposed; if nobody read it, `chmod 600` it",
        ));
    }
    let der = PrivateKeyDer::from_pem_slice(&text);
    let der = der.map_err(|_| {
        content("holds no private key", "write the authority's key there, PEM, not encrypted")
    })?;
    KeyPair::try_from(&der)
        .map_err(|_| content("is of a kind that cannot sign here", "use ECDSA, or RSA of 2048 bits or more"))
}
