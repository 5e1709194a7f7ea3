//! Tokens that come with requests.

use std::time::Duration;

use serde_json::{Value, json};
use writ_core::Clock;
use writ_human::{Refusal, TokenKind};

use crate::support::{Node, Provider, owner, run};

const API: &str = "https://api.example";

struct Bench {
    provider: Provider,
    node: Node,
}

impl Bench {
    async fn new(more: &str) -> Self {
        let provider = Provider::start();
        let node =
            Node::open(&provider.configured(&format!("audiences = [\"{API}\", \"other\"]\n{more}"))).await;
        Self { provider, node }
    }

    fn claims(&self, changes: &Value) -> Value {
        let now = self.node.clock.now().seconds();
        let mut claims = json!({
            "iss": self.provider.url, "sub": "alice", "aud": API, "iat": now, "exp": now + 600, "jti": "1",
            "client_id": "app", "name": "Alice", "groups": ["engineering"], "email": "alice@example.com",
        });
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    async fn token(&self, header: Value, changes: Value) -> String {
        self.provider.sign("RS256", header, self.claims(&changes)).await
    }

    async fn refuses(&self, header: Value, changes: Value, wanted: Refusal) {
        let token = self.token(header, changes.clone()).await;
        let refused = self.node.people.callers().verify(&token, API).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(wanted), "{changes}: {refused}");
    }
}

#[test]
fn a_real_access_token_names_its_human() {
    run(async {
        let bench = Bench::new("").await;
        let token = bench.provider.access_token("bob", API, "openid api:read").await;
        let caller = bench.node.people.callers().verify(&token, API).await.unwrap();
        assert_eq!(caller.human.to_string(), format!("oidc:{}#bob", bench.provider.url));
        assert_eq!((caller.kind, &*caller.issuer), (TokenKind::Access, "corp"));
        assert_eq!(caller.token_hash.len(), 43);
        // Nobody is signed in by it.
        assert!(bench.node.people.all().is_empty());
        let again = bench.node.people.callers().verify(&token, "other").await.unwrap_err();
        assert_eq!(again.refusal(), Some(Refusal::Audience));
    });
}

#[test]
fn plain_and_typed_access_tokens_are_taken() {
    run(async {
        let bench = Bench::new("").await;
        for header in [
            json!({ "typ": "at+jwt" }),
            json!({ "typ": "application/at+JWT" }),
            json!({ "typ": "JWT" }),
            json!({}),
        ] {
            let token = bench.token(header.clone(), json!({ "aud": ["x", API] })).await;
            let caller = bench.node.people.callers().verify(&token, API).await.unwrap();
            assert_eq!((caller.kind, caller.display.as_str()), (TokenKind::Access, "Alice"));
            assert_eq!(caller.groups, ["corp:engineering"]);
        }
    });
}

#[test]
fn a_token_for_another_audience_or_from_another_issuer() {
    run(async {
        let bench = Bench::new("").await;
        bench.refuses(json!({}), json!({ "aud": "https://elsewhere.example" }), Refusal::Audience).await;
        bench.refuses(json!({}), json!({ "aud": null }), Refusal::Claim("aud")).await;
        bench.refuses(json!({}), json!({ "aud": "https://api.example/" }), Refusal::Audience).await;
        bench.refuses(json!({}), json!({ "iss": "https://evil.example" }), Refusal::Issuer).await;
        bench.refuses(json!({}), json!({ "iss": null }), Refusal::Issuer).await;
        // An audience that configuration does not list is nobody's, even if token and asker agree on it.
        let token = bench.token(json!({}), json!({ "aud": "writ-db" })).await;
        let refused = bench.node.people.callers().verify(&token, "writ-db").await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Audience));
        // An issuer without audiences takes no callers at all.
        let node = Node::open(&bench.provider.configured("")).await;
        let token = bench.token(json!({}), json!({})).await;
        assert_eq!(
            node.people.callers().verify(&token, API).await.unwrap_err().refusal(),
            Some(Refusal::Audience)
        );
    });
}

#[test]
fn one_issuers_key_never_proves_anothers_human() {
    run(async {
        let (one, two) = (Provider::start(), Provider::start());
        let configuration = format!(
            "{}{}",
            one.configured(&format!("audiences = [\"{API}\"]")),
            two.configured(&format!("audiences = [\"{API}\"]")).replace("\"corp\"", "\"partner\"")
        );
        let node = Node::open(&configuration).await;
        let now = node.clock.now().seconds();
        let claims =
            |issuer: &str| json!({ "iss": issuer, "sub": "alice", "aud": API, "iat": now, "exp": now + 600 });
        let callers = node.people.callers();
        let right = two.sign("RS256", json!({}), claims(&two.url)).await;
        assert_eq!(&*callers.verify(&right, API).await.unwrap().issuer, "partner");
        let mixed = two.sign("RS256", json!({}), claims(&one.url)).await;
        assert_eq!(callers.verify(&mixed, API).await.unwrap_err().refusal(), Some(Refusal::Signature));
    });
}

#[test]
fn an_id_token_is_no_access_token() {
    run(async {
        let bench = Bench::new("").await;
        let real = bench.provider.id_token("alice").await;
        let refused = bench.node.people.callers().verify(&real, API).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Kind));
        // Even if its audience fits.
        for mark in ["nonce", "at_hash", "c_hash", "s_hash"] {
            bench.refuses(json!({}), json!({ mark: "x" }), Refusal::Kind).await;
            bench.refuses(json!({ "typ": "at+jwt" }), json!({ mark: "x" }), Refusal::Kind).await;
        }
        bench.refuses(json!({}), json!({ "typ": "ID" }), Refusal::Kind).await;
        for kind in ["secevent+jwt", "logout+jwt", "dpop+jwt", "wit+jwt"] {
            bench.refuses(json!({ "typ": kind }), json!({}), Refusal::Kind).await;
        }
        bench.refuses(json!({}), json!({ "events": {} }), Refusal::Kind).await;
        bench.refuses(json!({}), json!({ "typ": "Refresh" }), Refusal::Kind).await;
    });
}

#[test]
fn id_tokens_are_taken_where_configuration_says_so() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("audiences = [\"app\"]\ncaller_id_tokens = true")).await;
        let token = provider.id_token("alice").await;
        let caller = node.people.callers().verify(&token, "app").await.unwrap();
        assert_eq!((caller.kind, caller.subject.as_str()), (TokenKind::Id, "alice"));
        let refused = node.people.callers().verify(&token, "writ").await.unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Audience));
    });
}

#[test]
fn a_token_out_of_time_bound_or_without_a_human() {
    run(async {
        let bench = Bench::new("").await;
        let now = bench.node.clock.now().seconds();
        let plain = json!({});
        bench.refuses(plain.clone(), json!({ "exp": now - 61 }), Refusal::Expired).await;
        bench.refuses(plain.clone(), json!({ "exp": null }), Refusal::Claim("exp")).await;
        bench.refuses(plain.clone(), json!({ "iat": null }), Refusal::Claim("iat")).await;
        bench
            .refuses(plain.clone(), json!({ "iat": now - 8 * 86_400, "exp": now + 60 }), Refusal::Expired)
            .await;
        bench.refuses(plain.clone(), json!({ "nbf": now + 300 }), Refusal::NotYet).await;
        bench.refuses(plain.clone(), json!({ "cnf": { "jkt": "x" } }), Refusal::Bound).await;
        bench.refuses(plain.clone(), json!({ "sub": "app" }), Refusal::NoHuman).await;
        bench.refuses(plain.clone(), json!({ "sub": null }), Refusal::Claim("sub")).await;
        bench.refuses(json!({ "typ": "at+jwt" }), json!({ "jti": null }), Refusal::Claim("jti")).await;
        bench
            .refuses(json!({ "typ": "at+jwt" }), json!({ "client_id": null }), Refusal::Claim("client_id"))
            .await;
    });
}

#[test]
fn algorithm_tricks_of_callers_ask_nobody() {
    run(async {
        let bench = Bench::new("").await;
        let callers = bench.node.people.callers();
        let good = bench.token(json!({}), json!({})).await;
        let payload = good.split('.').nth(1).unwrap();
        // {"alg":"none"} and {"alg":"HS256","kid":"key-RS256"}
        for head in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiIsImtpZCI6ImtleS1SUzI1NiJ9"] {
            for signature in ["", "AAAA"] {
                let refused =
                    callers.verify(&format!("{head}.{payload}.{signature}"), API).await.unwrap_err();
                assert_eq!(refused.refusal(), Some(Refusal::Algorithm));
            }
        }
        for (name, value) in [("jku", json!("x")), ("jwk", json!({})), ("x5u", json!("x"))] {
            bench.refuses(json!({ name: value }), json!({}), Refusal::Header(name)).await;
        }
        assert_eq!(bench.provider.count("/jwks").await, 0);
        assert!(callers.verify(&"x".repeat(100_000), API).await.is_err());
    });
}

#[test]
fn a_revoked_humans_tokens_of_before_are_worth_nothing_also_after_a_restart() {
    run(async {
        let mut bench = Bench::new("").await;
        let old = bench.token(json!({}), json!({})).await;
        let others = bench.token(json!({}), json!({ "sub": "bob" })).await;
        let human = bench.node.people.callers().verify(&old, API).await.unwrap().human;
        bench.node.sign_in(&bench.provider, "alice", owner(1000, 7)).await;
        let refresh = bench.node.record(1000, 7).unwrap()["refresh"].as_str().unwrap().to_owned();
        bench.node.people.revoke(&human).await.unwrap();
        assert_eq!(bench.node.ended(), [(Some(owner(1000, 7)), "revoked"), (None, "revoked")]);
        assert!(bench.node.people.who(1000, Some(7)).is_none());
        // The issuer gets back what it gave, without anybody having waited for it.
        assert!(bench.provider.is_active(&refresh).await);
        bench.node.people.tend_once().await;
        assert!(!bench.provider.is_active(&refresh).await);
        bench.node.restart("boot-1").await;
        let callers = bench.node.people.callers();
        assert_eq!(callers.verify(&old, API).await.unwrap_err().refusal(), Some(Refusal::Revoked));
        callers.verify(&others, API).await.unwrap();
        bench.node.clock.advance(Duration::from_secs(5));
        let new = bench.token(json!({}), json!({})).await;
        callers.verify(&new, API).await.unwrap();
    });
}
