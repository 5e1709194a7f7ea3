//! X.509 as the crate `spiffe` takes it.

use std::time::Duration;

use futures_util::StreamExt;
use spiffe::{TrustDomain, X509Source};
use tonic::Code;
use writ_identity::{split, validate};
use writ_workload::proto::{X509BundlesRequest, X509svidRequest};

use crate::world::{DOMAIN, World, entitled, meant, now, run_id, settings, soon};

#[tokio::test]
async fn an_svid_comes_at_once_with_its_key_and_everybodys_roots() {
    let world = World::new().await;
    world.entitle_me();
    let other = world.federate("other.example").await;
    let client = world.spiffe().await;
    let context = soon("the context", client.fetch_x509_context()).await.unwrap();
    let svid = context.default_svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), run_id("coder", 1).as_str());
    assert_eq!(svid.cert_chain().len(), 2, "leaf and intermediate, no root");
    let chain: Vec<_> = svid.cert_chain().iter().map(|one| one.as_bytes().to_vec().into()).collect();
    let bundles = world.parts.bundles.borrow().clone();
    assert_eq!(validate::x509(&chain, &bundles, now()).unwrap(), run_id("coder", 1));
    let own = context.bundle_set().get(&TrustDomain::new(DOMAIN).unwrap()).unwrap();
    assert_eq!(own.authorities()[0].as_bytes(), &*bundles.own().x509()[0]);
    let theirs = context.bundle_set().get(&TrustDomain::new("other.example").unwrap()).unwrap();
    assert_eq!(theirs.authorities()[0].as_bytes(), &*other.bundles().borrow().own().x509()[0]);
    let sets = soon("the bundles", client.fetch_x509_bundles()).await.unwrap();
    assert_eq!(sets.len(), 2);
}

#[tokio::test]
async fn an_svid_is_renewed_at_half_of_its_life() {
    let mut short = settings("");
    // It begins ten seconds in the past, so that half of its life is over in about a second.
    short.lifetimes.x509 = Duration::from_secs(12);
    let world = World::with(short).await;
    world.entitle_me();
    let client = world.spiffe().await;
    let mut svids = client.stream_x509_svids().await.unwrap();
    let first = soon("the first", svids.next()).await.unwrap().unwrap();
    let second = soon("the second", svids.next()).await.unwrap().unwrap();
    let third = soon("the third", svids.next()).await.unwrap().unwrap();
    assert_eq!(first.spiffe_id(), second.spiffe_id());
    let leaf = |svid: &spiffe::X509Svid| svid.leaf().as_bytes().to_vec();
    assert!(leaf(&first) != leaf(&second) && leaf(&second) != leaf(&third));
    assert_ne!(first.private_key().as_bytes(), second.private_key().as_bytes());
}

#[tokio::test]
async fn what_ends_with_its_session_is_not_renewed_again_and_again() {
    let world = World::new().await;
    let mut brief = entitled("coder", 1);
    brief.expires = now().plus(Duration::from_secs(2));
    world.processes.entitle(std::process::id(), &[brief]);
    let mut client = world.raw().await;
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    soon("the first", svids.message()).await.unwrap().unwrap();
    // The next word is the end of the session, by its own time.
    let end = soon("the end", svids.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_new_root_reaches_every_stream_with_svids_that_it_vouches_for() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    let mut roots = client.fetch_x509_bundles(meant(X509BundlesRequest {})).await.unwrap().into_inner();
    let before = soon("svids", svids.message()).await.unwrap().unwrap();
    let roots_before = soon("roots", roots.message()).await.unwrap().unwrap();
    world.authority.replace(now()).await.unwrap();
    let after = soon("new svids", svids.message()).await.unwrap().unwrap();
    let roots_after = soon("new roots", roots.message()).await.unwrap().unwrap();
    assert_ne!(before.svids[0].bundle, after.svids[0].bundle);
    assert_ne!(roots_before, roots_after);
    assert_eq!(roots_after.bundles[&format!("spiffe://{DOMAIN}")], after.svids[0].bundle);
    let bundles = world.parts.bundles.borrow().clone();
    let chain = |der: &[u8]| split(der).unwrap();
    assert!(validate::x509(&chain(&after.svids[0].x509_svid), &bundles, now()).is_ok());
    assert!(validate::x509(&chain(&before.svids[0].x509_svid), &bundles, now()).is_err());
}

#[tokio::test]
async fn a_source_follows_rotation_and_federation() {
    let world = World::new().await;
    world.entitle_me();
    let source = X509Source::builder().endpoint(world.endpoint()).build();
    let source = soon("the source", source).await.unwrap();
    let before = source.svid().unwrap();
    let mut updates = source.updated();
    world.authority.replace(now()).await.unwrap();
    soon("the rotation", updates.changed()).await.unwrap();
    assert_ne!(source.svid().unwrap().leaf().as_bytes(), before.leaf().as_bytes());
    let other = TrustDomain::new("other.example").unwrap();
    assert!(source.try_bundle_for_trust_domain(&other).is_none());
    world.federate("other.example").await;
    soon("the federation", updates.changed()).await.unwrap();
    assert!(source.try_bundle_for_trust_domain(&other).is_some());
    world.authority.publication().remove(&writ_core::TrustDomain::new("other.example").unwrap());
    soon("the end of the federation", updates.changed()).await.unwrap();
    assert!(source.try_bundle_for_trust_domain(&other).is_none(), "absence is redaction");
    source.shutdown().await;
}

#[tokio::test]
async fn a_change_that_does_not_concern_a_stream_is_not_told_to_it() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let mut roots = client.fetch_x509_bundles(meant(X509BundlesRequest {})).await.unwrap().into_inner();
    soon("roots", roots.message()).await.unwrap().unwrap();
    // The same roots under another sequence number; then something that does concern it.
    let mut same = world.parts.bundles.borrow().own().as_ref().clone();
    same.sequence = Some(4_711);
    world.authority.publication().set(same);
    world.processes.entitle(std::process::id(), &[entitled("coder", 2)]);
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    soon("svids", svids.message()).await.unwrap().unwrap();
    world.federate("other.example").await;
    let next = soon("the next", roots.message()).await.unwrap().unwrap();
    assert_eq!(next.bundles.len(), 2, "nothing was said in between");
}

#[tokio::test]
async fn changed_registrations_are_streamed_and_hints_are_unique() {
    let world = World::new().await;
    let me = std::process::id();
    let (mut first, mut second, mut third) =
        (entitled("coder", 1), entitled("helper", 2), entitled("web", 3));
    (first.hint, second.hint, third.hint) = ("internal".into(), "internal".into(), "x".repeat(1_025));
    world.processes.entitle(me, &[first.clone()]);
    let mut client = world.raw().await;
    let mut svids = client.fetch_x509svid(meant(X509svidRequest {})).await.unwrap().into_inner();
    assert_eq!(soon("one", svids.message()).await.unwrap().unwrap().svids.len(), 1);
    world.processes.entitle(me, &[first, second.clone(), third]);
    let three = soon("three", svids.message()).await.unwrap().unwrap();
    let said: Vec<_> = three.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    let ids = [run_id("coder", 1), run_id("helper", 2), run_id("web", 3)];
    assert_eq!(said, [(ids[0].as_str(), "internal"), (ids[1].as_str(), ""), (ids[2].as_str(), "")]);
    world.processes.entitle(me, &[second]);
    let one = soon("the second alone", svids.message()).await.unwrap().unwrap();
    assert_eq!(one.svids.len(), 1, "every message is everything");
    assert_eq!((one.svids[0].spiffe_id.as_str(), one.svids[0].hint.as_str()), (ids[1].as_str(), "internal"));
}
