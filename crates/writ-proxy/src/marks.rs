//! What a request carries that tells for which caller it is made, taken out of its head.
//!
//! Handles are Writ's own words to the agent; no service is told one. Invariant: after [`Found::take`] no header of the
//! request holds a handle, in plain text or in Basic credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use writ_gate::{Handle, TraceId};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Each handle once, in the order of the head.
    pub(crate) handles: Vec<String>,
    pub(crate) trace: Option<TraceId>,
}

impl Found {
    /// Finds the marks, and removes each header line that carries a handle.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        let mut handles = Vec::new();
        let mut carriers = Vec::new();
        for (name, value) in &*headers {
            let before = handles.len();
            handles.extend(handles_of(value));
            if handles.len() > before && carriers.last() != Some(name) {
                carriers.push(name.clone());
            }
        }
        for name in carriers {
            keep(headers, &name, |value| handles_of(value).is_empty());
        }
        let mut seen = Vec::<String>::with_capacity(handles.len());
        for handle in handles {
            if !seen.contains(&handle) {
                seen.push(handle);
            }
        }
        Self { handles: seen, trace: trace(headers) }
    }

    /// The handles as texts.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.handles.iter().map(String::as_str).collect()
    }
}

/// Keeps only those lines of a header that are chosen.
pub(crate) fn keep(headers: &mut HeaderMap, name: &HeaderName, chosen: impl Fn(&HeaderValue) -> bool) {
    let kept: Vec<_> = headers.get_all(name).iter().filter(|value| chosen(value)).cloned().collect();
    headers.remove(name);
    for value in kept {
        headers.append(name.clone(), value);
    }
}

/// The trace of the one well-formed `traceparent`; several are none (W3C Trace Context, section 3.2).
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceId> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (parent, other) = (parents.next()?, parents.next());
    parent.to_str().ok().filter(|_| other.is_none())?.parse().ok()
}

/// Every handle in a header's value.
pub(crate) fn handles_of(value: &HeaderValue) -> Vec<String> {
    let owned = |bytes: &[u8]| Handle::all_in(bytes).map(str::to_owned).collect::<Vec<_>>();
    let bytes = value.as_bytes();
    let plain = owned(bytes);
    match basic(bytes) {
        Some(pair) if plain.is_empty() => owned(&pair),
        Some(_) | None => plain,
    }
}

/// The user and password of `Basic` credentials (RFC 7617).
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[(&'static str, String)]) -> (Found, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        (Found::take(&mut headers), headers)
    }

    #[test]
    fn handles_are_found_in_every_form_and_never_left() {
        let (one, two) = (Handle::new(&[1; 32]), Handle::new(&[2; 32]));
        let (one, two) = (one.as_str(), two.as_str());
        for line in [
            ("authorization", format!("Bearer {one}")),
            ("authorization", format!("basic {}", STANDARD.encode(format!("x-token:{one}")))),
            ("x-user-token", one.to_owned()),
            ("cookie", format!("a=b; session={one}; c=d")),
            ("baggage", format!("k=v,user={one}")),
        ] {
            let kept = [("accept", "text/html".to_owned()), (line.0, "other".to_owned()), line.clone()];
            let (found, headers) = found(&kept);
            assert_eq!(found.handles, [one], "{line:?}");
            assert_eq!(headers.len(), 2, "{headers:?}");
            assert_eq!(headers[line.0], "other");
        }
        let twice = format!("{one},{two},{one}");
        assert_eq!(found(&[("x-a", twice), ("x-b", one.to_owned())]).0.handles, [one, two]);
        assert_eq!(found(&[("x-a", "wrh_short".to_owned())]).1.len(), 1);
    }

    #[test]
    fn one_traceparent_counts_and_no_more() {
        let parent =
            |n: u8| ("traceparent", format!("00-{}-b7ad6b7169203331-01", format!("{n:02x}").repeat(16)));
        assert_eq!(found(&[parent(1)]).0.trace, TraceId::new([1; 16]));
        assert_eq!(found(&[parent(1), parent(1)]).0.trace, None);
        assert_eq!(found(&[("traceparent", "00-x-y-01".to_owned())]).0.trace, None);
        assert_eq!(found(&[]).0, Found::default());
    }
}
