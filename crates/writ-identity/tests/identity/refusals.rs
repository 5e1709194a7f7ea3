//! Tokens and requests that must be refused, each for its own reason: the faults that other implementations had.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use writ_core::{SpiffeId, Timestamp, TrustDomain};
use writ_identity::{Bundle, Bundles, Error, Invalid, from_map, validate};

use crate::support::{Node, example, workload};

const NOW: u64 = 1_800_000_000;

/// A key of `example.org` that signs whatever it is told to.
struct Forge {
    pair: EcdsaKeyPair,
    usage: &'static str,
}

impl Forge {
    fn new(usage: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), usage }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let text = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "crv": "P-256", "kid": "k", "kty": "EC", "use": self.usage,
            "x": text(&point[1..33]), "y": text(&point[33..]),
        })
    }

    fn bundles(&self) -> Bundles {
        let domain = TrustDomain::new("example.org").unwrap();
        Bundles::new(
            Bundle::from_jwks(domain, json!({ "keys": [self.jwk()] }).to_string().as_bytes()).unwrap(),
        )
    }

    /// Header and claims as raw text: also text that no JSON library would write.
    fn sign(&self, header: &str, claims: &str) -> String {
        let text = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
        let signed = format!("{}.{}", text(header), text(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn judge(&self, header: &str, claims: &str) -> Result<validate::JwtClaims, Invalid> {
        let now = Timestamp::from_micros(NOW * 1_000_000);
        validate::jwt(&self.sign(header, claims), "receiver", &self.bundles(), now)
    }
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;

fn claims(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({ "aud": ["receiver"], "exp": NOW + 60, "sub": "spiffe://example.org/a" });
    change(&mut claims);
    claims.to_string()
}

#[test]
fn a_good_token_is_believed() {
    let forge = Forge::new("jwt-svid");
    let good = claims(|claims| claims["extra"] = json!({ "kept": [1] }));
    let believed = forge.judge(HEADER, &good).unwrap();
    assert_eq!(believed.claims["extra"]["kept"][0], 1);
    assert_eq!(believed.expires.seconds(), NOW + 60);
    forge.judge(r#"{"alg":"ES256","kid":"k"}"#, &good).unwrap();
    forge.judge(r#"{"alg":"ES256","kid":"k","typ":"JOSE"}"#, &good).unwrap();
    forge.judge(HEADER, &claims(|claims| claims["aud"] = "receiver".into())).unwrap();
}

#[test]
fn jwt_without_exp_or_with_empty_aud_is_refused() {
    let forge = Forge::new("jwt-svid");
    let without = claims(|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
    assert_eq!(forge.judge(HEADER, &without), Err(Invalid::Claim("`exp` is missing")));
    for audience in
        [json!([]), json!(""), json!([""]), json!(["receiver", 7]), Value::Null, json!({}), json!(7)]
    {
        let text = claims(|claims| claims["aud"] = audience.clone());
        assert_eq!(
            forge.judge(HEADER, &text),
            Err(Invalid::Claim("`aud` is missing or empty")),
            "{audience}"
        );
    }
    for other in [json!("Receiver"), json!(["receiver "]), json!(["other", "another"])] {
        let text = claims(|claims| claims["aud"] = other.clone());
        assert_eq!(forge.judge(HEADER, &text), Err(Invalid::Audience), "{other}");
    }
}

#[test]
fn time_is_exact_and_a_number() {
    let forge = Forge::new("jwt-svid");
    for (member, value, reason) in [
        ("exp", json!(NOW), Invalid::Expired),
        ("exp", json!(NOW - 1), Invalid::Expired),
        ("exp", json!((NOW + 60).to_string()), Invalid::Claim("of time is no time")),
        ("exp", json!(-1), Invalid::Claim("of time is no time")),
        ("exp", json!(1e300), Invalid::Claim("of time is no time")),
        ("exp", Value::Null, Invalid::Claim("of time is no time")),
        ("nbf", json!(NOW + 1), Invalid::NotYet),
        ("nbf", json!("0"), Invalid::Claim("of time is no time")),
        ("iat", json!([]), Invalid::Claim("of time is no time")),
    ] {
        let text = claims(|claims| claims[member] = value.clone());
        assert_eq!(forge.judge(HEADER, &text).unwrap_err(), reason, "{member} {value}");
    }
    forge.judge(HEADER, &claims(|claims| claims["nbf"] = json!(NOW))).unwrap();
    forge.judge(HEADER, &claims(|claims| claims["exp"] = json!(1_800_000_000.5))).unwrap();
}

#[test]
fn extra_and_doubled_header_parameters_are_refused() {
    let forge = Forge::new("jwt-svid");
    let good = claims(|_| {});
    for extra in ["crit", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "cty", "b64", "zip", "anything"] {
        let header = format!(r#"{{"alg":"ES256","kid":"k","{extra}":["exp"]}}"#);
        let reason = Invalid::Header("has a parameter that is not allowed");
        assert_eq!(forge.judge(&header, &good).unwrap_err(), reason, "{extra}");
    }
    for (doubled, name) in [
        (r#"{"alg":"ES256","alg":"ES256","kid":"k"}"#, "alg"),
        (r#"{"alg":"ES256","kid":"k","\u006bid":"k"}"#, "kid"),
    ] {
        assert_eq!(forge.judge(doubled, &good).unwrap_err(), Invalid::Duplicate(name.to_owned()));
    }
    let twice = good.replacen('{', r#"{"sub":"spiffe://example.org/b","#, 1);
    assert_eq!(forge.judge(HEADER, &twice).unwrap_err(), Invalid::Duplicate("sub".to_owned()));
    for typ in ["null", "\"jwt\"", "\"at+jwt\"", "\"wit+jwt\"", "7", "[\"JWT\"]"] {
        let header = format!(r#"{{"alg":"ES256","kid":"k","typ":{typ}}}"#);
        assert_eq!(
            forge.judge(&header, &good).unwrap_err(),
            Invalid::Header("is not that of a JWT-SVID"),
            "{typ}"
        );
    }
    for (header, reason) in [
        (r#"{"alg":"ES256"}"#, Invalid::Header("names no key")),
        (r#"{"alg":"ES256","kid":""}"#, Invalid::Header("names no key")),
        (r#"{"alg":"ES256","kid":7}"#, Invalid::Header("names no key")),
        (r#"{"alg":"ES256","kid":"other"}"#, Invalid::UnknownKey),
        (r#"{"kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"none","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"None","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"HS256","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"EdDSA","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"Ed25519","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"ES256K","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"ES384","kid":"k"}"#, Invalid::Algorithm),
        (r#"{"alg":"RS256","kid":"k"}"#, Invalid::Algorithm),
    ] {
        assert_eq!(forge.judge(header, &good).unwrap_err(), reason, "{header}");
    }
}

#[test]
fn the_form_is_compact_and_only_that() {
    let forge = Forge::new("jwt-svid");
    let (bundles, now) = (forge.bundles(), Timestamp::from_micros(NOW * 1_000_000));
    let good = forge.sign(HEADER, &claims(|_| {}));
    let judge = |token: &str| validate::jwt(token, "receiver", &bundles, now);
    judge(&good).unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let last = signature.chars().last().unwrap();
    // Another spelling of the same bytes: the unused bits of the last character.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let alias = alphabet.chars().nth(alphabet.find(last).unwrap() ^ 1).unwrap();
    let alias = format!("{}{alias}", &good[..good.len() - 1]);
    let long = format!("{signed}.{}", "A".repeat(40_000));
    let cut = good[..good.len() - 4].to_owned();
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        signed,
        &format!("{good}="),
        &format!("{good}."),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{signed}."),
        &good.replace('.', ".."),
        &alias,
        &long,
        &cut,
        &format!("{{\"payload\":\"{signed}\"}}"),
    ] {
        assert!(judge(bad).is_err(), "{bad}");
    }
    // DER instead of the fixed form, and a signature of zeros.
    assert_eq!(
        judge(&format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 64]))),
        Err(Invalid::Signature)
    );
}

#[test]
fn the_subject_is_a_spiffe_id_of_a_trusted_domain() {
    let forge = Forge::new("jwt-svid");
    for (subject, reason) in [
        (json!("alice"), Invalid::Subject("is not one")),
        (json!("spiffe://example.org/a/"), Invalid::Subject("is not one")),
        (json!("spiffe://example.org"), Invalid::Subject("has no path")),
        (json!("spiffe://example.org/%61"), Invalid::Subject("is not one")),
        (json!("spiffe://other.org/a"), Invalid::UnknownTrustDomain),
        (json!("spiffe://example.org.evil/a"), Invalid::UnknownTrustDomain),
        (Value::Null, Invalid::Claim("`sub` is missing")),
    ] {
        let text = claims(|claims| claims["sub"] = subject.clone());
        assert_eq!(forge.judge(HEADER, &text).unwrap_err(), reason, "{subject}");
    }
}

#[test]
fn a_key_of_one_use_does_not_serve_another() {
    let now = Timestamp::from_micros(NOW * 1_000_000);
    let wit = Forge::new("wit-svid");
    assert_eq!(wit.judge(HEADER, &claims(|_| {})), Err(Invalid::UnknownKey));
    let jwt = Forge::new("jwt-svid");
    let header = r#"{"alg":"ES256","kid":"k","typ":"wit+jwt"}"#;
    assert_eq!(
        validate::wit(&jwt.sign(header, &claims(|_| {})), &jwt.bundles(), now),
        Err(Invalid::UnknownKey)
    );
}

#[test]
fn bundles_of_different_domains_are_never_merged() {
    let (ours, theirs) = (Forge::new("jwt-svid"), Forge::new("jwt-svid"));
    let publication = writ_identity::Publication::new(Bundle::clone(ours.bundles().own()));
    let other = TrustDomain::new("other.org").unwrap();
    let text = json!({ "keys": [theirs.jwk()] }).to_string();
    publication.set(Bundle::from_jwks(other.clone(), text.as_bytes()).unwrap());
    let (bundles, now) = (publication.now(), Timestamp::from_micros(NOW * 1_000_000));
    let judge = |forge: &Forge, domain: &str| {
        let text = claims(|claims| claims["sub"] = format!("spiffe://{domain}/a").into());
        validate::jwt(&forge.sign(HEADER, &text), "receiver", &bundles, now).map(drop)
    };
    // Both keys are called `k`: the domain that the subject names decides which is meant.
    assert_eq!(judge(&ours, "example.org"), Ok(()));
    assert_eq!(judge(&theirs, "other.org"), Ok(()));
    assert_eq!(judge(&theirs, "example.org"), Err(Invalid::Signature));
    assert_eq!(judge(&ours, "other.org"), Err(Invalid::Signature));
    // Empty keys: everything of that domain is revoked, and of that domain only.
    publication.set(Bundle::from_jwks(other.clone(), br#"{"keys":[]}"#).unwrap());
    let bundles = publication.now();
    let text = claims(|claims| claims["sub"] = "spiffe://other.org/a".into());
    let judged = validate::jwt(&theirs.sign(HEADER, &text), "receiver", &bundles, now);
    assert_eq!(judged.map(drop), Err(Invalid::UnknownKey));
    publication.remove(&other);
    assert!(publication.now().get("other.org").is_none());
}

#[test]
fn bundle_texts_are_strict_about_form_and_lenient_about_what_is_new() {
    let forge = Forge::new("jwt-svid");
    let domain = TrustDomain::new("example.org").unwrap();
    let read = |text: &str| Bundle::from_jwks(domain.clone(), text.as_bytes());
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[7]}"#,
        r#"{"keys":[],"spiffe_sequence":"1"}"#,
        r#"{"keys":[],"spiffe_refresh_hint":-1}"#,
    ] {
        assert!(matches!(read(bad), Err(Invalid::Malformed(_))), "{bad}");
    }
    assert!(matches!(read(r#"{"keys":[],"keys":[]}"#), Err(Invalid::Duplicate(_))));
    let jwk = forge.jwk();
    assert!(
        matches!(read(&json!({ "keys": [jwk, jwk] }).to_string()), Err(Invalid::Duplicate(_))),
        "one kid, two keys"
    );
    let newer = json!({
        "keys": [
            { "kty": "AKP", "use": "jwt-svid", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA" },
            { "kty": "EC", "use": "something-new" },
            { "kty": "EC" },
            jwk,
        ],
        "spiffe_sequence": u64::MAX, "spiffe_refresh_hint": 60, "member": "unknown",
    });
    let bundle = read(&newer.to_string()).unwrap();
    assert_eq!((bundle.sequence, bundle.unusable()), (Some(u64::MAX), 0));
    assert_eq!(bundle.refresh_hint, Some(Duration::from_mins(1)));
    assert!(!bundle.is_empty());
    let useless =
        read(r#"{"keys":[{"kty":"EC","use":"jwt-svid"},{"kty":"EC","use":"x509-svid","x5c":["AA=="]}]}"#)
            .unwrap();
    assert!(useless.is_empty() && useless.unusable() == 2, "no usable key means that everything is revoked");
}

#[tokio::test]
async fn a_bundle_map_names_each_domain_once() {
    let (_, authority) = example().await;
    let other = Node::new("other.org", "").open().await;
    authority.publication().set(Bundle::clone(other.bundles().borrow().own()));
    let bundles = authority.bundles().borrow().clone();
    let map = bundles.to_map();
    let read = from_map(map.as_bytes()).unwrap();
    let domains: Vec<&str> = read.iter().map(|bundle| bundle.trust_domain().as_str()).collect();
    assert_eq!(domains, ["example.org", "other.org"]);
    assert_eq!(read[0].x509(), bundles.own().x509());
    assert!(read.iter().all(|bundle| bundle.refresh_hint.is_none()), "refresh hints inside are ignored");
    let empty = r#""example.org":{"keys":[]}"#;
    for bad in [
        format!(r#"{{"trust_domains":{{{empty},{empty}}}}}"#),
        format!(r#"{{"trust_domains":{{{empty}}},"trust_domains":{{}}}}"#),
        r#"{"trust_domains":{"Example.org":{"keys":[]}}}"#.to_owned(),
        r#"{"trust_domains":{"example.org":[]}}"#.to_owned(),
        r#"{"trust_domains":[]}"#.to_owned(),
        "{}".to_owned(),
    ] {
        assert!(from_map(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(from_map(format!(r#"{{"trust_domains":{{{empty}}}}}"#).as_bytes()).unwrap()[0].is_empty());
}

#[tokio::test]
async fn trust_is_not_anchored_on_one_certificate_of_a_bag_and_read_from_another() {
    let (node, authority) = example().await;
    let other = Node::new("example.org", "");
    let evil = other.open().await;
    let (ours, theirs) = (authority.bundles().borrow().own().clone(), evil.bundles().borrow().own().clone());
    let base64 = |der: &[u8]| base64::prelude::BASE64_STANDARD.encode(der);
    // A second certificate in `x5c` is neither trusted nor passed over in silence.
    let mut text: Value = serde_json::from_str(&ours.jwks()).unwrap();
    text["keys"][0]["x5c"] = json!([base64(&ours.x509()[0]), base64(&theirs.x509()[0])]);
    let read = Bundle::from_jwks(node.domain.clone(), text.to_string().as_bytes()).unwrap();
    assert!(read.x509().is_empty() && read.unusable() == 1);
    // Nor is a certificate under the key of another.
    text["keys"][0]["x5c"] = json!([base64(&theirs.x509()[0])]);
    let read = Bundle::from_jwks(node.domain.clone(), text.to_string().as_bytes()).unwrap();
    assert!(read.x509().is_empty() && read.unusable() == 1);
    // A chain that carries its own root is not believed for it.
    let svid = evil.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    let mut chain = svid.chain.clone();
    chain.push(theirs.x509()[0].clone());
    let bundles = authority.bundles().borrow().clone();
    assert!(matches!(validate::x509(&chain, &bundles, node.now()), Err(Invalid::Path(_))));
    // A good leaf before a foreign chain: what is read and what is verified are one certificate.
    let good = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    let mixed = [&svid.chain[..1], &good.chain[..]].concat();
    assert!(validate::x509(&mixed, &bundles, node.now()).is_err());
    assert_eq!(validate::x509(&[], &bundles, node.now()), Err(Invalid::Malformed("an empty chain")));
}

#[tokio::test]
async fn a_signing_certificate_authenticates_nobody() {
    let (node, authority) = example().await;
    let svid = authority.issuer().x509(&workload("example.org"), node.in_an_hour()).unwrap();
    let bundles = authority.bundles().borrow().clone();
    let root = bundles.own().x509()[0].clone();
    for chain in [vec![svid.chain[1].clone()], vec![root.clone()], vec![svid.chain[1].clone(), root]] {
        assert_eq!(
            validate::x509(&chain, &bundles, node.now()),
            Err(Invalid::Certificate("is a signing certificate"))
        );
    }
}

#[tokio::test]
async fn nothing_is_issued_beyond_its_limit_or_for_others() {
    let (node, authority) = example().await;
    let (issuer, id) = (authority.issuer(), workload("example.org"));
    let audience = ["a".to_owned()];
    let soon = node.now().plus(Duration::from_secs(90));
    assert_eq!(issuer.x509(&id, soon).unwrap().not_after, soon);
    assert_eq!(issuer.jwt(&id, &audience, soon).unwrap().expires, soon);
    let far = node.now().plus(Duration::from_hours(100));
    let svid = issuer.x509(&id, far).unwrap();
    assert_eq!(svid.not_after, node.in_an_hour());
    assert_eq!(svid.not_before.plus(Duration::from_secs(10)), node.now());
    assert_eq!(issuer.jwt(&id, &audience, far).unwrap().expires, node.now().plus(Duration::from_mins(5)));
    for limit in [node.now(), Timestamp::from_micros(0), node.now().plus(Duration::from_millis(900))] {
        assert!(matches!(issuer.x509(&id, limit), Err(Error::Ended)));
        assert!(matches!(issuer.jwt(&id, &audience, limit), Err(Error::Ended)));
    }
    for foreign in ["spiffe://other.org/agent/coder", "spiffe://example.org"] {
        let foreign = SpiffeId::new(foreign).unwrap();
        assert!(matches!(issuer.x509(&foreign, far), Err(Error::Foreign { .. })));
        assert!(matches!(issuer.jwt(&foreign, &audience, far), Err(Error::Foreign { .. })));
    }
    for nobody in [&[][..], &[String::new()]] {
        assert!(matches!(issuer.jwt(&id, nobody, far), Err(Error::Claims { .. })));
    }
}

#[tokio::test]
async fn no_bit_of_a_token_or_chain_can_be_changed() {
    let (node, authority) = example().await;
    let (id, limit) = (workload("example.org"), node.in_an_hour());
    let bundles = authority.bundles().borrow().clone();
    let token = authority.issuer().jwt(&id, &["a".to_owned()], limit).unwrap();
    let good = token.token.expose().as_bytes();
    for at in 0..good.len() {
        for flip in [1, 2, 0x20] {
            let mut bad = good.to_vec();
            bad[at] ^= flip;
            let bad = String::from_utf8(bad).unwrap();
            assert!(validate::jwt(&bad, "a", &bundles, node.now()).is_err(), "{at} {flip}: {bad}");
        }
    }
    let good = authority.issuer().x509(&id, limit).unwrap().chain;
    validate::x509(&good, &bundles, node.now()).unwrap();
    for which in 0..good.len() {
        for at in 0..good[which].len() {
            let mut der = good[which].to_vec();
            der[at] ^= 1;
            let mut bad = good.clone();
            bad[which] = der.into();
            assert!(validate::x509(&bad, &bundles, node.now()).is_err(), "{which} {at}");
        }
    }
}

#[tokio::test]
async fn a_token_too_long_to_be_read_is_not_signed() {
    let (node, authority) = example().await;
    let audiences: Vec<String> = (0..4_000).map(|n| format!("https://{n}.example.com")).collect();
    let refused = authority.issuer().jwt(&workload("example.org"), &audiences, node.in_an_hour());
    assert!(matches!(refused, Err(Error::Claims { .. })));
}

#[tokio::test]
async fn other_tokens_are_signed_and_are_no_identities() {
    let (node, authority) = example().await;
    let (issuer, now) = (authority.issuer(), node.now());
    let mut claims = Map::new();
    claims.insert("exp".to_owned(), (now.seconds() + 60).into());
    claims.insert("aud".to_owned(), "example.org".into());
    claims.insert("sub".to_owned(), workload("example.org").as_str().into());
    let token = issuer.sign("txntoken+jwt", &claims).unwrap();
    let bundles = authority.bundles().borrow().clone();
    let read = validate::token(token.expose(), "txntoken+jwt", bundles.own(), now).unwrap();
    assert_eq!(read.claims, claims);
    assert!(validate::token(token.expose(), "at+jwt", bundles.own(), now).is_err());
    let later = now.plus(Duration::from_mins(1));
    assert_eq!(validate::token(token.expose(), "txntoken+jwt", bundles.own(), later), Err(Invalid::Expired));
    // Its subject is a workload, and all the same it is no JWT-SVID.
    assert!(validate::jwt(token.expose(), "example.org", &bundles, now).is_err());
    for typ in ["", "JWT", "jwt", "JOSE", "wit+jwt"] {
        assert!(matches!(issuer.sign(typ, &claims), Err(Error::Claims { .. })), "{typ}");
    }
    for exp in [json!(null), json!("1"), json!(now.seconds() + 7_200)] {
        claims.insert("exp".to_owned(), exp);
        assert!(matches!(issuer.sign("at+jwt", &claims), Err(Error::Claims { .. })));
    }
    claims.insert("exp".to_owned(), now.seconds().into());
    assert!(matches!(issuer.sign("at+jwt", &claims), Err(Error::Ended)));
}

#[tokio::test]
async fn wit_svids_are_issued_only_where_they_are_switched_on() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    assert!(matches!(authority.issuer().wit(&id, node.in_an_hour()), Err(Error::NotReady)));
    assert_eq!(authority.bundles().borrow().own().wit_jwks(), r#"{"keys":[]}"#);
    let node = Node::new("example.org", "[identity]\nwit = true\n");
    let authority = node.open().await;
    let svid = authority.issuer().wit(&id, node.in_an_hour()).unwrap();
    let bundles = authority.bundles().borrow().clone();
    let believed = validate::wit(svid.token.expose(), &bundles, node.now()).unwrap();
    assert_eq!(believed.subject, id);
    let public = &believed.claims["cnf"]["jwk"];
    let private: Value = serde_json::from_str(svid.key.expose()).unwrap();
    assert_eq!(
        (&private["x"], &private["y"], &private["alg"]),
        (&public["x"], &public["y"], &json!("ES256"))
    );
    // The private half is the public one's.
    let bytes = |member: &str| BASE64_URL_SAFE_NO_PAD.decode(private[member].as_str().unwrap()).unwrap();
    let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes("d"), &point)
        .unwrap();
    // Never a bearer token, and no JWT-SVID.
    assert!(validate::jwt(svid.token.expose(), "a", &bundles, node.now()).is_err());
    assert!(public.get("d").is_none());
}

#[test]
fn wits_that_break_a_rule_are_refused() {
    let forge = Forge::new("wit-svid");
    let proof = Forge::new("wit-svid");
    let (bundles, now) = (forge.bundles(), Timestamp::from_micros(NOW * 1_000_000));
    let mut key = proof.jwk();
    key["alg"] = "ES256".into();
    let good = json!({ "cnf": { "jwk": key }, "exp": NOW + 60, "sub": "spiffe://example.org/a" });
    let judge = |header: &str, claims: &Value| {
        validate::wit(&forge.sign(header, &claims.to_string()), &bundles, now).map(drop)
    };
    let header = r#"{"alg":"ES256","kid":"k","typ":"wit+jwt","new":1}"#;
    judge(header, &good).unwrap();
    assert!(judge(r#"{"alg":"ES256","kid":"k","typ":"wit+jwt","crit":["new"],"new":1}"#, &good).is_err());
    assert!(judge(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#, &good).is_err());
    assert!(judge(r#"{"alg":"ES256","typ":"wit+jwt"}"#, &good).is_err());
    for change in [
        json!({ "aud": "receiver" }),
        json!({ "cnf": null }),
        json!({ "cnf": { "jwk": proof.jwk() } }),
        json!({ "exp": NOW }),
        json!({ "sub": "wimse://example.org/a" }),
        json!({ "cnf": { "jwk": { "alg": "EdDSA", "crv": "Ed25519", "kty": "OKP", "x": "AA" } } }),
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert!(judge(header, &bad).is_err(), "{change}");
    }
}
