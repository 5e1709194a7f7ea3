//! A request's body as the JSON document that arguments are read from.

use writ_core::Reason;
use writ_core::service::RequestHead;
use writ_gate::limits::ARGUMENT_BODY_BYTES_MAX;

use crate::json::Json;
use crate::method;

/// The fields of a form. Only what says that it is one, in no coding and no other character set, is read.
pub(crate) fn form<'b>(request: &RequestHead<'_>, body: &'b [u8]) -> Result<&'b str, Reason> {
    plain(request, body)?;
    if body.is_empty() {
        return Ok("");
    }
    let (kind, parameters) = kind(request)?;
    if kind != "application/x-www-form-urlencoded" || !in_utf8(parameters) {
        return Err(Reason::BodyRefused);
    }
    std::str::from_utf8(body).map_err(|_| Reason::AmbiguousRequest)
}

/// The document; `None` if there is no body. Only what says that it is JSON, in no coding and no other character set, is
/// read: what a service makes of anything else is not known here.
pub(crate) fn json(request: &RequestHead<'_>, body: &[u8]) -> Result<Option<Json>, Reason> {
    plain(request, body)?;
    if body.is_empty() {
        return Ok(None);
    }
    let (kind, parameters) = kind(request)?;
    if !is_json(&kind) || !in_utf8(parameters) {
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
    uncoded(request)
}

/// Refuses a body that is in a coding.
pub(crate) fn uncoded(request: &RequestHead<'_>) -> Result<(), Reason> {
    let mut codings = request.headers.all("content-encoding");
    if codings.all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        Ok(())
    } else {
        Err(Reason::BodyRefused)
    }
}

/// The one media type of the body, in lower case, and its parameters.
fn kind<'r>(request: &RequestHead<'r>) -> Result<(String, &'r str), Reason> {
    let mut types = request.headers.all("content-type");
    let (first, second) = (types.next().unwrap_or_default(), types.next());
    let text = std::str::from_utf8(first).ok().filter(|_| second.is_none()).ok_or(Reason::BodyRefused)?;
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    Ok((kind.trim().to_ascii_lowercase(), parameters))
}

/// `application/json`, a type that is built on it (RFC 6839 section 3.1), or one of those of AWS (Smithy, AWS JSON 1.0 and 1.1).
fn is_json(kind: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    kind.strip_prefix("application/").is_some_and(|sub| {
        let built = sub.strip_suffix("+json").is_some_and(|before| !before.is_empty());
        token(sub) && (["json", "x-amz-json-1.0", "x-amz-json-1.1"].contains(&sub) || built)
    })
}

/// Whether the parameters of a media type name no character set but UTF-8.
fn in_utf8(parameters: &str) -> bool {
    parameters.split(';').map(str::trim).all(|parameter| {
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
            "application/x-amz-json-1.0",
        ] {
            assert_eq!(read(&[("content-type", kind.as_bytes())], "{}"), Ok(true), "{kind}");
        }
        for kind in [
            "",
            "text/json",
            "text/plain",
            "application/jsonp",
            "application/x-amz-json-2.0",
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
