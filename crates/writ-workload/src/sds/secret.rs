//! From a name to the secret behind it.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use tonic::Status;
use writ_core::{SpiffeId, Timestamp};
use writ_gate::limits;
use writ_identity::{Bundle, Bundles};

use crate::Entitled;
use crate::api::domain_id;
use crate::proto::envoy::config::core::v3::data_source::Specifier;
use crate::proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig};
use crate::proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use crate::proto::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use crate::proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate,
};
use crate::proto::envoy::service::discovery::v3::DiscoveryRequest;
use crate::proto::google::protobuf::Any;
use crate::standing::Moment;

/// What every resource here is.
pub(super) const TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

/// The default identity, our own roots, and everybody's.
const DEFAULT: &str = "default";
const ROOTS: &str = "ROOTCA";
const ALL: &str = "ALL";

/// The names of a subscription, each once; none means everything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted(BTreeSet<String>);

/// A secret that exists, under the name that it was asked for, but for what is secret about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    name: String,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    /// An identity, until when its session lasts, and the roots beside which it was issued.
    Identity { id: SpiffeId, expires: Timestamp, roots: Bytes },
    /// One trust domain's roots, PEM.
    Roots(Bytes),
    /// Every trust domain's roots by its name, PEM.
    All(Vec<(String, Bytes)>),
}

impl Wanted {
    pub(super) fn read(request: &DiscoveryRequest) -> Result<Self, Status> {
        if !matches!(request.type_url.as_str(), "" | TYPE) {
            return Err(Status::invalid_argument("only secrets are served here"));
        }
        if request.resource_names.len() > limits::WORKLOAD_SECRETS_MAX {
            return Err(Status::invalid_argument("too many resource names"));
        }
        Ok(Self(request.resource_names.iter().filter(|name| !name.is_empty()).cloned().collect()))
    }

    /// The secrets behind the names. One that the caller may not have is refused: Envoy would wait for it forever.
    pub(super) fn find(&self, identities: &[Entitled], bundles: &Bundles) -> Result<Vec<Named>, Status> {
        let found: Option<Vec<_>> = if self.0.is_empty() {
            let ids = identities.iter().map(|one| one.spiffe_id.to_string());
            let domains = std::iter::once(bundles.own()).chain(bundles.federated());
            let every = ids.chain(domains.map(|bundle| domain_id(bundle)));
            every.map(|name| named(&name, identities, bundles)).collect()
        } else {
            self.0.iter().map(|name| named(name, identities, bundles)).collect()
        };
        found.ok_or_else(|| Status::invalid_argument("a name is of no secret that this process may have"))
    }
}

fn named(name: &str, identities: &[Entitled], bundles: &Bundles) -> Option<Named> {
    let identity = |one: &Entitled| Content::Identity {
        id: one.spiffe_id.clone(),
        expires: one.expires,
        roots: Bytes::from(bundles.own().x509_der()),
    };
    let content = match name {
        DEFAULT => identity(identities.first()?),
        ROOTS => Content::Roots(roots(bundles.own())),
        ALL => {
            let all = std::iter::once(bundles.own()).chain(bundles.federated());
            Content::All(all.map(|bundle| (bundle.trust_domain().to_string(), roots(bundle))).collect())
        }
        name => match identities.iter().find(|one| one.spiffe_id.as_str() == name) {
            Some(one) => identity(one),
            None => Content::Roots(roots(bundles.get(name.strip_prefix("spiffe://")?)?)),
        },
    };
    Some(Named { name: name.to_owned(), content })
}

/// The secrets themselves, and when they must be renewed at the latest.
pub(super) fn resources(named: &[Named], now: &Moment<'_>) -> Result<(Vec<Any>, Option<Timestamp>), Status> {
    let (mut resources, mut renew) = (Vec::with_capacity(named.len()), None::<Timestamp>);
    for Named { name, content } in named {
        let kind = match content {
            Content::Identity { id, .. } => {
                let (certificate, at) = certificate(id, now)?;
                renew = renew.into_iter().chain(at).min();
                Type::TlsCertificate(certificate)
            }
            Content::Roots(pem) => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(some_root(pem)?)),
                custom_validator_config: None,
            }),
            Content::All(domains) => Type::ValidationContext(validator(domains)?),
        };
        let secret = Secret { name: name.clone(), r#type: Some(kind) };
        resources.push(Any { type_url: TYPE.to_owned(), value: Bytes::from(secret.encode_to_vec()) });
    }
    Ok((resources, renew))
}

fn certificate(id: &SpiffeId, now: &Moment<'_>) -> Result<(TlsCertificate, Option<Timestamp>), Status> {
    let entitled = now.identities.iter().find(|one| one.spiffe_id == *id);
    let entitled = entitled.ok_or_else(|| Status::permission_denied("this process has no such identity"))?;
    let (issued, renew) = now.x509(entitled)?;
    let chain = pem("CERTIFICATE", issued.chain.iter().map(AsRef::as_ref));
    let key = pem("PRIVATE KEY", [issued.key.expose()]);
    let certificate =
        TlsCertificate { certificate_chain: Some(inline(chain)), private_key: Some(inline(key)) };
    Ok((certificate, renew))
}

fn validator(domains: &[(String, Bytes)]) -> Result<CertificateValidationContext, Status> {
    let domain = |(name, pem): &(String, Bytes)| {
        Ok(TrustDomain { name: name.clone(), trust_bundle: Some(inline(some_root(pem)?)) })
    };
    let domains: Result<_, Status> = domains.iter().map(domain).collect();
    let config = SpiffeCertValidatorConfig { trust_domains: domains? };
    Ok(CertificateValidationContext {
        trusted_ca: None,
        custom_validator_config: Some(TypedExtensionConfig {
            name: VALIDATOR.to_owned(),
            typed_config: Some(Any {
                type_url: VALIDATOR_TYPE.to_owned(),
                value: Bytes::from(config.encode_to_vec()),
            }),
        }),
    })
}

/// The roots, or in place of none one that has never signed anything: Envoy takes "no roots" for "do not verify".
fn some_root(pem: &Bytes) -> Result<Bytes, Status> {
    if !pem.is_empty() {
        return Ok(pem.clone());
    }
    let nobody = || {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // The key is dropped here, so nothing can ever be signed with it.
        params.self_signed(&rcgen::KeyPair::generate()?)
    };
    let nobody = nobody().map_err(|_| Status::unavailable("a root could not be made"))?;
    Ok(self::pem("CERTIFICATE", [nobody.der().as_ref()]))
}

fn roots(bundle: &Bundle) -> Bytes {
    pem("CERTIFICATE", bundle.x509().iter().map(AsRef::as_ref))
}

fn inline(bytes: Bytes) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)) }
}

/// PEM as RFC 7468 has it: lines of 64.
fn pem<'a>(label: &str, ders: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut text = String::new();
    for der in ders {
        text.extend(["-----BEGIN ", label, "-----\n"]);
        // 48 bytes are 64 characters.
        for line in der.chunks(48) {
            STANDARD.encode_string(line, &mut text);
            text.push('\n');
        }
        text.extend(["-----END ", label, "-----\n"]);
    }
    Bytes::from(text)
}
