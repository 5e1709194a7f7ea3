//! What is refused, and in which words. Each row is one change to a request that succeeds without it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use writ_core::Clock;

use crate::forge;
use crate::site::{Fields, ISSUER, Site, run_id, with};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID: &str = "urn:ietf:params:oauth:token-type:id_token";
const TXN: &str = "urn:ietf:params:oauth:token-type:txn_token";

/// Makes a bad token of a good one and our public keys.
type Forge = fn(&str, &[u8]) -> String;

async fn refused(site: &Site, rows: Vec<(&str, u16, &str, Fields)>) {
    site.token(&site.fields()).await.token();
    for (what, status, code, fields) in rows {
        site.token(&fields).await.is_refused(what, status, code, &fields);
    }
    assert_eq!(site.log.issued().len(), 1, "nothing was issued but the one that is good");
}

#[tokio::test]
async fn a_request_that_is_not_one() {
    let (site, _session) = Site::with_alice().await;
    let change = |name, value| with(site.fields(), name, value);
    let twice = [site.fields(), vec![("scope", "write".to_owned())]].concat();
    let rows = vec![
        ("no grant type", 400, "invalid_request", change("grant_type", "")),
        ("another grant type", 400, "unsupported_grant_type", change("grant_type", "client_credentials")),
        ("no subject token", 400, "invalid_request", change("subject_token", "")),
        ("no subject type", 400, "invalid_request", change("subject_token_type", "")),
        ("no actor", 401, "invalid_client", with(change("actor_token", ""), "actor_token_type", "")),
        ("no actor type", 400, "invalid_request", change("actor_token_type", "")),
        ("an actor type without its token", 400, "invalid_request", change("actor_token", "")),
        ("a parameter that stands twice", 400, "invalid_request", twice),
        ("a form that is not issued", 400, "invalid_request", change("requested_token_type", ID)),
        (
            "a refresh token",
            400,
            "invalid_request",
            change("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ),
        ("no audience", 400, "invalid_request", change("audience", "")),
        ("an audience that is not listed", 400, "invalid_target", change("audience", "https://evil.example")),
        ("the issuer itself", 400, "invalid_target", change("audience", ISSUER)),
        ("the trust domain, for an access token", 400, "invalid_target", change("audience", "example.org")),
        ("two audiences", 400, "invalid_target", change("resource", "https://coders.example")),
        ("a scope that is not listed", 400, "invalid_scope", change("scope", "admin")),
        ("a scope that is none", 400, "invalid_scope", change("scope", "read  write")),
        ("a context", 400, "invalid_request", change("request_details", "{\"a\":1}")),
    ];
    refused(&site, rows).await;
    let json = site.post("/idp/token", &site.fields(), &["-H", "Content-Type: application/json"]).await;
    assert_eq!((json.status, json.body["error"].as_str()), (400, Some("invalid_request")));
    let same = site.token(&change("resource", crate::site::API)).await;
    assert_eq!(same.status, 200, "the same one by both names: {same:?}");
}

#[tokio::test]
async fn token_substitution_is_refused() {
    let (site, _session) = Site::with_alice().await;
    site.live.open(&site.draft("coder", 2, "bob"));
    site.live.open(&site.draft("planner", 3, "alice"));
    let (alice, bob) = (site.people.token("alice"), site.people.token("bob"));
    let coders = |fields| with(fields, "audience", "https://coders.example");
    let both = |client: &str| {
        let svid = site.svid(&run_id("coder", 1));
        let typ = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
        let fields = with(site.fields(), "client_assertion", &svid);
        with(with(fields, "client_assertion_type", typ), "actor_token", client)
    };
    let mut only = site.people.claims("alice");
    only.insert("may_act".to_owned(), run_id("coder", 9).as_str().into());
    let only = site.people.sign(&only);
    let one = run_id("coder", 1);
    let rows = vec![
        ("the subject token of another human", 400, "invalid_grant", site.exchange(&bob, &one)),
        ("the actor of another run", 400, "invalid_grant", site.exchange(&alice, &run_id("coder", 2))),
        ("an actor that has no session", 400, "invalid_grant", site.exchange(&alice, &run_id("coder", 7))),
        (
            "an actor token that is not the client's",
            400,
            "invalid_grant",
            both(&site.svid(&run_id("coder", 2))),
        ),
        ("another actor than it names", 400, "invalid_grant", site.exchange(&only, &one)),
        (
            "an agent that is not listed",
            400,
            "invalid_target",
            coders(site.exchange(&alice, &run_id("planner", 3))),
        ),
        ("another client id", 401, "invalid_client", {
            with(both(&site.svid(&one)), "client_id", run_id("coder", 2).as_str())
        }),
    ];
    refused(&site, rows).await;
}

#[tokio::test]
async fn tokens_under_a_wrong_type_are_refused() {
    let (site, _session) = Site::with_alice().await;
    let one = run_id("coder", 1);
    let alice = site.people.token("alice");
    let access = site.token(&site.fields()).await.token();
    let txn = site.token(&site.transaction(&alice, &one)).await.token();
    let typed = |subject: &str, typ| with(site.exchange(subject, &one), "subject_token_type", typ);
    let svid = site.svid(&one);
    let rows = [
        ("an access token as ID token", typed(&alice, ID)),
        ("an access token as transaction token", typed(&alice, TXN)),
        ("our access token as transaction token", typed(&access, TXN)),
        ("our access token as ID token", typed(&access, ID)),
        ("our transaction token as access token", typed(&txn, ACCESS)),
        ("our transaction token for an access token", typed(&txn, TXN)),
        ("our access token that says it is a transaction token", {
            typed(&forge::reheaded(&access, &json!({ "typ": "txntoken+jwt" })), TXN)
        }),
        ("our transaction token that says it is an access token", {
            typed(&forge::reheaded(&txn, &json!({ "typ": "at+jwt" })), ACCESS)
        }),
        ("a JWT-SVID as subject", typed(&svid, ACCESS)),
        ("an access token as actor", with(site.fields(), "actor_token", &access)),
        ("a transaction token as actor", with(site.fields(), "actor_token", &txn)),
        ("the human's token as actor", with(site.fields(), "actor_token", &alice)),
        ("an actor token that is called an access token", with(site.fields(), "actor_token_type", ACCESS)),
    ];
    for (what, fields) in rows {
        site.token(&fields).await.is_refused(what, 400, "invalid_request", &fields);
    }
    assert_eq!(site.log.issued().len(), 2);
}

#[tokio::test]
async fn tokens_that_are_expired_or_for_others_are_refused() {
    let (site, _session) = Site::with_alice().await;
    let one = run_id("coder", 1);
    let mut elsewhere = site.people.claims("alice");
    elsewhere.insert("aud".to_owned(), json!(["https://other.example"]));
    let elsewhere = site.exchange(&site.people.sign(&elsewhere), &one);
    let stranger = with(site.fields(), "actor_token", &site.svid_for(&one, "https://other.example"));
    let mut early = site.people.claims("alice");
    early.insert("nbf".to_owned(), (site.clock.now().seconds() + 300).into());
    let early = site.exchange(&site.people.sign(&early), &one);
    let rows = vec![
        ("a subject token for others", 400, "invalid_request", elsewhere),
        ("a subject token that has not begun", 400, "invalid_request", early),
        ("an actor token for others", 400, "invalid_request", stranger),
    ];
    let (old, access) = (site.fields(), site.people.token("alice"));
    refused(&site, rows).await;
    site.clock.advance(Duration::from_mins(5));
    site.token(&old).await.is_refused("an actor token that ends now", 400, "invalid_request", &old);
    site.clock.advance(Duration::from_mins(5));
    let fields = site.exchange(&access, &one);
    site.token(&fields).await.is_refused("a subject token that ends now", 400, "invalid_request", &fields);
    site.clock.advance(Duration::from_mins(50));
    let fields = site.fields();
    site.token(&fields).await.is_refused("a session that ends now", 400, "invalid_grant", &fields);
}

#[tokio::test]
async fn tricks_with_algorithms_and_signatures_are_refused() {
    let (site, _session) = Site::with_alice().await;
    let one = run_id("coder", 1);
    let (alice, svid) = (site.people.token("alice"), site.svid(&one));
    let access = site.token(&site.fields()).await.token();
    let keys = site.curl("/idp/keys", Vec::new()).await.body.to_string();
    let bob = json!({ "sub": "oidc:https://id.example#bob", "scope": "read write admin" });
    let forged: [(&str, Forge); 4] = [
        ("none", |token, _| forge::unsigned(token)),
        ("HS256", forge::symmetric),
        ("a key of its own", |token, _| forge::reheaded(token, &json!({ "jwk": forge::Key::new().jwk() }))),
        ("another kid", |token, _| forge::reheaded(token, &json!({ "kid": "x" }))),
    ];
    for (what, forge) in forged {
        for token in [&alice, &access] {
            let fields = site.exchange(&forge(token, keys.as_bytes()), &one);
            site.token(&fields).await.is_refused(what, 400, "invalid_request", &fields);
        }
        let fields = with(site.fields(), "actor_token", &forge(&svid, keys.as_bytes()));
        site.token(&fields).await.is_refused(what, 400, "invalid_request", &fields);
        let answer = site.ask(&forge(&access, keys.as_bytes()), &svid).await;
        assert_eq!(answer.body, json!({ "active": false }), "{what}");
    }
    for token in [&alice, &access] {
        let fields = site.exchange(&forge::reclaimed(token, &bob), &one);
        site.token(&fields).await.is_refused("other claims", 400, "invalid_request", &fields);
    }
    let other = forge::reclaimed(&svid, &json!({ "sub": run_id("coder", 2).as_str() }));
    let fields = with(site.fields(), "actor_token", &other);
    site.token(&fields).await.is_refused("another run", 400, "invalid_request", &fields);
    assert_eq!(site.log.issued().len(), 1);
}

#[tokio::test]
async fn a_session_that_ended_gives_nothing_and_its_tokens_lead_nowhere() {
    let (site, session) = Site::with_alice().await;
    let access = site.token(&site.fields()).await.token();
    session.end(writ_gate::Cause::Revoked);
    let fields = site.fields();
    site.token(&fields).await.is_refused("the run itself", 400, "invalid_grant", &fields);
    site.live.open(&site.draft("api", 2, "alice"));
    let fields = site.exchange(&access, &run_id("api", 2));
    site.token(&fields).await.is_refused("who got its token", 400, "invalid_grant", &fields);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_not_a_refusal_for_ever() {
    let (site, _session) = Site::with_alice().await;
    site.people.silent.store(true, Ordering::SeqCst);
    let answer = site.token(&site.fields()).await;
    assert_eq!((answer.status, answer.body), (503, json!({ "error": "temporarily_unavailable" })));
}

#[tokio::test]
async fn a_chain_that_grows_without_end_is_refused() {
    let site = Site::new().await;
    let mut facts = site.draft("coder", 99, "alice");
    let before = (1..99).map(|run| crate::site::parent(&site.draft("coder", run, "alice")));
    facts.delegation.parents = before.collect();
    site.live.open(&facts);
    let fields = site.exchange(&site.people.token("alice"), &facts.spiffe_id);
    site.token(&fields).await.is_refused("too long", 400, "invalid_request", &fields);
}
