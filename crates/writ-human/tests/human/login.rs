//! Logging in with a browser.

use std::time::Duration;

use writ_human::{Error, LoginId};

use crate::support::{Browser, Node, Provider, REDIRECT, owner, parameter, run};

#[test]
fn a_browser_proves_a_human_to_one_login_session() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("groups = { engineering = \"eng\" }")).await;
        let shown = node.sign_in(&provider, "alice", owner(1000, 7)).await;
        assert_eq!(shown.human.to_string(), format!("oidc:{}#alice", provider.url));
        assert_eq!(
            (shown.display.as_str(), shown.email.as_deref()),
            ("Alice Example", Some("alice@example.com"))
        );
        assert_eq!(shown.groups, ["corp:all staff", "eng"]);
        assert_eq!((shown.owner, &*shown.issuer), (owner(1000, 7), "corp"));
        // The uid in that login session, and nobody else.
        assert_eq!(node.people.who(1000, Some(7)).unwrap(), shown);
        for (uid, session) in [(1000, Some(8)), (1000, None), (1001, Some(7)), (0, Some(7))] {
            assert!(node.people.who(uid, session).is_none());
        }
    });
}

#[test]
fn over_tls_with_roots_of_its_own_and_a_secret() {
    run(async {
        let provider = Provider::start_tls();
        let confidential = "client_id = \"writ:secret\"\nclient_secret = \"corp-oidc\"";
        let node = Node::open(&provider.configured(confidential)).await;
        let shown = node.sign_in(&provider, "bob", owner(1000, 7)).await;
        assert_eq!(shown.subject, "bob");
        // Without the roots there is no trust, and with plain HTTP there is not even a question.
        let other = provider
            .configured("")
            .lines()
            .filter(|line| !line.contains("ca_file"))
            .collect::<Vec<_>>()
            .join("\n");
        let node = Node::open(&other).await;
        let begun = node.people.logins().begin_browser(None, REDIRECT, owner(1000, 7)).await;
        assert!(matches!(begun, Err(Error::Unreachable { what: "no TLS that is trusted", .. })), "{begun:?}");
    });
}

#[test]
fn a_client_with_another_key_type_is_believed_too() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("client_id = \"writ-es\"")).await;
        assert_eq!(node.sign_in(&provider, "alice", owner(1, 1)).await.subject, "alice");
    });
}

#[test]
fn a_wrong_state_changes_nothing_and_a_login_is_used_once() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let logins = node.people.logins();
        let mine = owner(1000, 7);
        let begun = logins.begin_browser(None, REDIRECT, mine).await.unwrap();
        let query = Browser::new(&provider).log_in(&begun.url, "alice").await.unwrap();
        let wrong = query.replace(&parameter(&begun.url, "state"), "another");
        for bad in [wrong.as_str(), "code=x", "", &format!("{query}&state=again")] {
            let refused = logins.finish(&begun.id, &mine, bad).await;
            assert!(matches!(refused, Err(Error::Callback { .. })), "{bad}: {refused:?}");
        }
        // Another user, and the same user in another login session, cannot take it.
        for other in [owner(1001, 7), owner(1000, 8)] {
            assert!(matches!(logins.finish(&begun.id, &other, &query).await, Err(Error::UnknownLogin)));
        }
        assert!(node.people.who(1000, Some(7)).is_none());
        logins.finish(&begun.id, &mine, &query).await.unwrap();
        assert!(matches!(logins.finish(&begun.id, &mine, &query).await, Err(Error::UnknownLogin)));
    });
}

#[test]
fn issuer_mix_up_is_noticed_before_the_code_is_sent_anywhere() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let logins = node.people.logins();
        let mine = owner(1000, 7);
        let iss = |query: &str| query.split('&').find(|pair| pair.starts_with("iss=")).unwrap().to_owned();
        for forged in ["iss=https%3A%2F%2Fevil.example", "x=y"] {
            let begun = logins.begin_browser(None, REDIRECT, mine).await.unwrap();
            let query = Browser::new(&provider).log_in(&begun.url, "alice").await.unwrap();
            let query = query.replace(&iss(&query), forged);
            let refused = logins.finish(&begun.id, &mine, &query).await;
            assert!(matches!(refused, Err(Error::Callback { .. })), "{refused:?}");
        }
        assert_eq!(provider.count("/token").await, 0);
    });
}

#[test]
fn a_code_of_another_login_is_worth_nothing() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let logins = node.people.logins();
        let (victim, thief) = (owner(1000, 7), owner(1001, 8));
        let begun = logins.begin_browser(None, REDIRECT, victim).await.unwrap();
        let stolen = Browser::new(&provider).log_in(&begun.url, "alice").await.unwrap();
        let mine = logins.begin_browser(None, REDIRECT, thief).await.unwrap();
        // The thief's own state around the victim's code: PKCE makes it worthless.
        let query = stolen.replace(&parameter(&begun.url, "state"), &parameter(&mine.url, "state"));
        let refused = logins.finish(&mine.id, &thief, &query).await;
        assert!(matches!(&refused, Err(error) if error.code() == Some("invalid_grant")), "{refused:?}");
        assert!(node.people.who(1001, Some(8)).is_none());
    });
}

#[test]
fn a_human_may_refuse() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let begun = node.people.logins().begin_browser(None, REDIRECT, owner(1, 1)).await.unwrap();
        let query = Browser::new(&provider).refuse(&begun.url).await.unwrap();
        let refused = node.people.logins().finish(&begun.id, &owner(1, 1), &query).await;
        assert!(matches!(refused, Err(Error::Denied)), "{refused:?}");
    });
}

#[test]
fn logins_end_by_themselves_and_are_bounded() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let logins = node.people.logins();
        let mut begun = Vec::new();
        for _ in 0..writ_gate::limits::LOGINS_PER_UID_MAX {
            begun.push(logins.begin_browser(None, REDIRECT, owner(1000, 7)).await.unwrap());
        }
        assert!(matches!(
            logins.begin_browser(None, REDIRECT, owner(1000, 8)).await,
            Err(Error::Busy { .. })
        ));
        // Another user is not kept out, and a cancelled login makes room.
        logins.begin_browser(None, REDIRECT, owner(1001, 7)).await.unwrap();
        logins.cancel(&begun[0].id, &owner(1001, 7));
        assert!(logins.begin_browser(None, REDIRECT, owner(1000, 7)).await.is_err());
        logins.cancel(&begun[0].id, &owner(1000, 7));
        logins.begin_browser(None, REDIRECT, owner(1000, 7)).await.unwrap();
        let query = format!("code=x&state={}", parameter(&begun[1].url, "state"));
        node.clock.advance(writ_gate::limits::LOGIN_TIMEOUT + Duration::from_secs(1));
        let late = logins.finish(&begun[1].id, &owner(1000, 7), &query).await;
        assert!(matches!(late, Err(Error::LoginExpired)), "{late:?}");
        let never = logins.finish(&LoginId::from("never"), &owner(1000, 7), &query).await;
        assert!(matches!(never, Err(Error::UnknownLogin)));
    });
}

#[test]
fn only_known_issuers_and_loopback_addresses() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let logins = node.people.logins();
        let unknown = logins.begin_browser(Some("other"), REDIRECT, owner(1, 1)).await;
        assert!(unknown.unwrap_err().to_string().contains("`corp`"));
        assert!(logins.begin_browser(Some("corp"), REDIRECT, owner(1, 1)).await.is_ok());
        let away = logins.begin_browser(None, "http://attacker.example:80/", owner(1, 1)).await;
        assert!(matches!(away, Err(Error::Redirect { .. })));
    });
}

#[test]
fn an_issuer_that_describes_itself_as_another_is_not_asked() {
    run(async {
        let provider = Provider::start();
        let discovery = "/.well-known/openid-configuration";
        for (merge, what) in [
            (serde_json::json!({ "issuer": "https://evil.example" }), "another issuer"),
            (serde_json::json!({ "token_endpoint": "http://192.0.2.1/token" }), "a place"),
            (serde_json::json!({ "code_challenge_methods_supported": ["plain"] }), "PKCE"),
        ] {
            let node = Node::open(&provider.configured("")).await;
            provider.ask("fault", serde_json::json!({ "path": discovery, "times": 1, "merge": merge })).await;
            let refused = node.people.logins().begin_browser(None, REDIRECT, owner(1, 1)).await.unwrap_err();
            assert!(refused.to_string().contains(what), "{refused}");
        }
        // A redirect is not followed.
        let node = Node::open(&provider.configured("")).await;
        let to = format!("{}/.well-known/openid-configuration", provider.url);
        let fault =
            serde_json::json!({ "path": discovery, "times": 1, "status": 302, "location": to, "body": "" });
        provider.ask("fault", fault).await;
        let refused = node.people.logins().begin_browser(None, REDIRECT, owner(1, 1)).await.unwrap_err();
        assert!(refused.to_string().contains("status 302"), "{refused}");
    });
}
