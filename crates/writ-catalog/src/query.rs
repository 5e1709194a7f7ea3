//! A request's query, and forms, in the one way that every server shares.
//!
//! Servers differ in which of two equal names counts, in where pairs end, and in which names they take for each other:
//! some ignore case, some read `a.b`, `a b` and `a[` as `a_b` or as a list called `a`. What could be read differently is
//! refused where an argument or a rule reads it.

use std::borrow::Cow;

use percent_encoding::{percent_decode, percent_decode_str};
use writ_core::argument::ArgumentKind;
use writ_core::{Argument, Reason};

use crate::json::fold;
use crate::path::{has_broken_escape, has_escape};

/// The one value of a query parameter: `None` if it is absent, an error if it occurs twice or the query is split
/// differently by different servers.
pub(crate) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Result<Option<Cow<'a, str>>, Reason> {
    let query = query.unwrap_or_default();
    // Some servers split at `;` too (HTML 4.01, B.2.2).
    if query.contains([';', '#']) {
        return Err(Reason::AmbiguousRequest);
    }
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form_decode(key)? != name {
            continue;
        }
        let value = form_decode(value)?;
        if found.replace(value).is_some() {
            return Err(Reason::AmbiguousRequest);
        }
    }
    Ok(found)
}

/// The value of a parameter as an argument. No other parameter may be one that some server takes for it.
pub(crate) fn argument(
    query: Option<&str>,
    name: &str,
    kind: ArgumentKind,
) -> Result<Option<Argument>, Reason> {
    let Some(value) = parameter(query, name)? else {
        let taken = pairs(query.unwrap_or_default().as_bytes()).any(|(key, _)| alike(&key, name));
        return if taken { Err(Reason::AmbiguousRequest) } else { Ok(None) };
    };
    if pairs(query.unwrap_or_default().as_bytes()).any(|(key, _)| key != name && alike(&key, name)) {
        return Err(Reason::AmbiguousRequest);
    }
    typed(value, kind).map(Some).ok_or(Reason::ArgumentRefused)
}

/// Text as an argument of this type, if it is one.
pub(crate) fn typed(value: Cow<'_, str>, kind: ArgumentKind) -> Option<Argument> {
    match kind {
        ArgumentKind::String => Some(value.into_owned().into()),
        ArgumentKind::Integer => integer(&value),
        ArgumentKind::Boolean => value.parse().ok().map(Argument::Boolean),
        ArgumentKind::Strings => None,
    }
}

/// Digits as JSON has them: nothing before them but one `-`, and no zero that could make them octal.
fn integer(text: &str) -> Option<Argument> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !digits.starts_with('0'));
    if plain { text.parse().ok().and_then(Argument::integer) } else { None }
}

/// Pairs of a query or form, decoded as leniently as any server does.
pub(crate) fn pairs(form: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    let decode = |raw: &[u8]| {
        let spaced: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    form.split(|b| matches!(b, b'&' | b';')).map(move |pair| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at_checked(at).unwrap_or((pair, &[]));
        (decode(key), decode(value.get(1..).unwrap_or_default()))
    })
}

/// Whether some server takes a parameter of the name `key` for one called `name`.
pub(crate) fn alike(key: &str, name: &str) -> bool {
    let head = key.split_once('[').map_or(key, |(head, _)| head);
    plain(key) == plain(name) || !name.contains('[') && plain(head) == plain(name)
}

/// Whether some server takes a parameter of the name `key` for one within `name`, as `NAME.1` is.
pub(crate) fn is_within(key: &str, name: &str) -> bool {
    plain(key).strip_prefix(&plain(name)).is_some_and(|rest| rest.starts_with('_'))
}

/// A name as the most lenient server reads it.
fn plain(text: &str) -> String {
    let text = text.trim_start().split('\0').next().unwrap_or_default();
    fold(text).replace(['.', ' ', '['], "_")
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn form_decode(raw: &str) -> Result<Cow<'_, str>, Reason> {
    if has_broken_escape(raw) {
        return Err(Reason::AmbiguousRequest);
    }
    let decoded = if raw.contains('+') {
        let spaced = raw.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(|text| Cow::Owned(text.into_owned()))
    } else {
        percent_decode_str(raw).decode_utf8()
    };
    let text = decoded.map_err(|_| Reason::AmbiguousRequest)?;
    if text.contains('\0') || has_escape(&text) { Err(Reason::AmbiguousRequest) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_of_their_type_and_nothing_near_it() {
        let read = |query: &str, kind| argument(Some(query), "n", kind);
        for (query, kind, value) in [
            ("n=a+b%20c", ArgumentKind::String, Argument::from("a b c")),
            ("n=", ArgumentKind::String, "".into()),
            ("n", ArgumentKind::String, "".into()),
            ("m=1&n=7", ArgumentKind::Integer, Argument::Integer(7)),
            ("n=-9007199254740991", ArgumentKind::Integer, Argument::Integer(-9_007_199_254_740_991)),
            ("n=0", ArgumentKind::Integer, Argument::Integer(0)),
            ("n=%37", ArgumentKind::Integer, Argument::Integer(7)),
            ("n=true", ArgumentKind::Boolean, Argument::Boolean(true)),
            ("n=false", ArgumentKind::Boolean, Argument::Boolean(false)),
        ] {
            assert_eq!(read(query, kind), Ok(Some(value)), "{query}");
        }
        for (query, kind) in [
            ("n=", ArgumentKind::Integer),
            ("n=-", ArgumentKind::Integer),
            ("n=+7", ArgumentKind::Integer),
            ("n=07", ArgumentKind::Integer),
            ("n=-0", ArgumentKind::Integer),
            ("n=7.0", ArgumentKind::Integer),
            ("n=0x7", ArgumentKind::Integer),
            ("n=7+", ArgumentKind::Integer),
            ("n=%D9%A7", ArgumentKind::Integer),
            ("n=9007199254740992", ArgumentKind::Integer),
            ("n=", ArgumentKind::Boolean),
            ("n", ArgumentKind::Boolean),
            ("n=1", ArgumentKind::Boolean),
            ("n=True", ArgumentKind::Boolean),
        ] {
            assert_eq!(read(query, kind), Err(Reason::ArgumentRefused), "{query}");
        }
        assert_eq!(argument(None, "n", ArgumentKind::Integer), Ok(None));
        assert_eq!(read("m=1", ArgumentKind::Integer), Ok(None));
    }

    #[test]
    fn what_some_server_takes_for_the_parameter_is_refused() {
        let read = |query: &str| argument(Some(query), "per_page", ArgumentKind::String);
        for query in [
            "per_page=1&per_page=1",
            "per_page=1&per%5fpage=2",
            "per_page=1&PER_PAGE=2",
            "PER_PAGE=2",
            "per.page=2",
            "per+page=2",
            "per[page=2",
            "%20per_page=2",
            "per_page[]=2",
            "per_page%5B0%5D=2",
            "per_page%00x=2",
            "a=1;per_page=2",
            "per_page=%",
            "per_page=%2541",
            "per_page=%ff",
            "per_page=a%00",
        ] {
            assert_eq!(read(query), Err(Reason::AmbiguousRequest), "{query}");
        }
        assert_eq!(read("perpage=2&page=1&per_pages=3"), Ok(None));
        let list = argument(Some("filter[a]=1&filter[b]=2"), "filter[a]", ArgumentKind::String);
        assert_eq!(list, Ok(Some("1".into())));
    }

    #[test]
    fn a_repeated_parameter_is_ambiguous() {
        let value = |query| parameter(Some(query), "service").map(|v| v.map(Cow::into_owned));
        assert_eq!(parameter(None, "service"), Ok(None));
        assert_eq!(value(""), Ok(None));
        assert_eq!(value("a=b&service=x+y"), Ok(Some("x y".to_owned())));
        assert_eq!(value("ser%76ice=x"), Ok(Some("x".to_owned())));
        assert_eq!(value("Service=x"), Ok(None));
        assert_eq!(value("service"), Ok(Some(String::new())));
        for query in [
            "service=a&service=a",
            "service=a&ser%76ice=b",
            "a=b;service=x",
            "service=%",
            "service=%2566",
            "%ff=1",
        ] {
            assert_eq!(value(query), Err(Reason::AmbiguousRequest), "{query}");
        }
    }
}
