//! ID tokens that must not prove anybody. Each is signed with a real key of the provider and put in the place of the
//! right one, so that nothing but the tested check can refuse it.

use std::time::Duration;

use serde_json::{Value, json};
use writ_core::Clock;
use writ_human::{Error, LoginId, Refusal};

use crate::support::{Browser, Node, Provider, REDIRECT, owner, parameter, run};

/// A login that waits for its answer, and what the right ID token would say.
struct Waiting {
    id: LoginId,
    query: String,
    claims: Value,
}

struct Bench {
    provider: Provider,
    node: Node,
}

impl Bench {
    async fn new(more: &str) -> Self {
        let provider = Provider::start();
        let node = Node::open(&provider.configured(more)).await;
        Self { provider, node }
    }

    async fn waiting(&self) -> Waiting {
        let begun = self.node.people.logins().begin_browser(None, REDIRECT, owner(1000, 7)).await.unwrap();
        let query = Browser::new(&self.provider).log_in(&begun.url, "alice").await.unwrap();
        let now = self.node.clock.now().seconds();
        let claims = json!({
            "iss": self.provider.url, "sub": "alice", "aud": "writ", "iat": now, "exp": now + 600,
            "nonce": parameter(&begun.url, "nonce"), "name": "Alice", "groups": [],
        });
        Waiting { id: begun.id, query, claims }
    }

    /// What becomes of a login whose ID token is this.
    async fn told(&self, waiting: &Waiting, token: &str) -> Result<(), Error> {
        self.provider.next_id_token(token).await;
        self.node.people.logins().finish(&waiting.id, &owner(1000, 7), &waiting.query).await.map(drop)
    }

    /// The same for the right claims with changes; `null` removes one.
    async fn with(&self, key: &str, header: Value, changes: Value) -> Result<(), Error> {
        let waiting = self.waiting().await;
        let claims = changed(&waiting.claims, &changes);
        let token = self.provider.sign(key, header, claims).await;
        self.told(&waiting, &token).await
    }

    async fn refuses(&self, changes: Value, wanted: Refusal) {
        let refused = self.with("RS256", json!({}), changes.clone()).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(wanted), "{changes}: {refused}");
        assert!(self.node.people.who(1000, Some(7)).is_none());
    }
}

fn changed(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[test]
fn the_right_one_is_believed_with_every_allowed_algorithm() {
    run(async {
        let bench = Bench::new("").await;
        for key in ["RS256", "RS384", "PS256", "PS512", "ES256", "ES384", "Ed25519"] {
            bench.with(key, json!({}), json!({})).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    });
}

#[test]
fn a_token_for_somebody_else() {
    run(async {
        let bench = Bench::new("").await;
        bench.refuses(json!({ "iss": "https://evil.example" }), Refusal::Issuer).await;
        bench.refuses(json!({ "iss": format!("{}/", bench.provider.url) }), Refusal::Issuer).await;
        bench.refuses(json!({ "aud": "app" }), Refusal::Audience).await;
        bench.refuses(json!({ "aud": null }), Refusal::Claim("aud")).await;
        bench.refuses(json!({ "aud": [] }), Refusal::Audience).await;
        bench.refuses(json!({ "aud": ["writ", "app"] }), Refusal::AuthorizedParty).await;
        bench.refuses(json!({ "aud": ["writ", "app"], "azp": "app" }), Refusal::AuthorizedParty).await;
        bench.refuses(json!({ "azp": "app" }), Refusal::AuthorizedParty).await;
        bench.refuses(json!({ "sub": null }), Refusal::Claim("sub")).await;
        bench.refuses(json!({ "sub": "" }), Refusal::Claim("sub")).await;
        bench.with("RS256", json!({}), json!({ "aud": ["writ", "app"], "azp": "writ" })).await.unwrap();
    });
}

#[test]
fn a_replayed_nonce() {
    run(async {
        let bench = Bench::new("").await;
        let old = bench.waiting().await;
        let replayed = bench.provider.sign("RS256", json!({}), old.claims.clone()).await;
        let waiting = bench.waiting().await;
        let refused = bench.told(&waiting, &replayed).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Nonce));
        bench.refuses(json!({ "nonce": null }), Refusal::Nonce).await;
        bench.refuses(json!({ "nonce": 7 }), Refusal::Claim("nonce")).await;
        // A device never sends one, so a token with one was made for somebody else's login.
        let login = bench.node.people.logins().begin_device(None, owner(1000, 7)).await.unwrap();
        let page = login.verification_uri_complete.unwrap();
        Browser::new(&bench.provider).log_in(&page, "alice").await.unwrap_err();
        bench.provider.next_id_token(&replayed).await;
        let refused = bench.node.people.logins().wait(&login.id, &owner(1000, 7)).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Nonce));
    });
}

#[test]
fn a_token_out_of_time() {
    run(async {
        let bench = Bench::new("").await;
        let now = bench.node.clock.now().seconds();
        bench.refuses(json!({ "exp": now - 61 }), Refusal::Expired).await;
        bench.refuses(json!({ "exp": null }), Refusal::Claim("exp")).await;
        bench.refuses(json!({ "exp": "tomorrow" }), Refusal::Claim("exp")).await;
        bench.refuses(json!({ "exp": -1 }), Refusal::Claim("exp")).await;
        bench.refuses(json!({ "iat": now + 300 }), Refusal::NotYet).await;
        bench.refuses(json!({ "iat": null }), Refusal::Claim("iat")).await;
        bench.refuses(json!({ "nbf": now + 300 }), Refusal::NotYet).await;
        // Clocks differ a little.
        bench
            .with("RS256", json!({}), json!({ "exp": now - 20, "iat": now + 30, "nbf": now + 30 }))
            .await
            .unwrap();
    });
}

#[test]
fn a_token_beside_another_code_or_access_token() {
    run(async {
        let bench = Bench::new("").await;
        bench.refuses(json!({ "at_hash": "77QmUPtjPfzWtF2AnpK9RQ" }), Refusal::Hash("at_hash")).await;
        bench.refuses(json!({ "c_hash": "LDktKdoQak3Pk0cnXxCltA" }), Refusal::Hash("c_hash")).await;
        bench.refuses(json!({ "at_hash": 7 }), Refusal::Hash("at_hash")).await;
    });
}

#[test]
fn a_token_of_another_kind() {
    run(async {
        let bench = Bench::new("").await;
        let access = json!({ "jti": "x", "client_id": "writ", "scope": "api:read" });
        for kind in ["at+jwt", "application/at+jwt", "AT+JWT", "secevent+jwt", "logout+jwt"] {
            let refused = bench.with("RS256", json!({ "typ": kind }), access.clone()).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(Refusal::Kind), "{kind}");
        }
        bench.refuses(json!({ "events": {} }), Refusal::Kind).await;
        bench.refuses(json!({ "typ": "Bearer" }), Refusal::Kind).await;
        // A real access token of the same issuer, put where the ID token should be.
        let real = bench.provider.access_token("alice", "https://api.example", "openid api:read").await;
        let waiting = bench.waiting().await;
        let refused = bench.told(&waiting, &real).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Kind));
        bench.with("RS256", json!({ "typ": "JWT" }), json!({})).await.unwrap();
    });
}

#[test]
fn authentication_too_old_or_of_the_wrong_kind() {
    run(async {
        let bench = Bench::new("max_age = \"1h\"\nacr_values = [\"phr\", \"mfa\"]").await;
        let now = bench.node.clock.now().seconds();
        let fine = json!({ "auth_time": now - 60, "acr": "mfa", "amr": ["pwd", "otp"] });
        bench.with("RS256", json!({}), fine.clone()).await.unwrap();
        let shown = bench.node.people.who(1000, Some(7)).unwrap();
        assert_eq!(
            (shown.acr.as_deref(), shown.amr.as_slice()),
            (Some("mfa"), &["pwd".to_owned(), "otp".to_owned()][..])
        );
        // The sign-in ends when the authentication is an hour old, whatever the tokens say.
        assert_eq!(shown.expires.seconds(), now - 60 + 3600);
        bench.node.people.sign_out(&owner(1000, 7)).await.unwrap();
        let refuses = async |changes: Value, wanted| bench.refuses(changed(&fine, &changes), wanted).await;
        refuses(json!({ "auth_time": now - 3700 }), Refusal::AuthTime).await;
        refuses(json!({ "acr": "pwd" }), Refusal::Context).await;
        bench.refuses(json!({ "acr": "mfa" }), Refusal::AuthTime).await;
        bench.refuses(json!({ "auth_time": now }), Refusal::Context).await;
    });
}

#[test]
fn algorithm_tricks() {
    run(async {
        let bench = Bench::new("").await;
        let part = |value: &Value| base64url(value.to_string().as_bytes());
        // No signature at all.
        for alg in ["none", "None", "NONE", ""] {
            let waiting = bench.waiting().await;
            let token = format!("{}.{}.", part(&json!({ "alg": alg })), part(&waiting.claims));
            let refused = bench.told(&waiting, &token).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(Refusal::Algorithm), "{alg}");
        }
        // The public key as the secret of a symmetric algorithm: in every form that a verifier may have it in.
        let keys = bench.provider.page("/jwks").await;
        let published: Value = serde_json::from_str(&keys).unwrap();
        let n = published["keys"][0]["n"].as_str().unwrap();
        for secret in
            [n.as_bytes().to_vec(), keys.as_bytes().to_vec(), published["keys"][0].to_string().into_bytes()]
        {
            let waiting = bench.waiting().await;
            let head = part(&json!({ "alg": "HS256", "kid": "key-RS256" }));
            let input = format!("{head}.{}", part(&waiting.claims));
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
            let refused =
                bench.told(&waiting, &format!("{input}.{}", base64url(tag.as_ref()))).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(Refusal::Algorithm));
        }
        // One key under another's name or algorithm.
        for (key, header, wanted) in [
            ("ES256", json!({ "kid": "key-RS256" }), Refusal::Algorithm),
            ("RS384", json!({ "kid": "key-RS256" }), Refusal::Algorithm),
            ("ES256", json!({ "kid": "key-ES384" }), Refusal::Algorithm),
            ("spare", json!({ "kid": "key-RS256" }), Refusal::Signature),
            ("spare", json!({}), Refusal::KeyLater),
        ] {
            let refused = bench.with(key, header.clone(), json!({})).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(wanted), "{key} {header}");
        }
        // Keys that the token brings along.
        for (name, value) in [
            ("jku", json!(format!("{}/jwks", bench.provider.url))),
            ("x5u", json!("https://evil.example/cert")),
            ("jwk", published["keys"][0].clone()),
            ("x5c", json!(["MIIB"])),
        ] {
            let refused = bench.with("RS256", json!({ name: value }), json!({})).await.unwrap_err();
            assert_eq!(refused.refusal(), Some(Refusal::Header(name)));
        }
    });
}

#[test]
fn a_changed_token_is_not_believed() {
    run(async {
        let bench = Bench::new("").await;
        let waiting = bench.waiting().await;
        let token = bench.provider.sign("RS256", json!({}), waiting.claims.clone()).await;
        let parts: Vec<&str> = token.split('.').collect();
        let payload = base64url(changed(&waiting.claims, &json!({ "sub": "bob" })).to_string().as_bytes());
        let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert_eq!(bench.told(&waiting, &forged).await.unwrap_err().refusal(), Some(Refusal::Signature));
        for broken in ["", "a.b", "a.b.c", &format!("{}.{}", parts[0], parts[1]), &format!("{token}.x")] {
            let waiting = bench.waiting().await;
            let refused = bench.told(&waiting, broken).await.unwrap_err().refusal();
            assert!(matches!(refused, Some(Refusal::Malformed(_))), "{broken}: {refused:?}");
        }
    });
}

#[test]
fn an_answer_without_a_token_proves_nobody() {
    run(async {
        let bench = Bench::new("").await;
        for fault in [
            json!({ "without": ["id_token"] }),
            json!({ "merge": { "token_type": "mac" } }),
            json!({ "status": 200, "body": "<html>" }),
            json!({ "status": 500, "body": "broken" }),
            json!({ "status": 302, "location": "https://evil.example/", "body": "" }),
        ] {
            let waiting = bench.waiting().await;
            let mut fault = fault;
            fault["path"] = json!("/token");
            fault["times"] = json!(1);
            bench.provider.ask("fault", fault.clone()).await;
            let finished =
                bench.node.people.logins().finish(&waiting.id, &owner(1000, 7), &waiting.query).await;
            assert!(matches!(finished, Err(Error::Answer { .. })), "{fault}: {finished:?}");
        }
        assert!(bench.node.people.who(1000, Some(7)).is_none());
    });
}

#[test]
fn unknown_key_ids_cause_no_flood_and_a_new_key_is_found() {
    run(async {
        let bench = Bench::new("audiences = [\"api\"]").await;
        let callers = bench.node.people.callers();
        let now = bench.node.clock.now().seconds();
        let claims =
            json!({ "iss": bench.provider.url, "sub": "alice", "aud": "api", "iat": now, "exp": now + 3000 });
        let known = bench.provider.sign("RS256", json!({}), claims.clone()).await;
        callers.verify(&known, "api").await.unwrap();
        let before = bench.provider.count("/jwks").await;
        bench.node.clock.advance(Duration::from_secs(11));
        for n in 0..40 {
            let token =
                bench.provider.sign("RS256", json!({ "kid": format!("made-up-{n}") }), claims.clone()).await;
            // The first has the keys fetched, the others are too early for that.
            let wanted = if n == 0 { Refusal::Key } else { Refusal::KeyLater };
            assert_eq!(callers.verify(&token, "api").await.unwrap_err().refusal(), Some(wanted));
        }
        assert_eq!(bench.provider.count("/jwks").await, before + 1);
        // The issuer rotates: as soon as the pause has passed the new key is known, and the old one no more.
        bench.provider.ask("publish", json!({ "key": "spare" })).await;
        let new = bench.provider.sign("spare", json!({}), claims).await;
        assert_eq!(callers.verify(&new, "api").await.unwrap_err().refusal(), Some(Refusal::KeyLater));
        bench.node.clock.advance(Duration::from_secs(11));
        callers.verify(&new, "api").await.unwrap();
        assert_eq!(callers.verify(&known, "api").await.unwrap_err().refusal(), Some(Refusal::KeyLater));
        assert_eq!(bench.provider.count("/jwks").await, before + 2);
    });
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
