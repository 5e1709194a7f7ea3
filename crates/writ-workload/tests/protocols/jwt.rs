//! JWTs as the crate `spiffe` takes them, and WITs.

use futures_util::StreamExt;
use spiffe::{JwtSource, JwtSvid, TrustDomain};
use tonic::Code;
use writ_identity::validate;
use writ_workload::proto::google::protobuf::value::Kind;
use writ_workload::proto::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest,
};

use crate::world::{DOMAIN, World, entitled, meant, now, run_id, settings, soon};

#[tokio::test]
async fn a_token_is_for_its_audience_and_others_can_check_it() {
    let world = World::new().await;
    world.entitle_me();
    let client = world.spiffe().await;
    let svid = client.fetch_jwt_svid(["db.internal"], None).await.unwrap();
    assert_eq!(svid.spiffe_id().to_string(), run_id("coder", 1).as_str());
    assert_eq!(svid.audience(), ["db.internal"]);
    // By the client, with the bundle that it was given.
    let bundles = client.fetch_jwt_bundles().await.unwrap();
    let checked = JwtSvid::parse_and_validate(svid.token(), &bundles, &["db.internal"]).unwrap();
    assert_eq!(checked.spiffe_id(), svid.spiffe_id());
    // By us, for the client.
    client.validate_jwt_token("db.internal", svid.token()).await.unwrap();
    assert!(client.validate_jwt_token("other.internal", svid.token()).await.is_err());
}

#[tokio::test]
async fn validation_tells_every_claim_and_refuses_what_is_wrong() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let request = JwtsvidRequest { audience: vec!["a".into(), "b".into()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(meant(request)).await.unwrap().into_inner().svids[0].svid.clone();
    let check = |audience: &str, svid: &str| {
        meant(ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() })
    };
    let valid = client.validate_jwtsvid(check("b", &token)).await.unwrap().into_inner();
    assert_eq!(valid.spiffe_id, run_id("coder", 1).as_str());
    let claims = valid.claims.unwrap().fields;
    assert!(matches!(&claims["sub"].kind, Some(Kind::StringValue(sub)) if *sub == valid.spiffe_id));
    assert!(matches!(&claims["aud"].kind, Some(Kind::ListValue(all)) if all.values.len() == 2));
    assert!(matches!(claims["exp"].kind, Some(Kind::NumberValue(_))));
    let mut broken = token.clone();
    broken.replace_range(token.len() - 6.., "AAAAAA");
    for (audience, svid) in [("c", &token), ("b", &broken), ("b", &"x".to_owned())] {
        let refusal = client.validate_jwtsvid(check(audience, svid)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(!refusal.message().contains(token.split('.').nth(1).unwrap()));
    }
}

#[tokio::test]
async fn the_mandatory_fields_are_demanded() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let none = JwtsvidRequest { audience: vec![], spiffe_id: String::new() };
    assert_eq!(client.fetch_jwtsvid(meant(none)).await.unwrap_err().code(), Code::InvalidArgument);
    let empty = JwtsvidRequest { audience: vec![String::new()], spiffe_id: String::new() };
    assert_eq!(client.fetch_jwtsvid(meant(empty)).await.unwrap_err().code(), Code::InvalidArgument);
    let no_id = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: "http://x".into() };
    assert_eq!(client.fetch_jwtsvid(meant(no_id)).await.unwrap_err().code(), Code::InvalidArgument);
    for (audience, svid) in [("", "x"), ("a", "")] {
        let check = ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() };
        assert_eq!(client.validate_jwtsvid(meant(check)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn one_of_several_identities_can_be_asked_for_and_no_other() {
    let world = World::new().await;
    world.processes.entitle(std::process::id(), &[entitled("coder", 1), entitled("helper", 2)]);
    let mut client = world.raw().await;
    let ask = |id: String| meant(JwtsvidRequest { audience: vec!["a".into()], spiffe_id: id });
    assert_eq!(client.fetch_jwtsvid(ask(String::new())).await.unwrap().into_inner().svids.len(), 2);
    let one = client.fetch_jwtsvid(ask(run_id("helper", 2).to_string())).await.unwrap().into_inner();
    assert_eq!(one.svids.len(), 1);
    assert_eq!(one.svids[0].spiffe_id, run_id("helper", 2).as_str());
    let foreign = client.fetch_jwtsvid(ask(run_id("other", 3).to_string())).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_source_follows_the_keys_of_tokens() {
    let world = World::new().await;
    world.entitle_me();
    let source = soon("the source", JwtSource::builder().endpoint(world.endpoint()).build()).await.unwrap();
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let old = source.fetch_jwt_svid(["a"]).await.unwrap();
    assert!(source.try_bundle_for_trust_domain(&domain).is_some());
    let mut updates = source.updated();
    world.authority.replace(now()).await.unwrap();
    soon("the new keys", updates.changed()).await.unwrap();
    let new = source.fetch_jwt_svid(["a"]).await.unwrap();
    assert_ne!(old.key_id(), new.key_id());
    let bundles = source.bundle_set().unwrap();
    assert!(JwtSvid::parse_and_validate(new.token(), &*bundles, &["a"]).is_ok());
    assert!(JwtSvid::parse_and_validate(old.token(), &*bundles, &["a"]).is_err());
    source.shutdown().await;
}

#[tokio::test]
async fn bundles_of_tokens_hold_only_keys_of_tokens() {
    let world = World::new().await;
    world.entitle_me();
    let client = world.spiffe().await;
    let mut bundles = client.stream_jwt_bundles().await.unwrap();
    soon("the bundles", bundles.next()).await.unwrap().unwrap();
    let mut raw = world.raw().await;
    let mut bundles = raw.fetch_jwt_bundles(meant(JwtBundlesRequest {})).await.unwrap().into_inner();
    let message = soon("the bundles", bundles.message()).await.unwrap().unwrap();
    let jwks: serde_json::Value =
        serde_json::from_slice(&message.bundles[&format!("spiffe://{DOMAIN}")]).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert!(!keys.is_empty() && keys.iter().all(|key| key["use"] == "jwt-svid" && key["kid"].is_string()));
}

#[tokio::test]
async fn wits_are_unimplemented_unless_they_are_on() {
    let world = World::new().await;
    world.entitle_me();
    let mut client = world.raw().await;
    let svids = client.fetch_witsvid(meant(WitsvidRequest::default())).await.unwrap_err();
    let bundles = client.fetch_wit_bundles(meant(WitBundlesRequest {})).await.unwrap_err();
    assert_eq!((svids.code(), bundles.code()), (Code::Unimplemented, Code::Unimplemented));
}

#[tokio::test]
async fn wits_come_with_the_key_that_proves_them() {
    let world = World::with(settings("[identity]\nwit = true\n")).await;
    world.processes.entitle(std::process::id(), &[entitled("coder", 1), entitled("helper", 2)]);
    let mut client = world.raw().await;
    let only = WitsvidRequest { spiffe_id: run_id("helper", 2).to_string() };
    let mut svids = client.fetch_witsvid(meant(only)).await.unwrap().into_inner();
    let message = soon("the token", svids.message()).await.unwrap().unwrap();
    let [svid] = message.svids.as_slice() else { panic!("one was asked for") };
    let bundles = world.parts.bundles.borrow().clone();
    let believed = validate::wit(&svid.wit_svid, &bundles, now()).unwrap();
    assert_eq!(believed.subject, run_id("helper", 2));
    let private: serde_json::Value = serde_json::from_str(&svid.wit_svid_key).unwrap();
    let public = &believed.claims["cnf"]["jwk"];
    assert_eq!((&private["x"], &private["y"]), (&public["x"], &public["y"]));
    assert!(private["d"].is_string() && public.get("d").is_none());
    let mut bundles = client.fetch_wit_bundles(meant(WitBundlesRequest {})).await.unwrap().into_inner();
    let message = soon("the keys", bundles.message()).await.unwrap().unwrap();
    assert!(message.bundles[&format!("spiffe://{DOMAIN}")].contains("wit-svid"));
}
