//! Secret discovery, as Envoy speaks it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use writ_identity::validate;
use writ_workload::proto::envoy::config::core::v3::data_source::Specifier;
use writ_workload::proto::envoy::config::core::v3::{DataSource, Node};
use writ_workload::proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use writ_workload::proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate,
};
use writ_workload::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
};
use writ_workload::proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use writ_workload::proto::google::rpc;

use crate::world::{DOMAIN, World, entitled, now, run_id, settings, soon};

const TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

fn request(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "envoy".into(), cluster: "test".into() }),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: TYPE.into(),
        ..DiscoveryRequest::default()
    }
}

fn answer_to(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        response_nonce: response.nonce.clone(),
        ..request(names)
    }
}

fn secrets(response: &DiscoveryResponse) -> Vec<Secret> {
    assert_eq!(response.type_url, TYPE);
    let decoded = response.resources.iter().map(|any| {
        assert_eq!(any.type_url, TYPE);
        Secret::decode(any.value.clone()).unwrap()
    });
    decoded.collect()
}

fn bytes(source: Option<&DataSource>) -> Bytes {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineBytes(bytes)) => bytes.clone(),
        _ => panic!("everything is inline"),
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect()
}

fn certificate(secret: &Secret) -> &TlsCertificate {
    let Some(Type::TlsCertificate(certificate)) = &secret.r#type else { panic!("not a certificate") };
    certificate
}

fn context(secret: &Secret) -> &CertificateValidationContext {
    let Some(Type::ValidationContext(context)) = &secret.r#type else { panic!("not a context") };
    context
}

/// Trust domains and their roots, as Envoy's SPIFFE validator is told.
fn validator(secret: &Secret) -> Vec<(String, Vec<CertificateDer<'static>>)> {
    let config = context(secret).custom_validator_config.as_ref().unwrap();
    assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
    let any = config.typed_config.as_ref().unwrap();
    assert!(any.type_url.ends_with("/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"));
    let config = SpiffeCertValidatorConfig::decode(any.value.clone()).unwrap();
    let domain = |one: writ_workload::proto::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain| {
        let roots = certificates(&bytes(one.trust_bundle.as_ref()));
        (one.name, roots)
    };
    config.trust_domains.into_iter().map(domain).collect()
}

struct Envoy {
    client: SecretDiscoveryServiceClient<Channel>,
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Envoy {
    async fn subscribe(world: &World, names: &[&str]) -> Self {
        let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
        let (requests, mut outgoing) = mpsc::channel(8);
        requests.send(request(names)).await.unwrap();
        let outgoing = futures_util::stream::poll_fn(move |context| outgoing.poll_recv(context));
        let answers = client.stream_secrets(outgoing).await.unwrap().into_inner();
        Self { client, requests, answers }
    }

    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let message = soon("an answer", self.answers.message()).await?;
        Ok(message.expect("a stream never ends without a status"))
    }

    /// Whether something comes, although it should not, before an answer to another question on the same connection.
    async fn is_quiet(&mut self) -> bool {
        for _ in 0..3 {
            self.client.fetch_secrets(request(&["ROOTCA"])).await.unwrap();
        }
        let next = tokio::time::timeout(Duration::from_millis(300), self.answers.message());
        next.await.is_err()
    }
}

#[tokio::test]
async fn default_is_the_certificate_with_its_key() {
    let world = World::new().await;
    world.entitle_me();
    let mut envoy = Envoy::subscribe(&world, &["default"]).await;
    let answer = envoy.next().await.unwrap();
    let [secret] = secrets(&answer).try_into().unwrap();
    assert_eq!(secret.name, "default");
    let chain = certificates(&bytes(certificate(&secret).certificate_chain.as_ref()));
    let bundles = world.parts.bundles.borrow().clone();
    assert_eq!(validate::x509(&chain, &bundles, now()).unwrap(), run_id("coder", 1));
    let key = bytes(certificate(&secret).private_key.as_ref());
    // That the key is the certificate's is checked by the TLS library.
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
}

#[tokio::test]
async fn names_mean_what_they_mean_to_spires_agent() {
    let world = World::new().await;
    world.processes.entitle(std::process::id(), &[entitled("coder", 1), entitled("helper", 2)]);
    world.federate("other.example").await;
    let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
    let own = world.parts.bundles.borrow().own().x509().to_vec();
    let helper = run_id("helper", 2);
    let own_id = format!("spiffe://{DOMAIN}");
    let names = [helper.as_str(), "ROOTCA", "ALL", &own_id, "spiffe://other.example"];
    let answer = client.fetch_secrets(request(&names)).await.unwrap().into_inner();
    let found = secrets(&answer);
    let secret = |name: &str| found.iter().find(|secret| secret.name == name).unwrap();
    let chain = certificates(&bytes(certificate(secret(helper.as_str())).certificate_chain.as_ref()));
    let bundles = world.parts.bundles.borrow().clone();
    assert_eq!(validate::x509(&chain, &bundles, now()).unwrap(), helper);
    for name in ["ROOTCA", &own_id] {
        assert_eq!(certificates(&bytes(context(secret(name)).trusted_ca.as_ref())), own);
    }
    let theirs = certificates(&bytes(context(secret("spiffe://other.example")).trusted_ca.as_ref()));
    assert_ne!(theirs, own);
    let all = validator(secret("ALL"));
    assert_eq!(all, [(DOMAIN.to_owned(), own), ("other.example".to_owned(), theirs)]);
    // Nothing named is everything: both identities, both trust domains.
    let everything = client.fetch_secrets(request(&[])).await.unwrap().into_inner();
    assert_eq!(secrets(&everything).len(), 4);
}

#[tokio::test]
async fn answers_are_acknowledged_by_version_and_nonce() {
    let world = World::new().await;
    world.entitle_me();
    let mut envoy = Envoy::subscribe(&world, &["ROOTCA"]).await;
    let first = envoy.next().await.unwrap();
    envoy.requests.send(answer_to(&first, &["ROOTCA"])).await.unwrap();
    assert!(envoy.is_quiet().await, "what was acknowledged is not sent again");
    // A refused answer is not sent again either: it would only be refused again.
    let mut refusal = answer_to(&first, &["ROOTCA"]);
    refusal.version_info.clear();
    refusal.error_detail = Some(rpc::Status { code: 3, message: "no".into() });
    envoy.requests.send(refusal).await.unwrap();
    assert!(envoy.is_quiet().await);
    world.authority.replace(now()).await.unwrap();
    let second = envoy.next().await.unwrap();
    assert_ne!(first.version_info, second.version_info);
    assert_ne!(first.nonce, second.nonce);
    // An answer to the first message, which is stale by now, changes nothing, whatever it asks for.
    envoy.requests.send(answer_to(&first, &["default"])).await.unwrap();
    assert!(envoy.is_quiet().await);
    envoy.requests.send(answer_to(&second, &["default"])).await.unwrap();
    let third = envoy.next().await.unwrap();
    assert_eq!(secrets(&third)[0].name, "default");
}

#[tokio::test]
async fn certificates_are_renewed_on_the_stream() {
    let mut short = settings("");
    short.lifetimes.x509 = Duration::from_secs(12);
    let world = World::with(short).await;
    world.entitle_me();
    let mut envoy = Envoy::subscribe(&world, &["default"]).await;
    let first = envoy.next().await.unwrap();
    let second = envoy.next().await.unwrap();
    let chain = |answer| bytes(certificate(&secrets(answer)[0]).certificate_chain.as_ref());
    assert_ne!(chain(&first), chain(&second));
}

/// Envoy takes an empty list of roots for "verify nobody".
#[tokio::test]
async fn a_trust_domain_that_lost_its_roots_is_trusted_by_nobody_and_not_by_everybody() {
    let world = World::new().await;
    world.entitle_me();
    world.federate("other.example").await;
    let mut envoy = Envoy::subscribe(&world, &["spiffe://other.example", "ALL"]).await;
    let before = secrets(&envoy.next().await.unwrap());
    let empty = writ_identity::Bundle::empty(writ_core::TrustDomain::new("other.example").unwrap());
    world.authority.publication().set(empty);
    let after = secrets(&envoy.next().await.unwrap());
    let roots = |found: &[Secret]| {
        let alone = found.iter().find(|secret| secret.name != "ALL").unwrap();
        let all = found.iter().find(|secret| secret.name == "ALL").unwrap();
        let among = validator(all).into_iter().find(|(name, _)| name == "other.example").unwrap().1;
        (certificates(&bytes(context(alone).trusted_ca.as_ref())), among)
    };
    let ((alone, among), (held_alone, held_among)) = (roots(&after), roots(&before));
    assert!(!alone.is_empty() && !among.is_empty());
    assert!(alone != held_alone && among != held_among && alone != among);
}

#[tokio::test]
async fn what_a_process_may_not_have_is_refused() {
    let world = World::new().await;
    let mut client = SecretDiscoveryServiceClient::new(world.channel().await);
    let denied = client.fetch_secrets(request(&["default"])).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let ended = world.entitle_me();
    let foreign = run_id("other", 9);
    for name in [foreign.as_str(), "spiffe://unknown.example", "nonsense"] {
        let refused = client.fetch_secrets(request(&[name])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
    let mut clusters = request(&["default"]);
    clusters.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".into();
    assert_eq!(client.fetch_secrets(clusters).await.unwrap_err().code(), Code::InvalidArgument);
    let many: Vec<_> = (0..257).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(client.fetch_secrets(request(&many)).await.unwrap_err().code(), Code::InvalidArgument);
    let delta = client.delta_secrets(futures_util::stream::iter([DeltaDiscoveryRequest {}])).await;
    assert_eq!(delta.unwrap_err().code(), Code::Unimplemented);
    // And a stream ends with the session, whatever it is about.
    let mut envoy = Envoy::subscribe(&world, &["ROOTCA"]).await;
    envoy.next().await.unwrap();
    ended.cancel();
    assert_eq!(envoy.next().await.unwrap_err().code(), Code::PermissionDenied);
}
