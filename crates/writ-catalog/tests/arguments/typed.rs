//! Arguments of requests, and what is tried to have a service read other ones than policy did.

use writ_core::{Argument, Reason};
use writ_gate::limits::ARGUMENT_STRINGS_MAX;

use crate::support::{JSON, ask_with, shown};

fn post(body: &str) -> Result<String, Reason> {
    ask_with("POST", "/repos/acme/issues", &[JSON], body.as_bytes()).map(|operation| shown(&operation))
}

#[test]
fn arguments_come_typed_from_path_query_and_body() {
    let body =
        r#"{"title":"a \u0022bug\"","draft":true,"labels":["b","a","b"],"milestone":{"number":7},"x":1.5}"#;
    let operation = ask_with("POST", "/repos/acme/issues?notify=true&x=1", &[JSON], body.as_bytes()).unwrap();
    let expected = [
        ("draft", Argument::Boolean(true)),
        ("labels", Argument::Strings(["a", "b"].map(str::to_owned).into())),
        ("milestone", Argument::Integer(7)),
        ("notify", Argument::Boolean(true)),
        ("owner", "acme".into()),
        ("title", "a \"bug\"".into()),
    ];
    assert_eq!(operation.arguments, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(post(r#"{"title":"t"}"#).unwrap(), r#"forge/issues.create owner="acme" title="t""#);
    let list = ask_with("GET", "/repos/acme/issues?page=2&closed=false", &[], b"").unwrap();
    assert_eq!(shown(&list), r#"forge/issues.list closed=false owner="acme" page=2"#);
}

#[test]
fn a_field_of_another_type_or_none_that_is_required_is_refused() {
    for body in [
        "{}",
        r#"{"title":null}"#,
        r#"{"title":1}"#,
        r#"{"title":["t"]}"#,
        r#"{"title":"t","draft":"true"}"#,
        r#"{"title":"t","draft":1}"#,
        r#"{"title":"t","draft":null}"#,
        r#"{"title":"t","labels":"bug"}"#,
        r#"{"title":"t","labels":[1]}"#,
        r#"{"title":"t","labels":[["bug"]]}"#,
        r#"{"title":"t","milestone":7}"#,
        r#"{"title":"t","milestone":null}"#,
        r#"{"title":"t","milestone":{"number":"7"}}"#,
        r#"{"title":"t","milestone":{"number":7.0}}"#,
        r#"{"title":"t","milestone":{"number":9007199254740992}}"#,
        "[]",
        "\"title\"",
        "",
    ] {
        assert_eq!(post(body), Err(Reason::ArgumentRefused), "{body}");
    }
    let many: Vec<String> = (0..=ARGUMENT_STRINGS_MAX).map(|n| format!("\"{n}\"")).collect();
    let body = format!(r#"{{"title":"t","labels":[{}]}}"#, many.join(","));
    assert_eq!(post(&body), Err(Reason::ArgumentRefused));
    let list = ask_with("GET", "/repos/acme/issues?page=x", &[], b"");
    assert_eq!(list, Err(Reason::ArgumentRefused));
}

#[test]
fn whatever_two_servers_could_read_differently_is_refused() {
    for body in [
        r#"{"title":"a","title":"b"}"#,
        r#"{"title":"a","titl\u0065":"b"}"#,
        r#"{"title":"a","Title":"b"}"#,
        r#"{"title":"a","x":{"y":1,"y":2}}"#,
        r#"{"title":"a","draft\u0000":true}"#,
        r#"{"title":"a\u0000b"}"#,
        r#"{"title":"\ud800"}"#,
        r#"{"title":"a","x":NaN}"#,
        "\u{feff}{\"title\":\"a\"}",
        r#"{"title":"a"}{"title":"b"}"#,
        r#"{"title":"a",}"#,
        r#"{"title":"a","_method":"DELETE"}"#,
    ] {
        assert_eq!(post(body), Err(Reason::AmbiguousRequest), "{body}");
    }
    let good = br#"{"title":"a"}"#;
    let outcome = |method: &str, target: &str, headers: &[(&str, &[u8])]| {
        ask_with(method, target, headers, good).map(|operation| shown(&operation))
    };
    for target in [
        "/repos/acme%2Fx/issues",
        "/repos/acme%252Fx/issues",
        "/repos/%61cme/../acme/issues",
        "/repos/acme/%2e%2e/issues",
        "/repos//acme/issues",
        "/repos/acme/issues;x=1",
        "/repos/acme\\issues",
        "/repos/acme/issues?notify=true&notify=false",
        "/repos/acme/issues?notify=true&Notify=false",
        "/repos/acme/issues?notify[]=true",
        "/repos/acme/issues?a=b;notify=true",
        "/repos/acme/issues?notify=%2574rue",
        "/repos/acme/issues?_method=DELETE",
        "/repos/acme/issues?x=1&%5fmethod=delete",
    ] {
        assert_eq!(outcome("POST", target, &[JSON]), Err(Reason::AmbiguousRequest), "{target}");
    }
    for target in ["/Repos/acme/issues", "/repos/acme/Issues", "/repos/acme/issues/"] {
        assert_eq!(outcome("POST", target, &[JSON]), Err(Reason::NoOperation), "{target}");
    }
    for name in ["X-HTTP-Method-Override", "x-http-method", "x-method-override", "X_HTTP_Method_Override"] {
        let headers = [JSON, (name, &b"DELETE"[..])];
        assert_eq!(outcome("POST", "/repos/acme/issues", &headers), Err(Reason::AmbiguousRequest), "{name}");
        let again = [JSON, (name, &b"post"[..])];
        assert!(outcome("POST", "/repos/acme/issues", &again).is_ok());
    }
    for headers in [
        &[][..],
        &[("content-type", &b"text/plain"[..])],
        &[JSON, JSON],
        &[JSON, ("content-encoding", b"gzip")],
        &[("content-type", b"application/json; charset=utf-16")],
        &[("content-type", b"application/x-www-form-urlencoded")],
    ] {
        assert_eq!(outcome("POST", "/repos/acme/issues", headers), Err(Reason::BodyRefused), "{headers:?}");
    }
}

#[test]
fn a_form_is_read_for_an_override_of_the_method_and_nothing_else_is() {
    let form: (&str, &[u8]) = ("content-type", b"application/x-www-form-urlencoded; charset=utf-8");
    let ask = |headers: &[(&str, &[u8])], body: &[u8]| ask_with("POST", "/form", headers, body).map(|_| ());
    for headers in [&[form][..], &[]] {
        assert_eq!(ask(headers, b"a=1&_method=DELETE"), Err(Reason::AmbiguousRequest));
        assert_eq!(ask(headers, b"a=1&b=%zz\xff"), Ok(()));
    }
    assert_eq!(ask(&[form, ("content-encoding", b"gzip")], b"\x1f\x8b"), Err(Reason::BodyRefused));
    let octets: (&str, &[u8]) = ("content-type", b"application/octet-stream");
    assert_eq!(ask(&[octets], b"_method=DELETE"), Ok(()));
    assert!(ask_with("PUT", "/raw", &[], b"_method=DELETE").is_ok());
}
