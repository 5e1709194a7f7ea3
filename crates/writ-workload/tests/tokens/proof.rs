//! Tokens that are bound to a key (RFC 9449).

use serde_json::{Value, json};
use writ_core::Clock;

use crate::forge::Key;
use crate::site::{Answer, Fields, Site, claims, run_id};

const URL: &str = "https://localhost/idp/token";

/// The parts of a proof that is good.
fn parts(site: &Site, key: &Key, jti: &str) -> (Value, Value) {
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk() });
    (header, json!({ "jti": jti, "htm": "POST", "htu": URL, "iat": site.clock.now().seconds() }))
}

async fn send(site: &Site, fields: &Fields, proofs: &[&str]) -> Answer {
    let headers: Vec<String> = proofs.iter().map(|proof| format!("DPoP: {proof}")).collect();
    let extra: Vec<&str> = headers.iter().flat_map(|header| ["-H", header.as_str()]).collect();
    site.post("/idp/token", fields, &extra).await
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_that_was_proved() {
    let (site, _session) = Site::with_alice().await;
    let (key, other) = (Key::new(), Key::new());
    let prove = |key: &Key, jti: &str| {
        let (header, claims) = parts(&site, key, jti);
        key.sign(&header, &claims)
    };
    let answer = send(&site, &site.fields(), &[&prove(&key, "1")]).await;
    assert_eq!(answer.body["token_type"], "DPoP");
    let bound = answer.token();
    let thumbprint = claims(&bound)["cnf"]["jkt"].as_str().unwrap().to_owned();
    assert_eq!(thumbprint.len(), 43);
    // Its holder goes on with it only by proving the same key again.
    let next = site.exchange(&bound, &run_id("coder", 1));
    site.token(&next).await.is_refused("no proof", 400, "invalid_grant", &next);
    send(&site, &next, &[&prove(&other, "2")]).await.is_refused("another key", 400, "invalid_grant", &next);
    let again = send(&site, &next, &[&prove(&key, "3")]).await.token();
    assert_eq!(claims(&again)["cnf"]["jkt"], thumbprint.as_str());
    let asked = site.ask(&bound, &site.svid(&run_id("coder", 1))).await.body;
    assert_eq!((&asked["token_type"], &asked["cnf"]["jkt"]), (&json!("DPoP"), &json!(thumbprint)));
}

#[tokio::test]
async fn a_proof_is_good_once() {
    let (site, _session) = Site::with_alice().await;
    site.live.open(&site.draft("coder", 2, "alice"));
    let key = Key::new();
    let (header, claims) = parts(&site, &key, "once");
    let proof = key.sign(&header, &claims);
    send(&site, &site.fields(), &[&proof]).await.token();
    let fields = site.fields();
    send(&site, &fields, &[&proof]).await.is_refused("replayed", 400, "invalid_dpop_proof", &fields);
    let resigned = key.sign(&header, &claims);
    assert_ne!(resigned, proof);
    send(&site, &fields, &[&resigned]).await.is_refused("the same jti", 400, "invalid_dpop_proof", &fields);
    let fields = site.exchange(&site.people.token("alice"), &run_id("coder", 2));
    send(&site, &fields, &[&proof]).await.is_refused("stolen", 400, "invalid_dpop_proof", &fields);
}

#[tokio::test]
async fn proofs_that_prove_nothing_are_refused() {
    let (site, _session) = Site::with_alice().await;
    let (key, other) = (Key::new(), Key::new());
    let now = site.clock.now().seconds();
    let rows = [
        ("another method", json!({}), json!({ "htm": "GET" })),
        ("another URL", json!({}), json!({ "htu": "https://localhost/idp/introspect" })),
        ("another host", json!({}), json!({ "htu": "https://evil.example/idp/token" })),
        ("too old", json!({}), json!({ "iat": now - 60 })),
        ("from the future", json!({}), json!({ "iat": now + 6 })),
        ("no time", json!({}), json!({ "iat": null })),
        ("no jti", json!({}), json!({ "jti": "" })),
        ("another type", json!({ "typ": "JWT" }), json!({})),
        ("no type", json!({ "typ": null }), json!({})),
        ("another key than signed", json!({ "jwk": other.jwk() }), json!({})),
        ("no key", json!({ "jwk": null }), json!({})),
        ("a key by its name", json!({ "jwk": null, "kid": "x" }), json!({})),
        ("none", json!({ "alg": "none" }), json!({})),
        ("HS256", json!({ "alg": "HS256" }), json!({})),
        ("another algorithm than the key's", json!({ "alg": "ES384" }), json!({})),
        (
            "a private key",
            json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA" } }),
            json!({}),
        ),
        ("something that must be understood", json!({ "crit": ["b64"] }), json!({})),
    ];
    for (n, (what, head, body)) in rows.into_iter().enumerate() {
        let (mut header, mut claims) = parts(&site, &key, &format!("bad {n}"));
        for (to, from) in [(&mut header, head), (&mut claims, body)] {
            to.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
            to.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        let (fields, proof) = (site.fields(), key.sign(&header, &claims));
        send(&site, &fields, &[&proof]).await.is_refused(what, 400, "invalid_dpop_proof", &fields);
    }
    let (header, claims) = parts(&site, &key, "two");
    let (fields, proof) = (site.fields(), key.sign(&header, &claims));
    send(&site, &fields, &[&proof, &proof]).await.is_refused("two", 400, "invalid_dpop_proof", &fields);
    let fields = site.transaction(&site.people.token("alice"), &run_id("coder", 1));
    send(&site, &fields, &[&proof]).await.is_refused("a transaction", 400, "invalid_request", &fields);
    assert!(site.log.issued().is_empty());
    // Query, fragment and the case of the host are no difference.
    let (header, mut claims) = parts(&site, &key, "url");
    claims["htu"] = json!("HTTPS://LOCALHOST:443/idp/token?x=1#y");
    send(&site, &site.fields(), &[&key.sign(&header, &claims)]).await.token();
}
