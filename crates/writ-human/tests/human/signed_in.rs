//! What comes after a login: refresh, restart, sign-out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use writ_core::Clock;
use writ_human::LoginOwner;

use crate::support::{Node, Provider, owner, run};

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_sign_in_is_refreshed_before_its_end_and_the_token_rotates() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let first = node.sign_in(&provider, "alice", owner(1000, 7)).await;
        let stored = node.record(1000, 7).unwrap()["refresh"].clone();
        node.people.tend_once().await;
        assert_eq!(provider.count("/token").await, 1, "not due yet");
        node.clock.advance(Duration::from_mins(50));
        provider.ask("account", json!({ "name": "alice", "groups": ["moved"] })).await;
        node.people.tend_once().await;
        let second = node.people.who(1000, Some(7)).unwrap();
        assert!(second.expires > first.expires && second.since == first.since);
        assert_eq!(second.groups, ["corp:moved"]);
        assert_eq!(node.told.changed.lock().unwrap().len(), 1);
        let rotated = node.record(1000, 7).unwrap();
        assert!(rotated["refresh"].is_string() && rotated["refresh"] != stored);
        assert!(node.ended().is_empty());
        // And again, with the new token.
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).unwrap().expires > second.expires);
        assert_eq!(provider.count("/token").await, 3);
    });
}

#[test]
fn two_refreshes_race_on_one_single_use_refresh_token() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        node.sign_in(&provider, "alice", owner(1000, 7)).await;
        node.clock.advance(Duration::from_mins(50));
        // If two used it the provider would take the whole grant back.
        let all = (0..16).map(|_| node.people.tend_once());
        futures_util::future::join_all(all).await;
        assert_eq!(provider.count("/token").await, 2);
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some());
        assert!(node.ended().is_empty());
    });
}

#[test]
fn a_refused_refresh_signs_out() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let mine = owner(1000, 7);
        node.sign_in(&provider, "alice", mine).await;
        let token = node.record(1000, 7).unwrap()["refresh"].as_str().unwrap().to_owned();
        provider.revoke(&token).await;
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert_eq!(node.ended(), [(Some(mine), "refused")]);
        assert!(node.people.who(1000, Some(7)).is_none() && node.record(1000, 7).is_none());
        node.people.tend_once().await;
        assert_eq!(node.ended().len(), 1);
    });
}

#[test]
fn an_issuer_that_is_away_ends_nothing_before_the_time_is_over() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let mine = owner(1000, 7);
        node.sign_in(&provider, "alice", mine).await;
        provider.ask("fault", json!({ "path": "/token", "status": 503, "body": "later" })).await;
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some() && node.ended().is_empty());
        // Its time passes: nobody is answered for, whether told already or not.
        node.clock.advance(Duration::from_mins(11));
        assert!(node.people.who(1000, Some(7)).is_none());
        node.people.tend_once().await;
        node.people.tend_once().await;
        assert_eq!(node.ended(), [(Some(mine), "expired")]);
        // The issuer is back: so is the sign-in, without a login.
        provider.ask("mend", json!({})).await;
        node.clock.advance(Duration::from_mins(10));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some());
        assert_eq!(node.told.changed.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_refresh_that_speaks_of_another_human_ends_it() {
    run(async {
        let provider = Provider::start();
        for changes in
            [json!({ "sub": "bob" }), json!({ "iss": "https://evil.example" }), json!({ "nonce": "other" })]
        {
            let node = Node::open(&provider.configured("")).await;
            let mine = owner(1000, 7);
            node.sign_in(&provider, "alice", mine).await;
            node.clock.advance(Duration::from_mins(50));
            let now = node.clock.now().seconds();
            let mut claims =
                json!({ "iss": provider.url, "sub": "alice", "aud": "writ", "iat": now, "exp": now + 600 });
            claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let token = provider.sign("RS256", json!({}), claims).await;
            provider.next_id_token(&token).await;
            node.people.tend_once().await;
            assert_eq!(node.ended(), [(Some(mine), "refused")], "{changes}");
        }
    });
}

#[test]
fn without_a_refresh_token_it_ends_with_its_tokens() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("scopes = [\"openid\", \"profile\"]")).await;
        let mine = owner(1000, 7);
        let shown = node.sign_in(&provider, "alice", mine).await;
        assert_eq!(shown.expires.since(shown.since).as_secs().div_ceil(60), 60);
        node.clock.advance(Duration::from_mins(55));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some());
        node.clock.advance(Duration::from_mins(6));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_none() && node.record(1000, 7).is_none());
        assert_eq!(node.ended(), [(Some(mine), "expired")]);
    });
}

#[test]
fn a_restart_of_the_daemon_keeps_who_is_signed_in_and_one_of_the_machine_does_not() {
    run(async {
        let provider = Provider::start();
        let mut node = Node::open(&provider.configured("")).await;
        let alone = LoginOwner { uid: 1002, login_uid: None, audit_session: None };
        let shown = node.sign_in(&provider, "alice", owner(1000, 7)).await;
        node.sign_in(&provider, "bob", alone).await;
        node.restart("boot-1").await;
        assert_eq!(node.people.who(1000, Some(7)).unwrap(), shown);
        assert_eq!(node.people.all().len(), 2);
        // Refreshing goes on with what was kept, and after a long night too.
        node.clock.advance(3 * HOUR);
        assert!(node.people.who(1000, Some(7)).is_none());
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some());
        assert!(node.ended().is_empty());
        // Audit sessions are numbered anew when the machine starts: session 7 is somebody else's then.
        node.restart("boot-2").await;
        assert!(node.people.who(1000, Some(7)).is_none() && node.record(1000, 7).is_none());
        assert!(node.people.who(1002, None).is_some());
    });
}

#[test]
fn a_new_refresh_token_that_cannot_be_stored_is_not_used() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        node.sign_in(&provider, "alice", owner(1000, 7)).await;
        let stored = node.record(1000, 7).unwrap()["refresh"].clone();
        node.files.broken.store(1, Ordering::SeqCst);
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert!(node.people.who(1000, Some(7)).is_some());
        assert_eq!(node.record(1000, 7).unwrap()["refresh"], stored);
        let asked = provider.count("/token").await;
        node.clock.advance(Duration::from_mins(50));
        node.people.tend_once().await;
        assert_eq!(provider.count("/token").await, asked, "it was used before it was stored");
        node.files.broken.store(0, Ordering::SeqCst);
        node.clock.advance(Duration::from_secs(5));
        node.people.tend_once().await;
        assert_eq!(provider.count("/token").await, asked + 1);
        assert!(
            node.people.who(1000, Some(7)).is_some() && node.record(1000, 7).unwrap()["refresh"] != stored
        );
    });
}

#[test]
fn signing_out_takes_everything_back() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let mine = owner(1000, 7);
        node.sign_in(&provider, "alice", mine).await;
        let token = node.record(1000, 7).unwrap()["refresh"].as_str().unwrap().to_owned();
        assert!(provider.is_active(&token).await);
        let out = node.people.sign_out(&mine).await.unwrap().unwrap();
        assert!(out.revoked && !provider.is_active(&token).await);
        assert_eq!(out.end_session.unwrap(), format!("{}/session/end?client_id=writ", provider.url));
        assert!(node.people.who(1000, Some(7)).is_none() && node.record(1000, 7).is_none());
        assert_eq!(node.ended(), [(Some(mine), "signed_out")]);
        assert!(node.people.sign_out(&mine).await.unwrap().is_none());
    });
}

#[test]
fn signing_out_works_while_the_issuer_is_away() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let mine = owner(1000, 7);
        node.sign_in(&provider, "alice", mine).await;
        drop(provider);
        let out = node.people.sign_out(&mine).await.unwrap().unwrap();
        assert!(!out.revoked && node.people.who(1000, Some(7)).is_none() && node.record(1000, 7).is_none());
    });
}

#[test]
fn another_human_in_the_same_login_session_takes_the_place() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let mine = owner(1000, 7);
        node.sign_in(&provider, "alice", mine).await;
        let token = node.record(1000, 7).unwrap()["refresh"].as_str().unwrap().to_owned();
        node.sign_in(&provider, "alice", mine).await;
        assert!(node.ended().is_empty(), "the same human again ends nothing");
        assert!(!provider.is_active(&token).await);
        node.sign_in(&provider, "bob", mine).await;
        assert_eq!(node.ended(), [(Some(mine), "replaced")]);
        assert_eq!(node.people.who(1000, Some(7)).unwrap().subject, "bob");
        assert_eq!(node.record(1000, 7).unwrap()["person"]["subject"], "bob");
    });
}

#[test]
fn what_the_id_token_lacks_is_asked_for_and_must_be_about_the_same_human() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("groups_claim = \"roles.corp\"")).await;
        let merge = json!({ "path": "/me", "times": 1, "merge": { "roles": { "corp": ["from-userinfo"] } } });
        provider.ask("fault", merge).await;
        let shown = node.sign_in(&provider, "alice", owner(1000, 7)).await;
        assert_eq!(shown.groups, ["corp:from-userinfo"]);
        provider.ask("fault", json!({ "path": "/me", "times": 1, "merge": { "sub": "bob" } })).await;
        let begun =
            node.people.logins().begin_browser(None, crate::support::REDIRECT, owner(1, 1)).await.unwrap();
        let query = crate::support::Browser::new(&provider).log_in(&begun.url, "alice").await.unwrap();
        let refused = node.people.logins().finish(&begun.id, &owner(1, 1), &query).await.unwrap_err();
        assert_eq!(refused.refusal(), Some(writ_human::Refusal::Subject));
    });
}
