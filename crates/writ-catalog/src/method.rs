//! Requests that mean another method than they say: some servers let a header, a query parameter or a field of a form
//! override it. Such a request is two at once, unless it says the same method again.

use writ_core::Reason;
use writ_core::service::RequestHead;

use crate::json::{Json, Object};
use crate::query::{alike, pairs};

const HEADERS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
const PARAMETER: &str = "_method";

/// Refuses a head that overrides its method.
pub(crate) fn said_once(request: &RequestHead<'_>) -> Result<(), Reason> {
    let mut values = HEADERS.iter().flat_map(|name| request.headers.all(name));
    if values.any(|value| !value.trim_ascii().eq_ignore_ascii_case(request.method.as_bytes())) {
        return Err(Reason::AmbiguousRequest);
    }
    request.query.map_or(Ok(()), |query| in_form(query.as_bytes(), request.method))
}

/// Whether the body may be read as a form in which the method is overridden. Some servers take a body without a type for
/// one. Forms of several parts are not read: they carry files of any size.
pub(crate) fn may_be_form(request: &RequestHead<'_>) -> bool {
    let mut types = request.headers.all("content-type").peekable();
    let form = |value: &[u8]| {
        value.to_ascii_lowercase().trim_ascii().starts_with(b"application/x-www-form-urlencoded")
    };
    request.method == "POST" && (types.peek().is_none() || types.any(form))
}

/// Refuses a form that overrides the method.
pub(crate) fn in_form(form: &[u8], method: &str) -> Result<(), Reason> {
    let overrides =
        |(key, value): (String, String)| alike(&key, PARAMETER) && !value.eq_ignore_ascii_case(method);
    if pairs(form).any(overrides) { Err(Reason::AmbiguousRequest) } else { Ok(()) }
}

/// Refuses an object that overrides the method: some servers read JSON into what they have for forms.
pub(crate) fn in_json(object: &Object, method: &str) -> Result<(), Reason> {
    let same = |value: &Json| matches!(value, Json::Text(text) if text.eq_ignore_ascii_case(method));
    let overrides = |(key, value): (&String, &Json)| alike(key, PARAMETER) && !same(value);
    if object.iter().any(overrides) { Err(Reason::AmbiguousRequest) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use writ_core::service::Headers;

    use super::*;

    #[test]
    fn a_method_is_said_once() {
        let refused = Err(Reason::AmbiguousRequest);
        for (name, value, outcome) in [
            ("x-http-method-override", "DELETE", refused),
            ("X-HTTP-Method-Override", "delete", refused),
            ("x_http_method_override", "DELETE", refused),
            ("x-method-override", "PUT", refused),
            ("x-http-method", "PATCH", refused),
            ("x-http-method", "", refused),
            ("x-http-method-override", "POST, DELETE", refused),
            ("x-http-method-override", " post ", Ok(())),
            ("x-other", "DELETE", Ok(())),
        ] {
            let lines = [(name, value.as_bytes())];
            let head = RequestHead { method: "POST", path: "/", query: None, headers: Headers(&lines) };
            assert_eq!(said_once(&head), outcome, "{name}: {value}");
        }
        for (form, outcome) in [
            ("_method=DELETE", refused),
            ("a=1&_method=delete", refused),
            ("a=1;_method=PUT", refused),
            ("%5Fmethod=PUT", refused),
            ("_METHOD=PUT", refused),
            (".method=PUT", refused),
            ("+_method=PUT", refused),
            ("_method[]=PUT", refused),
            ("_method=POST&_method=PUT", refused),
            ("_method", refused),
            ("_method=post", Ok(())),
            ("method=DELETE&a_method=PUT", Ok(())),
            ("%zz=%&\u{0}", Ok(())),
        ] {
            assert_eq!(in_form(form.as_bytes(), "POST"), outcome, "{form}");
            let head = RequestHead { method: "POST", path: "/", query: Some(form), headers: Headers(&[]) };
            assert_eq!(said_once(&head), outcome, "{form}");
        }
    }
}
