//! Verification against published vectors and against keys made here.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

use super::*;

/// RFC 7515, appendix A.3: ES256, with its key.
const RFC7515_A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19\
     yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const RFC7515_A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
     "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

fn set(keys: &[String]) -> KeySet {
    KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
}

fn verify(token: &str, keys: &KeySet) -> Result<(), Refusal> {
    Signed::parse(token, Algorithm::ALL)?.verified(keys).map(drop)
}

fn input(header: &str) -> String {
    format!("{}.{}", encode(header.as_bytes()), encode(br#"{"iss":"i"}"#))
}

struct Rsa(RsaKeyPair);

impl Rsa {
    fn new(size: KeySize) -> Self {
        Self(RsaKeyPair::generate(size).unwrap())
    }

    fn jwk(&self, more: &str) -> String {
        let parts = PublicKeyComponents::<Vec<u8>>::from(self.0.public_key());
        format!(r#"{{"kty":"RSA","n":"{}","e":"{}"{more}}}"#, encode(&parts.n), encode(&parts.e))
    }

    fn sign(&self, header: &str) -> String {
        let input = input(header);
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", encode(&signature))
    }
}

#[test]
fn the_published_vector_verifies_and_a_changed_one_does_not() {
    let keys = set(&[format!("{RFC7515_A3_KEY}}}")]);
    assert_eq!(verify(RFC7515_A3, &keys), Ok(()));
    let changed = RFC7515_A3.replace("DtEh", "DtEi");
    assert_eq!(verify(&changed, &keys), Err(Refusal::Signature));
    // RFC 8725, section 3.4, and CVE-2022-21449: a signature of nothing.
    let (input, _) = RFC7515_A3.rsplit_once('.').unwrap();
    assert_eq!(verify(&format!("{input}.{}", encode(&[0; 64])), &keys), Err(Refusal::Signature));
    assert_eq!(verify(&format!("{input}."), &keys), Err(Refusal::Signature));
}

#[test]
fn a_der_signature_is_no_jose_signature() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let key = format!(
        r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#,
        encode(&point[1..33]),
        encode(&point[33..])
    );
    let input = input(r#"{"alg":"ES256"}"#);
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    let keys = set(&[key]);
    assert_eq!(verify(&format!("{input}.{}", encode(signature.as_ref())), &keys), Ok(()));
    let mut longer = signature.as_ref().to_vec();
    longer.push(0);
    assert_eq!(verify(&format!("{input}.{}", encode(&longer)), &keys), Err(Refusal::Signature));
}

#[test]
fn none_and_symmetric_algorithms_do_not_exist() {
    for alg in
        ["none", "None", "nOnE", "HS256", "HS512", "RS1", "rs256", "ES256K", "ES512", "", "RSA-OAEP", "dir"]
    {
        let token = format!("{}.AAAA", input(&format!(r#"{{"alg":"{alg}"}}"#)));
        assert_eq!(Signed::parse(&token, Algorithm::ALL).unwrap_err(), Refusal::Algorithm, "{alg}");
    }
    for header in ["{}", r#"{"alg":7}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#] {
        let token = format!("{}.AAAA", input(header));
        assert_eq!(Signed::parse(&token, Algorithm::ALL).unwrap_err(), Refusal::Algorithm, "{header}");
    }
    // An algorithm that exists, where it is not allowed.
    let token = format!("{}.AAAA", input(r#"{"alg":"PS256"}"#));
    assert_eq!(Signed::parse(&token, Algorithm::SIGNALS).unwrap_err(), Refusal::Algorithm);
}

#[test]
fn headers_that_bring_keys_or_want_to_be_understood_are_refused() {
    for (name, value) in [
        ("jku", r#""https://evil.example""#),
        ("x5u", r#""https://evil.example""#),
        ("jwk", "{}"),
        ("x5c", "[]"),
        ("crit", r#"["exp"]"#),
        ("crit", "[]"),
        ("b64", "false"),
        ("zip", r#""DEF""#),
    ] {
        let token = format!("{}.AAAA", input(&format!(r#"{{"alg":"RS256","{name}":{value}}}"#)));
        assert_eq!(Signed::parse(&token, Algorithm::ALL).unwrap_err(), Refusal::Header(name));
    }
    let twice = format!("{}.AAAA", input(r#"{"alg":"RS256","alg":"none"}"#));
    assert!(matches!(Signed::parse(&twice, Algorithm::ALL), Err(Refusal::Malformed(_))));
}

#[test]
fn a_key_is_used_for_what_it_is_for() {
    let rsa = Rsa::new(KeySize::Rsa2048);
    let token = rsa.sign(r#"{"alg":"RS256","kid":"a"}"#);
    let verified = |more: &str| verify(&token, &set(&[rsa.jwk(more)]));
    assert_eq!(verified(r#","kid":"a""#), Ok(()));
    assert_eq!(verified(r#","kid":"a","use":"sig","alg":"RS256","key_ops":["verify"]"#), Ok(()));
    // A known key of another algorithm is not a matter of fetching keys again.
    assert_eq!(verified(r#","kid":"a","alg":"PS256""#), Err(Refusal::Algorithm));
    for unfit in [
        r#","kid":"b""#,
        "",
        r#","kid":"a","use":"enc""#,
        r#","kid":"a","use":7"#,
        r#","kid":"a","key_ops":["encrypt"]"#,
        r#","kid":"a","alg":"RSA-OAEP""#,
        r#","kid":"a","d":"AQAB""#,
    ] {
        assert_eq!(verified(unfit), Err(Refusal::Key), "{unfit}");
    }
    // One name, two keys: the one that made it is found. No name: there must be no choice.
    let other = Rsa::new(KeySize::Rsa2048);
    let same = [other.jwk(r#","kid":"a""#), rsa.jwk(r#","kid":"a""#)];
    assert_eq!(verify(&token, &set(&same)), Ok(()));
    let nameless = rsa.sign(r#"{"alg":"RS256"}"#);
    assert_eq!(verify(&nameless, &set(&[rsa.jwk(r#","kid":"a""#)])), Ok(()));
    assert_eq!(verify(&nameless, &set(&same)), Err(Refusal::Key));
}

#[test]
fn small_rsa_keys_and_symmetric_keys_are_no_keys() {
    // 1024 bits, written with and without leading zeros.
    for n in [vec![0xff; 128], [vec![0; 128], vec![0xff; 128]].concat(), vec![0x7f; 256]] {
        let key = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, encode(&n));
        assert_eq!(set(&[key]), set(&[]));
    }
    for key in [
        r#"{"kty":"oct","k":"c2VjcmV0"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
        r#"{"kty":7}"#,
        "7",
    ] {
        assert_eq!(set(&[key.to_owned()]), set(&[]), "{key}");
    }
    assert!(KeySet::parse(br#"{"keys":{}}"#).is_none() && KeySet::parse(b"{}").is_none());
    let many = vec!["{}".to_owned(); limits::ISSUER_KEYS_MAX + 1].join(",");
    assert!(KeySet::parse(format!(r#"{{"keys":[{many}]}}"#).as_bytes()).is_none());
}

#[test]
fn stray_bits_padding_and_missing_parts_are_refused() {
    let keys = set(&[format!("{RFC7515_A3_KEY}}}")]);
    for bad in [
        format!("{RFC7515_A3}="),
        format!("{RFC7515_A3}."),
        RFC7515_A3.replace("NU1Q", "NU1R"),
        RFC7515_A3.replace('-', "+"),
        RFC7515_A3.replacen('.', "..", 1),
        RFC7515_A3.replacen('.', "", 1),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
    ] {
        assert!(verify(&bad, &keys).is_err(), "{bad}");
    }
}
