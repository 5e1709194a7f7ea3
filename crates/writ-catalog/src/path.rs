//! A request's path in the one form that rules are compared with.
//!
//! What two servers could read differently is refused, not repaired: the service may sit behind servers that
//! decode, normalise or split in their own way, and the rule must mean the same request to all of them.
//! (RFC 3986 sections 3.3 and 6.2.2; the CVE histories of dot segments, `..;`, `%2e%2e`, `%252f`, `//`, `\`.)

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use writ_core::Reason;

/// A canonical path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a>(Vec<Segment<'a>>);

/// One segment, decoded once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    text: Cow<'a, str>,
    /// What follows each of the segment's encoded slashes.
    more: Vec<Cow<'a, str>>,
}

impl Segment<'_> {
    /// Its text, if it has no encoded slash.
    pub(crate) fn plain(&self) -> Option<&str> {
        self.more.is_empty().then_some(&*self.text)
    }

    /// Both sides of its encoded slash, if it has one.
    pub(crate) fn pair(&self) -> Option<(&str, &str)> {
        if let [second] = &*self.more { Some((&*self.text, &**second)) } else { None }
    }

    /// Its parts between encoded slashes.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.text).chain(self.more.iter().map(|part| &**part))
    }
}

impl<'a> Path<'a> {
    /// Reads a path as it was sent.
    pub(crate) fn parse(path: &'a str) -> Result<Self, Reason> {
        let rest = path.strip_prefix('/').ok_or(Reason::AmbiguousRequest)?;
        if !path.bytes().all(is_path_byte) {
            return Err(Reason::AmbiguousRequest);
        }
        let mut segments = Vec::with_capacity(12);
        let mut parts = rest.split('/').peekable();
        while let Some(part) = parts.next() {
            if part.is_empty() && parts.peek().is_some() {
                return Err(Reason::AmbiguousRequest);
            }
            segments.push(segment(part)?);
        }
        Ok(Self(segments))
    }

    /// The path at a host whose first label names what the path begins with otherwise. A slash after that alone adds nothing.
    pub(crate) fn beginning_with(mut self, label: Option<&str>) -> Self {
        if let Some(label) = label {
            self.0.insert(0, Segment { text: Cow::Owned(label.to_owned()), more: Vec::new() });
        }
        if self.0.len() == 2 && self.0.last().and_then(Segment::plain) == Some("") {
            self.0.pop();
        }
        self
    }

    /// Its segments: at least one; the last is empty if the path ends in a slash.
    pub(crate) fn segments(&self) -> &[Segment<'a>] {
        &self.0
    }

    /// Whether a slash is encoded somewhere.
    pub(crate) fn has_encoded_slash(&self) -> bool {
        self.0.iter().any(|segment| !segment.more.is_empty())
    }
}

/// RFC 3986 `pchar`, `/` and `%`, but no `;`: some servers cut parameters off a segment there, others do not.
fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'/' | b'%' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(b, b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

fn segment(raw: &str) -> Result<Segment<'_>, Reason> {
    if !raw.contains('%') {
        return plain(Cow::Borrowed(raw)).map(|text| Segment { text, more: Vec::new() });
    }
    let mut parts = split(raw).map(|part| decode(part).and_then(plain));
    let text = parts.next().unwrap_or(Ok(Cow::Borrowed("")))?;
    let more = parts.collect::<Result<Vec<_>, _>>()?;
    // As with slashes that are not encoded: one at the end may be meant, two in a row are one to some servers.
    let (_, inner) = more.split_last().unwrap_or((&text, &[]));
    if inner.iter().any(|part| part.is_empty()) {
        Err(Reason::AmbiguousRequest)
    } else {
        Ok(Segment { text, more })
    }
}

/// What stands between encoded slashes.
fn split(raw: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(raw);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.as_bytes().windows(3).position(|w| w.eq_ignore_ascii_case(b"%2F"));
        let (part, after) = at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
        rest = at.and_then(|_| after.get(3..));
        Some(part)
    })
}

/// Refuses what is no plain name of a thing.
fn plain(text: Cow<'_, str>) -> Result<Cow<'_, str>, Reason> {
    let name = text.split(';').next().unwrap_or_default();
    if name == "." || name == ".." { Err(Reason::AmbiguousRequest) } else { Ok(text) }
}

/// Decodes once. Refuses broken escapes, what would decode again, separators, control characters and bad UTF-8.
fn decode(raw: &str) -> Result<Cow<'_, str>, Reason> {
    if has_broken_escape(raw) {
        return Err(Reason::AmbiguousRequest);
    }
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| Reason::AmbiguousRequest)?;
    let separator = |c: char| matches!(c, '/' | '\\') || c.is_control();
    if text.contains(separator) || has_escape(&text) { Err(Reason::AmbiguousRequest) } else { Ok(text) }
}

/// Whether a `%` is not followed by two hex digits.
pub(crate) fn has_broken_escape(raw: &str) -> bool {
    raw.split('%').skip(1).any(|after| !begins_with_hex(after))
}

/// Whether the text would change if it were decoded again.
pub(crate) fn has_escape(text: &str) -> bool {
    text.split('%').skip(1).any(begins_with_hex)
}

fn begins_with_hex(text: &str) -> bool {
    matches!(text.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_accepted_path_has_one_reading(path in "(/|%2[eEfF5]|%00|\\\\|\\.|;|%|[a-c]|%6[1-3]|é|%c3%a9|\\?|%5c){0,12}") {
            let path = format!("/{path}");
            let Ok(parsed) = Path::parse(&path) else { return Ok(()) };
            for segment in parsed.segments() {
                for text in segment.parts() {
                    prop_assert!(!text.contains(['/', '\\', '\0']) && text != "." && text != "..");
                    // Decoding again changes nothing.
                    prop_assert_eq!(percent_decode_str(text).decode_utf8().unwrap(), text);
                }
            }
            let empty = parsed.segments().iter().filter(|segment| segment.plain() == Some("")).count();
            prop_assert!(empty <= 1 && (empty == 0 || path.ends_with('/')));
        }
    }

    fn texts(path: &str) -> Vec<String> {
        let path = Path::parse(path).unwrap();
        path.segments().iter().map(|s| s.plain().unwrap().to_owned()).collect()
    }

    #[test]
    fn decodes_once() {
        assert_eq!(texts("/"), [""]);
        assert_eq!(texts("/a/b/"), ["a", "b", ""]);
        assert_eq!(texts("/%41%20b/c%C3%A9"), ["A b", "cé"]);
        assert_eq!(texts("/100%25"), ["100%"]);
        assert_eq!(texts("/...%3Bx"), ["...;x"]);
        let path = Path::parse("/@a%2Fb").unwrap();
        assert_eq!(path.segments()[0].pair(), Some(("@a", "b")));
        assert!(path.has_encoded_slash());
        let path = Path::parse("/a%2fb%2Fc%20d").unwrap();
        assert_eq!(path.segments()[0].parts().collect::<Vec<_>>(), ["a", "b", "c d"]);
        assert_eq!((path.segments()[0].pair(), path.segments()[0].plain()), (None, None));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e",
            "/%2E%2e",
            "/.%2e",
            "/a/%2e%2e/b",
            "/..;/a",
            "/..;x=1",
            "/%2e%2e%3b",
            "/a;b",
            "/a\\b",
            "/a%5cb",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/a%c2%80",
            "/a%252fb",
            "/a%252e",
            "/%25%32%46",
            "/a%2",
            "/a%zz",
            "/a%",
            "/%ff",
            "/%c3",
            "/a b",
            "/a\tb",
            "/é",
            "/a?b",
            "/a#b",
            "/a%2f%2fb",
            "/a%2f..",
            "/..%2fa",
            "/a%2fb%2F%2Fc",
            "/a%2Fb%2fc%2F..%2Fd",
            "/a\"b",
            "/a<b",
            "/a^b",
            "/a|b",
            "/a{b",
            "/%252525",
        ] {
            assert_eq!(Path::parse(path), Err(Reason::AmbiguousRequest), "{path}");
        }
    }
}
