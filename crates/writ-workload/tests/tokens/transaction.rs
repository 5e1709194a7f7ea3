//! Transaction tokens: made once, replaced at every hop.

use std::time::Duration;

use serde_json::json;
use writ_core::{Clock, SpiffeId};

use crate::site::{DOMAIN, Fields, Site, claims, human_id, run_id, with};

const TXN: &str = "urn:ietf:params:oauth:token-type:txn_token";

fn replacing(site: &Site, token: &str, run: &SpiffeId) -> Fields {
    with(site.transaction(token, run), "subject_token_type", TXN)
}

#[tokio::test]
async fn a_transaction_keeps_its_name_its_human_and_its_details_from_hop_to_hop() {
    let (site, _session) = Site::with_alice().await;
    site.live.open(&site.draft("planner", 2, "alice"));
    let (one, two) = (run_id("coder", 1), run_id("planner", 2));
    let fields = site.transaction(&site.people.token("alice"), &one);
    let fields = with(fields, "request_details", r#"{"order":7}"#);
    let fields = with(with(fields, "request_context", r#"{"ip":"192.0.2.1"}"#), "scope", "read write");
    let answer = site.token(&fields).await;
    let first = claims(&answer.token());
    assert_eq!((&answer.body["token_type"], &answer.body["issued_token_type"]), (&json!("N_A"), &json!(TXN)));
    assert_eq!((&first["aud"], &first["sub"]), (&json!(DOMAIN), &json!(human_id("alice").as_str())));
    assert_eq!((&first["req_wl"], &first["scope"]), (&json!(one.as_str()), &json!("read write")));
    assert_eq!((&first["tctx"], &first["rctx"]), (&json!({ "order": 7 }), &json!({ "ip": "192.0.2.1" })));
    assert_eq!(first["act"], json!({ "sub": one.as_str() }));
    site.clock.advance(Duration::from_secs(30));
    let next = site.token(&replacing(&site, &answer.token(), &two)).await.token();
    let second = claims(&next);
    for same in ["txn", "sub", "aud", "tctx", "rctx"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!((&second["req_wl"], &second["scope"]), (&json!(two.as_str()), &json!("read")));
    assert_eq!(second["act"], json!({ "sub": two.as_str(), "act": { "sub": one.as_str() } }));
    assert_eq!(second["exp"], first["exp"], "never later than the one that it replaces");
    let issued = site.log.issued();
    assert_eq!(issued.iter().map(|one| one.form.as_str()).collect::<Vec<_>>(), ["txn-token"; 2]);
    assert!(issued.iter().all(|one| json!(one.serial) == first["txn"] && one.audience == [DOMAIN]));
}

#[tokio::test]
async fn a_replacement_is_never_wider_later_or_about_something_else() {
    let (site, _session) = Site::with_alice().await;
    site.live.open(&site.draft("planner", 2, "alice"));
    site.live.open(&site.draft("planner", 3, "bob"));
    let two = run_id("planner", 2);
    let fields = site.transaction(&site.people.token("alice"), &run_id("coder", 1));
    let token = site.token(&with(fields, "request_details", r#"{"order":7}"#)).await.token();
    let replace = |name, value| with(replacing(&site, &token, &two), name, value);
    let rows = [
        ("a wider scope", "invalid_scope", replace("scope", "read write")),
        ("another scope", "invalid_scope", replace("scope", "write")),
        ("no scope", "invalid_request", replace("scope", "")),
        ("other details", "invalid_request", replace("request_details", r#"{"order":8}"#)),
        ("a context that it never had", "invalid_request", replace("request_context", r#"{"a":1}"#)),
        ("another audience", "invalid_target", replace("audience", "https://api.example")),
        ("another human's run", "invalid_grant", replacing(&site, &token, &run_id("planner", 3))),
    ];
    for (what, code, fields) in rows {
        site.token(&fields).await.is_refused(what, 400, code, &fields);
    }
    site.token(&replace("request_details", r#"{"order":7}"#)).await.token();
    site.clock.advance(Duration::from_mins(2));
    let fields = replacing(&site, &token, &two);
    site.token(&fields).await.is_refused("after its end", 400, "invalid_request", &fields);
}

#[tokio::test]
async fn the_end_of_a_hops_session_ends_what_was_issued_in_it() {
    let (site, session) = Site::with_alice().await;
    site.live.open(&site.draft("planner", 2, "alice"));
    let token = site.token(&site.transaction(&site.people.token("alice"), &run_id("coder", 1))).await.token();
    session.end(writ_gate::Cause::Exited);
    let fields = replacing(&site, &token, &run_id("planner", 2));
    site.token(&fields).await.is_refused("after the session", 400, "invalid_grant", &fields);
}

#[tokio::test]
async fn a_new_transaction_may_begin_with_an_access_token_of_ours() {
    let (site, _session) = Site::with_alice().await;
    let one = run_id("coder", 1);
    let access = site.token(&site.fields()).await.token();
    let txn = claims(&site.token(&site.transaction(&access, &one)).await.token());
    assert_eq!((&txn["sub"], &txn["scope"]), (&json!(human_id("alice").as_str()), &json!("read")));
    assert!(txn["exp"].as_u64().unwrap() <= site.clock.now().seconds() + 120);
    let wider = with(site.transaction(&access, &one), "scope", "read write");
    site.token(&wider).await.is_refused("wider than the access token", 400, "invalid_scope", &wider);
}
