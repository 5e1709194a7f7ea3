//! Generations of keys: published before they sign, and as long as anything of theirs is alive.

use std::time::Duration;

use serde_json::Value;
use writ_identity::{Authority, Change, Error, Invalid, validate};

use crate::support::{Node, example, workload};

fn kid(token: &str) -> String {
    use base64::Engine as _;
    let header = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// Ticks every half minute until something happens.
async fn until_change(node: &Node, authority: &Authority) -> Vec<Change> {
    for _ in 0..10_000 {
        node.clock.advance(Duration::from_secs(30));
        let changes = authority.tick(node.now()).await.unwrap();
        if !changes.is_empty() {
            return changes;
        }
    }
    panic!("nothing happened");
}

#[tokio::test]
async fn the_next_is_published_before_it_signs_and_the_old_one_until_its_last_svid_is_dead() {
    let (node, authority) = example().await;
    let begun = node.now();
    let (issuer, mut bundles) = (authority.issuer(), authority.bundles());
    let (id, audience) = (workload("example.org"), ["a".to_owned()]);
    let token = |limit| kid(issuer.jwt(&id, &audience, limit).unwrap().token.expose());
    let first = token(node.in_an_hour());
    bundles.mark_unchanged();

    let prepared = until_change(&node, &authority).await;
    assert!(matches!(prepared[..], [Change::Prepared { generation: 2, .. }]), "{prepared:?}");
    assert!(bundles.has_changed().unwrap(), "streams are told");
    let known = bundles.borrow_and_update().own().jwks();
    assert_eq!(token(node.in_an_hour()), first, "published, and does not sign yet");
    assert_eq!(bundles.borrow().own().sequence, Some(2));
    let at = node.now();
    // Half of a day, give or take a tenth of that, less the time that it is published ahead.
    let after = at.since(begun);
    assert!((Duration::from_mins(623)..Duration::from_mins(768)).contains(&after), "{after:?}");

    let activated = until_change(&node, &authority).await;
    assert_eq!(activated, [Change::Activated { generation: 2 }]);
    assert!(node.now().since(at) >= Duration::from_mins(25), "five refreshes ahead");
    let second = token(node.in_an_hour());
    assert!(second != first && known.contains(&second), "who polled in between knows it");
    assert!(!bundles.has_changed().unwrap(), "nothing to tell: it was published before");

    // What the first one signed in its last moment lives on, and the first one is published as long.
    let retired = node.now();
    let dropped = until_change(&node, &authority).await;
    assert_eq!(dropped, [Change::Dropped { generation: 1 }]);
    let linger = node.now().since(retired);
    assert!(linger >= Duration::from_hours(1) && linger < Duration::from_mins(63), "{linger:?}");
    let now = bundles.borrow_and_update().own().jwks();
    assert!(!now.contains(&first) && now.contains(&second));
    assert_eq!(bundles.borrow().own().sequence, Some(3));
}

#[tokio::test]
async fn everything_issued_is_believed_at_every_moment_of_its_life_for_three_days() {
    let (node, authority) = example().await;
    let (issuer, id, audience) = (authority.issuer(), workload("example.org"), ["a".to_owned()]);
    let mut alive = Vec::new();
    let mut generations = 1;
    for step in 0..3 * 24 * 4 {
        node.clock.advance(Duration::from_mins(15));
        let now = node.now();
        generations += authority
            .tick(now)
            .await
            .unwrap()
            .iter()
            .filter(|change| matches!(change, Change::Activated { .. }))
            .count();
        let bundles = authority.bundles().borrow().clone();
        let far = now.plus(Duration::from_hours(24));
        if step % 2 == 0 {
            alive.push((issuer.x509(&id, far).unwrap(), issuer.jwt(&id, &audience, far).unwrap()));
        }
        alive.retain(|(svid, _)| svid.not_after >= now);
        for (svid, token) in &alive {
            assert_eq!(validate::x509(&svid.chain, &bundles, now), Ok(id.clone()));
            let believed = validate::jwt(token.token.expose(), "a", &bundles, now);
            assert_eq!(believed.is_ok(), token.expires > now, "{believed:?}");
        }
    }
    assert!((6..=8).contains(&generations), "{generations} generations in three days");
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let svid = authority.issuer().x509(&id, node.in_an_hour()).unwrap();
    let token = authority.issuer().jwt(&id, &["a".to_owned()], node.in_an_hour()).unwrap();
    let before = authority.bundles().borrow().clone();
    drop(authority);
    node.clock.advance(Duration::from_mins(1));
    let authority = node.open().await;
    assert_eq!(*authority.bundles().borrow(), before);
    let bundles = authority.bundles().borrow().clone();
    assert_eq!(validate::x509(&svid.chain, &bundles, node.now()), Ok(id.clone()));
    validate::jwt(token.token.expose(), "a", &bundles, node.now()).unwrap();
    let again = authority.issuer().jwt(&id, &["a".to_owned()], node.in_an_hour()).unwrap();
    assert_eq!(kid(again.token.expose()), kid(token.token.expose()));
}

#[tokio::test]
async fn the_first_tick_says_what_opening_did() {
    let node = Node::new("example.org", "");
    let authority = node.try_open().await.unwrap();
    let changes = authority.tick(node.now()).await.unwrap();
    assert!(
        matches!(changes[..], [Change::Prepared { generation: 1, .. }, Change::Activated { generation: 1 }]),
        "{changes:?}"
    );
    assert!(authority.tick(node.now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_setting_that_changes_the_bundle_changes_its_sequence() {
    let (mut node, authority) = example().await;
    let before = authority.bundles().borrow().own().sequence;
    drop(authority);
    node.settings = Node::new("example.org", "[identity]\nwit = true\n").settings;
    for _ in 0..2 {
        let authority = node.open().await;
        assert_ne!(authority.bundles().borrow().own().wit_jwks(), r#"{"keys":[]}"#);
        assert_eq!(authority.bundles().borrow().own().sequence, before.map(|before| before + 1));
    }
}

#[tokio::test]
async fn a_node_that_slept_through_everything_signs_again_at_once() {
    let (node, authority) = example().await;
    node.clock.advance(Duration::from_hours(24 * 30));
    assert!(!authority.issuer().is_ready());
    let limit = node.in_an_hour();
    assert!(matches!(authority.issuer().x509(&workload("example.org"), limit), Err(Error::NotReady)));
    let changes = authority.tick(node.now()).await.unwrap();
    assert!(
        matches!(changes[..], [Change::Prepared { .. }, Change::Activated { generation: 2 }]),
        "{changes:?}"
    );
    let svid = authority.issuer().x509(&workload("example.org"), limit).unwrap();
    validate::x509(&svid.chain, &authority.bundles().borrow(), node.now()).unwrap();
}

#[tokio::test]
async fn what_cannot_be_stored_is_neither_published_nor_used() {
    let (node, authority) = example().await;
    let before = authority.bundles().borrow().clone();
    let first =
        authority.issuer().jwt(&workload("example.org"), &["a".to_owned()], node.in_an_hour()).unwrap();
    node.keep.break_down(true);
    node.clock.advance(Duration::from_hours(13));
    assert!(matches!(authority.tick(node.now()).await, Err(Error::Keep { .. })));
    assert_eq!(*authority.bundles().borrow(), before);
    let still =
        authority.issuer().jwt(&workload("example.org"), &["a".to_owned()], node.in_an_hour()).unwrap();
    assert_eq!(kid(still.token.expose()), kid(first.token.expose()), "what signs goes on signing");
    assert!(matches!(authority.replace(node.now()).await, Err(Error::Keep { .. })));
    assert_eq!(*authority.bundles().borrow(), before);
    node.keep.break_down(false);
    node.clock.advance(Duration::from_mins(1));
    assert!(!authority.tick(node.now()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_authority_that_cannot_store_does_not_begin() {
    let node = Node::new("example.org", "");
    node.keep.break_down(true);
    assert!(matches!(node.try_open().await, Err(Error::Keep { .. })));
}

#[tokio::test]
async fn replacing_makes_everything_before_worthless() {
    let (node, authority) = example().await;
    let id = workload("example.org");
    let svid = authority.issuer().x509(&id, node.in_an_hour()).unwrap();
    let token = authority.issuer().jwt(&id, &["a".to_owned()], node.in_an_hour()).unwrap();
    assert_eq!(authority.replace(node.now()).await.unwrap(), [Change::Activated { generation: 2 }]);
    let bundles = authority.bundles().borrow().clone();
    assert!(matches!(validate::x509(&svid.chain, &bundles, node.now()), Err(Invalid::Path(_))));
    let judged = validate::jwt(token.token.expose(), "a", &bundles, node.now());
    assert_eq!(judged, Err(Invalid::UnknownKey));
    let fresh = authority.issuer().x509(&id, node.in_an_hour()).unwrap();
    assert_eq!(validate::x509(&fresh.chain, &bundles, node.now()), Ok(id));
    drop(authority);
    assert_eq!(*node.open().await.bundles().borrow(), bundles, "and so it stays");
}

#[tokio::test]
async fn a_root_gives_way_to_another_before_it_ends() {
    let node = Node::new("example.org", "[identity]\nroot_ttl = \"10d\"\n");
    let authority = node.open().await;
    let first = authority.bundles().borrow().own().x509().to_vec();
    let mut most = 1;
    for _ in 0..8 * 24 {
        node.clock.advance(Duration::from_hours(1));
        authority.tick(node.now()).await.unwrap();
        most = most.max(authority.bundles().borrow().own().x509().len());
    }
    let last = authority.bundles().borrow().own().x509().to_vec();
    assert_eq!((first.len(), most, last.len()), (1, 2, 1), "two for a while");
    assert_ne!(first, last);
}

#[tokio::test]
async fn kept_keys_that_are_damaged_or_of_another_domain_are_an_error() {
    let (node, authority) = example().await;
    drop(authority);
    let good = node.keep.get("identity-generations").unwrap();
    for end in [0, 1, 5, 40, good.len() - 1] {
        node.keep.put("identity-generations", good[..end].to_vec());
        assert!(matches!(node.try_open().await, Err(Error::Kept { .. })), "cut at {end}");
    }
    node.keep.put("identity-generations", good);
    let mut renamed = Node::new("other.org", "");
    renamed.keep = std::sync::Arc::clone(&node.keep);
    let refused = renamed.try_open().await.unwrap_err();
    assert!(refused.to_string().contains("hint:"), "{refused}");
}
