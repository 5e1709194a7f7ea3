//! The test data of the crate `spiffe` (tests/data/spiffe/README.md), judged by our validators.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use writ_core::{Timestamp, TrustDomain};
use writ_identity::{Bundle, Bundles, Invalid, split, validate};

const POLICY: &str = include_str!("../data/spiffe/authority-policy.json");

fn rows() -> Vec<Value> {
    serde_json::from_str(POLICY).unwrap()
}

fn named(name: &str) -> Value {
    rows().into_iter().find(|row| row["name"] == name).unwrap()
}

fn example() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// Before the tokens of the vectors end, and after those that have ended did.
fn now() -> Timestamp {
    Timestamp::from_micros(1_767_225_600_000_000)
}

fn bundles(jwk: &Value) -> Result<Bundles, Invalid> {
    let mut jwk = jwk.clone();
    let members = jwk.as_object_mut().unwrap();
    members.entry("use").or_insert("jwt-svid".into());
    Bundle::from_jwks(example(), json!({ "keys": [jwk] }).to_string().as_bytes()).map(Bundles::new)
}

fn verify(row: &Value, jwk: &Value) -> Result<(), Invalid> {
    validate::jwt(row["token"].as_str().unwrap(), "receiver", &bundles(jwk)?, now()).map(drop)
}

fn with(row: &Value, member: &str, value: &Value) -> Value {
    let mut jwk = row["jwk"].clone();
    jwk[member] = value.clone();
    jwk
}

#[test]
fn all_sixty_four_tokens_are_judged_as_their_authors_say() {
    let rows = rows();
    assert_eq!(rows.len(), 64);
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        let bits = row["bits"].as_u64().unwrap();
        let good = !name.starts_with("control_") && (bits == 0 || bits >= 2048);
        let verdict = verify(row, &row["jwk"]);
        assert_eq!(verdict.is_ok(), good, "{name}: {verdict:?}");
    }
}

#[test]
fn each_control_fails_for_its_own_reason() {
    for (name, reason) in [
        ("control_missing_sub", Invalid::Claim("`sub` is missing")),
        ("control_missing_aud", Invalid::Claim("`aud` is missing or empty")),
        ("control_missing_exp", Invalid::Claim("`exp` is missing")),
        ("control_expired", Invalid::Expired),
        ("control_domain", Invalid::UnknownTrustDomain),
        ("control_audience", Invalid::Audience),
        ("control_empty_audience", Invalid::Claim("`aud` is missing or empty")),
        ("control_wrong_signature", Invalid::Signature),
        ("control_wrong_kid", Invalid::UnknownKey),
    ] {
        let row = named(name);
        assert_eq!(verify(&row, &row["jwk"]), Err(reason), "{name}");
    }
}

#[test]
fn what_a_key_says_about_itself_is_obeyed() {
    for row in
        rows().iter().filter(|row| row["name"].as_str().unwrap().starts_with("ec_") || row["bits"] == 2048)
    {
        let own = row["alg"].as_str().unwrap();
        verify(row, &row["jwk"]).unwrap();
        verify(row, &with(row, "alg", &json!(own))).unwrap();
        for operations in
            [json!(["verify"]), json!(["sign", "verify"]), json!(["verify", "private-operation"])]
        {
            verify(row, &with(row, "key_ops", &operations)).unwrap();
        }
        let others = [
            json!(if own == "RS256" { "RS384" } else { "RS256" }),
            json!(if own == "ES256" { "ES384" } else { "ES256" }),
            json!("EdDSA"),
            json!("none"),
            json!("HS256"),
            Value::Null,
            json!(7),
        ];
        for algorithm in others {
            assert!(verify(row, &with(row, "alg", &algorithm)).is_err(), "{own} under {algorithm}");
        }
        for operations in [
            json!(["sign"]),
            json!([]),
            json!(["verify", "verify"]),
            Value::Null,
            json!("verify"),
            json!(["verify", 7]),
            json!(["verify", "encrypt"]),
            json!(["verify", "deriveBits"]),
        ] {
            assert!(verify(row, &with(row, "key_ops", &operations)).is_err(), "{operations}");
        }
        for usage in
            [json!("enc"), json!("sig"), json!("x509-svid"), json!("wit-svid"), Value::Null, json!(7)]
        {
            assert!(verify(row, &with(row, "use", &usage)).is_err(), "{usage}");
        }
    }
}

#[test]
fn malformed_points_and_numbers_are_no_keys() {
    let text = |bytes: &[u8]| json!(BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let bytes = |row: &Value, member: &str| {
        BASE64_URL_SAFE_NO_PAD.decode(row["jwk"][member].as_str().unwrap()).unwrap()
    };
    for name in ["ec_ES256", "ec_ES384"] {
        let row = named(name);
        for member in ["x", "y"] {
            let good = bytes(&row, member);
            let longer = [good.as_slice(), &[0]].concat();
            let bad = [
                Value::Null,
                json!(7),
                json!(""),
                json!("!"),
                text(&good[1..]),
                text(&longer),
                text(&vec![0; good.len()]),
            ];
            for bad in bad {
                assert!(verify(&row, &with(&row, member, &bad)).is_err(), "{name} {member} {bad}");
            }
        }
        for curve in ["P-521", "P-256K", if name == "ec_ES256" { "P-384" } else { "P-256" }] {
            assert!(verify(&row, &with(&row, "crv", &json!(curve))).is_err(), "{curve}");
        }
        assert!(verify(&row, &with(&row, "kty", &json!("RSA"))).is_err());
        assert!(verify(&row, &with(&row, "d", &text(&[1; 32]))).is_err(), "a private key is no authority");
    }
    let row = named("rsa_2048_RS256");
    for member in ["n", "e"] {
        let padded = [&[0], bytes(&row, member).as_slice()].concat();
        let equals = json!(format!("{}=", row["jwk"][member].as_str().unwrap()));
        for bad in [Value::Null, json!(7), json!(""), json!("!"), json!("AA"), equals, text(&padded)] {
            assert!(verify(&row, &with(&row, member, &bad)).is_err(), "{member} {bad}");
        }
    }
    let row = named("rsa_e3_RS256");
    verify(&row, &row["jwk"]).unwrap();
    assert!(verify(&row, &with(&row, "e", &json!("Ax"))).is_err(), "another spelling of 3");
    let row = named("rsa_1024_RS256");
    let inflated = [&[0; 128], bytes(&row, "n").as_slice()].concat();
    assert!(verify(&row, &with(&row, "n", &text(&inflated))).is_err(), "padding adds no strength");
}

/// Path checks come after all of these: the domain is trusted and its bundle holds nothing.
fn judge(chain: &[u8], at: u64) -> Invalid {
    let chain = split(chain).unwrap();
    let bundles = Bundles::new(Bundle::empty(example()));
    validate::x509(&chain, &bundles, Timestamp::from_micros(at * 1_000_000)).unwrap_err()
}

/// 2022-01-01, when most of these certificates were alive.
const THEN: u64 = 1_640_995_200;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../data/spiffe/", $name)).as_slice()
    };
}

#[test]
fn leaves_and_intermediates_that_break_a_rule_are_refused_for_it() {
    for (chain, reason) in [
        (vector!("wrong-leaf-ca-true.der"), "is a signing certificate"),
        (vector!("wrong-leaf-cert-sign.der"), "may sign certificates or revocation lists"),
        (vector!("wrong-leaf-crl-sign.der"), "may sign certificates or revocation lists"),
        (vector!("wrong-leaf-no-digital-signature.der"), "may not sign handshakes"),
        (vector!("wrong-leaf-empty-id.der"), "has not exactly one URI"),
        (vector!("wrong-intermediate-no-ca.der"), "in the chain is no signing certificate"),
        (vector!("wrong-intermediate-no-key-cert-sign.der"), "in the chain may not sign certificates"),
        (vector!("empty-subject-name.der"), "has a key usage that is not critical"),
    ] {
        assert_eq!(judge(chain, THEN), Invalid::Certificate(reason));
    }
    assert_eq!(judge(vector!("expired-svid-chain.der"), THEN), Invalid::Expired);
    assert_eq!(judge(vector!("expired-svid-chain.der"), 1_500_000_000), Invalid::NotYet);
}

#[test]
fn a_good_chain_is_believed_by_its_own_root_alone() {
    let chain = split(vector!("1-svid-chain.der")).unwrap();
    assert_eq!(chain.len(), 2);
    let mut bundle = Bundle::empty(example());
    let bundles = Bundles::new(bundle.clone());
    let now = Timestamp::from_micros(1_780_000_000_000_000);
    assert!(matches!(validate::x509(&chain, &bundles, now), Err(Invalid::Path(_))));
    bundle.add_root(chain[1].clone()).unwrap();
    let bundles = Bundles::new(bundle);
    let id = validate::x509(&chain, &bundles, now).unwrap();
    assert_eq!(id.as_str(), "spiffe://example.org/service");
    assert_eq!(validate::x509(&chain[..1], &bundles, now), Ok(id), "the root need not be sent");
}

#[test]
fn what_cannot_sign_is_no_root() {
    let mut bundle = Bundle::empty(example());
    let not_roots = [vector!("cert1.der"), vector!("cert2.der"), vector!("svid-with-dns.der")];
    for der in not_roots {
        assert!(bundle.add_root(CertificateDer::from(der.to_vec())).is_err());
    }
    assert_eq!(split(vector!("bundle.der")).unwrap().len(), 2);
    assert!(split(b"not a certificate").is_err());
    assert!(bundle.is_empty());
}
