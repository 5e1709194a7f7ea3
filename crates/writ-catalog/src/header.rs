//! One header of a request, in the one way that every server on the way shares.
//!
//! Refused where a rule or an argument reads it: a header that stands twice, one spelled with underscores, which some gateways
//! take for hyphens, one that `Connection` has the relay take away, and bytes that are not visible ASCII.

use std::borrow::Cow;

use writ_core::Reason;
use writ_core::service::RequestHead;

use crate::path::{Path, Segment};

/// Headers that a service file may not read, because the relay, or a server behind it, takes them away or writes them.
const OTHERS: [&str; 33] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "cf-connecting-ip",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "deploy-token",
    "expect",
    "forwarded",
    "host",
    "if-range",
    "job-token",
    "keep-alive",
    "private-token",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-access-token",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-client-ip",
    "x-goog-api-key",
    "x-real-ip",
    "x-vault-token",
];

/// Whether a service file may read a header of this name, which is written in lower case.
pub(crate) fn is_readable(name: &str) -> bool {
    let token =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let gone =
        ["proxy-", "x-forwarded-", "impersonate-", "writ-"].iter().any(|before| name.starts_with(before));
    token && !gone && !OTHERS.contains(&name)
}

/// The one value of a header; `None` if it is absent.
pub(crate) fn value<'r>(request: &RequestHead<'r>, name: &str) -> Result<Option<&'r str>, Reason> {
    let mut values = request.headers.all(name);
    let Some(value) = values.next() else { return Ok(None) };
    let exact = request.headers.0.iter().any(|(sent, _)| sent.eq_ignore_ascii_case(name));
    if values.next().is_some() || !exact || is_taken_away(request, name) {
        return Err(Reason::AmbiguousRequest);
    }
    let text = std::str::from_utf8(value.trim_ascii()).ok();
    let text = text.filter(|text| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    text.map(Some).ok_or(Reason::AmbiguousRequest)
}

/// Whether `Connection` says that the header goes no farther than the next hop (RFC 9110 section 7.6.1).
fn is_taken_away(request: &RequestHead<'_>, name: &str) -> bool {
    let named = |item: &[u8]| item.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
    request.headers.all("connection").any(|value| value.split(|b| *b == b',').any(named))
}

/// The value of a header as a path: decoded once, without a slash before it, and refused where a path would be.
pub(crate) fn path(request: &RequestHead<'_>, name: &str) -> Result<Option<String>, Reason> {
    let Some(value) = value(request, name)? else { return Ok(None) };
    let rooted = if value.starts_with('/') { Cow::Borrowed(value) } else { Cow::Owned(format!("/{value}")) };
    let path = Path::parse(&rooted)?;
    let texts: Option<Vec<&str>> = path.segments().iter().map(Segment::plain).collect();
    texts.map(|texts| Some(texts.join("/"))).ok_or(Reason::AmbiguousRequest)
}

#[cfg(test)]
mod tests {
    use writ_core::service::Headers;

    use super::*;

    fn read(headers: &[(&str, &[u8])]) -> Result<Option<String>, Reason> {
        let head = RequestHead { method: "PUT", path: "/", query: None, headers: Headers(headers) };
        value(&head, "x-target").map(|value| value.map(str::to_owned))
    }

    #[test]
    fn a_header_has_one_value_that_arrives() {
        let target: (&str, &[u8]) = ("X-Target", b" Table.Get ");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[target]), Ok(Some("Table.Get".into())));
        assert_eq!(read(&[target, ("connection", b"close, x-targets")]), Ok(Some("Table.Get".into())));
        for headers in [
            &[target, target][..],
            &[target, ("x_target", b"Table.Delete")],
            &[("x_target", b"Table.Get")],
            &[target, ("Connection", b"close, X-Target")],
            &[target, ("connection", b"close"), ("connection", b"x-target")],
            &[("x-target", b"Table.G\xc3\xa9t")],
            &[("x-target", b"Table\tGet")],
            &[("x-target", b"Table\0Get")],
        ] {
            assert_eq!(read(headers), Err(Reason::AmbiguousRequest), "{headers:?}");
        }
    }

    #[test]
    fn a_header_that_is_a_path_is_read_as_one() {
        let read = |value: &str| {
            let lines = [("x-source", value.as_bytes())];
            let head = RequestHead { method: "PUT", path: "/", query: None, headers: Headers(&lines) };
            path(&head, "x-source")
        };
        for (value, text) in [("b/k", "b/k"), ("/b/k", "b/k"), ("/b/a%20k/", "b/a k/"), ("b/%6b", "b/k")] {
            assert_eq!(read(value), Ok(Some(text.into())), "{value}");
        }
        for value in
            ["//b/k", "b/../c/k", "b%2Fk", "b/%2e%2e/k", "b/k?versionId=1", "b//k", "b/%256b", "b\\k"]
        {
            assert_eq!(read(value), Err(Reason::AmbiguousRequest), "{value}");
        }
    }

    #[test]
    fn what_the_relay_takes_away_is_not_read() {
        assert!(
            is_readable("x-amz-target") && is_readable("x-ms-copy-source") && is_readable("content-type")
        );
        for name in
            ["Authorization", "authorization", "x-forwarded-for", "proxy-x", "x_a", "", "host", "x-amz-date"]
        {
            assert!(!is_readable(name), "{name}");
        }
    }
}
