//! A request's body as the JSON document that arguments are read from.

use writ_core::Reason;
use writ_core::service::RequestHead;
use writ_gate::limits::ARGUMENT_BODY_BYTES_MAX;

use crate::json::Json;
use crate::method;

/// The document; `None` if there is no body. Only what says that it is JSON, in no coding and no other character set, is
/// read: what a service makes of anything else is not known here.
pub(crate) fn json(request: &RequestHead<'_>, body: &[u8]) -> Result<Option<Json>, Reason> {
    plain(request, body)?;
    if body.is_empty() {
        return Ok(None);
    }
    let mut types = request.headers.all("content-type");
    let (first, second) = (types.next().unwrap_or_default(), types.next());
    if second.is_some() || !std::str::from_utf8(first).is_ok_and(is_json) {
        return Err(Reason::BodyRefused);
    }
    let document = Json::parse(body)?;
    if let Json::Object(object) = &document {
        method::in_json(object, request.method)?;
    }
    Ok(Some(document))
}

/// Refuses a body that is too large or in a coding.
pub(crate) fn plain(request: &RequestHead<'_>, body: &[u8]) -> Result<(), Reason> {
    if body.len() > ARGUMENT_BODY_BYTES_MAX {
        return Err(Reason::BodyTooLarge);
    }
    let mut codings = request.headers.all("content-encoding");
    if codings.all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Reason::BodyRefused)
    }
}

/// `application/json`, or a type that is built on it (RFC 6839 section 3.1), in UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let json = kind.strip_prefix("application/").is_some_and(|sub| {
        token(sub) && (sub == "json" || sub.strip_suffix("+json").is_some_and(|before| !before.is_empty()))
    });
    json && parts.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    })
}

#[cfg(test)]
mod tests {
    use writ_core::service::Headers;

    use super::*;

    fn read(headers: &[(&str, &[u8])], body: &str) -> Result<bool, Reason> {
        let head = RequestHead { method: "POST", path: "/", query: None, headers: Headers(headers) };
        json(&head, body.as_bytes()).map(|document| document.is_some())
    }

    #[test]
    fn only_what_says_that_it_is_json_is_read() {
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/json;charset=\"utf-8\"; x=y",
            "application/vnd.github.v3+json",
        ] {
            assert_eq!(read(&[("content-type", kind.as_bytes())], "{}"), Ok(true), "{kind}");
        }
        for kind in [
            "",
            "text/json",
            "text/plain",
            "application/jsonp",
            "application/+json",
            "application/x-www-form-urlencoded",
            "application/graphql",
            "multipart/form-data; boundary=application/json",
            "application/json, text/plain",
            "text/plain, application/x+json",
            "application/json; charset=utf-16",
            "application/json; charset=utf-7",
        ] {
            assert_eq!(read(&[("content-type", kind.as_bytes())], "{}"), Err(Reason::BodyRefused), "{kind}");
        }
        let json: (&str, &[u8]) = ("content-type", b"application/json");
        assert_eq!(read(&[json, ("Content_Type", b"text/plain")], "{}"), Err(Reason::BodyRefused));
        assert_eq!(read(&[json, json], "{}"), Err(Reason::BodyRefused));
        assert_eq!(read(&[], "{}"), Err(Reason::BodyRefused));
        assert_eq!(read(&[], ""), Ok(false));
        assert_eq!(read(&[json, ("content-encoding", b"identity")], "{}"), Ok(true));
        for coding in [&b"gzip"[..], b"identity, gzip", b"br", b""] {
            assert_eq!(read(&[json, ("content-encoding", coding)], "{}"), Err(Reason::BodyRefused));
        }
        let large = format!("\"{}\"", "x".repeat(ARGUMENT_BODY_BYTES_MAX));
        assert_eq!(read(&[json], &large), Err(Reason::BodyTooLarge));
        assert_eq!(read(&[json], r#"{"_method":"DELETE"}"#), Err(Reason::AmbiguousRequest));
        assert_eq!(read(&[json], r#"{"_METHOD":["POST"]}"#), Err(Reason::AmbiguousRequest));
        assert_eq!(read(&[json], r#"{"_method":"post"}"#), Ok(true));
    }
}
