//! Introspection: whom it tells what, and how soon the end of a session is seen.

use std::time::Duration;

use serde_json::{Value, json};

use crate::site::{API, ISSUER, Site, human_id, run_id, with};

async fn is_inactive(site: &Site, what: &str, token: &str, svid: &str) {
    let answer = site.ask(token, svid).await;
    assert_eq!((answer.status, answer.body), (200, json!({ "active": false })), "{what}");
}

#[tokio::test]
async fn those_whom_a_token_concerns_are_told_and_others_learn_nothing() {
    let (site, _session) = Site::with_alice().await;
    site.live.open(&site.draft("coder", 2, "alice"));
    let (one, two, api) = (run_id("coder", 1), run_id("coder", 2), run_id("api", 9));
    let access = site.token(&site.fields()).await.token();
    let txn = site.token(&site.transaction(&site.people.token("alice"), &one)).await.token();
    let (one, two, api) = (site.svid(&one), site.svid(&two), site.svid(&api));
    let told = site.ask(&access, &api).await;
    assert!(told.head.to_ascii_lowercase().contains("cache-control: no-store"));
    let told = told.body;
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("Bearer")));
    assert_eq!((&told["sub"], &told["aud"]), (&json!(human_id("alice").as_str()), &json!(API)));
    assert_eq!((&told["iss"], &told["scope"]), (&json!(ISSUER), &json!("read")));
    assert_eq!(told["act"]["sub"], run_id("coder", 1).as_str());
    assert!(told["exp"].is_u64() && told["jti"].is_string() && told.get("sid").is_none());
    assert_eq!(site.ask(&access, &one).await.body["active"], true);
    is_inactive(&site, "another run", &access, &two).await;
    let told = site.ask(&txn, &two).await.body;
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("N_A")));
    assert!(told["txn"].is_string() && told["req_wl"].is_string());
    is_inactive(&site, "a transaction token, at an audience outside", &txn, &api).await;
    is_inactive(&site, "no token of ours", &site.people.token("alice"), &api).await;
    is_inactive(&site, "a JWT-SVID", &one, &one).await;
    is_inactive(&site, "no token at all", "x", &api).await;
}

#[tokio::test]
async fn the_end_of_the_session_is_seen_at_once() {
    let (site, session) = Site::with_alice().await;
    let api = site.svid(&run_id("api", 9));
    let access = site.token(&site.fields()).await.token();
    assert_eq!(site.ask(&access, &api).await.body["active"], true);
    // Another session of the same run and human does not keep it alive.
    let mut other = site.draft("coder", 1, "alice");
    other.id = writ_core::SessionId::from_bits(77);
    site.live.open(&other);
    session.end(writ_gate::Cause::Revoked);
    is_inactive(&site, "revoked", &access, &api).await;
    let next = site.token(&site.fields()).await.token();
    assert_eq!(site.ask(&next, &api).await.body["active"], true);
    site.clock.advance(Duration::from_secs(299));
    let api = site.svid(&run_id("api", 9));
    assert_eq!(site.ask(&next, &api).await.body["active"], true);
    site.clock.advance(Duration::from_secs(1));
    is_inactive(&site, "expired", &next, &api).await;
}

#[tokio::test]
async fn only_runs_and_audiences_may_ask() {
    let (site, session) = Site::with_alice().await;
    let access = site.token(&site.fields()).await.token();
    let one = run_id("coder", 1);
    let refused = async |what: &str, svid: &str| {
        let answer = site.ask(&access, svid).await;
        answer.is_refused(what, 401, "invalid_client", &vec![("token", access.clone())]);
        assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{what}");
    };
    refused("another audience", &site.svid_for(&one, API)).await;
    refused("a run that does not live", &site.svid(&run_id("coder", 8))).await;
    refused("an agent whose name begins like the audience's", &site.svid(&run_id("api2", 8))).await;
    refused("the token itself", &access).await;
    refused("nonsense", "x").await;
    let answer = site.post("/idp/introspect", &vec![("token", access.clone())], &[]).await;
    answer.is_refused("nobody", 401, "invalid_client", &vec![("token", access.clone())]);
    let basic = site.post("/idp/introspect", &vec![("token", access.clone())], &["-u", "a:b"]).await;
    assert_eq!(basic.status, 401);
    let header = format!("Authorization: Bearer {}", site.svid(&one));
    let nothing = site.post("/idp/introspect", &vec![("x", "y".to_owned())], &["-H", &header]).await;
    assert_eq!((nothing.status, nothing.body["error"].as_str()), (400, Some("invalid_request")));
    // By an assertion as well, and not in two ways at once.
    let assertion = vec![("token", access.clone()), ("client_assertion", site.svid(&one))];
    let typ = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
    let assertion = with(assertion, "client_assertion_type", typ);
    assert_eq!(site.post("/idp/introspect", &assertion, &[]).await.body["active"], true);
    let both = site.post("/idp/introspect", &assertion, &["-H", &header]).await;
    assert_eq!((both.status, both.body["error"].as_str()), (400, Some("invalid_request")));
    session.end(writ_gate::Cause::Exited);
    refused("a run that ended", &site.svid(&one)).await;
    let told: Value = site.ask(&access, &site.svid(&run_id("api", 9))).await.body;
    assert_eq!(told, json!({ "active": false }));
}
