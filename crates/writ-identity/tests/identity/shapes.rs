//! Certificates of every shape, made by an authority that signs anything: which are identities and which are not.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use writ_core::{Clock as _, Timestamp, TrustDomain};
use writ_host::SystemClock;
use writ_identity::{Bundle, Bundles, Invalid, validate};

/// A root of `example.org`, and what is trusted because of it.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    bundles: Bundles,
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A leaf as it should be.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "any");
    params.subject_alt_names = vec![uri("spiffe://example.org/a")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A signing certificate as it should be.
fn signing(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = signing("root");
        let certificate = params.self_signed(&key).unwrap();
        let mut bundle = Bundle::empty(TrustDomain::new("example.org").unwrap());
        bundle.add_root(certificate.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), bundles: Bundles::new(bundle) }
    }

    fn judge(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<String, Invalid> {
        let mut params = good();
        change(&mut params);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap();
        self.believe(&[leaf.der().clone()])
    }

    /// Behind an intermediate of some shape.
    fn judge_below(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<String, Invalid> {
        let (mut params, key) = (signing("intermediate"), KeyPair::generate().unwrap());
        change(&mut params);
        let intermediate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let leaf = good().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        self.believe(&[leaf.der().clone(), intermediate])
    }

    fn believe(&self, chain: &[CertificateDer<'static>]) -> Result<String, Invalid> {
        let now = Timestamp::from_micros(SystemClock.now().micros());
        validate::x509(chain, &self.bundles, now).map(|id| id.to_string())
    }
}

#[test]
fn a_leaf_is_an_identity_only_in_the_shape_of_one() {
    let root = Root::new();
    let id = || Ok("spiffe://example.org/a".to_owned());
    assert_eq!(root.judge(|_| {}), id());
    assert_eq!(root.judge(|leaf| leaf.extended_key_usages.clear()), id(), "purposes may be absent");
    assert_eq!(
        root.judge(|leaf| leaf.subject_alt_names.push(SanType::DnsName("a.example.org".try_into().unwrap()))),
        id()
    );
    assert_eq!(
        root.judge(|leaf| leaf.distinguished_name = DistinguishedName::new()),
        id(),
        "then the name is critical"
    );
    assert_eq!(root.judge(|leaf| leaf.key_usages.push(KeyUsagePurpose::KeyAgreement)), id());
    assert_eq!(root.judge(|leaf| leaf.is_ca = IsCa::NoCa), id());
    let refused = |change: fn(&mut CertificateParams), reason| {
        assert_eq!(root.judge(change), Err(reason));
    };
    refused(|leaf| leaf.subject_alt_names.clear(), Invalid::Certificate("has not exactly one URI"));
    refused(
        |leaf| leaf.subject_alt_names.push(uri("spiffe://example.org/b")),
        Invalid::Certificate("has not exactly one URI"),
    );
    refused(
        |leaf| leaf.subject_alt_names.push(uri("https://example.org/b")),
        Invalid::Certificate("has not exactly one URI"),
    );
    refused(
        |leaf| leaf.subject_alt_names = vec![uri("https://example.org/a")],
        Invalid::Subject("is not one"),
    );
    refused(
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://example.org/a?b")],
        Invalid::Subject("is not one"),
    );
    refused(
        |leaf| leaf.subject_alt_names = vec![uri("spiffe://example.org")],
        Invalid::Subject("has no path"),
    );
    refused(|leaf| leaf.subject_alt_names = vec![uri("spiffe://other.org/a")], Invalid::UnknownTrustDomain);
    refused(|leaf| leaf.key_usages.clear(), Invalid::Certificate("has no key usage"));
    refused(
        |leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        Invalid::Certificate("may not sign handshakes"),
    );
    refused(
        |leaf| leaf.key_usages.push(KeyUsagePurpose::KeyCertSign),
        Invalid::Certificate("may sign certificates or revocation lists"),
    );
    refused(
        |leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Invalid::Certificate("is a signing certificate"),
    );
    for one in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::CodeSigning,
    ] {
        let judged = root.judge(|leaf| leaf.extended_key_usages = vec![one]);
        assert_eq!(judged, Err(Invalid::Certificate("is not for both clients and servers")));
    }
    refused(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1), Invalid::Expired);
    refused(|leaf| leaf.not_before = rcgen::date_time_ymd(2090, 1, 1), Invalid::NotYet);
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let root = Root::new();
    // An extension that must be understood and is not.
    let unknown = |leaf: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55_738, 1], vec![5, 0]);
        extension.set_criticality(true);
        leaf.custom_extensions.push(extension);
    };
    assert!(root.judge(unknown).is_err());
    // An alternative name that is no text: another reader might see a second identity in it.
    let garbled = |leaf: &mut CertificateParams| {
        leaf.subject_alt_names.clear();
        let names = [&[0x30, 27, 0x86, 22][..], b"spiffe://example.org/a", &[0x86, 1, 0xff]].concat();
        leaf.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    };
    assert_eq!(root.judge(garbled), Err(Invalid::Malformed("an alternative name that cannot be read")));
}

#[test]
fn an_intermediate_signs_only_as_it_may() {
    let root = Root::new();
    let id = || Ok("spiffe://example.org/a".to_owned());
    assert_eq!(root.judge_below(|_| {}), id());
    assert_eq!(root.judge_below(|ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), id());
    assert_eq!(root.judge_below(|ca| ca.subject_alt_names = vec![uri("spiffe://example.org")]), id());
    let unusable = Invalid::Certificate("in the chain is no signing certificate");
    assert_eq!(root.judge_below(|ca| ca.is_ca = IsCa::ExplicitNoCa), Err(unusable));
    let unusable = Invalid::Certificate("in the chain may not sign certificates");
    assert_eq!(root.judge_below(|ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]), Err(unusable));
    let workload = Invalid::Certificate("in the chain signs under the name of a workload");
    assert_eq!(
        root.judge_below(|ca| ca.subject_alt_names = vec![uri("spiffe://example.org/a")]),
        Err(workload)
    );
    assert!(matches!(
        root.judge_below(|ca| ca.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        Err(Invalid::Path(_))
    ));
}

#[test]
fn a_root_that_has_ended_vouches_for_nobody() {
    let key = KeyPair::generate().unwrap();
    let mut params = signing("root");
    params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let mut bundle = Bundle::empty(TrustDomain::new("example.org").unwrap());
    bundle.add_root(certificate.der().clone()).unwrap();
    let root = Root { issuer: Issuer::new(params, key), bundles: Bundles::new(bundle) };
    let leaf = good().signed_by(&KeyPair::generate().unwrap(), &root.issuer).unwrap();
    let at = |seconds: u64| {
        validate::x509(&[leaf.der().clone()], &root.bundles, Timestamp::from_micros(seconds * 1_000_000))
    };
    assert!(at(1_767_225_600).is_ok());
    assert!(matches!(at(1_767_225_600 + Duration::from_hours(1).as_secs()), Err(Invalid::Path(_))));
}

#[test]
fn a_chain_has_an_end() {
    let root = Root::new();
    let leaf = good().signed_by(&KeyPair::generate().unwrap(), &root.issuer).unwrap();
    let chain = vec![leaf.der().clone(); 10];
    assert_eq!(root.believe(&chain), Err(Invalid::Malformed("a chain that is too long")));
}
