//! What is remembered of proofs: bounded, and no client can fill it for others.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use writ_core::{SpiffeId, Timestamp};
use writ_gate::limits;
use writ_identity::exchange::Refusal;
use writ_identity::exchange::proof::{Proof, Replays, verify};

const URL: &str = "https://id.example/token";
const START: u64 = 1_800_000_000;

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn text(&self, claims: &Value) -> String {
        let encode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(text);
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }).to_string();
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature.as_ref()))
    }

    fn proof(&self, jti: usize, now: Timestamp) -> Proof {
        let claims = json!({ "jti": jti.to_string(), "htm": "POST", "htu": URL, "iat": now.seconds() });
        verify(&self.text(&claims), "POST", URL, now).unwrap()
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros((START + seconds) * 1_000_000)
}

fn client(n: u8) -> SpiffeId {
    SpiffeId::new(&format!("spiffe://example.org/agent/coder/run/{n}")).unwrap()
}

#[test]
fn one_client_cannot_take_the_room_of_others() {
    let (key, replays) = (Key::new(), Replays::default());
    for jti in 0..limits::PROOFS_PER_CLIENT_MAX {
        replays.admit(&key.proof(jti, at(0)), &client(1), at(0)).unwrap();
    }
    let more = key.proof(limits::PROOFS_PER_CLIENT_MAX, at(0));
    assert!(matches!(replays.admit(&more, &client(1), at(0)), Err(Refusal::Proof(_))));
    replays.admit(&more, &client(2), at(0)).unwrap();
    assert!(replays.admit(&more, &client(3), at(0)).is_err(), "whoever shows it");
    // What can no longer be shown is forgotten, and no sooner.
    let last = limits::PROOF_AGE_MAX.as_secs();
    assert!(replays.admit(&key.proof(0, at(0)), &client(1), at(last - 1)).is_err());
    replays.admit(&key.proof(1, at(last)), &client(1), at(last)).unwrap();
}

#[test]
fn a_proof_holds_for_a_minute_and_times_may_have_fractions() {
    let key = Key::new();
    let made = |iat: Value| key.text(&json!({ "jti": "1", "htm": "POST", "htu": URL, "iat": iat }));
    let good = |iat: Value, now: Timestamp| verify(&made(iat), "POST", URL, now).is_ok();
    let age = limits::PROOF_AGE_MAX;
    assert!(good(json!(START), at(0).plus(age.saturating_sub(Duration::from_micros(1)))));
    assert!(!good(json!(START), at(0).plus(age)));
    assert!(good(json!(START + 5), at(0)) && !good(json!(START + 6), at(0)));
    assert!(good(json!(1_800_000_000.5), at(1)));
    for bad in [json!("1800000000"), json!(-1), json!(1e300), Value::Null] {
        assert!(!good(bad.clone(), at(0)), "{bad}");
    }
}
