//! Access tokens for humans and their runs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use writ_core::{ActsFor, Clock, SpiffeId};

use crate::site::{API, ISSUER, Site, claims, human_id, narrowed, parent, run_id, with};

#[tokio::test]
async fn a_run_gets_a_token_for_its_human_and_it_is_recorded_first() {
    let (site, session) = Site::with_alice().await;
    let answer = site.token(&site.fields()).await;
    let claims = claims(&answer.token());
    assert_eq!(claims["sub"], human_id("alice").as_str());
    assert_eq!(claims["act"], json!({ "sub": run_id("coder", 1).as_str() }));
    assert_eq!((&claims["client_id"], &claims["aud"]), (&json!(run_id("coder", 1).as_str()), &json!(API)));
    assert_eq!((&claims["iss"], &claims["scope"]), (&json!(ISSUER), &json!("read")));
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(answer.body["scope"], "read");
    assert!(answer.body.get("refresh_token").is_none());
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("cache-control: no-store") && head.contains("pragma: no-cache"), "{head}");
    let issued = site.log.issued();
    assert_eq!(issued.len(), 1);
    assert_eq!((issued[0].form.as_str(), &issued[0].audience), ("access-token", &vec![API.to_owned()]));
    assert_eq!((json!(issued[0].serial), &issued[0].actor), (claims["jti"].clone(), &session.actor()));
    assert_eq!(json!(issued[0].expires_us.seconds()), claims["exp"]);
    let again = site.token(&site.fields()).await;
    assert_ne!(crate::site::claims(&again.token())["jti"], claims["jti"]);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_issued() {
    let (site, _session) = Site::with_alice().await;
    site.log.full.store(true, Ordering::SeqCst);
    let answer = site.token(&site.fields()).await;
    assert_eq!((answer.status, answer.body), (503, json!({ "error": "temporarily_unavailable" })));
    site.log.full.store(false, Ordering::SeqCst);
    site.token(&site.fields()).await.token();
}

#[tokio::test]
async fn a_token_ends_with_whatever_ends_first() {
    let site = Site::new().await;
    let now = site.clock.now().seconds();
    let lives = async |fields| claims(&site.token(&fields).await.token())["exp"].as_u64().unwrap() - now;
    let short = |run: u8, seconds| {
        let mut facts = site.draft("coder", run, "alice");
        facts.expires = site.clock.now().plus(Duration::from_secs(seconds));
        site.live.open(&facts);
    };
    // A JWT-SVID holds for five minutes, the audience allows ten.
    short(1, 3_600);
    assert_eq!(lives(site.fields()).await, 300);
    short(2, 77);
    let alice = site.people.token("alice");
    assert_eq!(lives(site.exchange(&alice, &run_id("coder", 2))).await, 77);
    let mut brief = site.people.claims("alice");
    brief.insert("exp".to_owned(), (now + 33).into());
    assert_eq!(lives(site.exchange(&site.people.sign(&brief), &run_id("coder", 1))).await, 33);
    let fields = with(site.fields(), "audience", "https://coders.example");
    assert_eq!(lives(fields).await, 300);
    let txn = site.transaction(&alice, &run_id("coder", 1));
    assert_eq!(lives(txn).await, 120, "the audience's own limit");
}

#[tokio::test]
async fn the_runs_that_led_to_a_run_are_nested_inside_it() {
    let site = Site::new().await;
    let (root, middle) = (site.draft("planner", 1, "alice"), site.draft("coder", 2, "alice"));
    let mut child = site.draft("tester", 3, "alice");
    child.delegation.parents = vec![parent(&root), parent(&middle)];
    site.live.open(&root);
    site.live.open(&child);
    let nested = json!({
        "sub": run_id("tester", 3).as_str(),
        "act": { "sub": run_id("coder", 2).as_str(), "act": { "sub": run_id("planner", 1).as_str() } },
    });
    let alice = site.people.token("alice");
    let own = site.token(&site.exchange(&alice, &child.spiffe_id)).await.token();
    assert_eq!(claims(&own)["act"], nested);
    // The same run with its own token again is no hop.
    let again = site.token(&site.exchange(&own, &child.spiffe_id)).await.token();
    assert_eq!(claims(&again)["act"], nested);
    assert_eq!(claims(&again)["sub"], human_id("alice").as_str());
}

#[tokio::test]
async fn the_audience_of_a_token_may_go_on_with_it_and_nobody_else_may() {
    let (site, _session) = Site::with_alice().await;
    let token = site.token(&site.fields()).await.token();
    site.live.open(&site.draft("api", 2, "alice"));
    site.live.open(&site.draft("coder", 3, "alice"));
    let next = site.token(&site.exchange(&token, &run_id("api", 2))).await.token();
    let chain = json!({ "sub": run_id("api", 2).as_str(), "act": { "sub": run_id("coder", 1).as_str() } });
    assert_eq!(claims(&next)["act"], chain);
    let fields = site.exchange(&token, &run_id("coder", 3));
    site.token(&fields).await.is_refused("another run of the same human", 400, "invalid_grant", &fields);
}

#[tokio::test]
async fn a_handle_stands_for_the_caller_in_the_one_session_that_it_was_made_for() {
    let site = Site::new().await;
    let mut server = site.draft("server", 1, "owner");
    server.delegation.acts_for = ActsFor::Caller;
    site.live.open(&server);
    let alice = site.live.join(&server, "alice", 5);
    let bob = site.live.join(&server, "bob", 6);
    let handle = site.people.handle(&alice);
    let token = site.token(&site.exchange(&handle, &server.spiffe_id)).await.token();
    assert_eq!(claims(&token)["sub"], human_id("alice").as_str());
    assert_eq!(site.log.issued()[0].actor, alice.actor());
    assert!(bob.cause().is_none());
    // Another run gets nothing for it, the server nothing for its own starter.
    site.live.open(&site.draft("coder", 2, "alice"));
    let fields = site.exchange(&handle, &run_id("coder", 2));
    site.token(&fields).await.is_refused("another run's handle", 400, "invalid_request", &fields);
    let fields = site.exchange(&site.people.token("owner"), &server.spiffe_id);
    site.token(&fields).await.is_refused("the server itself", 400, "invalid_grant", &fields);
    alice.end(writ_gate::Cause::SignedOut);
    let fields = site.exchange(&handle, &server.spiffe_id);
    site.token(&fields).await.is_refused("a session that ended", 400, "invalid_grant", &fields);
}

#[tokio::test]
async fn a_run_that_has_nothing_of_its_human_names_them_and_nobody_else() {
    let site = Site::new().await;
    let named = |human: &str, run: &SpiffeId| {
        let subject = json!({ "sub": human_id(human).as_str() }).to_string();
        let typ = "urn:ietf:params:oauth:token-type:unsigned_json";
        with(site.exchange(&subject, run), "subject_token_type", typ)
    };
    let own = site.live.open(&site.draft("coder", 1, "alice"));
    let token = site.token(&named("alice", &run_id("coder", 1))).await.token();
    assert_eq!(claims(&token)["sub"], human_id("alice").as_str());
    assert_eq!(site.log.issued()[0].actor, own.actor());
    let fields = named("bob", &run_id("coder", 1));
    site.token(&fields).await.is_refused("another human", 400, "invalid_grant", &fields);
    // For a caller, what came with the request must be shown.
    let mut server = site.draft("server", 2, "owner");
    server.delegation.acts_for = ActsFor::Caller;
    site.live.open(&server);
    site.live.join(&server, "alice", 5);
    for human in ["alice", "owner"] {
        let fields = named(human, &server.spiffe_id);
        site.token(&fields).await.is_refused(human, 400, "invalid_grant", &fields);
    }
    for bad in ["{}", "x", r#"{"sub":"alice"}"#, r#"{"sub":"unix:a","sub":"unix:a"}"#] {
        let fields = with(named("alice", &run_id("coder", 1)), "subject_token", bad);
        site.token(&fields).await.is_refused(bad, 400, "invalid_request", &fields);
    }
}

#[tokio::test]
async fn a_session_that_is_narrowed_gets_no_more_than_its_grants_say() {
    let site = Site::new().await;
    let ask = async |run: u8, audience: &str, scope: &str| {
        let fields = site.exchange(&site.people.token("alice"), &run_id("coder", run));
        let answer = site.token(&with(with(fields, "audience", audience), "scope", scope)).await;
        answer.body["error"].as_str().map_or_else(|| answer.body["scope"].clone(), |error| json!(error))
    };
    site.live.open(&narrowed(site.draft("coder", 1, "alice"), &["github:acme/site:read"]));
    site.live.open(&narrowed(site.draft("coder", 2, "alice"), &["gitlab"]));
    site.live.open(&narrowed(site.draft("coder", 3, "alice"), &["github"]));
    assert_eq!(ask(1, API, "read").await, "invalid_scope", "what a scope means is not for us to say");
    assert_eq!(ask(2, API, "read").await, "invalid_target");
    assert_eq!(ask(3, API, "read").await, "read");
    let named = "github:acme/site:read";
    let mut claims = site.people.claims("alice");
    claims.insert("scope".to_owned(), named.into());
    let fields = site.exchange(&site.people.sign(&claims), &run_id("coder", 1));
    let fields = with(with(fields, "audience", "https://coders.example"), "scope", named);
    assert_eq!(site.token(&fields).await.body["scope"], named);
}

#[tokio::test]
async fn groups_are_told_where_the_configuration_says_so() {
    let (site, _session) = Site::with_alice().await;
    let mut alice = site.people.claims("alice");
    alice.insert("groups".to_owned(), json!(["staff"]));
    let alice = site.people.sign(&alice);
    let fields = site.exchange(&alice, &run_id("coder", 1));
    assert_eq!(claims(&site.token(&fields).await.token())["groups"], json!(["staff"]));
    let fields = with(fields, "audience", "https://coders.example");
    assert!(claims(&site.token(&fields).await.token()).get("groups").is_none());
}

#[tokio::test]
async fn without_a_scope_all_that_may_be_had_is_given() {
    let (site, _session) = Site::with_alice().await;
    let answer = site.token(&with(site.fields(), "scope", "")).await;
    assert_eq!(answer.body["scope"], "read write", "and not `admin`, which the audience does not have");
}

#[tokio::test]
async fn discovery_says_where_and_how() {
    let site = Site::new().await;
    for path in ["/idp/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/idp"] {
        let found = site.curl(path, Vec::new()).await.body;
        assert_eq!(found["issuer"], ISSUER, "{path}");
        assert_eq!(found["token_endpoint"], "https://localhost/idp/token");
        assert_eq!(found["introspection_endpoint"], "https://localhost/idp/introspect");
        assert_eq!(found["jwks_uri"], "https://localhost/idp/keys");
        assert_eq!(found["grant_types_supported"][0], "urn:ietf:params:oauth:grant-type:token-exchange");
        assert!(found["dpop_signing_alg_values_supported"].as_array().unwrap().contains(&json!("ES256")));
    }
    assert_eq!(site.curl("/idp/token", Vec::new()).await.status, 405);
}
