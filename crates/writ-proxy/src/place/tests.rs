//! Where credentials go, and what goes with them.

use std::collections::BTreeSet;

use http::Request;
use proptest::prelude::*;
use writ_core::service::{CredentialRule, Protocol, Upstream};
use writ_core::{Secret, SecretName, ServiceName};

use super::*;

fn service(place: Option<Placement>) -> Service {
    Service {
        name: ServiceName::new("svc").unwrap(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        ports: vec![443],
        protocol: Protocol::Https,
        virtual_hosts: false,
        mode: writ_core::Mode::Enforce,
        upstream: Upstream::default(),
        credential: place.map(|place| CredentialRule { secret: SecretName::new("s").unwrap(), place }),
        operations: Vec::new(),
    }
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn lend(parts: &mut Parts, place: &Placement, secret: &str) -> Result<(), Reason> {
    let credential = Credential { place: place.clone(), secret: Secret::<str>::new(secret.into()).unwrap() };
    prepare(parts, &service(Some(place.clone())), &[credential])
}

#[test]
fn agents_own_credentials_and_claims_of_origin_are_stripped_without_a_credential_too() {
    let mut parts = request(
        "/",
        &[
            ("authorization", "Bearer own"),
            ("cookie", "a=b"),
            ("proxy-authorization", "x"),
            ("x-api-key", "own"),
            ("x_api_key", "own"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "a"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("impersonate-user", "root"),
            ("x-amz-date", "kept"),
            ("accept", "*/*"),
            ("x-other", "1"),
        ],
    );
    prepare(&mut parts, &service(None), &[]).unwrap();
    let left: BTreeSet<_> = parts.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, BTreeSet::from(["accept", "x-amz-date", "x-other"]));
}

#[test]
fn another_method_or_path_than_the_decided_one_is_refused() {
    for name in ["x-http-method-override", "X_HTTP_Method_Override", "x-original-url", "x-rewrite-url"] {
        let mut parts = request("/", &[(name, "DELETE")]);
        assert_eq!(prepare(&mut parts, &service(None), &[]), Err(Reason::AmbiguousRequest), "{name}");
    }
}

#[test]
fn each_place_is_overwritten_whatever_the_agent_put_there() {
    let own = [
        ("authorization", "Basic b3duOm93bg=="),
        ("x-key", "own"),
        ("x-key", "own2"),
        ("cookie", "s=own; t=1"),
    ];
    let cases = [
        (Placement::Bearer, "authorization", "Bearer s3cr3t-value"),
        (Placement::Header("X-Key".into()), "x-key", "s3cr3t-value"),
        (
            Placement::Basic { user: "x-access-token".into() },
            "authorization",
            "Basic eC1hY2Nlc3MtdG9rZW46czNjcjN0LXZhbHVl",
        ),
        (Placement::Cookie("s".into()), "cookie", "s=s3cr3t-value"),
    ];
    for (place, name, value) in cases {
        let mut parts = request("/", &own);
        lend(&mut parts, &place, "s3cr3t-value").unwrap();
        let found: Vec<_> = parts.headers.get_all(name).iter().collect();
        assert_eq!(found, [value], "{place:?}");
        assert!(found[0].is_sensitive());
    }
}

#[test]
fn basic_auth_hiding_a_placeholder_in_base64_is_replaced_all_the_same() {
    let mut parts =
        request("/r.git/info/refs", &[("authorization", "Basic eC1hY2Nlc3MtdG9rZW46cGxhY2Vob2xkZXI=")]);
    lend(&mut parts, &Placement::Basic { user: "u".into() }, "real-secret").unwrap();
    assert_eq!(parts.headers["authorization"], "Basic dTpyZWFsLXNlY3JldA==");
}

#[test]
fn a_query_parameter_is_replaced_and_the_others_keep_their_bytes() {
    for (before, after) in [
        ("/p", "/p?key=s%2F%20%26x"),
        ("/p?", "/p?key=s%2F%20%26x"),
        ("/p?a=%2f+b&&c", "/p?a=%2f+b&&c&key=s%2F%20%26x"),
        ("/p?key=own&a=1&k%65y=own2&key", "/p?a=1&key=s%2F%20%26x"),
        ("/p?keyed=1", "/p?keyed=1&key=s%2F%20%26x"),
        ("https://h.test/p?a=1", "https://h.test/p?a=1&key=s%2F%20%26x"),
    ] {
        let mut parts = request(before, &[]);
        lend(&mut parts, &Placement::Query("key".into()), "s/ &x").unwrap();
        assert_eq!(parts.uri.to_string(), after);
    }
    let mut parts = request("/p?a=1;key=own", &[]);
    assert_eq!(lend(&mut parts, &Placement::Query("key".into()), "secret"), Err(Reason::AmbiguousRequest));
}

#[test]
fn secrets_that_would_break_out_of_their_place_are_refused() {
    for bad in ["", "a\r\nX: y", "a\nb", "a\0b", "a\rb"] {
        for place in [
            Placement::Bearer,
            Placement::Header("x-key".into()),
            Placement::Basic { user: "u".into() },
            Placement::Query("k".into()),
            Placement::Cookie("c".into()),
        ] {
            let mut parts = request("/", &[]);
            assert_eq!(lend(&mut parts, &place, bad), Err(Reason::BrokerFailed), "{place:?} {bad:?}");
        }
    }
    for place in [
        Placement::Header("host".into()),
        Placement::Header("content-length".into()),
        Placement::Header("a b".into()),
    ] {
        assert_eq!(lend(&mut request("/", &[]), &place, "secret"), Err(Reason::BrokerFailed));
    }
    assert_eq!(
        lend(&mut request("/", &[]), &Placement::Cookie("c".into()), "a; b=c"),
        Err(Reason::BrokerFailed)
    );
}

#[test]
fn ranges_that_could_cut_a_credential_into_pieces_are_dropped() {
    for (range, kept) in [
        ("bytes=100-", true),
        ("bytes=-8", true),
        ("bytes=0-1048575", true),
        ("bytes=0-3", false),
        ("bytes=0-4095", false),
        ("bytes=0-9999,20000-29999", false),
        ("bytes=5-1", false),
        ("lines=1-", false),
        ("bytes=a-", false),
    ] {
        let mut parts = request("/", &[("range", range), ("if-range", "\"e\""), ("accept-encoding", "gzip")]);
        lend(&mut parts, &Placement::Bearer, "secret-secret").unwrap();
        assert_eq!(parts.headers.contains_key("range"), kept, "{range}");
        assert_eq!(parts.headers.contains_key("if-range"), kept, "{range}");
        assert_eq!(parts.headers["accept-encoding"] == "identity", kept, "{range}");
    }
}

proptest! {
    #[test]
    fn preparing_never_panics_and_never_expands_what_the_agent_wrote(
        query in "[a-z%&=;+0-9]{0,40}", value in "[ -~]{0,40}", secret in "[!-~]{8,40}",
    ) {
        for place in [Placement::Bearer, Placement::Query("k".into()), Placement::Cookie("c".into())] {
            let Ok(request) = Request::builder().uri(format!("/p?{query}")).header("x-own", &value).body(()) else {
                continue;
            };
            let mut parts = request.into_parts().0;
            if lend(&mut parts, &place, &secret).is_ok() {
                prop_assert_eq!(parts.headers["x-own"].as_bytes(), value.as_bytes());
            }
        }
    }
}
