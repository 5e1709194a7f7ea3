//! Logging in from another device.

use std::time::Duration;

use serde_json::json;
use writ_human::{DeviceLogin, Error};

use crate::support::{Browser, Node, Provider, owner, run};

const ENDPOINT: &str = "/token";

async fn begun(node: &Node) -> DeviceLogin {
    node.people.logins().begin_device(None, owner(1000, 7)).await.unwrap()
}

fn complete(login: &DeviceLogin) -> &str {
    login.verification_uri_complete.as_deref().unwrap()
}

async fn approved(provider: &Provider, login: &DeviceLogin, user: &str) {
    let page = Browser::new(provider).log_in(complete(login), user).await.unwrap_err();
    assert!(page.contains("Sign-in Success"), "{page}");
}

#[test]
fn another_device_proves_a_human() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let login = begun(&node).await;
        assert_eq!(login.verification_uri, format!("{}/device", provider.url));
        assert_eq!(login.interval, Duration::from_secs(5));
        let mut browser = Browser::new(&provider);
        let mine = owner(1000, 7);
        // The daemon asks while the human is still typing; the issuer says that it is pending.
        let (shown, page) = tokio::join!(
            node.people.logins().wait(&login.id, &mine),
            browser.log_in(complete(&login), "bob")
        );
        assert!(page.unwrap_err().contains("Sign-in Success"));
        let shown = shown.unwrap();
        assert_eq!((shown.subject.as_str(), shown.owner), ("bob", mine));
        assert!(node.paces.asked.lock().unwrap().len() > 1, "it was never pending");
        assert_eq!(node.people.who(1000, Some(7)), Some(shown));
        assert!(matches!(node.people.logins().wait(&login.id, &mine).await, Err(Error::UnknownLogin)));
    });
}

#[test]
fn slow_down_makes_it_slower_for_good() {
    run(async {
        let provider = Provider::start();
        let device = json!({ "path": "/device/auth", "times": 1, "merge": { "interval": 1 } });
        provider.ask("fault", device).await;
        let node = Node::open(&provider.configured("")).await;
        let login = begun(&node).await;
        assert_eq!(login.interval, Duration::from_secs(1));
        approved(&provider, &login, "alice").await;
        for error in ["authorization_pending", "slow_down", "authorization_pending", "slow_down"] {
            let fault = json!({ "path": ENDPOINT, "times": 1, "status": 400, "body": { "error": error } });
            provider.ask("fault", fault).await;
        }
        node.people.logins().wait(&login.id, &owner(1000, 7)).await.unwrap();
        let waits: Vec<u64> = node.paces.asked.lock().unwrap().iter().map(Duration::as_secs).collect();
        assert_eq!(waits, [1, 1, 6, 6, 11]);
    });
}

#[test]
fn denied_at_the_device_is_denied_here() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let login = begun(&node).await;
        Browser::new(&provider).refuse(complete(&login)).await.unwrap_err();
        let denied = node.people.logins().wait(&login.id, &owner(1000, 7)).await;
        assert!(matches!(denied, Err(Error::Denied)), "{denied:?}");
        assert!(node.people.who(1000, Some(7)).is_none());
    });
}

#[test]
fn a_code_that_ends_ends_the_login() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        // By the issuer's word.
        let login = begun(&node).await;
        let fault =
            json!({ "path": ENDPOINT, "times": 1, "status": 400, "body": { "error": "expired_token" } });
        provider.ask("fault", fault).await;
        let over = node.people.logins().wait(&login.id, &owner(1000, 7)).await;
        assert!(matches!(over, Err(Error::LoginExpired)), "{over:?}");
        // By its own time, without asking.
        let login = begun(&node).await;
        node.clock.advance(Duration::from_secs(601));
        let asked = provider.count(ENDPOINT).await;
        let over = node.people.logins().wait(&login.id, &owner(1000, 7)).await;
        assert!(matches!(over, Err(Error::LoginExpired)), "{over:?}");
        assert_eq!(provider.count(ENDPOINT).await, asked);
        // The provider's own clock says the same.
        provider.ask("lives", json!({ "device": 1 })).await;
        let login = begun(&node).await;
        let over = node.people.logins().wait(&login.id, &owner(1000, 7)).await;
        assert!(matches!(over, Err(Error::LoginExpired)), "{over:?}");
    });
}

#[test]
fn a_device_login_is_its_owners() {
    run(async {
        let provider = Provider::start();
        let node = Node::open(&provider.configured("")).await;
        let login = begun(&node).await;
        approved(&provider, &login, "alice").await;
        let logins = node.people.logins();
        for other in [owner(1001, 7), owner(1000, 8)] {
            assert!(matches!(logins.wait(&login.id, &other).await, Err(Error::UnknownLogin)));
        }
        let query = "code=x&state=y";
        assert!(matches!(logins.finish(&login.id, &owner(1000, 7), query).await, Err(Error::UnknownLogin)));
        logins.wait(&login.id, &owner(1000, 7)).await.unwrap();
    });
}
