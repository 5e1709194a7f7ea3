//! A root of our own. Its key is kept sealed and is in use only while an intermediate is signed.
//!
//! When half of the root's life is over the next intermediate is signed by a new one; both roots are published as long
//! as something signed below either is alive.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use writ_core::{Secret, Timestamp};
use zeroize::Zeroizing;

use super::{Origin, Source};
use crate::authority::stored::{Reader, Writer};
use crate::certificate::{self, Validity};
use crate::facts::Facts;
use crate::{Error, key};

/// Under which name the root is kept.
const NAME: &str = "identity-root";
/// First byte of the kept form.
const VERSION: u8 = 1;

pub(super) async fn obtain(
    source: &Source,
    now: Timestamp,
    ttl: Duration,
    root_ttl: Duration,
) -> Result<Origin, Error> {
    let ids = &*source.surroundings.ids;
    let kept = source.load(NAME)?.map(|kept| read(&kept)).transpose()?.flatten();
    let kept = kept.filter(|root| root.kind_matches(source) && root.young(now));
    let root = if let Some(root) = kept {
        root
    } else {
        let root = Root::generate(source, now, root_ttl)?;
        // Crash here: nothing was signed; the next start makes another root.
        source.store(NAME, root.write()?).await?;
        // Crash here: the root is kept and the next start signs with it.
        root
    };
    let issuer =
        rcgen::Issuer::from_ca_cert_der(&root.certificate, key::certificates(source.kind, &root.key)?)?;
    let secret = key::generate(source.kind)?;
    let pair = key::certificates(source.kind, &secret)?;
    let validity = Validity::new(now, ttl, &[root.facts()?.not_after]);
    let certificate =
        certificate::intermediate(&source.domain, validity, certificate::serial(ids), &pair, &issuer)?;
    Ok(Origin::Signed(source.signed(secret, vec![certificate], vec![root.certificate])))
}

/// Forgets the root: the next intermediate is signed by a new one.
pub(super) async fn forget(source: &Source) -> Result<(), Error> {
    source.store(NAME, Zeroizing::new(vec![VERSION])).await
}

struct Root {
    certificate: CertificateDer<'static>,
    key: Secret<[u8]>,
}

impl Root {
    fn generate(source: &Source, now: Timestamp, ttl: Duration) -> Result<Self, Error> {
        let secret = key::generate(source.kind)?;
        let pair = key::certificates(source.kind, &secret)?;
        let serial = certificate::serial(&*source.surroundings.ids);
        let certificate = certificate::root(&source.domain, Validity::new(now, ttl, &[]), serial, &pair)?;
        Ok(Self { certificate, key: secret })
    }

    fn facts(&self) -> Result<Facts, Error> {
        Facts::read(&self.certificate).map_err(|_| Error::Kept { name: NAME })
    }

    fn young(&self, now: Timestamp) -> bool {
        self.facts().is_ok_and(|facts| {
            let life = facts.not_after.since(facts.not_before);
            now < facts.not_before.plus(life / 2)
        })
    }

    /// Whether the key is of the kind that is configured now; one of another kind gives way to a new root.
    fn kind_matches(&self, source: &Source) -> bool {
        key::certificates(source.kind, &self.key).is_ok()
    }

    fn write(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut out =
            Writer(Zeroizing::new(Vec::with_capacity(self.certificate.len() + self.key.len() + 16)));
        out.0.push(VERSION);
        out.bytes(&self.certificate)?;
        out.bytes(self.key.expose())?;
        Ok(out.0)
    }
}

/// `None` for a root that was forgotten.
fn read(kept: &Secret<[u8]>) -> Result<Option<Root>, Error> {
    let malformed = Error::Kept { name: NAME };
    let Some((&VERSION, rest)) = kept.expose().split_first() else { return Err(malformed) };
    if rest.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader(rest);
    match (reader.bytes(), reader.bytes(), reader.0) {
        (Some(certificate), Some(key), []) => Ok(Some(Root {
            certificate: CertificateDer::from(certificate.to_vec()),
            key: Secret::<[u8]>::new(key.to_vec())?,
        })),
        _ => Err(malformed),
    }
}
